"""Scores a finished run on the test session, once, by the paper's protocol.

Utterances whose label or prediction ties are left out; argmax against argmax over all 10 classes (the released
print-out), and over 9 classes without 'other' (the paper's Tables 1 and 3). Besides: agreement levels, Table 5,
improvised and scripted dialogs, calibration; the authors' fusion weights; and the figures that explain one utterance.

    python evaluate.py runs/iemocap-released-seed0
    python evaluate.py checkpoints/iemocap-released --corpus iemocap.h5
    python evaluate.py runs/iemocap-released-seed0 --released-weights fusion_context_5_6.h5
    python evaluate.py runs/iemocap-released-seed0 --explain UTTERANCE_ID
    python evaluate.py runs/iemocap-released-seed0 --epochs
"""

import argparse
import csv
import dataclasses
import sys
from pathlib import Path

from training import backend
from storage.files import InputError, made_folder, sha256, write_csv, write_json
from data.labels import name_of_test, split_of, task_of, vote_shares, without_votes


def main():
    parser = argparse.ArgumentParser(description="Score a finished run on its test session.")
    parser.add_argument("run", type=Path, help="run folder of train.py, or a provided checkpoint")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument(
        "--out", type=Path, help="folder for the results; default: the run folder, for a provided checkpoint runs/NAME"
    )
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
        "--epochs",
        action="store_true",
        help="score every epoch that train.py --keep-epochs kept, to show what choosing on the test session would give",
    )
    arguments = parser.parse_args()
    try:
        backend.start_quietly()
        if arguments.explain:
            print(explain(arguments.run, arguments.explain, arguments.corpus, arguments.out))
        elif arguments.epochs:
            print(score_epochs(arguments.run, arguments.corpus, arguments.out))
        else:
            print(evaluate(arguments.run, arguments.corpus, arguments.out, arguments.released_weights))
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command begins again", file=sys.stderr)
        sys.exit(130)


def evaluate(run_folder, corpus_path=None, out=None, released_weights=None):
    """Predicts the test session and writes results.json, predictions*.csv, confusion_matrix.png and .pdf.

    Args:
        run_folder: of a finished run.
        corpus_path: corpus file; None for the one of the run.
        out: folder for the results; None for `home_of_results`, or its folder "released-weights".
        released_weights: weight file of the authors' fusion network to take in place of the run's, or None.

    Returns:
        The text to print: the released print-out, then tables for people.

    Raises:
        InputError: the run is not finished, corpus and run do not fit, or the weights do not fit the network.
    """
    from scoring.figures import confusion_figure
    from scoring.metrics import agreement_levels, confusion_matrix, published_printout

    recogniser, corpus, corpus_path = load(run_folder, corpus_path)
    run, settings = recogniser.run, recogniser.run["settings"]
    if released_weights:
        recogniser = with_released_fusion(recogniser, run_folder, released_weights)
        out = out or home_of_results(run_folder, run) / "released-weights"
    out = results_folder(run_folder, run, out, corpus)
    shares, split, test = labelled(corpus, settings)
    predictions = recogniser.predict_corpus(corpus, test)
    final_stage = recogniser.final_stage
    stage_scores = {stage: score(corpus, shares, split["train"], test, one) for stage, one in predictions.items()}
    results = {
        "protocol": protocol(run, corpus, corpus_path),
        "emotions": list(corpus.emotions),
        **stage_scores.pop(final_stage),
        "disagreement_counts": {
            part: {"utterances": len(rows), "ties": int(agreement_levels(shares[rows])["tie"].sum())}
            for part, rows in split.items()
        },
        "branches": stage_scores,
    }
    name = "fusion, " + settings["variant"] if final_stage == "fusion" else f"{final_stage} alone"
    if released_weights:
        results["protocol"]["released_weights"] = {"path": str(released_weights), "sha256": sha256(released_weights)}
        name = "the authors' fusion weights on this run's utterance vectors"
    write_json(out / "results.json", results)
    files = {"predictions" if stage == final_stage else f"predictions_{stage}": stage for stage in predictions}
    for file, stage in files.items():
        write_predictions(out / f"{file}.csv", corpus, test, predictions[stage])
    matrix = confusion_matrix(shares[test], predictions[final_stage])
    title = f"{corpus.name}, {name_of_test(corpus, settings)}: accuracy {results['accuracy_10']:.3f}"
    confusion_figure(matrix, corpus.emotions, title, out / "confusion_matrix.png")
    return "\n".join(
        [
            published_printout(matrix),
            "",
            *tables(corpus, settings, results, matrix, final_stage, name),
            f"\nwritten to {out}: results.json, {', '.join(f'{file}.csv' for file in files)}, confusion_matrix.png, "
            "confusion_matrix.pdf",
        ]
    )


def home_of_results(run_folder, run):
    """The run folder; for a provided checkpoint, whose own results are part of it, a folder of its name under runs/."""
    folder = Path(run_folder)
    return Path("runs") / folder.resolve().name if "results.json" in run["files"] else folder


def results_folder(run_folder, run, out, corpus=None):
    """`out` or `home_of_results`, made if need be; in the run folder, scores on another corpus file get their own.

    Raises:
        InputError: it cannot be made, or is a provided checkpoint, whose own files would be overwritten.
    """
    home = home_of_results(run_folder, run)
    if corpus is not None and home == Path(run_folder) and corpus.sha256 != run["corpus"]["sha256"]:
        home /= f"on-{corpus.sha256[:8]}"
    out = made_folder(out or home)
    if "results.json" in run["files"] and out.resolve() == Path(run_folder).resolve():
        raise InputError(f"{out}: is a provided checkpoint with results of its own; choose another --out")
    return out


def labelled(corpus, settings):
    """(N, C) vote shares, {part: indices} of the split, and the indices of the test utterances that have votes."""
    shares = vote_shares(corpus.votes_external, corpus.votes_self, settings["raters"])
    split = split_of(corpus, settings)
    return shares, split, split["test"][~without_votes(shares[split["test"]])]


def write_predictions(path, corpus, test, predictions):
    rows = [[id_, *map(float, row)] for id_, row in zip(corpus.utterance_id[test], predictions, strict=True)]
    write_csv(path, ["utterance_id", *corpus.emotions], rows)


def score_epochs(run_folder, corpus_path=None, out=None):
    """Scores every epoch that was kept on the test session, which the paper's protocol does for one epoch alone.

    Writes epochs.csv, and the predictions of the epoch with the highest accuracy without 'other' as
    predictions_best_on_test.csv: figures to compare the run's own with, never a result.

    Returns:
        The text to print.

    Raises:
        InputError: no epoch was kept, the files are not of this run, or corpus and run do not fit.
    """
    from checkpoint import load_weights
    from training.loop import epoch_weights
    from scoring.metrics import confusion_matrix, mean_squared_error, scores
    from train import read_history

    run_folder = Path(run_folder)
    recogniser, corpus, _ = load(run_folder, corpus_path)
    run, stage = recogniser.run, recogniser.final_stage
    count, chosen = run["stages"][stage]["epochs"], run["stages"][stage]["best_epoch"]
    kept = [epoch for epoch in range(1, count + 1) if epoch_weights(run_folder / "epochs", epoch).exists()]
    if not kept:
        raise InputError(f"{run_folder}: no epochs were kept; train it with train.py --keep-epochs")
    same = epoch_weights(run_folder / "epochs", chosen)
    if chosen not in kept or sha256(same) != run["files"][f"{stage}.weights.h5"]:
        raise InputError(f"{same}: is not what the run has kept as its best epoch; the epochs are of another run")
    out = results_folder(run_folder, run, out, corpus)
    dev_loss = {row[1]: row[3] for row in read_history(run_folder, run) if row[0] == stage}
    shares, _, test = labelled(corpus, run["settings"])
    rows, best = [], None
    for epoch in kept:
        load_weights(recogniser.networks[stage], epoch_weights(run_folder / "epochs", epoch))
        predictions = recogniser.predict_corpus(corpus, test)[stage]
        found = scores(confusion_matrix(shares[test], predictions), corpus.emotions, without=("other",))
        numbers = [found[name] for name in ("accuracy", "weighted_f1", "unweighted_accuracy")]
        rows.append([epoch, dev_loss[epoch], *numbers, mean_squared_error(shares[test], predictions)])
        if best is None or numbers[0] > best[0]:
            best = numbers[0], epoch, predictions
    write_csv(out / "epochs.csv", EPOCHS_HEADER, rows)
    write_predictions(out / "predictions_best_on_test.csv", corpus, test, best[2])
    line = "{:<6} {:9.5f} {:9.4f} {:12.4f}".format
    notes = {chosen: "lowest dev loss: the run's result"}
    notes[best[1]] = "; ".join([*([notes[best[1]]] if best[1] in notes else []), "best on test: what not to report"])
    return "\n".join(
        [
            f"{corpus.name}, {name_of_test(corpus, run['settings'])}; {stage}; without 'other'",
            "epoch   dev loss  accuracy  weighted F1",
            *(f"{line(*row[:4])}  {notes.get(row[0], '')}".rstrip() for row in rows),
            f"\nwritten to {out}: epochs.csv, predictions_best_on_test.csv",
        ]
    )


EPOCHS_HEADER = ["epoch", "dev_loss", "accuracy_9", "weighted_f1_9", "unweighted_accuracy_9", "mean_squared_error"]


def read_epochs(path):
    """The rows of epochs.csv, as {name: number} by `EPOCHS_HEADER`."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def explain(run_folder, utterance_id, corpus_path=None, out=None):
    """Draws the attention scores of the last mutual correlation layer for one utterance (Fig. 5), and the factors.

    Returns:
        The text to print: the files written.

    Raises:
        InputError: the run has no fusion network, or the corpus has no such utterance.
    """
    from data.corpus import dialog_slices
    from explain import last_attention, learned_factors
    from scoring.figures import attention_figure, factor_figure

    recogniser, corpus, _ = load(run_folder, corpus_path)
    if "fusion" not in recogniser.networks:
        raise InputError(f"{run_folder}: has a {recogniser.final_stage} branch alone, hence no attention over a dialog")
    if utterance_id not in corpus.utterance_id:
        raise InputError(f"no utterance '{utterance_id}' in the corpus; the first is {corpus.utterance_id[0]}")
    out = results_folder(run_folder, recogniser.run, out)
    place = int((corpus.utterance_id == utterance_id).argmax())
    first = dialog_slices(corpus.dialog_id)[str(corpus.dialog_id[place])].start
    context = corpus.take(slice(first if recogniser.run["settings"]["context"] else place, place + 1))
    scores, num_padding = last_attention(recogniser, context)
    labels = [f"{speaker}: {text}" for speaker, text in zip(context.speaker, context.transcript, strict=True)]
    attention_figure(scores, labels, num_padding, f"{corpus.name}, {utterance_id}", out / "fig5.png")
    written = ["fig5.png", "fig5.pdf"]
    factors = learned_factors(recogniser.networks["fusion"])
    if factors:
        factor_figure(factors, corpus.name, out / "factors.png")
        written += ["factors.png", "factors.pdf"]
    return f"written to {out}: {', '.join(written)}"


def load(run_folder, corpus_path=None):
    """The `Recogniser` of a run, the corpus that fits it, and the corpus's path.

    Raises:
        InputError: the run is not finished, or corpus and run do not fit.
    """
    from checkpoint import check_corpus_fits, load_checkpoint
    from data.corpus import read_corpus

    recogniser = load_checkpoint(run_folder)
    corpus_path = corpus_path or Path(recogniser.run["corpus"]["path"])
    corpus = task_of(read_corpus(corpus_path), recogniser.run["settings"])
    check_corpus_fits(recogniser.run, corpus, corpus_path)
    return recogniser, corpus, corpus_path


def with_released_fusion(recogniser, run_folder, path):
    """The recogniser with the authors' fusion network, padded to their 167 rows, in place of its own.

    Raises:
        InputError: the run's fusion network is not the released one, or the file is not of it.
    """
    from model import fusion_network, load_released_weights

    needed = {
        "modality": "text+audio",
        "variant": "released",
        "update": "sequential",
        "factor": "shared",
        "context": True,
        "loss": "mse",
    }
    for name, value in needed.items():
        found = recogniser.run["settings"].get(name)
        if found != value:
            raise InputError(
                f"{run_folder}: its {name} is {found}, the authors' weights need a run of {name} {value}; "
                "train one with train.py's defaults"
            )
    if len(recogniser.emotions) != 10:
        raise InputError(f"{run_folder}: has {len(recogniser.emotions)} emotions, the authors' weights are for 10")
    network = fusion_network("released")
    load_released_weights(network, path)
    return dataclasses.replace(recogniser, networks={**recogniser.networks, "fusion": network})


def score(corpus, all_shares, train, test, predictions):
    """All scores of one stage.

    Args:
        corpus: of N utterances, C emotions.
        all_shares: (N, C) vote shares.
        train: indices of the training utterances.
        test: (n,) indices of the test utterances that have votes.
        predictions: (n, C) predicted shares of the latter.

    Returns:
        The entries of results.json: over all classes and without 'other', group recalls, the floor, distances,
        calibration, agreement levels, Table 5, improvised and scripted dialogs.
    """
    from scoring.metrics import (
        agreement_levels,
        calibration,
        confusion_matrix,
        dialog_kinds,
        disagreement,
        group_recalls,
        jensen_shannon_distance,
        majority_accuracy,
        mean_squared_error,
        part_scores,
        scores,
    )

    emotions, shares = corpus.emotions, all_shares[test]
    other = [column for column, name in enumerate(emotions) if name == "other"]
    matrix = confusion_matrix(shares, predictions)
    all_classes, without_other = scores(matrix, emotions), scores(matrix, emotions, without=("other",))
    parts = {
        name: {kind: part_scores(shares[rows], predictions[rows], emotions) for kind, rows in masks.items()}
        for name, masks in (
            ("agreement_levels", agreement_levels(shares)),
            ("dialog_kinds", dialog_kinds(corpus.dialog_id[test])),
        )
    }
    return {
        "num_utterances": len(test),
        "accuracy_10": all_classes["accuracy"],
        "accuracy_9": without_other["accuracy"],
        "weighted_f1_9": without_other["weighted_f1"],
        "macro_f1_9": without_other["macro_f1"],
        "unweighted_accuracy_9": without_other["unweighted_accuracy"],
        "majority_accuracy": majority_accuracy(shares, all_shares[train]),
        "majority_accuracy_9": majority_accuracy(shares, all_shares[train], without=other),
        "mean_squared_error": mean_squared_error(shares, predictions),
        "jensen_shannon_distance": float(jensen_shannon_distance(shares, predictions).mean()),
        "group_recalls": group_recalls(matrix, list(emotions)),
        "ties_left_out": {"labels_or_predictions": int(len(shares) - matrix.sum())},
        "confusion_matrix": matrix.tolist(),
        "classes_10": all_classes,
        "classes_9": without_other,
        "calibration": calibration(shares, predictions),
        **parts,
        "disagreement": disagreement(shares, predictions, emotions),
    }


def protocol(run, corpus, corpus_path):
    """What the scores mean: classes, session, tie rule, selection rule, seed, device and hashes."""
    settings = run["settings"]
    sessions = {name: settings[name] for name in ("train_sessions", "dev_session", "test_session")}
    return {
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "corpus_is_the_training_file": corpus.sha256 == run["corpus"]["sha256"],
        **(sessions if corpus.split is None else {"split": settings["split"]}),
        "test": name_of_test(corpus, settings),
        "emotion": settings["emotion"],
        "classes": "all; and all without 'other'",
        "tie_rule": "utterances whose label or prediction has no unique maximum are left out",
        "distribution_rule": "for Jensen-Shannon distance and calibration negative shares become 0 and rows sum to one",
        "scripted_note": "the scripts are played in every session: the text of scripted test dialogs was in training",
        "selection_rule": "epoch of the lowest dev loss; the test utterances are scored once",
        "raters": settings["raters"],
        "seed": settings["seed"],
        "stages": run["stages"],
        "weights_sha256": {name: digest for name, digest in run["files"].items() if name.endswith(".weights.h5")},
        **backend.describe_device(),
    }


def tables(corpus, settings, results, matrix, final_stage, name):
    """The scores for people, as lines."""
    from scoring.metrics import readable_table

    other = ("other",) if "other" in corpus.emotions else ()
    lines = [f"{corpus.name}, {name_of_test(corpus, settings)}; {name}; seed {settings['seed']}"]
    if not results["protocol"]["corpus_is_the_training_file"]:
        lines.append("the corpus file is not the one of the training (SHA-256): features and scores may differ")
    lines += [
        f"\nall {len(corpus.emotions)} classes",
        readable_table(matrix, corpus.emotions),
        "\nwithout 'other', as in the paper's tables",
        readable_table(matrix, corpus.emotions, other),
        "\nwithout 'other'  accuracy  weighted F1      UA",
    ]
    for stage, result in {**results["branches"], final_stage: results}.items():
        numbers = (result["accuracy_9"], result["weighted_f1_9"], result["unweighted_accuracy_9"])
        lines.append("{:<15} {:9.4f} {:12.4f} {:7.4f}".format(stage, *numbers))
    lines.append(f"majority        {results['majority_accuracy_9']:9.4f}  (always the most frequent training label)")
    lines += parts_table(results)
    table5, errors = results["disagreement"], results["calibration"]
    if table5["num_utterances"]:
        lines.append(f"\naverage precision (any vote counts) on the {table5['num_utterances']} tied utterances")
        for emotion, value in table5["average_precision"].items():
            precision = "     -" if value is None else f"{value:6.3f}"
            lines.append(f"{emotion:<15} {precision}  present in {table5['num_present'][emotion]}")
        lines.append(f"{'mean':<15} {table5['mean_average_precision']:6.3f}")
    lines.append(
        f"\ntop share: expected calibration error {errors['expected_calibration_error']:.3f} against accuracy, "
        f"{errors['share_calibration_error']:.3f} against the share of votes"
    )
    return lines


def parts_table(results):
    """Scores by agreement level and by kind of dialog, as lines; parts without utterances are left out."""
    columns = (("accuracy_9", 8), ("weighted_f1_9", 11), ("mean_squared_error", 6), ("jensen_shannon_distance", 6))
    lines = ["\nwithout 'other'  utterances  accuracy  weighted F1     MSE      JS"]
    for name, part in {"whole_test": results, **results["agreement_levels"], **results["dialog_kinds"]}.items():
        if part["num_utterances"]:
            cells = [f"{part[key]:{width}.4f}" if key in part else "-".rjust(width) for key, width in columns]
            lines.append(f"{name.replace('_', ' '):<15} {part['num_utterances']:10d}  {'  '.join(cells)}")
    lines.append("JS: mean Jensen-Shannon distance of vote and prediction, base 2")
    if results["dialog_kinds"]["scripted"]["num_utterances"]:
        lines.append("scripted: the scripts are played in every session, so their words were in training too")
    return lines


if __name__ == "__main__":
    main()
