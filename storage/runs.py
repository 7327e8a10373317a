"""The run folder: what training leaves, and the one schema of it.

A run folder holds `run.json` (settings, split, label order, corpus, versions, SHA-256 of the files), what the system
needs to read an utterance (vocabulary, scaler), and the weights as plain arrays. Nothing in it is executed.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, RootModel, ValidationError

from settings import Settings, said_of
from storage.files import InputError, named, read_text, sha256, write_json
from storage.weights import ADVICE

# Settings that runs of earlier versions do not have; what those runs did is the default.
_LATER = {"split", "emotion", "members", "words", "marks", "padding", "left_out"}
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class _Part(BaseModel):
    """A part of run.json; more than what is read here may stand in it."""

    model_config = ConfigDict(strict=True, extra="allow")


def _different(names):
    if len(set(names)) < len(names):
        raise ValueError("one is there twice")
    return names


class EncoderFiles(_Part):
    """An encoder of `data.encoders`, and how its layers were pooled; `sha256` is of its weights and configuration."""

    model_config = ConfigDict(frozen=True)

    name: str
    layers: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_different)]
    pooling: Literal["mean", "mean-std"]
    sha256: str

    def check(self, found, what):
        """Refuses vectors of other weights, layers or pooling; what the encoder's folder is called makes no difference.

        Args:
            found: the `EncoderFiles` of the vectors.
            what: begins the error.

        Raises:
            InputError: says what made the vectors.
        """
        if (found.layers, found.pooling, found.sha256) != (self.layers, self.pooling, self.sha256):
            wanted, other = (
                f"{one.name} {one.sha256[:8]}, layers {one.layers}, {one.pooling}" for one in (self, found)
            )
            raise InputError(f"{what} of the encoder {other}; the run was trained on {wanted}")


class CorpusFile(_Part):
    """The corpus file that a run was trained on, and the encoders of its arrays."""

    name: str
    path: str
    sha256: str
    audio_feature_set: str
    num_audio_features: Annotated[int, Field(ge=0)]
    text_encoder: EncoderFiles | None = None
    audio_encoder: EncoderFiles | None = None


class WordsFile(_Part):
    """The GloVe file."""

    path: str
    sha256: str


class StageSummary(_Part):
    """What training one network gave; `taken_from` is the run that it was taken over from, if it was."""

    epochs: Annotated[int, Field(ge=0)]
    best_epoch: Annotated[int, Field(ge=0)]
    best_dev_loss: FiniteFloat
    seconds: FiniteFloat
    taken_from: str | None = None


def _file_name(name):
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is no name of a file in the folder")
    return name


class _Words(RootModel):
    """vocabulary.json."""

    root: Annotated[list[Annotated[str, Field(strict=True)]], AfterValidator(_different)]


class Run(_Part):
    """run.json. `context_length` is the corpus's longest dialog in utterances, `files` {name: SHA-256}.

    `taken` are the stages to be taken over from the run `branches`.
    """

    format: Literal["mcaf-run"] = "mcaf-run"
    format_version: Annotated[int, Field(ge=1, le=1)] = 1
    settings: Settings
    emotions: Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_different)]
    context_length: Annotated[int, Field(ge=1, le=10_000_000)]
    corpus: CorpusFile
    glove: WordsFile | None = None
    branches: str | None = None
    taken: tuple[str, ...] | None = None
    backend: str = ""
    machine: str = ""
    devices: tuple[str, ...] = ()
    software: dict[str, str] = {}
    stages: dict[str, StageSummary] = {}
    files: dict[Annotated[str, AfterValidator(_file_name)], str] = {}

    @property
    def glove_sha256(self):
        """Of the GloVe file, or None."""
        return self.glove and self.glove.sha256

    @property
    def own_seconds(self):
        """Of training, without the stages that were taken over."""
        return sum(stage.seconds for stage in self.stages.values() if not stage.taken_from)

    @property
    def is_provided(self):
        """Whether it is a provided checkpoint, which lists its results, too, so that nothing takes their place."""
        return "results.json" in self.files

    def weights(self):
        """{name: SHA-256} of the weight files."""
        return {name: digest for name, digest in self.files.items() if name.endswith(".weights.h5")}


def read_run(folder):
    """Reads and checks run.json.

    Returns:
        `Run`.

    Raises:
        InputError: the folder is no run folder, or run.json misses or mistypes a field.
    """
    path = Path(folder) / "run.json"
    with named(path):
        is_there = path.is_file()
    if not is_there:
        raise InputError(f"{folder}: not a run folder (no run.json); train.py makes one with --run FOLDER")
    run = read_as(Run, path)
    missing = sorted(set(Settings.model_fields) - _LATER - set(run.settings.model_fields_set))
    if missing:
        raise InputError(f"{path}: settings.{missing[0]}: is missing; {ADVICE}")
    return run


def read_as(schema, path):
    """Reads a JSON file that must fit a pydantic schema.

    Raises:
        InputError: it cannot be read, is no JSON, or does not fit; the message names the place in it.
    """
    try:
        return schema.model_validate_json(read_text(path))
    except ValidationError as error:
        raise InputError(f"{path}: {said_of(error)}; {ADVICE}") from error


def read_words(path):
    """The list of different words in vocabulary.json.

    Raises:
        InputError: it is anything else.
    """
    return read_as(_Words, path).root


def write_run(folder, run):
    """Writes run.json, atomically."""
    write_json(Path(folder) / "run.json", run.model_dump(mode="json", exclude_none=True))


def check_files(folder, run, names):
    """Refuses files of a run folder that are missing, or are not those that run.json lists.

    Raises:
        InputError: names the first such file.
    """
    for name in names:
        path = Path(folder) / name
        if name not in run.files:
            raise InputError(f"{path}: run.json lists no SHA-256 of it; {ADVICE}")
        if not path.is_file():
            raise InputError(f"{path}: missing; {ADVICE}")
        if sha256(path) != run.files[name]:
            raise InputError(f"{path}: changed since it was written (SHA-256 differs from run.json); {ADVICE}")


def epoch_weights(folder, epoch):
    """The weight file of an epoch, from 1, in the folder of those that train.py --keep-epochs keeps."""
    return folder / f"{epoch:03d}.weights.h5"


class EpochRow(NamedTuple):
    """A row of history.csv; `epoch` counts from 1, `dev_accuracy` is None where no dev utterance can be scored."""

    stage: str
    epoch: int
    train_loss: float
    dev_loss: float
    dev_accuracy: float | None


def is_free(folder):
    """Whether a run can begin in it: it is not there, or holds no more than a run that never began leaves."""
    return not folder.exists() or (folder.is_dir() and not any(_of_a_run(path) for path in folder.iterdir()))


def _of_a_run(path):
    return path.name[0] != "." and not (path.name == "epochs" and path.is_dir() and not any(path.iterdir()))


_BACK = "the run cannot go on without it; put it back from a copy, or train again"


def read_history(folder, run):
    """The `EpochRow`s of history.csv of the stages that are trained.

    Raises:
        InputError: a row is damaged or an epoch of such a stage is missing.
    """
    path, trained = folder / "history.csv", [name for name, stage in run.stages.items() if not stage.taken_from]
    if not trained:
        return []
    with named(path, advice=f"; {_BACK}"):
        text = path.read_text(encoding="utf-8", errors="replace")
    header, *lines = text.splitlines() or [""]
    if header != ",".join(EpochRow._fields) or not text.endswith("\n"):  # cut inside a number, it would look whole
        raise InputError(f"{path}: is damaged or cut off; {_BACK}")
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            stage, epoch, *values = line.split(",")
            row = EpochRow(stage, int(epoch), *(float(value) if value else None for value in values))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}, line {number}: is not the row of an epoch; {_BACK}") from error
        rows += [row] * (row.stage in trained)
    if [row[:2] for row in rows] != [(s, epoch + 1) for s in trained for epoch in range(run.stages[s].epochs)]:
        raise InputError(f"{path}: epochs are missing; {_BACK}")
    return rows
