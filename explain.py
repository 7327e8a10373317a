"""What a trained fusion network attends to, and the correlation factors that it learned (Fig. 5 of the paper).

Letters of the shapes: H utterances of a context, V sub-views, D sub-view size.
"""

import keras
import numpy as np

import causal
import model
from attention import MutualCorrelationAttention
from data.contexts import context_rows, dialog_rows


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
        rows (0 where there are none); and the number of padding rows. The causal variant has no padding rows; shown
        are the scores of its first fusion network on the branches that were trained on all sessions.
    """
    network = recogniser.networks["fusion"]
    layer = correlation_layers(network)[-1]
    inputs_of_layer = keras.Model(network.input, layer.input[:2])  # [audio, text]
    if recogniser.members:
        rows = _causal_rows(recogniser, context)
        _, scores = layer(inputs_of_layer.predict_on_batch(rows), speaker=rows["speaker"], return_scores=True)
        padded_length = 0
    else:
        vectors = recogniser.run_branches(context)[0]
        rows = context_rows([vectors["audio"]], [vectors["text"]], network.context_length)
        packs = {name: rows[name] for name in ("multiplicity", "segment")}
        _, scores = layer(inputs_of_layer.predict_on_batch(rows), **packs, return_scores=True)
        padded_length = network.context_length
    num_utterances, num_padding = len(context), max(padded_length - len(context), 0)
    of_last = {}
    for modality, one in zip(("audio", "text"), scores, strict=True):
        views = np.asarray(one)[0, :, num_utterances - 1]  # (V, H'), query: the utterance itself
        padding = views[:, num_utterances : num_utterances + 1] if num_padding else np.zeros((len(views), 1))
        of_last[modality] = np.concatenate([views[:, :num_utterances], padding], axis=1)
    return of_last, num_padding


def _causal_rows(recogniser, context):
    """Input of the causal network for one context, by the branches that were trained on all sessions and one fusion."""
    dialogs, member = [slice(0, len(context))], recogniser.members[-1]
    inputs = causal.branch_inputs(recogniser, context, dialogs)
    vectors = dict.fromkeys(causal.BRANCHES, np.zeros((len(context), model.VECTOR_DIM), "float32"))
    for branch, rows in inputs.items():
        vectors[branch], _ = causal.member_outputs(recogniser, branch, member, rows)
    recogniser.networks["fusion"].set_weights(recogniser.fusions[0])
    return dialog_rows(**vectors, speaker=causal.speaker_codes(context.speaker), dialogs=dialogs)


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
