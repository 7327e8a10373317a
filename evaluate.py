"""Scores a finished run on the test session, once, by the paper's protocol.

Utterances whose label or prediction ties are left out; argmax against argmax over all 10 classes (the released
print-out), and over 9 classes without 'other' (the paper's Tables 1 and 3). Besides: agreement levels, Table 5,
improvised and scripted dialogs, calibration; the authors' fusion weights; and the figures that explain one utterance.

    python evaluate.py runs/iemocap-released-seed0
    python evaluate.py checkpoints/iemocap-released --corpus iemocap.h5
    python evaluate.py checkpoints/iemocap-released --corpus mine.h5 --test all
    python evaluate.py runs/iemocap-released-seed0 --released-weights fusion_context_5_6.h5
    python evaluate.py runs/iemocap-released-seed0 --explain UTTERANCE_ID
    python evaluate.py runs/iemocap-released-seed0 --epochs
    python evaluate.py runs/iemocap-released-seed0 --page DIALOG_ID
"""

import argparse
from pathlib import Path

from surroundings import check_backend, run_program


def main():
    arguments = command_line().parse_args()
    check_backend()
    # The framework takes seconds, and --help needs none.
    from checkpoint import load_checkpoint
    from prediction.dialog import write_dialog
    from scoring import evaluation
    from training.backend import describe_device

    recogniser = load_checkpoint(arguments.run, glove=arguments.glove, text_encoder=arguments.text_encoder)
    test = "all" if arguments.test else arguments.test_session
    task = evaluation.task_of(recogniser, arguments.corpus, test)
    out = arguments.out
    if arguments.explain:
        text = evaluation.explain(arguments.run, recogniser, task, arguments.explain, out)
    elif arguments.page:
        folder = evaluation.results_folder(arguments.run, recogniser, task, out)
        text = write_dialog(arguments.run, recogniser, task, arguments.page, folder)
    elif arguments.epochs:
        text = evaluation.score_epochs(arguments.run, recogniser, task, out)
    else:
        device = describe_device()
        text = evaluation.evaluate(arguments.run, recogniser, task, device, out, arguments.released_weights)
    print(text)


def command_line():
    """The parser."""
    parser = argparse.ArgumentParser(description="Score a finished run on its test session.")
    parser.add_argument("run", type=Path, help="run folder of train.py, or a provided checkpoint")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument("--glove", type=Path, help="GloVe file, for the words that training did not have")
    parser.add_argument(
        "--text-encoder",
        metavar="PATH_OR_NAME",
        help="the encoder that the run reads words through, where the corpus file lacks its vectors",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the results; default: the run folder, for a provided checkpoint runs/NAME"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--test-session", type=int, metavar="N", help="score session N; the others need not be there")
    which.add_argument("--test", choices=("all",), help="score every utterance of the corpus file")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--released-weights",
        type=Path,
        metavar="FILE.h5",
        help="score the authors' published fusion weights on the run's utterance vectors (into RUN/released-weights)",
    )
    instead.add_argument(
        "--explain",
        metavar="UTTERANCE",
        help="score nothing; draw the attention scores of one utterance (Fig. 5) and the learned factors",
    )
    instead.add_argument(
        "--page", metavar="DIALOG", help="score nothing; write a page of one dialog, with the raters' votes beside"
    )
    instead.add_argument(
        "--epochs",
        action="store_true",
        help="score every epoch that train.py --keep-epochs kept, to show what choosing on the test session would give",
    )
    return parser


if __name__ == "__main__":
    run_program(main, "interrupted; the same command begins again")
