"""The systems that the paper compares itself with, on the same utterance vectors. So far: BC-LSTM.

Letters of the shapes: B contexts, H rows of the longest one, F features, C emotions.
"""

import keras
import numpy as np

from data.labels import EMOTIONS
from model import VECTOR_DIM

BC_LSTM_UNITS = 300  # per direction, as Poria et al. 2017; the paper gives no size


def bc_lstm(num_emotions=len(EMOTIONS), activation=None):
    """BC-LSTM (Poria et al., ACL 2017) as the paper describes it: a bidirectional LSTM over the context.

    The last states of both directions, side by side, go to Dense C. Rows of zeros are padding and are skipped.

    Args:
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".

    Returns:
        A model of {"vectors": (B, H, 400)}, as `context_vectors` gives them, giving (B, C) vote shares.
    """
    vectors = keras.Input((None, 2 * VECTOR_DIM), name="vectors")
    states = keras.layers.Bidirectional(keras.layers.LSTM(BC_LSTM_UNITS), name="bc_lstm")(
        keras.layers.Masking()(vectors)
    )
    return keras.Model({"vectors": vectors}, keras.layers.Dense(num_emotions, activation, name="emotions")(states))


def context_vectors(audio, text):
    """One batch of contexts: acoustic and textual vectors side by side, zeros after the shorter ones.

    Args:
        audio: B arrays (h, F), h may differ.
        text: B arrays (h, F), of the same h.

    Returns:
        {"vectors": (B, H, 2 F) float32}.
    """
    vectors = np.zeros((len(audio), max(map(len, audio)), 2 * audio[0].shape[1]), "float32")
    for row, one_audio, one_text in zip(vectors, audio, text, strict=True):
        row[: len(one_audio)] = np.concatenate([one_audio, one_text], axis=1)
    return {"vectors": vectors}
