"""The corpus file: one HDF5 file with everything that training and evaluation need, and nothing that runs.

Format `mcaf-corpus`, version 1. Attributes: `format`, `format_version`, `corpus`, `emotions` (label order) and
`audio_feature_set`. Datasets, one row per utterance, sorted by dialog, then start time: `utterance_id`, `dialog_id`,
`speaker`, `transcript` (UTF-8), `session` (int8), `start_s`, `end_s` (seconds), `votes_external`, `votes_self`
(N, C tag counts), `audio` (N, A) float32 with attribute `names`; where a corpus has an official split also
`split`, one of "train", "dev", "test"; where an encoder has read the transcripts also `text` (N, T) float32. `text`,
and `audio` where an encoder made it, have the attributes `encoder`, `layers`, `pooling`, `sha256` (`data.encoders`).
"""

import json
from dataclasses import dataclass, fields

import h5py
import numpy as np
from pydantic import ValidationError

from data.rows import BLOCK_ROWS, MOST_IN_MEMORY, Rows, blocks, rows_of_dataset
from data.utterance import PARTS
from settings import said_of
from storage.files import InputError, sha256
from storage.hdf5 import LARGEST_RATIO, atomic_hdf5, open_hdf5, plain_dataset
from storage.runs import EncoderFiles

FORMAT, FORMAT_VERSION = "mcaf-corpus", 1
TEXT = ("utterance_id", "dialog_id", "speaker", "transcript")
NUMBERS = {
    "session": "int8",
    "start_s": "float64",
    "end_s": "float64",
    "votes_external": "int16",
    "votes_self": "int16",
    "audio": "float32",
}
_VECTORS = {"text": "float32"}  # in some files
_LARGEST_TEXT_BYTES = 100_000
_LEAST_ROWS, _LEAST_BYTES = 16, 2**15  # of a packed piece


@dataclass(frozen=True)
class Corpus:
    """N utterances of D dialogs, sorted by dialog, then start time. C emotions, A audio features.

    `name` is the corpus's name, `emotions` the C names in label order, `audio_names` the A columns' names;
    `utterance_id`, `dialog_id`, `speaker` and `transcript` are (N,) arrays of str; `split` is (N,) or None;
    `text` is (N, T) or None; `audio` and `text` may be `data.rows.Rows`, which stay in the file; `text_encoder` and
    `audio_encoder` are the encoders that made `text` and `audio`, or None; `sha256` is the file's hash, "" before it is
    written.
    """

    name: str
    emotions: tuple
    audio_feature_set: str
    audio_names: tuple
    utterance_id: np.ndarray
    dialog_id: np.ndarray
    speaker: np.ndarray
    transcript: np.ndarray
    session: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    votes_external: np.ndarray
    votes_self: np.ndarray
    audio: np.ndarray | Rows
    split: np.ndarray | None = None
    text: np.ndarray | Rows | None = None
    text_encoder: EncoderFiles | None = None
    audio_encoder: EncoderFiles | None = None
    sha256: str = ""

    def __len__(self):
        return len(self.utterance_id)

    def take(self, rows):
        """The corpus of just these utterances, in the order given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        taken = {name: one[rows] for name, one in values.items() if isinstance(one, np.ndarray)}
        taken |= {name: one.take(rows) for name, one in values.items() if isinstance(one, Rows)}
        return Corpus(**values | taken)


def dialog_slices(dialog_id):
    """Where each dialog's rows lie.

    Returns:
        {dialog id: slice}, in the order of the corpus.
    """
    if not len(dialog_id):
        return {}
    starts = np.flatnonzero(np.r_[True, dialog_id[1:] != dialog_id[:-1]])
    ends = np.r_[starts[1:], len(dialog_id)]
    return {str(dialog_id[start]): slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)}


def rows_of_dialogs(dialog_id, rows):
    """All rows of the dialogs that have one of these rows, ascending."""
    dialog = np.cumsum(np.r_[False, dialog_id[1:] != dialog_id[:-1]])  # numbers are quick to compare, names are not
    return np.flatnonzero(np.isin(dialog, dialog[rows]))


def write_corpus(path, corpus):
    """Writes the corpus file atomically.

    Raises:
        InputError: the corpus breaks a rule of the format (`check_corpus`), or the file cannot be written.
    """
    check_corpus(corpus, path)
    with atomic_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["corpus"] = corpus.name
        file.attrs["emotions"] = list(corpus.emotions)
        file.attrs["audio_feature_set"] = corpus.audio_feature_set
        text = h5py.string_dtype("utf-8")
        for name in TEXT + (("split",) if corpus.split is not None else ()):
            file.create_dataset(name, data=[str(value) for value in getattr(corpus, name)], dtype=text)
        for name, dtype in (NUMBERS | (_VECTORS if corpus.text is not None else {})).items():
            _write_numbers(file, name, getattr(corpus, name), dtype)
        for name in ("start_s", "end_s"):
            file[name].attrs["unit"] = "s"
        file["audio"].attrs.create("names", list(corpus.audio_names), dtype=text)
        for name, encoder in (("text", corpus.text_encoder), ("audio", corpus.audio_encoder)):
            if encoder is not None:
                attributes = encoder.model_dump()
                file[name].attrs["encoder"] = attributes.pop("name")
                file[name].attrs.update(attributes)


def _write_numbers(file, name, values, dtype):
    if len(values.shape) == 1 or not values.shape[1]:
        file.create_dataset(name, data=np.asarray(values, dtype))
        return
    # A dialog's rows are read alone: pieces of few rows, and all of their columns.
    piece = min(len(values), max(_LEAST_ROWS, _LEAST_BYTES // (values.shape[1] * np.dtype(dtype).itemsize)))
    dataset = file.create_dataset(
        name, values.shape, dtype, chunks=(piece, values.shape[1]), compression="gzip", shuffle=True
    )
    for rows in blocks(len(values), piece * max(1, BLOCK_ROWS // piece)):
        dataset[rows] = values[rows]


def read_corpus(path):
    """Reads and checks a corpus file.

    Returns:
        A `Corpus`; audio and text of more than `data.rows.MOST_IN_MEMORY` stay in the file, as `Rows`.

    Raises:
        InputError: the file is missing, truncated, no corpus file, of another version, breaks a rule of the format,
            holds links out of the file, or declares more data than the file can hold.
    """
    with open_hdf5(path, "make one with 'python -m data.prepare'") as file:
        _check_header(file)
        split = ("split",) if "split" in file else ()
        numbers = NUMBERS | (_VECTORS if "text" in file else {})
        _check_layout(file, TEXT + split, numbers)
        values = {
            "name": _text_attribute(file, "corpus"),
            "emotions": _names_attribute(file, "emotions"),
            "audio_feature_set": _text_attribute(file, "audio_feature_set"),
            "audio_names": _names_attribute(file["audio"], "names"),
            "text_encoder": _encoder(file["text"]) if "text" in file else None,
            "audio_encoder": _encoder(file["audio"]) if "encoder" in file["audio"].attrs else None,
        }
        values |= {name: _read_text(file, name) for name in TEXT + split}
        for name, dtype in numbers.items():
            stays = dtype == "float32" and 4 * file[name].size > MOST_IN_MEMORY
            values[name] = rows_of_dataset(path, name, file[name].shape) if stays else _read_numbers(file, name, dtype)
    corpus = Corpus(**values, sha256=sha256(path))
    check_corpus(corpus, path)
    return corpus


def _check_header(file):
    if _plain(file.attrs.get("format")) != FORMAT:
        raise InputError(
            f"not a corpus file (attribute format is not '{FORMAT}'); make one with 'python -m data.prepare'"
        )
    version = file.attrs.get("format_version")
    if np.ndim(version) or version != FORMAT_VERSION:
        raise InputError(
            f"format version {version}, this program reads version {FORMAT_VERSION}; prepare the file again"
        )


def _check_layout(file, text_names, numbers):
    """Checks every dataset before any is read, so that a damaged or hostile file costs no memory."""
    num_rows = None
    for name in [*text_names, *numbers]:
        dataset = plain_dataset(file, name)
        num_rows = dataset.shape[0] if num_rows is None and dataset.ndim else num_rows
        if (num_rows or 0) > file.id.get_filesize():  # an id alone takes more than a byte
            raise InputError(f"declares {num_rows} utterances, more than the file can hold; it is damaged")
        ndim = 2 if name in ("votes_external", "votes_self", "audio", "text") else 1
        if dataset.ndim != ndim or dataset.shape[0] != num_rows:
            raise InputError(f"'{name}' has shape {dataset.shape}, expected {num_rows} rows and {ndim} axes")
        if name in text_names and h5py.check_string_dtype(dataset.dtype) is None:
            raise InputError(f"'{name}' must hold text, found {dataset.dtype}")
        if name in numbers and dataset.dtype.kind not in "iuf":
            raise InputError(f"'{name}' must hold numbers, found {dataset.dtype}")


def _plain(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _text_attribute(item, name):
    value = _plain(item.attrs.get(name))
    if not isinstance(value, str):
        raise InputError(f"attribute '{name}' must be a text, found {value!r}; prepare the file again")
    return value


def _names_attribute(item, name):
    values = item.attrs.get(name)
    names = tuple(map(_plain, values)) if np.ndim(values) == 1 else (None,)
    if not all(isinstance(value, str) for value in names):
        raise InputError(f"attribute '{name}' must be a list of names; prepare the file again")
    return names


def _encoder(dataset):
    """What the attributes of a dataset say of its encoder."""
    attributes = {name: dataset.attrs.get(name) for name in ("encoder", "layers", "pooling", "sha256")}
    values = {name: np.asarray(_plain(value)).tolist() for name, value in attributes.items()}
    try:
        return EncoderFiles.model_validate_json(json.dumps({"name": values.pop("encoder")} | values, default=str))
    except ValidationError as error:
        where = dataset.name.removeprefix("/")
        raise InputError(f"attributes of '{where}': {said_of(error)}; prepare the file again") from error


def _read_text(file, name):
    """The texts of a dataset, a few at a time: all its rows could point at one huge text."""
    values, num_characters = [], 0
    for start in range(0, len(file[name]), 64):
        values += file[name].asstr()[start : start + 64].tolist()
        if max(map(len, values[start:])) > _LARGEST_TEXT_BYTES:
            raise InputError(f"'{name}' has a text of more than {_LARGEST_TEXT_BYTES} characters; it is damaged")
        num_characters += sum(map(len, values[start:]))
        if num_characters > LARGEST_RATIO * file.id.get_filesize():
            raise InputError(f"'{name}' declares more text than the file can hold; it is damaged")
    return np.array(values, object)


def _read_numbers(file, name, dtype):
    """The values as `dtype`; whole numbers that it cannot hold would wrap around without a word."""
    values = file[name][()]
    if np.dtype(dtype).kind == "i" and values.size:
        limits = np.iinfo(dtype)
        if not (values.min() >= limits.min and values.max() <= limits.max and (values == np.trunc(values)).all()):
            raise InputError(f"'{name}' must hold whole numbers of at most {limits.max}; it is damaged")
    return values.astype(dtype, copy=False)


def check_corpus(corpus, path):
    """Checks what readers of a corpus rely on.

    Raises:
        InputError: names the utterance and the rule it breaks.
    """
    num, num_emotions = len(corpus), len(corpus.emotions)
    if num == 0:
        raise InputError(f"{path}: no utterance in it")
    for name in ("votes_external", "votes_self"):
        votes = getattr(corpus, name)
        if votes.shape != (num, num_emotions):
            raise InputError(
                f"{path}: '{name}' has shape {votes.shape}, expected {(num, num_emotions)} for {num_emotions} emotions"
            )
        if (votes < 0).any():
            raise InputError(f"{path}: '{name}' of {corpus.utterance_id[(votes < 0).any(axis=1)][0]} is negative")
    if corpus.audio.shape != (num, len(corpus.audio_names)):
        raise InputError(f"{path}: 'audio' has shape {corpus.audio.shape}, but {len(corpus.audio_names)} column names")
    if corpus.text is not None and (corpus.text.ndim != 2 or len(corpus.text) != num):
        raise InputError(f"{path}: 'text' has shape {corpus.text.shape}, expected {num} rows")
    if (corpus.text is None) != (corpus.text_encoder is None):
        raise InputError(f"{path}: 'text' is there, and no encoder that made it; or the other way round")
    if len(set(corpus.emotions)) != num_emotions or num_emotions < 2:
        raise InputError(
            f"{path}: attribute 'emotions' must name at least two different emotions, found {corpus.emotions}"
        )
    for utterance, text in zip(corpus.utterance_id, corpus.transcript, strict=True):
        if len(text) > _LARGEST_TEXT_BYTES:
            raise InputError(
                f"{path}: {utterance} has {len(text)} characters of text, more than the {_LARGEST_TEXT_BYTES} that an "
                "utterance can have"
            )
    seen = set()
    for utterance in corpus.utterance_id:
        if utterance in seen:
            raise InputError(f"{path}: utterance {utterance} is there twice")
        seen.add(utterance)
    num_runs = 1 + np.count_nonzero(corpus.dialog_id[1:] != corpus.dialog_id[:-1])
    if num_runs != len(set(corpus.dialog_id)):
        raise InputError(f"{path}: the utterances of a dialog do not lie together; prepare the file again")
    timeless = ~(np.isfinite(corpus.start_s) & np.isfinite(corpus.end_s))
    if timeless.any():
        raise InputError(
            f"{path}: the times of {corpus.utterance_id[timeless][0]} are not finite; prepare the file again"
        )
    if corpus.split is not None:
        strays = ~np.isin(corpus.split.astype(str), PARTS)
        if strays.any():
            raise InputError(
                f"{path}: 'split' of {corpus.utterance_id[strays][0]} is {corpus.split[strays][0]!r:.40}, "
                "not train, dev or test"
            )
    same_dialog = corpus.dialog_id[1:] == corpus.dialog_id[:-1]
    backwards = np.flatnonzero(same_dialog & ~(corpus.start_s[1:] >= corpus.start_s[:-1]))
    if len(backwards):
        raise InputError(
            f"{path}: {corpus.utterance_id[backwards[0] + 1]} starts before the utterance ahead of it; "
            "sort by start time"
        )
    for what, vectors in (("audio features", corpus.audio), ("text vectors", corpus.text)):
        parts = blocks(num) if vectors is not None else ()
        bad = np.concatenate(
            [[], *(part.start + np.flatnonzero(~np.isfinite(vectors[part]).all(axis=1)) for part in parts)]
        )
        if len(bad):
            raise InputError(
                f"{path}: {what} of {corpus.utterance_id[int(bad[0])]} are not finite ({len(bad)} such utterances); "
                "prepare again"
            )
