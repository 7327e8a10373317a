"""Our system, not the paper's: one causal network from words and sound to vote shares, trained end to end.

Network and inputs are in network.py and inputs.py; docs/causal.md explains them. `--members` networks that differ in
the seed alone are trained one after the other, and their answers are averaged. Word vectors are not trained, so a run
folder holds those of the training words.

Letters of the shape comments: N utterances, C emotions.
"""

import functools
import types
from dataclasses import dataclass

import numpy as np

from data.contexts import side_by_side, similar_length_batches
from data.encoders import TextEncoder
from data.rows import BLOCK_ROWS, MOST_IN_MEMORY, dialog_blocks
from data.scaling import Scaler
from data.text import MARKS, WORD_DIM, known_shares, tokenize
from settings import Settings
from storage.files import InputError
from storage.runs import read_words
from storage.weights import ADVICE, load_arrays, load_weights
from systems.base import Recipe, Recogniser, Stage, StageData, System, WordSources, correlation_layers
from systems.causal.inputs import (
    TIMING_NAMES,
    WORD_COLUMNS,
    Encoded,
    Sound,
    Words,
    known_vectors,
    mark_counts,
    speaker_codes,
    word_counts,
)
from systems.causal.network import MOST_ROWS, causal_network, dialog_rows, predict_dialogs, windows
from systems.causal.stream import DialogStream

# From sound alone the dev loss rises in the first epochs before it falls again: patience waits for that.
WEIGHT_DECAY, CLIPNORM, AVERAGING, SETTLING = 1e-2, 1.0, 0.98, 20
_NO_SOURCES = WordSources()


class Members(System):
    """Members of different seeds that read whole dialogs; see `systems.base.System`."""

    recogniser_class = None  # a `DialogRecogniser`
    defaults = {
        "loss": "cross_entropy",
        "epochs": 60,
        "patience": 10,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "members": 4,
        "left_out": 0.2,
    }
    reads = ("modality", "context", "members", "words", "marks", "left_out")

    def check(self, settings):
        if settings.loss != "cross_entropy":
            raise InputError(f"--variant {settings.variant} is trained with cross_entropy: drop --loss")
        if settings.modality == "audio" and (settings.marks or settings.words != "given"):
            raise InputError("--modality audio reads no words: drop --marks, --words")
        if settings.modality != "text+audio" and settings.left_out not in (0, self.defaults["left_out"]):
            raise InputError(
                f"--modality {settings.modality} is trained alone, so none can be left out: drop --left-out"
            )

    def word_sources(self, settings):
        fields = {"glove": "glove", "encoder": "text_encoder"}
        return tuple(fields[kind] for kind in words_of(settings) if kind in fields)

    def network(self, settings, widths, num_emotions):
        """A fresh network of (B, H, ...) dialogs; `widths` as of `Inputs`."""
        raise NotImplementedError

    def stages(self, settings):
        # Members are far apart, so that none of another run's seed is the same network.
        seeds = [settings.seed + 2**20 * member for member in range(settings.members)]
        chosen = (settings.epochs, settings.patience, settings.batch_size, settings.learning_rate, settings.loss)
        decided_by = tuple(name for name in Settings.model_fields if name not in ("members", "test_session"))
        return tuple(
            Stage(
                f"member-{number}",
                Recipe(*chosen, seed, WEIGHT_DECAY, CLIPNORM, AVERAGING, SETTLING),
                seed,
                decided_by,
                len(seeds) == 1,
            )
            for number, seed in enumerate(seeds, 1)
        )

    def settled(self, settings, corpus, glove):
        """`--words given` is what there is: GloVe where a file is given, the corpus's encoder where it has one."""
        if settings.modality == "audio":
            return settings.model_copy(update={"words": "given"})  # reads none
        there = {"glove": glove is not None, "encoder": corpus.text is not None}
        words = settings.words
        if words == "given":
            words = "both" if all(there.values()) else next((name for name, one in there.items() if one), "glove")
        advice = {"glove": "give --glove FILE", "encoder": "add them with 'python -m data.prepare encode'"}
        for name, one in there.items():
            if words in (name, "both") and not one:
                instead = ", or train with --modality audio" if corpus.audio_names else ""
                raise InputError(f"no word vectors of {name}: {advice[name]}{instead}")
        return settings.model_copy(update={"words": words})

    def work(self, task, glove):
        return _Work(self, task, glove)

    def recogniser(self, file, run, stages, sources):
        sound = words = encoded = None
        if run.settings.modality != "text":
            sound = Sound(Scaler.from_json(file("scaler.json")))
            if sound.scaler.names[-len(TIMING_NAMES) :] != TIMING_NAMES:
                raise InputError(
                    f"{file('scaler.json')}: is of an earlier version, which read other columns; train again"
                )
        if "glove" in words_of(run.settings):
            vocabulary = read_words(file("vocabulary.json"))
            sizes = {"vectors": (len(vocabulary), WORD_DIM), "mean": (WORD_DIM,), "scale": (WORD_DIM,)}
            types = {"vectors": "float32", "mean": "float64", "scale": "float64"}
            arrays, _ = load_arrays(file("words.h5"), {name: (sizes[name], types[name]) for name in sizes})
            words = Words(tuple(vocabulary), arrays["vectors"], Scaler(WORD_COLUMNS, arrays["mean"], arrays["scale"]))
        if "encoder" in words_of(run.settings):
            if run.corpus.text_encoder is None:
                raise InputError(f"{file('text_scaler.json').parent}: run.json names no text encoder; {ADVICE}")
            encoded = Encoded(run.corpus.text_encoder, Scaler.from_json(file("text_scaler.json")))
        inputs = Inputs(sound, words, encoded, run.settings.marks)
        networks = {stage: self.network(run.settings, inputs.widths, len(run.emotions)) for stage in stages}
        for stage, network in networks.items():
            load_weights(network, file(f"{stage}.weights.h5"))
        return self.recogniser_class(run, networks, inputs, sources)


@dataclass(frozen=True)
class Inputs:
    """What a run reads: `sound`, `words` of GloVe, `encoded` words of an encoder; None for what it does not.

    `marks` says whether a transcript's marks are read beside its words.
    """

    sound: Sound | None = None
    words: Words | None = None
    encoded: Encoded | None = None
    marks: bool = False

    @property
    def widths(self):
        """Columns of the acoustic and of the textual input; 0 for one that is not read."""
        num_audio = 2 * len(self.sound.scaler.names) if self.sound else 0
        num_text = (WORD_DIM if self.words else 0) + (len(self.encoded.scaler.names) if self.encoded else 0)
        if num_text:
            num_text += 1 + (len(MARKS) if self.marks else 0)  # how many words, and marks
        return num_audio, num_text

    def arrays(self, utterances, dialogs, word_rows):
        """{input name: (N, ...)} of the networks.

        Args:
            utterances: N of them, `systems.base.Utterances` or `data.corpus.Corpus`.
            dialogs: the slices of `seen_dialogs`.
            word_rows: function from N transcripts and (N, T) vectors of an encoder, or None, to (N, D).
        """
        arrays = {"speaker": speaker_codes(utterances.speaker)}
        if self.sound:
            arrays["audio"] = self.sound.rows(utterances, arrays["speaker"], dialogs)
        if self.words or self.encoded:
            arrays["text"] = word_rows(utterances.transcript, getattr(utterances, "text", None))
        return arrays

    def word_rows(self, transcripts, vectors, further=types.MappingProxyType({})):
        """(N, D) of the texts, from the encoder's (N, T) where it is read; `further` words as of `Words.rows`."""
        rows = [self.words.rows(transcripts, further)[0]] if self.words else []
        rows += [self.encoded.rows(vectors, transcripts)] if self.encoded else []
        vectors = np.concatenate(rows, axis=1)
        counts = [word_counts(transcripts, vectors)] + ([mark_counts(transcripts, vectors)] if self.marks else [])
        return np.concatenate([vectors, *counts], axis=1)


def words_of(settings):
    """The kinds of word vectors that a run reads: of "glove", "encoder", as `Members.settled` left its settings."""
    if settings.modality == "audio":
        return ()
    return ("glove", "encoder") if settings.words == "both" else (settings.words,)


def seen_dialogs(dialogs, context):
    """The slices of rows that an utterance may be judged by: its dialog's, or without context each row alone."""
    if context:
        return list(dialogs)
    return [slice(row, row + 1) for rows in dialogs for row in range(rows.start, rows.stop)]


def dialogs_with(dialogs, rows, num):
    """Those of {name: slice of `num` rows} that have one of the rows."""
    there = np.zeros(num, bool)
    there[rows] = True
    return {name: one for name, one in dialogs.items() if there[one].any()}


def one_after_another(dialogs):
    """Where slices lie once they follow each other from row 0."""
    stops = np.cumsum([rows.stop - rows.start for rows in dialogs]).tolist()
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def concatenated(parts):
    """{name: rows one after the other} of several {name: rows}."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def mean_answers(networks, num, dialogs, arrays_of, context):
    """The mean of the networks' answers, some thousand utterances at a time.

    Args:
        networks: that read dialogs.
        num: N.
        dialogs: slices of the N utterances.
        arrays_of: function from some of them to `Inputs.arrays` of their rows, one dialog after the other.
        context: as of `Settings`.

    Returns:
        (N, C) float32; utterances of no dialog stay 0.
    """
    networks = list(networks)
    answers = np.zeros((num, networks[0].output_shape[-1]), "float32")
    for part in dialog_blocks(dialogs):
        arrays, places = arrays_of(part), one_after_another(part)
        seen = seen_dialogs(places, context)
        mean = np.mean([predict_dialogs(network, arrays, seen) for network in networks], axis=0)
        for rows, place in zip(part, places, strict=True):
            answers[rows] = mean[place]
    return answers


class _Work:
    """See `systems.base.Work`: words and scales are fitted on the training utterances alone."""

    def __init__(self, system, task, glove):
        corpus, training, settings = task.corpus, task.split["train"], task.settings
        self.system, self.task = system, task
        sound = words = encoded = None
        if settings.modality != "text":
            if not corpus.audio_names:
                raise InputError(f"{corpus.name}: has no audio features; train with --modality text")
            sound = Sound.fit(corpus, training, seen_dialogs(task.dialogs.values(), settings.context))
        if "glove" in words_of(settings):
            words = Words.fit(corpus.transcript[training], glove)
            known = words.rows(corpus.transcript[task.split["dev"][:BLOCK_ROWS]])[1]
            share = f"{np.nanmean(known):.1%}" if np.isfinite(known).any() else "none"
            print(f"text: {len(words.vocabulary)} training words with a GloVe vector; {share} of the dev words")
        if "encoder" in words_of(settings):
            encoded = Encoded.fit(corpus, training)
        self.inputs = Inputs(sound, words, encoded, settings.marks)
        self.kept, self.num_bytes = {}, 0

    def files(self):
        sound, words, encoded = self.inputs.sound, self.inputs.words, self.inputs.encoded
        files = {"scaler.json": sound.scaler.to_json()} if sound else {}
        if words:
            arrays = {"vectors": words.vectors, "mean": words.scaler.mean, "scale": words.scaler.scale}
            files |= {"vocabulary.json": list(words.vocabulary), "words.h5": arrays}
        return files | ({"text_scaler.json": encoded.scaler.to_json()} if encoded else {})

    def network(self, stage):
        return self.system.network(self.task.settings, self.inputs.widths, len(self.task.emotions))

    def of_dialogs(self, dialogs):
        """`Inputs.arrays` of dialogs of the corpus, one after the other."""
        return concatenated([self.of_dialog(rows) for rows in dialogs])

    def of_dialog(self, rows):
        """`Inputs.arrays` of a dialog, a slice of the corpus; kept from epoch to epoch as far as they fit."""
        made = self.kept.get(rows.start)
        if made is None:
            seen = seen_dialogs([slice(0, rows.stop - rows.start)], self.task.settings.context)
            made = self.inputs.arrays(self.task.corpus.take(rows), seen, self.inputs.word_rows)
            num_bytes = sum(one.nbytes for one in made.values())
            if self.num_bytes + num_bytes <= MOST_IN_MEMORY:
                self.kept[rows.start], self.num_bytes = made, self.num_bytes + num_bytes
        return made

    def data(self, stage, network):
        task, settings = self.task, self.task.settings
        targets = np.zeros_like(task.targets)  # an utterance without votes has no target and adds nothing to the loss
        targets[task.train] = task.targets[task.train]
        train_dialogs, dev_dialogs = (dialogs_with(task.dialogs, part, len(targets)) for part in (task.train, task.dev))
        # A dialog that the network cannot see at once is learned in pieces: (its name, its rows, the place in them).
        pieces = [
            (name, rows, slice(start, min(start + MOST_ROWS, rows.stop - rows.start)))
            for name, rows in train_dialogs.items()
            for start in range(0, rows.stop - rows.start, MOST_ROWS)
        ]
        lengths = np.array([place.stop - place.start for *_, place in pieces])

        def batch(chosen, order):
            read = [pieces[i][1:] for i in chosen]
            parts = [{name: one[place] for name, one in self.of_dialog(rows).items()} for rows, place in read]
            seen = seen_dialogs(one_after_another([place for _, place in read]), settings.context)
            rows = dialog_rows(concatenated(parts), seen)
            if settings.left_out and settings.modality == "text+audio":
                leave_out(rows, settings.left_out, order)
            return rows, side_by_side(np.concatenate([targets[one][place] for one, place in read]), seen)

        def cut(num, batch_size, order):
            return similar_length_batches(lengths, batch_size, order)

        def predict_dev():
            dialogs = dev_dialogs.values()
            return mean_answers([network], len(targets), dialogs, self.of_dialogs, settings.context)[task.dev]

        return StageData(np.array([name for name, *_ in pieces], object), batch, predict_dev, cut, len(task.train))

    def done(self, stage, network):
        """Members do not read each other."""


def leave_out(rows, share, order):
    """Takes words or sound away in place: of a share of the utterances each, and of a share of whole dialogs either.

    Args:
        rows: {"audio": (B, H, F), "text": (B, H, F), ...}.
        share: from 0 to .4.
        order: numpy random generator.
    """
    size = rows["speaker"].shape
    whole, each = order.random((size[0], 1)), order.random(size)
    for name, low in (("text", 0.0), ("audio", share)):
        of_dialogs = (whole >= low / 2) & (whole < (low + share) / 2)
        rows[name][of_dialogs | ((whole >= share) & (each >= low) & (each < low + share))] = 0


class DialogRecogniser(Recogniser):
    """The members of a run, networks that read whole dialogs.

    An utterance without known words, or with a row of NaN for sound, is answered from the other.
    """

    def __init__(self, run, networks, inputs, sources=_NO_SOURCES):
        super().__init__(run, networks, inputs.sound.audio_names if inputs.sound else ())
        self.read, self.sources = inputs, sources
        self._further = {}  # of words looked for in the GloVe file: vectors, None where it has none
        self.needs = ("transcripts", "speakers", *(("audio_features", "start_s", "end_s") if inputs.sound else ()))
        self.bears_silence = run.settings.modality == "text+audio"

    @functools.cached_property
    def text_encoder(self):
        """The encoder that the run reads words through, found and compared with the run's at the first use."""
        return TextEncoder.find(self.read.encoded.identity, self.sources.text_encoder)

    def check_features(self, corpus, path):
        super().check_features(corpus, path)
        if self.read.encoded and corpus.text_encoder:
            self.read.encoded.identity.check(corpus.text_encoder, f"{path}: words")

    def inputs(self, utterances, dialogs):
        """`Inputs.arrays`, with all words that are known."""
        return self.read.arrays(utterances, dialogs, self.word_rows)

    def word_rows(self, transcripts, vectors=None):
        """(N, D) of the texts; words that neither the run nor its GloVe file knows do not count.

        Args:
            transcripts: N texts.
            vectors: (N, T) of the encoder; None to compute them.
        """
        if self.read.encoded and vectors is None:
            vectors = self.text_encoder.encode(list(transcripts))
        return self.read.word_rows(transcripts, vectors, self._further_words(transcripts))

    def known_words(self, transcripts):
        if self.read.encoded:  # reads any word, by its pieces
            return np.array([1.0 if tokenize(transcript) else np.nan for transcript in transcripts])
        if not self.read.words:
            return super().known_words(transcripts)
        return known_shares(transcripts, self.read.words.known.keys() | self._further_words(transcripts).keys())

    def _further_words(self, transcripts):
        """`Words.rows`' further words: one that the run does not know is looked for in its GloVe file once."""
        if self.sources.glove and self.read.words:
            spoken = {word for line in transcripts for word in tokenize(line)}
            if asked := spoken - self.read.words.known.keys() - self._further.keys():
                self._further |= dict.fromkeys(asked) | known_vectors(asked, self.sources.glove)
        return {word: one for word, one in self._further.items() if one is not None}

    def predict(self, utterances, dialogs, places):
        context = self.run.settings.context

        def arrays_of(slices):
            part = utterances.take(slice(slices[0].start, slices[-1].stop))
            return self.inputs(part, seen_dialogs(one_after_another(slices), context))

        answers = mean_answers(self.networks.values(), len(utterances), dialogs.values(), arrays_of, context)
        return {self.run.settings.variant: answers[places]}


class CausalRecogniser(DialogRecogniser):
    """The members of a causal run."""

    def stream(self):
        """A `DialogStream`, which takes a dialog utterance by utterance."""
        return DialogStream(self)

    def dialog_network(self):
        """Of several members, the first one explains."""
        return next(iter(self.networks.values()))

    def last_attention(self, context):
        network = self.dialog_network()
        layer = correlation_layers(network)[-1]
        whole = slice(0, len(context))
        seen, _ = windows(whole)[-1]
        rows = dialog_rows(self.inputs(context, [whole]), [seen])
        inputs = type(network)(network.input, layer.input[:2]).predict_on_batch(rows)
        _, scores = layer(inputs, speaker=rows["speaker"], return_scores=True)
        num = seen.stop - seen.start
        of_last = [np.asarray(one)[0, :, num - 1, :num] for one in scores]  # (V, H)
        padded = [np.pad(one, ((0, 0), (seen.start, 1))) for one in of_last]  # what is not seen, and no padding row
        return dict(zip(("audio", "text"), padded, strict=True)), 0


class Causal(Members):
    """The system of this file."""

    recogniser_class = CausalRecogniser
    reads = ("factor", "update", *Members.reads)

    def network(self, settings, widths, num_emotions):
        return causal_network(*widths, settings.factor, settings.update, num_emotions)


SYSTEM = Causal()
