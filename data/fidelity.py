"""Is this the corpus of the paper? Numbers found in a corpus beside the published ones, and what a difference means.

Published: Table 5 of the paper (ties), the authors' print-out (support of the test session) and the corpus's own
description. All of them were found again on the real release with the rules of `data.labels`.
"""

import numpy as np

from data.corpus import dialog_slices
from data.labels import EMOTIONS, is_tie, vote_shares
from data.task import split_sessions
from settings import TEST_SESSION

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
# MELD's own description (Poria et al. 2019, and its repository's table of emotions).
PUBLISHED_MELD = {"utterances": 13708, "dialogs": 1432, "longest dialog (utterances)": 33} | {
    f"{part} {quantity}": number
    for part, numbers in {
        "train": (9989, 1038, 4710, 1743, 1205, 1109, 683, 271, 268),
        "dev": (1109, 114, 470, 163, 150, 153, 111, 22, 40),
        "test": (2610, 280, 1256, 402, 281, 345, 208, 68, 50),
    }.items()
    for quantity, number in zip(
        ("utterances", "dialogs", "neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"),
        numbers,
        strict=True,
    )
}
# What a difference means for the results, by how the quantity's name begins.
_MEANINGS = {
    "utterances": "training or test has other utterances than the paper's; what was left out is named above",
    "dialogs": "whole dialogs are missing or added, so contexts and scores are not the paper's",
    "longest": "the longest context is not the paper's, so an utterance of that dialog is missing or added",
    "ties": "votes differ from Table 5's, so targets, and which utterances are scored, are not the paper's",
    "train": "training has other utterances or other labels than the published",
    "dev": "the epoch is chosen on other utterances or other labels than the published",
    "test": "accuracy and F1 are taken over another test set, so they are not comparable digit by digit",
}


def find_numbers(corpus):
    """What a corpus holds, in the quantities that are published for it.

    Returns:
        {quantity: number}: in the order of PUBLISHED for the sessions of IEMOCAP, in that of PUBLISHED_MELD for a
        corpus with its own split; for sessions of other corpora the utterances of each and the labels.

    Raises:
        InputError: a part of the split has no utterance.
    """
    dialogs = dialog_slices(corpus.dialog_id)
    found = {
        "utterances": len(corpus),
        "dialogs": len(dialogs),
        "longest dialog (utterances)": max(rows.stop - rows.start for rows in dialogs.values()),
    }
    shares = vote_shares(corpus.votes_external, corpus.votes_self)
    if corpus.split is None and corpus.emotions == EMOTIONS and set(corpus.session) == set(range(1, 6)):
        return found | _sessions_of_iemocap(corpus, shares)
    labelled = ~is_tie(shares)  # a row without votes is a tie of zeros
    parts = {f"session {number} ": corpus.session == number for number in np.unique(corpus.session)}
    if corpus.split is not None:
        parts = {f"{part} ": corpus.split == part for part in ("train", "dev", "test")}
    for part, rows in parts.items():
        found |= {
            f"{part}utterances": int(rows.sum()),
            f"{part}dialogs": len(set(corpus.dialog_id[rows])),
        }
        counts = np.bincount(shares[rows & labelled].argmax(axis=1), minlength=len(corpus.emotions))
        found |= {f"{part}{name}": int(count) for name, count in zip(corpus.emotions, counts, strict=True)}
    return found


def _sessions_of_iemocap(corpus, shares):
    """Utterances of each session, ties, and the support of the test session."""
    ties = is_tie(shares)
    parts = split_sessions(corpus.session)
    tested = (corpus.session == TEST_SESSION) & ~ties
    support = np.bincount(shares[tested].argmax(axis=1), minlength=len(corpus.emotions))
    found = {f"utterances in session {number}": int((corpus.session == number).sum()) for number in range(1, 6)}
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
