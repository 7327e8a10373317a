"""What else could separate us from the paper: the fusion trained with one thing changed, scored on dev alone.

    python -m experiments.variations runs/full-seed0 runs/full-seed1 --out runs/variations

Each run gives its branches; the fusion is trained anew on them, unchanged and with each variation, at its own learning
rate and at those of --rates. No test session is read. variations.csv and variations.md have each lowest dev loss.
"""

import argparse
import contextlib
import csv
from pathlib import Path
from unittest import mock

from surroundings import check_backend, run_program

UNCHANGED = "as it is"
# What reaches the network of the contexts, in what precision, and for how long.
VARIATIONS = (
    UNCHANGED,
    "twice as many epochs",
    "utterances of a context in reverse order",
    "padding rows not counted in batch normalisation",
    "operands of products in bfloat16",
)


def main():
    arguments = parse_arguments()
    check_backend()
    print(vary(**vars(arguments)))


def parse_arguments(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a run's fusion with one thing changed, scored on dev alone.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of the released fusion")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the runs were trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the table")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=(), metavar="RATE", help="learning rates (default: that of the runs)"
    )
    parser.add_argument("--only", nargs="+", choices=VARIATIONS, default=VARIATIONS, metavar="NAME", help="which")
    return parser.parse_args(argv)


@contextlib.contextmanager
def varied(name):
    """While open, networks are trained with this one of VARIATIONS.

    Raises:
        InputError: the backend has no products of that precision.
    """
    import keras

    import row_layers
    from storage.files import InputError
    from systems import released

    if name == "utterances of a context in reverse order":
        whole = released.dialog_contexts
        change = mock.patch.object(released, "dialog_contexts", lambda *a: [rows[::-1] for rows in whole(*a)])
    elif name == "padding rows not counted in batch normalisation":
        counted = row_layers.RowBatchNormalization.call

        def call(self, inputs, multiplicity, training=False):
            # The padding row of a context is the one that stands for several.
            there = keras.ops.where(multiplicity > 1, 0.0, multiplicity)
            return counted(self, inputs, there, training=training)

        change = mock.patch.object(row_layers.RowBatchNormalization, "call", call)
    elif name == "operands of products in bfloat16":
        if keras.backend.backend() != "jax":
            raise InputError(f"'{name}' needs JAX: set the environment variable KERAS_BACKEND=jax")
        import jax

        step = keras.Model.train_on_batch

        def train_on_batch(self, *args, **kwargs):  # predictions stay in float32
            with jax.default_matmul_precision("BF16_BF16_F32"):
                return step(self, *args, **kwargs)

        change = mock.patch.object(keras.Model, "train_on_batch", train_on_batch)
    else:
        change = contextlib.nullcontext()
    with change:
        yield


def train_variation(name, folder, run_folder, corpus=None, rate=None):
    """Trains the fusion of a run with one of VARIATIONS, or goes on with it.

    Args:
        name: of VARIATIONS.
        folder: for the new run.
        run_folder: the run that gives settings and branches.
        corpus: corpus file; None for the run's.
        rate: learning rate; None for the run's.
    """
    from storage.runs import read_run
    from training.run import begin_run, resume_run

    run = read_run(run_folder)
    changed = {"epochs": 2 * run.settings.epochs} if name == "twice as many epochs" else {}
    if rate:
        changed["learning_rate"] = rate
    with varied(name):
        if (folder / "run.json").exists():
            resume_run(folder, corpus)
        else:
            glove = run.glove and Path(run.glove.path)
            begin_run(folder, run.settings.model_copy(update=changed), corpus or run.corpus.path, glove, run_folder)


def folder_of(out, name, seed, rate):
    """Where the run of a variation stands."""
    return out / f"{name.replace(' ', '-')}-rate-{rate:g}-seed{seed}"


def vary(runs, corpus, out, rates=(), only=VARIATIONS):
    """Trains what is missing, writes the table; gives the text to print. Arguments as of the command line."""
    import numpy as np

    from experiments.markdown import markdown_table
    from storage.files import made_folder, write_csv, write_text
    from storage.runs import read_run

    made_folder(out)
    rows, losses = [], {}
    for run_folder in runs:
        settings = read_run(run_folder).settings
        for rate in rates or (settings.learning_rate,):
            for name in only:
                folder = folder_of(out, name, settings.seed, rate)
                if not (folder / "run.json").exists() or "fusion" not in read_run(folder).stages:
                    train_variation(name, folder, run_folder, corpus, rate)
                run = read_run(folder)
                fusion = run.stages["fusion"]
                losses.setdefault((rate, name), {})[settings.seed] = fusion.best_dev_loss
                rows.append([name, f"{rate:g}", settings.seed, fusion.best_dev_loss, fusion.best_epoch, run.backend])
    write_csv(out / "variations.csv", ["variation", "learning_rate", "seed", "dev_loss", "epoch", "backend"], rows)
