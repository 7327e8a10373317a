"""Signals to feature vectors: openSMILE with the paper's feature set and two others, or an encoder of sound.

A feature set is one of FEATURE_SETS, or a `data.encoders.AudioEncoder`, which has its own names and vectors.
"""

import contextlib
import functools
import re
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


@contextlib.contextmanager
def feature_config(feature_set, emo_large_conf=None, folder=None):
    """Yields the argument `config` for `feature_names` and `extract`, which processes can share.

    openSMILE's licence forbids shipping emo_large.conf, and as it stands it reads files itself. Three edits, on a copy
    in a temporary folder, make it take our signal and hand back its features: its wave source goes from the list of
    components, that source's section becomes the external source, and the file output the external sink.

    Args:
        feature_set: one of FEATURE_SETS, or an encoder.
        emo_large_conf: the user's copy of openSMILE's config/misc/emo_large.conf; for "emo_large" alone.
        folder: where to put the edited copy; other machines may have to see it.

    Yields:
        "" or the path of the edited copy, which is there as long as the context is open.

    Raises:
        InputError: an unknown feature set, or a configuration file that is missing or is not emo_large.conf.
    """
    if isinstance(feature_set, str) and feature_set not in FEATURE_SETS:
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
    with tempfile.TemporaryDirectory(prefix="emo_large_", dir=folder) as folder:
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
    """What features depend on besides the wav file: the set, its version and the configuration's bytes; an encoder."""
    if not isinstance(feature_set, str):
        return feature_set.identity.model_dump_json()
    opensmile = _opensmile()
    return f"{feature_set} opensmile-{opensmile.__version__} {sha256(emo_large_conf) if emo_large_conf else '-'}"


def _opensmile():
    """The openSMILE package, where it can be used: loaded after TensorFlow, it aborts the whole process (2.6.0)."""
    if "tensorflow" in sys.modules and "opensmile" not in sys.modules:
        raise RuntimeError("import opensmile before TensorFlow, or extract features in a process of its own")
    import opensmile  # noqa: PLC0415 (see above)

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
        feature_set: one of FEATURE_SETS, or an encoder.
        config: from `feature_config`.

    Returns:
        Tuple of NUM_FEATURES[feature_set] names, or of the encoder's.

    Raises:
        InputError: openSMILE gives another number of features.
    """
    if not isinstance(feature_set, str):
        return feature_set.names
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
        signal: (T,) float32 mono at 16 kHz, from `data.sound.read_sound`.
        feature_set: "egemaps_lld", mean and standard deviation over frames (ddof=1) of the 23 low-level descriptors of
            eGeMAPSv01a; "emo_large", the paper's, with values up to 7e13: standardise them in float64; or an encoder.
        config: from `feature_config`.

    Returns:
        (A,) float32.

    Raises:
        InputError: openSMILE fails, the audio is too short for the feature set, or a feature is not finite.
    """
    if not isinstance(feature_set, str):
        return feature_set.extract(signal)
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
