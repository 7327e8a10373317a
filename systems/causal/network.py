"""The causal network: a dialog is read once, and each utterance is answered from its own row, which sees its past.

1. Per modality, dropout, Dense 200, tanh: (B, H, 200).
2. Layer normalisation; twice [layer normalisation, `CausalMutualCorrelationAttention` 10 x 20, tanh, residual].
3. Both modalities side by side, layer normalisation, Dense 128, tanh, dropout, Dense C, softmax for each row.

Letters of the shape comments: B dialogs, H rows (utterances), F features, V sub-views, C emotions.
"""

import keras
import numpy as np
from keras import ops

from attention import MutualCorrelationAttention, attend
from data.contexts import length_batches, side_by_side
from tracing import predict_batch

MODALITIES = ("audio", "text")
WIDTH = 200
NUM_SUB_VIEWS, SUB_VIEW_DIM, NUM_LAYERS = 10, 20, 2
INPUT_DROPOUT, DROPOUT, HIDDEN_DROPOUT = 0.3, 0.3, 0.4
# A key lies 0, 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-16, 17-24, 25-32, 33-64, 65 or more rows before the query.
DISTANCE_EDGES = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 65)
# Of the learned distance biases: Adam moves a weight by about its rate a step, too slow for a score at 1e-3.
BIAS_SCALE = 10.0
# Of a dialog that the network sees at once: its scores are H x H for each sub-view.
MOST_ROWS = 512


@keras.saving.register_keras_serializable(package="mcaf")
class CausalMutualCorrelationAttention(MutualCorrelationAttention):
    """Mutual correlation over a dialog in which each utterance sees itself and its past, how far back, and whose.

    As `MutualCorrelationAttention` with `causal=True`, and BIAS_SCALE x bias[same speaker?, distance] is added to the
    scores of each sub-view, one learned table (2 x 13, V) per modality. It starts as a recency slope, steeper from
    sub-view to sub-view; odd sub-views start one lower for the query's own speaker, even ones for the other.

    Call arguments:
        inputs: [audio, text], both (B, H, F) floats. Padding rows stand at the end, where no earlier row sees them.
        speaker: (B, H) ints that tell the speakers of a dialog apart.
        return_scores: whether to return the scores too.

    Returns:
        As `MutualCorrelationAttention`.
    """

    def __init__(self, num_sub_views, sub_view_dim, **kwargs):
        super().__init__(num_sub_views, sub_view_dim, **kwargs | {"causal": True, "factor_initializer": "zeros"})

    def build(self, input_shape):
        super().build(input_shape)
        shape = (2 * (len(DISTANCE_EDGES) + 1), self.num_sub_views)
        self.audio_bias, self.text_bias = (
            self.add_weight(name=f"{modality}_bias", shape=shape, initializer=recency) for modality in ("audio", "text")
        )

    def call(self, inputs, speaker, return_scores=False):
        # All rows of a batch as those of one dialog where rows do not meet: the gradient is then one product.
        num, length = ops.shape(speaker)
        lined_up = self.project([ops.reshape(rows, (1, -1, rows.shape[-1])) for rows in inputs])
        outputs, scores = [], []
        parts = zip(lined_up, self.biases(speaker), (self.audio_maps, self.text_maps), strict=True)
        for projected, bias, maps in parts:
            projected = [ops.reshape(rows, (num, length, *rows.shape[2:])) for rows in projected]
            rows, row_scores = attend(*projected, causal=True, bias=bias)
            mapped = ops.matmul(ops.reshape(rows, (-1, rows.shape[-1])), maps[3])
            outputs.append(ops.reshape(mapped, (num, length, mapped.shape[-1])))  # (B, H, O)
            scores.append(row_scores)
        return (outputs, scores) if return_scores else outputs

    def biases(self, speaker):
        """What distance and (B, H) speakers add to the scores: (B, V, H, H), queries before keys, for audio and text.

        Keys after the query have the bias of distance 0.
        """
        rows = ops.arange(ops.shape(speaker)[1])
        distance = ops.expand_dims(rows, 1) - rows  # (H, H)
        edges = ops.convert_to_tensor(np.array(DISTANCE_EDGES, "int32"))
        bucket = ops.sum(ops.cast(ops.greater_equal(ops.expand_dims(distance, -1), edges), "int32"), axis=-1)
        # A product with one-hot rows: its gradient is a product too, where that of a lookup is a slow scatter.
        chosen = BIAS_SCALE * ops.one_hot(bucket, len(DISTANCE_EDGES) + 1)  # (H, H, 13)
        same = ops.equal(ops.expand_dims(speaker, 2), ops.expand_dims(speaker, 1))[:, None]  # (B, 1, H, H)
        by_speaker = (2, len(DISTANCE_EDGES) + 1, self.num_sub_views)
        biases = []
        for table in (self.audio_bias, self.text_bias):
            either = ops.einsum("qhi,siv->svqh", chosen, ops.reshape(table, by_speaker))
            biases.append(ops.where(same, either[1], either[0]))
        return biases


def recency(shape, dtype=None):
    """First value of the distance biases: see `CausalMutualCorrelationAttention`."""
    views = np.arange(shape[1])
    slope = 2 * views / max(shape[1] - 1, 1)  # per doubling of the distance
    doublings = np.log2(1 + np.array((0, *DISTANCE_EDGES)))
    lower = np.stack([views % 2 == 0, views % 2 == 1])  # (2, V): the other speaker, the same
    bias = -doublings[:, None] * slope - lower[:, None]  # (2, distances, V)
    return ops.convert_to_tensor(bias.reshape(shape) / BIAS_SCALE, dtype)


def dialog_inputs(num_audio, num_text):
    """({name: input} of the modalities that have columns, the input of the speakers) of a network over dialogs."""
    widths = zip(MODALITIES, (num_audio, num_text), strict=True)
    inputs = {name: keras.Input((None, width), name=name) for name, width in widths if width}
    return inputs, keras.Input((None,), dtype="int32", name="speaker")


def causal_network(num_audio, num_text, factor, update, num_emotions):
    """The network of this file.

    Args:
        num_audio: columns of the acoustic input; 0 for a network that has only words.
        num_text: columns of the textual input; 0 for a network that has only sound.
        factor, update: as of `attention.MutualCorrelationAttention`.
        num_emotions: C.

    Returns:
        A model of {"audio": (B, H, num_audio), "text": (B, H, num_text), "speaker": (B, H) ints}, as far as they are
        there, giving (B, H, C) vote shares; padding rows stand at the end.
    """
    inputs, speaker = dialog_inputs(num_audio, num_text)
    rows = {}
    for name, one in inputs.items():
        dense = keras.layers.Dense(WIDTH, "tanh", name=f"{name}_dense")(keras.layers.Dropout(INPUT_DROPOUT)(one))
        normed = keras.layers.LayerNormalization(name=f"input_norm_{name}")(dense)
        rows[name] = keras.layers.Dropout(DROPOUT)(normed)
    absent = ops.zeros_like(next(iter(rows.values())))
    rows = {name: rows.get(name, absent) for name in MODALITIES}
    for number in range(1, NUM_LAYERS + 1):
        normed = [keras.layers.LayerNormalization(name=f"norm_{number}_{name}")(one) for name, one in rows.items()]
        layer = CausalMutualCorrelationAttention(
            NUM_SUB_VIEWS, SUB_VIEW_DIM, update=update, factor=factor, name=f"attention_{number}"
        )
        for name, new in zip(MODALITIES, layer(normed, speaker=speaker), strict=True):
            rows[name] = rows[name] + keras.layers.Dropout(DROPOUT)(ops.tanh(new))
    joined = keras.layers.LayerNormalization(name="norm_joined")(ops.concatenate(list(rows.values()), axis=-1))
    hidden = keras.layers.Dense(128, "tanh", name="dense_128")(joined)  # (B, H, 128)
    outputs = keras.layers.Dense(num_emotions, "softmax", kernel_initializer="he_uniform", name="emotions")(
        keras.layers.Dropout(HIDDEN_DROPOUT)(hidden)
    )
    return keras.Model({**inputs, "speaker": speaker}, outputs, name="causal_network")


def dialog_rows(arrays, dialogs):
    """One batch of whole dialogs, {name: (B, H, ...)}, from {name: (N, ...)} and B slices; zeros after shorter ones."""
    return {name: side_by_side(values, dialogs) for name, values in arrays.items()}


def windows(rows):
    """What the network sees at once of a dialog, so that its memory does not grow with the square of the length.

    All of one with up to MOST_ROWS utterances. Of a longer one, each utterance is answered from itself and the 256 to
    511 before it: half of MOST_ROWS, to one less than all.

    Returns:
        (slice that is seen, first row that is answered) pairs.
    """
    half = MOST_ROWS // 2
    first = slice(rows.start, min(rows.start + MOST_ROWS, rows.stop))
    starts = range(rows.start + MOST_ROWS, rows.stop, half)
    return [(first, rows.start), *((slice(start - half, min(start + half, rows.stop)), start) for start in starts)]


def predict_dialogs(network, arrays, dialogs, batch_rows=1024):
    """Vote shares of each utterance; the network runs over each dialog once, or over its `windows`.

    Args:
        network: of `causal_network`.
        arrays: {input name: (N, ...)}, dialog by dialog.
        dialogs: the slices of the dialogs.
        batch_rows: rows per step, at least one dialog or window.

    Returns:
        (N, C) float32; utterances of no dialog stay 0.
    """
    pieces = [piece for rows in dialogs for piece in windows(rows)]
    lengths = np.array([rows.stop - rows.start for rows, _ in pieces])
    predictions = np.zeros((len(arrays["speaker"]), network.output_shape[-1]), "float32")
    for chosen in length_batches(lengths, max(1, batch_rows // int(lengths.max(initial=1)))):
        batch = predict_batch(network, dialog_rows(arrays, [pieces[i][0] for i in chosen]))  # (B, H, C)
        for i, answer in zip(chosen, batch, strict=True):
            rows, first = pieces[i]
            predictions[first : rows.stop] = answer[first - rows.start : rows.stop - rows.start]
    return predictions
