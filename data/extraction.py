"""Audio features of many sound files: in parallel, with a progress bar, and restartable after a kill.

Finished files are kept as lines of a cache file, keyed by the wav file's bytes, the feature set, openSMILE's version
and its configuration. A line is appended only when it is whole; one that a kill cut short is no JSON and is computed
again.
"""

import base64
import contextlib
import hashlib
import json
import signal
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from data.audio import config_hash, extract, feature_config, feature_names
from data.sound import ffmpeg_version, is_clip, read_sound
from data.workers import parallel
from storage.files import InputError, sha256


def extract_files(wavs, feature_set, cache, emo_large_conf=None, jobs=None, progress=True, scheduler=None):
    """Extracts the features of all files; a file that cannot be used stops nothing.

    Args:
        wavs: paths of wav files, or of clips that ffmpeg decodes.
        feature_set: one of `data.audio.FEATURE_SETS`, not "none".
        cache: path of the cache file; made if missing, gone on with if there.
        emo_large_conf: the user's emo_large.conf, for that set.
        jobs: processes; None takes all cores.
        progress: whether to show a progress bar.
        scheduler: HOST:PORT of a Dask cluster whose workers do it; None for this machine.

    Returns:
        (features, names, notes, failures): {path: (A,) float32}, the A column names, {path: what was done to the
        signal} and {path: why there are no features}.

    Raises:
        InputError: the feature set's configuration is no good, the cache file cannot be written, or see
            `data.workers.parallel`.
    """
    features, notes, failures = {}, {}, {}
    settings = config_hash(feature_set, emo_large_conf)
    with feature_config(feature_set, emo_large_conf, Path(cache).parent) as config, parallel(jobs, scheduler) as run:
        names = feature_names(feature_set, config)
        done = _read_cache(cache, len(names))
        pending = []
        for wav in wavs:
            known = done and done.get(_key(wav, settings))
            if known:
                features[wav], notes[wav] = known
            else:
                pending.append(wav)
        bar = tqdm(
            run(joblib.delayed(_extract_file)(wav, feature_set, config, settings) for wav in pending),
            desc=feature_set,
            total=len(wavs),
            initial=len(features),
            unit=" utterances",
            disable=not progress,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file needs fewer lines than a terminal
        )
        with _open_cache(cache) as file:
            for wav, key, vector, note, failure in bar:
                if failure:
                    failures[wav] = failure
                    continue
                features[wav], notes[wav] = vector, note
                _append(file, cache, key, vector, note)
    return features, names, {wav: note for wav, note in notes.items() if note}, failures


def _extract_file(wav, feature_set, config, settings):
    """(path, cache key, features, note, failure) of one file; runs in a worker process."""
    try:
        samples, note = read_sound(wav)
        with interrupts_held():
            vector = extract(samples, feature_set, config)
        return wav, _key(wav, settings), vector, note, None
    except InputError as error:
        return wav, None, None, None, str(error)


@contextlib.contextmanager
def interrupts_held():
    """Lets Ctrl-C wait until the block ends.

    openSMILE hands over each frame through a callback from C, where Python drops exceptions: an interrupt in there
    would be lost, and with it a frame, so that the features were wrong.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts the main thread alone
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _key(wav, settings):
    """The cache key of a file, or None where it cannot be read: the extraction will say why."""
    try:
        decoder = f" {ffmpeg_version()}" if is_clip(wav) else ""
        return hashlib.sha256(f"{settings}{decoder} {sha256(wav)}".encode()).hexdigest()
    except InputError:
        return None


def _open_cache(path):
    """The cache file, open for appending at the start of a line."""
    try:
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (the caller closes it, and nothing is left to fail then)
        file.write(b"\n")  # ends a line that a kill cut short
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    return file


def _append(file, path, key, vector, note):
    """Adds one finished utterance, at once, so that only a power cut can lose it."""
    packed = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    try:
        file.write(json.dumps({"key": key, "note": note, "features": packed}).encode("ascii") + b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); the utterances finished so far are kept"
        ) from error


def _read_cache(path, num_features):
    """{key: (features, note)} of the whole lines of a cache file; others are passed over and computed again."""
    done = {}
    if not Path(path).exists():
        return done
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for line in lines:
        try:
            entry = json.loads(line)
            vector = np.frombuffer(base64.b64decode(entry["features"], validate=True), "<f4")
            key, note = entry["key"], entry["note"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if vector.shape == (num_features,) and np.isfinite(vector).all() and isinstance(key, str):
            done[key] = vector, note
    return done
