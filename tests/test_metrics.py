"""The scores: the published confusion matrix gives the published numbers, and scikit-learn agrees."""

import ast

import numpy as np
import pytest
import sklearn.metrics

from data.labels import EMOTIONS
from metrics import (
    confusion_matrix,
    cross_entropy,
    group_recalls,
    majority_accuracy,
    mean_squared_error,
    published_printout,
    scores,
)

# The authors' trained model on Session 4 (rows: label, columns: prediction).
PUBLISHED = np.array(
    [
        [60, 54, 7, 91, 41, 5, 0, 0, 0, 0],
        [10, 152, 1, 8, 67, 0, 0, 0, 0, 0],
        [10, 2, 98, 30, 2, 1, 0, 0, 0, 0],
        [111, 11, 15, 319, 2, 23, 0, 0, 0, 0],
        [4, 33, 2, 3, 23, 0, 0, 0, 0, 0],
        [35, 8, 6, 164, 4, 110, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        [5, 3, 1, 8, 2, 0, 0, 0, 0, 0],
        [0] * 10,
        [3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
)


def test_published_matrix_gives_the_published_accuracy():
    assert scores(PUBLISHED, EMOTIONS)["accuracy"] == 0.4951267056530214
    support = {name: row["support"] for name, row in scores(PUBLISHED, EMOTIONS)["per_class"].items()}
    assert list(support.values()) == [258, 238, 143, 481, 65, 327, 1, 19, 0, 7]


def test_published_printout_has_its_exact_form():
    lines = published_printout(PUBLISHED).split("\n")
    assert lines[:3] == [
        "acc:0.4951267056530214",
        "final result:",
        "{0: 258, 1: 238, 2: 143, 3: 481, 4: 65, 5: 327, 6: 1, 7: 19, 8: 0, 9: 7}",
    ]
    assert lines[3] == "0 {0: 60, 1: 54, 2: 7, 3: 91, 4: 41, 5: 5, 6: 0, 7: 0, 8: 0, 9: 0}"
    rows = [ast.literal_eval(line.split(" ", 1)[1]) for line in lines[3:]]
    np.testing.assert_array_equal([list(row.values()) for row in rows], PUBLISHED)


def test_group_recalls_of_the_published_matrix():
    """As measured on the matrix; the paper's Table 3 gives 31.8, 54.1, 74.1, 61.0 instead."""
    rounded = {group: round(100 * recall, 1) for group, recall in group_recalls(PUBLISHED, EMOTIONS).items()}
    assert rounded == {"Ang": 33.6, "Neu": 51.3, "Sad": 68.5, "Hap": 57.8}


@pytest.mark.parametrize("without", [(), ("other",)])
def test_scikit_learn_agrees(without):
    rng = np.random.default_rng(0)
    shares, predictions = rng.dirichlet(np.ones(10), (2, 400))
    result = scores(confusion_matrix(shares, predictions), EMOTIONS, without)
    truth, answer = shares.argmax(axis=1), predictions.argmax(axis=1)
    kept = ~np.isin(truth, [EMOTIONS.index(name) for name in without])
    truth, answer = truth[kept], answer[kept]
    labels = [i for i in range(10) if EMOTIONS[i] not in without]
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        truth, answer, labels=labels, zero_division=0
    )
    assert result["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, answer))
    assert result["weighted_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, answer, labels=labels, average="weighted", zero_division=0)
    )
    assert result["unweighted_accuracy"] == pytest.approx(recall.mean())
    assert result["macro_f1"] == pytest.approx(f1.mean())
    rows = list(result["per_class"].values())
    np.testing.assert_allclose([row["recall"] for row in rows], recall)
    np.testing.assert_allclose([row["f1"] for row in rows], f1)
    assert [row["support"] for row in rows] == list(support)
    # Precision alone still sees the left-out label's utterances, if any were predicted as this class.
    if not without:
        np.testing.assert_allclose([row["precision"] for row in rows], precision)


def test_ties_and_missing_votes_are_left_out():
    shares = np.array([[0.5, 0.5, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5]])
    predictions = np.array([[1, 0, 0], [1, 0, 0], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.9, 0, 0.1]])
    np.testing.assert_array_equal(confusion_matrix(shares, predictions), [[0, 0, 0], [0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="no utterance to score"):
        scores(np.zeros((3, 3)), ("a", "b", "c"))


def test_losses_and_floor_by_hand():
    shares, predictions = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.25, 0.75]])
    assert mean_squared_error(shares, predictions) == pytest.approx((0.25 + 0.25 + 0.0625 + 0.0625) / 4)
    expected = -(np.log(0.5) + 0.5 * np.log(0.25) + 0.5 * np.log(0.75)) / 2
    assert cross_entropy(shares, predictions) == pytest.approx(expected)
    train = np.array([[1, 0], [0, 1], [0, 1], [0.5, 0.5]])
    assert majority_accuracy(np.array([[1, 0], [0, 1], [0.3, 0.7], [0.5, 0.5]]), train) == pytest.approx(2 / 3)
