"""The framework under Keras: what is set before it starts, what makes runs repeatable, what it runs on.

Keras takes TensorFlow unless the environment variable KERAS_BACKEND says "jax" or "torch".
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import platform
import socket
import time
from pathlib import Path

import numpy as np

from storage.files import InputError

BACKENDS = ("tensorflow", "jax", "torch")


def start_quietly():
    """Sets what TensorFlow reads when it is imported: errors are shown, most start-up notes are not.

    Raises:
        InputError: KERAS_BACKEND names no backend that the project runs on, or one that is not installed.
    """
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if chosen not in BACKENDS:
        raise InputError(f"KERAS_BACKEND={chosen}: must be one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(chosen) is None:
        raise InputError(f"KERAS_BACKEND={chosen}: the package {chosen} is not installed")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # batches of new shapes are normal here


def make_deterministic():
    """Makes the same seed give the same bits on the same machine and backend. JAX on CPU needs nothing."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def trace_once(network):
    """Lets TensorFlow trace a compiled network's training step once for batches of any size.

    By itself it traces the first size, then those that vary, then the odd last batch: seconds each time.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    inputs = keras.tree.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), network.input)
    targets = tf.TensorSpec(network.output_shape, "float32")

    @tf.function(input_signature=[inputs, targets], autograph=False)
    def step(batch, wanted):
        return network.train_step((batch, wanted))

    # What `train_on_batch` calls, with an iterator over one (inputs, targets, no weights).
    network.train_function = lambda data: step(*next(data)[:2])


class Devices:
    """The devices that share every training step: each gets its part of a batch, `keras.distribution.DataParallel`.

    The step is that of the whole batch, batch norm included: XLA divides one computation, not the network. A batch
    that cannot be divided, the last one of an epoch, is computed by every device. Prediction is not divided.

    Several processes, on one machine or several, each read all data and train the same network; each has a run
    folder of its own, and a stop request of one stops all.

    Args:
        per_process: devices of this process; on a CPU that many virtual ones.
        processes: how many there are.
        process: number of this one, from 0.
        coordinator: HOST:PORT of process 0, where the processes meet; None for a single process.

    Raises:
        InputError: Keras does not run on JAX, there are fewer devices, or not all processes come within five minutes.
    """

    def __init__(self, per_process=1, processes=1, process=0, coordinator=None):
        self.processes, self.process = processes, process
        self.total = per_process * processes
        self._distribution, self._used = None, None
        if self.total > 1:
            self._begin(per_process, coordinator)

    def _begin(self, per_process, coordinator):
        import keras

        if keras.backend.backend() != "jax":
            raise InputError(
                "several devices need Keras on JAX: pip install jax, and set the environment variable KERAS_BACKEND=jax"
            )
        import jax

        jax.config.update("jax_num_cpu_devices", per_process)
        if self.processes > 1:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            _meet(coordinator, self.processes, self.process)
            try:
                keras.distribution.initialize(coordinator, self.processes, self.process)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"the {self.processes} processes did not meet at {coordinator} ({reason})") from error
        found = keras.distribution.list_devices()
        if len(found) < self.total:
            raise InputError(f"--devices {per_process}: there are only {', '.join(found)}")
        if self.processes > 1 and len(found) > self.total:
            each = len(found) // self.processes
            raise InputError(f"{len(found)} devices: several processes need all of them, so give --devices {each}")
        self._used = found[: self.total]
        self._distribution = _data_parallel(self._used)
        keras.distribution.set_distribution(self._distribution)

    def part(self, batch, targets):
        """This process's part of a batch; what each device gets of it follows from its shape.

        Args:
            batch: {name: array} of `data.contexts`.
            targets: (B, ...).
        """
        if self._distribution is None:
            return batch, targets
        from data.contexts import with_absent_packs

        batch = with_absent_packs(batch, self.total)
        self._distribution.divides = all(len(array) % self.total == 0 for array in (*batch.values(), targets))
        if self._distribution.divides and self.processes > 1:
            batch = {name: self._own(array) for name, array in batch.items()}
            targets = self._own(targets)
        return batch, targets

    def _own(self, array):
        size = len(array) // self.processes
        return array[self.process * size : (self.process + 1) * size]

    def any_process(self, stop):
        """A function that gives what `stop()` gives in any of the processes; all must call it equally often."""
        if self.processes == 1:
            return stop

        return lambda: int(self._of_all(np.int32(stop() or 0)).max()) or None

    def check_agreement(self, facts):
        """Makes sure that all processes are about to do the same; all must call it.

        Args:
            facts: {name: text}, with the same names in every process.

        Raises:
            InputError: a text differs in one of the processes; in all of them.
        """
        if self.processes == 1:
            return
        digests = [list(hashlib.sha256(text.encode()).digest()) for text in facts.values()]
        of_all = self._of_all(np.array(digests, "uint8"))  # (processes, facts, 32)
        differing = [name for place, name in enumerate(facts) if (of_all[:, place] != of_all[0, place]).any()]
        if differing:
            raise InputError(
                f"the processes differ in {', '.join(differing)}; give all the same options and files, and to go on, "
                "copies of one run folder: RUN, RUN-process-1, ..."
            )

    def newest_common(self, numbers):
        """The largest of at most two numbers from 0 that every process has, or None; all must call it."""
        if self.processes > 1:
            of_all = self._of_all(np.array([*numbers, -1, -1][:2], "int32"))  # (processes, 2)
            numbers = [number for number in numbers if (of_all == number).any(axis=1).all()]
        return max(numbers, default=None)

    def _of_all(self, array):
        """(processes, ...) what each process gives."""
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array))

    def describe(self):
        """`describe_device`, of several devices those that share the steps."""
        return describe_device() | ({"devices": self._used} if self._used else {})


def _meet(coordinator, processes, process, patience=300):
    """Returns when all processes are there: JAX would end the program, with a stack trace, if one did not come.

    Process 0 listens at the port that JAX takes afterwards; the others tell it their number and wait for its word.

    Raises:
        InputError: not all have come after `patience` seconds, one counts other --processes, the port is taken, or
            there is no such host.
    """
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + patience
    if process:
        _call(coordinator, (host, int(port)), f"{process} of {processes}", end)
        return
    connections = {}
    try:
        with socket.create_server(("", int(port))) as server:
            while len(connections) < processes - 1:
                server.settimeout(max(0.1, end - time.monotonic()))
                connection, _ = server.accept()
                connection.settimeout(5)
                try:
                    other, count = map(int, connection.recv(32).split(b" of "))
                    if count != processes:
                        connection.sendall(b"not")
                        raise InputError(f"--processes {processes}: process {other} was started with {count}")
                    connections[other] = connection
                except (OSError, ValueError):  # a stranger
                    connection.close()
    except TimeoutError as error:
        missing = ", ".join(str(other) for other in range(1, processes) if other not in connections)
        raise InputError(
            f"--coordinator {coordinator}: after {patience} seconds process {missing} has not come; start it with the "
            "same options but its own --process, and this one again"
        ) from error
    except OSError as error:
        raise InputError(f"--coordinator {coordinator}: cannot listen there ({error}); take another port") from error
    for connection in connections.values():
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"all")


def _call(coordinator, address, name, end):
    """Tells process 0 which one is there, and returns when all are and JAX listens in its stead."""
    told = False
    while True:
        try:
            with socket.create_connection(address, timeout=5) as connection:
                if told:
                    return
                connection.sendall(name.encode())
                connection.settimeout(max(0.1, end - time.monotonic()))
                answer = connection.recv(3)
                if answer == b"not":
                    raise InputError(f"--processes: process {name} is this one, but process 0 counts other --processes")
                told = answer == b"all"
        except OSError as error:
            if time.monotonic() > end or isinstance(error, socket.gaierror):
                raise InputError(f"--coordinator {coordinator}: the other processes are not there ({error})") from error
        time.sleep(0.5)


def _data_parallel(devices):
    """`keras.distribution.DataParallel` that leaves a batch whole while its `divides` is False."""
    import keras

    class WholeOrDivided(keras.distribution.DataParallel):
        divides = True

        def get_data_layout(self, data_shape):
            if self.divides:
                return super().get_data_layout(data_shape)
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    return WholeOrDivided(devices=devices, auto_shard_dataset=False)


def describe_device():
    """Backend, devices and processor of this process, for run.json and results.json."""
    import keras

    return {
        "backend": keras.backend.backend(),
        "devices": _devices(keras.backend.backend()),
        "machine": machine(),
    }


def machine():
    """The processor's name where Linux tells it, else the architecture, and the number of cores."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
    return f"{name}, {os.cpu_count()} cores"


def _devices(name):
    """Names as of `keras.distribution`, which knows nothing of torch."""
    if name == "torch":
        import torch

        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu:0"]
    import keras

    return keras.distribution.list_devices()
