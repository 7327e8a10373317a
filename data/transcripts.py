"""Transcripts of one conversation as people have them: subtitles, recognisers' JSON, annotation tools, tables.

Each kind has a reader that gives pieces; here they become utterances. docs/predicting.md says for users what counts as
an utterance.
"""

import math
import re
from pathlib import Path

from data import reading
from data.annotations import read_cha, read_eaf, read_textgrid
from data.pieces import Piece, note_whole_numbers, with_speakers
from data.recognised import read_json
from data.subtitles import read_subtitles
from data.utterance import Utterance
from storage.files import InputError, named

ONE_SPEAKER = "Speaker"  # where the transcript names nobody
NO_END = "no end is given: taken to last until the next one starts"
NO_SPEAKERS = "no speakers are named: all of it is taken for one speaker"
_EARLY_S = 0.5  # that a start may lie before the recording
_LONGEST_S = 1e8  # a time, a day in milliseconds


def read_transcript(path):
    """Reads the transcript of one conversation.

    Args:
        path: a file with one of the SUFFIXES.

    Returns:
        (utterances, notes): `data.utterance.Utterance`s by start time, without votes and sound, and {sentence:
        utterance ids, or none} on what is odd.

    Raises:
        InputError: the file cannot be read, is not what its name says, or holds no utterance.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: no transcript that is known here; its name must end with {', '.join(SUFFIXES)}")
    notes = {}
    if reader is not _table:  # which says it itself
        with named(path), open(path, "rb") as file:
            kind = reading.what_it_is(file.read(512))
        if kind and kind != _OWN_KINDS.get(path.suffix.lower()):
            raise InputError(f"{path}: {kind}; expected a {path.suffix} transcript")
    pieces = reader(path, notes)
    if not pieces:
        raise InputError(f"{path}: no utterance in it" + "".join(f"; {note}" for note in notes))
    return _utterances(path, pieces, notes), notes


def _utterances(path, pieces, notes):
    """The records of the pieces, once times, names and text are settled."""
    pieces = sorted(pieces, key=lambda piece: piece.start_s)
    ids = [piece.name or f"{number:04d}" for number, piece in enumerate(pieces, 1)]
    if len(set(ids)) < len(ids):
        ids = [f"{number:04d}" for number in range(1, len(ids) + 1)]
        notes["names of utterances are there twice, so they are counted instead"] = []
    speakers = [piece.speaker and _line(piece.speaker) for piece in pieces]
    unnamed = [one for one, speaker in zip(ids, speakers, strict=True) if not speaker]
    if len(unnamed) == len(ids):
        notes[NO_SPEAKERS] = []
    elif unnamed:
        notes["no speaker is named: taken for the one before"] = unnamed
    speaker = next(filter(None, speakers), ONE_SPEAKER)
    ends = [*(piece.start_s for piece in pieces[1:]), pieces[-1].start_s]
    early, endless, backwards, utterances = [], [], [], []
    for one, piece, own, following_s in zip(ids, pieces, speakers, ends, strict=True):
        speaker = own or speaker
        start_s, end_s = piece.start_s, piece.end_s
        if -_EARLY_S <= start_s < 0:  # as recognisers round
            early.append(one)
            start_s, end_s = 0.0, end_s if end_s is None else max(end_s, 0.0)
        if not 0 <= start_s <= _LONGEST_S or (end_s or 0) > _LONGEST_S:
            ends = "" if end_s is None else f" and ends at {end_s} s"
            raise InputError(f"{path}: utterance {one} starts at {start_s} s{ends}, which is no time in a recording")
        if end_s is None:
            endless.append(one)
            end_s = following_s
        elif not start_s <= end_s:
            backwards.append(one)
            end_s = start_s
        utterances.append(Utterance(one, path.stem, speaker, start_s, end_s, _line(piece.text)))
    if early:
        notes["starts before the recording: taken to start with it"] = early
    if endless:
        notes[NO_END] = endless
    if backwards:
        notes["the end is before the start: taken for one without sound"] = backwards
    return utterances


def _line(text):
    """Text in one line, without control characters and halves of characters."""
    text = "".join(one if one.isprintable() or ord(one) > 0x9F else " " for one in text)
    return " ".join(text.encode("utf-8", "replace").decode().split())


_COLUMNS = {
    "start_s": ("start_s", "start", "begin", "start_time", "from"),
    "end_s": ("end_s", "end", "stop", "end_time", "to"),
    "duration": ("duration", "duration_s", "dur"),
    "transcript": ("transcript", "text", "words"),
    "speaker": ("speaker", "name"),
    "utterance": ("utterance", "id"),
    "dialog": ("dialog",),
}
# Columns of `data.prepare table` that a conversation does not need.
_OF_CORPORA = re.compile(r"wav|channel|session|split|(?:vote|self):.*", re.IGNORECASE)


def _table(path, notes):
    """A CSV file with start, end, speaker and text, or a table of `data.prepare table`."""
    rows, columns, said = reading.read_rows(path)
    notes.update({note.removeprefix(f"{path}: "): [] for note in said})
    lower = {column.lower(): column for column in columns}
    place = {
        name: next((lower[alias] for alias in aliases if alias in lower), None) for name, aliases in _COLUMNS.items()
    }
    for name in ("start_s", "transcript"):
        if place[name] is None:
            raise InputError(f"{path}: no column {_COLUMNS[name][0]} (or {', '.join(_COLUMNS[name][1:])})")
    if not (place["speaker"] and (place["end_s"] or place["duration"])):
        others = ", ".join(one for one in columns if one not in place.values() and not _OF_CORPORA.fullmatch(one))
        if others:
            notes[f"columns that are not read: {others:.200}"] = []
    of_whisper = path.suffix.lower() == ".tsv" and columns == ["start", "end", "text"]  # whole milliseconds
    milliseconds = of_whisper and all(row[one].isdigit() for _, row in rows for one in ("start", "end") if row[one])
    pieces, dialogs = [], set()
    for number, row in rows:
        cells = {name: row[column] if column else "" for name, column in place.items()}
        times = {}
        for name in ("start_s", "end_s" if cells["end_s"] else "duration"):
            time_s = reading.seconds(cells[name]) if cells[name] else None
            if time_s is None and name == "start_s" or time_s is not None and math.isnan(time_s):
                raise InputError(f"{path}, line {number}: {cells[name]!r:.40} is no time, such as 12.5 or 0:12.5")
            times[name] = time_s / 1000 if milliseconds and time_s is not None else time_s
        start_s, end_s = times["start_s"], times.get("end_s")
        if times.get("duration") is not None:
            end_s = start_s + times["duration"]
        dialogs.add(cells["dialog"])
        pieces.append(Piece(start_s, end_s, cells["speaker"] or None, cells["transcript"], cells["utterance"] or None))
    if len(dialogs) > 1:
        raise InputError(f"{path}: holds {len(dialogs)} dialogs; a transcript is of one conversation, so part the file")
    clocks = any(":" in row[place[one]] for _, row in rows for one in ("start_s", "end_s") if place[one])
    if not milliseconds and not clocks:
        note_whole_numbers(pieces, notes)
    return with_speakers(pieces)


_READERS = {  # those that people make first, then those that say most
    ".eaf": read_eaf,
    ".textgrid": read_textgrid,
    ".cha": read_cha,
    ".json": read_json,
    ".vtt": read_subtitles,
    ".srt": read_subtitles,
    ".csv": _table,
    ".tsv": _table,
}
_OWN_KINDS = {".eaf": reading.XML, ".json": reading.JSON}
SUFFIXES = tuple(_READERS)  # of several transcripts beside a recording, the first one is taken
