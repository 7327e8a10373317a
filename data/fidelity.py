"""Is this the corpus of the paper? Numbers found in a corpus beside the published ones, and what a difference means.

The published ones stand in published.toml. All of IEMOCAP's were found again on the real release with the rules of
`data.labels`.
"""

import tomllib
from pathlib import Path

import numpy as np

from data.corpus import dialog_slices
from data.labels import EMOTIONS, is_tie, vote_shares
from data.task import split_sessions
from data.utterance import PARTS
from settings import TEST_SESSION

_PUBLISHED = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
PUBLISHED, PUBLISHED_MELD = _PUBLISHED["iemocap"], _PUBLISHED["meld"]


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
        parts = {f"{part} ": corpus.split == part for part in PARTS}
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
    header = f"{'quantity':<{width}}  {'found':>9}"
    lines, differences = [f"{header}  {'published':>9}" if published else header], []
    for name, number in found.items():
        line = f"{name:<{width}}  {number:>9}"
        if published:
            same, meaning = number == published[name], _PUBLISHED["meanings"][name.split()[0]]
            line += f"  {published[name]:>9}{'' if same else '  differs'}"
            if not same:
                differences.append(f"difference: {name}: {number} instead of {published[name]}: {meaning}")
        lines.append(line)
    if published and not differences:
        lines.append(f"all {len(found)} numbers are the published ones")
    return "\n".join([*lines, *differences])
