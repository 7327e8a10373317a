"""Trains one network: epochs, dev loss, the best weights, and a state on disk that survives a kill at any moment.

The order of the data depends on (seed, epoch) alone and the state holds all else that training needs, so a run that
was stopped and resumed ends with the same bytes as one that never was.
"""

import contextlib
import math
import time

import keras
import numpy as np

from scoring.metrics import LOSSES, confusion_matrix, scores
from storage.files import InputError, write_csv
from storage.runs import EpochRow, epoch_weights
from storage.weights import save_weights
from tracing import trace_once
from training.progress import Bar, TensorBoard
from training.state import StageState


class Stopped(Exception):
    """SIGINT or SIGTERM came; the step is finished and the state is saved. `signal` is its number."""

    def __init__(self, number):
        super().__init__(number)
        self.signal = number


def fit(stage, network, data, task, folder, earlier_rows, stop, kept_epochs=None):
    """Trains `network` and leaves the weights of the lowest dev loss in it.

    Args:
        stage: `systems.base.Stage`.
        network: not compiled.
        data: `systems.base.StageData`.
        task: `data.task.Task`; its dev utterances choose the epoch.
        folder: `training.run.RunFolder`; `<stage>.state-{0,1}.h5` in it hold the two newest states.
        earlier_rows: rows of history.csv of the stages before; None to leave that file alone.
        stop: function that gives the number of a signal that came, or None.
        kept_epochs: folder for the weights after each epoch (`epoch_weights`), or None.

    Returns:
        {"epochs", "best_epoch" (from 1), "best_dev_loss", "seconds"} and the stage's rows of history.csv.

    Raises:
        InputError: a loss or a prediction is no number (the message names the utterances), or the folder is gone.
        Stopped: a signal came.
    """
    recipe = stage.recipe
    begin(network, recipe)
    state = StageState(stage.name, network, folder.path)
    progress = state.load()
    if progress.saves and has_epochs_left(progress, recipe):
        print(f"{stage.name}: going on after epoch {progress.epoch}, step {progress.step}")
    folder.check_there()
    board, bar = TensorBoard(folder.path / "tensorboard" / stage.name, progress.epoch), Bar(stage.name, recipe.epochs)
    while has_epochs_left(progress, recipe):
        began = time.perf_counter()
        batches = data.cut(len(data.names), recipe.batch_size, np.random.default_rng([recipe.seed, progress.epoch]))
        bar.epoch(progress, len(batches))
        for chosen in batches[progress.step :]:
            order = np.random.default_rng([recipe.seed, progress.epoch, progress.step])
            inputs, targets = data.batch(chosen, order)
            step_loss = float(network.train_on_batch(inputs, targets))
            if not np.isfinite(step_loss):
                raise gone_wrong(f"the loss is {step_loss}", data.names[chosen], progress, state, folder)
            progress.loss_sum += step_loss * math.prod(targets.shape[:-1])  # Keras' mean is over rows of padding, too
            progress.step += 1
            bar.step()
            signal = stop()
            if signal:
                progress.seconds += time.perf_counter() - began
                folder.check_there()
                state.save(progress)
                raise Stopped(signal)
        with averaged_weights(network, recipe):
            predictions = data.predict_dev()
            if not np.isfinite(predictions).all():
                names = task.corpus.utterance_id[task.dev][~np.isfinite(predictions).all(axis=1)]
                raise gone_wrong("the prediction is no number", names, progress, state, folder)
            end_epoch(predictions, task, data.num_taught or len(data.names), recipe, progress, state)
            if kept_epochs:
                save_weights(network, epoch_weights(kept_epochs, progress.epoch))
        progress.seconds += time.perf_counter() - began
        folder.check_there()
        state.save(progress)
        history = rows_of(stage, progress)
        if earlier_rows is not None:
            write_csv(folder.path / "history.csv", EpochRow._fields, earlier_rows + history)
        board.write(history[-1])
        bar.report(history[-1], progress)
    bar.close()
    board.close()
    state.restore_best()
    summary = {name: getattr(progress, name) for name in ("best_epoch", "best_dev_loss", "seconds")}
    return {"epochs": progress.epoch, **summary}, rows_of(stage, progress)


def rows_of(stage, progress):
    """The `EpochRow`s of the epochs that a stage has finished."""
    return [EpochRow(stage.name, *past) for past in progress.history]


def begin(network, recipe):
    """Gives a network the optimizer and loss of a `systems.base.Recipe`, and traces its step once."""
    averaging = {} if recipe.averaging is None else {"use_ema": True, "ema_momentum": recipe.averaging}
    options = {"clipnorm": recipe.clipnorm, "epsilon": 1e-8, **averaging}  # epsilon as in the release
    if recipe.weight_decay:
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay, **options)
    else:
        optimizer = keras.optimizers.Adam(recipe.learning_rate, **options)
    loss = {"mse": "mean_squared_error", "cross_entropy": "categorical_crossentropy"}[recipe.loss]
    # XLA gained nothing on CPU and does not run on Pascal cards.
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(network.trainable_variables)
    trace_once(network)


@contextlib.contextmanager
def averaged_weights(network, recipe):
    """While open, the network holds the running mean of its weights, if the recipe has one."""
    if recipe.averaging is None:
        yield
        return
    trained = [np.array(weight) for weight in network.trainable_weights]
    network.optimizer.finalize_variable_values(network.trainable_variables)
    for weight in network.trainable_weights:
        # JAX would share the mean's own buffer, and lose it with the first prediction.
        weight.assign(np.array(weight))
    yield
    for weight, value in zip(network.trainable_weights, trained, strict=True):
        weight.assign(value)


def has_epochs_left(progress, recipe):
    """Whether training goes on: neither `epochs` nor the `patience`, if it is not 0, is used up."""
    waited = progress.epoch - max(progress.best_epoch, recipe.settling)
    return progress.epoch < recipe.epochs and not (recipe.patience and waited >= recipe.patience)


def gone_wrong(what, names, progress, state, folder):
    """The error that ends training when numbers go wrong; keeps the weights of the best epoch before."""
    kept = "no epoch was finished before, so no weights are kept"
    if progress.best_epoch:
        folder.check_there()
        path = folder.path / f"{state.stage}.weights.h5"
        state.restore_best()
        save_weights(state.network, path)
        kept = (
            f"the weights of the best epoch before, {progress.best_epoch}, are kept in {path} (load_weights reads it)"
        )
    return InputError(
        f"{state.stage}, epoch {progress.epoch + 1}: {what} on the utterances {' '.join(names)}; {kept}; look at their "
        "features, or begin again with a lower --learning-rate: --resume would meet the same"
    )


def end_epoch(predictions, task, num_taught, recipe, progress, state):
    """Scores the dev utterances, keeps the weights if they are the best so far, and moves on to the next epoch."""
    dev_loss = LOSSES[recipe.loss](task.targets[task.dev], predictions)
    matrix = confusion_matrix(task.shares[task.dev], predictions)
    dev_accuracy = scores(matrix, task.emotions)["accuracy"] if matrix.any() else None
    progress.epoch += 1
    progress.history.append((progress.epoch, progress.loss_sum / num_taught, dev_loss, dev_accuracy))
    progress.step, progress.loss_sum = 0, 0.0
    if dev_loss < progress.best_dev_loss:
        progress.best_epoch, progress.best_dev_loss = progress.epoch, dev_loss
        state.keep_best()
