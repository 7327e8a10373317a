"""A corpus of your own, as one CSV file: a row per utterance with its dialog, time, speaker, words, sound and votes.

`data/README.md` is the page for users: columns, rules, an example.
"""

import math
import re
from pathlib import Path

from data import reading
from data.utterance import PARTS, Source, Utterance
from storage.files import InputError

_NEEDED = ("dialog", "utterance", "start_s", "speaker", "transcript")
_OPTIONAL = ("end_s", "wav", "split", "session")
_RATER = re.compile(r"(?P<kind>vote|self):(?P<name>.+)")
_SESSION = re.compile(r"[0-9]{1,2}")


def read_table(path, emotions=None, name=None):
    """Reads a corpus of one's own.

    Args:
        path: the CSV file; sound files are looked up from its folder.
        emotions: names in label order; None for those in the votes, in alphabetical order.
        name: the corpus's; None for the name of the file.

    Returns:
        A `data.utterance.Source`, dialogs in the order of the file; rows of equal time keep their order.

    Raises:
        InputError: names file, line and rule. A table is one's own to mend, so nothing of it is skipped.
    """
    path = Path(path)
    rows, columns, notes = reading.read_rows(path)
    raters = _check_columns(path, columns)
    tags = [{name: _tags(row[name]) for name in raters} for _, row in rows]
    emotions = _emotions(path, rows, tags, emotions)
    utterances = [
        _utterance(f"{path}, line {number}", path.parent, row, votes, emotions)
        for (number, row), votes in zip(rows, tags, strict=True)
    ]
    _check_together(path, [number for number, _ in rows], utterances)
    voteless = sum(not any(one.votes_external + one.votes_self) for one in utterances)
    if voteless:
        notes.append(f"{voteless} utterances without any vote: they are context, and neither trained on nor scored")
    place = {dialog: i for i, dialog in enumerate(dict.fromkeys(one.dialog_id for one in utterances))}
    utterances.sort(key=lambda one: (place[one.dialog_id], one.start_s))
    return Source(name or path.stem, path, utterances, emotions, notes)


def _check_columns(path, columns):
    """The raters' columns, once all columns are known and the needed ones there."""
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise InputError(f"{path}, line 1: column '{missing[0]}' missing; needed are {', '.join(_NEEDED)}")
    if not {"split", "session"} & set(columns):
        raise InputError(
            f"{path}, line 1: neither a column 'split' (train, dev, test) nor 'session' (a number); "
            "training must know which utterances are left for the test"
        )
    raters = [name for name in columns if _RATER.fullmatch(name)]
    unknown = [name for name in columns if name not in (*_NEEDED, *_OPTIONAL, *raters)]
    if unknown:
        raise InputError(
            f"{path}, line 1: unknown column {unknown[0]!r:.60}; known are {', '.join(_NEEDED + _OPTIONAL)}, and for "
            "each rater vote:RATER or self:SPEAKER; remove the others"
        )
    if not raters:
        raise InputError(f"{path}, line 1: no votes; add a column vote:RATER for each rater, with names of emotions")
    return raters


def _tags(cell):
    return [tag.strip() for tag in cell.split(";") if tag.strip()]


def _emotions(path, rows, tags, asked):
    """The emotions in label order.

    Raises:
        InputError: a vote that is not among those asked for, or fewer than two.
    """
    found = sorted({tag for votes in tags for names in votes.values() for tag in names})
    for (number, _), votes in zip(rows, tags, strict=True):
        for column, names in votes.items():
            stray = [name for name in names if asked is not None and name not in asked]
            if stray:
                raise InputError(f"{path}, line {number}, {column}: {stray[0]!r:.60} is none of {', '.join(asked)}")
    emotions = tuple(asked if asked is not None else found)
    if len(set(emotions)) < 2 or len(set(emotions)) < len(emotions):
        raise InputError(
            f"{path}: emotions must be at least two different names, found {', '.join(emotions) or 'none'}"
        )
    return emotions


def _utterance(place, folder, row, votes, emotions):
    """The record of one row; `place` names its line."""
    for name in ("dialog", "utterance", "speaker"):
        if not row[name]:
            raise InputError(f"{place}: no {name}")
    utterance_id = row["utterance"]
    start_s = _seconds(place, "start_s", row["start_s"])
    end_s = _seconds(place, "end_s", row["end_s"]) if row.get("end_s") else start_s
    if end_s < start_s:
        raise InputError(f"{place}: {utterance_id} ends at {end_s} s, before it starts at {start_s} s")
    split = row.get("split")
    if split is not None and split not in PARTS:
        raise InputError(f"{place}: split {split!r:.60} is none of {', '.join(PARTS)}")
    session = row.get("session", "0")
    if not _SESSION.fullmatch(session):
        raise InputError(f"{place}: session {session!r:.60} is no number from 0 to 99")
    return Utterance(
        utterance_id=utterance_id,
        dialog_id=row["dialog"],
        session=int(session),
        split=split,
        speaker=row["speaker"],
        start_s=start_s,
        end_s=end_s,
        transcript=" ".join(row["transcript"].split()),
        votes_external=_count(votes, "vote", emotions),
        votes_self=_count(votes, "self", emotions),
        wav=folder / row["wav"] if row.get("wav") else None,
    )


def _seconds(place, name, text):
    seconds = reading.seconds(text)
    if math.isnan(seconds):
        raise InputError(f"{place}: {name} {text!r:.60} is no time in seconds, such as 12.5")
    return seconds


def _count(votes, kind, emotions):
    """Numbers of tags in the order of the emotions, of all raters of a kind."""
    tags = [tag for column, names in votes.items() if _RATER.fullmatch(column)["kind"] == kind for tag in names]
    return tuple(tags.count(emotion) for emotion in emotions)


def _check_together(path, numbers, utterances):
    """Rules that need more than one row: ids are unique, a dialog is in one part and one session."""
    seen, home = {}, {}
    for number, one in zip(numbers, utterances, strict=True):
        if one.utterance_id in seen:
            raise InputError(
                f"{path}, line {number}: utterance {one.utterance_id} is there already, "
                f"in line {seen[one.utterance_id]}"
            )
        seen[one.utterance_id] = number
        place = (one.split, one.session)
        first, first_number = home.setdefault(one.dialog_id, (place, number))
        if place != first:
            raise InputError(
                f"{path}, line {number}: dialog {one.dialog_id} has another split or session than in line "
                f"{first_number}; a dialog is context as a whole and cannot be divided"
            )
