"""Wav files to feature vectors: a strict reader in front of openSMILE, and the paper's and two other feature sets.

openSMILE itself passes several damaged files silently: it reads channel 0 of a stereo file, takes 8 kHz for what it
is, wraps a float sample of +1.0 to -1.0, and fills too short audio with NaN. `read_wav` and `extract` mend, note or
refuse each of these, so that no feature vector is wrong without a word.
"""

import contextlib
import functools
import math
import re
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from storage.files import InputError, sha256, write_text

SAMPLE_RATE_HZ = 16_000
FEATURE_SETS = ("egemaps_lld", "emo_large", "none")
# Numbers of columns: mean and deviation of 23 descriptors; 56 descriptors, 2 deltas each, 39 functionals of all.
NUM_FEATURES = {"egemaps_lld": 46, "emo_large": 6552, "none": 0}
# Beyond these a header is damaged, and resampling from its rate could take all memory.
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 4_000, 384_000
# Largest sample that 16 bits hold; +1.0 would wrap to -1.0 in openSMILE.
_FULL_SCALE = np.float32(32767 / 32768)
# What is read, and the bytes of a sample.
_UNCOMPRESSED = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}


def read_wav(path):
    """Reads a wav file as the signal that openSMILE shall see.

    Read are 8 to 32-bit PCM, float, A-law and mu-law, plain or WAV extensible. Channels are averaged and other sample
    rates brought to 16 kHz, both with a note.

    Args:
        path: a RIFF wav file.

    Returns:
        (signal, note): (T,) float32 mono at 16 kHz in [-1, 1), and a sentence on what was done to it, or None.

    Raises:
        InputError: the file cannot be read, is no wav file, is shorter than its header says, or has no samples or
            samples that are no numbers.
    """
    import soundfile

    num_bytes = _check_riff(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.subtype not in _UNCOMPRESSED:
                raise InputError(f"{path}: compressed wav ({file.subtype}); convert it to 16-bit PCM")
            rate_hz = file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
            num_declared = num_bytes // (_UNCOMPRESSED[file.subtype] * file.channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: not a readable wav file ({error})") from error
    if len(samples) != num_declared:
        raise InputError(f"{path}: {len(samples)} samples decoded, the header declares {num_declared}; it is damaged")
    if not len(samples):
        raise InputError(f"{path}: no samples in it")
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: samples that are no numbers (NaN or infinite); the file is damaged")
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise InputError(f"{path}: sample rate {rate_hz} Hz is no speech recording's; the header is damaged")
    signal, notes = samples[:, 0], []
    if samples.shape[1] > 1:
        signal = samples.mean(axis=1)
        notes.append(f"{samples.shape[1]} channels averaged to one")
    if rate_hz != SAMPLE_RATE_HZ:
        signal = _resample(signal, rate_hz)
        lost = f", nothing above {rate_hz // 2} Hz" if rate_hz < SAMPLE_RATE_HZ else ""
        notes.append(f"resampled from {rate_hz} Hz{lost}")
    clipped = int((np.abs(signal) > 1).sum())
    if clipped:
        notes.append(f"{clipped} samples beyond full scale clipped")
    if not signal.any():
        notes.append("silent, all samples are zero")
    signal = np.clip(signal, -1, _FULL_SCALE).astype("float32")
    return signal, "; ".join(notes) or None


def _check_riff(path):
    """The bytes of audio that the header declares; decoders would take what is there.

    Raises:
        InputError: no RIFF wav file, or one that holds less than it declares.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header = file.read(12)
            if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
                raise InputError(f"{path}: not a wav file (no RIFF header)")
            while len(chunk := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", chunk)
                if name == b"data":
                    held = size - file.tell()
                    if length > held:
                        raise InputError(
                            f"{path}: truncated, the header declares {length} bytes of audio and {held} are there"
                        )
                    return length
                file.seek(length + length % 2, 1)  # chunks are padded to even lengths
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    raise InputError(f"{path}: truncated, it ends before its audio")


def _resample(signal, rate_hz):
    """(T,) signal brought to 16 kHz through a polyphase low-pass."""
    from scipy.signal import resample_poly

    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    return resample_poly(signal.astype("float64"), SAMPLE_RATE_HZ // common, rate_hz // common)


@contextlib.contextmanager
def feature_config(feature_set, emo_large_conf=None):
    """Yields the argument `config` for `feature_names` and `extract`, which processes can share.

    openSMILE's licence forbids shipping emo_large.conf, and as it stands it reads files itself. Three edits, on a copy
    in a temporary folder, make it take our signal and hand back its features: its wave source goes from the list of
    components, that source's section becomes the external source, and the file output the external sink.

    Args:
        feature_set: one of FEATURE_SETS.
        emo_large_conf: the user's copy of openSMILE's config/misc/emo_large.conf; for "emo_large" alone.

    Yields:
        "" or the path of the edited copy, which is there as long as the context is open.

    Raises:
        InputError: an unknown feature set, or a configuration file that is missing or is not emo_large.conf.
    """
    if feature_set not in FEATURE_SETS:
        raise InputError(f"unknown feature set {feature_set!r}; one of {', '.join(FEATURE_SETS)}")
    if feature_set != "emo_large":
        if emo_large_conf is not None:
            raise InputError(
                f"an emo_large configuration is given, but the feature set is {feature_set}; choose emo_large"
            )
        yield ""
        return
    if emo_large_conf is None:
        raise InputError(
            "emo_large needs openSMILE's config/misc/emo_large.conf (its licence forbids shipping it); give its path"
        )
    with tempfile.TemporaryDirectory(prefix="emo_large_") as folder:
        edited = Path(folder) / "emo_large.conf"
        write_text(edited, edit_emo_large(emo_large_conf))
        yield str(edited)


def edit_emo_large(path):
    """The text of emo_large.conf with the three edits of `feature_config`.

    Raises:
        InputError: the file cannot be read, or a place to edit is not there exactly once.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file, so not openSMILE's emo_large.conf") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give openSMILE's emo_large.conf") from error
    edits = (
        ("the instance waveIn", r"^[ \t]*instance\[waveIn\][^\n]*\n", ""),
        ("the section waveIn", r"^\[waveIn:cWaveSource\].*?(?=^\[)", "\\{\\cm[source{?}:source include config]}\n\n"),
        ("the output include", r"^\\\{[^}\n]*standard_data_output[^}\n]*\}", "\\{\\cm[sink{?}:include external sink]}"),
    )
    for what, pattern, replacement in edits:
        # A function, so that the backslashes of the replacement stand for themselves.
        text, count = re.subn(pattern, lambda _, new=replacement: new, text, flags=re.MULTILINE | re.DOTALL)
        if count != 1:
            raise InputError(
                f"{path}: {what} is there {count} times instead of once; this is not openSMILE's emo_large.conf"
            )
    return text


def config_hash(feature_set, emo_large_conf=None):
    """What features depend on besides the wav file: the set, its version and the configuration's bytes."""
    opensmile = _opensmile()
    return f"{feature_set} opensmile-{opensmile.__version__} {sha256(emo_large_conf) if emo_large_conf else '-'}"


def _opensmile():
    """The openSMILE package, where it can be used: loaded after TensorFlow, it aborts the whole process (2.6.0)."""
    if "tensorflow" in sys.modules and "opensmile" not in sys.modules:
        raise RuntimeError("import opensmile before TensorFlow, or extract features in a process of its own")
    import opensmile

    return opensmile


@functools.lru_cache(maxsize=1)
def _smile(feature_set, config):
    """openSMILE, set up once per process."""
    opensmile = _opensmile()
    try:
        with warnings.catch_warnings():
            # eGeMAPSv01a has a successor; the features of this project are defined by v01a.
            warnings.simplefilter("ignore")
            if feature_set == "emo_large":
                return opensmile.Smile(config, opensmile.FeatureLevel.Functionals, loglevel=0)
            level = opensmile.FeatureLevel.LowLevelDescriptors
            return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv01a, level, loglevel=0)
    except Exception as error:  # openSMILE's own exceptions derive from Exception directly
        raise InputError(f"openSMILE cannot use the configuration of {feature_set} ({error})") from error


def feature_names(feature_set, config):
    """Column names of a feature set.

    Args:
        feature_set: one of FEATURE_SETS.
        config: from `feature_config`.

    Returns:
        Tuple of NUM_FEATURES[feature_set] names.

    Raises:
        InputError: openSMILE gives another number of features.
    """
    if feature_set == "none":
        return ()
    names = tuple(_smile(feature_set, config).feature_names)
    if feature_set == "egemaps_lld":
        names = tuple(f"{name}_mean" for name in names) + tuple(f"{name}_std" for name in names)
    if len(names) != NUM_FEATURES[feature_set]:
        raise InputError(
            f"{feature_set} gives {len(names)} features instead of {NUM_FEATURES[feature_set]}; "
            "not the configuration of the paper"
        )
    return names


def extract(signal, feature_set, config):
    """Features of one utterance.

    Args:
        signal: (T,) float32 mono at 16 kHz, from `read_wav`.
        feature_set: "egemaps_lld", mean and standard deviation over frames (ddof=1) of the 23 low-level descriptors of
            eGeMAPSv01a, or "emo_large", the paper's, with values up to 7e13: standardise them in float64.
        config: from `feature_config`.

    Returns:
        (A,) float32.

    Raises:
        InputError: openSMILE fails, the audio is too short for the feature set, or a feature is not finite.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too short audio is an error below
        smile = _smile(feature_set, config)
        try:
            frames = smile(signal, SAMPLE_RATE_HZ)[0].astype("float64")  # (F, frames)
        except Exception as error:  # see _smile
            raise InputError(f"openSMILE failed ({error})") from error
        if feature_set == "egemaps_lld":
            features = np.concatenate([frames.mean(axis=1), frames.std(axis=1, ddof=1)])
        else:
            features = frames[:, 0]
        features = features.astype("float32")
    if not np.isfinite(features).all():
        milliseconds = 1000 * len(signal) // SAMPLE_RATE_HZ
        raise InputError(
            f"{np.sum(~np.isfinite(features))} of {len(features)} features are not finite; "
            f"{milliseconds} ms are too short or damaged"
        )
    return features
