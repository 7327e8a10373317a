"""Votes to targets: the 10 emotions, vote shares, ties, and the split by session or the corpus's own.

Section 4.1 of the paper, verified on all 10,039 utterances of IEMOCAP: these rules give the published numbers of
ties (Table 5) and the published test support.
"""

import dataclasses

import numpy as np

from storage.files import InputError

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

# Speaker-independent split of the paper, by session.
TRAIN_SESSIONS, DEV_SESSION, TEST_SESSION = (1, 2, 5), 3, 4
# What the binary networks of Table 2 call everything else.
REST = "other emotions"


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


def split_sessions(session, train=TRAIN_SESSIONS, dev=(DEV_SESSION,), test=(TEST_SESSION,)):
    """Indices of the training, dev and test utterances, by session.

    Returns:
        {"train": (n,), "dev": (n,), "test": (n,)} ascending indices into `session`.

    Raises:
        InputError: a session serves two parts, or has no utterance in the corpus.
    """
    parts = {"train": train, "dev": dev, "test": test}
    named = [number for sessions in parts.values() for number in sessions]
    twice = sorted({number for number in named if named.count(number) > 1})
    if twice:
        raise InputError(f"session {twice[0]} is in more than one of train {train}, dev {dev} and test {test}")
    indices = {name: np.flatnonzero(np.isin(session, sessions)) for name, sessions in parts.items()}
    for name, sessions in parts.items():
        missing = [number for number in sessions if number not in session]
        if missing:
            present = sorted({int(number) for number in session})
            raise InputError(
                f"no utterance of session {missing[0]} ({name}) in the corpus, which has sessions {present}"
            )
    return indices


def task_of(corpus, settings):
    """The corpus as the settings of a run read it: which part is the test, which emotion is asked for.

    Args:
        corpus: a `data.corpus.Corpus`.
        settings: dict of `train.Settings`. "split" "paper" swaps dev and test of the corpus's own split (section 4.1
            of the paper has MELD's the other way round); "emotion" other than "all" makes the one-against-rest task
            of that name (Table 2), in which every vote for another emotion is one for REST.

    Returns:
        A corpus with the same utterances.

    Raises:
        InputError: the corpus has no split to swap, or no such emotion.
    """
    if settings["split"] == "paper":
        if corpus.split is None:
            raise InputError(f"--split paper swaps dev and test of a corpus with its own split; {corpus.name} has none")
        swapped = {"dev": "test", "test": "dev"}
        corpus = dataclasses.replace(corpus, split=np.array([swapped.get(part, part) for part in corpus.split], object))
    name = settings["emotion"]
    if name != "all":
        if name not in corpus.emotions:
            raise InputError(f"--emotion {name}: {corpus.name} has {', '.join(corpus.emotions)}")
        own = corpus.emotions.index(name)
        votes = {
            kind: np.stack([given[:, own], given.sum(axis=1) - given[:, own]], axis=1)
            for kind, given in (("votes_external", corpus.votes_external), ("votes_self", corpus.votes_self))
        }
        corpus = dataclasses.replace(corpus, emotions=(name, REST), **votes)
    return corpus


def split_of(corpus, settings):
    """Indices of the training, dev and test utterances: by the corpus's own split if it has one, else by session.

    Args:
        corpus: from `task_of`.
        settings: dict of `train.Settings`.

    Returns:
        As `split_sessions`.

    Raises:
        InputError: as `split_sessions`; or sessions are asked for and the corpus has its own split.
    """
    sessions = (tuple(settings["train_sessions"]), settings["dev_session"], settings["test_session"])
    if corpus.split is None:
        return split_sessions(corpus.session, sessions[0], sessions[1:2], sessions[2:])
    if sessions != (TRAIN_SESSIONS, DEV_SESSION, TEST_SESSION):
        raise InputError(f"{corpus.name} has a split of its own: drop --train-sessions, --dev-session, --test-session")
    parts = {name: np.flatnonzero(corpus.split == name) for name in ("train", "dev", "test")}
    for name, rows in parts.items():
        if not len(rows):
            raise InputError(f"{corpus.name}: its split has no {name} utterance")
    return parts


def name_of_test(corpus, settings):
    """What the test utterances are, in words: "session 4", "test split" or "dev split as test"."""
    if corpus.split is None:
        return f"session {settings['test_session']}"
    return "test split" if settings["split"] == "official" else "dev split as test"
