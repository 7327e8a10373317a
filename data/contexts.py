"""Batches of contexts: a dialog up to the current utterance, padding computed once.

A context of h utterances, zero-padded to `context_length` rows, is h rows and one zero row of multiplicity
`context_length` - h. Contexts of like length share a batch, so that few rows are fed that are not there.
"""

import numpy as np

from data.text import PADDING_ID

# Rows of a batch are a multiple of this, so that compiling backends meet few different shapes.
ROW_MULTIPLE = 8


def context_rows(audio, text, context_length):
    """One batch of contexts.

    Args:
        audio: B arrays (h, F), h may differ.
        text: B arrays (h, F), of the same h.
        context_length: rows of the zero-padded dialog; a longer context gets no padding row.

    Returns:
        {"audio": (B, H, F), "text": (B, H, F), "multiplicity": (B, H)} float32.
    """
    lengths = np.array([len(rows) for rows in audio])
    multiplicity = row_multiplicity(lengths, context_length)
    batch = {"multiplicity": multiplicity}
    for name, contexts in (("audio", audio), ("text", text)):
        batch[name] = np.zeros((*multiplicity.shape, contexts[0].shape[1]), "float32")
        for rows, context in zip(batch[name], contexts, strict=True):
            rows[: len(context)] = context
    return batch


def dialog_contexts(vectors, dialogs, places, whole=True):
    """The context of each utterance: its dialog's rows up to and with its own, as views.

    Args:
        vectors: (N, F), dialog by dialog.
        dialogs: {dialog id: slice} as of `data.corpus.dialog_slices`.
        places: rows of the utterances asked for.
        whole: False for the utterance's own row alone (the paper's "without context").

    Returns:
        A list of (h, F) views.
    """
    starts = np.zeros(len(vectors), "int64")
    for rows in dialogs.values():
        starts[rows] = rows.start
    return [vectors[(starts[place] if whole else place) : place + 1] for place in places]


def token_rows(ids):
    """One batch of transcripts: the known words, and one padding row for all the other places.

    Unknown words have the padding's id, hence its value in every layer, and are counted with it.

    Args:
        ids: (B, T) token ids, `PADDING_ID` for padding and unknown words.

    Returns:
        {"tokens": (B, H) int32, "multiplicity": (B, H) float32}.
    """
    known = ids != PADDING_ID
    lengths = known.sum(axis=1)
    multiplicity = row_multiplicity(lengths, ids.shape[1])
    tokens = np.full(multiplicity.shape, PADDING_ID, "int32")
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = ids[known]
    return {"tokens": tokens, "multiplicity": multiplicity}


def row_multiplicity(lengths, full_length):
    """How many rows each row stands for: 1 for each of the `lengths`, then once the padding, then 0.

    Returns:
        (B, H) float32 with H a multiple of `ROW_MULTIPLE`.
    """
    num_rows = -(-(lengths.max() + 1) // ROW_MULTIPLE) * ROW_MULTIPLE
    rows = np.arange(num_rows)
    padding = np.maximum(full_length - lengths, 0)[:, None] * (rows == lengths[:, None])
    return ((rows < lengths[:, None]) + padding).astype("float32")


def length_batches(lengths, batch_size, order=None):
    """Cuts the samples into batches of like length.

    Args:
        lengths: (N,) rows of each sample.
        batch_size: samples per batch; the last may be smaller.
        order: numpy random generator that shuffles samples of equal length and then the batches; None for the plain
            order by length.

    Returns:
        A list of index arrays, together every sample once.
    """
    shuffled = np.arange(len(lengths)) if order is None else order.permutation(len(lengths))
    by_length = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    if order is not None:
        batches = [batches[i] for i in order.permutation(len(batches))]
    return batches
