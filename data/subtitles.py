"""Subtitles, WebVTT and SRT: a cue is an utterance, or one for each voice that speaks in it."""

import io
import itertools
import re
from html import unescape

import webvtt

from data import reading
from data.pieces import Piece
from data.speakers import speakers_in
from storage.files import InputError

_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TIME_TAG = re.compile(r"<(?:\d+:)?\d\d:\d\d\.\d{3}>")
_LINE_END = re.compile(r"\n|<br\s*/?>")
_MARKUP = re.compile(rf"</?[A-Za-z][^<>]*>|{_TIME_TAG.pattern}|\{{\\[^}}]*\}}")
_TURN = re.compile(r">>+\s*|[-–—]\s*(?=\S)")  # what a line may begin with where another voice speaks
_ENDED = re.compile(r"[.?!…][\"'”’»)\]]*$")
_SOUND = re.compile(r"[(（](\w+(?: \w+)?)[)）]")  # alone in a line
_DASHES = ("-", "–", "—")
_BRACKETS = re.compile(r"\[[^\]]*\]")
_NO_WORDS = re.compile(r"\ufeff?(?:WEBVTT|NOTE|STYLE|REGION)\b")  # how other blocks than cues begin
_TOUCHING_S = 0.1  # between the cues of live captions


def read_subtitles(path, notes):
    """The pieces of WebVTT and SRT."""
    text = reading.text_of(path).lstrip()
    text = _whole_cues(text) if path.suffix.lower() == ".vtt" else text
    try:
        captions = webvtt.from_buffer(io.StringIO(text), path.suffix[1:].lower()).captions
    except webvtt.errors.MalformedFileError as error:
        raise InputError(f"{path}: not {path.suffix[1:].upper()} subtitles; is it another kind of file?") from error
    lost = sum("-->" in line for line in text.splitlines()) - len(captions)
    if lost > 0:
        notes[f"cues that are empty, or have times that cannot be read, are left out: {lost}"] = []
    cues = [(start_s, end_s, _voices(lines)) for start_s, end_s, lines in _said_once(captions, notes)]
    unnamed = [lines for *_, voices in cues for name, lines in voices if not name]
    known = {name for *_, voices in cues for name, _ in voices if name}
    bare = [[line[turn.end() :] if (turn := _TURN.match(line)) else line for line in lines] for lines in unnamed]
    part = speakers_in([lines[0] for lines in bare], [line for lines in bare for line in lines[1:]], known)
    pieces = []
    for start_s, end_s, voices in cues:
        turns = []
        for name, lines in voices:
            turns += [(name, " ".join(map(_sound_marked, lines)))] if name else _turns(lines, part)
        ends = list(itertools.accumulate(max(1, len(words)) for _, words in turns))
        begins = start_s
        for (name, words), size in zip(turns, ends, strict=True):  # voices share the cue's time by their words
            stops = start_s + size / ends[-1] * (end_s - start_s)
            pieces.append(Piece(begins, stops, name, words))
            begins = stops
    return pieces


def _whole_cues(text):
    """WebVTT with the words behind an empty line joined to their cue, which would end there; in SRT it does not."""
    blocks = re.split(r"\n(?:[ \t]*\n)+", "\n".join(text.splitlines()))
    parts, within = [blocks[0]], "-->" in blocks[0]  # whether a cue's words can follow
    for block, following in itertools.zip_longest(blocks[1:], blocks[2:], fillvalue=""):
        cue, number = "-->" in block, block.isdigit() and "-->" in following
        words = within and not cue and not number and not _NO_WORDS.match(block)
        parts.append(("\n" if words else "\n\n") + block)
        within = cue or words
    return "".join(parts)


def _plain(line):
    return " ".join(unescape(_MARKUP.sub("", line)).split())


def _sound_marked(line):
    """A line of "(coughs)" as "[coughs]": beside other lines brackets alone tell that it is no words."""
    found = _SOUND.fullmatch(line)
    return f"[{found[1]}]" if found else line


def _said_once(captions, notes):
    """(start s, end s, lines) of the cues; of live captions, which show again what was said before, the new lines.

    A cue repeats lines of the one before if it touches it. A line with times in it is new. A cue that brings nothing
    new lengthens the one before it.
    """
    cues, num_old, rolled, marked = [], [], 0, 0
    shown, shown_raw, shown_until_s = [], "", -1
    for caption in captions:
        start_s, end_s = (reading.seconds(one, thousandths=True) for one in (caption.start, caption.end))
        lines = [line for line in _LINE_END.split(caption.raw_text) if _plain(line)]
        plain, old = [_plain(line) for line in lines], 0
        for size in range(1, min(len(shown), len(plain)) + 1):
            if shown[-size:] == plain[:size] and not any(map(_TIME_TAG.search, lines[:size])):
                old = size
        if start_s > shown_until_s + _TOUCHING_S or any(line.startswith(_DASHES) for line in plain[:old]):
            old = 0
        rolled += 0 < old < len(lines)
        marked += bool(old) and plain == shown and caption.raw_text != shown_raw
        cues.append([start_s, end_s, lines or [""]])
        num_old.append(old)
        shown, shown_raw, shown_until_s = plain, caption.raw_text, end_s
    timed = sum(bool(_TIME_TAG.search(line)) for *_, lines in cues for line in lines)
    # People say a line twice, too: a few repeats prove nothing, and voices tell that the file is made otherwise.
    live = timed > len(cues) / 4 or rolled > max(2, len(cues) / 4) or marked > max(1, len(cues) / 4)
    if not live or any(_VOICE.search(caption.raw_text) for caption in captions):
        return cues
    notes[f"{sum(num_old)} lines repeat what was shown before, as in live captions: left out"] = []
    new = []
    for (start_s, end_s, lines), old in zip(cues, num_old, strict=True):
        if old < len(lines) and lines != [""]:
            new.append([start_s, end_s, lines[old:]])
        elif new and old:
            new[-1][1] = max(new[-1][1], end_s)
    return new


def _voices(lines):
    """[(name or None, its lines)] of a cue, by the voices that it names."""
    voices = [(None, [])]
    for line in lines:
        ahead, *others = _VOICE.split(line)
        voices[-1][1].append(_plain(ahead))
        for name, words in zip(others[::2], others[1::2], strict=True):
            voices.append((unescape(name).strip() or None, [_plain(words)]))
    voices = [(name, _joined([line for line in said if line])) for name, said in voices]
    return [(name, said) for name, said in voices if said] or [(voices[-1][0], [""])]


def _joined(lines):
    """The lines; one that ends with a colon, as a name in a line of its own, is joined with the next."""
    joined = []
    for line in lines:
        if joined and joined[-1].endswith((":", "：")):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined


def _turns(lines, part):
    """[(name or None, words)] of lines without voices.

    A turn begins with a name, with >>, or with a dash that does not stand within a sentence: the line before ends one,
    or the first line begins with a dash, too.
    """
    marks = [_TURN.match(line) for line in lines]
    for number, mark in enumerate(marks):
        if mark and mark[0].startswith(_DASHES):
            alone = not any(marks[1:]) if number == 0 else not (marks[0] or _ENDED.search(lines[number - 1]))
            marks[number] = None if alone else mark
    turns = []
    for number, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        turn = mark or (number == 0 and _TURN.match(line))
        name, words = part(line[turn.end() :] if turn else line)
        if name and turns and not turns[-1][0] and all(map(_BRACKETS.fullmatch, turns[-1][1])):
            turns[-1] = (name, [*turns[-1][1], words])  # "[door slams]", then "Ann: Hi"
        elif name or mark or not turns:
            turns.append((name, [_sound_marked(words if name or mark else line)]))
        else:
            turns[-1][1].append(_sound_marked(line))
    return [(name, " ".join(words)) for name, words in turns]
