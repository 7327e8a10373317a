"""Where work is done: processes or threads of this machine, or the workers of a Dask cluster."""

import asyncio
import contextlib
import signal
import sys
import threading
from pathlib import Path

import joblib
from tqdm import tqdm

from storage.files import InputError

_PATIENCE_S = 4  # until a scheduler that does not answer, or has no worker, is an error


def progress_bar(what, total, unit, shown, done=0):
    """A tqdm bar on standard error; a log file needs fewer lines than a terminal."""
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm(desc=what, total=total, initial=done, unit=f" {unit}", disable=not shown, mininterval=seconds)


@contextlib.contextmanager
def parallel(jobs=None, scheduler=None, threads=False):
    """Yields a function that runs tasks side by side.

    It takes `joblib.delayed` calls and gives their results as they come, in any order. On a cluster all machines need
    the project, and every file that a task names, at the same path.

    Args:
        jobs: how many at once on this machine; None for all cores.
        scheduler: HOST:PORT of a Dask cluster's scheduler, which decides instead of `jobs`.
        threads: threads instead of processes on this machine, for tasks that wait for programs they start.

    Raises:
        InputError: the package distributed is not installed, or no scheduler answers, or it has no worker.
    """
    if scheduler is None:
        with interrupts_ignored():
            workers = joblib.Parallel(jobs or -1, prefer="threads" if threads else None, return_as=_order())
        yield lambda tasks: _started(workers, tasks)
        return
    with cluster(scheduler) as client, joblib.parallel_config(backend="dask", client=client):
        yield joblib.Parallel(-1, return_as="generator_unordered")


def _order():
    """Some backends that a caller may have set with `joblib.parallel_config` give all results at the end."""
    one_by_one = joblib.parallel.get_active_backend()[0].supports_return_generator
    return "generator_unordered" if one_by_one else "list"


def _started(workers, tasks):
    with interrupts_ignored():
        return workers(tasks)


@contextlib.contextmanager
def cluster(scheduler):
    """Yields the Dask client of a cluster whose workers find the project's modules; arguments as of `parallel`."""
    try:
        import distributed  # noqa: PLC0415 (an optional package)
    except ImportError as error:
        raise InputError(
            "--scheduler needs the package distributed: pip install --no-deps -r requirements-cluster.txt"
        ) from error

    async def greet():  # a client that meets nobody says so much later, and not in one line
        comm = await distributed.comm.connect(scheduler, timeout=_PATIENCE_S)
        comm.abort()

    try:
        asyncio.run(asyncio.wait_for(greet(), 2 * _PATIENCE_S))
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise InputError(
            f"--scheduler {scheduler}: no Dask scheduler answers there; start one with 'dask scheduler'"
        ) from error
    with distributed.Client(scheduler, timeout=_PATIENCE_S, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError as error:
            raise InputError(f"--scheduler {scheduler}: it has no worker; start some with 'dask worker'") from error
        project = str(Path(__file__).resolve().parents[1])
        # A lambda travels as code, a function of this module by its name, which a worker does not know yet.
        client.register_worker_callbacks(lambda: project in sys.path or sys.path.insert(0, project))
        yield client


@contextlib.contextmanager
def handled(handler, *signals):
    """While open, these signals go to a handler; but in the main thread alone, as Python interrupts no other."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in signals if main}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def interrupts_ignored():
    """Processes started in here ignore Ctrl-C, which a terminal sends to them too: the parent ends them."""
    return handled(signal.SIG_IGN, signal.SIGINT)
