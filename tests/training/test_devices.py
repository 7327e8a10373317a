"""Several devices and several processes train as one device does; both need JAX and skip without it."""

import contextlib
import csv
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from conftest import ROOT, run_script

from backend import Devices, _meet
from data.contexts import context_rows, with_absent_packs
from storage.files import InputError

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")

# A small network of all our layers: losses, weights and prediction after three steps; the last batch is odd.
STEPS = """
import sys
import keras, numpy as np
from training import backend
devices = backend.Devices(int(sys.argv[1]))
import model
from attention import MutualCorrelationAttention
from data.contexts import context_rows
keras.utils.set_random_seed(0)
rows = [keras.Input((None, 6), name=name) for name in ("audio", "text")]
packs = model._packed_inputs()
hidden = MutualCorrelationAttention(2, 3)(rows, multiplicity=packs["multiplicity"], segment=packs["segment"])
hidden = model.RowBatchNormalization()(keras.layers.Concatenate()(hidden), packs["multiplicity"])
hidden = model.RowMaxPooling()(hidden, packs["segment"], packs["lengths"])
hidden = keras.layers.BatchNormalization()(hidden)
network = keras.Model({"audio": rows[0], "text": rows[1], **packs}, keras.layers.Dense(4)(hidden))
network.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=True)
rng = np.random.default_rng(0)
heights = [*rng.integers(1, 20, 8)] * 2 + [*rng.integers(1, 20, 7)]  # the same shape twice: JAX compiles it once
contexts = [rng.normal(size=(2, height, 6)).astype("float32") for height in heights]
targets = rng.dirichlet(np.ones(4), 23).astype("float32")
found = {}
for step, chosen in enumerate((range(8), range(8, 16), range(16, 23))):
    batch = context_rows(*zip(*(contexts[i] for i in chosen)), 24)
    part, part_targets = devices.part(batch, targets[list(chosen)])
    found[f"loss_{step}"] = network.train_on_batch(part, part_targets)
found |= {f"weight_{i}": weight for i, weight in enumerate(network.get_weights())}
found["prediction"] = network.predict_on_batch(batch)
np.savez(sys.argv[2], **found)
"""
AUDIO = ("train.py", "--modality", "audio", "--epochs", 2, "--batch-size", 51)


@needs_jax
def test_two_devices_step_as_one(tmp_path):
    found = []
    for devices in (1, 2):
        done = run_script("-c", STEPS, devices, tmp_path / f"{devices}.npz", env={"KERAS_BACKEND": "jax"})
        assert done.returncode == 0, done.stderr
        found.append(np.load(tmp_path / f"{devices}.npz", allow_pickle=False))
    for name in found[0].files:
        np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-5, err_msg=name)


@needs_jax
def test_two_processes_train_as_one_device(miniature, tmp_path):
    """Over the loopback interface; three batches an epoch, the last one odd, with batch norm's statistics.

    The weights of the two processes are the same bytes. Those of one device differ in rounding, which Adam blows up
    where a gradient is zero but for rounding, as a bias' before batch norm: so outputs are compared, not all weights.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--corpus", miniature, "--run", tmp_path / "run", "--processes", 2, "--coordinator", address]
    commands = [[sys.executable, *AUDIO, *options, "--process", process] for process in (0, 1)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    running = [
        subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    folders = [tmp_path / "run", tmp_path / "run-process-1", tmp_path / "alone"]
    done = run_script(*AUDIO, "--corpus", miniature, "--run", folders[2], env={"KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stderr
    assert (folders[0] / "audio.weights.h5").read_bytes() == (folders[1] / "audio.weights.h5").read_bytes()
    np.testing.assert_allclose(history_of(folders[0]), history_of(folders[2]), rtol=1e-5)
    statistics = [moving_variances(folder / "audio.weights.h5") for folder in folders]
    np.testing.assert_allclose(statistics[0], statistics[2], rtol=1e-5)


def history_of(folder):
    """The losses of history.csv."""
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return [[float(row["train_loss"]), float(row["dev_loss"])] for row in csv.DictReader(file)]


def moving_variances(path):
    """All variances that batch norm keeps, in one array."""
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda name, item: found.append(item[()]) if name.endswith("moving_variance") else None)
    assert found
    return np.concatenate(found)


def processes(*of_others):
    """`Devices` of process 0, whose gathering gives what the other processes would."""
    devices, given = Devices(), iter(of_others)
    devices.processes = 2
    devices._of_all = lambda array: np.stack([array, next(given, array)])
    return devices


def test_processes_that_differ_are_refused_and_go_on_from_a_common_state():
    facts = {"settings": '{"seed": 0}', "corpus": "a" * 64}
    processes().check_agreement(facts)
    sent = []
    devices = processes()
    devices._of_all = lambda array: sent.append(array) or np.stack([array, array])
    devices.check_agreement(facts | {"corpus": "b" * 64})
    with pytest.raises(InputError, match="the processes differ in corpus; give all the same"):
        processes(*sent).check_agreement(facts)
    for mine, others, expected in (
        ([6, 7], [5, 6], 6),
        ([7, 6], [7, 6], 7),
        ([3], [2, -1], None),
        ([], [-1, -1], None),
    ):
        assert processes(np.array(others)).newest_common(mine) == expected
    assert Devices().newest_common([2, 3]) == 3 and Devices().newest_common([]) is None


def test_processes_meet_or_name_who_is_missing():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="cannot listen there"):
            _meet(f"localhost:{port}", 2, 0, patience=1)
    # As JAX will, somebody listens at the port after the meeting.
    afterwards = threading.Event()

    def first():
        _meet(f"localhost:{port}", 3, 0, patience=20)
        with socket.create_server(("", port)):
            afterwards.wait(20)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(first)
        stranger = _connected(port)
        stranger.sendall(b"GET /")
        others = [pool.submit(_meet, f"localhost:{port}", 3, process, patience=20) for process in (1, 2)]
        for other in others:
            other.result()
        afterwards.set()
        running.result()
        stranger.close()
        alone = pool.submit(_meet, f"localhost:{port}", 3, 0, patience=3)
        late = pool.submit(_meet, f"localhost:{port}", 3, 2, patience=1)
        with pytest.raises(InputError, match="after 3 seconds process 1 has not come"):
            alone.result()
        with pytest.raises(InputError, match="the other processes are not there"):
            late.result()
        pair = [pool.submit(_meet, f"localhost:{port}", 2 + process, process, patience=20) for process in (0, 1)]
        for one, message in zip(pair, ("2: process 1 was started with 3", "1 of 3 is this one"), strict=True):
            with pytest.raises(InputError, match=message):
                one.result()


def _connected(port):
    """A connection to a port where somebody will listen soon."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("localhost", port), timeout=5)
        time.sleep(0.05)


def test_absent_packs_are_empty(monkeypatch):
    monkeypatch.setattr("data.contexts.pack_multiples", lambda: (16, 2))  # as on JAX, where devices share a batch
    audio = [np.ones((height, 2), "float32") for height in (3, 16, 16)]
    batch = context_rows(audio, audio, context_length=16)
    more = with_absent_packs(batch, 3)
    assert len(batch["segment"]) == 4 and len(more["segment"]) == 6
    np.testing.assert_array_equal(more["segment"][4:], 3)
    for name in ("multiplicity", "audio", "text"):
        np.testing.assert_array_equal(more[name][:4], batch[name])
        assert not more[name][4:].any()


@pytest.mark.parametrize(
    "options, problem",
    [
        (("--devices", 0), "must be positive"),
        (("--processes", 2, "--process", 2, "--coordinator", "localhost:1"), "--process from 0"),
        (("--processes", 2), "needs --process and --coordinator"),
        (("--processes", 2, "--process", 0, "--coordinator", "here"), "HOST:PORT"),
        (("--processes", 2, "--process", 0, "--coordinator", "here:99999"), "the port from 1 to 65535"),
    ],
)
def test_impossible_devices_are_refused(options, problem):
    done = run_script("train.py", *options)
    assert done.returncode == 2 and problem in done.stderr and "Traceback" not in done.stderr


def test_several_devices_without_jax_are_refused(miniature, tmp_path):
    done = run_script(*AUDIO, "--corpus", miniature, "--run", tmp_path / "run", "--devices", 2)
    assert done.returncode == 2 and "KERAS_BACKEND=jax" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
