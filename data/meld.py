"""The MELD release on disk to utterances: 7 emotions, one vote each, and the official split.

Layout read, below the folder of the raw release:
    {train,dev,test}_sent_emo.csv                                  also within a folder train, dev or test
    {train_splits,dev_splits_complete,output_repeated_splits_test}/dia{D}_utt{U}.mp4
Dialogs are numbered anew in each part, so ids here begin with the part: train_dia0_utt3.
Reference: Poria et al., "MELD: a multimodal multi-party dataset for emotion recognition in conversations", 2019.
"""

import math
import re
from pathlib import Path

from data import reading
from data.fidelity import PUBLISHED_MELD
from data.utterance import PARTS, Sound, Source, Utterance
from storage.files import InputError

EMOTIONS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
CLIP_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
_NUMBER = re.compile(r"[0-9]{1,6}")
_LATE = "starts before the utterance ahead of it, whose start time it gets (Utterance_ID gives the order)"
_SHORT = "ends before it starts; its clip tells its length, where that is read"


def read_meld(folder, with_clips=True):
    """Reads all utterances of the release.

    Utterances follow each other by `Utterance_ID`. In some dialogs the episode's times go backwards; a start time is
    then raised to that of the utterance before it, since a corpus file is sorted by time, and a note counts them.

    Args:
        folder: of the raw release.
        with_clips: False where the clips are not needed, and so need not be there.

    Returns:
        A `data.utterance.Source`, part by part and dialog by dialog. Times are seconds from the episode's start. A
        clip that is missing is noticed when it is decoded; its utterance is kept for its words.

    Raises:
        InputError: names the file, line or folder, and the rule it breaks.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of MELD's three CSV files")
    utterances, notes = [], {}
    for part in PARTS:
        path = _find(folder, part, f"{part}_sent_emo.csv")
        if path is None or not path.is_file():
            raise InputError(f"{folder / f'{part}_sent_emo.csv'}: missing; the release has one for train, dev and test")
        clips = _find(folder, part, CLIP_FOLDERS[part])
        if with_clips and (clips is None or not clips.is_dir()):
            raise InputError(
                f"{folder / CLIP_FOLDERS[part]}: folder of clips missing; unpack the raw release, "
                "or leave audio out with --audio none"
            )
        utterances += _read_part(path, part, clips or folder / CLIP_FOLDERS[part], notes)
    return Source("MELD", folder, utterances, EMOTIONS, notes, PUBLISHED_MELD, without_audio="keep")


def _find(folder, part, name):
    """Where a file or folder of a part lies: in the release, or in its folder of that part's name; or None."""
    return next((path for path in (folder / name, folder / part / name) if path.exists()), None)


def _read_part(path, part, clips, notes):
    """The utterances of one CSV file."""
    rows, columns, mended = reading.read_rows(path)
    notes |= {note: [] for note in mended}
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise InputError(f"{path}, line 1: column '{missing[0]}' missing; it is not MELD's {part}_sent_emo.csv")
    dialogs, lines = {}, {}
    for number, row in rows:
        place = f"{path}, line {number}"
        key = tuple(_number(place, name, row[name]) for name in ("Dialogue_ID", "Utterance_ID"))
        if key in lines:
            raise InputError(f"{place}: dialog {key[0]}, utterance {key[1]} is there already, in line {lines[key]}")
        if row["Emotion"] not in EMOTIONS:
            raise InputError(f"{place}: emotion {row['Emotion']!r:.60} is none of {', '.join(EMOTIONS)}")
        lines[key] = number
        dialogs.setdefault(key[0], {})[key[1]] = (place, row)
    utterances = []
    for dialog, turns in sorted(dialogs.items()):
        latest_s = 0.0
        for turn, (place, row) in sorted(turns.items()):
            name = f"{part}_dia{dialog}_utt{turn}"
            start_s, end_s = (_seconds(place, column, row[column]) for column in ("StartTime", "EndTime"))
            if end_s < start_s:
                notes.setdefault(_SHORT, []).append(name)
            if start_s < latest_s:
                notes.setdefault(_LATE, []).append(name)
            latest_s = max(latest_s, start_s)
            utterances.append(
                Utterance(
                    utterance_id=name,
                    dialog_id=f"{part}_dia{dialog}",
                    split=part,
                    speaker=row["Speaker"],
                    start_s=latest_s,
                    end_s=max(latest_s, end_s),
                    transcript=" ".join(row["Utterance"].split()),
                    votes_external=tuple(int(row["Emotion"] == emotion) for emotion in EMOTIONS),
                    votes_self=(0,) * len(EMOTIONS),
                    sound=Sound(clips / f"dia{dialog}_utt{turn}.mp4"),
                )
            )
    return utterances


def _number(place, name, text):
    if not _NUMBER.fullmatch(text):
        raise InputError(f"{place}: {name} {text!r:.60} is no number")
    return int(text)


def _seconds(place, name, text):
    time_s = reading.seconds(text, thousandths=True) if ":" in text else math.nan
    if math.isnan(time_s):
        raise InputError(f"{place}: {name} {text!r:.60} is no time such as 00:16:16,059")
    return time_s
