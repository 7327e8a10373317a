"""The sound of one recording: opened once, cut into utterances, their features, and a small copy for the page."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import joblib
import numpy as np
import soundfile
from tqdm import tqdm

from data.audio import SAMPLE_RATE_HZ, extract, feature_config, feature_names
from data.extraction import interrupts_held
from data.sound import prepared
from data.workers import parallel
from storage.files import InputError

_SOUND = ".wav .mp3 .m4a .aac .flac .ogg .oga .opus .wma .amr .aif .aiff .aifc .caf .au .w64"
_VIDEO = ".mp4 .webm .mov .mkv .avi .3gp .mpg .mpeg .m4v .wmv"
SUFFIXES = (*_SOUND.split(), *_VIDEO.split())  # of recordings in a folder
LARGEST_EMBEDDED = 25_000_000  # bytes
_EXACT = ("WAV", "WAVEX", "FLAC", "AIFF", "W64", "RF64", "AU", "CAF")  # soundfile finds any sample of these at once
_BITRATES_KBPS = (32, 24, 16)  # of speech at 16 kHz, the first that fits
_TOGETHER = 16  # utterances of a task
_LONGEST_S = 3600  # of decoding


@contextlib.contextmanager
def opened(recording):
    """Yields the path of a file with the recording's sound in which any moment can be read at once.

    Raises:
        InputError: the file is missing, or neither soundfile nor ffmpeg reads sound in it.
    """
    recording = Path(recording)
    if not recording.is_file():
        raise InputError(f"{recording}: no such recording")
    try:
        info = soundfile.info(str(recording))
    except soundfile.SoundFileError:
        info = None
    if info and info.format in _EXACT and info.frames > 0:
        yield recording
        return
    with tempfile.TemporaryDirectory(prefix="recording_") as folder:
        wav = Path(folder) / "sound.wav"
        if shutil.which("ffmpeg"):
            _decode(recording, wav)
        elif info:
            _copy(recording, wav, info)
        else:
            raise InputError(f"{recording}: only ffmpeg can read such a file; install it (apt-get install ffmpeg)")
        yield wav


def _decode(recording, wav):
    """The first audio stream as a wav file at 16 kHz, channels as they are."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{recording.absolute()}"]
    command += ["-map", "0:a:0", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le", "-bitexact", "-y", str(wav)]
    try:  # a session of its own, so that Ctrl-C in the terminal does not make a good recording look broken
        done = subprocess.run(command, capture_output=True, timeout=_LONGEST_S, start_new_session=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{recording}: ffmpeg did not end within {_LONGEST_S} s") from error
    if done.returncode or not wav.is_file() or soundfile.info(str(wav)).frames == 0:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no samples"])[-1][:200]
        raise InputError(f"{recording}: no sound that can be read in it ({said.removeprefix('file:')})")


def _copy(recording, wav, info):
    """The same through soundfile, block by block."""
    try:
        target = soundfile.SoundFile(str(wav), "w", info.samplerate, info.channels, "PCM_16")
        with target, soundfile.SoundFile(str(recording)) as source:
            for block in source.blocks(blocksize=1 << 18, dtype="float32", always_2d=True):
                target.write(block)
    except soundfile.SoundFileError as error:
        raise InputError(f"{recording}: damaged ({error})") from error


def length(path):
    """(seconds, channels) of a file of `opened`."""
    info = soundfile.info(str(path))
    return info.frames / info.samplerate, info.channels


def cut(path, start_s, end_s, channel=None):
    """One utterance's signal out of a file of `opened`.

    Args:
        path: the file.
        start_s, end_s: the span in seconds; what lies past the end is not there.
        channel: from 1; None for the mean of all.

    Returns:
        (T,) float32 mono at 16 kHz.

    Raises:
        InputError: there is no usable sound in the span.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            first = min(round(start_s * file.samplerate), file.frames)
            file.seek(first)
            samples = file.read(
                max(0, round(end_s * file.samplerate) - first), dtype="float32", always_2d=True, fill_value=None
            )
            rate_hz = file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"cannot be read ({error})") from error
    if not len(samples):
        raise InputError("no sound at its time")
    if channel is not None:
        samples = samples[:, channel - 1 : channel]
    signal, _ = prepared(samples, rate_hz)
    if not signal.any():
        raise InputError("silent, all samples are zero")
    return signal


def features_of(path, spans, feature_set, emo_large_conf=None, jobs=None, progress=True):
    """Features of the spans of a recording.

    Args:
        path: a file of `opened`.
        spans: list of (start_s, end_s, channel) as of `cut`.
        feature_set, emo_large_conf: as of `data.audio.feature_config`.
        jobs: processes; None for all cores, 1 for this one alone.
        progress: whether to show a bar.

    Returns:
        ((N, A) float64, a row of NaN where there is no usable sound; {position: why}; the A column names).
    """
    with feature_config(feature_set, emo_large_conf) as config:
        names = feature_names(feature_set, config)
        parts = [range(low, min(low + _TOGETHER, len(spans))) for low in range(0, len(spans), _TOGETHER)]
        calls = ((path, [spans[i] for i in part], part, feature_set, config) for part in parts)
        features, failures = np.full((len(spans), len(names)), np.nan), {}
        bar = tqdm(desc="sound", total=len(spans), unit=" utterances", disable=not progress)
        with contextlib.ExitStack() as stack:
            stack.enter_context(bar)
            if jobs == 1 or len(parts) == 1:
                results = (_features(*call) for call in calls)
            else:
                run = stack.enter_context(parallel(jobs))
                results = run(joblib.delayed(_features)(*call) for call in calls)
            for part, rows, failed in results:
                features[part.start : part.stop] = rows
                failures |= failed
                bar.update(len(part))
    return features, failures, names


def _features(path, spans, part, feature_set, config):
    """(positions, their rows, {position: failure}); runs in a worker process."""
    rows, failures = [], {}
    for position, (start_s, end_s, channel) in zip(part, spans, strict=True):
        try:
            signal = cut(path, start_s, end_s, channel)
            with interrupts_held():
                rows.append(extract(signal, feature_set, config).astype("float64"))
        except InputError as error:
            rows.append(None)
            failures[position] = str(error)
    empty = np.full(len(feature_names(feature_set, config)), np.nan)
    return part, np.array([empty if row is None else row for row in rows]), failures


def for_page(recording, path, duration_s, page_folder):
    """The sound that a page plays.

    Args:
        recording: the user's file.
        path: of `opened`.
        duration_s: its length.
        page_folder: where the page will lie.

    Returns:
        ("audio/mpeg", bytes) of at most LARGEST_EMBEDDED; else the recording's address from the page's folder.
    """
    recording = Path(recording)
    if recording.suffix.lower() == ".mp3" and recording.stat().st_size <= LARGEST_EMBEDDED:
        return "audio/mpeg", recording.read_bytes()
    rates = [rate for rate in _BITRATES_KBPS if duration_s * rate * 125 <= 0.98 * LARGEST_EMBEDDED]
    coded = _mp3(path, rates[0]) if rates else None
    if coded and len(coded) <= LARGEST_EMBEDDED:
        return "audio/mpeg", coded
    return quote(os.path.relpath(recording.resolve(), Path(page_folder).resolve()))


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
        with tempfile.TemporaryFile() as coded, soundfile.SoundFile(str(path)) as source:
            with soundfile.SoundFile(coded, "w", SAMPLE_RATE_HZ, 1, **how) as target:
                for block in source.blocks(blocksize=source.samplerate * 10, dtype="float32", always_2d=True):
                    target.write(prepared(block, source.samplerate)[0])
            coded.seek(0)
            return coded.read()
    except (soundfile.SoundFileError, InputError, ValueError):
        return None
