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
_MARKUP = re.compile(rf"</?[A-Za-z][^<>]*>|{_TIME_TAG.pattern}|\{{\\[^}}]*\}}")
_TURN = re.compile(r">>+\s*|[-–—](?:\s+|(?=[^\W\d_a-z]))")  # what a line begins with where another voice speaks
_SOUND = re.compile(r"[(（]([^()（）]*)[)）]")  # alone in a line


def read_subtitles(path, notes):
    """The pieces of WebVTT and SRT."""
    text = reading.text_of(path).lstrip()
    try:
        captions = webvtt.from_buffer(io.StringIO(text), path.suffix[1:].lower()).captions
    except webvtt.errors.MalformedFileError as error:
        raise InputError(f"{path}: not {path.suffix[1:].upper()} subtitles; is it another kind of file?") from error
    lost = sum("-->" in line for line in text.splitlines()) - len(captions)
    if lost > 0:
        notes[f"{lost} cues are empty, or have times that cannot be read, and are left out"] = []
    cues = []  # (start s, end s, voices)
    for start_s, end_s, lines in _said_once(captions, notes):
        cues.append((start_s, end_s, _voices(lines)))
    unnamed = [lines for *_, voices in cues for name, lines in voices if not name]
    known = {name for *_, voices in cues for name, _ in voices if name}
    bare = [[_TURN.sub("", line, count=1) for line in lines] for lines in unnamed]
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


def _plain(line):
    return " ".join(unescape(_MARKUP.sub("", line)).split())


def _sound_marked(line):
    """A line of "(coughs)" as "[coughs]": beside other lines brackets alone tell that it is no words."""
    found = _SOUND.fullmatch(line)
    return f"[{found[1]}]" if found else line


def _said_once(captions, notes):
    """(start s, end s, lines) of the cues; of live captions, which show what was said before once more, the new lines.

    A line with times in it is new. A cue that brings nothing new makes the one before last longer.
    """
    cues, repeats, shown = [], [], []
    for caption in captions:
        times = [reading.seconds(one, thousandths=True) for one in (caption.start, caption.end)]
        lines = [line for line in caption.raw_text.split("\n") if _plain(line)]
        plain = [_plain(line) for line in lines]
        old = 0
        for size in range(1, min(len(shown), len(plain)) + 1):
            if shown[-size:] == plain[:size] and not any(map(_TIME_TAG.search, lines[:size])):
                old = size
        cues.append((*times, lines or [""]))
        repeats.append(old)
        shown = plain
    partly = sum(0 < old < len(lines) for old, (*_, lines) in zip(repeats, cues, strict=True))
    wholly = sum(map(bool, repeats)) - partly
    timed = sum(bool(_TIME_TAG.search(line)) for *_, lines in cues for line in lines)
    # People do say a line twice, and a cue may begin with the last one's end; in a few cues that proves nothing.
    if not (
        timed > len(cues) / 4 or (partly > 1 and partly > len(cues) / 4) or (wholly > 2 and wholly > len(cues) / 2)
    ):
        return cues
    notes["each line stands in several cues, as in live captions: it is read once"] = []
    new = []
    for (start_s, end_s, lines), old in zip(cues, repeats, strict=True):
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
    voices = [(name, [line for line in said if line]) for name, said in voices]
    return [(name, said) for name, said in voices if said] or [(voices[-1][0], [""])]


def _turns(lines, part):
    """[(name or None, words)] of lines without voices: a turn begins with a name, or with a dash or >> before it."""
    marks = [_TURN.match(line) for line in lines]
    turns = []
    for line, mark in zip(lines, marks, strict=True):
        name, words = part(line[mark.end() :] if mark else line)
        several = sum(map(bool, marks)) > 1 or (mark and mark[0][0] == ">")
        if not turns or name or mark:
            turns.append((name, [_sound_marked(words if name or turns or several else line)]))
        else:
            turns[-1][1].append(_sound_marked(line))
    return [(name, " ".join(words)) for name, words in turns]
