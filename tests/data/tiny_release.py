"""A release of ten utterances for the tests: two turns of one dialog in each session, every file a few lines."""

import wave

import numpy as np

from data.iemocap import SESSIONS

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def block(
    utterance_id, start_s=1.0, end_s=2.5, raters=("C-E2:\tNeutral;\t()", "C-E3:\tAnger;\t()", "C-E4:\tNeutral;\t()")
):
    """One EmoEvaluation block."""
    return "\n".join(
        [
            f"[{start_s:.4f} - {end_s:.4f}]\t{utterance_id}\tneu\t[2.5000, 2.5000, 2.5000]",
            *raters,
            "A-E3:\tval 3; act 2; dom  2;\t()",
            "",
            "",
        ]
    )


def tone(hz=150, seconds=0.3, rate_hz=16_000):
    """(T,) int16 pulses with some noise, enough for every descriptor to be finite."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(size=len(time_s))
    return (9000 * np.sign(np.sin(2 * np.pi * hz * time_s)) + 300 * noise).astype("<i2")


def write_wav(path, samples, rate_hz=16_000, channels=1):
    """Writes 16-bit PCM; `samples` interleave the channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def write_dialog(release, dialog_id, ratings, turns, utterance_ids):
    """One dialog's files from their texts."""
    session = release / f"Session{dialog_id[4]}"
    for folder, text in (("EmoEvaluation", ratings), ("transcriptions", turns)):
        path = session / "dialog" / folder / f"{dialog_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    for number, utterance_id in enumerate(utterance_ids):
        write_wav(
            session / "sentences" / "wav" / dialog_id / f"{utterance_id}.wav",
            tone(100 + 20 * int(dialog_id[4]) + 7 * number, seconds=1),
        )


def write_tiny_release(folder, sessions=SESSIONS):
    """Writes the release and returns its folder; sessions are written in the order given."""
    release = folder / "IEMOCAP_full_release"
    for session in sessions:
        dialog_id = f"Ses0{session}F_impro01"
        first, second = f"{dialog_id}_F000", f"{dialog_id}_M000"
        ratings = HEADER + block(second, 0.5, 1.5) + block(first, 1.0, 2.5)
        turns = f"{second} [000.5000-001.5000]: Good day.\n{first} [001.0000-002.5000]: Excuse me.\nM: Yeah.\n"
        write_dialog(release, dialog_id, ratings, turns, [first, second])
    return release


def folder_bytes(folder):
    """{relative path: bytes} of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def said(notes):
    """The notes of a reader as lines."""
    return [
        line for sentence, about in notes.items() for line in ([f"{one}: {sentence}" for one in about] or [sentence])
    ]
