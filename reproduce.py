"""The paper's tables with one command: trains and evaluates what they need, and writes them beside ours.

    python reproduce.py all --corpus iemocap.h5 --glove glove.6B.200d.txt
    python reproduce.py table3 --corpus iemocap.h5 --glove glove.6B.200d.txt --seeds 0
    python reproduce.py table3 --corpus iemocap.h5 --glove glove.6B.200d.txt --rates 1e-4 3e-4 1e-3
    python reproduce.py table2 --corpus meld.h5 --glove glove.6B.200d.txt   # another corpus, hence not in `all`
    python reproduce.py causal --corpus iemocap.h5 --glove glove.6B.200d.txt   # our own system, and what adds what
    python reproduce.py all --quick                    # the made-up miniature corpus, a few minutes

What is finished is kept and what is half done goes on: the same command can be stopped and given again. Text and
audio branch are trained once per seed and shared by the runs that differ in the fusion alone. With --scheduler the runs
go to the workers of a Dask cluster; all machines see project, corpus and output at the same path.
"""

import argparse
import os
from pathlib import Path

from data.workers import parallel
from experiments.catalogue import EXPERIMENTS
from surroundings import check_backend, run_program
from train import miniature_corpus

QUICK_SEEDS, PAPER_SEEDS = (0, 1), (0, 1, 2, 3, 4)

RATED = ", ".join(name for name, one in EXPERIMENTS.items() if one.rated is not None)  # of --rates


def main():
    arguments = parse_arguments()
    check_backend()
    if arguments.finished:
        print(reproduced(arguments))
    else:
        with parallel(arguments.jobs, arguments.scheduler, threads=True) as run:
            print(reproduced(arguments, run))


def reproduced(arguments, run=None):
    """The text of `experiments.reproduction.reproduce`; its imports take seconds, and --help needs none."""
    from experiments.reproduction import Reproduction, reproduce
    from experiments.runs import Place

    corpus = miniature_corpus() if arguments.quick else arguments.corpus
    paths = [path and Path(os.path.abspath(path)) for path in (arguments.out, corpus, arguments.glove)]
    place = Place(*paths, arguments.quick, arguments.epochs, arguments.patience)
    work = Reproduction(EXPERIMENTS[arguments.experiment], place, arguments.seeds, arguments.rates)
    return reproduce(work, run)


def parse_arguments(argv=None):
    """The command line, with the defaults that depend on others filled in."""
    parser = argparse.ArgumentParser(description="Train and evaluate what the paper's tables need, and write them.")
    helps = "; ".join(f"{one.name}: {one.help}" for one in EXPERIMENTS.values())
    parser.add_argument("experiment", choices=EXPERIMENTS, metavar="EXPERIMENT", help=helps)
    parser.add_argument("--corpus", type=Path, help="corpus file of data.prepare")
    parser.add_argument("--glove", type=Path, help="GloVe text file (default: word vectors start random)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: 0 1 2 3 4; with --quick 0 1")
    parser.add_argument("--epochs", type=int, metavar="N", help="most epochs of each stage (default: train.py's)")
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop a stage after N epochs without a lower dev loss (default: never)",
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=(),
        metavar="RATE",
        help=f"{RATED}: the fusion at the learning rate, of these, that dev loss of two seeds chooses",
    )
    parser.add_argument("--out", type=Path, help="folder for runs, tables, figures (default: runs/reproduce-CORPUS)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=int, metavar="N", help="runs at the same time (default: 1; with --quick one per core)"
    )
    where.add_argument("--scheduler", metavar="HOST:PORT", help="runs on the workers of this Dask cluster")
    parser.add_argument("--quick", action="store_true", help="the made-up miniature corpus, few epochs, two seeds")
    parser.add_argument(
        "--finished",
        action="store_true",
        help="train nothing: write the tables of the runs that are finished, of each system the seeds that are there",
    )
    arguments = parser.parse_args(argv)
    experiment = EXPERIMENTS[arguments.experiment]
    if arguments.quick == bool(arguments.corpus):
        parser.error("give either --corpus FILE or --quick")
    if (arguments.quick or arguments.epochs) and any("--epochs" in one.options for one in experiment.systems.values()):
        parser.error(f"{experiment.name} sets its epochs itself: leave out --epochs, and give --corpus for --quick")
    if arguments.quick and "meld" in experiment.extras:
        parser.error(f"{experiment.name} needs --corpus with MELD: the miniature corpus has other emotions")
    asked = {option for one in experiment.systems.values() for option in one.options}
    if arguments.quick and "both" in asked:
        parser.error(f"{experiment.name} needs --corpus with an encoder's vectors: the miniature corpus has none")
    if ({"glove", "both"} & asked or "plain-peers" in experiment.extras) and not arguments.glove:
        parser.error(f"{experiment.name} reads the word vectors of GloVe: give --glove FILE")
    if arguments.finished and arguments.scheduler:
        parser.error("--finished trains nothing, so it takes no --scheduler")
    if arguments.rates and (experiment.rated is None or list(arguments.rates) != sorted(set(arguments.rates))):
        parser.error(f"--rates goes with {RATED}, and takes different rates, the lowest first")
    for name, low in (("seeds", 0), ("epochs", 1), ("patience", 0)):
        given = getattr(arguments, name)
        if given is not None and min(given if isinstance(given, list) else [given]) < low:
            parser.error(f"--{name} must be at least {low}")
    if max(arguments.seeds or (0,)) >= 2**30:
        parser.error("--seeds must be below 2**30")
    if not all(0 < rate < float("inf") for rate in arguments.rates):
        parser.error("--rates must be greater than 0")
    if arguments.jobs is None:
        arguments.jobs = len(os.sched_getaffinity(0)) if arguments.quick else 1
    if arguments.jobs < 1:
        parser.error("--jobs must be positive")
    arguments.seeds = tuple(dict.fromkeys(arguments.seeds or (QUICK_SEEDS if arguments.quick else PAPER_SEEDS)))
    name = "quick" if arguments.quick else arguments.corpus.stem
    arguments.out = arguments.out or Path("runs") / f"reproduce-{name}"
    if (arguments.out / "run.json").exists() or arguments.out.resolve() == Path(__file__).resolve().parent / "results":
        parser.error(f"--out {arguments.out}: is a run or the recorded tables; give a folder of its own")
    return arguments


if __name__ == "__main__":
    run_program(main, "stopped, nothing is lost; go on with the same command")
