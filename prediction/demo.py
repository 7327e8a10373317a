"""A made-up conversation with its sound, to see what predict.py does without a recording of one's own.

Nothing in it comes from people: the words are written here, the voices synthesised as in the miniature corpus. The
checkpoint never heard such voices, so the words tell more than the sound.
"""

from pathlib import Path

import numpy as np
import soundfile

from data.audio import SAMPLE_RATE_HZ
from data.sample import VOICES, speak
from storage.files import InputError, made_folder, write_text

_PITCH_HZ = {"Ann": 205, "Bob": 120}
# Speaker, how lively the voice is, seconds until the other one begins, words.
_TURNS = (
    ("Ann", "middle", 0.4, "Excuse me, I am still waiting for my bag."),
    ("Bob", "middle", 0.3, "Do you have the ticket for it?"),
    ("Ann", "middle", 0.3, "I gave it to your colleague an hour ago."),
    ("Bob", "low", 0.5, "Then I am afraid that you have to fill out the form again."),
    ("Ann", "high", -0.2, "Again? I have filled out that form twice already!"),
    ("Bob", "middle", 0.2, "I am sorry, but without the form I cannot help you."),
    ("Ann", "high", 0.1, "This is ridiculous. Nobody here listens to me, I want to talk to somebody else!"),
    ("Bob", "low", 0.9, "Okay, okay."),
    ("Bob", "low", 0.6, "There is nobody else tonight, it is just me."),
    ("Ann", "low", 1.1, "My mother gave me that bag, it is all that I have left of her."),
    ("Ann", "low", 0.8, "[sighs]"),
    ("Bob", "low", 0.7, "I am so sorry, I lost my father last year."),
    ("Bob", "middle", 0.9, "Wait a minute, is it the old brown one over there?"),
    ("Ann", "high", 0.1, "Oh my god, yes, that is it!"),
    ("Ann", "high", 0.2, "Thank you, thank you so much, you are wonderful!"),
    ("Bob", "high", 0.3, "That is great, I am really happy for you!"),
)


def write(folder, seed=0):
    """Writes made-up.wav and made-up.vtt; the same seed gives the same bytes.

    Args:
        folder: where to; made if missing.
        seed: of the voices.

    Returns:
        The path of the wav file.

    Raises:
        InputError: the folder cannot be written.
    """
    folder, rng = made_folder(folder), np.random.default_rng(seed)
    cues, parts, time_s = ["WEBVTT"], [], 0.5
    for speaker, arousal, pause_s, words in _TURNS:
        duration_s = round(0.5 + 0.3 * len(words.split()) * {"high": 0.85, "middle": 1.0, "low": 1.25}[arousal], 2)
        parts.append((time_s, speak(rng, duration_s, _PITCH_HZ[speaker], **VOICES[arousal])))
        cues.append(f"{_clock(time_s)} --> {_clock(time_s + duration_s)}\n<v {speaker}>{words}</v>")
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


def _clock(seconds):
    return f"00:{int(seconds) // 60:02d}:{seconds % 60:06.3f}"
