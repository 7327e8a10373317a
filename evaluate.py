"""Scores a finished run on the test session, once, by the paper's protocol.

Utterances whose label or prediction ties are left out; argmax against argmax over all 10 classes (the released
print-out), and over 9 classes without 'other' (the paper's Tables 1 and 3).

    python evaluate.py runs/iemocap-released-seed0
    python evaluate.py checkpoints/iemocap-released --corpus iemocap.h5
"""

import argparse
import sys
from pathlib import Path

import backend
from data.files import InputError, write_csv, write_json
from data.labels import split_sessions, vote_shares, without_votes


def main():
    parser = argparse.ArgumentParser(description="Score a finished run on its test session.")
    parser.add_argument("run", type=Path, help="run folder of train.py, or a provided checkpoint")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument("--out", type=Path, help="folder for the results; default: the run folder")
    arguments = parser.parse_args()
    backend.start_quietly()
    try:
        print(evaluate(arguments.run, arguments.corpus, arguments.out))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def evaluate(run_folder, corpus_path=None, out=None):
    """Predicts the test session and writes results.json, predictions.csv, confusion_matrix.png and .pdf.

    Returns:
        The text to print: the released print-out, then tables for people.

    Raises:
        InputError: the run is not finished, or corpus and run do not fit.
    """
    from checkpoint import check_corpus_fits, load_checkpoint
    from data.corpus import read_corpus
    from figures import confusion_figure
    from metrics import confusion_matrix, published_printout

    recogniser = load_checkpoint(run_folder)
    run, settings = recogniser.run, recogniser.run["settings"]
    corpus_path = corpus_path or Path(run["corpus"]["path"])
    corpus = read_corpus(corpus_path)
    check_corpus_fits(run, corpus, corpus_path)
    out = Path(out or run_folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror})") from error
    sessions = settings["train_sessions"], [settings["dev_session"]], [settings["test_session"]]
    shares = vote_shares(corpus.votes_external, corpus.votes_self, settings["raters"])
    split = split_sessions(corpus.session, *sessions)
    test = split["test"][~without_votes(shares[split["test"]])]
    predictions = recogniser.predict_corpus(corpus, test)
    train_shares = shares[split["train"]]
    results = {
        "protocol": protocol(run, corpus, corpus_path),
        "emotions": list(corpus.emotions),
        **score(shares[test], predictions[recogniser.final_stage], corpus.emotions, train_shares),
        "branches": {
            stage: score(shares[test], shares_of_stage, corpus.emotions, train_shares)
            for stage, shares_of_stage in predictions.items()
            if stage != recogniser.final_stage
        },
    }
    final = predictions[recogniser.final_stage]
    matrix = confusion_matrix(shares[test], final)
    write_json(out / "results.json", results)
    rows = [[name, *map(float, row)] for name, row in zip(corpus.utterance_id[test], final, strict=True)]
    write_csv(out / "predictions.csv", ["utterance_id", *corpus.emotions], rows)
    title = f"{corpus.name}, session {settings['test_session']}: accuracy {results['accuracy_10']:.3f}"
    confusion_figure(matrix, corpus.emotions, title, out / "confusion_matrix.png")
    return "\n".join(
        [
            published_printout(matrix),
            "",
            *tables(corpus, settings, results, matrix, recogniser.final_stage),
            f"\nwritten to {out}: results.json, predictions.csv, confusion_matrix.png, confusion_matrix.pdf",
        ]
    )


def score(shares, predictions, emotions, train_shares):
    """All scores of one stage: over all classes, over the classes without 'other', group recalls, and the floor."""
    from metrics import confusion_matrix, group_recalls, majority_accuracy, mean_squared_error, scores

    matrix = confusion_matrix(shares, predictions)
    all_classes, without_other = scores(matrix, emotions), scores(matrix, emotions, without=("other",))
    return {
        "accuracy_10": all_classes["accuracy"],
        "accuracy_9": without_other["accuracy"],
        "weighted_f1_9": without_other["weighted_f1"],
        "unweighted_accuracy_9": without_other["unweighted_accuracy"],
        "majority_accuracy": majority_accuracy(shares, train_shares),
        "mean_squared_error": mean_squared_error(shares, predictions),
        "group_recalls": group_recalls(matrix, list(emotions)),
        "ties_left_out": {"labels_or_predictions": int(len(shares) - matrix.sum())},
        "confusion_matrix": matrix.tolist(),
        "classes_10": all_classes,
        "classes_9": without_other,
    }


def protocol(run, corpus, corpus_path):
    """What the scores mean: classes, session, tie rule, selection rule, seed, device and hashes."""
    settings = run["settings"]
    return {
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "corpus_is_the_training_file": corpus.sha256 == run["corpus"]["sha256"],
        "train_sessions": list(settings["train_sessions"]),
        "dev_session": settings["dev_session"],
        "test_session": settings["test_session"],
        "classes": "all; and all without 'other'",
        "tie_rule": "utterances whose label or prediction has no unique maximum are left out",
        "selection_rule": "epoch of the lowest dev loss; the test session is scored once",
        "raters": settings["raters"],
        "seed": settings["seed"],
        "stages": run["stages"],
        "weights_sha256": {name: digest for name, digest in run["files"].items() if name.endswith(".weights.h5")},
        **backend.describe_device(),
    }


def tables(corpus, settings, results, matrix, final_stage):
    """The scores for people, as lines."""
    from metrics import readable_table

    other = ("other",) if "other" in corpus.emotions else ()
    name = "fusion, " + settings["variant"] if final_stage == "fusion" else f"{final_stage} alone"
    lines = [
        f"{corpus.name}, session {settings['test_session']}; {name}; seed {settings['seed']}",
        f"\nall {len(corpus.emotions)} classes",
        readable_table(matrix, corpus.emotions),
        "\nwithout 'other', as in the paper's tables",
        readable_table(matrix, corpus.emotions, other),
        "\nwithout 'other'  accuracy  weighted F1      UA",
    ]
    for stage, result in {**results["branches"], final_stage: results}.items():
        numbers = (result["accuracy_9"], result["weighted_f1_9"], result["unweighted_accuracy_9"])
        lines.append("{:<15} {:9.4f} {:12.4f} {:7.4f}".format(stage, *numbers))
    lines.append(f"majority        {results['majority_accuracy']:9.4f}  (always the most frequent training label)")
    return lines


if __name__ == "__main__":
    main()
