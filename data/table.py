"""A corpus of your own, as one CSV file: a row per utterance with its dialog, time, speaker, words, sound and votes.

`data/README.md` is the page for users: columns, rules, an example. Here the file becomes the records that
`data.prepare` makes a corpus file from; MELD's reader (`data.meld`) gives the same records.
"""

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from storage.files import InputError

PARTS = ("train", "dev", "test")
_NEEDED = ("dialog", "utterance", "start_s", "speaker", "transcript")
_OPTIONAL = ("end_s", "wav", "split", "session")
_RATER = re.compile(r"(?P<kind>vote|self):(?P<name>.+)")
_TIME = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_SESSION = re.compile(r"[0-9]{1,2}")
_WINDOWS_1252 = {
    code: bytes([code & 0xFF]).decode("cp1252", "replace") for code in (*range(0x80, 0xA0), *range(0xDC80, 0xDD00))
}


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Times are seconds, in one count for the whole dialog. `split` is one of PARTS, or None where the corpus has
    sessions. The votes are numbers of tags, in the order of the corpus's emotions. `wav` is the sound file (a wav
    file, or a clip for ffmpeg), or None.
    """

    utterance_id: str
    dialog_id: str
    session: int
    split: str | None
    speaker: str
    start_s: float
    end_s: float
    transcript: str
    votes_external: tuple
    votes_self: tuple
    wav: Path | None


def read_table(path, emotions=None):
    """Reads a corpus of one's own.

    Args:
        path: the CSV file; sound files are looked up from its folder.
        emotions: names in label order; None for those in the votes, in alphabetical order.

    Returns:
        (utterances, emotions, notes): `Utterance` records, dialogs in the order of the file and each sorted by start
        time (rows of equal time keep their order); the names; and one sentence for each oddity.

    Raises:
        InputError: names file, line and rule. A table is one's own to mend, so nothing of it is skipped.
    """
    path = Path(path)
    rows, columns, notes = read_csv(path)
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
    return sorted(utterances, key=lambda one: (place[one.dialog_id], one.start_s)), emotions, notes


def read_csv(path):
    """Reads a CSV file with a header, in UTF-8 with remnants of Windows-1252.

    Corpora that went through Windows hold its quotes and dashes as single bytes (0x92) or, converted once without
    care, as control characters (U+0092). Both become the characters that were meant.

    Returns:
        (rows, columns, notes): a list of (line number, {column: stripped text}), the columns' names, and sentences on
        what was mended.

    Raises:
        InputError: the file cannot be read, is no CSV, or a row has another number of cells than the header.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    text, notes = clean_text(content.removeprefix(b"\xef\xbb\xbf"))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue  # an empty line
            if len(cells) != len(columns):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, the header has {len(columns)}; "
                    "is a comma in a text without quotes around it?"
                )
            rows.append((reader.line_num, dict(zip(columns, map(str.strip, cells), strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' is there twice")
    if not rows:
        raise InputError(f"{path}: no utterance in it; expected a header line and one row per utterance")
    return rows, columns, [f"{path}: {note}" for note in notes]


def clean_text(content):
    """Bytes to text, Windows-1252 remnants included.

    Returns:
        (text, sentences on what was mended).

    >>> clean_text(b"Don\\x92t \\xc2\\x97 caf\\xc3\\xa9")[0]
    'Don’t — café'
    """
    text = content.decode("utf-8", "surrogateescape")  # byte 0x92 that is no UTF-8 becomes U+DC92
    num_bytes = sum("\udc80" <= one <= "\udcff" for one in text)
    num_controls = sum("\x80" <= one <= "\x9f" for one in text)
    notes = [f"{num_bytes} bytes are not UTF-8, read as Windows-1252"] * bool(num_bytes)
    notes += [f"{num_controls} control characters were Windows-1252 marks"] * bool(num_controls)
    return text.translate(_WINDOWS_1252), notes


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
    seconds = float(text) if _TIME.fullmatch(text) else math.nan
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
