"""What the causal network reads of an utterance: its words, its sound and timing, and who speaks.

Letters of the shape comments: N utterances, A acoustic features, W words, D numbers of a word vector.
"""

import collections
import functools
import types
from dataclasses import dataclass

import numpy as np

from data.rows import blocks
from data.scaling import Scaler
from data.text import WORD_DIM, count_marks, read_glove, tokenize, vectors_from_parts, word_parts
from storage.runs import EncoderFiles

WORD_COLUMNS = tuple(map(str, range(WORD_DIM)))
TIMING_NAMES = ("log_duration_s", "pause_s")
LARGEST_FEATURE = 6.0  # standard deviations
USUAL_LOG_WORDS = 2.0  # about the mean in IEMOCAP
PRIOR_ROWS = 8.0  # the speaker's mean so far is drawn to the training mean as if by so many utterances


def speaker_codes(speakers):
    """Names of speakers as (N,) int32."""
    return np.unique(np.asarray(speakers, str), return_inverse=True)[1].astype("int32").reshape(-1)


def timing_features(start_s, end_s, dialogs):
    """Log duration, and the pause since the dialog's last utterance: (N, 2) float64."""
    pause = np.zeros(len(start_s))
    for rows in dialogs:
        pause[rows.start + 1 : rows.stop] = start_s[rows.start + 1 : rows.stop] - end_s[rows.start : rows.stop - 1]
    return np.stack([np.log(np.maximum(end_s - start_s, 0.1)), np.clip(pause, -3, 6)], axis=1)


def word_counts(transcripts, rows):
    """How long the texts are: log(1 + words), about 0 for a text of usual length.

    Args:
        transcripts: N texts.
        rows: (N, D) their words' vectors; zeros where no word is known.

    Returns:
        (N, 1) float32, 0 where the row is: what is not read must not be counted either.
    """
    num_words = np.array([len(tokenize(transcript)) for transcript in transcripts], "float32").reshape(-1, 1)
    return np.where(rows.any(axis=1, keepdims=True), np.log1p(num_words) - USUAL_LOG_WORDS, 0).astype("float32")


def mark_counts(transcripts, rows):
    """How often each of `data.text.MARKS` stands in the texts: log2(1 + count), so that one mark is 1.

    Arguments as of `word_counts`.

    Returns:
        (N, 3) float32, zeros where the row is.
    """
    return np.where(rows.any(axis=1, keepdims=True), np.log2(1 + count_marks(transcripts)), 0).astype("float32")


def with_distances(features, speaker, dialogs):
    """Standardised features, and beside each its distance from the mean of the speaker in the dialog so far.

    Args:
        features: (N, A) standardised; a row of NaN has no sound, and both its parts become zeros.
        speaker: (N,) ints.
        dialogs: slices; an utterance sees itself and the earlier rows of its slice.

    Returns:
        (N, 2 A) float32.
    """
    heard = ~np.isnan(features).any(axis=1)
    features = np.where(heard[:, None], np.clip(features, -LARGEST_FEATURE, LARGEST_FEATURE), 0)
    distances = np.zeros_like(features)
    for rows in dialogs:
        for one in np.unique(speaker[rows]):
            places = rows.start + np.flatnonzero((speaker[rows] == one) & heard[rows])
            count = np.arange(1, len(places) + 1)[:, None]
            distances[places] = features[places] - np.cumsum(features[places], axis=0) / (count + PRIOR_ROWS)
    return np.concatenate([features, distances], axis=1).astype("float32")


@dataclass(frozen=True)
class Sound:
    """Acoustic features and timing of utterances as 2 (A + 2) columns; `scaler` is of the A + 2."""

    scaler: Scaler

    @classmethod
    def fit(cls, corpus, training, dialogs):
        """On the rows `training` of a corpus; `dialogs` are the slices that an utterance may be judged by."""
        timing = timing_features(corpus.start_s, corpus.end_s, dialogs)

        def parts():
            for rows in (training[part] for part in blocks(len(training))):
                yield np.concatenate([np.asarray(corpus.audio[rows], "float64"), timing[rows]], axis=1)

        return cls(Scaler.fit_parts(parts, (*corpus.audio_names, *TIMING_NAMES)))

    @property
    def audio_names(self):
        return self.scaler.names[: -len(TIMING_NAMES)]

    def rows(self, utterances, speaker, dialogs):
        """(N, 2 (A + 2)) float32 of a corpus or `systems.base.Utterances`."""
        return with_distances(self.scaler.transform(_raw(utterances, dialogs)), speaker, dialogs)

    def scaled(self, utterance, last_end_s=None):
        """(A + 2,) float32 of a single utterance, `last_end_s` the end of the one ahead of it, or None."""
        raw = _raw(utterance, [slice(0, 1)])
        if last_end_s is not None:
            raw[0, -1] = np.clip(utterance.start_s[0] - last_end_s, -3, 6)
        return self.scaler.transform(raw)[0]


def _raw(utterances, dialogs):
    timing = timing_features(utterances.start_s, utterances.end_s, dialogs)
    return np.concatenate([np.asarray(utterances.audio, "float64"), timing], axis=1)


@dataclass(frozen=True)
class Encoded:
    """The vectors of a text encoder, standardised on the training utterances; `identity` says which encoder."""

    identity: EncoderFiles
    scaler: Scaler

    @classmethod
    def fit(cls, corpus, training):
        names = map(str, range(corpus.text.shape[1]))
        parts = [training[part] for part in blocks(len(training))]
        return cls(corpus.text_encoder, Scaler.fit_parts(lambda: (corpus.text[rows] for rows in parts), names))

    def rows(self, vectors, transcripts):
        """(N, T) float32 from the encoder's (N, T); zeros where nothing is said."""
        return _standardised(self.scaler, vectors, np.array([bool(tokenize(line)) for line in transcripts], bool))


@dataclass(frozen=True)
class Words:
    """The mean GloVe vector of an utterance's known words, standardised.

    `vocabulary` are W words, `vectors` (W, D) theirs; a word that GloVe lacks may have one from its parts
    (`data.text.word_parts`). `scaler` is of the training utterances that have a known word.
    """

    vocabulary: tuple
    vectors: np.ndarray
    scaler: Scaler

    @classmethod
    def fit(cls, transcripts, glove):
        """On training transcripts, with the vectors of a GloVe file."""
        vectors = known_vectors({word for line in transcripts for word in tokenize(line)}, glove)
        vocabulary = tuple(sorted(vectors))
        stacked = np.array([vectors[word] for word in vocabulary], "float32").reshape(-1, WORD_DIM)

        def parts():
            for part in blocks(len(transcripts)):
                raw, known = _mean_vectors(transcripts[part], vectors)
                yield raw[known > 0]

        spoken = any(len(part) for part in parts())
        scaler = Scaler.fit_parts(parts if spoken else lambda: [np.zeros((1, WORD_DIM))], WORD_COLUMNS)
        return cls(vocabulary, stacked, scaler)

    @functools.cached_property
    def known(self):
        """{word: (D,)} of the vocabulary."""
        return dict(zip(self.vocabulary, self.vectors, strict=True))

    def rows(self, transcripts, further=types.MappingProxyType({})):
        """The utterances' rows, zeros where no word is known.

        Args:
            transcripts: N texts.
            further: {word: (D,)} of words that are not in the vocabulary, as of `known_vectors`.

        Returns:
            (N, D) float32, and (N,) the share of known words, NaN where there is no word.
        """
        raw, known = _mean_vectors(transcripts, collections.ChainMap(self.known, further))
        return _standardised(self.scaler, raw, known > 0), known


def _standardised(scaler, rows, there):
    """(N, F) float32: standardised and cut at the largest, zeros but where `there` (N,) is true."""
    scaled = np.clip(scaler.transform(rows), -LARGEST_FEATURE, LARGEST_FEATURE)
    return np.where(there[:, None], scaled, 0).astype("float32")


def known_vectors(words, glove):
    """{word: (D,) float32} of the words that a GloVe file has, or has the parts of."""
    parts = {part for word in words for several in word_parts(word) for part in several}
    found = read_glove(glove, set(words) | parts)
    return {word: found[word] for word in words if word in found} | vectors_from_parts(sorted(words), found)


def _mean_vectors(transcripts, vectors):
    """(N, D) float64 mean vectors of the known words, and (N,) the share of words that are known."""
    means, known = np.zeros((len(transcripts), WORD_DIM)), np.full(len(transcripts), np.nan)
    for row, transcript in enumerate(transcripts):
        words = tokenize(transcript)
        found = [vectors[word] for word in words if word in vectors]
        if words:
            known[row] = len(found) / len(words)
        if found:
            means[row] = np.mean(found, axis=0, dtype="float64")
    return means, known
