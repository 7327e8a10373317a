"""Transcripts of one conversation as people have them: subtitles, recognisers' JSON, annotation tools, tables.

Read are WebVTT, SRT, the JSON of whisper, whisperX and whisper.cpp, Praat's TextGrid, ELAN's eaf, CHAT's cha, and CSV.
docs/predicting.md says for users what counts as an utterance.
"""

import dataclasses
import functools
import io
import json
import math
import re
import tempfile
import warnings
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import webvtt
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from pympi import Eaf, TextGrid

from data import reading
from data.speakers import parted_from_speakers
from data.utterance import Utterance
from settings import said_of
from storage.files import InputError

SUFFIXES = (".vtt", ".srt", ".json", ".textgrid", ".eaf", ".cha", ".csv", ".tsv")
ONE_SPEAKER = "Speaker"  # where the transcript names nobody
NO_END = "no end is given: taken to last until the next one starts"
NO_SPEAKERS = "no speakers are named: all of it is taken for one speaker"
LONGEST_PAUSE_S = 0.7  # a longer one between two words ends an utterance
_ANSWERS = "mcaf-prediction"  # format of what predict.py writes

_SENTENCE_END = re.compile(r"(?:(?<!\.)\.|[!?。！？؟।])[\"'”’»)\]]*$")
_ABBREVIATION = re.compile(r"(?:[A-Za-z]|[A-Z](?:\.[A-Za-z])+|(?i:mr|mrs|ms|dr|st|prof|vs|e\.g|i\.e|etc))\.$")
# A text of a TextGrid, or a number that ends a line; pympi reads neither signs nor exponents.
_NUMBER = re.compile(rf"(?m)\"(?:[^\"]|\"\")*\"|(?<![^ \t\n])(?P<number>{reading.NUMBER.pattern})(?=[ \t\r]*$)")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TIME_TAG = re.compile(r"<(?:\d+:)?\d\d:\d\d\.\d{3}>")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<(?:\d+:)?\d\d:\d\d\.\d{3}>|\{\\[^}]*\}")
_WORD_TIER = re.compile(r"(?:(?P<speaker>.+?)\s*[-–_/]\s*)?(?P<kind>words?|phones?|phonemes?)", re.IGNORECASE)


@dataclass(frozen=True)
class _Piece:
    """A part of a transcript; what it does not say is None."""

    start_s: float
    end_s: float | None
    speaker: str | None
    text: str
    name: str | None = None


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
    pieces = reader(path, notes)
    if not pieces:
        raise InputError(f"{path}: no utterance in it")
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
    endless, backwards, utterances = [], [], []
    for one, piece, named, following_s in zip(ids, pieces, speakers, ends, strict=True):
        speaker = named or speaker
        start_s, end_s = piece.start_s, piece.end_s
        if not 0 <= start_s < math.inf:
            raise InputError(f"{path}: utterance {one} starts at {start_s} s, which is no time in a recording")
        if end_s is None:
            endless.append(one)
            end_s = following_s
        elif not start_s <= end_s < math.inf:
            backwards.append(one)
            end_s = start_s
        utterances.append(Utterance(one, path.stem, speaker, start_s, end_s, _line(piece.text)))
    if endless:
        notes[NO_END] = endless
    if backwards:
        notes["the end is before the start: taken for one without sound"] = backwards
    return utterances


def _line(text):
    """Text in one line, without control characters and halves of characters."""
    text = "".join(one if one.isprintable() or ord(one) > 0x9F else " " for one in text)
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _text(path):
    return reading.decode(reading.read_bytes(path), path)[0]


def _subtitles(path, notes):
    """WebVTT and SRT: a cue is an utterance, or one for each voice that speaks in it."""
    text = _text(path).lstrip()
    try:
        captions = webvtt.from_buffer(io.StringIO(text), path.suffix[1:].lower()).captions
    except webvtt.errors.MalformedFileError as error:
        raise InputError(f"{path}: not {path.suffix[1:].upper()} subtitles; is it another kind of file?") from error
    lost = sum("-->" in line for line in text.splitlines()) - len(captions)
    if lost > 0:
        notes[f"{lost} cues are empty, or have times that cannot be read, and are left out"] = []
    pieces, before = [], []
    rolling = sum(bool(_TIME_TAG.search(one.raw_text)) for one in captions) > len(captions) / 4
    for caption in captions:
        start_s, end_s = (reading.seconds(one, thousandths=True) for one in (caption.start, caption.end))
        lines = caption.raw_text.split("\n")
        if rolling:  # live captions repeat the line before, and come again when nothing new is said
            plain = [_plain(line) for line in lines]
            lines = [line for line, words in zip(lines, plain, strict=True) if words and words not in before]
            before = plain
            if not lines:
                continue
        # [text ahead of the first voice, name, text, name, text ...]
        ahead, *voices = _VOICE.split("\n".join(lines))
        parts = [(None, ahead)] if _plain(ahead) or not voices else []
        parts += [
            (unescape(name).strip() or None, words) for name, words in zip(voices[::2], voices[1::2], strict=True)
        ]
        sizes = [max(1, len(_plain(words))) for _, words in parts]
        for number, (name, words) in enumerate(parts):  # several voices in a cue share its time by their words
            shares = (sum(sizes[:number]) / sum(sizes), sum(sizes[: number + 1]) / sum(sizes))
            pieces.append(_Piece(*(start_s + share * (end_s - start_s) for share in shares), name, _plain(words)))
    return _with_prefixes(pieces)


def _plain(words):
    return " ".join(unescape(_MARKUP.sub("", words)).split())


def _with_prefixes(pieces):
    """The pieces, their speakers taken from the texts where they have none."""
    if any(piece.speaker for piece in pieces):
        return pieces
    parted = parted_from_speakers([piece.text for piece in pieces])
    return [
        dataclasses.replace(piece, speaker=speaker, text=text)
        for piece, (speaker, text) in zip(pieces, parted, strict=True)
    ]


class _Word(BaseModel):
    """A word of whisper or whisperX, which leaves times out of words that it cannot align."""

    model_config = ConfigDict(strict=True)

    word: str = Field(validation_alias=AliasChoices("word", "text"))
    start: FiniteFloat | None = None
    end: FiniteFloat | None = None
    speaker: str | None = None


class _Segment(BaseModel):
    model_config = ConfigDict(strict=True)

    start: FiniteFloat
    end: FiniteFloat
    text: str = ""
    speaker: str | None = None
    words: list[_Word] | None = None


def _json(path, notes):
    """whisper, whisperX, whisper.cpp: segments, cut by their words where these have times."""
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if isinstance(value, dict) and value.get("format") == _ANSWERS:
        raise InputError(f"{path}: what predict.py wrote, not a transcript")
    try:
        if isinstance(value, dict) and "transcription" in value:  # whisper.cpp
            value = [
                {
                    "start": one["offsets"]["from"] / 1000,
                    "end": one["offsets"]["to"] / 1000,
                    "text": one["text"],
                    "speaker": None if (speaker := one.get("speaker")) in (None, "?") else str(speaker),
                }
                for one in value["transcription"]
            ]
        else:
            value = value["segments"] if isinstance(value, dict) else value
        segments = TypeAdapter(list[_Segment]).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: {said_of(error, 'segment {}'.format)}; is it of whisper or whisperX?") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no segments in it, as whisper and whisperX write them ({error})") from error
    pieces = []
    for segment in segments:
        words = [word for word in segment.words or () if word.word.strip()]
        if any(word.start is not None for word in words):
            pieces += _cut(_timed(words, segment), segment.text)
        else:
            pieces.append(_Piece(segment.start, segment.end, segment.speaker, segment.text))
    return _with_prefixes(pieces)


def _timed(words, segment):
    """A word without times gets those of the words around it; without a speaker, the last one's."""
    timed, time_s, speaker = [], segment.start, segment.speaker
    for number, word in enumerate(words):
        start_s = time_s if word.start is None else word.start
        later = (one.start for one in words[number + 1 :] if one.start is not None)
        end_s = next(later, segment.end) if word.end is None else word.end
        time_s, speaker = max(start_s, end_s), word.speaker or speaker
        timed.append(_Piece(start_s, time_s, speaker, word.word))
    return timed


def _cut(words, text=""):
    """Utterances of words: cut at pauses, at sentence ends, and where the speaker changes.

    Args:
        words: `_Piece`s in time order, a word each.
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
    return [_Piece(run[0].start_s, run[-1].end_s, run[0].speaker, joint.join(w.text for w in run)) for run in pieces]


def _decimal(path, found):
    """What `_NUMBER` has found: a number as digits, 0 where it differs from that by rounding alone; a text as it is."""
    number = found["number"]
    if number is None or not set("-eE") & set(number):
        return found[0]
    if float(number) < -1e-6:
        line = 1 + found.string.count("\n", 0, found.start())
        raise InputError(f"{path}, line {line}: {number} is no time in a recording")
    return f"{max(float(number), 0):.9f}"


def _textgrid(path, notes):
    """Praat: a tier of intervals is a speaker, an interval with text an utterance; a tier of words is cut."""
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(b"ooBinaryFile"):
        content = _NUMBER.sub(functools.partial(_decimal, path), _text(path)).encode()
    grid = TextGrid(xmax=1)
    try:
        grid.from_file(io.BytesIO(content), "utf-8")
    except Exception as error:  # pympi lets whatever happens go up
        raise InputError(f"{path}: not a TextGrid that can be read; open it in Praat and save it again") from error
    pieces = []
    for tier in grid.tiers:
        if tier.tier_type != "IntervalTier":
            notes[f"tier {tier.name!r:.60} has points, not intervals, and is left out"] = []
            continue
        spoken = [(start_s, end_s, text) for start_s, end_s, text in tier.intervals if text and text.strip()]
        kind = _WORD_TIER.fullmatch((tier.name or "").strip())
        if kind and kind["kind"].lower().startswith("phon"):
            notes[f"tier {tier.name!r:.60} holds sounds, not words, and is left out"] = []
        elif kind:
            pieces += _cut([_Piece(*one[:2], kind["speaker"], one[2]) for one in spoken]) if spoken else []
        else:
            pieces += [_Piece(*one[:2], tier.name, one[2]) for one in spoken]
    return pieces


def _eaf(path, notes):
    """ELAN: a tier with times of its own is a speaker, or its participant; tiers that refer to others are left out."""
    with tempfile.TemporaryDirectory(prefix="eaf_") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions
        copy = Path(folder) / "transcript.eaf"
        copy.write_bytes(reading.read_bytes(path))
        try:
            elan = Eaf(copy)
            tiers = {name: elan.get_annotation_data_for_tier(name) for name in elan.get_tier_names()}
        except Exception as error:  # pympi lets whatever happens go up
            raise InputError(f"{path}: not an ELAN file that can be read; open it in ELAN and save it again") from error
    pieces = []
    for name, annotations in tiers.items():
        attributes = elan.get_parameters_for_tier(name)
        if attributes.get("PARENT_REF"):
            notes[f"tier {name!r:.60} refers to another one and is left out"] = []
            continue
        speaker = attributes.get("PARTICIPANT") or name
        for start_ms, end_ms, text, *_ in annotations:
            if start_ms is None or end_ms is None:
                raise InputError(f"{path}, tier {name!r:.60}: {text!r:.40} has no time; align it in ELAN")
            pieces.append(_Piece(start_ms / 1000, end_ms / 1000, speaker, text))
    return pieces


_CHAT_LINE = re.compile(r"\*(?P<code>\w+):\s(?P<text>.*)")
_CHAT_TIME = re.compile(r"\x15(?:%\w+:\"[^\"]*\"_)?(\d+)_(\d+)\x15?")
_CHAT_MARKS = (  # CHAT manual, chapters 8 to 10, in this order
    (re.compile(r"&=(\w+)\S*"), r"[\1]"),  # a sound: kept as a mark
    (re.compile(r"\[(?!\w+\])[^\]]*\]"), " "),  # what a transcriber says of the words
    (re.compile(r"\((?:\.+|\d[\d.:]*)\)"), " "),  # pauses
    (re.compile(r"(?<!\S)(?:&[+~]\S*|0\w\S*|xxx|yyy|www)(?!\S)"), " "),  # fragments, words not said or not heard
    (re.compile(r"(?<!\S)\+[^\s\w]*"), " "),  # how a line begins or ends
    (re.compile(r"&-|[<>‹›‡„()^↑↓⌈⌉⌊⌋]"), ""),
    (re.compile(r"@\w[\w:$]*"), ""),  # forms of words
    (re.compile(r"(?<=\w):(?=\w|\s)"), ""),  # lengthened
    (re.compile(r"(?<=\w)[_+](?=\w)"), " "),  # compounds
    (re.compile(r"\s+(?=[.?!,])"), ""),
)


def _cha(path, notes):
    """CHAT: a main line is an utterance. pympi's reader of it loses colons, and needs headers that many files lack."""
    lines = []
    for line in _text(path).splitlines():
        if line[:1] in ("\t", " ") and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    names = {}
    for line in lines:
        if line.startswith("@Participants:"):
            for one in line.partition(":")[2].split(","):
                fields = one.split()
                if fields:
                    names[fields[0]] = (fields[1] if len(fields) > 2 else fields[0]).replace("_", " ")
    found = [match for line in lines if (match := _CHAT_LINE.match(line))]
    timed, untimed = [], []
    for match in found:
        times = [int(one) / 1000 for pair in _CHAT_TIME.findall(match["text"]) for one in pair]
        text = _CHAT_TIME.sub("", match["text"])
        for pattern, replacement in _CHAT_MARKS:
            text = pattern.sub(replacement, text)
        text = "" if re.fullmatch(r"[\s\W]*", text) else text
        speaker = names.get(match["code"], match["code"])
        if times:
            timed.append(_Piece(times[0], times[-1], speaker, text))
        elif timed:
            untimed.append(len(timed))
            timed.append(_Piece(timed[-1].end_s, timed[-1].end_s, speaker, text))
        else:
            untimed.append(len(timed))
            timed.append(_Piece(0.0, 0.0, speaker, text))
    if found and len(untimed) == len(found):
        raise InputError(f"{path}: no utterance has times (the bullets that link a line to the sound)")
    if untimed:
        notes[f"{len(untimed)} lines have no times: taken to come where the line before ends, without sound"] = []
    return timed


_COLUMNS = {
    "start_s": ("start_s", "start", "begin", "start_time", "from"),
    "end_s": ("end_s", "end", "stop", "end_time", "to"),
    "transcript": ("transcript", "text", "words"),
    "speaker": ("speaker", "name"),
    "utterance": ("utterance", "id"),
    "dialog": ("dialog",),
}


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
    of_whisper = path.suffix.lower() == ".tsv" and columns == ["start", "end", "text"]  # whole milliseconds
    milliseconds = of_whisper and all(row[one].isdigit() for _, row in rows for one in ("start", "end") if row[one])
    pieces, dialogs = [], set()
    for number, row in rows:
        cells = {name: row[column] if column else "" for name, column in place.items()}
        times = []
        for name in ("start_s", "end_s"):
            time_s = reading.seconds(cells[name]) if cells[name] else None
            if time_s is None and name == "start_s" or time_s is not None and math.isnan(time_s):
                raise InputError(f"{path}, line {number}: {cells[name]!r:.40} is no time, such as 12.5 or 0:12.5")
            times.append(time_s / 1000 if milliseconds and time_s is not None else time_s)
        dialogs.add(cells["dialog"])
        pieces.append(_Piece(*times, cells["speaker"] or None, cells["transcript"], cells["utterance"] or None))
    if len(dialogs) > 1:
        raise InputError(f"{path}: holds {len(dialogs)} dialogs; a transcript is of one conversation, so part the file")
    return pieces if place["speaker"] else _with_prefixes(pieces)


_READERS = {
    ".vtt": _subtitles,
    ".srt": _subtitles,
    ".json": _json,
    ".textgrid": _textgrid,
    ".eaf": _eaf,
    ".cha": _cha,
    ".csv": _table,
    ".tsv": _table,
}
