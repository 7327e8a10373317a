"""Parts of a transcript before names, times and texts are settled: what its readers give, and what they share."""

import dataclasses
import re
from dataclasses import dataclass

from data.speakers import speakers_in

WHOLE_NUMBERS = "times are whole numbers"  # of what, only those can tell who know the recording
LONGEST_PAUSE_S = 0.7  # a longer one between two words ends an utterance

_SENTENCE_END = re.compile(r"(?:(?<!\.)\.|[!?。！？؟।])[\"'”’»)\]]*$")
_TITLES = "mr|mrs|ms|dr|prof|st|jr|sr|sgt|lt|capt|gen|gov|sen|rev|inc|ltd|co|corp|vs|etc"
_ABBREVIATION = re.compile(rf"(?:[A-Za-z](?:\.[A-Za-z])*|(?i:{_TITLES}))\.$")


@dataclass(frozen=True)
class Piece:
    """A part of a transcript; what it does not say is None."""

    start_s: float
    end_s: float | None
    speaker: str | None
    text: str
    name: str | None = None


def note_whole_numbers(pieces, notes):
    """Notes `WHOLE_NUMBERS` of pieces whose times are bare numbers, if they are that."""
    if pieces and not any(piece.start_s % 1 or (piece.end_s or 0) % 1 for piece in pieces):
        notes[WHOLE_NUMBERS] = []


def with_speakers(pieces):
    """The pieces; those without a speaker take one from the beginning of their text, if it names one."""
    unnamed = [piece.text for piece in pieces if not piece.speaker]
    part = speakers_in(unnamed, known={piece.speaker for piece in pieces if piece.speaker})
    named = []
    for piece in pieces:
        speaker, text = (piece.speaker, piece.text) if piece.speaker else part(piece.text)
        named.append(dataclasses.replace(piece, speaker=speaker, text=text))
    return named


def cut(words, text=""):
    """Utterances of words: cut at pauses, at sentence ends, and where the speaker changes.

    Args:
        words: `Piece`s in time order, a word each.
        text: what they are words of, if known; without a space in it they are joined without one.
    """
    spaced = any(word.text.startswith(" ") for word in words)
    joint = "" if spaced or (len(words) > 1 and text.strip() and " " not in text.strip()) else " "
    pieces, run = [], []
    for word in words:
        last = run and run[-1]
        if last and (
            word.start_s - last.end_s > LONGEST_PAUSE_S
            or word.speaker != last.speaker
            or (_SENTENCE_END.search(last.text.strip()) and not _ABBREVIATION.fullmatch(last.text.strip()))
        ):
            pieces.append(run)
            run = []
        run.append(word)
    pieces.append(run)
    return [Piece(run[0].start_s, run[-1].end_s, run[0].speaker, joint.join(w.text for w in run)) for run in pieces]
