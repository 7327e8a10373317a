"""Trains one member of a run that another process has begun and locked, and which reads its standard error.

See `training.members`; the arguments are the name of the stage, the descriptor of the folder's lock, the run folder,
the corpus file, the GloVe file.
"""

import os
import sys
from pathlib import Path

from surroundings import run_program, share_machine


def main():
    share_machine()
    from training.run import train_member  # noqa: PLC0415 (takes seconds, in which a signal is to be heard)

    os.ftruncate(sys.stderr.fileno(), 0)  # of a file: what the framework says as it starts, the other process has said
    os.lseek(sys.stderr.fileno(), 0, os.SEEK_SET)
    name, lock, *paths = sys.argv[1:]
    with open(int(lock), encoding="utf-8") as file:
        train_member(name, file, *map(Path, paths))


if __name__ == "__main__":
    run_program(main, "a member was interrupted as it started")
