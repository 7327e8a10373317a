"""The answer for one conversation, and the files that it is written to: CSV, JSON, subtitles.

Letters of the shape comments: C emotions.
"""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from data.utterance import Utterance
from scoring.metrics import as_distributions
from storage.files import write_csv, write_json, write_text

FORMAT, FORMAT_VERSION = "mcaf-prediction", 1
SUBTITLES = ".emotions.vtt"
RESTS_ON = ("words+sound", "words", "sound", "nothing")
_BEFORE_SHARES = ("utterance", "start_s", "end_s", "speaker", "transcript")  # columns of NAME.csv
_AFTER_SHARES = ("top", "top_share", "entropy_bits", "rests_on")
BEFORE_SHARES_OF_ALL = ("conversation", "duration_s", "speakers", "utterances", "unanswered")  # of a folder's summary
_SHORTEST_CUE_S = 0.1  # players drop a cue that ends where it starts


@dataclass(frozen=True)
class Answer:
    """What is said of one utterance: (C,) vote shares, or None; one of RESTS_ON; (C,) shares of raters' votes if any.

    Without known words and usable sound there is nothing to answer from, hence no shares.
    """

    utterance: Utterance
    shares: np.ndarray | None
    rests_on: str
    votes: np.ndarray | None = None

    @property
    def top(self):
        """Position of the largest share, or None."""
        return None if self.shares is None else int(np.argmax(self.shares))

    @property
    def entropy_bits(self):
        """Entropy of the shares: 0 where all raters would agree, log2 C where all emotions get as many votes."""
        if self.shares is None:
            return None
        some = self.shares[self.shares > 0].astype("float64")
        return float(-np.sum(some * np.log2(some)))


@dataclass(frozen=True)
class Conversation:
    """All answers of one conversation.

    `notes` are {sentence: ids of the utterances, or none}; `checkpoint` is {name, sha256 (of run.json, which lists
    those of all files), trained_on}; `inputs` says which files with which options the answer is of; `limits` is a
    sentence for readers; `recording` the path of the sound, or None; `duration_s` its length, or the last end.
    """

    name: str
    emotions: tuple
    answers: tuple
    checkpoint: dict
    limits: str
    notes: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    recording: Path | None = None
    duration_s: float = 0.0

    def speakers(self):
        """{name: {"seconds", "utterances", "shares": of `mean_by_time`}}, in the order of their first words."""
        said = {}
        for answer in self.answers:
            said.setdefault(answer.utterance.speaker, []).append(answer)
        found = {}
        for name, answers in said.items():
            seconds = [one.utterance.end_s - one.utterance.start_s for one in answers]
            shares = mean_by_time([one.shares for one in answers], seconds)
            found[name] = {"seconds": sum(seconds, 0.0), "utterances": len(answers), "shares": shares}
        return found


def mean_by_time(shares, seconds):
    """(C,) mean of N times (C,) shares or None, by the seconds of each, a tenth at least; None where all are None."""
    known = [(one, max(length, 0.1)) for one, length in zip(shares, seconds, strict=True) if one is not None]
    return np.average([one for one, _ in known], axis=0, weights=[length for _, length in known]) if known else None


def rests_on(recogniser, features, has_words):
    """What the answer to each utterance rests on, N of `RESTS_ON`.

    Args:
        recogniser: of `checkpoint.load_checkpoint`.
        features: (N, A), a row with NaN for an utterance without usable sound; None where no sound is read.
        has_words: (N,) bool, whether words that it knows are there.
    """
    has_sound = np.zeros(len(has_words), bool) if features is None else ~np.isnan(features).any(axis=1)
    if not recogniser.bears_silence:  # needs all that it reads
        if features is not None:
            both = "words+sound" if recogniser.reads_words else "sound"
            return [both if heard else "nothing" for heard in has_sound]
        return ["words" if known else "nothing" for known in has_words]
    names = {(True, True): "words+sound", (True, False): "words", (False, True): "sound", (False, False): "nothing"}
    return [names[bool(known), bool(heard)] for known, heard in zip(has_words, has_sound, strict=True)]


def as_shares(predictions):
    """(N, C) predictions as float32 shares of one: the paper's system has a linear output, which can be negative."""
    return as_distributions(predictions).astype("float32")


def adds_up(answer):
    """Whether the shares of a NAME.json are shares; an earlier version wrote the paper's system's as they were."""
    given = [one["shares"] for one in answer["utterances"] if one["shares"] is not None]
    return all(min(shares) >= 0 and abs(sum(shares) - 1) < 1e-4 for shares in given)


def is_answer(path):
    """Whether predict.py wrote a file: subtitles by their name, tables, JSON and pages by how they begin."""
    path = Path(path)
    if path.name.lower().endswith(SUBTITLES):
        return True
    if path.suffix.lower() not in (".csv", ".json", ".html"):
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            if path.suffix.lower() == ".html":
                head = file.read(10_000)
                return "<title>Emotions in " in head or ": emotions</title>" in head
            first = file.readline(10_000)
            if path.suffix.lower() == ".json":
                return first == "{\n" and file.readline(10_000).strip() == f'"format": "{FORMAT}",'
    except OSError:  # its reader says why
        return False
    of_utterances = first.startswith(",".join(_BEFORE_SHARES)) and first.rstrip().endswith(",".join(_AFTER_SHARES))
    return of_utterances or first.startswith(",".join(BEFORE_SHARES_OF_ALL))


def write_table(path, conversation):
    """NAME.csv: a row for each utterance; cells stay empty where nothing can be answered."""
    header = [*_BEFORE_SHARES, *conversation.emotions, *_AFTER_SHARES]
    rows = []
    for answer in conversation.answers:
        one = answer.utterance
        row = [one.utterance_id, f"{one.start_s:.3f}", f"{one.end_s:.3f}", one.speaker, one.transcript]
        if answer.shares is None:
            row += [""] * (len(conversation.emotions) + 3)
        else:
            row += [f"{share:.6f}" for share in answer.shares]
            row += [conversation.emotions[answer.top], f"{answer.shares.max():.6f}", f"{answer.entropy_bits:.4f}"]
        rows.append([*row, answer.rests_on])
    write_csv(path, header, rows)


def write_answers(path, conversation):
    """NAME.json: everything, for programs."""
    utterances = []
    for answer in conversation.answers:
        one = answer.utterance
        entry = {"utterance": one.utterance_id, "start_s": round(one.start_s, 3), "end_s": round(one.end_s, 3)}
        entry |= {"speaker": one.speaker, "transcript": one.transcript, "rests_on": answer.rests_on}
        entry["shares"] = None if answer.shares is None else [round(float(share), 6) for share in answer.shares]
        entry["top"] = None if answer.shares is None else conversation.emotions[answer.top]
        entry["entropy_bits"] = None if answer.shares is None else round(answer.entropy_bits, 4)
        utterances.append(entry)
    speakers = conversation.speakers()
    for one in speakers.values():
        one["seconds"] = round(one["seconds"], 3)
        one["shares"] = None if one["shares"] is None else [round(float(share), 6) for share in one["shares"]]
    write_json(
        path,
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": conversation.name,
            "checkpoint": conversation.checkpoint,
            "inputs": conversation.inputs,
            "duration_s": round(conversation.duration_s, 3),
            "emotions": list(conversation.emotions),
            "speakers": speakers,
            "notes": [{"note": note, "utterances": ids} for note, ids in conversation.notes.items()],
            "utterances": utterances,
        },
    )


def write_subtitles(path, conversation):
    """NAME.emotions.vtt: the speaker, the words, and the top emotion, for any player."""
    blocks = ["WEBVTT", f"NOTE Emotions by {_text(conversation.checkpoint['name'])}"]
    for answer in conversation.answers:
        one = answer.utterance
        end_s = max(one.end_s, one.start_s + _SHORTEST_CUE_S)
        said = _text(one.transcript)
        if answer.shares is not None:
            said += f" [{_text(conversation.emotions[answer.top])} {answer.shares.max():.0%}]"
        blocks.append(f"{clock(one.start_s)} --> {clock(end_s)}\n<v {_text(one.speaker)}>{said.strip() or '–'}</v>")
    write_text(path, "\n\n".join(blocks) + "\n")


def _text(words):
    """A line of text that WebVTT takes for text alone."""
    return escape(" ".join(words.split()), quote=False)


def clock(seconds):
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds / 1000:06.3f}"


def note_line(note, ids):
    """A note for people: what, how often, and the first three utterances of it."""
    if not ids:
        return note
    more = ", ..." if len(ids) > 3 else ""
    return f"{len(ids)} utterance{'s' * (len(ids) > 1)} ({', '.join(ids[:3])}{more}): {note}"
