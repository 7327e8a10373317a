"""Our system, not the paper's: one causal network from words and sound to vote shares, trained end to end.

Network and inputs are in network.py and inputs.py; docs/causal.md explains them. `--members` networks that differ in
the seed alone are trained one after the other, and their answers are averaged. Word vectors are not trained, so a run
folder holds those of the training words.

Letters of the shape comments: N utterances, C emotions.
"""

import numpy as np

from data.contexts import side_by_side, similar_length_batches
from data.scaling import Scaler
from data.text import WORD_DIM
from storage.files import InputError
from storage.runs import read_words
from storage.weights import load_arrays, load_weights
from systems.base import Recipe, Recogniser, Stage, StageData
from systems.causal.inputs import Sound, Words, speaker_codes
from systems.causal.network import CausalMutualCorrelationAttention, causal_network, dialog_rows, predict_dialogs
from systems.causal.stream import DialogStream

WEIGHT_DECAY, CLIPNORM, AVERAGING = 1e-2, 1.0, 0.98


class Causal:
    """See `systems.base.System`."""

    defaults = {
        "loss": "cross_entropy",
        "epochs": 40,
        "patience": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "members": 4,
        "left_out": 0.2,
    }

    def check(self, settings):
        if settings.loss != "cross_entropy":
            raise InputError("--variant causal is trained with cross_entropy: drop --loss")

    def stages(self, settings):
        # Members are far apart, so that none of another run's seed is the same network.
        seeds = [settings.seed + 2**20 * member for member in range(settings.members)]
        chosen = (settings.epochs, settings.patience, settings.batch_size, settings.learning_rate, settings.loss)
        return tuple(
            Stage(
                f"member-{number}", Recipe(*chosen, seed, WEIGHT_DECAY, CLIPNORM, AVERAGING), seed, (), len(seeds) == 1
            )
            for number, seed in enumerate(seeds, 1)
        )

    def work(self, task, glove):
        return _Work(task, glove)

    def recogniser(self, file, run, stages, glove):
        sound = words = None
        if run.settings.modality != "text":
            sound = Sound(Scaler.from_json(file("scaler.json")))
        if run.settings.modality != "audio":
            vocabulary = read_words(file("vocabulary.json"))
            sizes = {"vectors": (len(vocabulary), WORD_DIM), "mean": (WORD_DIM,), "scale": (WORD_DIM,)}
            types = {"vectors": "float32", "mean": "float64", "scale": "float64"}
            arrays, _ = load_arrays(file("words.h5"), {name: (sizes[name], types[name]) for name in sizes})
            words = Words(tuple(vocabulary), **arrays)
        networks = {stage: _network(run.settings, sound, words, len(run.emotions)) for stage in stages}
        for stage, network in networks.items():
            load_weights(network, file(f"{stage}.weights.h5"))
        return CausalRecogniser(run, networks, sound, words, glove)


def _network(settings, sound, words, num_emotions):
    num_audio = 2 * len(sound.scaler.names) if sound else 0
    return causal_network(num_audio, WORD_DIM if words else 0, settings.factor, settings.update, num_emotions)


def seen_dialogs(dialogs, context):
    """The slices of rows that an utterance may be judged by: its dialog's, or without context each row alone."""
    if context:
        return list(dialogs)
    return [slice(row, row + 1) for rows in dialogs for row in range(rows.start, rows.stop)]


class _Work:
    """See `systems.base.Work`: words and scales are fitted on the training utterances alone."""

    def __init__(self, task, glove):
        self.task, self.sound, self.words = task, None, None
        corpus, training, settings = task.corpus, task.split["train"], task.settings
        speaker, seen = speaker_codes(corpus.speaker), seen_dialogs(task.dialogs.values(), settings.context)
        self.arrays = {"speaker": speaker}
        if settings.modality != "text":
            if not corpus.audio_names:
                raise InputError(f"{corpus.name}: has no audio features; train with --modality text")
            self.sound = Sound.fit(corpus, training, seen)
            self.arrays["audio"] = self.sound.rows(corpus, speaker, seen)
        if settings.modality != "audio":
            if not glove:
                raise InputError("--variant causal reads words through GloVe: give --glove FILE, or --modality audio")
            self.words = Words.fit(corpus.transcript[training], glove)
            self.arrays["text"], known = self.words.rows(corpus.transcript)
            dev = known[task.split["dev"]]
            share = f"{np.nanmean(dev):.1%}" if np.isfinite(dev).any() else "none"
            print(f"text: {len(self.words.vocabulary)} training words with a GloVe vector; {share} of the dev words")

    def files(self):
        files = {"scaler.json": self.sound.scaler.to_json()} if self.sound else {}
        if self.words:
            arrays = {name: getattr(self.words, name) for name in ("vectors", "mean", "scale")}
            files |= {"vocabulary.json": list(self.words.vocabulary), "words.h5": arrays}
        return files

    def network(self, stage):
        return _network(self.task.settings, self.sound, self.words, len(self.task.emotions))

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
            if settings.left_out and self.sound and self.words:
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


class CausalRecogniser(Recogniser):
    """The members of a run; an utterance without known words, or with a row of NaN for sound, is answered from the
    other.
    """

    def __init__(self, run, networks, sound, words, glove=None):
        super().__init__(run, networks, sound.audio_names if sound else ())
        self.sound, self.words, self.glove = sound, words, glove
        self.needs = ("transcripts", "speakers", *(("audio_features", "start_s", "end_s") if sound else ()))
        self.bears_silence = bool(sound and words)

    def inputs(self, utterances, dialogs):
        """{input name: (N, ...)} of the networks, from utterances and the slices of `seen_dialogs`."""
        arrays = {"speaker": speaker_codes(utterances.speaker)}
        if self.sound:
            arrays["audio"] = self.sound.rows(utterances, arrays["speaker"], dialogs)
        if self.words:
            arrays["text"] = self.word_rows(utterances.transcript)
        return arrays

    def word_rows(self, transcripts):
        """(N, D) of the texts; words that neither the run nor its GloVe file knows do not count."""
        return self.words.rows(transcripts, self.glove)[0]

    def known_words(self, transcripts):
        return self.words.rows(transcripts, self.glove)[1] if self.words else super().known_words(transcripts)

    def predict(self, utterances, dialogs, places):
        seen = seen_dialogs(dialogs.values(), self.run.settings.context)
        arrays = self.inputs(utterances, seen)
        answers = [predict_dialogs(network, arrays, seen)[places] for network in self.networks.values()]
        return {"causal": np.mean(answers, axis=0)}

    def stream(self):
        """A `DialogStream`, which takes a dialog utterance by utterance."""
        return DialogStream(self)

    def _layers(self):
        first = next(iter(self.networks.values()))  # of several members, the first one explains
        return first, [layer for layer in first.layers if isinstance(layer, CausalMutualCorrelationAttention)]

    def last_attention(self, context):
        network, layers = self._layers()
        rows = dialog_rows(self.inputs(context, [slice(0, len(context))]), [slice(0, len(context))])
        inputs = type(network)(network.input, layers[-1].input[:2]).predict_on_batch(rows)
        _, scores = layers[-1](inputs, speaker=rows["speaker"], return_scores=True)
        of_last = [np.asarray(one)[0, :, len(context) - 1, : len(context)] for one in scores]  # (V, H)
        padded = [np.concatenate([one, np.zeros((len(one), 1))], axis=1) for one in of_last]
        return dict(zip(("audio", "text"), padded, strict=True)), 0

    def learned_factors(self):
        return [
            {"audio": np.asarray(layer.audio_factor), "text": np.asarray(layer.text_factor)}
            for layer in self._layers()[1]
            if layer.factor != "none"
        ]


SYSTEM = Causal()
