"""Programs of the project as jobs: many side by side, here or on a cluster, each once, stopped together.

Two locks of the kernel, which drops them when their holder dies, do all of it. `Going` is a file that `reproduce.py`
holds for as long as it wants its jobs to go on: a job that finds it free ends its program, which saves its state. The
log of a program is held by the program itself: a job waits for it, so a run that a worker left dying is ended first.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import joblib

from data.workers import handled
from storage.files import InputError
from surroundings import PARENT, Terminated

PROJECT = Path(__file__).resolve().parents[1]
_POLL_S = 0.3


@dataclass(frozen=True)
class Program:
    """A script of the project to run: `what` it is for people, its `log`, the script's name or ("-m", module)."""

    what: str
    log: Path
    script: tuple
    arguments: tuple

    def __call__(self, going):
        """Runs it; a `Job` of its own."""
        with held(self.log, going) as log:
            return [run_logged(self, log, going)]


class Stopped(Exception):
    """The jobs are to end."""


def _locked(file, kind):
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False


@dataclass(frozen=True)
class Going:
    """Whether the jobs are to go on: `path` means the same on every machine that sees the folder.

    `backend` is the framework of whoever wants them.
    """

    path: Path
    backend: str

    def check(self):
        """Raises `Stopped` where they are to end."""
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="utf-8") as file:
            if not _locked(file, fcntl.LOCK_SH):
                return
        raise Stopped

    def stop(self):
        """Asks all jobs to end."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def going_on(folder):
    """Yields a `Going` that holds until this block, or this process, ends, or a signal asks the program to end.

    A second signal ends the program at once.

    Raises:
        KeyboardInterrupt: a signal came; the jobs have ended. `surroundings.Terminated` for SIGTERM.
    """
    going = Going(folder / f".going-{socket.gethostname()}-{os.getpid()}", os.environ["KERAS_BACKEND"])
    received = []

    def asked():
        return Terminated() if signal.SIGTERM in received else KeyboardInterrupt()

    def stop(number, frame):
        received.append(number)
        going.stop()
        if len(received) > 1:
            raise asked()

    wanted = [signal.SIGINT, signal.SIGTERM]
    wanted += [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) != signal.SIG_IGN)  # nohup wants hang-ups ignored
    with handled(stop, *wanted):
        try:
            with open(going.path, "w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield going
        except Stopped as stopped:
            if not received:
                raise InputError(
                    f"{going.path}: was removed, so the runs have stopped; give the command again"
                ) from stopped
        finally:
            going.stop()
    if received:
        raise asked()


@contextlib.contextmanager
def held(log, going):
    """Yields the log, locked, for programs that write into it: none is at work when this block begins."""
    with open(log, "a", encoding="utf-8") as file:
        if not _locked(file, fcntl.LOCK_EX):
            said(f"waiting for another program, which writes into {log}")
        while not _locked(file, fcntl.LOCK_EX):
            going.check()
            time.sleep(_POLL_S)
        yield file


def run_logged(program, log, going):
    """Runs a program with its output in a log that is `held`; says so on the terminal.

    Returns:
        What it was and how long it took, as a line.

    Raises:
        InputError: it failed.
        Stopped: the jobs are to end; the program has saved its state.
    """
    going.check()
    # Unbuffered, so that the log grows as the program works and its lines stand in their order.
    command = [sys.executable, "-u", *program.script, *map(str, program.arguments)]
    print(f"\n$ {' '.join(command[2:])}", file=log, flush=True)
    said(f"{program.what} (output in {program.log})")
    began = time.monotonic()
    # As its output the program inherits the log's lock, and keeps it if this process dies.
    output = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
    environment = os.environ | {"KERAS_BACKEND": going.backend, PARENT: str(os.getpid())}
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, **output)
    while (status := _status(process)) is None:
        try:
            going.check()
        except Stopped:
            process.terminate()
            process.wait()
            raise
    if status < 0:
        raise InputError(
            f"{program.what} was killed (signal {-status}), perhaps for want of memory; the same command goes on from "
            f"there (all of it in {program.log})"
        )
    if status:
        text = program.log.read_text(encoding="utf-8", errors="replace")
        last = [line for line in text.splitlines() if line.strip()][-1]
        raise InputError(f"{program.what} failed: {last.removeprefix('error: ')} (all of it in {program.log})")
    return f"{program.what}: {(time.monotonic() - began) / 60:.1f} min"


def said(line):
    """Prints a line with the time; in one piece, since several threads do."""
    print(f"{time.strftime('%H:%M:%S')}  {line}\n", end="", flush=True)


def _status(process):
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_POLL_S)
    return None


def do_all(jobs, going, parallel):
    """Does all jobs, functions of a `Going` that give lines to print; the first failure ends the others.

    Args:
        jobs: such functions, that can be pickled.
        going: of `going_on`.
        parallel: of `data.workers.parallel`.

    Raises:
        InputError: the first failure.
        Stopped: a signal came. Either is raised when all jobs have ended.
    """
    failures, stopped = [], False
    for found in parallel([joblib.delayed(_attempted)(job, going) for job in jobs]) if jobs else ():
        if isinstance(found, InputError):
            failures.append(found)
            going.stop()
        stopped |= found is None
        for line in found if isinstance(found, list) else ():
            said(line)
    if failures:
        raise failures[0]
    if stopped:
        raise Stopped


def _attempted(job, going):
    """What a job gives, its `InputError`, or None where it was stopped."""
    try:
        return job(going)
    except InputError as error:
        return error
    except Stopped:
        return None
