"""Every score of the project, each computed in one place, all from the confusion matrix or the vote shares.

Protocol of the paper's released evaluation: utterances whose label or whose prediction ties are left out, argmax
against argmax. Letters: N utterances, C emotions.
"""

import numpy as np

from data.labels import is_tie, without_votes

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
    support, predicted, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    recall = correct / np.maximum(support, 1)
    precision = correct / np.maximum(predicted, 1)
    f1 = 2 * correct / np.maximum(support + predicted, 1)
    present = [i for i in kept if support[i]]
    total = int(support.sum())
    if total == 0:
        raise ValueError("no utterance to score: every label or prediction ties, or has no votes")
    return {
        "accuracy": int(correct.sum()) / total,
        "weighted_f1": float((f1 * support).sum() / total),
        "macro_f1": float(f1[present].mean()),
        "unweighted_accuracy": float(recall[present].mean()),
        "num_utterances": total,
        "per_class": {
            emotions[i]: {
                "recall": float(recall[i]) if support[i] else None,
                "precision": float(precision[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i in kept
        },
    }


def group_recalls(matrix, emotions):
    """Recall of the groups of Table 3; None for a group without support."""
    recalls = {}
    for group, names in GROUPS.items():
        rows = [emotions.index(name) for name in names if name in emotions]
        support = int(matrix[rows].sum())
        recalls[group] = int(matrix[rows, rows].sum()) / support if support else None
    return recalls


def majority_accuracy(shares, train_shares):
    """Accuracy of always answering the most frequent label of the training utterances, ties left out: the floor."""
    train_labels = train_shares[~(is_tie(train_shares) | without_votes(train_shares))].argmax(axis=1)
    answer = np.bincount(train_labels, minlength=shares.shape[1]).argmax()
    labels = shares[~(is_tie(shares) | without_votes(shares))].argmax(axis=1)
    return float((labels == answer).mean())


def mean_squared_error(shares, predictions):
    """Mean over utterances and emotions: the paper's training loss."""
    return float(np.mean(np.square(np.asarray(predictions, "float64") - shares)))


def cross_entropy(shares, predictions):
    """Mean over utterances of -sum(share log prediction), in nats; predictions are clipped to at least 1e-7."""
    return float(-np.mean(np.sum(shares * np.log(np.clip(np.asarray(predictions, "float64"), 1e-7, 1)), axis=1)))


LOSSES = {"mse": mean_squared_error, "cross_entropy": cross_entropy}


def published_printout(matrix):
    """The print-out of the released evaluation: accuracy, supports, one row per label, over all classes."""
    matrix = np.asarray(matrix)
    lines = [f"acc:{int(matrix.trace()) / int(matrix.sum())}", "final result:"]
    lines.append(str({i: int(count) for i, count in enumerate(matrix.sum(axis=1))}))
    lines += [f"{i} {dict(enumerate(map(int, row)))}" for i, row in enumerate(matrix)]
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
