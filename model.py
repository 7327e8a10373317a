"""The networks of the paper: text branch, audio branch and the dyadic fusion network over a dialog.

Section 3 of the paper, Figures 2 and 4; where the released code differs, it is a named variant. A zero-padded row has
the same value in every layer, so a dialog of h utterances is fed as h rows and one padding row of multiplicity
`context_length` - h. `RowBatchNormalization`, the poolings and the attention layers make that exact, in prediction
and in training.

Letters of the shape comments: B samples, H rows (utterances or words), F features, C emotions.
"""

import keras
import numpy as np
from keras import ops

from attention import MutualCorrelationAttention, SubViewAttention
from data.contexts import context_rows, length_batches, token_rows
from data.labels import EMOTIONS
from data.text import PADDING_ID, WORD_DIM

VECTOR_DIM = 200  # an utterance's textual and acoustic vector
CONTEXT_LENGTH = 167  # utterances of IEMOCAP's longest dialog
VARIANTS = ("released", "paper")

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


@_REGISTER
class RowMaxPooling(keras.layers.Layer):
    """Maximum over the rows that are there: (B, H, F) and multiplicity (B, H) -> (B, F)."""

    def call(self, inputs, multiplicity):
        there = ops.expand_dims(multiplicity > 0, -1)
        return ops.max(ops.where(there, inputs, -1e9), axis=1)


@_REGISTER
class RowAveragePooling(keras.layers.Layer):
    """Mean over the rows, each as often as it stands for: (B, H, F) and multiplicity (B, H) -> (B, F)."""

    def call(self, inputs, multiplicity):
        weights = multiplicity / ops.sum(multiplicity, axis=1, keepdims=True)
        return ops.einsum("bh,bhf->bf", weights, inputs)


def text_branch(word_matrix, num_emotions=len(EMOTIONS), activation=None):
    """The text branch (Figure 2): words to a textual vector and to vote shares.

    Embedding, twice [sub-view attention 10 x 20, batch normalisation, tanh], max pooling (layer "vector"), Dense.

    Args:
        word_matrix: (W, 200) first values of the trainable word vectors; row 0 is padding and unknown.
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".

    Returns:
        A model of {"tokens": (B, H) ids, "multiplicity": (B, H)} giving (B, C) vote shares.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    multiplicity = keras.Input((None,), name="multiplicity")
    embedding = keras.layers.Embedding(*word_matrix.shape, name="embedding")
    rows = embedding(tokens)  # (B, H, 200)
    embedding.set_weights([word_matrix])
    for number in (1, 2):
        rows = SubViewAttention(10, 20, name=f"attention_{number}")(rows, multiplicity=multiplicity)
        rows = _normalised(rows, multiplicity, f"{number}")
    vector = RowMaxPooling(name="vector")(rows, multiplicity)  # (B, 200)
    outputs = _emotions(vector, num_emotions, activation)
    return keras.Model({"tokens": tokens, "multiplicity": multiplicity}, outputs, name="text_branch")


def audio_branch(num_features, num_emotions=len(EMOTIONS), activation=None):
    """The audio branch (Figure 2): Dense 1600 and 400, each batch-normalised with tanh, Dense 200 ("vector"), Dense.

    Args:
        num_features: A, columns of the standardised openSMILE features (emo_large: 6552).
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".

    Returns:
        A model of {"features": (B, A)} giving (B, C) vote shares.
    """
    features = keras.Input((num_features,), name="features")
    hidden = features
    for units in (1600, 400):
        hidden = _dense_tanh(hidden, units)
    vector = keras.layers.Dense(VECTOR_DIM, kernel_initializer="he_uniform", name="vector")(hidden)
    outputs = _emotions(vector, num_emotions, activation)
    return keras.Model({"features": features}, outputs, name="audio_branch")


def vector_model(branch):
    """The part of a branch up to its 200-d utterance vector, sharing the branch's weights."""
    return keras.Model(branch.input, branch.get_layer("vector").output, name=f"{branch.name}_vector")


def fusion_network(
    variant="released",
    update="sequential",
    factor="shared",
    context_length=CONTEXT_LENGTH,
    num_emotions=len(EMOTIONS),
    activation=None,
):
    """The dyadic fusion network over the utterances of a dialog up to the one to be classified.

    `variant="released"` (the authors' code, 1,411,258 parameters): four mutual correlation attentions 10 x 20, after
    each, per modality, batch normalisation and tanh; both modalities side by side; Dense 256; max pooling over the
    rows; Dense 64 and 16, all three with batch normalisation and tanh; Dense C.
    `variant="paper"` (Figure 4): sub-views (10, 20), (8, 16), (4, 16), (4, 8), outputs 200, 128, 64, 32 wide; both
    side by side; average pooling over all `context_length` rows; Dense C.

    Args:
        variant: "released" or "paper".
        update: of the correlation factor, "sequential" or "simultaneous".
        factor: "shared", "per_view" or "none".
        context_length: rows that the zero-padded dialog has.
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".

    Returns:
        A model of {"audio": (B, H, 200), "text": (B, H, 200), "multiplicity": (B, H)} giving (B, C) vote shares, with
        the attributes `variant` and `context_length`. `predict_contexts` feeds it.

    Raises:
        ValueError: `variant`, `update` or `factor` is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant!r}")
    audio = keras.Input((None, VECTOR_DIM), name="audio")
    text = keras.Input((None, VECTOR_DIM), name="text")
    multiplicity = keras.Input((None,), name="multiplicity")
    views = [(10, 20)] * 4 if variant == "released" else [(10, 20), (8, 16), (4, 16), (4, 8)]
    rows = [audio, text]
    for number, (num_sub_views, sub_view_dim) in enumerate(views, 1):
        layer = MutualCorrelationAttention(
            num_sub_views, sub_view_dim, update=update, factor=factor, name=f"attention_{number}"
        )
        outputs = layer(rows, multiplicity=multiplicity)
        rows = [_normalised(one, multiplicity, f"{number}_{modality}") for one, modality in _by_modality(outputs)]
    joined = keras.layers.Concatenate(name="joined")(rows)  # (B, H, 400), paper (B, H, 64)
    if variant == "released":
        hidden = keras.layers.Dense(256, kernel_initializer="he_uniform", name="dense_256")(joined)
        hidden = RowMaxPooling(name="pooling")(_normalised(hidden, multiplicity, "256"), multiplicity)  # (B, 256)
        for units in (64, 16):
            hidden = _dense_tanh(hidden, units)
    else:
        hidden = RowAveragePooling(name="pooling")(joined, multiplicity)
    outputs = _emotions(hidden, num_emotions, activation)
    network = keras.Model({"audio": audio, "text": text, "multiplicity": multiplicity}, outputs, name="fusion_network")
    network.variant, network.context_length = variant, context_length
    return network


def _by_modality(outputs):
    return zip(outputs, ("audio", "text"), strict=True)


def _normalised(rows, multiplicity, name):
    rows = RowBatchNormalization(name=f"norm_{name}")(rows, multiplicity)
    return keras.layers.Activation("tanh", name=f"tanh_{name}")(rows)


def _emotions(hidden, num_emotions, activation):
    return keras.layers.Dense(num_emotions, activation, kernel_initializer="he_uniform", name="emotions")(hidden)


def _dense_tanh(inputs, units):
    hidden = keras.layers.Dense(units, kernel_initializer="he_uniform", name=f"dense_{units}")(inputs)
    hidden = keras.layers.BatchNormalization(name=f"norm_{units}")(hidden)
    return keras.layers.Activation("tanh", name=f"tanh_{units}")(hidden)


def predict_tokens(model, ids, batch_size=256):
    """A text branch's, or its vector model's, output for (N, T) token ids: (N, ...) float32."""
    outputs = np.zeros((len(ids), model.output_shape[-1]), "float32")
    for chosen in length_batches((ids != PADDING_ID).sum(axis=1), batch_size):
        outputs[chosen] = model.predict_on_batch(token_rows(ids[chosen]))
    return outputs


def predict_features(model, features, batch_size=1024):
    """An audio branch's, or its vector model's, output for (N, A) standardised features: (N, ...) float32."""
    starts = range(0, len(features), batch_size)
    outputs = [model.predict_on_batch({"features": features[start : start + batch_size]}) for start in starts]
    return np.concatenate(outputs) if outputs else np.zeros((0, model.output_shape[-1]), "float32")


def predict_contexts(network, audio, text, batch_size=64):
    """Vote shares of each context, equal to the zero-padded network's.

    Args:
        network: of `fusion_network`.
        audio: N arrays (h, 200), the acoustic vectors of a dialog's utterances 1..h; h may differ between contexts.
        text: N arrays (h, 200), the textual vectors of the same utterances.
        batch_size: contexts per step; contexts of like length share a step.

    Returns:
        (N, C) float32, in the order of the contexts.

    Raises:
        ValueError: the lists differ in length, or a context is not (h, 200), h >= 1, in both modalities.
    """
    lengths = _context_lengths(audio, text)
    predictions = np.zeros((len(lengths), network.output_shape[-1]), "float32")
    for chosen in length_batches(lengths, batch_size):
        rows = context_rows([audio[i] for i in chosen], [text[i] for i in chosen], network.context_length)
        predictions[chosen] = network.predict_on_batch(rows)
    return predictions


def _context_lengths(audio, text):
    if len(audio) != len(text):
        raise ValueError(f"audio and text must have equally many contexts. Received: {len(audio)} and {len(text)}")
    for number, (a, t) in enumerate(zip(audio, text, strict=True)):
        if np.shape(a) != np.shape(t) or np.ndim(a) != 2 or len(a) < 1 or np.shape(a)[1] != VECTOR_DIM:
            raise ValueError(
                f"context {number} must be (h, {VECTOR_DIM}), h >= 1, in both modalities. "
                f"Received: audio {np.shape(a)}, text {np.shape(t)}"
            )
    return np.array([len(a) for a in audio], "int64")
