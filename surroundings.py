"""What surrounds every program of the project: the environment that it settles, and the one end of all errors.

TensorFlow, Keras and Matplotlib read the environment when they are imported, so importing this file sets what they
read: few start-up notes; TensorFlow unless KERAS_BACKEND says "jax" or "torch", whatever an old keras.json says; and
figures without a display, whatever a notebook has left.
"""

import importlib.util
import itertools
import logging
import os
import signal
import sys
from pathlib import Path

from storage.files import InputError

BACKENDS = ("tensorflow", "jax", "torch")
# Environment variable: the process that started a training, which stops when that one dies, its state saved.
PARENT = "MCAF_STOP_WITHOUT_PARENT"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors are shown
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
os.environ["MPLBACKEND"] = "Agg"
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # batches of new shapes are normal here


def check_backend():
    """Looks whether the framework that is asked for can be had, before anything imports it.

    Raises:
        InputError: KERAS_BACKEND names no backend that the project runs on, or one that is not installed.
    """
    chosen = os.environ["KERAS_BACKEND"]
    if chosen not in BACKENDS:
        raise InputError(f"KERAS_BACKEND={chosen}: must be one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(chosen) is None:
        raise InputError(f"KERAS_BACKEND={chosen}: the package {chosen} is not installed")


def share_machine():
    """For programs that work side by side: a thread each, and no card taken whole. Before the framework is imported."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as `timeout`, Slurm and `docker stop` send it: what Ctrl-C tidies up, it tidies up."""


def _terminate(number, frame):
    raise Terminated


def _refuse_empty(given):
    """An empty argument is a variable of the shell that is not set, and never what was meant."""
    for before, argument in itertools.pairwise(given):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            what = argument or f"the argument behind {Path(before).name}"
            raise InputError(f"{what} is empty; is a variable of the shell not set?")


def run_program(main, interrupted):
    """Runs a program to its end and leaves Python with its exit status.

    0 is success, 2 a mistake of the user's in one line, 130 an interruption (Ctrl-C), 143 one by SIGTERM.

    Args:
        main: the program, without arguments.
        interrupted: what a user is told after either.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is escaped, not a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _refuse_empty(sys.argv)
        main()
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        print(interrupted, file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT))
    finally:
        signal.signal(signal.SIGTERM, before)
