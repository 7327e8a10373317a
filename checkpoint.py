"""Run folders and checkpoints: what training leaves, and the one line that loads it.

A run folder holds `run.json` (settings, split, label order, corpus, versions, SHA-256 of the files), the vocabulary,
the scaler and the weights as plain arrays. Nothing in it is executed: the networks are built by `model.py` from the
settings, and arrays are copied in after their names, shapes and types are checked.

    from checkpoint import load_checkpoint
    recogniser = load_checkpoint("checkpoints/iemocap-released")
    shares = recogniser.predict_dialog(transcripts, audio_features)  # (h, 10) vote shares
"""

import functools
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

import causal
from data.contexts import dialog_contexts
from data.corpus import dialog_slices
from storage.files import InputError, read_json, sha256
from storage.hdf5 import atomic_hdf5, open_hdf5, plain_dataset
from data.text import WORD_DIM, token_ids

RUN_FORMAT, RUN_FORMAT_VERSION = "mcaf-run", 1
# What loading and resuming rely on; `Settings` of train.py says what "settings" must hold.
_FIELDS = {
    "format_version": int,
    "settings": dict,
    "emotions": list,
    "context_length": int,
    "corpus": dict,
    "glove": dict | None,
    "branches": str | None,
    "stages": dict,
    "files": dict,
}
_CORPUS_FIELDS = {"name": str, "path": str, "sha256": str, "audio_feature_set": str, "num_audio_features": int}
_GLOVE_FIELDS = {"path": str, "sha256": str}
_STAGE_FIELDS = {"epochs": int, "best_epoch": int, "best_dev_loss": float, "seconds": float}
_INPUT_FILES = {"text": "vocabulary.json", "audio": "scaler.json"}
# Settings that runs of earlier versions do not have, and what those runs did.
_LATER_SETTINGS = {"split": "official", "emotion": "all"}
STAGES = ("text", "audio", "fusion")  # in training order
_LONGEST_CONTEXT = 100_000  # utterances of a dialog
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_ADVICE = "train again, or fetch the checkpoint again"


@dataclass(frozen=True)
class Scaler:
    """z-normalisation of audio features, fitted on the training utterances.

    `names` are the A features; `mean` and `scale` are (A,) float64, scale 1 where a feature never varies.
    """

    names: tuple
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features, names):
        """In float64, since emo_large holds values up to 6.6e13."""
        features = np.asarray(features, "float64")
        deviation = features.std(axis=0)
        return cls(tuple(names), features.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def transform(self, features):
        """(N, A) raw features -> (N, A) float32 standardised ones."""
        return ((np.asarray(features, "float64") - self.mean) / self.scale).astype("float32")

    def to_json(self):
        return {"names": list(self.names), "mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, path):
        """Reads what `to_json` gave.

        Raises:
            InputError: the lists are missing, differ in length, or hold what is no finite number, or a scale <= 0.
        """
        content = read_json(path)
        kinds = {"names": (str,), "mean": (int, float), "scale": (int, float)}
        for key, kind in kinds.items():
            values = content.get(key) if isinstance(content, dict) else None
            if not isinstance(values, list) or not all(type(value) in kind for value in values):
                raise InputError(f"{path}: '{key}' is missing or no list of {kind[-1].__name__}; {_ADVICE}")
        names = tuple(content["names"])
        try:
            mean, scale = (np.array(content[key], "float64") for key in ("mean", "scale"))
        except OverflowError as error:
            raise InputError(f"{path}: a number is too large; {_ADVICE}") from error
        finite = np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()
        if not mean.shape == scale.shape == (len(names),) or not finite:
            raise InputError(f"{path}: mean and scale must be {len(names)} finite numbers each, scale > 0; {_ADVICE}")
        return cls(names, mean, scale)


def save_arrays(path, arrays, **attributes):
    """Writes {name: array} as one HDF5 file, atomically; the same arrays give the same bytes."""
    with atomic_hdf5(path) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array))


def load_arrays(path, expected):
    """Reads the arrays of `save_arrays`.

    Args:
        path: the file.
        expected: {name: (shape, dtype)} of all the arrays that it must hold.

    Returns:
        {name: array} and the file's attributes as a dict.

    Raises:
        InputError: an array is missing, or has another shape or type; or the file holds others. Checked before any
            array is read.
    """
    with open_hdf5(path, _ADVICE) as file:
        others = sorted(set(file) - set(expected))
        if others:
            raise InputError(f"{path}: holds '{others[0]}', which the network does not have; is it of another variant?")
        datasets = {name: plain_dataset(path, file, name) for name in expected}
        for name, (shape, dtype) in expected.items():
            found = datasets[name]
            if found.shape != tuple(shape) or found.dtype != dtype:
                raise InputError(
                    f"{path}: '{name}' is {found.dtype} {found.shape}, the network needs {dtype} {tuple(shape)}"
                )
        return {name: dataset[()] for name, dataset in datasets.items()}, dict(file.attrs)


def weight_arrays(model):
    """{name: array} of a model's weights, such as 'attention_1.audio_query'."""
    return {weight.path.replace("/", "."): np.asarray(weight) for weight in model.weights}


def save_weights(model, path):
    """Writes the weights of a model as plain arrays."""
    save_arrays(path, weight_arrays(model))


def load_weights(model, path):
    """Copies weights written by `save_weights` into a model of the same architecture.

    Raises:
        InputError: names, shapes or types differ, or a value is not finite; the model is then unchanged.
    """
    expected = {name: (array.shape, array.dtype) for name, array in weight_arrays(model).items()}
    arrays, _ = load_arrays(path, expected)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: '{name}' has values that are not finite; {_ADVICE}")
    for weight in model.weights:
        weight.assign(arrays[weight.path.replace("/", ".")])


def read_run(folder):
    """Reads and checks run.json.

    Returns:
        Its content as a dict.

    Raises:
        InputError: the folder is no run folder, or run.json misses or mistypes a field that loading needs.
    """
    path = Path(folder) / "run.json"
    try:
        is_there = path.is_file()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not is_there:
        raise InputError(f"{folder}: not a run folder (no run.json); train one with 'python train.py --run {folder}'")
    run = read_json(path)
    if not isinstance(run, dict) or run.get("format") != RUN_FORMAT:
        raise InputError(f"{path}: not a run (format is not '{RUN_FORMAT}')")
    if run.get("format_version") != RUN_FORMAT_VERSION:
        raise InputError(f"{path}: version {run.get('format_version')}, this program reads {RUN_FORMAT_VERSION}")
    _check_fields(path, run, _FIELDS)
    run["settings"] = _LATER_SETTINGS | run["settings"]
    _check_settings(path, run["settings"])
    _check_fields(path, run["corpus"], _CORPUS_FIELDS, "corpus.")
    _check_fields(path, run["glove"] or {}, _GLOVE_FIELDS if run["glove"] is not None else {}, "glove.")
    for stage, summary in run["stages"].items():
        if stage not in stages_of(run["settings"]) or not isinstance(summary, dict):
            raise InputError(f"{path}: 'stages' holds {stage!r:.40}, which is no trained stage of this run; {_ADVICE}")
        _check_fields(path, summary, _STAGE_FIELDS, f"stages.{stage}.")
    emotions = run["emotions"]
    prior = run.get("prior_shares", [] if run["settings"]["variant"] == "causal" else None)
    if prior is not None and not _are_shares(prior, len(emotions)):
        raise InputError(f"{path}: 'prior_shares' must be {len(emotions)} numbers from 0 to 1; {_ADVICE}")
    if not all(isinstance(name, str) for name in emotions) or not len(emotions) == len(set(emotions)) > 1:
        raise InputError(f"{path}: 'emotions' must be at least two different names; {_ADVICE}")
    if not 1 <= run["context_length"] <= _LONGEST_CONTEXT:
        raise InputError(f"{path}: 'context_length' must be 1 to {_LONGEST_CONTEXT}; {_ADVICE}")
    for name, digest in run["files"].items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(digest, str):
            raise InputError(f"{path}: 'files' holds {name!r:.80}, no name of a file in the folder; {_ADVICE}")
    return run


def _are_shares(values, num):
    return isinstance(values, list) and len(values) == num and all(type(v) is float and 0 <= v <= 1 for v in values)


def _check_fields(path, content, kinds, where=""):
    """Refuses content that misses or mistypes a field; true and false are no numbers, whole numbers are numbers."""
    for name, kind in kinds.items():
        value = content.get(name)
        fits = isinstance(value, kind | int if kind is float else kind) and not isinstance(value, bool)
        if name not in content or not fits:
            raise InputError(f"{path}: '{where}{name}' is missing or no {getattr(kind, '__name__', kind)}; {_ADVICE}")


def _check_settings(path, settings):
    """Refuses settings that `train.Settings` could not have given."""
    from train import Settings, impossible  # not at the top: train.py imports this file

    for setting in fields(Settings):
        value = settings.get(setting.name)
        if setting.type is tuple:
            fits = isinstance(value, list) and value and all(type(item) is int for item in value)
        else:
            fits = type(value) is setting.type or (setting.type is float and type(value) is int)
        if not fits or value not in setting.metadata.get("choices", (value,)):
            raise InputError(f"{path}: setting '{setting.name}' is missing or not one that train.py takes; {_ADVICE}")
    problem = impossible(Settings(**{setting.name: settings[setting.name] for setting in fields(Settings)}))
    if problem:
        raise InputError(f"{path}: {problem}; {_ADVICE}")


def check_files(folder, run, names):
    """Refuses files of a run folder that are missing, or are not those that run.json lists.

    Raises:
        InputError: names the first such file.
    """
    for name in names:
        path = Path(folder) / name
        if name not in run["files"]:
            raise InputError(f"{path}: run.json lists no SHA-256 of it; {_ADVICE}")
        if not path.is_file():
            raise InputError(f"{path}: missing; {_ADVICE}")
        if sha256(path) != run["files"][name]:
            raise InputError(f"{path}: changed since it was written (SHA-256 differs from run.json); {_ADVICE}")


def build_networks(settings, num_words, num_features, num_emotions, context_length):
    """The networks of a run, untrained.

    Args:
        settings: dict of `train.Settings`.
        num_words: rows of the word matrix.
        num_features: columns of the audio network's input.
        num_emotions: C.
        context_length: rows of a zero-padded dialog.

    Returns:
        {name: builder without arguments} of "text", "audio" and "fusion", as far as the run has them. The text builder
        takes the word matrix.
    """
    import model  # imports the framework

    activation = "softmax" if settings["loss"] == "cross_entropy" else None
    is_causal = settings["variant"] == "causal"
    options = {branch: values[-1] if is_causal else {} for branch, values in causal.BRANCHES.items()}
    builders = {
        "text": lambda words=None: model.text_branch(
            np.zeros((num_words, WORD_DIM), "float32") if words is None else words,
            num_emotions,
            activation,
            **options["text"],
        ),
        "audio": lambda: model.audio_branch(num_features, num_emotions, activation, **options["audio"]),
        "fusion": lambda: model.fusion_network(
            settings["variant"], settings["update"], settings["factor"], context_length, num_emotions, activation
        ),
    }
    networks = {stage.split("-")[0] for stage in stages_of(settings)}
    return {name: build for name, build in builders.items() if name in networks}


def stages_of(settings):
    """The stages that a run trains, in order: "text", "audio", "fusion"; the causal variant's are in `causal.py`."""
    branches = STAGES[:2] if settings["modality"] == "text+audio" else (settings["modality"],)
    if settings["variant"] == "causal":
        steps = [causal.branch_stages(branch, settings["train_sessions"]) for branch in branches]
        return (*(stage for of_branch in steps for stage in of_branch), *causal.FUSION_STAGES)
    return (*branches, "fusion") if len(branches) > 1 else branches


def load_checkpoint(folder, stages=None):
    """Loads a finished run or a provided checkpoint.

    Args:
        folder: the run folder.
        stages: those to load, which the others need not be finished for; None for all of the run.

    Returns:
        A `Recogniser`.

    Raises:
        InputError: a file is missing, was changed (SHA-256), or does not fit the settings; the run is not finished.
    """
    folder = Path(folder)
    run = read_run(folder)
    settings = run["settings"]
    stages = stages or stages_of(settings)
    for stage in stages:
        if stage not in stages_of(settings):
            raise InputError(f"{folder}: has no {stage} branch; train one with --modality text+audio")
        if stage not in run["stages"]:
            raise InputError(
                f"{folder}: not finished ({stage} is not trained); go on with 'python train.py --run {folder} --resume'"
            )
    is_causal = settings["variant"] == "causal"
    stages = [stage for stage in stages if not stage.endswith("-start")]
    needed = [f"{stage}.weights.h5" for stage in stages]
    needed += [name for stage, name in _INPUT_FILES.items() if stage in stages]
    check_files(folder, run, dict.fromkeys([*needed, *run["files"]]))
    vocabulary = scaler = None
    if "text" in stages:
        vocabulary = _read_vocabulary(folder / "vocabulary.json")
        _check_size(folder / "text.weights.h5", len(vocabulary), "words of vocabulary.json")
    num_features = 0
    if "audio" in stages:
        scaler = Scaler.from_json(folder / "scaler.json")
        num_features = len(scaler.names) * (2 if is_causal else 1)
        _check_size(folder / "audio.weights.h5", num_features, "features of scaler.json")
    builders = build_networks(
        settings, len(vocabulary or ()) + 1, num_features, len(run["emotions"]), run["context_length"]
    )
    wanted = {stage.split("-")[0] for stage in stages}
    networks = {name: build() for name, build in builders.items() if name in wanted}
    members, fusions = {}, []
    for stage in stages:
        branch, _, member = stage.partition("-")
        load_weights(networks[branch], folder / f"{stage}.weights.h5")
        if is_causal and branch == "fusion":
            fusions.append(networks[branch].get_weights())
        elif is_causal:
            members.setdefault(member, {})[branch] = networks[branch].get_weights()
    return Recogniser(run, vocabulary, scaler, networks, list(members.values()), fusions)


def _read_vocabulary(path):
    """The list of different words in vocabulary.json."""
    vocabulary = read_json(path)
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
        raise InputError(f"{path}: not a list of words; {_ADVICE}")
    if len(set(vocabulary)) != len(vocabulary):
        raise InputError(f"{path}: a word is there twice; {_ADVICE}")
    return vocabulary


def _check_size(path, num_rows, what):
    """Refuses, before a network of that size is built, a weight file too small for it: each row has 200 numbers."""
    if path.stat().st_size < 4 * WORD_DIM * num_rows:
        raise InputError(f"{path}: too small for the {num_rows} {what}; {_ADVICE}")


@dataclass(frozen=True)
class Utterances:
    """Utterances in time order, as a `data.corpus.Corpus` has them; None for what the networks do not read."""

    transcript: list
    audio: np.ndarray | None = None
    speaker: list | None = None
    start_s: np.ndarray | None = None
    end_s: np.ndarray | None = None


@dataclass(frozen=True)
class Recogniser:
    """Trained networks with what they need to read an utterance.

    `run` is the content of run.json, `vocabulary` the list of words, `scaler` the `Scaler`, `networks` {name: model}
    with "text", "audio" and "fusion", as far as the run trained them. `members` and `fusions` are empty but for the
    causal variant: there, the weights of each cross-fitted pair of branches, {branch: arrays}, and of each fusion.
    """

    run: dict
    vocabulary: list
    scaler: Scaler
    networks: dict
    members: list = field(default_factory=list)
    fusions: list = field(default_factory=list)

    @property
    def emotions(self):
        """The emotions' names, in the order of the shares' columns."""
        return tuple(self.run["emotions"])

    @property
    def final_stage(self):
        """The stage whose prediction is the run's answer."""
        return list(self.networks)[-1]

    @functools.cached_property
    def with_vectors(self):
        """{branch: `model.with_vectors` of it}."""
        import model

        return {name: model.with_vectors(branch) for name, branch in self.networks.items() if name != "fusion"}

    def predict_dialog(self, transcripts, audio_features=None, speakers=None, start_s=None, end_s=None):
        """Vote shares after each utterance of one dialog.

        Args:
            transcripts: h texts in time order.
            audio_features: (h, A) raw features, columns as in `audio_names`; None for a text-only run.
            speakers: h names; the causal variant alone needs them, and the times.
            start_s: (h,) start of each utterance in seconds.
            end_s: (h,) its end.

        Returns:
            (h, C) float32 vote shares.

        Raises:
            ValueError: something that the run needs is missing, not there for each utterance, or no number.
        """
        return self.predict(
            self.checked_dialog(transcripts, audio_features, speakers, start_s, end_s),
            {"dialog": slice(0, len(transcripts))},
            np.arange(len(transcripts)),
        )[self.final_stage]

    def checked_dialog(self, transcripts, audio_features=None, speakers=None, start_s=None, end_s=None):
        """`Utterances` of the arguments of `predict_dialog`."""
        given = {"transcripts": transcripts, "audio_features": audio_features}
        given |= {"speakers": speakers, "start_s": start_s, "end_s": end_s}
        needed = ["transcripts"] + ["audio_features"] * (self.scaler is not None)
        if self.members:
            needed += ["speakers", *(("start_s", "end_s") if self.scaler else ())]
        if isinstance(transcripts, str) or transcripts is None:
            raise ValueError(f"transcripts must be a list of texts, one per utterance. Received: {transcripts!r}")
        for name in needed:
            if given[name] is None or len(given[name]) != len(transcripts):
                found = "None" if given[name] is None else f"{len(given[name])} rows"
                raise ValueError(
                    f"this run needs {name} of each of the {len(transcripts)} utterances. Received: {found}"
                )
        if self.scaler and np.shape(audio_features)[1:] != (len(self.audio_names),):
            raise ValueError(
                f"audio_features must have the {len(self.audio_names)} columns of audio_names. "
                f"Received: shape {np.shape(audio_features)}"
            )
        for name in ("audio_features", "start_s", "end_s"):
            bad = np.argwhere(~np.isfinite(np.asarray(given[name], "float64"))) if name in needed else ()
            if len(bad):
                raise ValueError(f"{name} of utterance {bad[0][0]}, counted from 0, is not finite")
        times = [None if time is None else np.asarray(time, "float64") for time in (start_s, end_s)]
        return Utterances(list(transcripts), audio_features, speakers, *times)

    @property
    def audio_names(self):
        """Names of the A columns of raw audio features."""
        names = self.scaler.names if self.scaler else ()
        return names[: len(names) - len(causal.TIMING_NAMES)] if self.members else names

    def stream(self):
        """A `causal.DialogStream`, which takes a dialog utterance by utterance.

        Raises:
            ValueError: the run is not of the causal variant.
        """
        return causal.DialogStream(self)

    def predict_corpus(self, corpus, rows=None):
        """Vote shares of every stage for the utterances of a corpus, in the context of their dialogs.

        Args:
            corpus: a `data.corpus.Corpus` that fits (`check_corpus_fits`).
            rows: indices of the utterances to predict; None for all. Whole dialogs are read for their contexts.

        Returns:
            {"text", "audio", "fusion": (n, C) float32}, as far as the run has them.
        """
        if self.scaler and tuple(corpus.audio_names) != self.audio_names:
            raise InputError("the corpus has other audio features, or in another order, than the run was trained on")
        wanted = np.arange(len(corpus)) if rows is None else np.asarray(rows)
        dialogs = set(corpus.dialog_id[wanted])
        read = np.flatnonzero(np.isin(corpus.dialog_id, sorted(dialogs)))
        part = corpus.take(read)
        return self.predict(part, dialog_slices(part.dialog_id), np.searchsorted(read, wanted))

    def predict(self, utterances, dialogs, places):
        """The work of `predict_dialog` and `predict_corpus`.

        Args:
            utterances: `Utterances` or `data.corpus.Corpus`.
            dialogs: {dialog id: slice} of them.
            places: rows of the utterances that are asked for.
        """
        if self.members:
            return causal.predict(self, utterances, dialogs, places)
        vectors, predictions = self.run_branches(utterances)
        predictions = {branch: shares[places] for branch, shares in predictions.items()}
        if "fusion" in self.networks:
            import model

            whole = self.run["settings"]["context"]
            predictions["fusion"] = model.predict_contexts(
                self.networks["fusion"],
                dialog_contexts(vectors["audio"], dialogs, places, whole),
                dialog_contexts(vectors["text"], dialogs, places, whole),
            )
        return predictions

    def run_branches(self, utterances):
        """What the branches of the paper's variants say of each utterance by itself.

        Returns:
            {"text", "audio": (N, 200) vectors} and {"text", "audio": (N, C) vote shares}, as far as the run has them.
        """
        import model

        outputs = {}
        if "text" in self.networks:
            ids = token_ids(utterances.transcript, self.vocabulary)
            outputs["text"] = model.predict_tokens(self.with_vectors["text"], ids)
        if "audio" in self.networks:
            features = self.scaler.transform(utterances.audio)
            outputs["audio"] = model.predict_features(self.with_vectors["audio"], features)
        both = {branch: model.split_vectors(one) for branch, one in outputs.items()}
        return {branch: one[0] for branch, one in both.items()}, {branch: one[1] for branch, one in both.items()}


def check_corpus_fits(run, corpus, path):
    """Refuses a corpus whose labels or audio features are not those of the run.

    Raises:
        InputError: says what differs.
    """
    if list(corpus.emotions) != run["emotions"]:
        raise InputError(f"{path}: emotions {list(corpus.emotions)} are not the run's {run['emotions']}")
    feature_set, width = run["corpus"].get("audio_feature_set"), run["corpus"].get("num_audio_features")
    if run["settings"]["modality"] != "text" and (corpus.audio_feature_set, len(corpus.audio_names)) != (
        feature_set,
        width,
    ):
        raise InputError(
            f"{path}: audio features {corpus.audio_feature_set} ({len(corpus.audio_names)} columns), the run was "
            f"trained on {feature_set} ({width}); prepare the corpus with '--audio {feature_set}'"
        )
