"""The miniature corpus: a made-up release in IEMOCAP's own layout, for a run of the whole job without the real one.

Nothing in it comes from people: the sentences are written here, the voices are synthesised, the raters are random
numbers. What it has in common with IEMOCAP is the layout on disk, the quirks of its files and the structure that the
paper relies on:
- the words tell the subject (trouble, joy or everyday), the voice tells the arousal (high, middle, low), and only both
  together tell the emotion;
- an emotion lasts within a dialog, so the context helps where the words say nothing or the voice is faint;
- three raters and sometimes the speaker disagree so that about 24 % of the labels tie, as in IEMOCAP.

The same seed gives the same bytes.
"""

import shutil
import tomllib
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from data.audio import SAMPLE_RATE_HZ
from data.iemocap import EMOTION_OF_TAG, SESSIONS
from storage.files import InputError, named

NAME = "miniature (made up)"

CONTENT = tomllib.loads((Path(__file__).parent / "sample.toml").read_text(encoding="utf-8"))
_CUES, _SUBJECTS, VOICES = CONTENT["cues"], CONTENT["subjects"], CONTENT["voices"]
_MAIN = tuple(_CUES)
_SHORTEST_DIALOG, _LONGEST_DIALOG = 7, 12  # utterances
_PERSISTENCE = 0.94  # chance that an utterance has its dialog's prevailing emotion
_EMPTY_WORDS = 0.12  # chance that the words say nothing of the subject
_PLAIN_WORDS = 0.3  # chance that they name the emotion
_FAINT_VOICE = 0.12  # chance that the voice does not show the arousal
_DIVISIVE = 0.30  # chance that each rater hears another emotion; this makes most of the ties
_AGREEMENT, _SECOND_TAG, _SELF_REPORT = 0.85, 0.06, 0.25  # chances per rater, else

_PITCH_HZ = {"F": 205, "M": 120}
_BANDWIDTHS_HZ = (80, 110, 160)
_TAG_OF_EMOTION = {emotion: tag for tag, emotion in EMOTION_OF_TAG.items()}


@dataclass(frozen=True)
class _Turn:
    utterance_id: str
    gender: str
    start_s: float
    end_s: float
    words: str
    tags: tuple  # ((rater, (tag, ...)), ...)
    emotion: str
    arousal: str


_README = "A made-up miniature in the layout of the IEMOCAP release, seed {}. Not the IEMOCAP corpus.\n"


def write_release(folder, seed=0):
    """Writes the made-up release.

    Args:
        folder: where IEMOCAP_full_release shall be made; made with its parents if missing.
        seed: another seed gives another corpus.

    Returns:
        The path of IEMOCAP_full_release.

    Raises:
        InputError: another release is there already, or the folder cannot be written.
    """
    release = Path(folder) / "IEMOCAP_full_release"
    if release.exists():
        readme = release / "README.txt"
        if readme.is_file() and readme.read_bytes() == _README.format(seed).encode():
            return release  # of a command that was stopped later on
        raise InputError(f"{release}: there already; give another folder for the made-up release")
    begun = release.with_name(f".{release.name}")
    with named(release, "cannot be written"):
        shutil.rmtree(begun, ignore_errors=True)
        _write_sessions(begun, seed)
        begun.rename(release)
    return release


def _write_sessions(release, seed):
    """All files of the release; each session has its own random numbers."""
    for session in SESSIONS:
        rng = np.random.default_rng([seed, session])
        pitch_hz = {gender: base * rng.uniform(0.9, 1.1) for gender, base in _PITCH_HZ.items()}
        prevailing = rng.permutation(CONTENT["prevailing"])
        for name, emotion in zip(CONTENT["dialogs"], prevailing, strict=True):
            dialog_id = f"Ses0{session}{name}"
            turns = _dialog(rng, dialog_id, str(emotion))
            _write_dialog(release / f"Session{session}", dialog_id, turns, rng, pitch_hz)
    _write(release / "README.txt", _README.format(seed))


def _dialog(rng, dialog_id, prevailing):
    """The turns of one dialog, in time order; the speakers alternate."""
    turns, time_s, count = [], rng.uniform(1, 5), {"F": 0, "M": 0}
    for position in range(rng.integers(_SHORTEST_DIALOG, _LONGEST_DIALOG, endpoint=True)):
        gender = "FM"[(position + dialog_id.endswith("a")) % 2]
        emotion = prevailing if rng.random() < _PERSISTENCE else str(rng.choice(_MAIN))
        subject, arousal = _CUES[emotion]
        subject = emotion if rng.random() < _PLAIN_WORDS else subject
        subject = "nothing" if rng.random() < _EMPTY_WORDS else subject
        arousal = "middle" if rng.random() < _FAINT_VOICE else arousal
        duration_s = round(rng.uniform(1.0, 2.0), 4)
        lists = (CONTENT["openings"], _SUBJECTS[subject], CONTENT["endings"])
        words = " ".join(filter(None, [rng.choice(one) for one in lists]))
        turns.append(
            _Turn(
                utterance_id=f"{dialog_id}_{gender}{count[gender]:03d}",
                gender=gender,
                start_s=time_s,
                end_s=time_s + duration_s,
                words=words[0].upper() + words[1:] + str(rng.choice([".", ".", "!", "?"])),
                tags=_ratings(rng, emotion, gender),
                emotion=emotion,
                arousal=arousal,
            )
        )
        count[gender] += 1
        time_s += duration_s + rng.uniform(-0.3, 0.8)  # people interrupt each other
    return turns


def _ratings(rng, emotion, gender):
    """((rater, tags), ...): three external raters, and sometimes the speaker, who may leave his line empty."""
    heard = [_heard(rng, emotion) for _ in range(3)]
    if rng.random() < _DIVISIVE:
        heard = [emotion, *rng.choice([name for name in _MAIN if name != emotion], 2, replace=False)]
        heard = rng.permutation(heard)
    ratings = [(f"C-E{number}", _tags(rng, str(name))) for number, name in zip((2, 3, 4), heard, strict=True)]
    if rng.random() < _SELF_REPORT:
        ratings.append((f"C-{gender}1", _tags(rng, emotion) if rng.random() > 0.05 else ()))
    return tuple(ratings)


def _heard(rng, emotion):
    """The emotion that one rater hears."""
    if rng.random() < _AGREEMENT:
        return emotion
    return str(rng.choice(CONTENT["rare"] if rng.random() < 0.3 else [name for name in _MAIN if name != emotion]))


def _tags(rng, first):
    """One rater's tags: what he hears, rarely with a second emotion."""
    tags = [first]
    if rng.random() < _SECOND_TAG:
        tags.append(str(rng.choice([name for name in _MAIN if name != first])))
    return tuple(_TAG_OF_EMOTION[tag] for tag in tags)


def _write_dialog(session_folder, dialog_id, turns, rng, pitch_hz):
    """Writes one dialog's ratings, transcription and wav files, and the files beside them that are not read."""
    ratings = session_folder / "dialog" / "EmoEvaluation"
    # As in the release: one speaker's turns first, then the other's.
    by_speaker = sorted(turns, key=lambda turn: (turn.gender, turn.start_s))
    _write(
        ratings / f"{dialog_id}.txt",
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(map(_block, by_speaker)),
    )
    for folder, suffix in (("Categorical", "e2_cat"), ("Attribute", "e2_atr"), ("Self-evaluation", "f1_cat")):
        _write(ratings / folder / f"{dialog_id}_{suffix}.txt", f"{turns[0].utterance_id} :Other; ()\n")
    lines = [f"{turn.utterance_id} [{turn.start_s:08.4f}-{turn.end_s:08.4f}]: {turn.words}" for turn in turns]
    end_s = turns[-1].end_s
    lines += [
        "M: Yeah.",
        "F:Umm.",
        f"{dialog_id}_FXX0 [{end_s:08.4f}-{end_s + 1:08.4f}]: Hm.",
        f"{dialog_id}_MXX1 [{end_s:08.4f}-{end_s + 2:08.4f}]: Oh.",
    ]
    _write(session_folder / "dialog" / "transcriptions" / f"{dialog_id}.txt", "\n".join(lines) + "\n")
    wavs = session_folder / "sentences" / "wav" / dialog_id
    wavs.mkdir(parents=True, exist_ok=True)
    for turn in turns:
        signal = speak(rng, turn.end_s - turn.start_s, pitch_hz[turn.gender], **VOICES[turn.arousal])
        with wave.open(str(wavs / f"{turn.utterance_id}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(signal.astype("<i2").tobytes())


def _block(turn):
    """An EmoEvaluation block: header, categorical lines, attribute lines, empty line."""
    code = turn.emotion[:3]  # IEMOCAP's own: neu, exc, sad, fru, hap, ang
    lines = [f"[{turn.start_s:.4f} - {turn.end_s:.4f}]\t{turn.utterance_id}\t{code}\t[2.5000, 2.5000, 2.5000]"]
    for rater, tags in turn.tags:
        lines.append(f"{rater}:\t{'; '.join(tags)};\t()" if tags else f"{rater}:\t;\t()")
    lines += [f"{rater.replace('C-', 'A-')}:\tval 3; act 3; dom  3;\t()" for rater, _ in turn.tags]
    return "\n".join(lines) + "\n"


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def speak(rng, duration_s, pitch_hz, pitch, movement, level_db, syllables_hz, brightness):
    """A speech-like signal: a pulse train through vowel resonances, one vowel a syllable, with noise between them.

    Args:
        duration_s: length in seconds.
        pitch_hz: the speaker's usual pitch.
        pitch, movement: factor on it, and how far it moves around that.
        level_db: level of the loudest part relative to full scale.
        syllables_hz: syllables per second.
        brightness: coefficient of the low-pass on the pulses; nearer to 1 is duller.

    Returns:
        (T,) float array of whole numbers that fit 16 bits.
    """
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    syllables_hz = syllables_hz * rng.uniform(0.9, 1.1)
    contour = 1 + movement * np.sin(2 * np.pi * (0.7 * time_s + rng.random())) - 0.08 * time_s / duration_s
    cycles = np.cumsum(pitch_hz * pitch * rng.uniform(0.94, 1.06) * contour) / SAMPLE_RATE_HZ
    pulses = np.diff(np.floor(cycles), prepend=0.0)
    source = lfilter([1 - brightness], [1, -brightness], pulses + 0.002 * rng.standard_normal(num_samples))
    syllable = np.floor(time_s * syllables_hz).astype(int)
    vowels = rng.integers(len(CONTENT["vowels_hz"]), size=syllable[-1] + 1)
    voiced = np.zeros(num_samples)
    for vowel, formants_hz in enumerate(CONTENT["vowels_hz"]):
        here = vowels[syllable] == vowel
        voiced += here * _resonate(source * here, formants_hz)
    loudness = np.sin(np.pi * (time_s * syllables_hz % 1)) ** 0.7
    voiced *= loudness / (np.abs(voiced).max() + 1e-9)
    hiss = 0.02 * rng.standard_normal(num_samples) * (1 - loudness)
    level = 10 ** ((level_db + rng.uniform(-3, 3)) / 20)
    return np.round(32767 * np.clip(level * (voiced + hiss) + 1e-4 * rng.standard_normal(num_samples), -1, 1))


def _resonate(source, formants_hz):
    """The source through a chain of two-pole resonators."""
    for formant_hz, bandwidth_hz in zip(formants_hz, _BANDWIDTHS_HZ, strict=True):
        radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
        angle = 2 * np.pi * formant_hz / SAMPLE_RATE_HZ
        source = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
    return source
