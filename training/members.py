"""Members of a run side by side: networks so small that a second core helps none of them much.

Each is trained by a process of its own, `training.member`, which brings the member's state to the end of its training.
`training.run` then takes it up as after a stop, and finds nothing left to train.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from storage.files import InputError
from surroundings import PARENT
from training.loop import Stopped

_PROJECT = Path(__file__).resolve().parents[1]
_POLL_S = 0.2


def train_side_by_side(names, folder, corpus_path, glove, jobs, stop):
    """Trains members of a run, each to the end of its state; the first failure ends the others, their states saved.

    Args:
        names: of the stages.
        folder: `training.run.RunFolder`.
        corpus_path, glove: where the files are now; `glove` may be None.
        jobs: how many at once.
        stop: as of `training.loop.fit`.

    Raises:
        InputError: training failed, or a process was killed.
        Stopped: a signal came.
    """
    waiting, going = list(names), {}
    with contextlib.ExitStack() as files:
        try:
            while waiting or going:
                while waiting and len(going) < jobs:
                    name, said = waiting.pop(0), files.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
                    going[name] = _started(name, folder, corpus_path, glove, said), said
                with contextlib.suppress(subprocess.TimeoutExpired):
                    next(iter(going.values()))[0].wait(_POLL_S)
                if number := stop():
                    raise Stopped(number)
                for name in [name for name, (process, _) in going.items() if process.poll() is not None]:
                    _check(name, *going.pop(name))
        except BaseException as error:  # none is left at work, whatever it is
            failed = _end(going)
            if failed and isinstance(error, Stopped):  # its state may not be saved
                raise failed[0] from error
            raise


def _started(name, folder, corpus_path, glove, said):
    """Starts a process that holds the lock of the folder as well, so that it stays locked if this one dies.

    Its standard error is a file: two bars on one terminal would write over each other, a full pipe would hold it up.
    """
    lock, paths = folder.lock.fileno(), (folder.path, corpus_path, glove)
    command = [sys.executable, "-m", "training.member", name, str(lock)]
    command += [str(Path(path).resolve()) for path in paths if path]
    environment = os.environ | {PARENT: str(os.getpid())}
    sys.stdout.flush()
    return subprocess.Popen(command, cwd=_PROJECT, env=environment, stderr=said, pass_fds=(lock,))


def _end(going):
    """Ends the processes; gives the `InputError`s of those that fail as they end."""
    for process, _ in going.values():
        process.terminate()
    for process, _ in going.values():
        process.wait()
    failed = []
    for name, (process, said) in going.items():
        try:
            _check(name, process, said)
        except Stopped:
            pass
        except InputError as error:
            failed += [error] * (process.returncode == 2)
    return failed


def _check(name, process, said):
    """Passes on how a process ended, and what it said to its standard error."""
    said.seek(0)
    lines, status = said.read().splitlines(), process.returncode
    errors = [line for line in lines if line.startswith("error: ")] if status == 2 else []
    for line in lines:
        if line not in errors:
            print(line, file=sys.stderr)
    if errors:
        raise InputError(errors[-1].removeprefix("error: "))
    for number in (signal.SIGINT, signal.SIGTERM):
        if status in (-number, 128 + number):
            raise Stopped(number)
    if status:
        how = f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"
        raise InputError(
            f"{name}: its process {how}{', perhaps for want of memory' * (status == -signal.SIGKILL)}; go on with "
            "--resume and fewer --jobs"
        )
