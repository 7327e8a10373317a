"""Trains a system, the paper's by default: text branch, audio branch, utterance vectors, fusion network.

Section 4.2 of the paper: mean squared error against the vote shares, Adam, the weights of the lowest dev loss are
kept. The test session is never read; that is evaluate.py's part.

    python train.py                                                # the made-up miniature corpus
    python train.py --corpus iemocap.h5 --glove glove.6B.200d.txt  # the paper's protocol
"""

import argparse
import shlex
from pathlib import Path

import systems
from settings import Settings, add_options, chosen_settings
from storage.files import InputError
from surroundings import check_backend, run_program, share_machine

MINIATURE_CORPUS = Path("runs/miniature.h5")
_OTHERS = ("glove", "branches", "keep_epochs", "jobs")
# The paper's 50 epochs of 64 utterances at 1e-4 would be 250 short steps on 300 utterances: no learning to see.
MINIATURE = {"epochs": 20, "batch_size": 16, "learning_rate": 1e-3}


def main():
    parser = command_line()
    given = vars(parser.parse_args())
    check_backend()
    if "jobs" in given:  # the same bytes for any number of them
        share_machine()
    # Before the framework, beside which openSMILE does not start.
    corpus = given.get("corpus") or ("resume" not in given and miniature_corpus())
    from training.run import begin_run, resume_run  # the framework takes seconds, and --help needs none

    if given.pop("resume", False):
        if set(given) - {"run", "corpus", "glove", "jobs"} or "run" not in given:
            parser.error(
                "--resume goes with --run, --jobs, and --corpus or --glove where it was moved: the settings are those "
                "of the run"
            )
        folder = given["run"]
        resume_run(folder, given.get("corpus"), given.get("glove"), given.get("jobs", 1))
    else:
        chosen = settings_of(parser, given)
        folder = given.get("run") or Path("runs") / f"{corpus.stem}-{chosen.variant}-seed{chosen.seed}"
        begin_run(folder, chosen, corpus, **{name: given[name] for name in _OTHERS if name in given})
    print(f"\nevaluate it: python evaluate.py {shlex.quote(str(folder))}")


def command_line():
    """The parser; options that are not given are not in its result."""
    parser = argparse.ArgumentParser(description="Train the paper's model.", argument_default=argparse.SUPPRESS)
    small = ", ".join(f"{name} {value}" for name, value in MINIATURE.items())
    parser.add_argument(
        "--corpus",
        type=Path,
        help="corpus file of data.prepare (default: the miniature corpus, made at the first use, with settings for its "
        f"size: {small}); with --resume: where the file is now",
    )
    parser.add_argument(
        "--glove",
        type=Path,
        help="GloVe text file, e.g. glove.6B.200d.txt (default: word vectors start random); with --resume: where the "
        "file is now",
    )
    parser.add_argument("--run", type=Path, help="folder for the results (default: runs/CORPUS-VARIANT-seedN)")
    parser.add_argument("--resume", action="store_true", help="go on with the stopped run in --run, with its settings")
    parser.add_argument(
        "--branches",
        type=Path,
        metavar="RUN",
        help="take text and audio branch from this finished run (--epochs, --patience and --learning-rate are then the "
        "fusion's alone); of a system with members: those that it has; the others are trained",
    )
    parser.add_argument(
        "--keep-epochs",
        action="store_true",
        help="keep the last stage's weights of every epoch in RUN/epochs, 6 MB each; see evaluate.py --epochs",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="train up to N members at once, each with one thread (default: one after the other, each with all)",
    )
    choices = parser.add_argument_group(
        "settings",
        "Defaults are the paper's. Those of causal and lstm are in docs/causal.md; run.json has what was used.",
    )
    add_options(choices, {"variant": systems.names()})
    return parser


def settings_of(parser, given):
    """`Settings` of a command line: what is given, else the system's defaults, else the miniature's, else the paper's.

    Args:
        parser: of `command_line`.
        given: {option: value}.
    """
    asked = {name: value for name, value in given.items() if name in Settings.model_fields}
    system = systems.system_of(given.get("variant", Settings.model_fields["variant"].default))
    chosen = chosen_settings(parser, asked, ({} if "corpus" in given else MINIATURE) | system.defaults)
    try:
        system.accept(chosen)
    except InputError as error:
        parser.error(str(error))
    return chosen


def miniature_corpus():
    """The made-up corpus, prepared at the first use."""
    if not MINIATURE_CORPUS.exists():
        from data.build import prepare_sample

        print(f"no --corpus given: preparing the made-up miniature corpus, {MINIATURE_CORPUS}")
        MINIATURE_CORPUS.parent.mkdir(exist_ok=True)
        prepare_sample(MINIATURE_CORPUS)
    return MINIATURE_CORPUS


if __name__ == "__main__":
    run_program(main, "interrupted before training began; the run folder is as it was")
