"""What a trained fusion network attends to, and the correlation factors that it learned (Fig. 5 of the paper).

Letters of the shapes: H utterances of a context, V sub-views, D sub-view size.
"""

import keras
import numpy as np

import model
from attention import MutualCorrelationAttention
from data.contexts import context_rows
from data.text import token_ids


def correlation_layers(network):
    """The mutual correlation layers of a fusion network, first to last."""
    return [layer for layer in network.layers if isinstance(layer, MutualCorrelationAttention)]


def last_attention(recogniser, context):
    """Scores with which the last utterance of a context attends to all of it, in the last mutual correlation layer.

    Args:
        recogniser: `checkpoint.Recogniser` with a fusion network.
        context: `data.corpus.Corpus` of the H utterances up to and with the one to be explained.

    Returns:
        {"audio": (V, H + 1), "text": (V, H + 1)}, each row summing to one, its last column the sum over all padding
        rows (0 where there are none); and the number of padding rows.
    """
    network, networks = recogniser.networks["fusion"], recogniser.networks
    ids = token_ids(context.transcript, recogniser.vocabulary)
    text = model.predict_tokens(model.vector_model(networks["text"]), ids)
    features = recogniser.scaler.transform(context.audio)
    audio = model.predict_features(model.vector_model(networks["audio"]), features)
    rows = context_rows([audio], [text], network.context_length)
    layer = correlation_layers(network)[-1]
    inputs = keras.Model(network.input, layer.input[:2]).predict_on_batch(rows)  # [audio, text]
    _, scores = layer(inputs, multiplicity=rows["multiplicity"], segment=rows["segment"], return_scores=True)
    num_utterances, num_padding = len(context), max(network.context_length - len(context), 0)
    of_last = {}
    for modality, one in zip(("audio", "text"), scores, strict=True):
        views = np.asarray(one)[0, :, num_utterances - 1]  # (V, H'), query: the utterance itself
        padding = views[:, num_utterances : num_utterances + 1] * (num_padding > 0)
        of_last[modality] = np.concatenate([views[:, :num_utterances], padding], axis=1)
    return of_last, num_padding


def learned_factors(network):
    """The learned factors, layer by layer.

    Returns:
        [{"audio": (D, D) or (V, D, D), "text": the same}], empty for a network without factors. "audio" is what the
        text keys are multiplied by before they are added to the audio keys, and the other way round.
    """
    return [
        {"audio": np.asarray(layer.audio_factor), "text": np.asarray(layer.text_factor)}
        for layer in correlation_layers(network)
        if layer.factor != "none"
    ]
