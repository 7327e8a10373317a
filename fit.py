"""Trains one network: epochs, dev loss, the best weights, and a state on disk that survives a kill at any moment.

The order of the data depends on (seed, epoch) alone and the state holds all else that training needs, so a run that
was stopped and resumed ends with the same bytes as one that never was.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import keras
import numpy as np
from tqdm import tqdm

from checkpoint import load_arrays, save_arrays
from data.contexts import shuffled_batches
from data.files import InputError, write_csv
from metrics import LOSSES, confusion_matrix, scores

HISTORY_HEADER = ["stage", "epoch", "train_loss", "dev_loss", "dev_accuracy"]


class Stopped(Exception):
    """SIGINT or SIGTERM came; the step is finished and the state is saved. `signal` is its number."""

    def __init__(self, number):
        super().__init__(number)
        self.signal = number


@dataclass(frozen=True)
class StageData:
    """What one network learns from: n training utterances, C emotions.

    `names` are the n utterance ids; `inputs(chosen)` gives the network's input for an array of positions, `targets`
    (n, C) theirs; `predict_dev()` gives the prediction for the dev utterances, `dev_targets` and `dev_shares` are
    theirs.
    """

    names: np.ndarray
    inputs: Callable
    targets: np.ndarray
    predict_dev: Callable
    dev_targets: np.ndarray
    dev_shares: np.ndarray
    emotions: tuple

    def batches(self, batch_size, seed, epoch):
        """The epoch's batches: a new order for each (seed, epoch), and the same one for the same."""
        return shuffled_batches(len(self.names), batch_size, np.random.default_rng([seed, epoch]))


@dataclass
class Progress:
    """Where training stands: `step` steps into epoch `epoch` (from 0), and what led there."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = 0
    best_dev_loss: float = float("inf")
    seconds: float = 0.0
    saves: int = 0
    history: list = field(default_factory=list)  # rows as in HISTORY_HEADER, without the stage


def fit(stage, network, data, settings, folder, earlier_rows, stop):
    """Trains `network` and leaves the weights of the lowest dev loss in it.

    Args:
        stage: its name, for files and messages.
        network: built by `model.py`, not compiled.
        data: `StageData`.
        settings: `train.Settings`.
        folder: the run folder; `<stage>.state-{0,1}.h5` hold the two newest states.
        earlier_rows: rows of history.csv of the stages before.
        stop: function that gives the number of a signal that came, or None.

    Returns:
        {"epochs", "best_epoch" (from 1), "best_dev_loss", "seconds"} and the stage's rows of history.csv.

    Raises:
        InputError: the loss is no number; the message names the utterances of the batch.
        Stopped: a signal came.
    """
    # epsilon as in the release; XLA gained nothing on CPU and does not run on Pascal cards.
    optimizer = keras.optimizers.Adam(settings.learning_rate, epsilon=1e-8)
    loss = {"mse": "mean_squared_error", "cross_entropy": "categorical_crossentropy"}[settings.loss]
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(network.trainable_variables)
    state = StageState(stage, network, folder)
    progress = state.load()
    board = TensorBoard(folder / "tensorboard" / stage, progress.epoch)
    bar = Bar(stage, settings.epochs)
    while progress.epoch < settings.epochs and not out_of_patience(progress, settings.patience):
        began = time.perf_counter()
        batches = data.batches(settings.batch_size, settings.seed, progress.epoch)
        bar.epoch(progress, len(batches))
        for chosen in batches[progress.step :]:
            step_loss = float(network.train_on_batch(data.inputs(chosen), data.targets[chosen]))
            if not np.isfinite(step_loss):
                raise InputError(
                    f"{stage}, epoch {progress.epoch + 1}: the loss is {step_loss} on the utterances "
                    f"{' '.join(data.names[chosen])}; the last good state is kept in {folder}; look at their features, "
                    "or lower --learning-rate"
                )
            progress.loss_sum += step_loss * len(chosen)
            progress.step += 1
            bar.step()
            if stop():
                progress.seconds += time.perf_counter() - began
                state.save(progress)
                raise Stopped(stop())
        row = end_epoch(network, data, settings, progress, state)
        progress.seconds += time.perf_counter() - began
        state.save(progress)
        write_csv(folder / "history.csv", HISTORY_HEADER, earlier_rows + [[stage, *past] for past in progress.history])
        board.write(row)
        bar.report(row, progress)
    bar.close()
    state.restore_best()
    summary = {name: asdict(progress)[name] for name in ("best_epoch", "best_dev_loss", "seconds")}
    return {"epochs": progress.epoch, **summary}, [[stage, *past] for past in progress.history]


def out_of_patience(progress, patience):
    """Whether `patience` epochs have passed since the best one; never with patience 0."""
    return bool(patience) and progress.epoch - progress.best_epoch >= patience


def end_epoch(network, data, settings, progress, state):
    """Scores the dev utterances, keeps the weights if they are the best so far, and moves on to the next epoch."""
    predictions = data.predict_dev()
    dev_loss = LOSSES[settings.loss](data.dev_targets, predictions)
    dev_accuracy = scores(confusion_matrix(data.dev_shares, predictions), data.emotions)["accuracy"]
    progress.epoch += 1
    row = [progress.epoch, progress.loss_sum / len(data.names), dev_loss, dev_accuracy]
    progress.history.append(row)
    progress.step, progress.loss_sum = 0, 0.0
    if dev_loss < progress.best_dev_loss:
        progress.best_epoch, progress.best_dev_loss = progress.epoch, dev_loss
        state.keep_best()
    return row


class StageState:
    """The state of one stage in memory and, in two generations, on disk.

    A file holds all variables of the network and of its optimizer, the best weights, and the `Progress`, with a
    SHA-256 over all of it. The older of the two files is replaced, so a damaged newest one costs an epoch, not a run.
    """

    def __init__(self, stage, network, folder):
        self.stage = stage
        self.network = network
        self.paths = [folder / f"{stage}.state-{generation}.h5" for generation in (0, 1)]
        self.keep_best()

    def keep_best(self):
        self.best = [np.array(weight) for weight in self.network.weights]

    def restore_best(self):
        for weight, value in zip(self.network.weights, self.best, strict=True):
            weight.assign(value)

    def _variables(self):
        return {f"network.{i:03d}": v for i, v in enumerate(self.network.variables)} | {
            f"optimizer.{i:03d}": v for i, v in enumerate(self.network.optimizer.variables)
        }

    def save(self, progress):
        arrays = {name: np.asarray(variable) for name, variable in self._variables().items()}
        arrays |= {f"best.{i:03d}": value for i, value in enumerate(self.best)}
        text = json.dumps(asdict(progress))
        save_arrays(self.paths[progress.saves % 2], arrays, progress=text, sha256=_digest(arrays, text))
        progress.saves += 1

    def load(self):
        """Takes up the newest state that is whole; a fresh start where there is none."""
        found = [state for path in self.paths if path.exists() and (state := self._read(path))]
        if not found:
            return Progress()
        progress, arrays = max(found, key=lambda state: state[0].saves)
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.best = [arrays[f"best.{i:03d}"] for i in range(len(self.best))]
        print(f"{self.stage}: going on after epoch {progress.epoch}, step {progress.step}")
        progress.saves += 1
        return progress

    def _read(self, path):
        expected = {name: (tuple(v.shape), str(v.dtype)) for name, v in self._variables().items()}
        expected |= {f"best.{i:03d}": (value.shape, str(value.dtype)) for i, value in enumerate(self.best)}
        try:
            arrays, attributes = load_arrays(path, expected)
            if attributes.get("sha256") != _digest(arrays, attributes.get("progress", "")):
                raise InputError(f"{path}: its SHA-256 is not the one it was written with")
        except InputError as error:
            print(f"damaged state left aside, the one before is used: {error}", file=sys.stderr)
            return None
        return Progress(**json.loads(attributes["progress"])), arrays

    def delete(self):
        for path in self.paths:
            path.unlink(missing_ok=True)


def _digest(arrays, text):
    digest = hashlib.sha256(text.encode())
    for name, array in arrays.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


class TensorBoard:
    """Writes each epoch's row as TensorBoard scalars; works without TensorFlow."""

    def __init__(self, folder, first_epoch):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first_epoch + 1)

    def write(self, row):
        for name, value in zip(HISTORY_HEADER[2:], row[1:], strict=True):
            self.writer.add_scalar(name, value, row[0])
        self.writer.flush()


class Bar:
    """A progress bar over all steps of a stage on a terminal, a line per epoch elsewhere."""

    def __init__(self, stage, epochs):
        self.stage, self.epochs, self.bar = stage, epochs, None

    def epoch(self, progress, num_steps):
        if self.bar is None:
            done = progress.epoch * num_steps + progress.step
            self.bar = tqdm(
                total=self.epochs * num_steps,
                initial=done,
                desc=f"{self.stage:<6}",
                unit="step",
                disable=not sys.stderr.isatty(),
            )

    def step(self):
        self.bar.update()

    def report(self, row, progress):
        epoch, train_loss, dev_loss, dev_accuracy = row
        text = (
            f"train {train_loss:.5f}  dev {dev_loss:.5f}  accuracy {dev_accuracy:.3f}  best epoch {progress.best_epoch}"
        )
        if self.bar.disable:
            print(
                f"{self.stage:<6} {epoch:>3}/{self.epochs}  {text}  {progress.seconds / epoch:.1f} s/epoch", flush=True
            )
        else:
            self.bar.set_postfix_str(text)

    def close(self):
        if self.bar is not None:
            self.bar.close()
