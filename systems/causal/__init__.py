"""Our system, not the paper's: one causal network from words and sound to vote shares, trained end to end.

Network and inputs are in network.py and inputs.py; docs/causal.md explains them. `--members` networks that differ in
the seed alone are trained one after the other, and their answers are averaged. Word vectors are not trained, so a run
folder holds those of the training words.

Letters of the shape comments: N utterances, C emotions.
"""

import functools
from dataclasses import dataclass

import numpy as np

from data.contexts import side_by_side, similar_length_batches
from data.encoders import TextEncoder
from data.scaling import Scaler
from data.text import WORD_DIM, tokenize
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
    speaker_codes,
    word_counts,
)
from systems.causal.network import causal_network, dialog_rows, predict_dialogs
from systems.causal.stream import DialogStream

WEIGHT_DECAY, CLIPNORM, AVERAGING = 1e-2, 1.0, 0.98
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

    def check(self, settings):
        if settings.loss != "cross_entropy":
            raise InputError(f"--variant {settings.variant} is trained with cross_entropy: drop --loss")

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
                Recipe(*chosen, seed, WEIGHT_DECAY, CLIPNORM, AVERAGING),
                seed,
                decided_by,
                len(seeds) == 1,
            )
            for number, seed in enumerate(seeds, 1)
        )

    def settled(self, settings, corpus, glove):
        """`--words given` is what there is: GloVe where a file is given, the corpus's encoder where it has one."""
        if settings.modality == "audio":
            return settings
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
        inputs = Inputs(sound, words, encoded)
        networks = {stage: self.network(run.settings, inputs.widths, len(run.emotions)) for stage in stages}
        for stage, network in networks.items():
            load_weights(network, file(f"{stage}.weights.h5"))
        return self.recogniser_class(run, networks, inputs, sources)


@dataclass(frozen=True)
class Inputs:
    """What a run reads: `sound`, `words` of GloVe, `encoded` words of an encoder; None for what it does not."""

    sound: Sound | None = None
    words: Words | None = None
    encoded: Encoded | None = None

    @property
    def widths(self):
        """Columns of the acoustic and of the textual input; 0 for one that is not read."""
        num_audio = 2 * len(self.sound.scaler.names) if self.sound else 0
        num_text = (WORD_DIM if self.words else 0) + (len(self.encoded.scaler.names) if self.encoded else 0)
        num_text += bool(num_text)  # how many words
        return num_audio, num_text


def words_of(settings):
    """The kinds of word vectors that a run reads: of "glove", "encoder", as `Members.settled` left its settings."""
    if settings.modality == "audio":
        return ()
    return ("glove", "encoder") if settings.words == "both" else (settings.words,)


def with_counts(rows, transcripts):
    """(N, D + 1) of all vectors of words, a list of (N, ...), and `inputs.word_counts`."""
    vectors = np.concatenate(rows, axis=1)
    return np.concatenate([vectors, word_counts(transcripts, vectors)], axis=1)


def seen_dialogs(dialogs, context):
    """The slices of rows that an utterance may be judged by: its dialog's, or without context each row alone."""
    if context:
        return list(dialogs)
    return [slice(row, row + 1) for rows in dialogs for row in range(rows.start, rows.stop)]


class _Work:
    """See `systems.base.Work`: words and scales are fitted on the training utterances alone."""

    def __init__(self, system, task, glove):
        corpus, training, settings = task.corpus, task.split["train"], task.settings
        speaker, seen = speaker_codes(corpus.speaker), seen_dialogs(task.dialogs.values(), settings.context)
        self.system, self.task, self.arrays = system, task, {"speaker": speaker}
        sound = words = encoded = None
        if settings.modality != "text":
            if not corpus.audio_names:
                raise InputError(f"{corpus.name}: has no audio features; train with --modality text")
            sound = Sound.fit(corpus, training, seen)
            self.arrays["audio"] = sound.rows(corpus, speaker, seen)
        text = []
        if "glove" in words_of(settings):
            words = Words.fit(corpus.transcript[training], glove)
            rows, known = words.rows(corpus.transcript)
            text.append(rows)
            dev = known[task.split["dev"]]
            share = f"{np.nanmean(dev):.1%}" if np.isfinite(dev).any() else "none"
            print(f"text: {len(words.vocabulary)} training words with a GloVe vector; {share} of the dev words")
        if "encoder" in words_of(settings):
            encoded = Encoded.fit(corpus, training)
            text.append(encoded.rows(corpus.text, corpus.transcript))
        if text:
            self.arrays["text"] = with_counts(text, corpus.transcript)
        self.inputs = Inputs(sound, words, encoded)

    def files(self):
        sound, words, encoded = self.inputs.sound, self.inputs.words, self.inputs.encoded
        files = {"scaler.json": sound.scaler.to_json()} if sound else {}
        if words:
            arrays = {"vectors": words.vectors, "mean": words.scaler.mean, "scale": words.scaler.scale}
            files |= {"vocabulary.json": list(words.vocabulary), "words.h5": arrays}
        return files | ({"text_scaler.json": encoded.scaler.to_json()} if encoded else {})

    def network(self, stage):
        return self.system.network(self.task.settings, self.inputs.widths, len(self.task.emotions))

    def data(self, stage, network):
        task, settings = self.task, self.task.settings
        targets = np.zeros_like(task.targets)  # an utterance without votes has no target and adds nothing to the loss
        targets[task.train] = task.targets[task.train]
        train_dialogs, dev_dialogs = (
            {name: rows for name, rows in task.dialogs.items() if np.isin(np.arange(rows.start, rows.stop), part).any()}
            for part in (task.train, task.dev)
        )
        slices = list(train_dialogs.values())
        lengths = np.array([rows.stop - rows.start for rows in slices])
        seen_in_dev = seen_dialogs(dev_dialogs.values(), settings.context)

        def batch(chosen, order):
            seen = seen_dialogs([slices[i] for i in chosen], settings.context)
            rows = dialog_rows(self.arrays, seen)
            if settings.left_out and settings.modality == "text+audio":
                leave_out(rows, settings.left_out, order)
            return rows, side_by_side(targets, seen)

        def cut(num, batch_size, order):
            return similar_length_batches(lengths, batch_size, order)

        def predict_dev():
            return predict_dialogs(network, self.arrays, seen_in_dev)[task.dev]

        return StageData(np.array(list(train_dialogs), object), batch, predict_dev, cut)

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

    def check_fits(self, corpus, path):
        super().check_fits(corpus, path)
        if self.read.encoded and corpus.text_encoder:
            self.read.encoded.identity.check(corpus.text_encoder, f"{path}: words")

    def inputs(self, utterances, dialogs):
        """{input name: (N, ...)} of the networks, from utterances and the slices of `seen_dialogs`."""
        arrays = {"speaker": speaker_codes(utterances.speaker)}
        if self.read.sound:
            arrays["audio"] = self.read.sound.rows(utterances, arrays["speaker"], dialogs)
        if self.read.words or self.read.encoded:
            arrays["text"] = self.word_rows(utterances.transcript, getattr(utterances, "text", None))
        return arrays

    def word_rows(self, transcripts, vectors=None):
        """(N, D) of the texts; words that neither the run nor its GloVe file knows do not count.

        Args:
            transcripts: N texts.
            vectors: (N, T) of the encoder; None to compute them.
        """
        rows = []
        if self.read.words:
            rows.append(self._glove_rows(transcripts)[0])
        if self.read.encoded:
            vectors = self.text_encoder.encode(list(transcripts)) if vectors is None else vectors
            rows.append(self.read.encoded.rows(vectors, transcripts))
        return with_counts(rows, transcripts)

    def known_words(self, transcripts):
        if self.read.encoded:  # reads any word, by its pieces
            return np.array([1.0 if tokenize(transcript) else np.nan for transcript in transcripts])
        return self._glove_rows(transcripts)[1] if self.read.words else super().known_words(transcripts)

    def _glove_rows(self, transcripts):
        """`inputs.Words.rows`; a word that the run does not know is looked for in its GloVe file once."""
        if self.sources.glove:
            spoken = {word for line in transcripts for word in tokenize(line)}
            if asked := spoken - self.read.words.known.keys() - self._further.keys():
                self._further |= dict.fromkeys(asked) | known_vectors(asked, self.sources.glove)
        return self.read.words.rows(transcripts, {word: one for word, one in self._further.items() if one is not None})

    def predict(self, utterances, dialogs, places):
        seen = seen_dialogs(dialogs.values(), self.run.settings.context)
        arrays = self.inputs(utterances, seen)
        answers = [predict_dialogs(network, arrays, seen)[places] for network in self.networks.values()]
        return {self.run.settings.variant: np.mean(answers, axis=0)}


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
        rows = dialog_rows(self.inputs(context, [slice(0, len(context))]), [slice(0, len(context))])
        inputs = type(network)(network.input, layer.input[:2]).predict_on_batch(rows)
        _, scores = layer(inputs, speaker=rows["speaker"], return_scores=True)
        of_last = [np.asarray(one)[0, :, len(context) - 1, : len(context)] for one in scores]  # (V, H)
        padded = [np.concatenate([one, np.zeros((len(one), 1))], axis=1) for one in of_last]
        return dict(zip(("audio", "text"), padded, strict=True)), 0


class Causal(Members):
    """The system of this file."""

    recogniser_class = CausalRecogniser

    def network(self, settings, widths, num_emotions):
        return causal_network(*widths, settings.factor, settings.update, num_emotions)


SYSTEM = Causal()
