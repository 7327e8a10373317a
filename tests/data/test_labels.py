"""Votes to targets by hand, and the published numbers on the real votes where they are at hand."""

import numpy as np
import pytest

from data.corpus import read_corpus
from data.fidelity import PUBLISHED, find_numbers
from data.labels import EMOTIONS, categorical_targets, is_tie, vote_shares, without_votes
from data.task import split_sessions
from storage.files import InputError

# Rows: agreed; a rater with two tags; 1-1-1; a self-report that breaks the tie; nobody voted.
EXTERNAL = np.array([[3, 0, 0], [2, 2, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]])
SELF = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 2], [0, 0, 0]])


def test_every_tag_of_every_rater_is_one_vote():
    expected = [[0.75, 0.25, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5], [0, 0, 0]]
    shares = vote_shares(EXTERNAL, SELF)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert is_tie(shares).tolist() == [False, True, True, False, True]
    assert without_votes(shares).tolist() == [False, False, False, False, True]


def test_external_raters_alone():
    shares = vote_shares(EXTERNAL, SELF, raters="external")
    np.testing.assert_allclose(shares[:, 0], [1, 0.5, 1 / 3, 0.5, 0], rtol=1e-6)
    assert is_tie(shares).tolist() == [False, True, True, True, True]
    with pytest.raises(ValueError, match="Received: 'self'"):
        vote_shares(EXTERNAL, SELF, raters="self")


def test_ties_become_other_in_the_categorical_reading():
    targets = categorical_targets(vote_shares(EXTERNAL, SELF)[:4], other=1)
    assert targets.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_split_by_session():
    session = np.array([3, 1, 5, 4, 2, 1, 3])
    parts = {name: rows.tolist() for name, rows in split_sessions(session).items()}
    assert parts == {"train": [1, 2, 4, 5], "dev": [0, 6], "test": [3]}
    with pytest.raises(InputError, match="session 4 is there twice"):
        split_sessions(session, train=(1, 4))
    with pytest.raises(InputError, match=r"no utterance of session 2 \(train\).*has sessions \[1, 3, 4, 5\]"):
        split_sessions(session[session != 2])


def test_published_numbers_on_the_real_votes(shared):
    corpus = read_corpus(shared / "iemocap" / "iemocap.h5")
    assert find_numbers(corpus) == PUBLISHED
    assert [PUBLISHED[f"ties in {part}"] for part in ("train", "dev", "test")] == [1405, 572, 564]
    assert [PUBLISHED[f"test support of {emotion}"] for emotion in EMOTIONS] == [
        258,
        238,
        143,
        481,
        65,
        327,
        1,
        19,
        0,
        7,
    ]
    external = is_tie(vote_shares(corpus.votes_external, corpus.votes_self, raters="external"))
    assert [int(external[rows].sum()) for rows in split_sessions(corpus.session).values()] == [1371, 572, 564]
