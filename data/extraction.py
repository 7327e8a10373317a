"""Audio features of many utterances: in parallel, with a progress bar, and restartable after a kill.

Finished utterances are kept as lines of a cache file, keyed by the sound file's bytes, the stretch of it, the feature
set, openSMILE's version and its configuration. A line is appended only when it is whole; one that a kill cut short is
no JSON and is computed again.
"""

import base64
import contextlib
import hashlib
import json
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from data.audio import config_hash, extract, feature_config, feature_names
from data.sound import ffmpeg_version, needs_ffmpeg, opened
from data.workers import handled, parallel, progress_bar
from storage.files import InputError, named, sha256

ONE_AT_A_TIME = threading.Lock()  # openSMILE, where a Dask worker has several threads


@dataclass(frozen=True)
class Extracted:
    """What became of a sound.

    `features` (A,) float32, or None with `failure`, which says why; `note` what was done to the signal, sentences with
    "; " between, or None; `file_s` the length of the file in seconds, None where it cannot be read.
    """

    features: np.ndarray | None
    note: str | None
    file_s: float | None
    failure: str | None = None


def extract_files(sounds, feature_set, cache, emo_large_conf=None, jobs=None, progress=True, scheduler=None):
    """Extracts the features of all sounds; one that cannot be used stops nothing. Each file is decoded once.

    Args:
        sounds: `data.utterance.Sound`s.
        feature_set: one of `data.audio.FEATURE_SETS`, not "none", or a `data.encoders.AudioEncoder`.
        cache: path of the cache file; made if missing, gone on with if there.
        emo_large_conf: the user's emo_large.conf, for that set.
        jobs: processes; None takes all cores.
        progress: whether to show a progress bar.
        scheduler: HOST:PORT of a Dask cluster whose workers do it; None for this machine.

    Returns:
        (results, names): {sound: `Extracted`} and the A column names.

    Raises:
        InputError: the feature set's configuration is no good, the cache file cannot be written, or see
            `data.workers.parallel`.
    """
    results, settings, of_file = {}, config_hash(feature_set, emo_large_conf), {}
    for sound in dict.fromkeys(sounds):
        of_file.setdefault(sound.path, []).append(sound)
    with feature_config(feature_set, emo_large_conf, Path(cache).parent) as config, parallel(jobs, scheduler) as run:
        names = feature_names(feature_set, config)
        done = _read_cache(cache, len(names))
        tasks = []
        for path, pending in of_file.items():
            apart = any(sound.channel for sound in pending)  # of all its sounds, not of those that are left to do
            keys = _keys(path, pending, settings, apart) if done else {}
            results |= {sound: done[key] for sound, key in keys.items() if key in done}
            if pending := [sound for sound in pending if sound not in results]:
                tasks.append(joblib.delayed(_extract_file)(path, pending, feature_set, config, settings, apart))
        total = sum(map(len, of_file.values()))
        bar = progress_bar(str(feature_set), total, "utterances", progress, done=len(results))
        with bar, _open_cache(cache) as file:
            for found in run(tasks):
                for sound, key, result in found:
                    results[sound] = result
                    if not result.failure:
                        _append(file, cache, key, result)
                bar.update(len(found))
    return results, names


def _extract_file(path, sounds, feature_set, config, settings, apart):
    """[(sound, cache key, `Extracted`)] of the sounds in one file; runs in a worker process."""
    found, keys, file_s = [], _keys(path, sounds, settings, apart), None
    try:
        with opened(path, apart) as recording:
            file_s = recording.seconds
            for sound in sounds:
                try:
                    samples, note = recording.signal(sound.start_s, sound.end_s, sound.channel)
                    with interrupts_held(), ONE_AT_A_TIME:
                        result = Extracted(extract(samples, feature_set, config), note, file_s)
                except InputError as error:
                    result = Extracted(None, None, file_s, str(error))
                found.append((sound, keys.get(sound), result))
    except InputError as error:
        return [(sound, None, Extracted(None, None, None, str(error))) for sound in sounds]
    return found


@contextlib.contextmanager
def interrupts_held():
    """Lets Ctrl-C and SIGTERM wait until the block ends.

    openSMILE hands over each frame through a callback from C, where Python drops exceptions: an interrupt in there
    would be lost, and with it a frame, so that the features were wrong.
    """
    came = []
    try:
        with handled(lambda number, frame: came.append(number), signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        for number in dict.fromkeys(came):  # one of them may be ignored
            signal.raise_signal(number)


def _keys(path, sounds, settings, apart):
    """{sound: cache key} of sounds in a file; empty where it cannot be read: the extraction will say why."""
    try:
        decoded = f" {ffmpeg_version()}{' apart' * apart}" if needs_ffmpeg(path) else ""
        file = f"{settings}{decoded} {sha256(path)}"
    except InputError:
        return {}
    stretch = {sound: f"{file} {sound.channel} {sound.start_s} {sound.end_s}" for sound in sounds}
    return {sound: hashlib.sha256(text.encode()).hexdigest() for sound, text in stretch.items()}


def _open_cache(path):
    """The cache file, open for appending at the start of a line."""
    with named(path, "cannot be written"):
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (the caller closes it, and nothing is left to fail then)
        file.write(b"\n")  # ends a line that a kill cut short
    return file


def _append(file, path, key, result):
    """Adds one finished utterance, at once, so that only a power cut can lose it."""
    packed = base64.b64encode(result.features.astype("<f4").tobytes()).decode("ascii")
    line = json.dumps({"key": key, "note": result.note, "file_s": result.file_s, "features": packed})
    with named(path, "cannot be written", "; the utterances finished so far are kept"):
        file.write(line.encode("ascii") + b"\n")


def _read_cache(path, num_features):
    """{key: `Extracted`} of the whole lines of a cache file; others are passed over and computed again."""
    done = {}
    if not Path(path).exists():
        return done
    with named(path):
        lines = Path(path).read_bytes().split(b"\n")
    for line in lines:
        try:
            entry = json.loads(line)
            vector = np.frombuffer(base64.b64decode(entry["features"], validate=True), "<f4")
            key, result = entry["key"], Extracted(vector, entry["note"], float(entry["file_s"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if vector.shape == (num_features,) and np.isfinite(vector).all() and isinstance(key, str):
            done[key] = result
    return done
