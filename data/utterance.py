"""The records that every reader of a corpus gives: an utterance, its sound, and the corpus as its files have it."""

from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Sound:
    """Where the sound of an utterance is: a file, or the stretch of a recording from `start_s` to `end_s`.

    `channel` is counted from 1; None: all of them, averaged.
    """

    path: Path
    channel: int | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Times are seconds, in one count for the whole dialog; an end that nothing tells is the start. `session` is 0 where
    the corpus has a split of its own; `split` is one of PARTS, or None where it has sessions. The votes are numbers of
    tags, in the order of the corpus's emotions. `sound` is None where no file is named.
    """

    utterance_id: str
    dialog_id: str
    speaker: str
    start_s: float
    end_s: float
    transcript: str
    votes_external: tuple = ()
    votes_self: tuple = ()
    session: int = 0
    split: str | None = None
    sound: Sound | None = None


@dataclass(frozen=True)
class Source:
    """What a reader found: everything that `data.build.prepare` needs to make a corpus file.

    `path` is the folder or file that was read; `utterances` are sorted by dialog, then start time; `emotions` are the
    names in the order of the votes; `notes` {sentence: what it is about, [] for all} says what is odd; `published`
    {quantity: number} for `data.fidelity`, or None; `without_audio` says what becomes of an utterance without usable
    sound where the user does not: "keep" or "skip".
    """

    name: str
    path: Path
    utterances: list
    emotions: tuple
    notes: dict = field(default_factory=dict)
    published: dict | None = None
    without_audio: str = "skip"
