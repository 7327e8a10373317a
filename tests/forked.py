"""Programs as processes of their own, forked from one that has the framework loaded: no seconds of start-up each.

The forked process reads the script's file anew and runs it as `python SCRIPT` would: own arguments, environment,
folder, output, signals and exit status, and nothing of the test's, such as its locks. What start-up itself does (what
the packages read of the environment, the order of imports) is seen by real starts alone: see `conftest.run_script`.
"""

import atexit
import functools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["loaded"])


@functools.cache
def _start():
    """Starts the process that forks; some Pythons look for what it loads in PYTHONPATH alone."""
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):
        forkserver.ensure_running()


class Program:
    """A running program, with what `subprocess.Popen` has of `pid`, `returncode`, `wait`, `poll` and `send_signal`.

    Args:
        arguments: of `python`: a script and its arguments, or -m, a module and its arguments.
        cwd: the folder that it runs in.
        environment: its environment; PYTHONPATH counts, what packages read as they are imported does not.
        new_session: it leads a session, and a group of processes, of its own.
        file_bytes: no file that it writes can be larger, as on a full disk.

    Attributes:
        stdout, stderr: open files of what it has printed so far.
    """

    def __init__(self, arguments, cwd, environment=None, new_session=False, file_bytes=None):
        _start()
        self.stdout, self.stderr = _printed(), _printed()
        self.args = list(map(str, arguments))
        files = (self.stdout.name, self.stderr.name)
        given = (self.args, str(cwd), files, dict(environment or os.environ), new_session, file_bytes)
        self._process = _CONTEXT.Process(target=_as_program, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def lines(self):
        """The lines of its output, those printed so far and those to come, until it ends."""
        ended, line = False, ""
        while True:
            line += self.stdout.readline()
            if line.endswith("\n") or (ended and line):
                yield line
                line = ""
            elif ended:
                return
            else:
                ended = self.poll() is not None
                time.sleep(0 if ended else 0.02)

    def communicate(self, timeout):
        """Waits for its end; gives what it printed that was not read before."""
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()


def _printed():
    return tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115 (read as long as the program is)


def _as_program(arguments, cwd, files, environment, new_session, file_bytes):
    """The forked process: becomes the program."""
    if new_session:
        os.setsid()
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    for number, name in enumerate((os.devnull, *files)):
        opened = os.open(name, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = arguments[1:] if arguments[0] == "-m" else arguments
    first = cwd if arguments[0] == "-m" else os.path.dirname(os.path.abspath(arguments[0]))
    ours = Path(__file__).parents[1]  # pytest has put folders of ours there; the packages may lie in it, too
    packages = [
        path for path in sys.path if not Path(path).is_relative_to(ours) or Path(path).is_relative_to(sys.prefix)
    ]
    sys.path[:] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *packages]
    try:
        if arguments[0] == "-m":
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except Exception:  # as Python itself, which does not speak of the process's name
        traceback.print_exc()
        sys.exit(1)
    finally:  # which a process of `multiprocessing` leaves out, in part
        threading._shutdown()
        atexit._run_exitfuncs()
