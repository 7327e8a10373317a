"""Trains one network: epochs, dev loss, the best weights, and a state on disk that survives a kill at any moment.

The order of the data depends on (seed, epoch) alone and the state holds all else that training needs, so a run that
was stopped and resumed ends with the same bytes as one that never was.
"""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import keras
import numpy as np
from tqdm import tqdm

from training import backend
from checkpoint import load_arrays, save_arrays, save_weights
from data.contexts import shuffled_batches
from storage.files import InputError, write_csv
from scoring.metrics import LOSSES, confusion_matrix, scores

HISTORY_HEADER = ["stage", "epoch", "train_loss", "dev_loss", "dev_accuracy"]


class Stopped(Exception):
    """SIGINT or SIGTERM came; the step is finished and the state is saved. `signal` is its number."""

    def __init__(self, number):
        super().__init__(number)
        self.signal = number


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    `epochs` at most, fewer when `patience` epochs have passed without a lower dev loss (0: never). `loss` is a key of
    `metrics.LOSSES`. With a `weight_decay` the optimizer is AdamW, else Adam; `clipnorm` limits each gradient's norm.
    `averaging` is the decay per step of a running mean of the weights, which is what is scored and kept; None: none.
    `keep_last` keeps the weights of the last epoch instead of those of the lowest dev loss.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    loss: str
    seed: int
    weight_decay: float | None = None
    clipnorm: float | None = None
    averaging: float | None = None
    keep_last: bool = False

    def optimizer(self):
        options = {"clipnorm": self.clipnorm, "use_ema": self.averaging is not None}
        if self.averaging is not None:
            options["ema_momentum"] = self.averaging
        # Epsilon as in the release.
        if self.weight_decay:
            return keras.optimizers.AdamW(self.learning_rate, weight_decay=self.weight_decay, epsilon=1e-8, **options)
        return keras.optimizers.Adam(self.learning_rate, epsilon=1e-8, **options)


@dataclass(frozen=True)
class StageData:
    """What one network learns from: n training samples (utterances, or whole dialogs), C emotions.

    `names` are the n ids; `batch(chosen)` gives the network's input and targets for an array of positions;
    `predict_dev()` gives the prediction for the dev utterances, `dev_names`, `dev_targets` and `dev_shares` are theirs.
    `cut(n, batch_size, order)` cuts the samples into index arrays with the numpy random generator `order`.
    """

    names: np.ndarray
    batch: Callable
    predict_dev: Callable
    dev_names: np.ndarray
    dev_targets: np.ndarray
    dev_shares: np.ndarray
    emotions: tuple
    cut: Callable = shuffled_batches

    def batches(self, batch_size, seed, epoch):
        """The epoch's batches: a new order for each (seed, epoch), and the same one for the same."""
        return self.cut(len(self.names), batch_size, np.random.default_rng([seed, epoch]))


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

    @classmethod
    def from_json(cls, text):
        """Takes what `json.dumps(asdict(progress))` gave.

        Raises:
            ValueError: it is anything else.
        """
        try:
            progress = cls(**json.loads(text))
            rows = [[type(value) for value in row] for row in progress.history]
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"progress is not readable ({error})") from error
        counts = (progress.epoch, progress.step, progress.best_epoch, progress.saves)
        numbers = (progress.loss_sum, progress.best_dev_loss, progress.seconds)
        whole = all(type(count) is int and count >= 0 for count in counts)
        if not whole or not all(type(number) is float for number in numbers):
            raise ValueError("progress has a field of another type")
        if rows != [[int, float, float, float]] * progress.epoch or progress.best_epoch > progress.epoch:
            raise ValueError(f"progress has no history of {progress.epoch} epochs")
        return progress


def fit(stage, network, data, recipe, folder, earlier_rows, stop, devices=None, kept_epochs=None):
    """Trains `network` and leaves the weights that the recipe keeps in it.

    Args:
        stage: its name, for files and messages.
        network: built by `model.py`; what trained it before was a recipe of the same optimizer and loss.
        data: `StageData`.
        recipe: `Recipe`.
        folder: the run folder; `<stage>.state-{0,1}.h5` hold the two newest states.
        earlier_rows: rows of history.csv of the stages before.
        stop: function that gives the number of a signal that came, or None.
        devices: `backend.Devices` that share the steps; None for one.
        kept_epochs: folder for the weights after each epoch (`epoch_weights`), or None.

    Returns:
        {"epochs", "best_epoch" (from 1), "best_dev_loss", "seconds"} and the stage's rows of history.csv.

    Raises:
        InputError: a loss or a prediction is no number; the message names the utterances.
        Stopped: a signal came.
    """
    begin(network, recipe)
    devices = devices or backend.Devices()
    state = StageState(stage, network, folder)
    progress = state.load(devices.newest_common)
    devices.check_agreement({"epoch and step": f"{progress.epoch} {progress.step}"})
    board = TensorBoard(folder / "tensorboard" / stage, progress.epoch)
    bar = Bar(stage, recipe.epochs)
    while progress.epoch < recipe.epochs and not out_of_patience(progress, recipe.patience):
        began = time.perf_counter()
        batches = data.batches(recipe.batch_size, recipe.seed, progress.epoch)
        bar.epoch(progress, len(batches))
        for chosen in batches[progress.step :]:
            step_loss = float(network.train_on_batch(*devices.part(*data.batch(chosen))))
            if not np.isfinite(step_loss):
                raise gone_wrong(f"the loss is {step_loss}", data.names[chosen], stage, folder, progress, state)
            progress.loss_sum += step_loss * len(chosen)
            progress.step += 1
            bar.step()
            signal = stop()
            if signal:
                progress.seconds += time.perf_counter() - began
                state.save(progress)
                raise Stopped(signal)
        with averaged_weights(network, recipe):
            predictions = data.predict_dev()
            if not np.isfinite(predictions).all():
                names = data.dev_names[~np.isfinite(predictions).all(axis=1)]
                raise gone_wrong("the prediction is no number", names, stage, folder, progress, state)
            row = end_epoch(predictions, data, recipe, progress, state)
            if kept_epochs:
                save_weights(network, epoch_weights(kept_epochs, progress.epoch))
        progress.seconds += time.perf_counter() - began
        state.save(progress)
        write_csv(folder / "history.csv", HISTORY_HEADER, earlier_rows + [[stage, *past] for past in progress.history])
        board.write(row)
        bar.report(row, progress)
    bar.close()
    state.restore_best()
    summary = {name: asdict(progress)[name] for name in ("best_epoch", "best_dev_loss", "seconds")}
    return {"epochs": progress.epoch, **summary}, [[stage, *past] for past in progress.history]


def epoch_weights(folder, epoch):
    """The weight file of an epoch, from 1, in the folder of those that are kept."""
    return folder / f"{epoch:03d}.weights.h5"


def begin(network, recipe):
    """Compiles the network, or resets its optimizer if it is compiled: that spares tracing it again."""
    if network.compiled:
        for variable in network.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        network.optimizer.learning_rate = recipe.learning_rate
        return
    optimizer = recipe.optimizer()
    loss = {"mse": "mean_squared_error", "cross_entropy": "categorical_crossentropy"}[recipe.loss]
    # XLA gained nothing on CPU and does not run on Pascal cards.
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(network.trainable_variables)
    backend.trace_once(network)


@contextlib.contextmanager
def averaged_weights(network, recipe):
    """While open, the network holds the running mean of its weights, if the recipe has one."""
    if recipe.averaging is None:
        yield
        return
    trained = [np.array(weight) for weight in network.trainable_weights]
    network.optimizer.finalize_variable_values(network.trainable_variables)
    yield
    for weight, value in zip(network.trainable_weights, trained, strict=True):
        weight.assign(value)


def out_of_patience(progress, patience):
    """Whether `patience` epochs have passed since the best one; never with patience 0."""
    return bool(patience) and progress.epoch - progress.best_epoch >= patience


def gone_wrong(what, names, stage, folder, progress, state):
    """The error that ends training when numbers go wrong; keeps the weights of the best epoch before."""
    kept = "no epoch was finished before, so no weights are kept"
    if progress.best_epoch:
        path = folder / f"{stage}.weights.h5"
        state.restore_best()
        save_weights(state.network, path)
        kept = (
            f"the weights of the best epoch before, {progress.best_epoch}, are kept in {path} (load_weights reads it)"
        )
    return InputError(
        f"{stage}, epoch {progress.epoch + 1}: {what} on the utterances {' '.join(names)}; {kept}; look at their "
        "features, or begin again with a lower --learning-rate: --resume would meet the same"
    )


def end_epoch(predictions, data, recipe, progress, state):
    """Scores the dev utterances, keeps the weights if they are the best so far, and moves on to the next epoch."""
    dev_loss = LOSSES[recipe.loss](data.dev_targets, predictions)
    dev_accuracy = scores(confusion_matrix(data.dev_shares, predictions), data.emotions)["accuracy"]
    progress.epoch += 1
    row = [progress.epoch, progress.loss_sum / len(data.names), dev_loss, dev_accuracy]
    progress.history.append(row)
    progress.step, progress.loss_sum = 0, 0.0
    if dev_loss < progress.best_dev_loss or recipe.keep_last:
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

    def load(self, newest=None):
        """Takes up the newest state that is whole; a fresh start where there is none.

        `newest` is `backend.Devices.newest_common` of the devices that train.
        """
        there = [path for path in self.paths if path.exists()]
        found = {state[0].saves: state for path in there if (state := self._read(path))}
        chosen = (newest or backend.Devices().newest_common)(list(found))
        if chosen is None:
            if there:
                print(f"no whole state is left: {self.stage} begins again", file=sys.stderr)
            return Progress()
        progress, arrays = found[chosen]
        if progress.saves and len(there) == 1:
            print(f"one of the two states is missing, {there[0]} is used", file=sys.stderr)
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
            text = str(attributes.get("progress"))
            if str(attributes.get("sha256")) != _digest(arrays, text):
                raise InputError(f"{path}: its SHA-256 is not the one it was written with")
            progress = Progress.from_json(text)
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise InputError(f"{path}: holds values that are not finite")
        except (InputError, ValueError) as error:
            print(f"damaged state {path.name} left aside, another is used: {error}", file=sys.stderr)
            return None
        return progress, arrays

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
    """Writes each epoch's row as TensorBoard scalars; without TensorFlow, and without a thread that fails unheard."""

    def __init__(self, folder, first_epoch):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"))
        # Hides what a stopped run may have written of the epochs to come.
        self.writer.write_event(Event(step=first_epoch + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, row):
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in zip(HISTORY_HEADER[2:], row[1:], strict=True):
            self.writer.write_event(Event(wall_time=time.time(), step=row[0], summary=scalar(name, value)))
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
