"""A corpus of your own, as one table: a row per utterance with its dialog, time, speaker, words, sound and votes.

`data/README.md` is the page for users: columns, rules, an example.
"""

import difflib
import math
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

from data import reading
from data.utterance import PARTS, Sound, Source, Utterance
from storage.files import InputError

_NEEDED = ("dialog", "utterance", "start_s", "speaker", "transcript")
_OPTIONAL = ("end_s", "wav", "channel", "split", "session")
_RATER = re.compile(r"(?P<kind>vote|self):(?P<name>.+)")
_SESSION, _CHANNEL = re.compile(r"(?P<number>[0-9]{1,2})(?:\.0*)?"), re.compile(r"(?P<number>[1-9][0-9]?)(?:\.0*)?")
# What programs write into an empty cell.
_NOTHING = {*("", "nan", "none", "null", "nil", "n/a", "#n/a", "na", "<na>", "nat", "-", "--", "?", "[]", "{}")}
_SEVERAL = re.compile(r"[|,/\\+&\[\]{}\"<>=:\r\n]")
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")


def read_table(path, emotions=None, name=None, with_sound=True):
    """Reads a corpus of one's own.

    Args:
        path: a table that `data.reading.read_rows` reads; sound files are looked up from its folder.
        emotions: names in label order; None for those in the votes, in alphabetical order.
        name: the corpus's; None for the name of the file.
        with_sound: False where the sound files are not needed; what the table says of them is then not checked.

    Returns:
        A `data.utterance.Source`, dialogs in the order of the file; rows of equal time keep their order.

    Raises:
        InputError: names file, line and rule. A table is one's own to mend, so nothing of it is skipped.
    """
    path = Path(path)
    rows, columns, mended = reading.read_rows(path)
    rows = [(number, {name: _filled(name, cell) for name, cell in row.items()}) for number, row in rows]
    raters = _check_columns(path, columns)
    tags = [{rater: _tags(row[rater], emotions) for rater in raters} for _, row in rows]
    counts = _count_emotions(path, rows, tags, emotions)
    emotions = tuple(sorted(counts) if emotions is None else emotions)
    if len(set(emotions)) < 2 or len(set(emotions)) < len(emotions) or not all(emotions):
        raise InputError(
            f"{path}: emotions must be at least two different names, found {', '.join(map(repr, emotions)) or 'none'}"
        )
    places = [f"{path}, line {number}" for number, _ in rows]
    sounds = _sounds(places, path.parent, rows) if with_sound else [None] * len(rows)
    utterances = [
        _utterance(place, row, votes, sound, emotions)
        for place, (_, row), votes, sound in zip(places, rows, tags, sounds, strict=True)
    ]
    _check_together(path, [number for number, _ in rows], utterances)
    notes = {note: [] for note in mended}
    notes[f"votes: {', '.join(f'{emotion} {counts[emotion]}' for emotion in emotions)}"] = []
    for one in utterances:
        if one.transcript and one.transcript != "-" and one.transcript.casefold() in _NOTHING:
            sentence = f"its transcript is {one.transcript!r}, which counts as words; should it be empty?"
            notes.setdefault(sentence, []).append(one.utterance_id)
    voteless = sum(not any(one.votes_external + one.votes_self) for one in utterances)
    if voteless:
        notes[f"{voteless} utterances without any vote: they are context, and neither trained on nor scored"] = []
    place = {dialog: i for i, dialog in enumerate(dict.fromkeys(one.dialog_id for one in utterances))}
    utterances.sort(key=lambda one: (place[one.dialog_id], one.start_s))
    name = (name or path.stem).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Source(name, path, utterances, emotions, notes)


def _check_columns(path, columns):
    """The raters' columns, once all columns are known and the needed ones there."""
    for name in _NEEDED:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1) or [one for one in columns if one.lower() == name]
            raise InputError(
                f"{path}, line 1: column '{name}' missing{f', is it {near[0]!r:.60}' if near else ''}; "
                f"needed are {', '.join(_NEEDED)}, found {', '.join(columns)[:200]}"
            )
    if not {"split", "session"} & set(columns):
        raise InputError(
            f"{path}, line 1: neither a column 'split' (train, dev, test) nor 'session' (a number); "
            "training must know which utterances are left for the test"
        )
    raters = [name for name in columns if _RATER.fullmatch(name)]
    unknown = [name for name in columns if name not in (*_NEEDED, *_OPTIONAL, *raters)]
    if unknown:
        raise InputError(
            f"{path}, line 1: unknown column {', '.join(map(repr, unknown))[:200]}; known are "
            f"{', '.join(_NEEDED + _OPTIONAL)}, and for each rater vote:RATER or self:SPEAKER; remove the others"
        )
    if not raters:
        raise InputError(f"{path}, line 1: no votes; add a column vote:RATER for each rater, with names of emotions")
    return raters


def _filled(name, cell):
    """A cell, empty where a program wrote that a column that may be empty is."""
    return "" if name in ("end_s", "wav", "channel") and cell.casefold() in _NOTHING else cell


def _tags(cell, asked):
    """The emotions in a cell; what stands for none is none, unless it is asked for as an emotion."""
    tags = [tag.strip() for tag in cell.split(";")]
    return [tag for tag in tags if tag.casefold() not in _NOTHING or (tag and tag in (asked or ()))]


def _count_emotions(path, rows, tags, asked):
    """{emotion: number of votes}.

    Raises:
        InputError: a vote that is none of those asked for; or, where none are, one that is no name of an emotion, or
            two names that look like one.
    """
    cells = [
        (name, f"line {number}, {column}")
        for (number, _), votes in zip(rows, tags, strict=True)
        for column, names in votes.items()
        for name in names
    ]
    counts, first = Counter(name for name, _ in cells), {}

    def refuse(name, what, show=repr):
        more = f" (and {counts[name] - 1} more)" if counts[name] > 1 else ""
        raise InputError(f"{path}, {next(place for one, place in cells if one == name)}{more}: {show(name):.60} {what}")

    for name in counts:
        if asked is not None:
            if name not in asked:
                refuse(name, f"is none of {', '.join(asked)}")
        elif not math.isnan(reading.seconds(name.lstrip("-"))):
            refuse(name, "is a number; write the emotion's name, or list the numbers with --emotions")
        elif _SEVERAL.search(name):
            refuse(name, "looks like several emotions; put ';' between them, or list the names with --emotions")
        else:
            letters = unicodedata.normalize("NFKC", name).casefold()
            key = "".join(one for one in letters if one.isalnum() or unicodedata.category(one)[0] == "M") or name
            other = first.setdefault(key, name)
            if other != name:
                # What makes the difference may not be visible.
                show = ascii if len({_clean(name), _clean(other)}) == 1 else repr
                refuse(name, f"and {show(other):.60} look like one emotion, written in two ways; write it in one", show)
    return counts


def _sounds(places, folder, rows):
    """The sound of each row: its own file, or its stretch of a file that other rows name, too.

    Raises:
        InputError: a channel that is no number, an address, or a stretch without an end.
    """
    paths, first = {}, {}
    for place, (_, row) in zip(places, rows, strict=True):
        wav = row.get("wav", "")
        if wav and wav not in paths:  # one file may be written in several ways
            path = _path(place, folder, wav)
            paths[wav] = first.setdefault(os.path.abspath(path), path)
    rows_of_file = Counter(paths.get(row.get("wav")) for _, row in rows)
    sounds = []
    for place, (_, row) in zip(places, rows, strict=True):
        wav, channel = row.get("wav", ""), row.get("channel", "")
        if not wav:
            sounds.append(None)
            continue
        number = _CHANNEL.fullmatch(channel)
        if channel and not number:
            raise InputError(f"{place}: channel {channel!r:.60} is no number from 1 to 99")
        stretch = ()
        if rows_of_file[paths[wav]] > 1:
            if not row.get("end_s"):
                raise InputError(f"{place}: no end_s; it is needed since other rows, too, are stretches of {wav}")
            stretch = _time(place, row, "start_s"), _time(place, row, "end_s")
            if stretch[0] >= stretch[1]:
                raise InputError(f"{place}: a stretch of {wav} that ends where it starts, or before")
        sounds.append(Sound(paths[wav], int(number["number"]) if number else None, *stretch))
    return sounds


def _path(place, folder, wav):
    """The file that a cell names: as it is written, with the backslashes of Windows, or with accents as macOS has them.

    Raises:
        InputError: it is an address, or no name of a file.
    """
    if re.match(r"[a-z]{2,}:/", wav, re.IGNORECASE):
        raise InputError(f"{place}: wav {wav!r:.60} is an address; fetch the file and give its path")
    slashes = wav.replace("\\", "/")
    forms = (wav, slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    try:
        return next((folder / one for one in forms if (folder / one).exists()), folder / slashes)
    except OSError as error:
        raise InputError(f"{place}: wav {wav!r:.60} cannot be looked up ({error.strerror})") from error


def _utterance(place, row, votes, sound, emotions):
    """The record of one row; `place` names its line."""
    names = {name: _clean(row[name]) for name in _NEEDED[:2] + ("speaker",)}
    for name, value in names.items():
        if not value:
            raise InputError(f"{place}: no {name}")
        if any(unicodedata.category(one) == "Cc" for one in value):
            raise InputError(f"{place}: {name} {value!r:.60} holds a line end or another control character")
    start_s = _time(place, row, "start_s")
    end_s = _time(place, row, "end_s") if row.get("end_s") else start_s
    if end_s < start_s:
        raise InputError(f"{place}: {names['utterance']} ends at {end_s} s, before it starts at {start_s} s")
    split = row["split"].lower() if "split" in row else None
    if split is not None and split not in PARTS:
        raise InputError(f"{place}: split {split!r:.60} is none of {', '.join(PARTS)}")
    session = _SESSION.fullmatch(row.get("session", "0") or "0" * (split is not None))
    if not session:
        raise InputError(f"{place}: session {row['session']!r:.60} is no number from 0 to 99")
    return Utterance(
        utterance_id=names["utterance"],
        dialog_id=names["dialog"],
        session=int(session["number"]),
        split=split,
        speaker=names["speaker"],
        start_s=start_s,
        end_s=end_s,
        transcript=" ".join(row["transcript"].split()),
        votes_external=_count(votes, "vote", emotions),
        votes_self=_count(votes, "self", emotions),
        sound=sound,
    )


def _clean(name):
    """A name in its composed form, without characters that nobody sees."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFC", name))


def _time(place, row, name):
    time_s = reading.seconds(row[name])
    if math.isnan(time_s):
        raise InputError(f"{place}: {name} {row[name]!r:.60} is no time in seconds, such as 12.5")
    return time_s


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
