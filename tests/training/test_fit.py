"""Training a small network: stops at every step, damaged and hostile states, numbers that go wrong."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from storage.files import InputError
from storage.weights import load_weights, save_arrays, weight_arrays
from systems.base import Recipe, Stage, StageData
from training.loop import Stopped, averaged_weights, begin, fit, has_epochs_left
from training.run import locked
from training.state import Progress, StageState, _digest

RECIPE = Recipe(learning_rate=1e-2, loss="mse", epochs=3, patience=0, batch_size=4, seed=5)


def small_network():
    keras.utils.set_random_seed(7)
    inputs = keras.Input((3,), name="features")
    rows = keras.layers.BatchNormalization(name="normal")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="emotions")(rows))


def small_data(network, features=None):
    """(`StageData` of 8 utterances, what `fit` reads of the task, whose dev utterances are the last 4 of 10)."""
    random = np.random.default_rng(0)
    features = random.normal(size=(10, 3)).astype("float32") if features is None else features
    shares = np.eye(2, dtype="float32")[random.integers(0, 2, 10)]
    names = np.array([f"utterance_{number}" for number in range(10)], object)
    corpus = SimpleNamespace(utterance_id=names)
    emotions = ("neutral", "angry")
    task = SimpleNamespace(corpus=corpus, targets=shares, shares=shares, dev=np.arange(6, 10), emotions=emotions)
    data = StageData(
        names[:8],
        lambda chosen, order: (features[:8][chosen], shares[:8][chosen]),
        lambda: network.predict_on_batch(features[6:]),
    )
    return data, task


def fit_text(folder, network, stop, recipe=RECIPE, features=None):
    """`fit` of a stage named "text" in a folder."""
    Path(folder).mkdir(exist_ok=True)
    with locked(Path(folder)) as run_folder:
        return fit(Stage("text", recipe, 0), network, *small_data(network, features), run_folder, [], stop)


def trained(folder, stop=lambda: None, settings=RECIPE, features=None):
    """Runs `fit`, and again after every stop; returns weights, rows and summary without the time."""
    for _ in range(20):
        network = small_network()
        try:
            summary, rows = fit_text(folder, network, stop, settings, features)
        except Stopped:
            continue
        return weight_arrays(network), rows, {name: summary[name] for name in ("epochs", "best_epoch", "best_dev_loss")}
    raise AssertionError("never came to an end")


def assert_same(found, expected):
    for name, array in expected[0].items():
        assert found[0][name].tobytes() == array.tobytes(), name
    assert found[1:] == expected[1:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What training gives that nothing stopped."""
    return trained(tmp_path_factory.mktemp("whole"))


def test_rows_of_padding_do_not_count_in_the_training_loss(tmp_path):
    """The loss of the first epoch, weights all but still: the mean cross-entropy over the rows that have a target."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((None, 3), name="features")
    network = keras.Model(inputs, keras.layers.Dense(2, "softmax", name="emotions")(inputs))
    data, task = small_data(network)
    random, lengths = np.random.default_rng(1), np.array([1, 5, 2, 1, 4, 1, 1, 3])
    features = random.normal(size=(8, 5, 3)).astype("float32")
    targets = np.eye(2, dtype="float32")[random.integers(0, 2, (8, 5))]
    targets[np.arange(5) >= lengths[:, None]] = 0
    data = replace(
        data,
        batch=lambda chosen, order: tuple(one[chosen][:, : lengths[chosen].max()] for one in (features, targets)),
        predict_dev=lambda: network.predict_on_batch(features[:4])[:, 0],
        num_taught=int(lengths.sum()),
    )
    weights, bias = network.get_weights()
    shares = np.exp(features @ weights + bias)
    shares /= shares.sum(axis=-1, keepdims=True)
    recipe = replace(RECIPE, loss="cross_entropy", learning_rate=1e-12, epochs=1, batch_size=2)
    with locked(tmp_path) as folder:
        _, rows = fit(Stage("text", recipe, 0), network, data, task, folder, [], lambda: None)
    np.testing.assert_allclose(float(rows[0][2]), -np.mean(np.log(shares[targets > 0])), rtol=1e-5)


def test_averaged_weights_survive_stops_too(tmp_path):
    """The recipe of the causal fusion; its kept weights are the running mean of three epochs of two steps."""
    recipe = replace(RECIPE, weight_decay=0.1, clipnorm=1.0, averaging=0.5)
    whole = trained(tmp_path / "whole", settings=recipe)
    steps = iter(range(1, 100))
    assert_same(
        trained(tmp_path / "stopped", stop=lambda: 15 if next(steps) % 3 == 0 else None, settings=recipe), whole
    )


def test_averaging_by_hand(tmp_path):
    """One step an epoch: the mean starts at the weights after the first step, then halves the way to each next."""
    steps = []
    for averaging in (None, 0.5):
        network = small_network()
        data, _ = small_data(network)
        recipe = replace(RECIPE, batch_size=8, averaging=averaging)
        begin(network, recipe)
        for _ in range(3):
            network.train_on_batch(*data.batch(np.arange(8), None))
            steps.append(np.array(network.get_layer("emotions").kernel))
    with averaged_weights(network, recipe):
        mean = np.array(network.get_layer("emotions").kernel)
    np.testing.assert_array_equal(steps[:3], steps[3:])  # training itself goes its way
    np.testing.assert_allclose(mean, steps[0] / 4 + steps[1] / 4 + steps[2] / 2, atol=1e-6)
    np.testing.assert_array_equal(network.get_layer("emotions").kernel, steps[2])


def test_a_step_that_is_traced_once_trains_the_same(tmp_path, monkeypatch):
    """Byte for byte as Keras's own step, with an odd last batch."""
    recipe = replace(RECIPE, batch_size=3)
    traced_once = trained(tmp_path / "once", settings=recipe)
    monkeypatch.setattr("training.loop.trace_once", lambda network: None)
    assert_same(trained(tmp_path / "as often as Keras does", settings=recipe), traced_once)


def test_stopped_after_every_step_it_ends_with_the_same_bytes(tmp_path, whole):
    assert_same(trained(tmp_path, stop=lambda: 15), whole)  # the signal is there from the set-up on


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with both states, of training that was stopped after each of three steps."""
    folder = tmp_path_factory.mktemp("stopped")
    for _ in range(3):
        with pytest.raises(Stopped):
            fit_text(folder, small_network(), lambda: 2)
    return folder


@pytest.mark.parametrize("lost, how", [(0, "missing"), (1, "missing"), (0, "half"), (1, "empty")])
def test_a_lost_state_falls_back_to_the_other(tmp_path, capsys, whole, stopped, lost, how):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"text.state-{lost}.h5"
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(content[: len(content) // 2] if how == "half" else b"")
    assert_same(trained(tmp_path), whole)
    said = capsys.readouterr().err
    assert ("one of the two states is missing" if how == "missing" else f"damaged state {path.name}") in said


def test_no_whole_state_begins_again(tmp_path, capsys, whole):
    (tmp_path / "text.state-0.h5").write_bytes(b"")
    assert_same(trained(tmp_path), whole)
    assert "no whole state is left: text begins again" in capsys.readouterr().err


HOSTILE_PROGRESS = [
    "", "null", "[]", "3", '"x"', "{}x", "[" * 100_000, "NaN", '{"epoch": -1}', '{"epoch": 1}', '{"epoch": true}',
    '{"epoch": "1"}', '{"steps": 1}', '{"history": [[1, 2.0, 3.0]], "epoch": 1}', '{"history": null}', '{"history": 3}',
    '{"history": [7]}', '{"best_epoch": 9}', '{"best_dev_loss": "x"}', '{"loss_sum": null}', '{"saves": 1.5}',
]  # fmt: skip


def state_of(tmp_path, text, change=lambda arrays: None, **attributes):
    network = small_network()
    network.compile(keras.optimizers.Adam(1e-2, epsilon=1e-8), "mean_squared_error")
    network.optimizer.build(network.trainable_variables)
    state = StageState("text", network, tmp_path)
    state.save(Progress())
    arrays = {name: np.asarray(variable) for name, variable in state._variables().items()}
    arrays |= {f"best.{i:03d}": value for i, value in enumerate(state.best)}
    change(arrays)
    save_arrays(state.paths[0], arrays, **{"progress": text, "sha256": _digest(arrays, str(text))} | attributes)
    return state


@pytest.mark.parametrize("text", HOSTILE_PROGRESS)
def test_hostile_progress_is_left_aside(tmp_path, capsys, text):
    state = state_of(tmp_path, text)
    assert state.load() == Progress()
    assert "damaged state text.state-0.h5 left aside" in capsys.readouterr().err


GOOD = Progress().model_dump_json()
HOSTILE_STATES = {
    "not a number": lambda arrays: arrays["network.000"].fill(np.nan),
    "another shape": lambda arrays: arrays.update({"network.000": np.zeros((1, 1), "float32")}),
    "another type": lambda arrays: arrays.update({"best.000": arrays["best.000"].astype("float64")}),
    "one more": lambda arrays: arrays.update({"network.999": np.zeros(1, "float32")}),
    "one less": lambda arrays: arrays.pop("optimizer.000"),
}


@pytest.mark.parametrize("name", HOSTILE_STATES)
def test_hostile_states_are_left_aside(tmp_path, capsys, name):
    def change(arrays):
        arrays |= {key: np.array(value) for key, value in arrays.items()}
        HOSTILE_STATES[name](arrays)

    assert state_of(tmp_path, GOOD, change).load() == Progress()
    assert "left aside" in capsys.readouterr().err


@pytest.mark.parametrize("attributes", [{"progress": 3}, {"progress": [1, 2]}, {"sha256": 0}, {"sha256": ["a"]}])
def test_hostile_attributes_are_left_aside(tmp_path, attributes):
    assert state_of(tmp_path, GOOD, **attributes).load() == Progress()


def test_numbers_gone_wrong_keep_the_best_weights(tmp_path):
    """A feature is damaged after the first epoch: its batch is named, and the first epoch's weights are kept."""
    first = trained(tmp_path, settings=replace(RECIPE, epochs=1))
    features = np.zeros((10, 3), "float32")
    features[2] = np.nan
    message = "text, epoch 2: the loss is nan on the utterances .*utterance_2"
    for _ in range(2):  # going on without mending anything meets the same
        network = small_network()
        with pytest.raises(InputError, match=message) as caught:
            fit_text(tmp_path, network, lambda: None, features=features)
    path = tmp_path / "text.weights.h5"
    assert f"best epoch before, 1, are kept in {path}" in str(caught.value)
    fresh = small_network()
    load_weights(fresh, path)
    for name, array in weight_arrays(fresh).items():
        assert array.tobytes() == first[0][name].tobytes(), name


def test_a_dev_prediction_that_is_no_number_names_its_utterance(tmp_path):
    features = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    features[9] = np.inf
    with pytest.raises(
        InputError, match="text, epoch 1: the prediction is no number on the utterances utterance_9; no"
    ):
        trained(tmp_path, features=features)


def test_patience_waits_until_training_has_settled():
    """Ten epochs without a lower dev loss, counted from epoch 20 on; a better epoch after that counts as ever."""
    recipe, ends = replace(RECIPE, epochs=100, patience=10, settling=20), []
    for best in (2, 20, 26):
        progress = SimpleNamespace(epoch=0, best_epoch=best)
        while has_epochs_left(progress, recipe):
            progress.epoch += 1
        ends.append(progress.epoch)
    assert ends == [30, 30, 36]
    assert has_epochs_left(SimpleNamespace(epoch=99, best_epoch=2), replace(recipe, patience=0))


def test_nothing_is_written_where_the_folder_was_removed(tmp_path):
    """Removed, and even made anew, in the middle of an epoch, or as a signal comes: an error, no half a run anew."""
    for again, number in ((False, None), (True, None), (True, 2)):
        folder = tmp_path / "run"
        folder.mkdir()

        def remove(folder=folder, again=again, number=number):
            shutil.rmtree(folder, ignore_errors=True)
            if again:
                folder.mkdir(exist_ok=True)
            return number

        with pytest.raises(InputError, match="run: was removed while the run was at work in it"):
            fit_text(folder, small_network(), remove)
        assert folder.exists() is again and not (again and any(folder.iterdir()))
        if again:
            folder.rmdir()


def test_dev_utterances_without_a_majority_have_a_loss_and_no_accuracy(tmp_path):
    network = small_network()
    data, task = small_data(network)
    task.shares = np.full_like(task.shares, 0.5)
    with locked(tmp_path) as folder:
        summary, rows = fit(Stage("text", RECIPE, 0), network, data, task, folder, [], lambda: None)
    assert summary["epochs"] == 3 and all(row[-1] is None and row[-2] > 0 for row in rows)
