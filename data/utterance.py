"""The two records that every reader of a corpus gives: one utterance, and the corpus as its files have it."""

from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Times are seconds, in one count for the whole dialog. `session` is 0 where the corpus has a split of its own;
    `split` is one of PARTS, or None where it has sessions. The votes are numbers of tags, in the order of the corpus's
    emotions. `wav` is the sound file (a wav file, or whatever ffmpeg decodes), or None.
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
    wav: Path | None = None


@dataclass(frozen=True)
class Source:
    """What a reader found: everything that `data.build.prepare` needs to make a corpus file.

    `path` is the folder or file that was read; `utterances` are sorted by dialog, then start time; `emotions` are the
    names in the order of the votes; `notes` is one sentence for each oddity; `published` {quantity: number} for
    `data.fidelity`, or None; `without_audio` says what becomes of an utterance without usable sound where the user
    does not: "keep" or "skip".
    """

    name: str
    path: Path
    utterances: list
    emotions: tuple
    notes: list = field(default_factory=list)
    published: dict | None = None
    without_audio: str = "skip"
