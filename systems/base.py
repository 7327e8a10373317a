"""The interface of a system: its stages, its networks and data, and the recogniser that reads a run folder.

Letters of the shape comments: N utterances, H utterances of a dialog, A features, C emotions.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from attention import MutualCorrelationAttention
from data.contexts import shuffled_batches
from data.corpus import dialog_slices, rows_of_dialogs
from settings import Settings, option
from storage.files import InputError, sha256
from storage.runs import WordsFile


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    `epochs` at most, fewer when `patience` epochs after the first `settling` ones have passed without a lower dev loss
    (0: never). `loss` is a key of `scoring.metrics.LOSSES`. `seed` is that of the data order. With a `weight_decay`
    the optimizer is AdamW, else Adam; `clipnorm` limits each gradient's norm. `averaging` is the decay per step of a
    running mean of the weights, which is what is scored and kept; None: none.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    loss: str
    seed: int
    weight_decay: float | None = None
    clipnorm: float | None = None
    averaging: float | None = None
    settling: int = 0


@dataclass(frozen=True)
class Stage:
    """One network to train: the weights of its lowest dev loss are kept.

    `name` stands in messages and in the name of its weight file. `seed` is that of its first weights: its own, so that
    its start does not depend on which networks were trained before it. `decided_by` are the settings that decide its
    weights; another run with the same ones can take them over (--branches), with none of them no run can. `answers`
    says whether its prediction alone is the run's answer.
    """

    name: str
    recipe: Recipe
    seed: int
    decided_by: tuple = ()
    answers: bool = False

    @property
    def is_member(self):
        """Whether all stages have its recipe, so that a run can train more of them beside those taken over."""
        return "epochs" in self.decided_by


@dataclass(frozen=True)
class StageData:
    """What one network learns from: n training samples (utterances, or whole dialogs), C emotions.

    `names` are the n ids; `batch(chosen, order)` gives the network's input and targets for an array of positions,
    with the numpy random generator `order` for what it draws; `predict_dev()` gives the (m, C) prediction for the dev
    utterances, the rows `dev` of the task. `cut(n, batch_size, order)` cuts the samples into index arrays. `num_taught`
    is how many rows of all targets are no padding; None for one of each sample.
    """

    names: np.ndarray
    batch: Callable
    predict_dev: Callable
    cut: Callable = shuffled_batches
    num_taught: int | None = None


@dataclass(frozen=True)
class WordSources:
    """Where a recogniser finds vectors of words that training did not have: a GloVe file, a text encoder; or None."""

    glove: Path | None = None
    text_encoder: str | None = None


class Work(Protocol):
    """The networks and the data of one run."""

    def files(self):
        """{name: JSON value, or {name: array} for a name that ends in .h5} of the files that prediction needs."""

    def network(self, stage):
        """A fresh network of the stage."""

    def data(self, stage, network):
        """`StageData` of the stage."""

    def done(self, stage, network):
        """Is told of a trained network: later stages may read what it gives."""


# Settings that not every system reads: those that do name them in `System.reads`.
READ_BY_SOME = ("factor", "update", "modality", "context", "members", "words", "marks", "padding", "left_out")


class System:
    """A way to recognise emotions, from settings and corpus to answers.

    `defaults` are settings that replace the paper's where the command line gives none; `reads` those of READ_BY_SOME
    that decide anything here.
    """

    defaults = {}
    reads = ()

    def accept(self, settings):
        """Refuses what this system does not read, and what it cannot do: see `check`.

        Raises:
            InputError: in one sentence.
        """
        fields = Settings.model_fields
        given = [name for name in READ_BY_SOME if getattr(settings, name) != fields[name].default]
        if unread := [option(name) for name in given if name not in self.reads]:
            raise InputError(f"--variant {settings.variant} does not read {', '.join(unread)}: leave that out")
        self.check(settings)

    def check(self, settings):
        """Says what cannot be, of the settings that it reads.

        Raises:
            InputError: in one sentence.
        """

    def word_sources(self, settings):
        """Which fields of `WordSources` the recogniser of a run with such settings reads."""
        return ()

    def settled(self, settings, corpus, glove):
        """`Settings` with what the files decide, for run.json; arguments besides as of `work`.

        Raises:
            InputError: they lack what the settings ask for.
        """
        return settings

    def stages(self, settings):
        """The `Stage`s, in training order."""
        raise NotImplementedError

    def work(self, task, glove):
        """`Work` on a `data.task.Task`; `glove` is the path of a GloVe file, or None.

        Raises:
            InputError: the corpus lacks what the system reads.
        """
        raise NotImplementedError

    def recogniser(self, file, run, stages, sources):
        """The `Recogniser` of a run folder.

        Args:
            file: function from the name of a file in it, which must be one of those that run.json lists, to its path.
            run: `storage.runs.Run`.
            stages: names of the stages to load.
            sources: `WordSources`.

        Raises:
            InputError: a file does not fit.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Utterances:
    """Utterances in time order, as a `data.corpus.Corpus` has them; None for what the system does not read."""

    transcript: list
    audio: np.ndarray | None = None
    speaker: list | None = None
    start_s: np.ndarray | None = None
    end_s: np.ndarray | None = None

    def __len__(self):
        return len(self.transcript)

    def take(self, rows):
        """Those of a slice."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Utterances(**{name: one if one is None else one[rows] for name, one in values.items()})


def correlation_layers(network):
    """The mutual correlation layers of a network, first to last."""
    return [layer for layer in network.layers if isinstance(layer, MutualCorrelationAttention)]


_LARGEST = 1e30  # of a feature; standardised ones are of single precision


def _is_list(values):
    """Whether values stand in an order, one for each utterance: a list, a tuple, an array, a series."""
    return hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0 and not isinstance(values, str | Mapping | Set)


class Recogniser:
    """Trained networks with what they need to read an utterance.

    Attributes:
        run: `storage.runs.Run`.
        networks: {stage: model}.
        audio_names: names of the A columns of raw audio features; empty where none are read.
        needs: which arguments of `predict_dialog` are read.

    A system implements `predict`, and what else it has.
    """

    needs = ("transcripts",)
    sources = WordSources()
    bears_silence = False  # whether a row of NaN may stand for an utterance without usable sound

    def __init__(self, run, networks, audio_names):
        self.run, self.networks, self.audio_names = run, networks, tuple(audio_names)

    @functools.cached_property
    def glove(self):
        """The `WordsFile` from which it has words that training did not have, or None."""
        path = self.sources.glove
        return WordsFile(path=str(path), sha256=sha256(path)) if path else None

    @property
    def reads_sound(self):
        return "audio_features" in self.needs

    @property
    def reads_words(self):
        return self.run.settings.modality != "audio"

    @property
    def emotions(self):
        """The emotions' names, in the order of the shares' columns."""
        return self.run.emotions

    def predict(self, utterances, dialogs, places):
        """The work of `predict_dialog` and `predict_corpus`.

        Args:
            utterances: `Utterances` or `data.corpus.Corpus`.
            dialogs: {dialog id: slice} of them.
            places: rows of the utterances that are asked for.

        Returns:
            {name: (n, C) float32 vote shares}, the run's answer last.
        """
        raise NotImplementedError

    def known_words(self, transcripts):
        """(N,) the share of each text's words that the run knows; NaN where there is no word, or it reads none."""
        return np.full(len(transcripts), np.nan)

    def predict_dialog(self, transcripts, audio_features=None, speakers=None, start_s=None, end_s=None):
        """Vote shares after each utterance of one dialog.

        Args:
            transcripts: h texts in time order.
            audio_features: (h, A) raw features, columns as in `audio_names`; None for a run that reads words alone. A
                row of NaN, or a masked one, stands for an utterance without usable sound where the run bears that.
            speakers: h names; `needs` says whether they, and the times, are read.
            start_s: (h,) start of each utterance in seconds.
            end_s: (h,) its end.

        Returns:
            (h, C) float32 vote shares.

        Raises:
            ValueError: something that the run needs is missing, not there for each utterance, or no number; or times
                run backwards.
        """
        utterances = self.checked_dialog(transcripts, audio_features, speakers, start_s, end_s)
        dialogs = {"dialog": slice(0, len(transcripts))}
        return list(self.predict(utterances, dialogs, np.arange(len(transcripts))).values())[-1]

    def checked_dialog(self, transcripts, audio_features=None, speakers=None, start_s=None, end_s=None):
        """`Utterances` of the arguments of `predict_dialog`."""
        given = {"transcripts": transcripts, "audio_features": audio_features}
        given |= {"speakers": speakers, "start_s": start_s, "end_s": end_s}
        if not _is_list(transcripts):
            raise ValueError(f"transcripts must be a list of texts, one per utterance. Received: {transcripts!r:.200}")
        num = len(transcripts)
        for name in self.needs:
            values = given[name]
            if values is not None and not _is_list(values):
                raise ValueError(f"{name} must be a list, one for each utterance. Received: {values!r:.200}")
            if values is None or len(values) != num:
                found = None if values is None else f"{len(values)} rows"
                raise ValueError(f"this run needs {name} of each of the {num} utterances. Received: {found}")
        for name in {"transcripts", "speakers"} & set(self.needs):
            for place, text in enumerate(given[name]):
                if not isinstance(text, str):
                    raise ValueError(f"{name} of utterance {place}, counted from 0, must be a text. Received: {text!r}")
        numbers = {}
        for name in ("audio_features", "start_s", "end_s"):
            if name in self.needs:
                numbers[name] = self._checked_numbers(name, given[name], num)
        if "start_s" in numbers and num:
            backwards = np.flatnonzero(np.diff(numbers["start_s"], prepend=-np.inf) < 0)
            if len(backwards):
                raise ValueError(
                    f"start_s of utterance {backwards[0]}, counted from 0, is before that of the one ahead"
                )
            early = np.flatnonzero(numbers["end_s"] < numbers["start_s"])
            if len(early):
                raise ValueError(f"utterance {early[0]}, counted from 0, ends before it starts")
        return Utterances(
            list(transcripts),
            numbers.get("audio_features"),
            list(speakers) if "speakers" in self.needs else None,
            numbers.get("start_s"),
            numbers.get("end_s"),
        )

    def _checked_numbers(self, name, values, num):
        """The values as finite numbers, a row each."""
        shape = (num, len(self.audio_names)) if name == "audio_features" else (num,)
        try:
            if (dtype := np.asarray(values).dtype).kind in "cmM":  # a time in pandas is a number of nanoseconds
                raise TypeError(f"they are {dtype}")
            numbers = np.ma.filled(np.ma.asarray(values).astype("float64"), np.nan)
            numbers = numbers.reshape(shape if num == 0 else np.shape(values))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numbers, a row for each utterance ({error})") from error
        if numbers.shape != shape:
            columns = f" must have the {shape[1]} columns of audio_names" if len(shape) > 1 else f" must be ({num},)"
            raise ValueError(f"{name}{columns}. Received: shape {numbers.shape}")
        columns = [one for one in getattr(values, "columns", ()) if isinstance(one, str)]  # of a table of pandas
        if len(shape) > 1 and columns and tuple(columns) != self.audio_names:
            raise ValueError(
                f"{name} has other columns than audio_names, or in another order; .to_numpy() takes them as they stand"
            )
        rows = numbers.reshape(num, -1 if num else 0)
        bad = ~(np.isfinite(rows) & (np.abs(rows) < _LARGEST)).all(axis=1)
        if self.bears_silence and name == "audio_features":
            bad &= ~np.isnan(rows).all(axis=1)
        if bad.any():
            raise ValueError(f"{name} of utterance {bad.argmax()}, counted from 0, is not finite, or too large")
        return numbers

    def predict_corpus(self, corpus, rows=None):
        """Vote shares for the utterances of a corpus, in the context of their dialogs.

        Args:
            corpus: a `data.corpus.Corpus`; its emotions may be others than the run's.
            rows: which utterances to predict, as NumPy indexes an array; None for all. Whole dialogs are read for their
                contexts.

        Returns:
            {name: (n, C) float32}, the run's answer last; what else there is, is the system's.

        Raises:
            InputError: the corpus has other features, or vectors of another encoder, than the run was trained on.
        """
        self.check_features(corpus, "the corpus")
        if self.audio_names and tuple(corpus.audio_names) != self.audio_names:
            raise InputError("the corpus has other audio features, or in another order, than the run was trained on")
        wanted = np.arange(len(corpus))
        if rows is not None:
            wanted = wanted[rows if isinstance(rows, slice) else np.asarray(rows, None if np.size(rows) else "int64")]
        read = rows_of_dialogs(corpus.dialog_id, wanted)
        part = corpus.take(read)
        return self.predict(part, dialog_slices(part.dialog_id), np.searchsorted(read, wanted))

    def check_fits(self, corpus, path):
        """Refuses a corpus whose labels or features are not those of the run.

        Raises:
            InputError: says what differs.
        """
        if tuple(corpus.emotions) != self.emotions:
            raise InputError(f"{path}: emotions {list(corpus.emotions)} are not the run's {list(self.emotions)}")
        self.check_features(corpus, path)

    def check_features(self, corpus, path):
        """Refuses a corpus whose features, or vectors of an encoder, are not those of the run.

        Raises:
            InputError: says what differs.
        """
        trained = self.run.corpus
        wanted = (trained.audio_feature_set, trained.num_audio_features)
        if self.audio_names and trained.audio_encoder and corpus.audio_encoder:
            trained.audio_encoder.check(corpus.audio_encoder, f"{path}: sound")
        elif self.audio_names and (corpus.audio_feature_set, len(corpus.audio_names)) != wanted:
            raise InputError(
                f"{path}: audio features {corpus.audio_feature_set} ({len(corpus.audio_names)} columns), the run was "
                f"trained on {wanted[0]} ({wanted[1]}); prepare the corpus with '--audio {wanted[0]}'"
            )

    def stream(self):
        """Takes a dialog utterance by utterance.

        Raises:
            ValueError: the system reads whole contexts or dialogs.
        """
        raise ValueError("this system reads whole dialogs; a causal run can follow a dialog utterance by utterance")

    def last_attention(self, context):
        """Scores with which the last utterance of a context attends to all of it (Fig. 5 of the paper).

        Args:
            context: `data.corpus.Corpus` of the H utterances up to and with the one to be explained.

        Returns:
            {"audio": (V, H + 1), "text": (V, H + 1)}, V sub-views, each row summing to one, the last column the sum
            over all padding rows; and the number of padding rows.

        Raises:
            InputError: the run has no attention over a dialog.
        """
        settings = self.run.settings
        raise InputError(f"--variant {settings.variant} with --modality {settings.modality} has no attention to draw")

    def dialog_network(self):
        """The network that attends over a dialog; None in a run that has none."""
        return None

    def learned_factors(self):
        """The learned correlation factors, layer by layer: [{"audio": (D, D) or (V, D, D), "text": the same}]."""
        network = self.dialog_network()
        return [
            {"audio": np.asarray(layer.audio_factor), "text": np.asarray(layer.text_factor)}
            for layer in (correlation_layers(network) if network else ())
            if layer.factor != "none"
        ]

    def with_released_weights(self, path):
        """The recogniser with the fusion weights that the authors published.

        Raises:
            InputError: the run's networks are not theirs, or the file is not of them.
        """
        raise InputError(
            f"the authors' weights need a run of train.py's defaults, this one is {self.run.settings.variant}"
        )
