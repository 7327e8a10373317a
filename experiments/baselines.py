"""The systems that the paper compares itself with (Table 1), on the utterance vectors of a finished run.

Majority class, SVM and random forest on the utterance's own vector, acoustic and textual side by side; EF-LSTM, one
LSTM over these vectors of the context; BC-LSTM, one in each direction; TFN, the outer product of the utterance's
textual and acoustic vector. Split, tie rule and metrics are those of evaluate.py. Each is tuned over its grid: a
network keeps the weights of its lowest dev loss, the dev accuracy (without 'other') chooses the grid point, and the
test utterances are scored once.

    python baselines.py runs/iemocap-released-seed0 --out runs/baselines

Letters of the shapes: N utterances, D dialogs, B contexts, H rows of the longest one, F features, C emotions.
"""

import argparse
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import backend
from storage.files import InputError, made_folder, read_json, write_json
from data.labels import (
    EMOTIONS,
    categorical_targets,
    is_tie,
    name_of_test,
    split_of,
    task_of,
    vote_shares,
    without_votes,
)

VECTOR_DIM = 200  # per modality
BC_LSTM_UNITS = 300  # per direction, as Poria et al. 2017; the paper gives no size
# BC-LSTM's backward half must not see what comes after the utterance, so it reads each context anew: one pass per
# utterance, not per dialog. Of longer contexts it reads the last rows alone.
BC_LSTM_WINDOW = 10
_DIALOGS_PER_STEP, _UTTERANCES_PER_STEP = 8, 64


def _grid(**values):
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


# Every point is trained and scored on dev.
GRIDS = {
    "majority": [{}],
    "svm": _grid(C=(0.1, 1.0, 10.0, 100.0)),
    "random_forest": _grid(min_samples_leaf=(1, 3, 10, 30)),
    "ef_lstm": _grid(units=(100, 300), learning_rate=(1e-3, 3e-4)),
    "bc_lstm": _grid(units=(100, 300), learning_rate=(1e-3, 3e-4)),
    "tfn": _grid(hidden=(32, 128), learning_rate=(1e-3, 3e-4)),
}
NAMES = {
    "majority": "majority class",
    "svm": "SVM",
    "random_forest": "RF",
    "ef_lstm": "EF-LSTM",
    "bc_lstm": "BC-LSTM",
    "tfn": "TFN",
}


def main():
    arguments = parse_arguments()
    try:
        backend.start_quietly()
        print(baselines(**vars(arguments)))
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the first system that is not finished", file=sys.stderr)
        sys.exit(130)


def parse_arguments(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Tune, train and score the paper's peers on a run's utterance vectors."
    )
    parser.add_argument("run", type=Path, help="run folder of train.py with a text and an audio branch")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument("--out", type=Path, help="folder for SYSTEM-seedN/results.json (default: RUN/baselines)")
    parser.add_argument("--systems", nargs="+", choices=GRIDS, default=list(GRIDS), help="which (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: the run's seed")
    parser.add_argument(
        "--ties",
        choices=("other", "ours"),
        default="other",
        help="training utterances without a majority become 'other' (as the paper does for its baselines), or our "
        "rule: networks regress the vote shares, SVM and random forest leave ties out (default: other)",
    )
    parser.add_argument("--epochs", type=int, default=50, metavar="N", help="most epochs of a network (default: 50)")
    parser.add_argument(
        "--patience", type=int, default=5, metavar="N", help="epochs without a lower dev loss (default: 5)"
    )
    arguments = parser.parse_args(argv)
    if arguments.epochs < 1 or arguments.patience < 1:
        parser.error("--epochs and --patience must be positive")
    if any(not 0 <= seed < 2**30 for seed in arguments.seeds or ()):
        parser.error("--seeds must be from 0 to 2**30")
    return arguments


def baselines(run, corpus=None, out=None, systems=tuple(GRIDS), seeds=None, ties="other", epochs=50, patience=5):
    """Tunes, trains and scores; a system whose results are there is not trained again.

    Args:
        run: folder of a run with finished text and audio branches.
        corpus: corpus file; None for the one of the run.
        out: folder for the results; None for RUN/baselines.
        systems: names in GRIDS.
        seeds: None for the run's.
        ties: "other" or "ours", see `--ties`.
        epochs, patience: of the networks.

    Returns:
        The text to print: one line per system and seed.

    Raises:
        InputError: no such branches, corpus and run do not fit, or a result folder holds something else.
    """

    backend.make_deterministic()
    task = prepare(run, corpus, ties)
    out = made_folder(out or Path(run) / "baselines")
    lines = [f"{'system':<16} seed  dev accuracy  test accuracy  weighted F1      UA  chosen"]
    for seed in seeds or [task.run["settings"]["seed"]]:
        for system in systems:
            folder = made_folder(out / f"{system}-seed{seed}")
            results = finished(folder, task, system, seed, epochs, patience)
            if results is None:
                results = tune(task, system, seed, folder, epochs, patience)
            chosen = results["protocol"]["chosen"]
            numbers = [chosen["dev_accuracy"], results["accuracy_9"], results["weighted_f1_9"]]
            numbers.append(results["unweighted_accuracy_9"])
            point = ", ".join(f"{name} {value:g}" for name, value in chosen["point"].items()) or "-"
            lines.append("{:<16} {:4d} {:13.4f} {:14.4f} {:12.4f} {:7.4f}  {}".format(system, seed, *numbers, point))
    return "\n".join([*lines, f"\nwritten to {out}: a folder per system and seed with results.json, predictions.csv"])


@dataclass(frozen=True)
class Task:
    """What all systems share.

    `vectors` (N, 400) standardised on the training utterances, acoustic first; `shares` (N, C) vote shares; `targets`
    (N, C) what networks learn; `train`, `dev`, `test` indices of voted utterances; `dialogs` {id: slice}; `ties` as
    the command line; `run` the content of run.json.
    """

    run: dict
    corpus: object
    vectors: np.ndarray
    shares: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    dialogs: dict
    ties: str

    @property
    def loss(self):
        """Cross-entropy with softmax for one-hot targets, else mean squared error with a linear output."""
        return "cross_entropy" if self.ties == "other" else "mse"

    @property
    def activation(self):
        return "softmax" if self.ties == "other" else None


def prepare(run_folder, corpus_path, ties):
    """Reads run and corpus, and computes the utterance vectors."""
    from checkpoint import Scaler, check_corpus_fits, load_checkpoint
    from data.corpus import dialog_slices, read_corpus

    recogniser = load_checkpoint(run_folder, ("text", "audio"))
    run, settings = recogniser.run, recogniser.run["settings"]
    corpus_path = corpus_path or Path(run["corpus"]["path"])
    corpus = task_of(read_corpus(corpus_path), settings)
    check_corpus_fits(run, corpus, corpus_path)
    shares = vote_shares(corpus.votes_external, corpus.votes_self, settings["raters"])
    voted = ~without_votes(shares)
    split = {part: rows[voted[rows]] for part, rows in split_of(corpus, settings).items()}
    targets = shares
    if ties == "other":
        learned = shares[np.concatenate([split["train"], split["dev"]])]
        if is_tie(learned).any() and "other" not in corpus.emotions:
            raise InputError(f"{corpus_path}: has ties and no emotion 'other' for them to become; give --ties ours")
        other = corpus.emotions.index("other") if "other" in corpus.emotions else 0
        targets = categorical_targets(shares, other)
    vectors = recogniser.run_branches(corpus)[0]
    vectors = np.concatenate([vectors["audio"], vectors["text"]], axis=1)
    vectors = Scaler.fit(vectors[split["train"]], map(str, range(vectors.shape[1]))).transform(vectors)
    dialogs = dialog_slices(corpus.dialog_id)
    return Task(run, corpus, vectors, shares, targets, *split.values(), dialogs, ties)


def identity(task, system, seed, epochs, patience):
    """What decides a result; stands in its protocol."""
    weights = {name: digest for name, digest in task.run["files"].items() if name in _BRANCHES}
    own = {"epochs": epochs, "patience": patience} if system in ("ef_lstm", "bc_lstm", "tfn") else {}
    return {
        "system": system,
        "seed": seed,
        "ties": task.ties,
        "corpus_sha256": task.corpus.sha256,
        "branches_sha256": weights,
        "grid": GRIDS[system],
        **own,
        **({"window": BC_LSTM_WINDOW} if system == "bc_lstm" else {}),
    }


_BRANCHES = ("text.weights.h5", "audio.weights.h5")


def finished(folder, task, system, seed, epochs, patience):
    """The results of a system that is done, or None.

    Raises:
        InputError: the folder holds results of something else.
    """
    if not (folder / "results.json").exists():
        return None
    results = read_json(folder / "results.json")
    wanted = identity(task, system, seed, epochs, patience)
    for name, value in wanted.items():
        if results["protocol"].get(name) != value:
            raise InputError(f"{folder}: holds results with another {name}; choose another --out")
    return results


def tune(task, system, seed, folder, epochs, patience):
    """Trains every grid point, scores the test utterances with the best on dev, writes and returns results.json."""
    from evaluate import score, write_predictions
    from scoring.metrics import confusion_matrix, scores

    points, best = [], None
    began = time.perf_counter()
    for point in GRIDS[system]:
        predict, details = TRAINERS[system](task, seed, epochs=epochs, patience=patience, **point)
        matrix = confusion_matrix(task.shares[task.dev], predict(task.dev))
        accuracy = scores(matrix, task.corpus.emotions, without=("other",))["accuracy"]
        points.append({"point": point, "dev_accuracy": accuracy, **details})
        print(f"{system} seed {seed} {point}: dev accuracy {accuracy:.4f} {details}", flush=True)
        if best is None or accuracy > best[0]["dev_accuracy"]:
            best = points[-1], predict
    chosen, predict = best
    predictions = predict(task.test)
    split = split_of(task.corpus, task.run["settings"])
    results = {
        "protocol": {
            **identity(task, system, seed, epochs, patience),
            "name": NAMES[system],
            "corpus": task.corpus.name,
            "test": name_of_test(task.corpus, task.run["settings"]),
            "raters": task.run["settings"]["raters"],
            "selection_rule": "networks: epoch of the lowest dev loss; grid point of the highest dev accuracy without "
            "'other'; the test utterances are scored once",
            "tie_rule": "utterances whose label or prediction has no unique maximum are left out of the score",
            "points": points,
            "chosen": chosen,
            "seconds": time.perf_counter() - began,
            **backend.describe_device(),
        },
        "emotions": list(task.corpus.emotions),
        **score(task.corpus, task.shares, split["train"], task.test, predictions),
    }
    write_predictions(folder / "predictions.csv", task.corpus, task.test, predictions)
    write_json(folder / "results.json", results)
    return results


def labelled(task):
    """Training utterances and their classes for classifiers: ties are 'other', or left out."""
    rows = task.train if task.ties == "other" else task.train[~is_tie(task.shares[task.train])]
    return rows, task.targets[rows].argmax(axis=1)


def one_hot(labels, num_emotions):
    return np.eye(num_emotions, dtype="float32")[labels]


def train_majority(task, seed, **_):
    """The most frequent training label, ties left out: the floor."""
    rows = task.train[~is_tie(task.shares[task.train])]
    answer = np.bincount(task.shares[rows].argmax(axis=1)).argmax()
    num_emotions = len(task.corpus.emotions)
    return lambda rows: one_hot(np.full(len(rows), answer), num_emotions), {"answer": task.corpus.emotions[answer]}


def train_svm(task, seed, C, **_):
    """A support vector machine with the Gaussian kernel; it has no randomness, so seeds differ in the vectors alone."""
    from sklearn.svm import SVC

    rows, classes = labelled(task)
    machine = SVC(C=C, gamma="scale").fit(task.vectors[rows], classes)
    return lambda rows: one_hot(machine.predict(task.vectors[rows]), len(task.corpus.emotions)), {}


def train_random_forest(task, seed, min_samples_leaf, **_):
    """500 trees."""
    from sklearn.ensemble import RandomForestClassifier

    rows, classes = labelled(task)
    forest = RandomForestClassifier(500, min_samples_leaf=min_samples_leaf, random_state=seed)
    forest.fit(task.vectors[rows], classes)

    def predict(rows):
        shares = np.zeros((len(rows), len(task.corpus.emotions)), "float32")
        shares[:, forest.classes_] = forest.predict_proba(task.vectors[rows])
        return shares

    return predict, {}


def train_ef_lstm(task, seed, units, learning_rate, epochs, patience):
    """EF-LSTM: its output at an utterance is that for the context up to there, so a dialog is one pass.

    A batch is some dialogs, zero-padded at the end, where no earlier output sees it; padding has weight 0.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = ef_lstm(units, len(task.corpus.emotions), task.activation)
    place = {int(row): i for i, row in enumerate(task.train)}
    training = [rows for rows in task.dialogs.values() if any(row in place for row in range(rows.start, rows.stop))]
    learned = np.zeros(len(task.corpus), "float32")
    learned[task.train] = 1

    def batch(dialogs):
        vectors, targets = ([values[rows] for rows in dialogs] for values in (task.vectors, task.targets))
        weights = pad([learned[rows, None] for rows in dialogs])[:, :, 0]
        # The loss is divided by all rows of the batch: the weights make it the mean over utterances.
        return pad(vectors), pad(targets), weights * (weights.size / max(weights.sum(), 1))

    def steps(order):
        shuffled = order.permutation(len(training))
        for start in range(0, len(training), _DIALOGS_PER_STEP):
            yield batch([training[i] for i in shuffled[start : start + _DIALOGS_PER_STEP]])

    def predict(rows):
        wanted = set(task.corpus.dialog_id[rows])
        found = np.zeros_like(task.targets)
        for name, dialog in task.dialogs.items():
            if name in wanted:
                found[dialog] = network.predict_on_batch(pad([task.vectors[dialog]], multiple=16))[
                    0, : dialog.stop - dialog.start
                ]
        return found[rows]

    return predict, fit_network(task, network, steps, predict, seed, learning_rate, epochs, patience)


def train_bc_lstm(task, seed, units, learning_rate, epochs, patience):
    """BC-LSTM over the last BC_LSTM_WINDOW utterances of each context."""
    import keras

    from data.contexts import dialog_contexts

    keras.utils.set_random_seed(seed)
    network = bc_lstm(len(task.corpus.emotions), task.activation, units)
    half = VECTOR_DIM

    def batch(rows):
        contexts = [rows[-BC_LSTM_WINDOW:] for rows in dialog_contexts(task.vectors, task.dialogs, rows)]
        vectors = context_vectors([one[:, :half] for one in contexts], [one[:, half:] for one in contexts])
        return {"vectors": pad(vectors["vectors"], length=BC_LSTM_WINDOW)}

    return train_on_utterances(task, network, batch, seed, learning_rate, epochs, patience)


def train_tfn(task, seed, hidden, learning_rate, epochs, patience):
    """TFN on the utterance's own vectors."""
    import keras

    keras.utils.set_random_seed(seed)
    network = tfn(hidden, len(task.corpus.emotions), task.activation)

    def batch(rows):
        return {"audio": task.vectors[rows, :VECTOR_DIM], "text": task.vectors[rows, VECTOR_DIM:]}

    return train_on_utterances(task, network, batch, seed, learning_rate, epochs, patience)


def train_on_utterances(task, network, batch, seed, learning_rate, epochs, patience):
    """Trains a network whose input for some utterances is `batch(rows)`."""
    from data.contexts import shuffled_batches

    def steps(order):
        for chosen in shuffled_batches(len(task.train), _UTTERANCES_PER_STEP, order):
            yield batch(task.train[chosen]), task.targets[task.train[chosen]], None

    def predict(rows):
        parts = [rows[start : start + 256] for start in range(0, len(rows), 256)]
        return np.concatenate([network.predict_on_batch(batch(part)) for part in parts])

    return predict, fit_network(task, network, steps, predict, seed, learning_rate, epochs, patience)


TRAINERS = {
    "majority": train_majority,
    "svm": train_svm,
    "random_forest": train_random_forest,
    "ef_lstm": train_ef_lstm,
    "bc_lstm": train_bc_lstm,
    "tfn": train_tfn,
}


def fit_network(task, network, steps, predict, seed, learning_rate, epochs, patience):
    """Trains with Adam until the dev loss has not fallen for `patience` epochs; leaves the best weights.

    Args:
        task: `Task`.
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
    import keras

    from scoring.metrics import LOSSES

    loss = {"mse": "mean_squared_error", "cross_entropy": "categorical_crossentropy"}[task.loss]
    network.compile(keras.optimizers.Adam(learning_rate), loss, jit_compile=False)
    best = {"epochs": 0, "best_epoch": 0, "best_dev_loss": float("inf")}
    weights = network.get_weights()
    for epoch in range(1, epochs + 1):
        for inputs, targets, sample_weight in steps(np.random.default_rng([seed, epoch])):
            network.train_on_batch(inputs, targets, sample_weight=sample_weight)
        dev_loss = float(LOSSES[task.loss](task.targets[task.dev], predict(task.dev)))
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


def pad(rows, length=None, multiple=1):
    """Arrays (h, F) as one (B, H, F) with zeros after the shorter ones; H is `length`, or a multiple of `multiple`."""
    longest = length or -(-max(map(len, rows)) // multiple) * multiple
    padded = np.zeros((len(rows), longest, rows[0].shape[1]), "float32")
    for one, values in zip(padded, rows, strict=True):
        one[: len(values)] = values
    return padded


def ef_lstm(units, num_emotions=len(EMOTIONS), activation=None):
    """EF-LSTM (early fusion): one LSTM over the vectors of a dialog, and Dense C at each utterance.

    Args:
        units: of the LSTM.
        num_emotions: C.
        activation: of the output: None (linear) or "softmax".

    Returns:
        A model of (B, H, 400) giving (B, H, C): at row h the shares after utterances 0..h.
    """
    import keras

    vectors = keras.Input((None, 2 * VECTOR_DIM), name="vectors")
    states = keras.layers.LSTM(units, return_sequences=True, name="ef_lstm")(vectors)
    return keras.Model(vectors, keras.layers.Dense(num_emotions, activation, name="emotions")(states))


def bc_lstm(num_emotions=len(EMOTIONS), activation=None, units=BC_LSTM_UNITS):
    """BC-LSTM (Poria et al., ACL 2017) as the paper describes it: a bidirectional LSTM over the context.

    The last states of both directions, side by side, go to Dense C. Rows of zeros are padding and are skipped.

    Args:
        num_emotions: C.
        activation: of the output: None (linear, the paper's regression) or "softmax".
        units: per direction.

    Returns:
        A model of {"vectors": (B, H, 400)}, as `context_vectors` gives them, giving (B, C) vote shares.
    """
    import keras

    vectors = keras.Input((None, 2 * VECTOR_DIM), name="vectors")
    states = keras.layers.Bidirectional(keras.layers.LSTM(units), name="bc_lstm")(keras.layers.Masking()(vectors))
    return keras.Model({"vectors": vectors}, keras.layers.Dense(num_emotions, activation, name="emotions")(states))


def tfn(hidden, num_emotions=len(EMOTIONS), activation=None):
    """Tensor fusion (Zadeh et al., EMNLP 2017) of text and audio: the outer product of [text; 1] and [audio; 1].

    1. text (B, 200) -> Dense 128, ReLU; audio (B, 200) -> Dense 32, ReLU: the sizes of the original's sub-networks.
    2. A one is put behind each, so that the product holds both vectors themselves: (B, 129) x (B, 33) -> (B, 4257).
    3. Dropout 0.2; Dense `hidden`, ReLU, twice; Dense C.

    Args:
        hidden: units of the two layers before the output.
        num_emotions: C.
        activation: of the output: None (linear) or "softmax".

    Returns:
        A model of {"audio": (B, 200), "text": (B, 200)} giving (B, C).
    """
    import keras

    inputs = {name: keras.Input((VECTOR_DIM,), name=name) for name in ("audio", "text")}
    sides = []
    for name, units in (("text", 128), ("audio", 32)):
        side = keras.layers.Dense(units, "relu", name=name + "_dense")(inputs[name])
        one = keras.ops.ones_like(side[:, :1])
        sides.append(keras.ops.concatenate([side, one], axis=1))
    fused = keras.ops.einsum("bt,ba->bta", *sides)  # (B, 129, 33)
    fused = keras.layers.Dropout(0.2)(keras.layers.Flatten()(fused))
    for _ in range(2):
        fused = keras.layers.Dense(hidden, "relu")(fused)
    return keras.Model(inputs, keras.layers.Dense(num_emotions, activation, name="emotions")(fused))


def context_vectors(audio, text):
    """One batch of contexts: acoustic and textual vectors side by side, zeros after the shorter ones.

    Args:
        audio: B arrays (h, F), h may differ.
        text: B arrays (h, F), of the same h.

    Returns:
        {"vectors": (B, H, 2 F) float32}.
    """
    return {"vectors": pad([np.concatenate(pair, axis=1) for pair in zip(audio, text, strict=True)])}


if __name__ == "__main__":
    main()
