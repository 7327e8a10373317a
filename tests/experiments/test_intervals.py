"""Intervals over dialogs, paired differences, and the rows that tables are made of."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.intervals import (
    Row,
    Scored,
    beside_raters,
    difference,
    disagreement,
    read_rows,
    recognition,
    rows_of,
    write_rows,
)
from scoring.draws import dialog_draws, interval


def task_of(shares, emotions):
    """What scoring needs of a task whose utterances are all test."""
    return SimpleNamespace(shares=shares, test=np.arange(len(shares)), emotions=emotions)


def test_bootstrap_draws_whole_dialogs():
    counts, dialog = dialog_draws(np.array(["b", "b", "a", "c"]), num_draws=500, seed=3)
    assert counts.shape == (500, 3) and (counts.sum(axis=1) == 3).all() and list(dialog) == [1, 1, 0, 2]
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)
    shares = np.array([[1.0, 0, 0]] * 2 + [[0, 1.0, 0]] * 2)
    task = task_of(shares, ("angry", "sadness", "other"))
    right = recognition("right", (), task, [shares], (counts, dialog), "groups")
    wrong = np.tile([1.0, 0, 0], (4, 1))
    half = recognition("half", (), task, [shares, wrong], (counts, dialog), "answers")
    assert list(half.per_seed[:, 0]) == [100, 50] and list(half.per_seed[:, 2]) == [100, 50]
    assert list(half.per_seed[:, 3]) == pytest.approx([0, 1000 * 2 * 2 / 12])  # two ones beside two zeros, 12 numbers
    # The second seed is right on dialog b alone, which has two utterances.
    expected = (100 + 100 * 2 * counts[:, 1] / (2 * counts[:, 1] + counts[:, 0] + counts[:, 2])) / 2
    np.testing.assert_allclose(half.draws[:, 0], expected)
    assert np.isnan(right.draws[counts[:, 1] == 0, 2]).all()  # no angry utterance in the draw: no recall
    ends, p = difference(right.draws[:, 0], half.draws[:, 0])
    assert ends == pytest.approx(tuple(np.quantile(100 - expected, (0.025, 0.975))))
    assert p == pytest.approx(2 * (expected == 100).mean())
    assert interval(np.array([np.nan])) is None and difference(np.array([np.nan]), np.array([1.0])) == (None, None)


def test_rows_survive_their_file(tmp_path):
    """A single seed has no deviation, a row of the paper alone no numbers of ours."""
    single = Scored("x", (50.0,), np.array([[40.0, 1.0]]), np.tile(np.arange(101.0)[:, None], 2))
    paper = Scored("y", (7.0,), np.full((1, 2), np.nan), np.full((1, 2), np.nan))
    rows = rows_of([single, paper], "accuracy", "x")
    assert rows[0] == Row("x", "accuracy", 50.0, 1, 40.0, None, 2.5, 97.5)
    assert rows[2] == Row("y", "accuracy", 7.0, 1)
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows


def test_disagreement_bootstrap_counts_dialogs_as_often_as_drawn():
    task = task_of(np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1.0, 0, 0]]), ("a", "b", "c"))
    draws = (np.array([[1, 1, 1], [0, 2, 1]]), np.arange(3))
    prediction = np.array([[0, 0.4, 0], [0, 0.9, 0], [0, 0, 0]])
    scored = disagreement({"a": 1.0, "mean": 4.0}, task, [prediction], draws)
    assert [(one.name, one.paper) for one in scored] == [("a", (1.0,)), ("b", ()), ("c", ()), ("mean", (4.0,))]
    assert [float(one.per_seed[0, 0]) for one in scored] == pytest.approx([100, 50, 50, 200 / 3])
    assert np.isnan(scored[1].draws[1, 0]) and scored[2].draws[1, 0] == 100


def test_scores_beside_raters_are_drawn_by_dialog():
    """A draw of each dialog once is the score itself; of one dialog twice and the other never, that dialog's alone."""
    rng, emotions = np.random.default_rng(4), ("joy", "fear", "other")
    votes, answers = rng.integers(0, 3, (12, 3)), rng.random((12, 3))
    settings, empty = SimpleNamespace(raters="all"), np.zeros((12, 3), int)

    def scored(rows, counts, dialog):
        corpus = SimpleNamespace(votes_external=votes, votes_self=empty)
        task = SimpleNamespace(corpus=corpus, test=rows, emotions=emotions, settings=settings)
        return beside_raters("x", task, [answers[rows]], (np.array(counts), dialog))

    both = scored(np.arange(12), [[1, 1], [2, 0]], np.repeat([0, 1], 6))
    first = scored(np.arange(6), [[1]], np.zeros(6, int))
    np.testing.assert_allclose(both.draws[0], both.per_seed[0])
    np.testing.assert_allclose(both.draws[1], first.per_seed[0])
