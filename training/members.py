"""Members of a run side by side: networks so small that a second core helps none of them alone.

Each is trained by a process of its own, `training.member`, which brings the member's state to the end of its training.
`training.run` then takes it up as after a stop, and finds nothing left to train.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from storage.files import InputError
from surroundings import PARENT
from training.loop import Stopped

_PROJECT = Path(__file__).resolve().parents[1]
_POLL_S = 0.2
# A core for each; on a card no process takes all of the memory.
_ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def train_side_by_side(names, folder, corpus_path, glove, jobs, stop):
    """Trains members of a run, each to the end of its state; the first failure ends the others, their states saved.

    Args:
        names: of the stages.
        folder: path of the run folder, which this process has locked.
        corpus_path, glove: where the files are now; `glove` may be None.
        jobs: how many at once.
        stop: as of `training.loop.fit`.

    Raises:
        InputError: training failed, or a process was killed.
        Stopped: a signal came.
    """
    waiting, going = list(names), {}
    with contextlib.ExitStack() as stack:
        stack.callback(_end, going)
        while waiting or going:
            while waiting and len(going) < jobs:
                name, said = waiting.pop(0), stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
                going[name] = _started(name, folder, corpus_path, glove, said), said
            for name, (process, said) in list(going.items()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(_POLL_S)
                    del going[name]
                    _check(name, status, said)
            if number := stop():
                raise Stopped(number)


def _started(name, folder, corpus_path, glove, said):
    # A file as its standard error: two bars on one terminal would write over each other, a full pipe would hold it up.
    command = [sys.executable, "-m", "training.member", name]
    command += [str(Path(path).resolve()) for path in (folder, corpus_path, glove) if path]
    environment = _ENVIRONMENT | os.environ | {PARENT: str(os.getpid())}
    return subprocess.Popen(command, cwd=_PROJECT, env=environment, stderr=said)


def _check(name, status, said):
    """Passes on what a process said to its standard error, as its status asks for."""
    said.seek(0)
    text = said.read().strip()
    if status < 0:
        raise InputError(
            f"{name}: its process was killed (signal {-status}), perhaps for want of memory; go on with --resume and "
            "fewer --jobs"
        )
    *notes, last = text.splitlines() or [""]
    if status == 2:
        print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)
        raise InputError(last.removeprefix("error: "))
    if text:
        print(text, file=sys.stderr)
    if status > 128:
        raise Stopped(status - 128)
    if status:
        raise InputError(f"{name}: its process ended with status {status}; what it said stands above")


def _end(going):
    for process, _ in going.values():
        process.terminate()
    for process, _ in going.values():
        process.wait()
