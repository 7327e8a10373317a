"""The networks of the paper: text branch, audio branch and the dyadic fusion network over a dialog.

Section 3 of the paper, Figures 2 and 4; where the released code differs, it is a named variant. A zero-padded row has
the same value in every layer, so a dialog of h utterances is fed as h rows and one padding row of multiplicity
`context_length` - h. The layers of row_layers.py and attention.py make that exact, in prediction and in training.

Letters of the shapes: B dialogs or transcripts, P packs, H rows of a pack (utterances or words), C emotions.
"""

import itertools

import keras
import numpy as np

from attention import MutualCorrelationAttention, SubViewAttention
from data.contexts import context_rows, length_batches, token_rows
from data.labels import EMOTIONS
from data.text import PADDING_ID
from row_layers import RowAveragePooling, RowBatchNormalization, RowMaxPooling, without_padding
from storage.files import InputError
from storage.hdf5 import open_hdf5, plain_dataset, plain_item
from tracing import predict_batch

VECTOR_DIM = 200  # an utterance's textual and acoustic vector
CONTEXT_LENGTH = 167  # utterances of IEMOCAP's longest dialog
VARIANTS = ("released", "paper")


def _packed_inputs():
    """The inputs of `data.contexts.packed`."""
    return {
        "multiplicity": keras.Input((None,), name="multiplicity"),
        "segment": keras.Input((None,), dtype="int32", name="segment"),
        "lengths": keras.Input((), name="lengths"),
    }


def text_branch(word_matrix, num_emotions=len(EMOTIONS), activation=None):
    """The text branch (Figure 2): words to a textual vector and to vote shares.

    Embedding, twice [sub-view attention 10 x 20, batch normalisation, tanh], max pooling (layer "vector"), Dense.

    Args:
        word_matrix: (W, 200) first values of the trainable word vectors; row 0 is padding and unknown.
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".

    Returns:
        A model of what `data.contexts.token_rows` gives, giving (B, C) vote shares.
    """
    tokens, packs = keras.Input((None,), dtype="int32", name="tokens"), _packed_inputs()
    embedding = keras.layers.Embedding(*word_matrix.shape, name="embedding")
    rows = embedding(tokens)  # (P, H, 200)
    embedding.set_weights([word_matrix])
    for number in (1, 2):
        layer = SubViewAttention(10, 20, name=f"attention_{number}")
        rows = layer(rows, multiplicity=packs["multiplicity"], segment=packs["segment"])
        rows = _normalised(rows, packs["multiplicity"], f"{number}")
    vector = RowMaxPooling(name="vector")(rows, packs["segment"], packs["lengths"])  # (B, 200)
    outputs = _emotions(vector, num_emotions, activation)
    return keras.Model({"tokens": tokens, **packs}, outputs, name="text_branch")


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
    for width in (1600, 400):
        hidden = _dense_tanh(hidden, width)
    vector = keras.layers.Dense(VECTOR_DIM, kernel_initializer="he_uniform", name="vector")(hidden)
    outputs = _emotions(vector, num_emotions, activation)
    return keras.Model({"features": features}, outputs, name="audio_branch")


def vector_model(branch):
    """The part of a branch up to its 200-d utterance vector, sharing the branch's weights."""
    return keras.Model(branch.input, branch.get_layer("vector").output, name=f"{branch.name}_vector")


def with_vectors(branch):
    """A branch that gives its utterance vector and its vote shares side by side, for `split_vectors`."""
    vector = branch.get_layer("vector").output
    both = keras.layers.Concatenate()([vector, branch.output])
    return keras.Model(branch.input, both, name=f"{branch.name}_with_vector")


def split_vectors(outputs):
    """(N, 200 + C) -> vectors (N, 200) and vote shares (N, C)."""
    return outputs[:, :VECTOR_DIM], outputs[:, VECTOR_DIM:]


def fusion_network(
    variant="released",
    update="sequential",
    factor="shared",
    context_length=CONTEXT_LENGTH,
    num_emotions=len(EMOTIONS),
    activation=None,
    count_padding=True,
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
        count_padding: whether the statistics of batch normalisation count the padding rows, as the released code's do.

    Returns:
        A model of what `data.contexts.context_rows` gives, giving (B, C) vote shares, with the attributes `variant`
        and `context_length`; `predict_contexts` feeds it.

    Raises:
        ValueError: `variant`, `update` or `factor` is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant!r}")
    audio = keras.Input((None, VECTOR_DIM), name="audio")
    text = keras.Input((None, VECTOR_DIM), name="text")
    packs = _packed_inputs()
    multiplicity, segment, lengths = packs["multiplicity"], packs["segment"], packs["lengths"]
    counted = multiplicity if count_padding else without_padding(multiplicity, audio, text)
    views = [(10, 20)] * 4 if variant == "released" else [(10, 20), (8, 16), (4, 16), (4, 8)]
    rows = [audio, text]
    for number, (num_sub_views, sub_view_dim) in enumerate(views, 1):
        layer = MutualCorrelationAttention(
            num_sub_views, sub_view_dim, update=update, factor=factor, name=f"attention_{number}"
        )
        outputs = layer(rows, multiplicity=multiplicity, segment=segment)
        by_modality = zip(("audio", "text"), outputs, strict=True)
        rows = [_normalised(one, counted, f"{number}_{modality}") for modality, one in by_modality]
    joined = keras.layers.Concatenate(name="joined")(rows)  # (P, H, 400), paper (P, H, 64)
    if variant == "released":
        hidden = keras.layers.Dense(256, kernel_initializer="he_uniform", name="dense_256")(joined)
        hidden = _normalised(hidden, counted, "256")
        hidden = RowMaxPooling(name="pooling")(hidden, segment, lengths)  # (B, 256)
        for units in (64, 16):
            hidden = _dense_tanh(hidden, units)
    else:
        hidden = RowAveragePooling(name="pooling")(joined, segment, lengths, multiplicity)  # (B, 64)
    outputs = _emotions(hidden, num_emotions, activation)
    network = keras.Model({"audio": audio, "text": text, **packs}, outputs, name="fusion_network")
    network.variant, network.context_length = variant, context_length
    return network


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
    """A text branch's, or its vector model's, output for (N, T) token ids: (N, ...) float32; see `token_rows`."""
    outputs = np.zeros((len(ids), model.output_shape[-1]), "float32")
    for chosen in length_batches((ids != PADDING_ID).sum(axis=1), batch_size):
        outputs[chosen] = predict_batch(model, token_rows(ids[chosen]))
    return outputs


def predict_features(model, features, batch_size=1024):
    """An audio branch's, or its vector model's, output for (N, A) standardised features: (N, ...) float32."""
    starts = range(0, len(features), batch_size)
    outputs = [predict_batch(model, {"features": features[start : start + batch_size]}) for start in starts]
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
        predictions[chosen] = predict_batch(network, rows)
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


# Weights of each kind of layer in the released files, in their order there.
_RELEASED_NAMES = {
    MutualCorrelationAttention: ("WQ_a", "WK_a", "WV_a", "WO_a", "WQ_t", "WK_t", "WV_t", "WO_t", "WF_t", "WF_a"),
    keras.layers.BatchNormalization: ("gamma", "beta", "moving_mean", "moving_variance"),
    keras.layers.Dense: ("kernel", "bias"),
}


def load_released_weights(network, path):
    """Copies the fusion weights that the authors published (Keras 2 HDF5) into a released-variant network.

    Layers are taken in the file's order and must have the kinds, weight names, shapes and types of `network`; the
    numbers in their names do not matter. Nothing in the file is executed. Afterwards every weight is compared with
    the file again.

    Args:
        network: `fusion_network("released")`, factor "shared".
        path: weight file, such as the authors' model/fusion_context_5_6.h5; `save_weights` or whole-model form.

    Raises:
        InputError: the file is unreadable or of another architecture; the message says what was expected and what is
            there. The network is then unchanged.
    """
    expected = []  # of each weight: its variable and its name in the file
    for layer in network.layers:
        kind = next((kind for kind in _RELEASED_NAMES if isinstance(layer, kind)), None)
        if kind:
            expected += zip(layer.weights, _RELEASED_NAMES[kind], strict=True)
    with open_hdf5(path, "docs/reproducing.md says which file is theirs") as file:
        root = "model_weights/" if "model_weights" in file else ""
        names = _released_weight_names(file, root)
        _check_released_layout(names, [name for _, name in expected])
        datasets = [plain_dataset(file, name) for name in names]
        for (variable, name), dataset in zip(expected, datasets, strict=True):
            if dataset.shape != tuple(variable.shape) or dataset.dtype != variable.dtype:
                raise InputError(
                    f"'{dataset.name}' is {dataset.dtype} {dataset.shape}, expected for {name} of "
                    f"{variable.path.split('/')[0]}: {variable.dtype} {tuple(variable.shape)}"
                )
        arrays = [dataset[()] for dataset in datasets]
    for (variable, name), array in zip(expected, arrays, strict=True):
        variable.assign(array)
        if not np.array_equal(np.asarray(variable), array):
            raise InputError(f"{path}: {name} of {variable.path} is not in the network as it is in the file")


def _released_weight_names(file, root):
    """Full names of the weights in a Keras 2 file, layer by layer in the file's order."""
    names = []
    for layer in _attribute_names(plain_item(file, root.strip("/")) if root else file, "layer_names"):
        group = plain_item(file, f"{root}{layer}")
        names += [f"{root}{layer}/{weight}" for weight in _attribute_names(group, "weight_names")]
    return names


def _attribute_names(item, attribute):
    if attribute not in item.attrs:
        raise InputError(f"not a Keras 2 weight file (attribute '{attribute}' of '{item.name}' is missing)")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in item.attrs[attribute]]


def _check_released_layout(names, expected):
    """Compares the weights' own names (`.../WQ_a:0`) in order, before anything is read."""
    found = [name.rsplit("/", 1)[-1].split(":")[0] for name in names]
    for number, pair in enumerate(itertools.zip_longest(expected, found, fillvalue="nothing")):
        if pair[0] != pair[1]:
            place = f" at '{names[number]}'" if number < len(names) else ""
            raise InputError(
                f"another architecture: weight {number + 1} should be {pair[0]}, the file has {pair[1]}{place} "
                f"({len(expected)} weights expected, {len(found)} in the file)"
            )
