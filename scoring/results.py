"""What evaluate.py says of predictions: the entries of results.json, what they mean, and the tables for people."""

import numpy as np

from scoring.agreement import accuracy_at, agreement_scores, answers, coverage_curve
from scoring.draws import draws_of, interval
from scoring.metrics import (
    agreement_levels,
    calibration,
    confusion_matrix,
    dialog_kinds,
    disagreement,
    group_recalls,
    majority_accuracy,
    part_scores,
    published_printout,
    scores,
)
from storage.files import write_csv

_MOST_DRAWN = 20_000  # test utterances: of more, intervals are narrow, and drawing takes minutes
_WEIGHTS_AT_ONCE = 5_000_000


def score(task, predictions):
    """All scores of one prediction.

    Args:
        task: `data.task.Task` of C emotions.
        predictions: (n, C) predicted shares of its n test utterances.

    Returns:
        The entries of results.json: over all classes and without 'other', group recalls, the floor, distances,
        calibration, agreement levels, Table 5, improvised and scripted dialogs, and `agreement`'s.
    """
    emotions, shares, train = task.emotions, task.shares[task.test], task.shares[task.split["train"]]
    other = [column for column, name in enumerate(emotions) if name == "other"]
    matrix = confusion_matrix(shares, predictions)
    all_classes, without_other = scores(matrix, emotions), scores(matrix, emotions, without=("other",))
    parts = {
        name: {kind: part_scores(shares[rows], predictions[rows], emotions) for kind, rows in masks.items()}
        for name, masks in (
            ("agreement_levels", agreement_levels(shares)),
            ("dialog_kinds", dialog_kinds(task.corpus.dialog_id[task.test])),
        )
    }
    return {
        **part_scores(shares, predictions, emotions),
        "accuracy_10": all_classes["accuracy"],
        "majority_accuracy": majority_accuracy(shares, train),
        "majority_accuracy_9": majority_accuracy(shares, train, without=other),
        "group_recalls": {
            group: None if np.isnan(recall) else float(recall)
            for group, recall in group_recalls(matrix, emotions).items()
        },
        "ties_left_out": {"labels_or_predictions": int(len(shares) - matrix.sum())},
        "confusion_matrix": matrix.tolist(),
        "classes_10": all_classes,
        "classes_9": without_other,
        "calibration": calibration(shares, predictions),
        **parts,
        "disagreement": disagreement(shares, predictions, emotions),
        "agreement": agreement(task, predictions),
    }


def agreement(task, predictions):
    """`scoring.agreement.agreement_scores` of the (n, C) test predictions, and the accuracies at some coverages.

    Returns:
        {name: number, None where nothing can be scored}, "accuracy_9_at_coverage" {share: accuracy}, "intervals" {name:
        [low, high]} of 95 %, dialogs drawn; none for more than 20,000 utterances.
    """
    found = agreement_scores(*test_votes(task), predictions, task.emotions)
    found = {name: None if np.isnan(value) else float(value) for name, value in found.items()}
    found["num_held_out_votes"] = int(found["num_held_out_votes"])
    intervals = _intervals(task, predictions) if len(task.test) <= _MOST_DRAWN else {}
    at_coverage = accuracy_at(*test_coverage(task, predictions))
    return found | {"accuracy_9_at_coverage": at_coverage, "intervals": intervals}


def _intervals(task, predictions):
    """The intervals of `agreement`; so many draws at a time that their weights take little memory."""
    counts, dialog = draws_of(task)
    size = max(1, _WEIGHTS_AT_ONCE // len(dialog))
    parts = [
        agreement_scores(*test_votes(task), predictions, task.emotions, counts[first : first + size, dialog])
        for first in range(0, len(counts), size)
    ]
    scored = [name for name in parts[0] if name != "num_held_out_votes"]
    return {name: interval(np.concatenate([part[name] for part in parts])) for name in scored}


def unknown_share(transcripts, known):
    """The share of all words that a recogniser does not know, of N texts; None where it reads none.

    Args:
        transcripts: N texts.
        known: (N,) of `systems.base.Recogniser.known_words`.
    """
    counts = np.array([len(text.split()) for text in transcripts], "float64")
    there = ~np.isnan(known) & (counts > 0)
    return float(1 - np.average(known[there], weights=counts[there])) if there.any() else None


def test_votes(task):
    """(n, C) external votes and (n, C) self-reports of the test utterances; zeros where self-reports do not count."""
    external, own = task.corpus.votes_external[task.test], task.corpus.votes_self[task.test]
    return external, own if task.settings.raters == "all" else np.zeros_like(own)


def test_coverage(task, predictions):
    """`scoring.agreement.coverage_curve` of the (n, C) test predictions, without 'other'."""
    confidence, correct, _ = answers(np.add(*test_votes(task)), predictions, task.emotions)
    return coverage_curve(confidence, correct)


def protocol(run, task, device):
    """What the scores mean: classes, session, tie rule, selection rule, seed, device and hashes.

    Args:
        run: `storage.runs.Run`.
        task: `data.task.Task`.
        device: of `training.backend.describe_device`.
    """
    settings, corpus = run.settings, task.corpus
    sessions = settings.model_dump(mode="json", include={"train_sessions", "dev_session", "test_session"})
    return {
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "corpus_is_the_training_file": corpus.sha256 == run.corpus.sha256,
        **(sessions if corpus.split is None else {"split": settings.split}),
        "test": task.name_of_test,
        "num_seen_in_training": int(task.seen[task.test].sum()) if corpus.sha256 == run.corpus.sha256 else None,
        "emotion": settings.emotion,
        "classes": "all; and all without 'other'",
        "tie_rule": "utterances whose label or prediction has no unique maximum are left out",
        "distribution_rule": "for Jensen-Shannon distance, calibration and agreement negative shares become 0 and rows "
        "sum to one; before a logarithm 1 % is spread over all emotions",
        "scripted_note": "the scripts are played in every session: the text of scripted test dialogs was in training",
        "selection_rule": "epoch of the lowest dev loss; the test utterances are scored once",
        "raters": settings.raters,
        "seed": settings.seed,
        "stages": {name: stage.model_dump(exclude_none=True) for name, stage in run.stages.items()},
        "weights_sha256": run.weights(),
        **device,
    }


def write_predictions(path, task, predictions):
    """Writes the test utterances' ids and (n, C) predicted shares as CSV."""
    ids = task.corpus.utterance_id[task.test]
    rows = [[id_, *map(float, row)] for id_, row in zip(ids, predictions, strict=True)]
    write_csv(path, ["utterance_id", *task.emotions], rows)


def printed(task, run, results, name, answer):
    """The text for people: the released print-out, then tables.

    Args:
        task: `data.task.Task`.
        run: `storage.runs.Run`.
        results: the content of results.json.
        name: of the stage that answers.
        answer: what was scored, in words.
    """
    matrix, emotions = np.array(results["confusion_matrix"]), task.emotions
    lines = [published_printout(matrix), ""]
    lines.append(f"{task.corpus.name}, {task.name_of_test}; {answer}; seed {run.settings.seed}")
    if not results["protocol"]["corpus_is_the_training_file"]:
        lines.append("the corpus file is not the one of the training (SHA-256): features and scores may differ")
        if (seen := task.seen[task.test].sum()) and task.corpus.name == run.corpus.name:
            counted = f"{seen} of these {len(task.test)} utterances served the training"
            lines.append(f"if these are the same utterances of {run.corpus.name}, {counted}: their scores are too high")
    elif seen := results["protocol"]["num_seen_in_training"]:
        lines.append(f"{seen} of these {len(task.test)} utterances served the training: their scores are too high")
    lines += [f"\nall {len(emotions)} classes", readable_table(matrix, emotions)]
    which = f"all {len(emotions)} classes"
    if "other" in emotions:
        which = "without 'other'"
        lines += [f"\n{which}, as in the paper's tables", readable_table(matrix, emotions, ("other",))]
    lines.append(f"\n{which:<15}  accuracy  weighted F1      UA")
    for stage, result in {**results["branches"], name: results}.items():
        numbers = (result["accuracy_9"], result["weighted_f1_9"], result["unweighted_accuracy_9"])
        lines.append("{:<15} {:9.4f} {:12.4f} {:7.4f}".format(stage, *numbers))
    if results["majority_accuracy_9"] is not None:
        floor = results["majority_accuracy_9"]
        lines.append(f"majority        {floor:9.4f}  (always the most frequent training label)")
    lines += parts_table(results, which)
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
    lines += agreement_lines(results["agreement"])
    return "\n".join(lines)


def readable_table(matrix, emotions, without=()):
    """A plain-text table: recall, precision, F1 and support per emotion, then the totals."""
    result = scores(matrix, emotions, without)
    width = max(map(len, emotions))
    lines = [f"{'emotion':<{width}}  recall  precision     F1  support"]
    for name, row in result["per_class"].items():
        recall = "     -" if row["recall"] is None else f"{row['recall']:6.3f}"
        lines.append(f"{name:<{width}}  {recall}  {row['precision']:9.3f}  {row['f1']:5.3f}  {row['support']:7d}")
    lines.append(
        f"accuracy {result['accuracy']:.4f}   weighted F1 {result['weighted_f1']:.4f}   "
        f"UA {result['unweighted_accuracy']:.4f}   macro F1 {result['macro_f1']:.4f}   "
        f"utterances {result['num_utterances']}"
    )
    return "\n".join(lines)


def parts_table(results, which):
    """Scores by agreement level and by kind of dialog, as lines; parts without utterances are left out."""
    columns = (("accuracy_9", 8), ("weighted_f1_9", 11), ("mean_squared_error", 6), ("jensen_shannon_distance", 6))
    lines = [f"\n{which:<15}  utterances  accuracy  weighted F1     MSE      JS"]
    for name, part in {"whole_test": results, **results["agreement_levels"], **results["dialog_kinds"]}.items():
        if part["num_utterances"]:
            cells = [f"{part[key]:{width}.4f}" if key in part else "-".rjust(width) for key, width in columns]
            lines.append(f"{name.replace('_', ' '):<15} {part['num_utterances']:10d}  {'  '.join(cells)}")
    lines.append("JS: mean Jensen-Shannon distance of vote and prediction, base 2")
    if results["dialog_kinds"]["scripted"]["num_utterances"]:
        lines.append("scripted: the scripts are played in every session, so their words were in training too")
    return lines


def agreement_lines(found):
    """The entries of `agreement` as lines; those that cannot be scored are left out."""
    lines = []
    if found["num_held_out_votes"]:
        lines.append(f"\n{'one rater left out':<18}  accuracy  weighted F1      UA")
        for who in ("rater", "system"):
            numbers = [found[f"{who}_{name}_9"] for name in ("accuracy", "weighted_f1", "unweighted_accuracy")]
            lines.append("{:<18} {:9.4f} {:12.4f} {:7.4f}".format(who, *numbers))
        lines.append(f"{found['num_held_out_votes']} votes, each against the majority of the others, without 'other'")
    numbers = {
        "EMO-SUPERB's rule: macro F1": "emo_superb_macro_f1",
        "  of a rater left out": "emo_superb_macro_f1_rater",
        "log-likelihood per vote, in nats": "log_likelihood_per_vote",
        "KL divergence, in nats": "kl_divergence",
        "top-2 accuracy": "top_2_accuracy_9",
        "no majority: average precision by entropy": "no_majority_average_precision",
        "  by chance": "no_majority_share",
        "accuracy over coverage: area": "coverage_area_9",
    }
    known = {text: found[name] for text, name in numbers.items() if found[name] is not None}
    known["  without the less sure half"] = found["accuracy_9_at_coverage"]["0.5"]
    return [*lines, "", *(f"{text:<42} {value:7.3f}" for text, value in known.items())]
