"""The scores: the published confusion matrix gives the published numbers; scikit-learn and scipy agree."""

import ast

import numpy as np
import pytest
import scipy.spatial.distance
import sklearn.metrics

from data.labels import EMOTIONS
from scoring.metrics import (
    agreement_levels,
    average_precision,
    calibration,
    confusion_matrix,
    cross_entropy,
    dialog_kinds,
    disagreement,
    group_recalls,
    jensen_shannon_distance,
    majority_accuracy,
    mean_squared_error,
    part_scores,
    published_printout,
    scores,
)
from storage.files import InputError

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
    with pytest.raises(InputError, match="no utterance to score"):
        scores(np.zeros((3, 3)), ("a", "b", "c"))


def test_losses_and_floor_by_hand():
    shares, predictions = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.25, 0.75]])
    assert mean_squared_error(shares, predictions) == pytest.approx((0.25 + 0.25 + 0.0625 + 0.0625) / 4)
    expected = -(np.log(0.5) + 0.5 * np.log(0.25) + 0.5 * np.log(0.75)) / 2
    assert cross_entropy(shares, predictions) == pytest.approx(expected)
    train = np.array([[1, 0], [0, 1], [0, 1], [0.5, 0.5]])
    test = np.array([[1, 0], [0, 1], [0.3, 0.7], [0.5, 0.5]])
    assert majority_accuracy(test, train) == pytest.approx(2 / 3) and majority_accuracy(test, train, without=[0]) == 1


def test_jensen_shannon_distance_by_hand_and_as_scipy():
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    predictions = np.array([[0.3, -0.2], [2.0, 0.0], [0.1, 0.1], [-1.0, -1.0]])
    # Equal; nothing in common; equal; against the uniform row that a row without a positive share becomes:
    # middle (3/4, 1/4), divergence (log2(4/3) + 1/2 log2(2/3) + 1/2 log2(2)) / 2.
    last = np.sqrt((np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5) / 2)
    np.testing.assert_allclose(jensen_shannon_distance(shares, predictions), [0, 1, 0, last], atol=1e-12)
    shares, predictions = np.random.default_rng(1).dirichlet(np.ones(10), (2, 50))
    shares[:, 3] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    expected = scipy.spatial.distance.jensenshannon(shares, predictions, base=2, axis=1)
    np.testing.assert_allclose(jensen_shannon_distance(shares, predictions), expected)


def test_agreement_levels_and_dialog_kinds():
    shares = np.array([[1, 0, 0], [0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 0], [0.5, 0.25, 0.25]])
    levels = {name: list(np.flatnonzero(mask)) for name, mask in agreement_levels(shares).items()}
    assert levels == {"all_agree": [0], "majority": [1, 4], "tie": [2]}
    kinds = dialog_kinds(np.array(["Ses04F_impro07", "Ses04M_script01_1b", "dia12"]))
    assert {name: mask.tolist() for name, mask in kinds.items()} == {
        "improvised": [True, False, False],
        "scripted": [False, True, False],
    }


def test_part_scores_leave_out_what_a_part_does_not_have():
    emotions = ("angry", "sadness", "other")
    tied = part_scores(np.array([[0.5, 0.5, 0]]), np.array([[0.5, 0.3, 0.2]]), emotions)
    assert set(tied) == {"num_utterances", "mean_squared_error", "jensen_shannon_distance"}
    assert part_scores(np.zeros((0, 3)), np.zeros((0, 3)), emotions) == {"num_utterances": 0}
    shares = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    whole = part_scores(shares, np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0, 0, 1.0]]), emotions)
    assert whole["accuracy_9"] == 0.5 and whole["macro_f1_9"] == pytest.approx((2 / 3 + 0) / 2)


def test_average_precision_by_hand_and_as_scikit_learn():
    # In order of the prediction: there, not, {there, not} at one threshold. Recall 1/2, 1/2, 1; precision 1, -, 2/4.
    assert average_precision([True, False, True, False], [0.9, 0.5, 0.2, 0.2]) == pytest.approx(0.5 + 0.5 * 0.5)
    rng = np.random.default_rng(2)
    present, predictions = rng.random(60) < 0.3, rng.integers(0, 20, 60) / 20
    weights = rng.integers(0, 4, (3, 60))
    expected = [sklearn.metrics.average_precision_score(present, predictions, sample_weight=row) for row in weights]
    np.testing.assert_allclose(average_precision(present, predictions, weights), expected)
    assert np.isnan(average_precision([False, False], [0.1, 0.2]))


def test_disagreement_counts_any_vote_on_tied_utterances():
    shares = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0]])
    result = disagreement(shares, np.array([[0.6, 0.9, 0], [0.7, 0.8, 0], [0, 0, 1.0]]), ("a", "b", "c"))
    assert result["num_utterances"] == 2 and result["num_present"] == {"a": 1, "b": 2, "c": 1}
    # "a" is predicted higher where it is not there: precision 1/2 at full recall. "c" is the same everywhere: 1/2.
    assert result["average_precision"] == {"a": 0.5, "b": 1.0, "c": 0.5}
    assert result["mean_average_precision"] == pytest.approx(2 / 3)
    nobody = disagreement(shares[2:], shares[2:], ("a", "b", "c"))
    assert nobody["mean_average_precision"] is None and nobody["average_precision"]["a"] is None


def test_calibration_by_hand():
    shares = np.array([[1.0, 0], [0.25, 0.75], [0.75, 0.25], [0.5, 0.5]])
    predictions = np.array([[0.7, 0.3], [0.625, 0.375], [0.8, -0.8], [0.9, 0.1]])  # right, wrong, right; a tie is out
    result = calibration(shares, predictions, num_bins=2)
    upper = result["bins"][1]
    assert [one["count"] for one in result["bins"]] == [0, 3] and result["bins"][0]["accuracy"] is None
    assert upper["confidence"] == pytest.approx((0.7 + 0.625 + 1) / 3) and upper["accuracy"] == pytest.approx(2 / 3)
    assert upper["vote_share"] == pytest.approx((1 + 0.25 + 0.75) / 3)
    assert result["expected_calibration_error"] == pytest.approx(0.775 - 2 / 3)
    assert result["share_calibration_error"] == pytest.approx(0.775 - 2 / 3)
    finer = calibration(shares, predictions)  # bins 0.6 to 0.7 (one wrong), 0.7 to 0.8, 0.9 to 1 (1.0 belongs to it)
    assert [one["count"] for one in finer["bins"]] == [0, 0, 0, 0, 0, 0, 1, 1, 0, 1]
    assert finer["expected_calibration_error"] == pytest.approx((0.625 + 0.3 + 0) / 3)
