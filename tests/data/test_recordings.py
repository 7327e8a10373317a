"""Rows that are stretches of recordings: cut as if by hand, by channel, from any format; and times beside the sound."""

import csv
import os
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import soundfile
from conftest import ROOT, run_script
from tiny_release import said, tone

from data.audio import extract, feature_config
from data.build import Options, prepare
from data.corpus import read_corpus
from data.extraction import extract_files
from data.sound import needs_ffmpeg, opened, prepared, read_sound
from data.table import read_table
from data.utterance import Sound
from storage.files import InputError

QUIET = Options(jobs=1, progress=False)
RATE_HZ = 16_000
HEADER = ["dialog", "utterance", "start_s", "end_s", "speaker", "transcript", "wav", "split", "vote:A"]
with_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def talk(seconds=6, channels=1, rate_hz=RATE_HZ):
    """(T, channels) float32: another pitch each second, and in each channel."""
    sounds = [[tone(110 + 17 * i + 41 * k, 1, rate_hz) for i in range(seconds)] for k in range(channels)]
    return np.stack([np.concatenate(one) for one in sounds], axis=1) / np.float32(32768)


def write_table(path, rows, header=HEADER):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def dialog(name, wav, split, times=((0, 1.2), (1.5, 3), (2.75, 5.9)), **more):
    """The rows of a dialog, by turns of two speakers."""
    return [
        [name, f"{name}_{i}", start_s, end_s, "AB"[i % 2], "words", wav, split, "calm" if i else "tense"]
        for i, (start_s, end_s) in enumerate(times)
    ]


def rows_of(*wavs):
    return [row for wav, part in zip(wavs, ("train", "dev", "test"), strict=True) for row in dialog(part, wav, part)]


def features(signal):
    with feature_config("egemaps_lld") as config:
        return extract(signal, "egemaps_lld", config)


def test_rows_are_cut_from_their_recording_as_if_by_hand(tmp_path):
    recordings = {name: talk(rate_hz=rate) for name, rate in (("a.wav", 16_000), ("b.flac", 44_100), ("c.mp3", 16_000))}
    for name, samples in recordings.items():
        soundfile.write(tmp_path / name, samples, 44_100 if name == "b.flac" else RATE_HZ)
    prepare(read_table(write_table(tmp_path / "t.csv", rows_of(*recordings))), tmp_path / "t.h5", QUIET)
    corpus = read_corpus(tmp_path / "t.h5")
    for row, one in enumerate(corpus.utterance_id):
        name = list(recordings)[("train", "dev", "test").index(corpus.split[row])]
        samples, rate_hz = soundfile.read(tmp_path / name, dtype="float32")
        if name == "c.mp3":  # exact from its beginning alone
            samples = read_sound(tmp_path / name)[0]
        stretch = samples[round(corpus.start_s[row] * rate_hz) : round(corpus.end_s[row] * rate_hz)]
        soundfile.write(tmp_path / "cut.wav", stretch, rate_hz, subtype="FLOAT")
        assert (corpus.audio[row] == features(read_sound(tmp_path / "cut.wav")[0])).all(), one


def test_a_recording_is_opened_once(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", talk(), RATE_HZ)
    seen = []
    monkeypatch.setattr("data.extraction.opened", lambda path, apart: seen.append(path) or opened(path, apart))
    prepare(read_table(write_table(tmp_path / "t.csv", rows_of(*["a.wav"] * 3))), tmp_path / "t.h5", QUIET)
    assert seen == [tmp_path / "a.wav"]


def test_a_channel_of_a_telephone_call(tmp_path):
    """A speaker on each side: every row takes its own."""
    both = talk(channels=2)
    soundfile.write(tmp_path / "call.wav", both, RATE_HZ)
    rows = [[*row, 1 + number % 2] for number, row in enumerate(rows_of(*["call.wav"] * 3))]
    prepare(read_table(write_table(tmp_path / "t.csv", rows, [*HEADER, "channel"])), tmp_path / "t.h5", QUIET)
    corpus = read_corpus(tmp_path / "t.h5")
    for row, (start_s, end_s) in enumerate(zip(corpus.start_s, corpus.end_s, strict=True)):
        stretch = both[round(start_s * RATE_HZ) : round(end_s * RATE_HZ), row % 2]
        soundfile.write(tmp_path / "cut.wav", stretch, RATE_HZ)
        assert (corpus.audio[row] == features(read_sound(tmp_path / "cut.wav")[0])).all()
    with opened(tmp_path / "call.wav") as call, pytest.raises(InputError, match="channel 3 is asked for, and it has 2"):
        call.signal(0, 1, 3)


@with_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.ogg", "a.opus", "a.webm", "a.wma", "a.amr.mka", "a.mov"])
def test_every_format_gives_the_same_talk(tmp_path, name):
    """A call on two channels, decoded by ffmpeg or soundfile: stretches are where they were, and each side apart."""
    both = talk(4, channels=2)
    soundfile.write(tmp_path / "a.wav", both, RATE_HZ)
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / "a.wav", "-y", tmp_path / name], check=True)
    with opened(tmp_path / "a.wav", True) as wav, opened(tmp_path / name, True) as other:
        assert abs(other.seconds - 4) < 0.15 and other.num_channels == 2
        for channel in (1, 2):
            expected, found = (one.signal(1.5, 2.5, channel)[0] for one in (wav, other))
            assert found.shape == expected.shape == (RATE_HZ,)
            spectra = [np.abs(np.fft.rfft(one * np.hanning(RATE_HZ)))[:400] for one in (expected, found)]
            assert np.corrcoef(*spectra)[0, 1] > 0.9


@with_ffmpeg
def test_rows_without_a_channel_are_the_same_whatever_is_done_already(tmp_path):
    """ffmpeg mixes channels, if no row of the file names one; another row that is done already still counts."""
    soundfile.write(tmp_path / "a.wav", talk(4, channels=2) * [1, 0.3], RATE_HZ)
    subprocess.run(["ffmpeg", "-v", "error", "-i", "a.wav", "call.m4a"], check=True, cwd=tmp_path)
    sounds = [Sound(tmp_path / "call.m4a", 1, 0.0, 2.0), Sound(tmp_path / "call.m4a", None, 2.0, 4.0)]
    cache, options = tmp_path / "cache.jsonl", {"feature_set": "egemaps_lld", "jobs": 1, "progress": False}
    whole, _ = extract_files(sounds, cache=cache, **options)
    first = cache.read_bytes().split(b"\n")[1]
    cache.write_bytes(first + b"\n")  # of the first row alone
    rest, _ = extract_files(sounds, cache=cache, **options)
    assert [(rest[one].features == whole[one].features).all() for one in sounds] == [True, True]
    # a name tells nothing of who decodes a file
    (tmp_path / "call.m4a").rename(tmp_path / "b.wav")
    assert needs_ffmpeg(tmp_path / "b.wav") and not needs_ffmpeg((tmp_path / "a.wav").rename(tmp_path / "a.mp4"))


@with_ffmpeg
@pytest.mark.parametrize("name", ["late.mkv", "gap.webm"])
def test_stretches_go_by_the_clock_of_the_file(tmp_path, name):
    """Sound that begins a second after the picture, or that pauses, as of a browser's recorder: silence fills it."""
    soundfile.write(tmp_path / "a.wav", talk(4), RATE_HZ)
    say = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    if name == "late.mkv":
        picture = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=5"]
        command = [*say, *picture, "-itsoffset", "1", "-i", "a.wav", "-map", "0:v", "-map", "1:a", name]
    else:
        command = [*say, "-i", "a.wav", "-af", "aselect='not(between(t,1,2))'", name]
    subprocess.run(command, check=True, cwd=tmp_path)
    shift_s = 1 if name == "late.mkv" else 0
    with opened(tmp_path / "a.wav") as wav, opened(tmp_path / name, by_clock=True) as other:
        assert abs(other.seconds - 4 - shift_s) < 0.15
        expected, found = wav.signal(2.5, 3.5)[0], other.signal(2.5 + shift_s, 3.5 + shift_s)[0]
        spectra = [np.abs(np.fft.rfft(one * np.hanning(RATE_HZ)))[:400] for one in (expected, found)]
        assert np.corrcoef(*spectra)[0, 1] > 0.9
        begin = 0.1 if shift_s else 1.2
        signal, note = other.signal(begin, begin + 0.6)
        assert not signal.any() and "its sound begins late or pauses, 1.0 s in all: silence is put there" in note
    with opened(tmp_path / name) as other:  # a clip of one utterance has no clock
        assert abs(other.seconds - 4 + (name == "gap.webm")) < 0.15


@pytest.mark.parametrize(
    "times, message",
    [
        (((0, 1), (1, "")), "line 3: no end_s; it is needed since other rows, too, are stretches of a.wav"),
        (((0, 1), (1, 1)), "line 3: a stretch of a.wav that ends where it starts, or before"),
        (((0, 1000), (1200, 3000)), "the times seem to be milliseconds; divide them by 1000"),
    ],
)
def test_stretches_that_are_none(tmp_path, times, message):
    soundfile.write(tmp_path / "a.wav", talk(3), RATE_HZ)
    rows = [row for part in ("train", "dev", "test") for row in dialog(part, "a.wav", part, times)]
    with pytest.raises(InputError, match=message):
        prepare(read_table(write_table(tmp_path / "t.csv", rows)), tmp_path / "t.h5", QUIET)
    assert not (tmp_path / "t.h5").exists()


def test_a_stretch_behind_the_end_is_left_out_by_name(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", talk(3), RATE_HZ)
    times = ((0, 1), (1.5, 3.25), (2.5, 4), (7, 8))
    rows = [row for part in ("train", "dev", "test") for row in dialog(part, "a.wav", part, times)]
    prepare(read_table(write_table(tmp_path / "t.csv", rows)), tmp_path / "t.h5", QUIET)
    printed = capsys.readouterr().out
    assert read_corpus(tmp_path / "t.h5").utterance_id.tolist() == [
        *("train_0", "train_1", "dev_0", "dev_1", "test_0", "test_1"),
    ]
    expected = f"train_2 ({tmp_path / 'a.wav'}: it ends at 3 s, and 2.5 to 4 s are asked for): left out"
    whole = (tmp_path / "t.h5.notes.txt").read_text()
    assert "note: 6 times: left out, without usable audio" in printed and "(all in " in printed
    assert expected in whole and whole.count("\n") == 7


def clips(folder, scale=1, ends=True, lengths=(1.0, 2.0, 1.5)):
    """A table of rows with a sound file each, times in units of 1 / scale seconds."""
    rows = []
    for part in ("train", "dev", "test"):
        start_s = 0.0
        for i, length in enumerate(lengths):
            name = f"{part}_{i}.wav"
            soundfile.write(folder / name, talk(2)[: round(length * RATE_HZ)], RATE_HZ)
            end = (start_s + length) * scale if ends else ""
            rows.append([part, f"{part}_{i}", start_s * scale, end, "A", "hi", name, part, "calm" if i else "tense"])
            start_s += length + 0.5
    return write_table(folder / "clips.csv", rows)


def test_without_an_end_the_sound_tells_it(tmp_path):
    for ends in (True, False):
        prepare(read_table(clips(tmp_path, ends=ends)), tmp_path / f"{ends}.h5", QUIET)
    with_ends, without = read_corpus(tmp_path / "True.h5"), read_corpus(tmp_path / "False.h5")
    np.testing.assert_allclose(with_ends.end_s, without.end_s, atol=1e-3)
    assert (with_ends.audio == without.audio).all()


@pytest.mark.parametrize("ends", [True, False])
def test_milliseconds_are_noticed(tmp_path, ends):
    with pytest.raises(InputError, match="clips.csv: .* the times seem to be milliseconds; divide them by 1000"):
        prepare(read_table(clips(tmp_path, 1000, ends)), tmp_path / "ms.h5", QUIET)
    with pytest.raises(InputError, match="milliseconds"):
        prepare(read_table(clips(tmp_path, 1000, ends)), tmp_path / "ms.h5", Options(audio="none"))
    assert not (tmp_path / "ms.h5").exists()


def test_a_row_that_is_far_from_its_sound_is_named(tmp_path, capsys):
    table = clips(tmp_path)
    soundfile.write(tmp_path / "dev_1.wav", talk(6), RATE_HZ)
    prepare(read_table(table), tmp_path / "t.h5", QUIET)
    assert "note: dev_1 (2 s, sound 6 s): its times and the length of its sound differ" in capsys.readouterr().out


def test_a_note_on_thousands_is_one_line(tmp_path, capsys):
    table = clips(tmp_path)
    for path in tmp_path.glob("*.wav"):
        soundfile.write(path, talk(1, rate_hz=8000), 8000)
    prepare(read_table(table), tmp_path / "t.h5", QUIET)
    lines = [line for line in capsys.readouterr().out.splitlines() if "resampled" in line]
    notes = tmp_path / "t.h5.notes.txt"
    sentence = "resampled from 8000 Hz, nothing above 4000 Hz; kept"
    assert lines == [f"note: 9 times: {sentence}; train_0, train_1, train_2, ... (all in {notes})"]
    assert f"test_2: {sentence}\n" in notes.read_text()
    prepare(read_table(table), tmp_path / "t.h5", Options(audio="none", overwrite=True))
    assert not notes.exists(), "nothing of it is left to say"


def test_an_hour_is_no_utterance(tmp_path):
    soundfile.write(tmp_path / "train_0.wav", np.zeros(RATE_HZ * 3600, "int16"), RATE_HZ)
    with pytest.raises(InputError, match="3600 s are no utterance \\(at most 600\\); if it is a dialog, each of its"):
        read_sound(tmp_path / "train_0.wav")


def test_three_hours_take_little_memory(tmp_path):
    """Without holes on disk: what is read is counted all the same."""
    path, seconds = tmp_path / "long.wav", 3 * 3600
    soundfile.write(path, np.zeros((16, 2), "int16"), 44_100)
    size = seconds * 44_100 * 4
    with open(path, "r+b") as file:
        file.seek(4)
        file.write((size + 36).to_bytes(4, "little"))
        file.seek(40)
        file.write(size.to_bytes(4, "little"))
        file.truncate(44 + size)
    code = (
        "import re, sys; from data.sound import opened\n"
        "with opened(sys.argv[1]) as recording:\n"
        "    for start_s in range(0, 10_800, 1800): recording.signal(start_s, start_s + 30)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"  # getrusage has the parent's
        "print(round(recording.seconds), int(peak) // 1024)"
    )
    done = run_script("-c", code, path)
    length, megabytes = map(int, done.stdout.split())
    assert length == seconds and megabytes < 400, done.stderr


def test_names_that_are_not_utf8(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    folder = os.fsdecode(folder)
    soundfile.write(os.fsencode(os.path.join(folder, "sound.wav")), talk(), RATE_HZ)
    table = os.path.join(folder, "t\udcff.csv")
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows_of(*["sound.wav"] * 3)])
    command = [sys.executable, "-m", "data.prepare", "table", "--table", table, "--out", os.path.join(folder, "o.h5")]
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run([*command, "--jobs", "1"], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode("ascii", "replace")
    assert b"Traceback" not in done.stderr and b"t\\ufffd, 46 audio features" in done.stdout
    assert read_corpus(os.path.join(folder, "o.h5")).name == "t\ufffd"


def test_addresses_and_windows_paths(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").write_bytes(b"")
    rows = rows_of("clips\\a.wav", "b.wav", "c.wav")
    assert read_table(write_table(tmp_path / "t.csv", rows)).utterances[0].sound.path == tmp_path / "clips" / "a.wav"
    rows = rows_of("https://example.org/a.wav", "b.wav", "c.wav")
    with pytest.raises(InputError, match="line 2: wav 'https://example.org/a.wav' is an address; fetch the file"):
        read_table(write_table(tmp_path / "t.csv", rows))
    source = read_table(write_table(tmp_path / "t.csv", rows), with_sound=False)
    assert source.utterances[0].sound is None and not any("http" in line for line in said(source.notes))


def test_one_recording_under_several_names_is_one(tmp_path):
    """Slashes of Windows, "./", an absolute path: rows of it are stretches, so each needs an end."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").write_bytes(b"")
    names = ("clips\\a.wav", "./clips/a.wav", str(tmp_path / "clips" / "a.wav"))
    table = tmp_path / "t.csv"
    write_table(table, [row[:3] + [""] + row[4:] for row in rows_of(*names)[::3]])
    with pytest.raises(InputError, match="line 2: no end_s; it is needed since other rows, too, are stretches of clip"):
        read_table(table, ("calm", "tense"))
    write_table(table, rows_of("a.wav", "so I said " * 30, "b.wav"))
    with pytest.raises(InputError, match="line 5: wav 'so I said .* cannot be looked up .File name too long"):
        read_table(table)
    (tmp_path / unicodedata.normalize("NFD", "é.wav")).write_bytes(b"")
    assert read_table(write_table(table, rows_of("é.wav", "b", "c"))).utterances[0].sound.path.exists()


def test_what_channels_are_averaged_is_said():
    """(samples of two channels, the note)."""
    heard, silent = np.full(100, 0.5, "float32"), np.zeros(100, "float32")
    for left, right, note in (
        (heard, heard, "2 channels averaged to one"),
        (heard, silent, "2 channels averaged to one, 1 of them silent"),
        (heard, -heard, "2 channels averaged to one, which cancel each other; silent, all samples are zero"),
        (silent, silent, "2 channels averaged to one; silent, all samples are zero"),
    ):
        assert prepared(np.stack([left, right], axis=1), 16000)[1] == note


def test_a_missing_file_whose_name_was_meant(tmp_path):
    (tmp_path / "U1.wav").write_bytes(b"")
    for name in ("u1.WAV", "u1", "u1.mp3"):
        with pytest.raises(InputError, match=f"{name}: missing; U1.wav is there"):
            read_sound(tmp_path / name)


def test_a_file_of_its_own_is_taken_whole(tmp_path):
    assert read_table(clips(tmp_path)).utterances[0].sound == Sound(tmp_path / "train_0.wav")
