"""A made-up conversation with its sound, to see what predict.py does without a recording of one's own.

Nothing in it comes from people: the words are written in data/sample.toml, the voices synthesised as in the miniature
corpus. The checkpoint never heard such voices, so the words tell more than the sound.
"""

from pathlib import Path

import numpy as np
import soundfile

from data.audio import SAMPLE_RATE_HZ
from data.sample import CONTENT, VOICES, speak
from prediction.output import clock
from storage.files import InputError, made_folder, write_text

_PITCH_HZ = {"Ann": 205, "Bob": 120}


def write(folder):
    """Writes made-up.wav and made-up.vtt, the same bytes each time.

    Args:
        folder: where to; made if missing.

    Returns:
        The path of the wav file.

    Raises:
        InputError: the folder cannot be written.
    """
    folder, rng = made_folder(folder), np.random.default_rng(0)
    cues, parts, time_s = ["WEBVTT"], [], 0.5
    for speaker, arousal, pause_s, words in CONTENT["demo"]["turns"]:
        duration_s = round(0.5 + 0.3 * len(words.split()) * {"high": 0.85, "middle": 1.0, "low": 1.25}[arousal], 2)
        parts.append((time_s, speak(rng, duration_s, _PITCH_HZ[speaker], **VOICES[arousal])))
        cues.append(f"{clock(time_s)} --> {clock(time_s + duration_s)}\n<v {speaker}>{words}</v>")
        time_s = round(time_s + duration_s + pause_s, 2)
    signal = np.zeros(round((time_s + 0.5) * SAMPLE_RATE_HZ))
    for start_s, voice in parts:
        first = round(start_s * SAMPLE_RATE_HZ)
        signal[first : first + len(voice)] += voice
    path = Path(folder) / "made-up.wav"
    try:
        soundfile.write(path, np.clip(signal, -32768, 32767).astype("int16"), SAMPLE_RATE_HZ)
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    write_text(path.with_suffix(".vtt"), "\n\n".join(cues) + "\n")
    return path
