"""Programs as processes of their own, forked from one that has the framework loaded: no seconds of start-up each.

The forked process reads the script's file anew and runs it as `python SCRIPT` would: own arguments, folder, output,
signals and exit status. What start-up itself does (the environment, the order of imports) is seen by real starts
alone: `conftest.run_script` makes one where a test sets the environment.
"""

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["loaded"])


@functools.cache
def _start():
    """Starts the process that forks; some Pythons look for what it loads in PYTHONPATH alone."""
    here = Path(__file__).parent
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (here, here.parent)))):
        forkserver.ensure_running()


class Program:
    """A running script, with what `subprocess.Popen` has of `pid`, `returncode`, `wait`, `poll` and `send_signal`.

    Attributes:
        stdout, stderr: open files of what it has printed so far.
    """

    def __init__(self, arguments, cwd):
        _start()
        # Held as long as the program is looked at.
        self.stdout, self.stderr = (tempfile.NamedTemporaryFile("r", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        self.args = list(map(str, arguments))
        files = (self.stdout.name, self.stderr.name)
        self._process = _CONTEXT.Process(target=_as_program, args=(self.args, str(cwd), files))
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

    def communicate(self, timeout):
        """Waits for its end; gives what it printed that was not read before."""
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()


def _as_program(arguments, cwd, files):
    """The forked process: becomes the program."""
    for number, name in enumerate((os.devnull, *files)):
        opened = os.open(name, os.O_RDWR)
        os.dup2(opened, number)
    os.chdir(cwd)
    sys.argv = arguments[1:] if arguments[0] == "-m" else arguments
    if arguments[0] == "-m":
        sys.path[0] = cwd
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")
