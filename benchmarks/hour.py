"""predict.py on an hour of made-up talk, and on an archive: seconds, and the memory of all its processes together."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import soundfile

from data.audio import SAMPLE_RATE_HZ
from data.sample import VOICES, speak

ROOT = Path(__file__).resolve().parents[1]
_WORDS = "i do not know what you want from me you never listen we won the big game it is fine okay well maybe"
_ARCHIVE = (8, 300)  # recordings, seconds of each


def write_talk(path, seconds, seed=0):
    """A recording of two made-up speakers in turn, an utterance each four seconds, and its transcript beside it."""
    rng = np.random.default_rng(seed)
    voices = [[speak(rng, 30, pitch_hz, **voice) for voice in VOICES.values()] for pitch_hz in (205, 120)]
    signal, rows = np.zeros(seconds * SAMPLE_RATE_HZ, "int16"), ["start,end,speaker,text\n"]
    for number in range(seconds // 4):
        first, length = 4 * number * SAMPLE_RATE_HZ, int(rng.uniform(2.4, 4) * SAMPLE_RATE_HZ)
        voice = voices[number % 2][rng.integers(len(VOICES))]
        begin = rng.integers(len(voice) - length)
        signal[first : first + length] = voice[begin : begin + length]
        words = " ".join(rng.choice(_WORDS.split(), rng.integers(2, 20)))
        rows.append(f"{4 * number},{4 * number + length / SAMPLE_RATE_HZ:.2f},{'AB'[number % 2]},{words}\n")
    soundfile.write(path, signal, SAMPLE_RATE_HZ)
    path.with_suffix(".csv").write_text("".join(rows), encoding="utf-8")


def predict_hour():
    """The hour as its user runs it, and an archive of shorter recordings on all cores; start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        talk, archive = Path(folder) / "talk.wav", Path(folder) / "archive"
        write_talk(talk, 3600)
        seconds, memory = _run(talk)
        archive.mkdir()
        num, each_s = _ARCHIVE
        for number in range(num):
            write_talk(archive / f"{number}.wav", each_s, number)
        archive_s, _ = _run(archive)
    rate = num * each_s / archive_s / joblib.cpu_count()
    return {"hour_s": seconds, "hour_memory_mib": memory, "archive_s_per_core_s": rate}


def _run(path):
    """(seconds, MiB of all processes at their most)."""
    before, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, ROOT / "predict.py", path, "--no-progress"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, sum(map(_memory_kib, _tree(process.pid))))
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"predict.py {path.name} failed")
    return time.perf_counter() - before, most / 1024


def _tree(process):
    """A process and all that it started."""
    found = [process]
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            for child in path.read_text().split():
                found += _tree(int(child))
        except OSError:
            continue  # ended meanwhile
    return found


def _memory_kib(process):
    """What is its own of a process's memory, and its part of what it shares."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (OSError, ValueError):
        return 0  # ended meanwhile
