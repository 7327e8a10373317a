"""Batches of contexts: a dialog up to the current utterance, padding computed once, several contexts side by side.

A context of h utterances, zero-padded to `context_length` rows, is h rows and one zero row of multiplicity
`context_length` - h. A batch mixes contexts of all lengths, as the paper's does: batches of like length would give
every length its own batch-norm statistics in training and one common set in prediction, which halves the accuracy.
So that short contexts do not pay for long ones, several share a line of rows (a "pack"), marked by segment numbers.

Letters of the shapes: B contexts, P packs, H rows of a pack, F features.
"""

import keras
import numpy as np

from data.text import PADDING_ID

# Rows of whole dialogs are a multiple of this: TensorFlow and JAX meet few different shapes.
ROW_MULTIPLE = 16


def context_rows(audio, text, context_length):
    """One batch of contexts.

    Args:
        audio: B arrays (h, F), h may differ.
        text: B arrays (h, F), of the same h.
        context_length: rows of the zero-padded dialog; a longer context gets no padding row.

    Returns:
        {"audio": (P, H, F), "text": (P, H, F)} float32 and what `packed` gives.
    """
    lengths = np.array([len(rows) for rows in audio])
    batch, packs, starts = packed(lengths, np.maximum(context_length - lengths, 0))
    for name, contexts in (("audio", audio), ("text", text)):
        batch[name] = np.zeros((*batch["segment"].shape, contexts[0].shape[1]), "float32")
        for context, pack, start in zip(contexts, packs, starts, strict=True):
            batch[name][pack, start : start + len(context)] = context
    return batch


def side_by_side(values, dialogs):
    """(N, ...) values of utterances -> (B, H, ...) of B dialogs, zeros after the shorter ones.

    H is 1 or a multiple of `ROW_MULTIPLE`.
    """
    longest = max(rows.stop - rows.start for rows in dialogs)
    num_rows = 1 if longest == 1 else -(-longest // ROW_MULTIPLE) * ROW_MULTIPLE
    padded = np.zeros((len(dialogs), num_rows, *values.shape[1:]), values.dtype)
    for one, rows in zip(padded, dialogs, strict=True):
        one[: rows.stop - rows.start] = values[rows]
    return padded


def token_rows(ids):
    """One batch of transcripts: the known words, and one padding row for all the other places.

    Unknown words have the padding's id, hence its value in every layer, and are counted with it.

    Args:
        ids: (B, T) token ids, `PADDING_ID` for padding and unknown words.

    Returns:
        {"tokens": (P, H) int32} and what `packed` gives.
    """
    known = ids != PADDING_ID
    lengths = known.sum(axis=1)
    batch, packs, starts = packed(lengths, ids.shape[1] - lengths)
    batch["tokens"] = np.full(batch["segment"].shape, PADDING_ID, "int32")
    for row, mask, length, pack, start in zip(ids, known, lengths, packs, starts, strict=True):
        batch["tokens"][pack, start : start + length] = row[mask]
    return batch


def pack_multiples():
    """What the rows of a pack, and the number of packs, are a multiple of: JAX compiles each new shape, so it gets few.

    Rows that are not there cost as much as others, but on a GPU that is less than compiling.
    """
    if keras.backend.backend() != "jax":
        return 4, 1
    on_cpu = all(name.startswith("cpu") for name in keras.distribution.list_devices())
    return (ROW_MULTIPLE, 2) if on_cpu else (64, 8)


def packed(lengths, padding):
    """Lays contexts side by side into packs of equally many rows, longest first, each where it first fits.

    Args:
        lengths: (B,) rows of each context.
        padding: (B,) how many equal padding rows follow them; one row of that multiplicity, none for 0.

    Returns:
        A dict of "multiplicity" (P, H) float32, how many rows each row stands for, 0 = not there; "segment" (P, H)
        int32, the context that the row belongs to, B where it is not there; "lengths" (B,) float32. Besides,
        (B,) pack and (B,) first row of each context.
    """
    sizes = lengths + (padding > 0)
    row_multiple, pack_multiple = pack_multiples()
    num_rows = int(-(-sizes.max() // row_multiple) * row_multiple)
    filled = []  # rows taken in each pack
    packs, starts = np.zeros((2, len(lengths)), "int64")
    for i in np.argsort(-sizes, kind="stable"):
        pack = next((p for p, rows in enumerate(filled) if rows + sizes[i] <= num_rows), len(filled))
        if pack == len(filled):
            filled.append(0)
        packs[i], starts[i] = pack, filled[pack]
        filled[pack] += int(sizes[i])
    shape = (-(-len(filled) // pack_multiple) * pack_multiple, num_rows)
    multiplicity, segment = np.zeros(shape, "float32"), np.full(shape, len(lengths), "int32")
    for i, (pack, start) in enumerate(zip(packs, starts, strict=True)):
        segment[pack, start : start + sizes[i]] = i
        multiplicity[pack, start : start + lengths[i]] = 1
        if padding[i] > 0:
            multiplicity[pack, start + lengths[i]] = padding[i]
    batch = {"multiplicity": multiplicity, "segment": segment, "lengths": lengths.astype("float32")}
    return batch, packs, starts


def shuffled_batches(num, batch_size, order):
    """Cuts `num` samples, in an order drawn from the numpy random generator `order`, into index arrays."""
    shuffled = order.permutation(num)
    return [shuffled[start : start + batch_size] for start in range(0, num, batch_size)]


def similar_length_batches(lengths, batch_size, order, jitter=12):
    """Cuts dialogs of `lengths` utterances into index arrays of like length, in an order drawn from `order`.

    Lengths are moved by up to `jitter` before they are sorted, so that the company changes from epoch to epoch. For
    networks without batch norm alone: see the top of this file.
    """
    by_length = np.argsort(lengths + order.uniform(-jitter, jitter, len(lengths)), kind="stable")
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    return [batches[i] for i in order.permutation(len(batches))]


def length_batches(lengths, batch_size):
    """Cuts the samples into index arrays of like length: the least work where nothing depends on the company."""
    by_length = np.argsort(lengths, kind="stable")
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    # The longest first, then the shortest: two batches that differ in every size are all that TensorFlow traces.
    return batches[-1:] + batches[:-1]


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
