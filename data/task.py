"""What corpus and settings decide, once: emotions, vote shares, targets, the parts of the split, the dialogs.

Section 4.1 of the paper. Training, evaluation, peers, costs and tables all read a `Task`.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from data.corpus import Corpus, dialog_slices
from data.labels import categorical_targets, vote_shares, without_votes
from data.utterance import PARTS
from settings import DEV_SESSION, TEST_SESSION, TRAIN_SESSIONS, Settings
from storage.files import InputError

# What the binary networks of Table 2 call everything else.
REST = "other emotions"


@dataclass(frozen=True)
class Task:
    """A corpus as the settings of a run read it: N utterances, C emotions.

    `corpus` has the emotions that are asked for, `shares` (N, C) are vote shares, `targets` (N, C) what is learned,
    `split` {part: ascending indices of all its utterances}, `train`, `dev` and `test` those of them that have votes,
    `dialogs` {dialog id: slice}. `seen` (N,) are the utterances that a run with these settings learns from, or chooses
    its epoch by, whatever the test.
    """

    corpus: Corpus
    settings: Settings
    shares: np.ndarray
    targets: np.ndarray
    split: dict
    dialogs: dict
    name_of_test: str
    seen: np.ndarray

    @classmethod
    def of(cls, corpus, settings, test=None):
        """Derives all of it.

        Args:
            corpus: `data.corpus.Corpus`.
            settings: of the run.
            test: None for the settings' parts; a session, or "all", to have that as the test and no other part, as
                for a trained network on a corpus that it was not trained on.

        Raises:
            InputError: a session is missing or serves two parts, a part is empty, the corpus has no such split or
                emotion, or its ties cannot become 'other'.
        """
        seen = _seen(corpus, settings)
        corpus = _one_against_rest(_swapped(corpus, settings) if test is None else corpus, settings.emotion)
        shares = vote_shares(corpus.votes_external, corpus.votes_self, settings.raters)
        targets = shares
        if settings.targets == "categorical":
            if "other" not in corpus.emotions:
                raise InputError(
                    f"{corpus.name}: --targets categorical turns ties into 'other', which this corpus does not have"
                )
            targets = categorical_targets(shares, corpus.emotions.index("other"))
        sessions = (*settings.train_sessions, settings.dev_session, settings.test_session)
        if test == settings.test_session and corpus.split is None and np.isin(sessions, corpus.session).all():
            test = None  # the run's own, with all that belongs to it
        if test is None:
            split, name = _split(corpus, settings), name_of_test(corpus, settings)
        else:
            split, name = _test_alone(corpus, test), "all utterances" if test == "all" else f"session {test}"
        return cls(corpus, settings, shares, targets, split, dialog_slices(corpus.dialog_id), name, seen)

    @property
    def train(self):
        return self._voted("train")

    @property
    def dev(self):
        return self._voted("dev")

    @property
    def test(self):
        return self._voted("test")

    def _voted(self, part):
        rows = self.split[part]
        return rows[~without_votes(self.shares[rows])]

    def check_votes(self, *parts):
        """Refuses a part in which nothing can be learned or scored.

        Raises:
            InputError: says which.
        """
        for part in parts:
            if not len(self._voted(part)):
                counted = " of an external rater, and those alone count" if self.settings.raters == "external" else ""
                raise InputError(f"{self.corpus.name}: no {part} utterance has a vote{counted}")

    @property
    def tests_its_own(self):
        """Whether the test utterances are those of the settings."""
        return self.name_of_test == name_of_test(self.corpus, self.settings)

    @property
    def emotions(self):
        return self.corpus.emotions

    @property
    def context_length(self):
        """Utterances of the longest dialog."""
        return max(rows.stop - rows.start for rows in self.dialogs.values())


def _seen(corpus, settings):
    """`Task.seen`."""
    if corpus.split is None:
        return np.isin(corpus.session, (*settings.train_sessions, settings.dev_session))
    return np.isin(_swapped(corpus, settings).split, ("train", "dev"))


def _swapped(corpus, settings):
    """The corpus, dev and test of its own split swapped where the settings want the paper's MELD (section 4.1)."""
    if settings.split == "official":
        return corpus
    if corpus.split is None:
        raise InputError(
            f"--split paper swaps dev and test of a corpus with its own split; {corpus.name} has none; "
            "a finished run is scored there with evaluate.py --test all"
        )
    swapped = {"dev": "test", "test": "dev"}
    return dataclasses.replace(corpus, split=np.array([swapped.get(part, part) for part in corpus.split], object))


def _one_against_rest(corpus, name):
    """The corpus, every vote for another emotion than `name` one for REST (Table 2); "all" leaves it as it is."""
    if name == "all":
        return corpus
    if name not in corpus.emotions:
        raise InputError(f"--emotion {name}: {corpus.name} has {', '.join(corpus.emotions)}")
    if name == REST:
        raise InputError(f"--emotion {name}: all others together are called so; give the emotion another name")
    own = corpus.emotions.index(name)
    votes = {
        kind: np.stack([given[:, own], given.sum(axis=1) - given[:, own]], axis=1)
        for kind, given in (("votes_external", corpus.votes_external), ("votes_self", corpus.votes_self))
    }
    return dataclasses.replace(corpus, emotions=(name, REST), **votes)


def name_of_test(corpus, settings):
    """What the test utterances are, in words: "session 4", "test split" or "dev split as test"."""
    if corpus.split is None:
        return f"session {settings.test_session}"
    return "test split" if settings.split == "official" else "dev split as test"


def _test_alone(corpus, test):
    """A split that has one session, or everything, as the test, and nothing else."""
    rows = np.arange(len(corpus)) if test == "all" else np.flatnonzero(corpus.session == test)
    if not len(rows):
        present = ", ".join(str(number) for number in sorted({int(one) for one in corpus.session}))
        raise InputError(f"{corpus.name}: no utterance of session {test}; it has {present}")
    return {"train": rows[:0], "dev": rows[:0], "test": rows}


def _split(corpus, settings):
    """{part: indices}, by the corpus's own split if it has one, else by session."""
    sessions = (settings.train_sessions, settings.dev_session, settings.test_session)
    if corpus.split is None:
        return split_sessions(corpus.session, sessions[0], sessions[1:2], sessions[2:])
    if sessions != (TRAIN_SESSIONS, DEV_SESSION, TEST_SESSION):
        raise InputError(
            f"{corpus.name} has a split of its own, and the settings choose sessions: train without --train-sessions, "
            "--dev-session and --test-session; a finished run is scored there with evaluate.py --test all"
        )
    parts = {name: np.flatnonzero(corpus.split == name) for name in PARTS}
    for name, rows in parts.items():
        if not len(rows):
            raise InputError(f"{corpus.name}: its split has no {name} utterance")
    return parts


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
        raise InputError(f"session {twice[0]} is there twice: train {train}, dev {dev} and test {test}")
    indices = {name: np.flatnonzero(np.isin(session, sessions)) for name, sessions in parts.items()}
    for name, sessions in parts.items():
        missing = [number for number in sessions if number not in session]
        if missing:
            present = sorted({int(number) for number in session})
            raise InputError(
                f"no utterance of session {missing[0]} ({name}) in the corpus, which has sessions {present}"
            )
    return indices
