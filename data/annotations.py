"""What people annotate with: Praat's TextGrid, ELAN's eaf, CHAT's cha."""

import dataclasses
import functools
import io
import re
import tempfile
import warnings
from pathlib import Path

from pympi import Eaf, TextGrid

from data import reading
from data.pieces import Piece, cut
from storage.files import InputError

# A text of a TextGrid, or a number that ends a line; pympi reads neither signs nor exponents.
_NUMBER = re.compile(rf"(?m)\"(?:[^\"]|\"\")*\"|(?<![^ \t\n])(?P<number>{reading.NUMBER.pattern})(?=[ \t\r]*$)")
# "Ann - words", "words", "Ann - utterances"; other names are those of speakers.
_TIER = re.compile(
    r"(?:(?P<speaker>.+?)\s*[-–_/]\s*)?(?:(?P<words>words?)|(?P<phones>phon(?:e|eme)s?))"
    r"|(?P<said_by>.+?)\s*[-–_/]\s*(?:utterance|sentence|segment|ipu)s?",
    re.IGNORECASE,
)
_MOST = 0.8  # of the words of a tier


def _decimal(path, found):
    """What `_NUMBER` has found: a number as digits, 0 where it differs from that by rounding alone; a text as it is."""
    number = found["number"]
    if number is None or not set("-eE") & set(number):
        return found[0]
    if float(number) < -1e-6:
        line = 1 + found.string.count("\n", 0, found.start())
        raise InputError(f"{path}, line {line}: {number} is no time in a recording")
    return f"{max(float(number), 0):.9f}"


def read_textgrid(path, notes):
    """Praat: a tier of intervals is a speaker, an interval with text an utterance.

    A tier of words is cut into utterances, if no other tier has them.
    """
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(b"ooBinaryFile"):
        content = _NUMBER.sub(functools.partial(_decimal, path), reading.text_of(path)).encode()
    grid = TextGrid(xmax=1)
    try:
        grid.from_file(io.BytesIO(content), "utf-8")
    except Exception as error:  # pympi lets whatever happens go up
        raise InputError(f"{path}: not a TextGrid that can be read; open it in Praat and save it again") from error
    whole, of_words = [], []  # (speaker, intervals with text), (name, speaker, words)
    for tier in grid.tiers:
        if tier.tier_type != "IntervalTier":
            notes[f"tier {tier.name!r:.60} has points, not intervals, and is left out"] = []
            continue
        spoken = [(start_s, end_s, text) for start_s, end_s, text in tier.intervals if text and text.strip()]
        kind = _TIER.fullmatch((tier.name or "").strip())
        if kind and kind["phones"]:
            notes[f"tier {tier.name!r:.60} holds sounds, not words, and is left out"] = []
        elif kind and kind["words"]:
            of_words.append((tier.name, kind["speaker"], spoken))
        else:
            whole.append((kind["said_by"] if kind else tier.name, spoken))
    pieces = [Piece(*one[:2], speaker, one[2]) for speaker, spoken in whole for one in spoken]
    beside = any(spoken for _, spoken in whole)
    for name, speaker, words in of_words:
        if words and any(_holds(spoken, words) for _, spoken in whole):
            notes[f"tier {name!r:.60} holds the words of another tier, and is left out"] = []
        elif words:
            # Beside other tiers, which are speakers, words of nobody would pass for those of the tier before.
            pieces += cut([Piece(*one[:2], speaker or (name if beside else None), one[2]) for one in words])
    return pieces


def _holds(sentences, words):
    """Whether most words, (start s, end s, text) each, are said in the sentences at their time."""
    found, place = 0, 0
    for start_s, end_s, word in words:
        middle_s = (start_s + end_s) / 2
        while place < len(sentences) and sentences[place][1] < middle_s:
            place += 1
        if place < len(sentences) and sentences[place][0] <= middle_s:
            found += word.strip().casefold() in sentences[place][2].casefold()
    return found > _MOST * len(words)


_UTF16 = re.compile(rb"""\s+encoding=["']utf-?16[^"']*["']""", re.IGNORECASE)


def read_eaf(path, notes):
    """ELAN: a tier with times of its own is a speaker, or its participant; tiers that refer to others are left out."""
    with tempfile.TemporaryDirectory(prefix="eaf_") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions
        copy = Path(folder) / "transcript.eaf"
        copy.write_bytes(_UTF16.sub(b"", reading.read_bytes(path), count=1))  # which gives UTF-8
        try:
            elan = Eaf(copy)
            tiers = {name: elan.get_annotation_data_for_tier(name) for name in elan.get_tier_names()}
        except Exception as error:  # pympi lets whatever happens go up
            raise InputError(f"{path}: not an ELAN file that can be read; open it in ELAN and save it again") from error
    for medium in elan.media_descriptors:
        if medium.get("TIME_ORIGIN", "0") not in ("", "0"):
            notes[
                f"in ELAN a recording begins at {medium['TIME_ORIGIN']} ms of its own time (an offset); the times are "
                "read without it"
            ] = []
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
            pieces.append(Piece(start_ms / 1000, end_ms / 1000, speaker, text))
    return pieces


_CHAT_LINE = re.compile(r"\*(?P<code>[^\s:]+):\s*(?P<text>.*)")
_CHAT_TIME = re.compile(r"\x15(?:%\w+:\"[^\"]*\"_)?(\d+)_(\d+)\x15?")
_CHAT_MARKS = (  # CHAT manual, chapters 8 to 10, in this order
    (re.compile(r"&=(\w+)\S*"), r"[\1]"),  # a sound: kept as a mark
    (re.compile(r"\[(?!\w+\])[^\]]*\]"), " "),  # what a transcriber says of the words
    (re.compile(r"\((?:\.+|\d[\d.:]*)\)"), " "),  # pauses
    (re.compile(r"(?<!\S)(?:&[+~{}]\S*|0[^\W\d]\S*|xxx|yyy|www)(?!\S)"), " "),  # fragments, not said, not heard
    (re.compile(r"^\s*0(?=(?:\s*\[\w+\])*\s*[.?!]?\s*$)"), ""),  # nothing is said
    (re.compile(r"(?<!\S)\+[^\s\w]*"), " "),  # how a line begins or ends
    (re.compile(r"∙\w*|&-|(?<!\d)°|[<>‹›‡„()^↑↓⌈⌉⌊⌋∆∇▁▔☺♋∬⁎§∾↻≈≋]"), ""),  # breath, how it is said
    (re.compile(r"@\w[\w:$]*"), ""),  # forms of words
    (re.compile(r"(?<=\w):+(?=\w|\s)"), ""),  # lengthened
    (re.compile(r"(?<=\w)[_+](?=\w)"), " "),  # compounds
    (re.compile(r"\s+(?=[.?!,])"), ""),
)


def read_cha(path, notes):
    """CHAT: a main line is an utterance. pympi's reader of it loses colons, and needs headers that many files lack."""
    lines = []
    for line in reading.text_of(path).splitlines():
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
    lost = sum(line.startswith("*") for line in lines) - len(found)
    if lost:
        notes[f"{lost} of the lines begin with * and name no speaker with a colon: left out"] = []
    pieces, untimed = [], []
    for match in found:
        times = [int(one) / 1000 for pair in _CHAT_TIME.findall(match["text"]) for one in pair]
        text = _CHAT_TIME.sub("", match["text"])
        for pattern, replacement in _CHAT_MARKS:
            text = pattern.sub(replacement, text)
        text = "" if re.fullmatch(r"[\s\W]*", text) else text
        if not times:
            untimed.append(len(pieces))
            times = [pieces[-1].end_s if pieces else 0.0]
        pieces.append(Piece(times[0], times[-1], names.get(match["code"], match["code"]), text))
    for place in reversed(untimed):  # where lines overlap, the next one may have begun before
        if place + 1 < len(pieces):
            start_s = min(pieces[place].start_s, pieces[place + 1].start_s)
            pieces[place] = dataclasses.replace(pieces[place], start_s=start_s, end_s=start_s)
    if found and len(untimed) == len(found):
        raise InputError(f"{path}: no utterance has times (the bullets that link a line to the sound)")
    if untimed:
        notes[f"{len(untimed)} lines have no times: taken to come between the lines around them, without sound"] = []
    return pieces
