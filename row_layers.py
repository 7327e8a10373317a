"""Layers over rows that stand for several equal ones, or for none: batch normalisation and the poolings.

They make it exact to compute the padding of a dialog, or of a transcript, once (see model.py). Several dialogs share a
pack of rows, told apart by segment numbers (`data.contexts`).

Letters of the shape comments: B dialogs or transcripts, P packs, H rows of a pack, F features.
"""

import keras
from keras import ops

_REGISTER = keras.saving.register_keras_serializable(package="mcaf")


@_REGISTER
class RowBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation in which a row of multiplicity m counts m times in mean and variance.

    Same weights, defaults and inference as `keras.layers.BatchNormalization` over the last axis.

    Call arguments:
        inputs: (B, H, F).
        multiplicity: (B, H) floats >= 0; rows of multiplicity 0 do not count.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.input_spec = None  # the base class would demand a single input

    def call(self, inputs, multiplicity, training=False):
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            weights = multiplicity / ops.sum(multiplicity)  # (B, H), sums to one
            mean = ops.einsum("bh,bhf->f", weights, inputs)
            variance = ops.einsum("bh,bhf->f", weights, ops.square(inputs - mean))
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)  # (F,)
        return inputs * scale + (self.beta - mean * scale)


def without_padding(multiplicity, *rows):
    """The multiplicities (B, H), 0 where all `rows` (B, H, F) are zeros, which no utterance's vectors are."""
    there = ops.any(ops.not_equal(ops.concatenate(rows, -1), 0), axis=-1)
    return multiplicity * ops.cast(there, multiplicity.dtype)


@_REGISTER
class RowMaxPooling(keras.layers.Layer):
    """Maximum over the rows of each segment.

    Call arguments:
        inputs: (P, H, F).
        segment: (P, H) ints, B for rows that are not there.
        lengths: (B,) whatever; its size is the number of segments.

    Returns:
        (B, F).
    """

    def call(self, inputs, segment, lengths):
        return ops.segment_max(*_flat_segments(inputs, segment, lengths))[:-1]

    def compute_output_shape(self, inputs_shape, segment_shape, lengths_shape):
        return (lengths_shape[0], inputs_shape[-1])


@_REGISTER
class RowAveragePooling(keras.layers.Layer):
    """Mean over the rows of each segment, each row as often as it stands for.

    Call arguments and result as for `RowMaxPooling`, and multiplicity: (P, H).
    """

    def call(self, inputs, segment, lengths, multiplicity):
        counts = ops.expand_dims(multiplicity, -1)
        total = ops.segment_sum(*_flat_segments(inputs * counts, segment, lengths))
        return total[:-1] / ops.segment_sum(*_flat_segments(counts, segment, lengths))[:-1]

    def compute_output_shape(self, inputs_shape, segment_shape, lengths_shape, multiplicity_shape):
        return (lengths_shape[0], inputs_shape[-1])


def _flat_segments(rows, segment, lengths):
    """Rows and segments without the packs, and the number of segments with the one of absent rows."""
    return ops.reshape(rows, (-1, rows.shape[-1])), ops.reshape(segment, (-1,)), ops.shape(lengths)[0] + 1
