"""Runs train.py and, at the Nth chance, kills its own process: python killed.py step|write|rename|stage N ARGUMENTS...

step: after a training step; write: in the middle of writing a file, half of it on disk; rename: just after a file
got its name; stage: between two stages, when the finished one is in run.json. No cleaning up, as power cuts do none.
"""

import fcntl
import os
import signal
import sys
from pathlib import Path

import keras

import train
from storage import files
from surroundings import run_program


def kill_at(number):
    """A function that kills this process at its Nth call."""
    calls = []

    def called():
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return called


def main():
    kind, number, *sys.argv[1:] = sys.argv[1:]
    chance, step, fsync, replace = kill_at(int(number)), keras.Model.train_on_batch, os.fsync, os.replace

    def killed_step(*arguments, **named):
        loss = step(*arguments, **named)
        chance()
        return loss

    def killed_fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR:  # a file of atomic_path; folders and logs are not
            written = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.ftruncate(descriptor, len(written) // 2)
            chance()
            os.pwrite(descriptor, written, 0)  # not yet the Nth
        fsync(descriptor)

    def killed_replace(source, target):
        stage_is_done = Path(target).name == "run.json" and '"best_epoch"' in Path(source).read_text()
        replace(source, target)
        if kind == "rename" or stage_is_done:
            chance()

    if kind == "step":
        keras.Model.train_on_batch = killed_step
    elif kind == "write":
        files.os.fsync = killed_fsync
    else:
        files.os.replace = killed_replace
    run_program(train.main, "interrupted")


if __name__ == "__main__":
    main()
