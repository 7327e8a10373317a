"""The sound of one recording: the features of its utterances, and a small copy for the page."""

import io
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import joblib
import numpy as np
import soundfile

from data.audio import SAMPLE_RATE_HZ, extract, feature_config, feature_names
from data.extraction import ONE_AT_A_TIME, interrupts_held
from data.rows import blocks
from data.sound import opened, prepared
from data.workers import parallel, progress_bar
from storage.files import InputError

_SOUND = ".wav .mp3 .m4a .aac .flac .ogg .oga .opus .wma .amr .aif .aiff .aifc .caf .au .w64"
_VIDEO = ".mp4 .webm .mov .mkv .avi .3gp .mpg .mpeg .m4v .wmv"
SUFFIXES = (*_SOUND.split(), *_VIDEO.split())  # of recordings in a folder
LARGEST_EMBEDDED = 25_000_000  # bytes
_BITRATES_KBPS = (32, 24, 16)  # of speech at 16 kHz, the first that fits
_TOGETHER = 16  # utterances of a task
_SHORTEST_S = 0.06  # that any descriptor of openSMILE can be computed from


def features_of(recording, spans, feature_set, emo_large_conf=None, jobs=None, progress=True):
    """Features of stretches of a recording.

    Args:
        recording: `data.sound.Recording`.
        spans: list of (start_s, end_s, channel from 1 or None for the mean of all).
        feature_set, emo_large_conf: as of `data.audio.feature_config`.
        jobs: processes; None for all cores, 1 for this one alone.
        progress: whether to show a bar.

    Returns:
        ((N, A) float64, a row of NaN where there is no usable sound; [note or failure, None for neither] of each; the
        A column names).
    """
    with feature_config(feature_set, emo_large_conf) as config:
        names, parts = feature_names(feature_set, config), blocks(len(spans), _TOGETHER)
        calls = (
            joblib.delayed(_features)(recording.readable, spans[part], part, feature_set, config) for part in parts
        )
        features, said = np.full((len(spans), len(names)), np.nan), [None] * len(spans)
        bar = progress_bar("sound", len(spans), "utterances", progress)
        with bar, parallel(1 if len(parts) == 1 else jobs) as run:
            for part, rows, notes in run(calls):
                said[part] = notes
                for position, row in enumerate(rows, part.start):
                    features[position] = row
                bar.update(len(notes))
    return features, said, names


def _features(path, spans, part, feature_set, config):
    """(their slice, rows or NaN, notes); runs in a worker process."""
    rows, notes = [], []
    with opened(path) as recording:
        for start_s, end_s, channel in spans:
            try:
                end_s = min(end_s, recording.seconds)
                if end_s - start_s < _SHORTEST_S:
                    raise InputError("no sound at its time" if start_s >= recording.seconds else "shorter than 60 ms")
                signal, note = recording.signal(start_s, end_s, channel)
                if not signal.any():
                    raise InputError("silent, all samples are zero")
                with interrupts_held(), ONE_AT_A_TIME:
                    rows.append(extract(signal, feature_set, config))
            except InputError as error:
                rows.append(np.nan)  # in all columns
                note = str(error).removeprefix(f"{path}: ")
            notes.append(note)
    return part, rows, notes


def for_page(path, recording, page_folder):
    """The sound that a page plays.

    Args:
        path: the user's file.
        recording: its `data.sound.Recording`.
        page_folder: where the page will lie.

    Returns:
        ("audio/mpeg", bytes) of at most LARGEST_EMBEDDED; else the recording's address from the page's folder.
    """
    if recording.is_mp3 and path.stat().st_size <= LARGEST_EMBEDDED:
        return "audio/mpeg", path.read_bytes()
    rates = [rate for rate in _BITRATES_KBPS if recording.seconds * rate * 125 <= 0.98 * LARGEST_EMBEDDED]
    coded = _mp3(recording.readable, rates[0]) if rates else None
    if coded and len(coded) <= LARGEST_EMBEDDED:
        return "audio/mpeg", coded
    return quote(os.fsencode(os.path.relpath(path.resolve(), Path(page_folder).resolve())))


def _mp3(path, kbps):
    """The file as MP3 of one channel at 16 kHz, or None where nothing here can make one."""
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", f"file:{Path(path).absolute()}", "-ac", "1"]
        command += ["-ar", str(SAMPLE_RATE_HZ), "-c:a", "libmp3lame", "-compression_level", "8", "-b:a", f"{kbps}k"]
        done = subprocess.run([*command, "-f", "mp3", "-"], capture_output=True, start_new_session=True)
        if done.returncode == 0:
            return done.stdout
    return _mp3_of_soundfile(path, kbps)


def _mp3_of_soundfile(path, kbps):
    """The same without ffmpeg, several times slower."""
    level = {32: 0.85, 24: 0.9, 16: 0.95}[kbps]
    how = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": level}
    try:
        with io.BytesIO() as coded, soundfile.SoundFile(str(path)) as source:
            with soundfile.SoundFile(coded, "w", SAMPLE_RATE_HZ, 1, **how) as target:
                for block in source.blocks(blocksize=source.samplerate * 10, dtype="float32", always_2d=True):
                    target.write(prepared(block, source.samplerate)[0])
            return coded.getvalue()
    except (soundfile.SoundFileError, InputError, ValueError):
        return None
