"""The paper's peers as plain scikit-learn and Keras: networks, and one function each that trains it.

A trainer takes `tuning.Material` and a point of its grid, and gives a function from rows of the corpus to predictions,
and details for the protocol.

Letters of the shapes: N utterances, B contexts, H rows of the longest one, F features, C emotions.
"""

import functools

import keras
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from data.contexts import dialog_contexts, shuffled_batches, side_by_side
from data.labels import EMOTIONS, is_tie
from experiments.catalogue import CONTENT
from scoring.metrics import LOSSES
from storage.files import InputError
from tracing import predict_batch

VECTOR_DIM = 200  # per modality
BC_LSTM_UNITS = 300  # per direction, as Poria et al. 2017; the paper gives no size
# BC-LSTM's backward half must not see what comes after the utterance, so it reads each context anew: one pass per
# utterance, not per dialog. Of longer contexts it reads the last rows alone.
BC_LSTM_WINDOW = 10
_DIALOGS_PER_STEP, _UTTERANCES_PER_STEP = 8, 64


def labelled(material):
    """Training utterances and their classes for classifiers: ties are 'other', or left out."""
    rows = material.task.train if material.ties == "other" else untied(material.task, material.task.train)
    return rows, material.targets[rows].argmax(axis=1)


def untied(task, rows):
    """Those of the rows that have a majority."""
    return rows[~is_tie(task.shares[rows])]


def one_hot(labels, num_emotions):
    return np.eye(num_emotions, dtype="float32")[labels]


def train_majority(material, seed, **_):
    """The most frequent training label, ties left out: the floor."""
    rows = untied(material.task, material.task.train)
    answer = np.bincount(material.task.shares[rows].argmax(axis=1)).argmax()
    num_emotions = len(material.task.emotions)
    return lambda rows: one_hot(np.full(len(rows), answer), num_emotions), {"answer": material.task.emotions[answer]}


def train_svm(material, seed, C, **_):
    """A support vector machine with the Gaussian kernel; it has no randomness, so seeds differ in the vectors alone."""
    rows, classes = labelled(material)
    machine = SVC(C=C, gamma="scale").fit(material.vectors[rows], classes)
    return lambda rows: one_hot(machine.predict(material.vectors[rows]), len(material.task.emotions)), {}


def train_random_forest(material, seed, min_samples_leaf, **_):
    """500 trees."""
    rows, classes = labelled(material)
    forest = RandomForestClassifier(500, min_samples_leaf=min_samples_leaf, random_state=seed)
    forest.fit(material.vectors[rows], classes)

    def predict(rows):
        shares = np.zeros((len(rows), len(material.task.emotions)), "float32")
        shares[:, forest.classes_] = forest.predict_proba(material.vectors[rows])
        return shares

    return predict, {}


def train_lstm(material, seed, units, learning_rate, epochs, patience, directions=1):
    """An LSTM over dialogs: its output at an utterance is that for the context up to there, so a dialog is one pass.

    A batch is some dialogs, zero-padded at the end, where no earlier output sees it; padding has weight 0. With two
    `directions` an utterance sees all of its dialog.
    """
    keras.utils.set_random_seed(seed)
    network = lstm(units, len(material.task.emotions), material.activation, material.vectors.shape[1], directions)
    task, learned = material.task, np.zeros(len(material.task.corpus), "float32")
    learned[task.train if material.ties != "left-out" else untied(task, task.train)] = 1
    training = [rows for rows in task.dialogs.values() if learned[rows].any()]

    def steps(order):
        for chosen in shuffled_batches(len(training), _DIALOGS_PER_STEP, order):
            dialogs = [training[i] for i in chosen]
            vectors, targets, weights = (
                side_by_side(values, dialogs) for values in (material.vectors, material.targets, learned)
            )
            # The loss is divided by all rows of the batch: the weights make it the mean over utterances.
            yield vectors, targets, weights * (weights.size / max(weights.sum(), 1))

    def predict(rows):
        found = np.zeros_like(material.targets)
        for name in dict.fromkeys(task.corpus.dialog_id[rows]):
            dialog = task.dialogs[str(name)]
            answer = predict_batch(network, side_by_side(material.vectors, [dialog]))[0]
            found[dialog] = answer[: dialog.stop - dialog.start]
        return found[rows]

    return predict, fit_network(material, network, steps, predict, seed, learning_rate, epochs, patience)


def train_bc_lstm(material, seed, units, learning_rate, epochs, patience):
    """BC-LSTM over the last BC_LSTM_WINDOW utterances of each context."""
    keras.utils.set_random_seed(seed)
    network = bc_lstm(len(material.task.emotions), material.activation, units)

    def batch(rows):
        contexts = dialog_contexts(material.vectors, material.task.dialogs, rows)
        return {"vectors": keras.utils.pad_sequences(contexts, BC_LSTM_WINDOW, "float32", "post")}  # cuts at the front

    return train_on_utterances(material, network, batch, seed, learning_rate, epochs, patience)


def train_tfn(material, seed, hidden, learning_rate, epochs, patience):
    """TFN on the utterance's own vectors."""
    keras.utils.set_random_seed(seed)
    network = tfn(hidden, len(material.task.emotions), material.activation)

    def batch(rows):
        return {"audio": material.vectors[rows, :VECTOR_DIM], "text": material.vectors[rows, VECTOR_DIM:]}

    return train_on_utterances(material, network, batch, seed, learning_rate, epochs, patience)


def train_on_utterances(material, network, batch, seed, learning_rate, epochs, patience):
    """Trains a network whose input for some utterances is `batch(rows)`."""

    def steps(order):
        for chosen in shuffled_batches(len(material.task.train), _UTTERANCES_PER_STEP, order):
            yield batch(material.task.train[chosen]), material.targets[material.task.train[chosen]], None

    def predict(rows):
        parts = [rows[start : start + 256] for start in range(0, len(rows), 256)]
        return np.concatenate([predict_batch(network, batch(part)) for part in parts])

    return predict, fit_network(material, network, steps, predict, seed, learning_rate, epochs, patience)


TRAINERS = {
    "majority": train_majority,
    "svm": train_svm,
    "random_forest": train_random_forest,
    "ef_lstm": train_lstm,
    "bc_lstm": train_bc_lstm,
    "tfn": train_tfn,
} | {peer: functools.partial(train_lstm, directions=one["directions"]) for peer, one in CONTENT["plain_peers"].items()}


def fit_network(material, network, steps, predict, seed, learning_rate, epochs, patience):
    """Trains with Adam until the dev loss has not fallen for `patience` epochs; leaves the best weights.

    Args:
        material: `tuning.Material`.
        network: not compiled.
        steps: function from a random generator to an epoch's (input, targets, weights or None).
        predict: function from rows to predictions of the network.
        seed: of the data order.
        learning_rate, epochs, patience: numbers.

    Returns:
        {"epochs", "best_epoch" (from 1), "best_dev_loss"}.

    Raises:
        InputError: a dev loss is no number.
    """
    loss = {"mse": "mean_squared_error", "cross_entropy": "categorical_crossentropy"}[material.loss]
    network.compile(keras.optimizers.Adam(learning_rate), loss, jit_compile=False)
    network.optimizer.build(network.trainable_variables)  # else the first step is traced twice, as it makes them
    best = {"epochs": 0, "best_epoch": 0, "best_dev_loss": float("inf")}
    weights = network.get_weights()
    dev = material.task.dev if material.ties != "left-out" else untied(material.task, material.task.dev)
    for epoch in range(1, epochs + 1):
        for inputs, targets, sample_weight in steps(np.random.default_rng([seed, epoch])):
            network.train_on_batch(inputs, targets, sample_weight=sample_weight)
        dev_loss = float(LOSSES[material.loss](material.targets[dev], predict(dev)))
        if not np.isfinite(dev_loss):
            raise InputError(f"the dev loss is no number in epoch {epoch} at learning rate {learning_rate}")
        if dev_loss < best["best_dev_loss"]:
            best |= {"best_epoch": epoch, "best_dev_loss": dev_loss}
            weights = network.get_weights()
        best["epochs"] = epoch
        if epoch - best["best_epoch"] >= patience:
            break
    network.set_weights(weights)
    return best


def lstm(units, num_emotions=len(EMOTIONS), activation=None, width=2 * VECTOR_DIM, directions=1):
    """One LSTM of `units` over the vectors of a dialog, both modalities side by side, and Dense C at each utterance.

    On the branches' vectors, `width` 400, it is EF-LSTM (early fusion).

    Returns:
        A model of (B, H, width) giving (B, H, C): at row h the shares after utterances 0..h; with two `directions`,
        each of `units`, after all rows. Rows of zeros are then padding and are skipped.
    """
    vectors = keras.Input((None, width), name="vectors")
    layer = keras.layers.LSTM(units, return_sequences=True, name="lstm")
    if directions == 1:
        states = layer(vectors)
    else:
        states = keras.layers.Bidirectional(layer, name="lstm")(keras.layers.Masking()(vectors))
    return keras.Model(vectors, keras.layers.Dense(num_emotions, activation, name="emotions")(states))


def bc_lstm(num_emotions=len(EMOTIONS), activation=None, units=BC_LSTM_UNITS):
    """BC-LSTM (Poria et al., ACL 2017) as the paper describes it: a bidirectional LSTM over the context.

    The last states of both directions, `units` each, side by side, go to Dense C. Rows of zeros are padding and are
    skipped. `activation` is None for the paper's regression.

    Returns:
        A model of {"vectors": (B, H, 400)}, as `context_vectors` gives them, giving (B, C) vote shares.
    """
    vectors = keras.Input((None, 2 * VECTOR_DIM), name="vectors")
    states = keras.layers.Bidirectional(keras.layers.LSTM(units), name="bc_lstm")(keras.layers.Masking()(vectors))
    return keras.Model({"vectors": vectors}, keras.layers.Dense(num_emotions, activation, name="emotions")(states))


def tfn(hidden, num_emotions=len(EMOTIONS), activation=None):
    """Tensor fusion (Zadeh et al., EMNLP 2017) of text and audio: the outer product of [text; 1] and [audio; 1].

    1. text (B, 200) -> Dense 128, ReLU; audio (B, 200) -> Dense 32, ReLU: the sizes of the original's sub-networks.
    2. A one is put behind each, so that the product holds both vectors themselves: (B, 129) x (B, 33) -> (B, 4257).
    3. Dropout 0.2; Dense `hidden`, ReLU, twice; Dense C.

    Returns:
        A model of {"audio": (B, 200), "text": (B, 200)} giving (B, C).
    """
    inputs = {name: keras.Input((VECTOR_DIM,), name=name) for name in ("audio", "text")}
    sides = []
    for name, units in (("text", 128), ("audio", 32)):
        side = keras.layers.Dense(units, "relu", name=name + "_dense")(inputs[name])
        sides.append(keras.ops.concatenate([side, keras.ops.ones_like(side[:, :1])], axis=1))
    fused = keras.ops.einsum("bt,ba->bta", *sides)  # (B, 129, 33)
    fused = keras.layers.Dropout(0.2)(keras.layers.Flatten()(fused))
    for _ in range(2):
        fused = keras.layers.Dense(hidden, "relu")(fused)
    return keras.Model(inputs, keras.layers.Dense(num_emotions, activation, name="emotions")(fused))


def context_vectors(audio, text):
    """Contexts, B arrays (h, F) of each, as {"vectors": (B, H, 2 F) float32}, zeros after the shorter ones."""
    together = [np.concatenate(pair, axis=1) for pair in zip(audio, text, strict=True)]
    return {"vectors": keras.utils.pad_sequences(together, None, "float32", "post")}
