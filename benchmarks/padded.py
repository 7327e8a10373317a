"""The networks as the paper has them: plain Keras layers on zero-padded rows, for comparison alone.

Their weights stand in the order of those of `model.py`, so `set_weights(network.get_weights())` copies them.
"""

import keras

from attention import MutualCorrelationAttention, SubViewAttention

RELEASED_VIEWS = [(10, 20)] * 4
PAPER_VIEWS = [(10, 20), (8, 16), (4, 16), (4, 8)]


def padded_fusion(variant="released", context_length=167):
    """`model.fusion_network` as a model of [(B, context_length, 200) audio, text] giving (B, 10)."""
    rows = inputs = [keras.Input((context_length, 200)), keras.Input((context_length, 200))]
    for sizes in RELEASED_VIEWS if variant == "released" else PAPER_VIEWS:
        rows = [_normalised(one) for one in MutualCorrelationAttention(*sizes)(rows)]
    hidden = keras.layers.Concatenate()(rows)
    if variant == "released":
        hidden = keras.layers.GlobalMaxPooling1D()(_normalised(keras.layers.Dense(256)(hidden)))
        for units in (64, 16):
            hidden = _normalised(keras.layers.Dense(units)(hidden))
    else:
        hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(inputs, keras.layers.Dense(10)(hidden))


def padded_text(num_words, num_tokens=50):
    """`model.text_branch` as a model of (B, num_tokens) token ids giving (B, 10)."""
    tokens = keras.Input((num_tokens,), dtype="int32")
    rows = keras.layers.Embedding(num_words, 200)(tokens)
    for _ in range(2):
        rows = _normalised(SubViewAttention(10, 20)(rows))
    return keras.Model(tokens, keras.layers.Dense(10)(keras.layers.GlobalMaxPooling1D()(rows)))


def _normalised(rows):
    return keras.layers.Activation("tanh")(keras.layers.BatchNormalization()(rows))
