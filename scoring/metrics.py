"""Every score of the project, each computed in one place, all from the confusion matrix or the vote shares.

The paper's scores first, then its Table 5 (average precision where raters disagree) and those beyond it: distance
between vote and prediction, agreement levels, calibration. Protocol of the paper's released evaluation: utterances
whose label or whose prediction ties are left out, argmax against argmax. Letters: N utterances, C emotions.
"""

import numpy as np
from scipy.spatial.distance import jensenshannon

from data.labels import is_tie, without_votes
from storage.files import InputError

# Groups of Table 3: the recall of a group is its correct utterances over its utterances, class by class.
GROUPS = {
    "Ang": ("angry",),
    "Neu": ("neutral", "frustration"),
    "Sad": ("sadness",),
    "Hap": ("happiness", "exciting"),
}


def confusion_matrix(shares, predictions):
    """Counts of label (rows) against prediction (columns) over the utterances in which neither ties.

    Args:
        shares: (N, C) vote shares; rows without votes are left out.
        predictions: (N, C) predicted shares.

    Returns:
        (C, C) int64.
    """
    scored = ~(is_tie(shares) | is_tie(predictions) | without_votes(shares))
    matrix = np.zeros((shares.shape[1],) * 2, "int64")
    np.add.at(matrix, (shares[scored].argmax(axis=1), predictions[scored].argmax(axis=1)), 1)
    return matrix


def scores(matrix, emotions, without=()):
    """Accuracy, weighted F1, macro F1, unweighted accuracy (UA) and, per emotion, recall, precision, F1 and support.

    Args:
        matrix: (C, C) confusion matrix, rows are labels.
        emotions: the C names.
        without: names whose labelled utterances are left out (the 9-class protocol leaves out 'other'); predicting
            such a name for another label stays an error.

    Returns:
        A dict of floats, and "per_class": {name: {"recall", "precision", "f1", "support"}} over the classes kept.
        Recall is None without support; macro F1 and UA are means over the classes that have support.
    """
    matrix = np.array(matrix, "int64")
    kept = [i for i, name in enumerate(emotions) if name not in without]
    matrix[[i for i in range(len(emotions)) if i not in kept]] = 0
    if not matrix.any():
        raise InputError("no utterance to score: every label or prediction ties, or has no votes")
    support, predicted, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    return {
        **{name: float(value) for name, value in matrix_scores(matrix).items()},
        "num_utterances": int(support.sum()),
        "per_class": {
            emotions[i]: {
                "recall": int(correct[i]) / int(support[i]) if support[i] else None,
                "precision": int(correct[i]) / max(int(predicted[i]), 1),
                "f1": 2 * int(correct[i]) / max(int(support[i] + predicted[i]), 1),
                "support": int(support[i]),
            }
            for i in kept
        },
    }


def matrix_scores(matrices):
    """Accuracy, weighted F1, macro F1 and UA as of `scores`, of any number of confusion matrices at once.

    Args:
        matrices: (..., C, C) counts, the rows of the classes that are left out zero.

    Returns:
        {name: (...) float64}, NaN for a matrix of zeros.
    """
    matrices = np.asarray(matrices)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    correct = np.diagonal(matrices, axis1=-2, axis2=-1)
    recall, f1 = correct / np.maximum(support, 1), 2 * correct / np.maximum(support + predicted, 1)
    total, present = support.sum(axis=-1), support > 0
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": correct.sum(axis=-1) / total,
            "weighted_f1": (f1 * support).sum(axis=-1) / total,
            "macro_f1": (f1 * present).sum(axis=-1) / present.sum(axis=-1),
            "unweighted_accuracy": (recall * present).sum(axis=-1) / present.sum(axis=-1),
        }


def group_recalls(matrices, emotions):
    """Recalls of the groups of Table 3 in (..., C, C) confusion matrices; NaN for a group without support."""
    recalls = {}
    for group, names in GROUPS.items():
        rows = [column for column, name in enumerate(emotions) if name in names]
        with np.errstate(invalid="ignore"):
            recalls[group] = matrices[..., rows, rows].sum(axis=-1) / matrices[..., rows, :].sum(axis=(-2, -1))
    return recalls


def majority_accuracy(shares, train_shares, without=()):
    """Accuracy of always answering the most frequent label of the training utterances, ties left out: the floor.

    Utterances whose label is one of the columns `without` are left out, as `scores` does. None without training
    utterances.
    """
    if not len(train_shares):
        return None
    train_labels = train_shares[~(is_tie(train_shares) | without_votes(train_shares))].argmax(axis=1)
    answer = np.bincount(train_labels, minlength=shares.shape[1]).argmax()
    labels = shares[~(is_tie(shares) | without_votes(shares))].argmax(axis=1)
    return float((labels[~np.isin(labels, without)] == answer).mean())


def mean_squared_error(shares, predictions):
    """Mean over utterances and emotions: the paper's training loss."""
    return float(np.mean(np.square(np.asarray(predictions, "float64") - shares)))


def cross_entropy(shares, predictions):
    """Mean over utterances of -sum(share log prediction), in nats; predictions are clipped to at least 1e-7."""
    return float(-np.mean(np.sum(shares * np.log(np.clip(np.asarray(predictions, "float64"), 1e-7, 1)), axis=1)))


LOSSES = {"mse": mean_squared_error, "cross_entropy": cross_entropy}


def as_distributions(predictions):
    """Linear outputs as distributions: negative shares become 0, then each row is scaled to sum to one.

    Args:
        predictions: (N, C) predicted shares of any sign.

    Returns:
        (N, C) float64; a row without a positive share becomes uniform.
    """
    positive = np.maximum(np.asarray(predictions, "float64"), 0)
    positive[~positive.any(axis=1)] = 1
    return positive / positive.sum(axis=1, keepdims=True)


def jensen_shannon_distance(shares, predictions):
    """Distance between vote and prediction, base 2: 0 where they are equal, 1 where they share no emotion.

    The square root of the Jensen-Shannon divergence (Endres and Schindelin 2003). Predictions go through
    `as_distributions` first.

    Args:
        shares: (N, C) vote shares, rows sum to one.
        predictions: (N, C) predicted shares.

    Returns:
        (N,) float64.
    """
    return jensenshannon(np.asarray(shares, "float64"), as_distributions(predictions), base=2, axis=1)


def agreement_levels(shares):
    """The utterances by how far their raters agree.

    Args:
        shares: (N, C) vote shares.

    Returns:
        {"all_agree": all votes for one emotion, "majority": others too, but one has most, "tie": none has most}, each
        (N,) bool; utterances without votes are in none.
    """
    tie, voted = is_tie(shares) & ~without_votes(shares), ~without_votes(shares)
    all_agree = (np.asarray(shares) > 0).sum(axis=1) == 1
    return {"all_agree": all_agree, "majority": voted & ~tie & ~all_agree, "tie": tie}


def dialog_kinds(dialog_id):
    """Which utterances are improvised and which scripted, by IEMOCAP's dialog ids (Ses04F_impro07, Ses04F_script01_1).

    The few scripts are played in every session, so the text of scripted test dialogs was in training too.

    Returns:
        {"improvised": (N,) bool, "scripted": (N,) bool}, both all False for a corpus with other ids.
    """
    marks = {"improvised": "_impro", "scripted": "_script"}
    return {kind: np.array([mark in str(name) for name in dialog_id], bool) for kind, mark in marks.items()}


def part_scores(shares, predictions, emotions):
    """Scores of a part of the test utterances, without 'other' where they need a label.

    Args:
        shares: (N, C) vote shares.
        predictions: (N, C) predicted shares.
        emotions: the C names.

    Returns:
        {"num_utterances"}; with any utterance also mean squared error and mean Jensen-Shannon distance; with any
        labelled one also accuracy, weighted F1, macro F1 and UA over the classes without 'other'.
    """
    part = {"num_utterances": len(shares)}
    if part["num_utterances"]:
        part["mean_squared_error"] = mean_squared_error(shares, predictions)
        part["jensen_shannon_distance"] = float(jensen_shannon_distance(shares, predictions).mean())
    matrix = confusion_matrix(shares, predictions)
    if any(matrix[i].any() for i, name in enumerate(emotions) if name != "other"):
        result = scores(matrix, emotions, without=("other",))
        for name in ("accuracy", "weighted_f1", "macro_f1", "unweighted_accuracy"):
            part[f"{name}_9"] = result[name]
    return part


def average_precision(present, predictions, weights=None):
    """Area under the precision-recall steps, sum over thresholds of (gain in recall) * precision.

    As `sklearn.metrics.average_precision_score`; utterances of equal prediction share a threshold.

    Args:
        present: (N,) bool, whether the emotion is there.
        predictions: (N,) its predicted share.
        weights: (..., N) how often each utterance counts, as in a bootstrap; None for once.

    Returns:
        (...) float64; NaN where no utterance that counts has the emotion.
    """
    weights = np.ones(len(predictions)) if weights is None else weights
    found, hits = threshold_sums(predictions, present, weights)
    with np.errstate(invalid="ignore"):
        recall = hits / hits[..., -1:]
    return (np.diff(recall, axis=-1, prepend=0) * (hits / np.maximum(found, 1e-12))).sum(axis=-1)


def threshold_sums(values, marked, weights):
    """Sums over the utterances at or above each of the K different values, from the largest value down.

    Args:
        values: (N,) what the thresholds are of.
        marked: (N,) bool.
        weights: (..., N) how often each utterance counts.

    Returns:
        Two (..., K): the weight of these utterances, and of those that are marked.
    """
    order = np.argsort(-np.asarray(values), kind="stable")
    ends = np.flatnonzero(np.diff(np.asarray(values)[order], append=np.nan))  # last place of each threshold
    counted = np.asarray(weights, "float64")[..., order]
    return np.cumsum(counted, axis=-1)[..., ends], np.cumsum(counted * np.asarray(marked)[order], axis=-1)[..., ends]


def disagreement(shares, predictions, emotions):
    """Table 5: average precision per emotion on the tied utterances, each emotion with any vote being present.

    Args:
        shares: (N, C) vote shares.
        predictions: (N, C) predicted shares.
        emotions: the C names.

    Returns:
        {"num_utterances", "num_present" {emotion: int}, "average_precision" {emotion: float, None where it is never
        present}, "mean_average_precision" over the emotions that are present, None without any}.
    """
    tied = agreement_levels(shares)["tie"]
    present, predicted = np.asarray(shares)[tied] > 0, np.asarray(predictions)[tied]
    values = {
        name: float(average_precision(present[:, i], predicted[:, i])) if present[:, i].any() else None
        for i, name in enumerate(emotions)
    }
    known = [value for value in values.values() if value is not None]
    return {
        "num_utterances": int(tied.sum()),
        "num_present": {name: int(present[:, i].sum()) for i, name in enumerate(emotions)},
        "average_precision": values,
        "mean_average_precision": float(np.mean(known)) if known else None,
    }


def calibration(shares, predictions, num_bins=10):
    """Whether the top share of a prediction says how often, and how widely, the raters agree with it.

    Over the utterances in which neither label nor prediction ties; predictions go through `as_distributions`. The
    expected calibration error (Guo et al. 2017) is the mean over utterances of |accuracy - confidence| of their bin;
    the share calibration error takes the share of the votes that the predicted emotion got in place of the accuracy,
    which is what a regression of shares aims at.

    Args:
        shares: (N, C) vote shares.
        predictions: (N, C) predicted shares.
        num_bins: bins of equal width over the top share, 0 to 1.

    Returns:
        {"expected_calibration_error", "share_calibration_error", "bins": a list of {"low", "high", "count",
        "confidence", "accuracy", "vote_share"}, the last three None in an empty bin}.
    """
    scored = ~(is_tie(shares) | is_tie(predictions) | without_votes(shares))
    vote, predicted = np.asarray(shares, "float64")[scored], np.asarray(predictions)[scored]
    answer, places = predicted.argmax(axis=1), np.arange(len(vote))
    confidence, share = as_distributions(predicted)[places, answer], vote[places, answer]
    correct = vote.argmax(axis=1) == answer
    bin_of = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    bins, errors = [], np.zeros(2)
    for number in range(num_bins):
        inside = bin_of == number
        means = [float(values[inside].mean()) if inside.any() else None for values in (confidence, correct, share)]
        if inside.any():
            errors += inside.mean() * np.abs(np.array(means[1:]) - means[0])
        edges = {"low": number / num_bins, "high": (number + 1) / num_bins, "count": int(inside.sum())}
        bins.append(edges | dict(zip(("confidence", "accuracy", "vote_share"), means, strict=True)))
    return {
        "expected_calibration_error": float(errors[0]),
        "share_calibration_error": float(errors[1]),
        "bins": bins,
    }


def published_printout(matrix):
    """The print-out of the released evaluation: accuracy, supports, one row per label, over all classes."""
    matrix = np.asarray(matrix)
    lines = [f"acc:{int(matrix.trace()) / int(matrix.sum())}", "final result:"]
    lines.append(str({i: int(count) for i, count in enumerate(matrix.sum(axis=1))}))
    lines += [f"{i} {dict(enumerate(map(int, row)))}" for i, row in enumerate(matrix)]
    return "\n".join(lines)
