"""What the tests share: a quiet framework, the real data where it is at hand, the miniature corpus."""

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import opensmile  # noqa: F401 (before the framework: data.audio._opensmile says why)
import pytest
from forked import Program
from hypothesis import HealthCheck, settings

from surroundings import run_program

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Two processes share the suite, and each test is small: threads of their own would only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and what it starts, ignores Ctrl-C

# The suite runs the same few hundred cases each time; `make stress` draws thousands of new ones.
settings.register_profile("suite", max_examples=300, deadline=None, derandomize=True)
settings.register_profile(
    "stress", max_examples=5000, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # real data of the maintainers; tests that need it skip without


LONGEST = (
    "test_training",
    "test_cluster",
    "test_model",
    "test_causal",
    "test_provided",
    "test_baselines",
    "test_prepare",
    "test_surroundings",
)


def pytest_collection_modifyitems(items):
    """The files that take longest go first, so that processes that share the suite end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture
def shared():
    """The folder of real data; skips where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the maintainers' real data is not here")
    return SHARED


def run_script(*arguments, path=None, file_bytes=None, cwd=ROOT, env=None):
    """Runs a script of the project as its user would; returns the finished process with its output as text.

    It is forked from a process that has the packages loaded, as `forked` says. With `env`, or -c in place of a script,
    Python is started for it; so the start-up of each program is tested:

    - train.py: test_surroundings.py, in a strange environment, with evaluate.py behind it in the same process.
    - evaluate.py: on other backends in test_model.py.
    - data.prepare: the `miniature` below.
    - predict.py, reproduce.py: `--help` in test_training.py, which imports all that stands at the top.
    - a program of a user's own: test_documents.py.

    Args:
        path: a folder whose modules it finds besides those of its own.
        file_bytes: no file that it writes can be larger, as on a full disk.
        env: variables of its environment, besides those of this process.
    """
    if env is None and arguments[0] != "-c":
        environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
        program = Program(arguments, cwd, environment, file_bytes=file_bytes)
        said = program.communicate(timeout=600)
        return subprocess.CompletedProcess(program.args, program.returncode, *said)
    command = [sys.executable, *map(str, arguments)]
    env = os.environ | (env or {})
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def said_by(main, *arguments):
    """(exit status, what stands on standard error) of a program's `main`, run in this process: no start-up to wait for.

    Real runs of the scripts, each with a mistake or two, are in the tests of the programs.
    """
    said = io.StringIO()
    with mock.patch.object(sys, "argv", ["program", *map(str, arguments)]), contextlib.redirect_stderr(said):
        try:
            run_program(main, "interrupted")
        except SystemExit as ended:
            return ended.code, said.getvalue()
    return 0, said.getvalue()


@contextlib.contextmanager
def untraced_steps():
    """TensorFlow does each step anew from Python, for a few small steps: to trace a network takes seconds.

    The programs that tests start are traced, as they are for their users.
    """
    import tensorflow  # noqa: PLC0415 (not by tests of the data alone)

    tensorflow.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tensorflow.config.run_functions_eagerly(False)


@pytest.fixture
def untraced():
    with untraced_steps():
        yield


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """The miniature corpus, prepared by the real command: once, whichever of the test processes comes first."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "miniature.h5"
    with open(folder / "miniature.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            done = run_script("-m", "data.prepare", "sample", "--out", path, env={})
            assert done.returncode == 0, done.stderr
    return path


def pytest_make_parametrize_id(config, val, argname):
    """Bytes go by number: an archive has the time in it, and all processes must collect the same tests."""
    return argname if isinstance(val, bytes) else None
