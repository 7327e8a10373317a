"""Votes to targets: the 10 emotions, vote shares, ties.

Section 4.1 of the paper, verified on all 10,039 utterances of IEMOCAP: these rules give the published numbers of
ties (Table 5) and the published test support.
"""

import numpy as np

# The order of every vector and matrix (released code).
EMOTIONS = (
    "neutral",
    "exciting",
    "sadness",
    "frustration",
    "happiness",
    "angry",
    "other",
    "surprised",
    "disgust",
    "fear",
)


def vote_shares(votes_external, votes_self, raters="all"):
    """Scales the votes of each utterance to sum to one (paper, section 3.1: the regression target).

    Every tag of every rater is one vote; a rater may give several. Self-reports count like the external raters.

    Args:
        votes_external: (N, C) numbers of tags that the external raters gave.
        votes_self: (N, C) numbers of tags in the self-reports.
        raters: "all" (the paper's), or "external" to leave the self-reports out.

    Returns:
        (N, C) float32 shares. A row without any vote is all zeros; see `without_votes`.

    Raises:
        ValueError: `raters` is neither "all" nor "external".
    """
    if raters not in ("all", "external"):
        raise ValueError(f"raters must be 'all' or 'external'. Received: {raters!r}")
    votes = np.asarray(votes_external, "float64")
    if raters == "all":
        votes = votes + votes_self
    totals = votes.sum(axis=1, keepdims=True)
    return (votes / np.maximum(totals, 1)).astype("float32")


def without_votes(shares):
    """(N,) bool: the utterances that nobody voted on; they are no target and no test."""
    return ~np.asarray(shares).any(axis=1)


def is_tie(shares):
    """(N,) bool: no unique maximum. Such labels and such predictions are left out of the score (released code)."""
    shares = np.asarray(shares)
    return (shares == shares.max(axis=1, keepdims=True)).sum(axis=1) > 1


def categorical_targets(shares, other):
    """The paper's categorical reading (Table 1): one-hot of the majority, ties become 'other'.

    Args:
        shares: (N, C) vote shares.
        other: index of the emotion that ties become.

    Returns:
        (N, C) float32, one 1 in each row.
    """
    winners = np.where(is_tie(shares), other, shares.argmax(axis=1))
    return np.eye(shares.shape[1], dtype="float32")[winners]
