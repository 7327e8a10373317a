"""The framework under Keras: what makes runs repeatable, what they run on."""

import contextlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow
elif keras.backend.backend() == "torch":
    import torch


def settle():
    """Sets what an old keras.json may have set otherwise: 32-bit floats, and the clipping of the loss."""
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)


def make_deterministic():
    """Makes the same seed give the same bits on the same machine and backend. JAX on CPU needs nothing."""
    if keras.backend.backend() == "tensorflow":
        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        torch.use_deterministic_algorithms(True)


def describe_device():
    """Backend, devices and processor of this process, for run.json and results.json."""
    if keras.backend.backend() == "torch":  # of which `keras.distribution` knows nothing
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu:0"]
    else:
        devices = keras.distribution.list_devices()
    return {"backend": keras.backend.backend(), "devices": tuple(devices), "machine": machine()}


def machine():
    """The processor's name where Linux tells it, else the architecture, and the number of cores."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
    return f"{name}, {os.cpu_count()} cores"


def software():
    """{package: version} of what computes."""
    packages = ("keras", "numpy", "h5py", "tensorflow-cpu", "tensorflow", "jax", "torch")
    return {"python": platform.python_version(), **{name: found for name in packages if (found := _version(name))}}


def _version(package):
    with contextlib.suppress(Exception):
        return version(package)
    return None
