"""A plain LSTM on the very inputs of our causal system: what its attention layers are worth.

An utterance is answered from itself and its past, as there; members, recipe, left-out modalities and the windows of a
long dialog are the same.
"""

import keras

from systems.causal import DialogRecogniser, Members
from systems.causal.network import HIDDEN_DROPOUT, INPUT_DROPOUT, WIDTH, dialog_inputs


def lstm_network(num_audio, num_text, num_emotions):
    """Words and sound side by side, dropout, one LSTM of 200, dropout, Dense C, softmax; arguments as `causal_network`.

    Returns:
        A model of {"audio": (B, H, num_audio), "text": (B, H, num_text), "speaker": (B, H)}, as far as they are there,
        giving (B, H, C) vote shares; who speaks is not read. Padding rows stand at the end.
    """
    inputs, speaker = dialog_inputs(num_audio, num_text)
    rows = keras.ops.concatenate(list(inputs.values()), axis=-1)
    states = keras.layers.LSTM(WIDTH, return_sequences=True, name="lstm")(keras.layers.Dropout(INPUT_DROPOUT)(rows))
    outputs = keras.layers.Dense(num_emotions, "softmax", kernel_initializer="he_uniform", name="emotions")(
        keras.layers.Dropout(HIDDEN_DROPOUT)(states)
    )
    return keras.Model({**inputs, "speaker": speaker}, outputs, name="lstm_network")


class Lstm(Members):
    """The system of this file."""

    recogniser_class = DialogRecogniser

    def network(self, settings, widths, num_emotions):
        return lstm_network(*widths, num_emotions)


SYSTEM = Lstm()
