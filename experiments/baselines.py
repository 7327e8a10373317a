"""The systems that the paper compares itself with (Table 1), on the utterance vectors of a finished run.

Majority class, SVM and random forest on the utterance's own vector, acoustic and textual side by side; EF-LSTM, one
LSTM over these vectors of the context; BC-LSTM, one in each direction; TFN, the outer product of the utterance's
textual and acoustic vector. Split, tie rule and metrics are those of evaluate.py. Each is tuned over its grid: a
network keeps the weights of its lowest dev loss, the dev accuracy (without 'other') chooses the grid point, and the
test utterances are scored once.

    python -m experiments.baselines runs/iemocap-released-seed0 --out runs/baselines
"""

import argparse
from pathlib import Path

from experiments.catalogue import GRIDS, PLAIN_GRIDS
from surroundings import check_backend, run_program

EPOCHS, PATIENCE = 50, 5


def main():
    arguments = vars(parse_arguments())
    check_backend()
    from experiments.tuning import baselines  # the framework takes seconds, and --help needs none

    print(baselines(**arguments))


def parse_arguments(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Tune, train and score the paper's peers on a run's utterance vectors."
    )
    parser.add_argument("run", type=Path, help="run folder of train.py with a text and an audio branch")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument("--glove", type=Path, help="the run's GloVe file, if it is no longer where it was")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for SYSTEM-seedN/results.json (default: RUN/baselines, or runs/NAME/baselines of a checkpoint)",
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=[*GRIDS, *PLAIN_GRIDS],
        default=list(GRIDS),
        help=f"which (default: the paper's); {', '.join(PLAIN_GRIDS)} read mean GloVe vectors and acoustic columns in "
        "place of the run's vectors, so the run need not have branches",
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: the run's seed")
    parser.add_argument(
        "--ties",
        choices=("other", "ours"),
        default="other",
        help="training utterances without a majority become 'other' (as the paper does for its baselines), or our "
        "rule: networks regress the vote shares, SVM and random forest leave ties out (default: other)",
    )
    for name, most, what in (
        ("--epochs", EPOCHS, "most epochs of a network"),
        ("--patience", PATIENCE, "epochs without a lower dev loss"),
    ):
        parser.add_argument(name, type=int, default=most, metavar="N", help=f"{what} (default: {most})")
    arguments = parser.parse_args(argv)
    if arguments.epochs < 1 or arguments.patience < 1:
        parser.error("--epochs and --patience must be positive")
    if arguments.glove and not set(arguments.systems) & set(PLAIN_GRIDS):
        parser.error(f"--glove: none but {', '.join(PLAIN_GRIDS)} read it")
    if any(not 0 <= seed < 2**30 for seed in arguments.seeds or ()):
        parser.error("--seeds must be from 0 to 2**30")
    return arguments


if __name__ == "__main__":
    run_program(main, "stopped; the same command goes on with the first system that is not finished")
