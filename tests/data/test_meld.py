"""MELD: the release's quirks, its clips through ffmpeg, and the published totals."""

import csv
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from conftest import run_script
from tiny_release import said

from data.build import Options, prepare
from data.corpus import read_corpus
from data.fidelity import PUBLISHED_MELD, fidelity_table, find_numbers
from data.meld import CLIP_FOLDERS, EMOTIONS, read_meld
from data.sound import read_sound
from data.utterance import Sound
from storage.files import InputError

HEADER = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season"]
HEADER += ["Episode", "StartTime", "EndTime"]
# (words, speaker, emotion, dialog, utterance, start, end) of each part; the order in the file is not that of the ids.
PARTS = {
    "train": [
        ("No, it\x92s \x93mine\x94.", "Ann", "anger", 0, 1, "00:00:02,500", "00:00:04,000"),
        ("What?", "Bo", "surprise", 0, 0, "0:00:01,000", "00:00:02,28"),
        ("Oh, “that”…", "Bo", "neutral", 0, 3, "00:00:02,000", "00:00:03,000"),  # goes back in time
        ("Great!", "Ann", "joy", 10, 0, "00:01:00,000", "00:01:01,000"),
        ("Hi.", "Cy", "neutral", 9, 0, "01:00:00,000", "00:59:00,000"),  # ends before it starts
    ],
    "dev": [("Mm.", "Ann", "sadness", 0, 0, "00:00:01,000", "00:00:02,000")],
    "test": [
        ("Ugh.", "Ann", "disgust", 0, 0, "00:00:01,000", "00:00:02,000"),
        ("Help!", "Bo", "fear", 0, 1, "00:00:02,000", "00:00:03,000"),
    ],
}


def write_release(folder, parts=PARTS, header=HEADER):
    """The three CSV files; the train file has single Windows-1252 bytes, the others are UTF-8."""
    folder.mkdir(exist_ok=True)
    for part, rows in parts.items():
        with open(folder / f"{part}_sent_emo.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(header)
            for number, (words, speaker, emotion, dialog, turn, start, end) in enumerate(rows):
                writer.writerow([number, words, speaker, emotion, "neutral", dialog, turn, 1, 2, start, end])
    return folder


def test_rows_become_utterances(tmp_path):
    release = write_release(tmp_path / "release")
    train = release / "train_sent_emo.csv"
    train.write_bytes(train.read_bytes().replace("\x92".encode(), b"\x92"))  # one kind of remnant, and the other
    source = read_meld(release, with_clips=False)
    utterances = source.utterances
    assert [one.utterance_id for one in utterances] == [
        *("train_dia0_utt0", "train_dia0_utt1", "train_dia0_utt3", "train_dia9_utt0", "train_dia10_utt0"),
        *("dev_dia0_utt0", "test_dia0_utt0", "test_dia0_utt1"),
    ]
    assert [one.transcript for one in utterances[1:3]] == ["No, it’s “mine”.", "Oh, “that”…"]
    assert [(one.start_s, one.end_s) for one in utterances[:4]] == [
        *((1.0, 2.028), (2.5, 4.0), (2.5, 3.0), (3600.0, 3600.0)),
    ]
    assert [EMOTIONS[np.argmax(one.votes_external)] for one in utterances[:3]] == ["surprise", "anger", "neutral"]
    assert all(sum(one.votes_external) == 1 and not any(one.votes_self) for one in utterances)
    assert utterances[-1].sound == Sound(release / "output_repeated_splits_test" / "dia0_utt1.mp4")
    lines = "\n".join(said(source.notes))
    assert "1 bytes are not UTF-8" in lines and "2 control characters were Windows-1252 marks" in lines
    assert "train_dia0_utt3: starts before the utterance ahead of it" in lines
    assert "train_dia9_utt0: ends before it starts" in lines


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, "bliss", "train_sent_emo.csv, line 2: emotion 'bliss' is none of neutral, joy"),
        (3, "x", "line 2: Dialogue_ID 'x' is no number"),
        (4, 0, "line 3: dialog 0, utterance 0 is there already, in line 2"),
        (5, "soon", "line 2: StartTime 'soon' is no time such as 00:16:16,059"),
    ],
)
def test_mistakes_name_the_line(tmp_path, place, value, message):
    first = list(PARTS["train"][0])
    first[place] = value
    write_release(tmp_path, PARTS | {"train": [tuple(first), *PARTS["train"][1:]]})
    with pytest.raises(InputError, match=message):
        read_meld(tmp_path, with_clips=False)


def test_incomplete_releases_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_meld(tmp_path / "nowhere")
    write_release(tmp_path)
    with pytest.raises(InputError, match="train_splits: folder of clips missing; .* --audio none"):
        read_meld(tmp_path)
    write_release(tmp_path, {"dev": PARTS["dev"]}, [*HEADER[:-1], "End"])
    with pytest.raises(InputError, match="column 'EndTime' missing; it is not MELD's dev_sent_emo.csv"):
        read_meld(tmp_path, with_clips=False)
    (tmp_path / "test_sent_emo.csv").unlink()
    write_release(tmp_path, {"dev": PARTS["dev"]})
    with pytest.raises(InputError, match="test_sent_emo.csv: missing"):
        read_meld(tmp_path, with_clips=False)


def test_text_alone_needs_the_three_files(tmp_path):
    release, out = write_release(tmp_path / "release"), tmp_path / "meld.h5"
    (release / "train").mkdir()
    shutil.move(release / "train_sent_emo.csv", release / "train")  # as one of the raw release's archives unpacks
    done = run_script("-m", "data.prepare", "meld", "--release", release, "--out", out, "--audio", "none")
    assert done.returncode == 0, done.stderr
    assert "difference: train anger: 1 instead of 1109: training has other utterances" in done.stdout
    corpus = read_corpus(out)
    assert (corpus.name, corpus.emotions, corpus.audio.shape) == ("MELD", EMOTIONS, (8, 0))
    assert corpus.split.tolist() == ["train"] * 5 + ["dev"] + ["test"] * 2
    found = find_numbers(corpus)
    assert list(found) == list(PUBLISHED_MELD)
    wanted = {"utterances": 8, "dialogs": 5, "longest dialog (utterances)": 3, "train dialogs": 3, "train neutral": 2}
    assert wanted.items() <= found.items() and found["test fear"] == 1 and found["dev fear"] == 0


def test_the_published_totals_on_the_real_files(shared, tmp_path, capsys):
    prepare(read_meld(shared / "meld", False), tmp_path / "meld.h5", Options(audio="none"))
    assert "all 30 numbers are the published ones" in capsys.readouterr().out
    corpus = read_corpus(tmp_path / "meld.h5")
    assert not any("\x80" <= character <= "\x9f" for line in corpus.transcript for character in line)


def test_the_published_totals_add_up():
    for part, utterances, dialogs in (("train", 9989, 1038), ("dev", 1109, 114), ("test", 2610, 280)):
        assert sum(PUBLISHED_MELD[f"{part} {emotion}"] for emotion in EMOTIONS) == utterances
        assert PUBLISHED_MELD[f"{part} utterances"] == utterances and PUBLISHED_MELD[f"{part} dialogs"] == dialogs
    assert fidelity_table(PUBLISHED_MELD, PUBLISHED_MELD).endswith("all 30 numbers are the published ones")


def test_without_ffmpeg_it_says_so(tmp_path, monkeypatch, capsys):
    release = write_release(tmp_path / "release")
    for name in CLIP_FOLDERS.values():
        (release / name).mkdir()
    source = read_meld(release)
    for utterance in source.utterances:
        utterance.sound.path.write_bytes(b"\0\0\0\x18ftypmp42")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="ffmpeg is not installed.*or leave audio out with --audio none"):
        prepare(source, tmp_path / "meld.h5", Options(jobs=1, progress=False))
    assert not (tmp_path / "meld.h5").exists()
    soundfile.write(source.utterances[0].sound.path, np.sin(np.arange(16000) / 20), 16000, format="WAV")
    prepare(source, tmp_path / "meld.h5", Options(jobs=1, progress=False))  # one can be read: the others are named
    assert "7 files failed" in capsys.readouterr().out


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def write_clip(path, hz=220, sound=True):
    """A video of 0.6 s with stereo sound at 44.1 kHz."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=c=black:s=32x32:r=10:d=0.6"]
    if sound:
        command += ["-f", "lavfi", "-i", f"sine=frequency={hz}:sample_rate=44100:duration=0.6", "-ac", "2"]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "-y", path], check=True)


@needs_ffmpeg
def test_clips_become_the_signal_that_they_hold(tmp_path):
    for name in ("clip.mp4", "-o.mp4", "concat:a.mp4"):  # names that a careless command line would misread
        write_clip(tmp_path / "good.mp4")
        shutil.copy(tmp_path / "good.mp4", tmp_path / name)
        signal, note = read_sound(tmp_path / name)
        assert note is None and abs(len(signal) / 16_000 - 0.6) < 0.1
        spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
        assert abs(spectrum.argmax() * 16_000 / len(signal) - 220) < 3
    write_clip(tmp_path / "mute.mp4", sound=False)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:400])
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'good.mp4'}\n#EXT-X-ENDLIST\n")
    (tmp_path / "pointer.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    for name, message in (
        ("mute.mp4", "no sound in it, as in a video without an audio track"),
        ("broken.mp4", "no sound file that is known, damaged or cut off"),
        ("list.m3u8", "a playlist, not sound"),
        ("pointer.mp4", "a pointer of Git LFS, not the file; fetch it with 'git lfs pull'"),
    ):
        with pytest.raises(InputError, match=f"{name}: {message}") as caught:
            read_sound(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="nothing.mp4: missing"):
        read_sound(tmp_path / "nothing.mp4")


@needs_ffmpeg
def test_the_command_prepares_clips(tmp_path):
    release, out = write_release(tmp_path / "release"), tmp_path / "meld.h5"
    for number, one in enumerate(read_meld(release, with_clips=False).utterances):
        write_clip(one.sound.path, hz=150 + 40 * number)
    (release / CLIP_FOLDERS["train"] / "dia0_utt1.mp4").unlink()
    (release / CLIP_FOLDERS["test"] / "dia0_utt0.mp4").write_bytes(b"no film")
    command = ("-m", "data.prepare", "meld", "--release", release, "--out", out, "--jobs", "1")
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    kept = "no usable audio; kept with the training mean of each feature"
    missing = release / "train_splits" / "dia0_utt1.mp4"
    assert f"note: train_dia0_utt1 ({missing}: missing): {kept}" in done.stdout
    assert "test_dia0_utt0 (" in done.stdout and "2 files failed" in done.stdout
    corpus = read_corpus(out)
    assert 3600.5 < corpus.end_s[3] < 3600.7, "its clip tells its length"
    assert corpus.audio.shape == (8, 46) and corpus.audio_feature_set == "egemaps_lld"
    np.testing.assert_allclose(corpus.audio[1], corpus.audio[[0, 2, 3, 4]].mean(axis=0), rtol=1e-4)
    assert (corpus.audio[6] == corpus.audio[1]).all() and not (corpus.audio[7] == corpus.audio[1]).all()
    done = run_script(*command, "--without-audio", "skip", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "test_dia0_utt0 (" in done.stdout and "left out, without usable audio" in done.stdout
    assert len(read_corpus(out)) == 6 and "6/6" not in done.stderr
