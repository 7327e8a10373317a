"""Is this the corpus of the paper? Numbers found in a corpus beside the published ones, and what a difference means.

Published: Table 5 of the paper (ties), the authors' print-out (support of the test session) and the corpus's own
description. All of them were found again on the real release with the rules of `data.labels`.
"""

import numpy as np

from data.corpus import dialog_slices
from data.labels import TEST_SESSION, is_tie, split_sessions, vote_shares

PUBLISHED = {
    "utterances": 10039,
    "dialogs": 151,
    "longest dialog (utterances)": 167,
    "utterances in session 1": 1819,
    "utterances in session 2": 1811,
    "utterances in session 3": 2136,
    "utterances in session 4": 2103,
    "utterances in session 5": 2170,
    "ties in train": 1405,
    "ties in dev": 572,
    "ties in test": 564,
    "test utterances scored": 1539,
    "test support of neutral": 258,
    "test support of exciting": 238,
    "test support of sadness": 143,
    "test support of frustration": 481,
    "test support of happiness": 65,
    "test support of angry": 327,
    "test support of other": 1,
    "test support of surprised": 19,
    "test support of disgust": 0,
    "test support of fear": 7,
}
# What a difference means for the results, by how the quantity's name begins.
_MEANINGS = {
    "utterances": "training or test has other utterances than the paper's; what was left out is named above",
    "dialogs": "whole dialogs are missing or added, so contexts and scores are not the paper's",
    "longest": "the longest context is not the paper's, so an utterance of that dialog is missing or added",
    "ties": "votes differ from Table 5's, so targets, and which utterances are scored, are not the paper's",
    "test": "accuracy and F1 are taken over another test set, so they are not comparable digit by digit",
}


def find_numbers(corpus):
    """The quantities of PUBLISHED in a corpus.

    Returns:
        {quantity: number}, in the order of PUBLISHED.

    Raises:
        InputError: a part of the split has no utterance.
    """
    shares = vote_shares(corpus.votes_external, corpus.votes_self)
    ties = is_tie(shares)
    parts = split_sessions(corpus.session)
    tested = (corpus.session == TEST_SESSION) & ~ties
    support = np.bincount(shares[tested].argmax(axis=1), minlength=len(corpus.emotions))
    dialogs = dialog_slices(corpus.dialog_id)
    found = {
        "utterances": len(corpus),
        "dialogs": len(dialogs),
        "longest dialog (utterances)": max(rows.stop - rows.start for rows in dialogs.values()),
    }
    found |= {f"utterances in session {number}": int((corpus.session == number).sum()) for number in range(1, 6)}
    found |= {f"ties in {part}": int(ties[rows].sum()) for part, rows in parts.items()}
    found["test utterances scored"] = int(tested.sum())
    found |= {f"test support of {emotion}": int(count) for emotion, count in zip(corpus.emotions, support, strict=True)}
    return found


def fidelity_table(found, published=None):
    """The table as text.

    Args:
        found: from `find_numbers`.
        published: {quantity: number}, or None for a corpus about which nothing is published.

    Returns:
        Lines: a header, one line per quantity, and for each difference what it means.
    """
    width = max(map(len, found))
    if published is None:
        return "\n".join(
            [
                f"{'quantity':<{width}}  {'found':>9}",
                *(f"{name:<{width}}  {number:>9}" for name, number in found.items()),
            ]
        )
    lines = [f"{'quantity':<{width}}  {'found':>9}  {'published':>9}"]
    differences = []
    for name, number in found.items():
        same = number == published[name]
        lines.append(f"{name:<{width}}  {number:>9}  {published[name]:>9}{'' if same else '  differs'}")
        if not same:
            differences.append(
                f"difference: {name}: {number} instead of {published[name]}: {_MEANINGS[name.split()[0]]}"
            )
    return "\n".join([*lines, *(differences or [f"all {len(found)} numbers are the published ones"])])
