"""Transcripts written and read in a line."""

from data.transcripts import read_transcript


def clock(seconds, mark):
    return f"00:00:{seconds:06.3f}".replace(".", mark)


def read(path, content):
    path.write_text(content, encoding="utf-8")
    utterances, notes = read_transcript(path)
    return [(one.start_s, one.end_s, one.speaker, one.transcript) for one in utterances], notes


def subtitles(*cues):
    """SRT of (start s, end s, text) cues."""
    return "\n\n".join(f"{n}\n{clock(a, ',')} --> {clock(b, ',')}\n{text}" for n, (a, b, text) in enumerate(cues, 1))


def said_in(path, *cues):
    """[(speaker, words)] of cues of a second each."""
    found, _ = read(path / "cues.srt", subtitles(*((n, n + 1, text) for n, text in enumerate(cues))))
    return [one[2:] for one in found]
