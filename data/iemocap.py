"""The IEMOCAP release on disk to a sorted list of utterances: times, speaker, transcript, votes and wav path.

Layout read, below IEMOCAP_full_release/Session{1..5}:
    dialog/EmoEvaluation/<dialog>.txt         a header line per utterance, then one line per rater
    dialog/transcriptions/<dialog>.txt        one line per turn
    sentences/wav/<dialog>/<utterance>.wav    16 kHz mono
The subfolders of EmoEvaluation repeat the votes of single raters and are not read.

A release that is not whole is an error. One damaged utterance is a named skip: `read_release` returns a note for it,
since a user with 10,038 good utterances wants to go on, but must know that the scores cover fewer utterances.
Reference: Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", 2008.
"""

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from data.fidelity import PUBLISHED
from data.labels import EMOTIONS
from data.reading import decode, read_bytes, seconds
from data.utterance import Sound, Source, Utterance
from storage.files import InputError

SESSIONS = (1, 2, 3, 4, 5)
# What raters could tick (file code) and the name used everywhere else.
EMOTION_OF_TAG = {
    "Neutral": "neutral",
    "Excited": "exciting",
    "Sadness": "sadness",
    "Frustration": "frustration",
    "Happiness": "happiness",
    "Anger": "angry",
    "Other": "other",
    "Surprise": "surprised",
    "Disgust": "disgust",
    "Fear": "fear",
}
_FEWEST_RATERS = 3  # every utterance of the release has at least three external raters
_LONGEST_TIME_S = 24 * 3600
_LONGEST_TRANSCRIPT = 10_000  # characters; the longest real one has about 500

_DIALOG = r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_(?:impro|script)[0-9]{2}(?:_[0-9])?[a-z]?)"
_DIALOG_ID = re.compile(_DIALOG)
_UTTERANCE_ID = re.compile(_DIALOG + r"_(?P<gender>[FM])(?P<turn>[0-9]{3})")
_HEADER = re.compile(
    r"\[(?P<start>\S+) - (?P<end>\S+)\]\t(?P<utterance>\S+)\t(?P<majority>\S+)\t\[(?P<attributes>[^\]]*)\]"
)
_RATER = re.compile(r"C-(?P<kind>[EFM])(?P<number>[0-9]+):(?P<tags>[^(]*)(?P<comment>\(.*)?")
_ATTRIBUTES = re.compile(r"A-(?P<kind>[EFM])(?P<number>[0-9]+):")
_TURN = re.compile(r"(?P<utterance>Ses\S+) \[(?P<start>[^\]\-]*)-(?P<end>[^\]\-]*)\]: ?(?P<words>.*)")
# Turns that nobody rated: no id at all, or a turn number XX3 instead of three digits.
_UNRATED_TURN = re.compile(rf"(?:[FM] ?:|{_DIALOG}_[FM]XX[0-9]+ )")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Rating:
    """What one EmoEvaluation block says of an utterance: times in seconds and numbers of tags per emotion."""

    start_s: float
    end_s: float
    votes_external: tuple
    votes_self: tuple


def read_release(folder, with_wavs=True, name="IEMOCAP", published=PUBLISHED):
    """Reads all labelled utterances of the release.

    Args:
        folder: IEMOCAP_full_release, or the folder that holds it.
        with_wavs: False where the wav files are not needed, and so need not be there.
        name, published: of the corpus, see `data.utterance.Source`; others than IEMOCAP's for a made-up release.

    Returns:
        A `data.utterance.Source`. Its notes name each utterance that was left out and each oddity, with file and line.
        A speaker is the dialog's session and the speaker's gender, "Ses01F".

    Raises:
        InputError: no release, or one that lacks a session, a folder or a dialog's transcription.
    """
    release = find_release(folder)
    utterances, notes = [], {}
    for session in SESSIONS:
        utterances += _read_session(release / f"Session{session}", session, with_wavs, notes)
    # Two turns may start together (both speakers at once): the id decides, so that the order never depends on the disk.
    utterances.sort(key=lambda utterance: (utterance.dialog_id, utterance.start_s, utterance.utterance_id))
    return Source(name, release, utterances, EMOTIONS, notes, published)


def find_release(folder):
    """The release's own folder, from itself or from one of the two folders above.

    Raises:
        InputError: it is not there, or a session is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file; unpack it, and" if folder.is_file() else "no such folder;"
        raise InputError(f"{folder}: {what} give the folder IEMOCAP_full_release")
    inner = folder / "IEMOCAP_full_release"
    for release in (folder, inner, inner / inner.name):
        missing = [f"Session{number}" for number in SESSIONS if not (release / f"Session{number}").is_dir()]
        if not missing:
            return release
        if len(missing) < len(SESSIONS):
            raise InputError(f"{release}: {', '.join(missing)} missing; the split needs Session1 to Session5")
    raise InputError(
        f"{folder}: not an IEMOCAP release (no Session1 to Session5 in it); give the folder IEMOCAP_full_release"
    )


def _read_session(folder, session, with_wavs, notes):
    """The utterances of one session, dialog by dialog."""
    ratings, turns = folder / "dialog" / "EmoEvaluation", folder / "dialog" / "transcriptions"
    wavs = folder / "sentences" / "wav"
    for needed in (ratings, turns, *([wavs] if with_wavs else [])):
        if not needed.is_dir():
            raise InputError(f"{needed}: folder missing; the release is not whole, unpack it again")
    dialogs = sorted(_dialogs(ratings, session, notes) | _dialogs(turns, session, {}) | _dialogs(wavs, session, {}))
    utterances = []
    for dialog in dialogs:
        needed = [(ratings / f"{dialog}.txt", "ratings"), (turns / f"{dialog}.txt", "transcription")]
        for path, what in needed + [(wavs / dialog, "folder")] * with_wavs:
            if not path.exists():
                raise InputError(
                    f"{path}: {what} missing; {_instead(path) or 'the release is not whole, unpack it again'}"
                )
        utterances += _read_dialog(*(path for path, _ in needed), wavs / dialog, with_wavs, notes)
    if not utterances:
        first = next((f"{about[0]}: {said}" for said, about in notes.items() if about), "it has no dialog")
        raise InputError(f"{ratings}: no usable utterance of session {session}; {first}")
    return utterances


def _instead(path):
    """What is there in place of a missing file and what to do, in words; nothing if there is nothing."""
    if path.is_symlink():
        return f"it is a link to {os.readlink(path)}, which is not there; fetch what it refers to"
    there = (other.name for other in path.parent.iterdir() if other.name.lower() == path.name.lower())
    return next((f"{name} is there: rename it" for name in there), "")


def _dialogs(folder, session, notes):
    """The dialogs that a folder has files or folders of; other files are noted."""
    dialogs = set()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _DIALOG_ID.fullmatch(path.stem)
        if path.name.startswith("."):
            continue  # hidden files that other systems leave behind
        if match and int(match["session"]) != session:
            raise InputError(f"{path}: a dialog of session {match['session']} lies in the folder of session {session}")
        if match:
            dialogs.add(path.stem)
        elif path.suffix.lower() == ".txt" and path.is_file():
            notes.setdefault("not named like a dialog; not read", []).append(str(path))
    return dialogs


def _read_dialog(ratings_path, turns_path, wav_folder, with_wavs, notes):
    """The utterances of one dialog: ratings, transcripts and wav files brought together."""
    ratings = parse_ratings(read_bytes(ratings_path), ratings_path, notes)
    transcripts = parse_turns(read_bytes(turns_path), turns_path, notes)
    utterances = []
    for utterance_id, rating in ratings.items():
        wav = wav_folder / f"{utterance_id}.wav"
        if utterance_id not in transcripts:
            _skip(notes, utterance_id, "no usable transcript", turns_path)
        elif with_wavs and not wav.is_file():
            instead = _instead(wav)
            _skip(notes, utterance_id, "its sound file is missing", f"{wav}{instead and f'; {instead}'}")
        else:
            parts = _UTTERANCE_ID.fullmatch(utterance_id)
            utterances.append(
                Utterance(
                    utterance_id=utterance_id,
                    dialog_id=parts["dialog"],
                    session=int(parts["session"]),
                    speaker=f"Ses0{parts['session']}{parts['gender']}",
                    transcript=transcripts[utterance_id],
                    sound=Sound(wav),
                    **vars(rating),
                )
            )
    for utterance_id in sorted(transcripts.keys() - ratings.keys()):
        _skip(notes, utterance_id, "a transcript without usable ratings", ratings_path)
    return utterances


def _skip(notes, utterance_id, reason, where):
    sentence = f"left out, {reason}; the scores cover one utterance fewer"
    notes.setdefault(sentence, []).append(f"{utterance_id} ({where})")


def _lines(content):
    """(line number, bytes) of each line; only line feeds end a line, since transcripts may hold other separators."""
    return [(number, line.rstrip(b"\r")) for number, line in enumerate(content.split(b"\n"), 1)]


def parse_ratings(content, path, notes):
    """Parses one dialog's EmoEvaluation file.

    A block is a header line and the raters' lines up to the next empty line. Every tag of every rater is one vote; a
    rater may give several or none. Whatever does not fit makes its utterance a named skip, for a line that cannot be
    read could be a vote.

    Args:
        content: the file's bytes.
        path: its place, `<dialog>.txt`, for the messages and to check the utterances' ids.
        notes: of a `data.utterance.Source`; what was left out is added.

    Returns:
        {utterance id: Rating}.

    Raises:
        InputError: the file has no block, or a block of another dialog.
    """
    path = Path(path)
    blocks, faults = [], defaultdict(list)
    block = None  # the utterance whose lines are being read
    last = None  # the utterance of the latest header: the one that a stray line may belong to
    for number, line in _lines(content):
        text = line.decode("latin-1")  # the parts that count are ASCII; comments may be anything
        if not text.strip():
            block = None
        elif text.startswith("%") or _ATTRIBUTES.match(text):
            continue
        elif header := _HEADER.fullmatch(text.rstrip()):
            block = last = _open_block(header, number, path, faults)
            blocks.append(block)
        elif block and (rater := _RATER.fullmatch(text)):
            _count_tags(rater, block, number, faults)
        elif text.startswith("["):
            notes.setdefault("not a header line; its utterance is left out", []).append(f"{path}, line {number}")
            # A nameless block takes the raters' lines that follow, or they would go to the utterance before.
            block = last = {"id": None, "number": number, "tags": []}
        elif last:
            reason = "a line of no utterance" if not block else "not a rater's line"
            faults[last["id"]].append((reason, number))
        else:
            notes.setdefault("a line of no utterance; not read", []).append(f"{path}, line {number}")
    if not blocks:
        raise InputError(f"{path}: no utterance in it; it is damaged or not an EmoEvaluation file")
    times_listed = Counter(block["id"] for block in blocks)
    ratings = {}
    for block in blocks:
        utterance_id, reasons = block["id"], faults.get(block["id"], [])
        if times_listed[utterance_id] > 1:
            reasons = [("listed more than once", block["number"])]
        if not reasons and not block["tags"]:
            reasons = [("no votes", block["number"])]
        if reasons:
            reason, number = reasons[0]
            _skip(notes, utterance_id, reason, f"{path}, line {number}")
            continue
        if block["raters"] < _FEWEST_RATERS:
            said = f"{block['raters']} external raters instead of {_FEWEST_RATERS} or more; kept"
            notes.setdefault(said, []).append(utterance_id)
        ratings[utterance_id] = Rating(
            block["start_s"],
            block["end_s"],
            _votes(block["tags"], external=True),
            _votes(block["tags"], external=False),
        )
    return ratings


def _open_block(header, number, path, faults):
    """A new block; what is wrong with its times goes to `faults`."""
    utterance_id = header["utterance"]
    match = _UTTERANCE_ID.fullmatch(utterance_id)
    if not match or match["dialog"] != path.stem:
        raise InputError(
            f"{path}, line {number}: utterance {utterance_id[:80]!r} is not of dialog {path.stem}; "
            "the file is damaged or misnamed"
        )
    start_s, end_s = seconds(header["start"]), seconds(header["end"])
    if not 0 <= start_s < end_s <= _LONGEST_TIME_S:  # false for NaN, too
        span = f"[{header['start'][:40]} - {header['end'][:40]}]"
        faults[utterance_id].append((f"{span} are no times in seconds, start before end", number))
    return {"id": utterance_id, "number": number, "start_s": start_s, "end_s": end_s, "tags": [], "raters": 0}


def _count_tags(rater, block, number, faults):
    """Adds one rater's tags to the block; an unknown tag, or an external rater without one, goes to `faults`."""
    if block["id"] is None:
        return
    external = rater["kind"] == "E"  # F and M are the actors' own reports
    # A rater who left the field empty shows as nothing but separators.
    tags = [tag.strip() for tag in rater["tags"].split(";") if tag.strip(" \t:")]
    for tag in tags:
        if tag not in EMOTION_OF_TAG:
            faults[block["id"]].append((f"unknown tag {tag[:40]!r}", number))
            return
    if external and not tags:
        faults[block["id"]].append(("a rater without a tag", number))
    block["tags"] += [(external, EMOTION_OF_TAG[tag]) for tag in tags]
    block["raters"] += external


def _votes(tags, external):
    """Numbers of tags in the order of EMOTIONS."""
    return tuple(tags.count((external, emotion)) for emotion in EMOTIONS)


def parse_turns(content, path, notes):
    """Parses one dialog's transcription.

    Args:
        content: the file's bytes.
        path: its place, `<dialog>.txt`.
        notes: of a `data.utterance.Source`; what was left out is added.

    Returns:
        {utterance id: text as in the release, stripped}. Turns that nobody rated ("M: Yeah.", turn XX3) are no
        utterances and are passed over.

    Raises:
        InputError: a turn of another dialog.
    """
    path = Path(path)
    transcripts, seen = {}, set()
    for number, line in _lines(content):
        place = f"{path}, line {number}"
        try:
            text, mended = decode(line, path, number)
        except InputError as error:
            text, mended = line.decode("utf-8", "replace"), []
            unreadable = str(error).removeprefix(f"{place}: ")
        else:
            unreadable = None
        turn = _TURN.fullmatch(text.strip())
        if not text.strip() or _UNRATED_TURN.match(text):
            continue
        match = turn and _UTTERANCE_ID.fullmatch(turn["utterance"])
        if not match:
            said = "not a turn of the form '<utterance> [start-end]: words'; not read"
            notes.setdefault(said, []).append(place)
            continue
        if match["dialog"] != path.stem:
            raise InputError(
                f"{place}: utterance {turn['utterance']} is not of dialog {path.stem}; the file is misnamed"
            )
        utterance_id, words = turn["utterance"], turn["words"].strip()
        fault = unreadable or _transcript_fault(words)
        if utterance_id in seen:
            fault = "the utterance has a transcript already, and nothing says which one holds"
            transcripts.pop(utterance_id, None)
        seen.add(utterance_id)
        if fault:
            notes.setdefault(f"{fault}; transcript not used", []).append(place)
            continue
        for said in mended:
            notes.setdefault(f"{said}; check its words", []).append(place)
        transcripts[utterance_id] = words
    return transcripts


def _transcript_fault(words):
    """Why these words can be no transcript, or None."""
    if not words:
        return "no words"
    if len(words) > _LONGEST_TRANSCRIPT:
        return f"{len(words)} characters are no utterance"
    return "control characters, the file is damaged" if _CONTROL.search(words) else None
