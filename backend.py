"""The framework under Keras: what is set before it starts, what makes runs repeatable, what it runs on.

Keras takes TensorFlow unless the environment variable KERAS_BACKEND says "jax" or "torch".
"""

import logging
import os
import platform


def start_quietly():
    """Sets what TensorFlow reads when it is imported: errors are shown, most start-up notes are not."""
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


def describe_device():
    """Backend, devices and processor of this process, for run.json and results.json."""
    import keras

    return {
        "backend": keras.backend.backend(),
        "devices": _devices(keras.backend.backend()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _devices(name):
    """Names as of `keras.distribution`, which knows nothing of torch."""
    if name == "torch":
        import torch

        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu:0"]
    import keras

    return keras.distribution.list_devices()
