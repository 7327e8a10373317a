"""The scores beside human raters: by hand, as scikit-learn and scipy, and as measured on the real votes."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from data.corpus import read_corpus
from data.labels import EMOTIONS, is_tie
from scoring.agreement import (
    SMOOTHING,
    accuracy_at,
    agreement_scores,
    answers,
    coverage_curve,
    held_out_votes,
    kl_divergence,
)
from scoring.draws import dialog_draws
from scoring.figures import coverage_figure
from scoring.metrics import as_distributions, calibration, confusion_matrix, matrix_scores, scores
from scoring.results import agreement, agreement_lines

NAMES = ("angry", "sadness", "other", "fear")
EXTERNAL = np.array([[2, 1, 0, 0], [0, 3, 0, 0], [1, 0, 2, 0], [2, 0, 1, 0], [0, 0, 0, 1]], "int16")
OWN = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], "int16")
SAID = np.array(
    [[0.4, 0.35, 0.2, 0.05], [0.8, 0.1, -0.1, 0.1], [0, 0, 0.9, 0.1], [0.2, 0.7, 0.1, 0], [0.1, 0.1, 0.2, 0.6]]
)


def test_held_out_raters_by_hand():
    """Pairs: one 'sadness' against angry, three right ones of sadness, two right ones and one 'other' against angry.

    Left out: a vote against a tie (the two of the first, one of the third), against 'other', against nobody.
    """
    found = agreement_scores(EXTERNAL, OWN, SAID, NAMES)
    assert found["num_held_out_votes"] == 7
    assert found["rater_accuracy_9"] == pytest.approx(5 / 7)
    assert found["rater_unweighted_accuracy_9"] == pytest.approx((2 / 4 + 3 / 3) / 2)
    assert found["rater_weighted_f1_9"] == pytest.approx((4 * (4 / 6) + 3 * (6 / 7)) / 7)
    assert found["system_accuracy_9"] == pytest.approx(1 / 7)  # angry, angry three times, sadness three times


def test_emo_superbs_rule_and_coverage_by_hand():
    found = agreement_scores(EXTERNAL, OWN, SAID, NAMES)
    # Above 1/3 of the votes: A, S, A, A, F; of the answers without 'other': AS, A, F, S, F.
    assert found["emo_superb_macro_f1"] == pytest.approx((2 / 5 + 0 + 2 / 3) / 3)
    # Twice A against AS, S against A, three times S against S, twice A against A; nobody else voted in the others.
    assert found["emo_superb_macro_f1_rater"] == pytest.approx((8 / 9 + 6 / 9 + 0) / 3)
    # From the surest: wrong (.8), wrong (.7), right (.6), right (.4); the third utterance's label is 'other'.
    assert found["coverage_area_9"] == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert accuracy_at([0.25, 0.5, 1], [1, 0.5, 0.6], (0.25, 0.3, 0.9)) == {"0.25": 1, "0.3": 0.5, "0.9": 0.6}
    coverage, accuracy = coverage_curve([0.5, 0.5, 0.9, 0.1], [True, False, True, False])  # equals share a threshold
    np.testing.assert_allclose([coverage, accuracy], [[1 / 4, 3 / 4, 1], [1, 2 / 3, 2 / 4]])


def test_the_answer_is_the_largest_output_where_no_share_is_positive():
    """As accuracy has it: the largest of them is the third, and no share is left to be sure by."""
    said, shares = np.array([[-0.4, -0.3, -0.1, -0.2]]), np.array([[1.0, 0, 0, 0]])
    found = agreement_scores(4 * shares.astype(int), 0 * shares.astype(int), said, NAMES)
    assert found["coverage_area_9"] == 0
    (bin_of_all,) = (one for one in calibration(shares, said)["bins"] if one["count"])
    assert bin_of_all["accuracy"] == bin_of_all["vote_share"] == 0 and bin_of_all["confidence"] == 0.25


@pytest.fixture(scope="module")
def drawn():
    """External votes, self-reports and linear answers of 150 utterances, ties and one-sided votes among them."""
    rng = np.random.default_rng(0)
    means = rng.dirichlet(np.full(10, 0.4), 150)
    external, own = (np.array([rng.multinomial(num, p) for p in means], "int16") for num in (3, 1))
    external[7], own[7] = 3 * np.eye(10)[6], np.eye(10)[6]  # 'other' alone
    return external, own, means + rng.normal(0, 0.08, means.shape)


def test_scikit_learn_and_scipy_agree(drawn):
    external, own, said = drawn
    found, votes = agreement_scores(*drawn, EMOTIONS), external + own
    pairs, present = [], []
    nine = [column for column, name in enumerate(EMOTIONS) if name != "other"]
    for n, given in enumerate(external):
        for vote in np.repeat(np.arange(10), given):  # one rater after the other
            rest = list(votes[n])
            rest[vote] -= 1
            if rest.count(max(rest)) == 1 and max(rest) > 0 and rest.index(max(rest)) != 6:
                pairs.append((rest.index(max(rest)), vote, said[n].argmax()))
            if vote != 6 and any(rest[c] for c in nine):
                present.append(([rest[c] / sum(rest[i] for i in nine) > 1 / 9 for c in nine], np.eye(10)[vote, nine]))
    majority, *who = np.array(pairs).T
    labels = sorted(set(majority))
    assert found["num_held_out_votes"] == len(pairs)
    for name, given in zip(("rater", "system"), who, strict=True):
        means = {"labels": labels, "zero_division": 0}
        expected = [
            sklearn.metrics.accuracy_score(majority, given),
            sklearn.metrics.f1_score(majority, given, average="weighted", **means),
            sklearn.metrics.recall_score(majority, given, average="macro", **means),
        ]
        got = [found[f"{name}_{score}_9"] for score in ("accuracy", "weighted_f1", "unweighted_accuracy")]
        np.testing.assert_allclose(got, expected)
    macro_f1 = {"average": "macro", "zero_division": 0}
    voted, answer = np.array(present).transpose(1, 0, 2)
    assert found["emo_superb_macro_f1_rater"] == pytest.approx(sklearn.metrics.f1_score(voted, answer, **macro_f1))
    named = votes[:, nine].any(axis=1)
    there = [as_distributions(values[named][:, nine]) > 1 / 9 for values in (votes, said)]
    assert found["emo_superb_macro_f1"] == pytest.approx(sklearn.metrics.f1_score(*there, **macro_f1))

    shares, answer = votes / votes.sum(axis=1, keepdims=True), as_distributions(said)
    smooth = (1 - SMOOTHING) * answer + SMOOTHING / 10
    np.testing.assert_allclose(kl_divergence(votes, said), scipy.stats.entropy(shares, smooth, axis=1))
    assert found["kl_divergence"] == pytest.approx(scipy.stats.entropy(shares, smooth, axis=1).mean())
    every_vote = [np.log(smooth[n, c]) for n, c in np.argwhere(votes) for _ in range(votes[n, c])]
    assert found["log_likelihood_per_vote"] == pytest.approx(np.mean(every_vote))
    tied, unsure = is_tie(votes), scipy.stats.entropy(answer, axis=1)
    expected = sklearn.metrics.average_precision_score(tied, unsure)
    assert found["no_majority_average_precision"] == pytest.approx(expected)
    assert found["no_majority_share"] == tied.mean()

    label = votes.argmax(axis=1)
    kept = ~tied & (label != 6)
    top_2 = sklearn.metrics.top_k_accuracy_score(label[kept], said[kept], k=2, labels=range(10))
    assert found["top_2_accuracy_9"] == pytest.approx(top_2)
    confidence, correct, rows = answers(votes, said, EMOTIONS)
    np.testing.assert_array_equal(rows, np.flatnonzero(kept))
    precision = sklearn.metrics.precision_recall_curve(correct, confidence)[0]  # ascending thresholds, then a 1
    coverage, accuracy = coverage_curve(confidence, correct)
    np.testing.assert_allclose(accuracy, precision[-2::-1])
    assert found["coverage_area_9"] == pytest.approx(accuracy.mean())  # no two are equally sure
    whole = scores(confusion_matrix(shares, said), EMOTIONS, without=("other",))["accuracy"]
    assert coverage[-1] == 1 and accuracy[-1] == pytest.approx(whole)


def test_weights_are_repetitions(drawn):
    """So a bootstrap over dialogs gets from one call what it would get from scoring each draw."""
    weights = np.random.default_rng(1).integers(0, 4, (2, 3, 150))
    found = agreement_scores(*drawn, EMOTIONS, weights)
    for place in np.ndindex(2, 3):
        rows = np.repeat(np.arange(150), weights[place])
        alone = agreement_scores(*(values[rows] for values in drawn), EMOTIONS)
        for name, values in found.items():
            assert values.shape == (2, 3) and values[place] == pytest.approx(alone[name]), name
    nobody = agreement_scores(*drawn, EMOTIONS, np.zeros(150))
    assert nobody.pop("num_held_out_votes") == 0 and np.isnan(list(nobody.values())).all()


def test_scores_of_many_matrices_are_those_of_each():
    matrices = np.random.default_rng(2).integers(0, 5, (2, 3, 4, 4))
    matrices[:, 1, 2], matrices[0, 0, 3] = 0, 0  # a class without support
    found = matrix_scores(matrices)
    for place in np.ndindex(2, 3):
        alone = scores(matrices[place], NAMES)
        assert all(values[place] == pytest.approx(alone[name]) for name, values in found.items())


class OneRater:
    """A task whose utterances have one vote each, as MELD's."""

    emotions, test = NAMES, np.array([0, 1])

    class corpus:
        votes_external, votes_self = np.eye(4, dtype="int16")[[0, 3]], np.eye(4, dtype="int16")[[1, 1]]
        dialog_id = np.array(["a", "b"])

    class settings:
        raters = "external"


def test_a_corpus_with_one_rater_has_nobody_to_leave_out(tmp_path):
    found = agreement(OneRater, SAID[[0, 4]])
    assert found["num_held_out_votes"] == 0 and found["top_2_accuracy_9"] == 1
    assert all(found[name] is None for name in ("rater_accuracy_9", "emo_superb_macro_f1_rater"))
    assert found["intervals"]["top_2_accuracy_9"] == (1, 1) and found["intervals"]["rater_accuracy_9"] is None
    lines = "\n".join(agreement_lines(found))
    assert "None" not in lines and "nan" not in lines and "rater" not in lines
    coverage_figure({"fusion": coverage_curve([0.6, 0.4], [True, False])}, "title", tmp_path / "coverage.png")
    assert {path.name for path in tmp_path.iterdir()} == {"coverage.png", "coverage.pdf"}


def test_intervals_are_those_of_the_drawn_dialogs(monkeypatch):
    """As if each draw were scored alone; drawn in parts, so that a large corpus takes no more memory."""
    rng = np.random.default_rng(5)
    votes, dialog_id = rng.multinomial(3, np.full(4, 0.25), (2, 40)), np.repeat(["a", "b", "c", "d"], 10)
    corpus = SimpleNamespace(votes_external=votes[0], votes_self=votes[1], dialog_id=dialog_id)
    task = SimpleNamespace(emotions=NAMES, test=np.arange(40), corpus=corpus, settings=SimpleNamespace(raters="all"))
    said = rng.dirichlet(np.ones(4), 40)
    whole = agreement(task, said)["intervals"]
    counts, dialog = dialog_draws(dialog_id)
    drawn = [agreement_scores(*votes, said, NAMES, count[dialog])["kl_divergence"] for count in counts[:200]]
    assert whole["kl_divergence"][0] <= np.median(drawn) <= whole["kl_divergence"][1]
    monkeypatch.setattr("scoring.results._WEIGHTS_AT_ONCE", 1000)
    np.testing.assert_allclose(list(agreement(task, said)["intervals"].values()), list(whole.values()))


def test_held_out_votes_keep_the_others():
    utterance, answer, count, rest = held_out_votes(EXTERNAL[3:], OWN[3:])
    assert list(zip(utterance, answer, count, strict=True)) == [(0, 0, 2), (0, 2, 1), (1, 3, 1)]
    np.testing.assert_array_equal(rest, [[2, 0, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])


def test_the_real_raters(shared):
    """Session 4 as measured before; tests/test_provided.py has the released checkpoint's figures beside them."""
    corpus = read_corpus(shared / "iemocap" / "iemocap.h5")
    weights = np.stack([corpus.session == 4, np.ones(len(corpus))])
    votes = corpus.votes_external, corpus.votes_self
    found = agreement_scores(*votes, np.ones((len(corpus), 10)), corpus.emotions, weights)
    assert list(found["num_held_out_votes"]) == [2833, 16268]
    names = [f"rater_{name}_9" for name in ("accuracy", "weighted_f1", "unweighted_accuracy")]
    session_4, every = np.round(100 * np.array([found[name] for name in names]).T, 1)
    assert list(session_4) == [48.2, 49.3, 35.7] and list(every) == [50.5, 51.5, 37.8]
    assert round(float(found["emo_superb_macro_f1_rater"][0]), 3) == 0.337
