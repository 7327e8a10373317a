"""predict.py on one conversation: answers equal the checkpoint's on the same words and sound, and files agree."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import webvtt
from conftest import said_by
from made_up import EMOTIONS, TALK, command_of, made_up_corpus, read_csv, write_checkpoint, write_talk

import predict
from checkpoint import load_checkpoint
from data.audio import extract
from data.sound import opened
from data.task import Task
from data.utterance import Utterance
from prediction import archive, conversation, output, sound
from prediction.dialog import write_dialog
from storage.files import InputError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained")


@pytest.fixture
def command(monkeypatch, checkpoint, capsys):
    return command_of(checkpoint, monkeypatch, capsys)


def shares_of(rows):
    return np.array([[float(row[name]) for name in EMOTIONS] for row in rows if row["rests_on"] != "nothing"])


def expected_shares(checkpoint, signal, words=True, heard=True):
    """What the checkpoint says of TALK, by hand, without its last utterance, which has neither words nor sound."""
    recogniser = load_checkpoint(checkpoint)
    features = []
    for start_s, end_s, *_ in TALK[:6]:
        piece = signal[round(16000 * start_s) : round(16000 * end_s)]
        features.append(extract(piece, "egemaps_lld", "") if heard and end_s - start_s > 0.1 else np.full(46, np.nan))
    texts = [text.replace("[laughter]", " ") if words else "" for *_, text in TALK[:6]]
    times = np.array([one[:2] for one in TALK[:6]])
    return recogniser.predict_dialog(texts, np.array(features), [one[2] for one in TALK[:6]], *times.T)


def test_answers_equal_the_checkpoints_and_files_agree(command, checkpoint, tmp_path, untraced):
    wav = write_talk(tmp_path)
    status, printed = command(wav)
    out = tmp_path / "emotions"
    assert status == 0 and sorted(path.name for path in out.iterdir()) == [
        f"talk{suffix}" for suffix in sorted(conversation.SUFFIXES)
    ]
    rows = read_csv(out / "talk.csv")
    signal, _ = soundfile.read(wav, dtype="float32")
    np.testing.assert_allclose(shares_of(rows), expected_shares(checkpoint, signal), atol=2e-6)
    assert [row["rests_on"] for row in rows] == [
        "words+sound", "sound", "sound", "sound", "words+sound", "words", "nothing",
    ]  # fmt: skip
    assert [row["transcript"] for row in rows] == [one[3] for one in TALK] and rows[6]["top"] == rows[6]["fear"] == ""
    for row, shares in zip(rows, shares_of(rows), strict=False):
        assert row["top"] == EMOTIONS[shares.argmax()] and float(row["top_share"]) == shares.max()
        assert float(row["entropy_bits"]) == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-3)
    answer = json.loads((out / "talk.json").read_text("utf-8"))
    assert (answer["format"], answer["format_version"], tuple(answer["emotions"])) == ("mcaf-prediction", 1, EMOTIONS)
    for row, one in zip(rows, answer["utterances"], strict=True):
        assert all(
            str(one[name] or "") == row[name] for name in ("utterance", "speaker", "transcript", "rests_on", "top")
        )
        assert one["shares"] is None or shares_of([row])[0].tolist() == one["shares"]
    assert answer["checkpoint"]["name"] == "untrained" and len(answer["checkpoint"]["sha256"]) == 64
    notes = {one["note"]: one["utterances"] for one in answer["notes"]}
    assert notes.pop("no text") == ["0003"] and notes.pop("answered from the words alone") == ["0006"]
    assert notes.pop("overlap with another speaker, and the sound holds both voices") == ["0004", "0005"]
    assert notes.pop("nothing to answer from, hence no answer") == ["0007"]
    assert notes.pop("answered from the sound alone") == ["0002", "0003", "0004"]
    assert notes.pop("sounds in brackets, such as [laughter]: not read as words") == ["0004", "0007"]
    assert (
        notes.pop("no usable sound (shorter than 60 ms)") == ["0006", "0007"]
        and list(notes) == ["42 % of the words are unknown to the checkpoint; is this another language than its own?"]
        and "note: 1 utterance (0003): no text" in printed
    )
    cues = webvtt.read(out / "talk.emotions.vtt").captions
    assert [cue.voice for cue in cues] == [one[2] for one in TALK]
    assert (
        cues[4].text
        == f"bad &lt;script&gt;alert(1)&lt;/script&gt; &amp; good [{rows[4]['top']} {float(rows[4]['top_share']):.0%}]"
    )
    # words alone, sound alone: other answers, from the same checkpoint
    status, printed = command(tmp_path / "talk.csv", "--audio", "none", "--out", tmp_path / "words")
    alone = read_csv(tmp_path / "words" / "talk.csv")
    assert [row["rests_on"] for row in alone] == ["words", *["nothing"] * 3, "words", "words", "nothing"]
    assert "no sound is read" in printed
    recogniser = load_checkpoint(checkpoint)
    some = [TALK[i] for i in (0, 4, 5)]
    times = np.array([one[:2] for one in some]).T
    wanted = recogniser.predict_dialog(
        [one[3] for one in some], np.full((3, 46), np.nan), [one[2] for one in some], *times
    )
    np.testing.assert_allclose(shares_of(alone), wanted, atol=2e-6)
    (tmp_path / "talk.csv").write_text("start,end,speaker,text\n" + "".join(f"{a},{b},{c},\n" for a, b, c, _ in TALK))
    command(wav)
    heard = read_csv(out / "talk.csv")
    assert [row["rests_on"] for row in heard] == [*["sound"] * 5, "nothing", "nothing"]
    np.testing.assert_allclose(shares_of(heard), expected_shares(checkpoint, signal, words=False)[:5], atol=2e-6)


def test_a_speaker_on_each_channel(command, checkpoint, tmp_path, untraced):
    """Features of Ann come from the first channel alone; without names the channels are averaged, with a note."""
    wav = write_talk(tmp_path, channels=2)
    signal, _ = soundfile.read(wav, dtype="float32")
    status, printed = command(wav, "--speaker-channels", "Ann", "Bob")
    spans = [(start_s, end_s, 1 + (speaker == "Bob")) for start_s, end_s, speaker, _ in TALK[:5]]
    with opened(wav) as recording:
        features, said, _ = sound.features_of(recording, spans, "egemaps_lld", jobs=1, progress=False)
    for (start_s, end_s, channel), row in zip(spans, features, strict=True):
        piece = signal[round(16000 * start_s) : round(16000 * end_s), channel - 1]
        np.testing.assert_allclose(row, extract(piece, "egemaps_lld", ""), rtol=1e-6)
    apart = shares_of(read_csv(tmp_path / "emotions" / "talk.csv"))
    assert said == [None] * 5 and "channels" not in printed and "both voices" not in printed
    status, printed = command(wav)
    mixed = shares_of(read_csv(tmp_path / "emotions" / "talk.csv"))
    assert "2 channels are averaged; --speaker-channels takes them apart" in printed
    np.testing.assert_allclose(mixed, expected_shares(checkpoint, signal.mean(axis=1)), atol=2e-6)
    assert np.abs(apart - mixed).max() > 1e-4
    wav.rename(tmp_path / "call.wav")
    segments = [{"start": start_s, "end": end_s, "text": text} for start_s, end_s, _, text in TALK[:5]]
    (tmp_path / "call.json").write_text(json.dumps({"segments": segments}))  # as whisper has it, without speakers
    status, printed = command(tmp_path / "call.wav", "--speaker-channels", "Ann", "Bob")
    found = [row["speaker"] for row in read_csv(tmp_path / "emotions" / "call.csv")]
    assert found == [speaker for _, _, speaker, _ in TALK[:5]]
    assert "given to the channel that is loudest at its time" in printed and "one speaker" not in printed
    for names, said in (
        (("Ann", "Ann"), "a name is there twice"),
        (("Ann",), "2 channels, --speaker-channels names 1"),
        (("Ann", "Eve"), "no utterance of 'Eve'"),
    ):
        with pytest.raises(InputError, match=said):
            command(tmp_path / "call.wav", "--transcript", tmp_path / "talk.csv", "--speaker-channels", *names)


def test_other_files_and_rates(command, tmp_path):
    """A FLAC file at 48 kHz is read as it is; what only ffmpeg reads is decoded once; times past the end."""
    wav = write_talk(tmp_path)
    signal, _ = soundfile.read(wav)
    soundfile.write(tmp_path / "talk.flac", np.repeat(signal, 3), 48000)
    command(wav, "--out", tmp_path / "a")
    command(tmp_path / "talk.flac", "--out", tmp_path / "b")
    first, second = (read_csv(tmp_path / one / "talk.csv") for one in "ab")
    assert [row["rests_on"] for row in first] == [row["rests_on"] for row in second]
    assert np.abs(shares_of(first) - shares_of(second)).max() < 0.2
    soundfile.write(tmp_path / "talk.wav", signal[: 16000 * 5], 16000)
    _, printed = command(wav)
    assert "2 utterances (0006, 0007): start after the recording ends (5.0 s)" in printed or "0005" in printed
    assert "end after the recording ends (5.0 s)" in printed


FAULTS = {
    "no transcript": (("lone.wav",), "no transcript beside it .*whisper.*ELAN or Praat"),
    "no file": (("none.wav",), "none.wav: no such file"),
    "a transcript": (("talk.csv",), "--audio none"),
    "no such transcript": (("talk.wav", "--transcript", "no.csv"), "no.csv"),
    "no sound": (("bad.wav",), "bad.wav"),
    "a folder without": (("empty",), "no recording in it"),
    "in the place of another file": (
        ("talk.wav", "--out", "mine"),
        "mine/talk.csv: is not predict.py's, and the answer",
    ),
    "words of no kind": (("talk.wav", "--audio", "none", "--transcript", "new.txt"), "new.txt: no transcript that is"),
    "a document": (("talk.docx", "--audio", "none"), "talk.docx: no transcript that is known here"),
    "on itself": (("talk.wav", "--out", "."), "talk.csv: is not predict.py's, and the answer would take its place"),
    "an answer of ours": (("talk.wav", "--transcript", "was.emotions.vtt"), "what predict.py wrote, not a transcript"),
    "a pipe": (
        ("pipe.wav", "--transcript", "talk.csv"),
        "is no file .a pipe.., and a recording is read more than once",
    ),
    "no samples": (("zero.wav", "--transcript", "talk.csv"), "zero.wav: no samples in it"),
    "a cluster for one": (("talk.wav", "--scheduler", "127.0.0.1:9"), "for a folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_is_one_line_and_nothing_is_written(fault, command, tmp_path):
    write_talk(tmp_path)
    shutil.copy(tmp_path / "talk.wav", tmp_path / "lone.wav")
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    shutil.copy(tmp_path / "talk.csv", tmp_path / "bad.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "talk.csv").write_text("my own\n")
    for name in ("new.txt", "talk.docx"):
        (tmp_path / name).write_text("F: hello\n")
    os.mkfifo(tmp_path / "pipe.wav")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0, "int16"), 16000)
    before = sorted(path.name for path in tmp_path.iterdir())
    (recording, *options), said = FAULTS[fault]
    names = [*(path.name for path in tmp_path.iterdir()), "was.emotions.vtt"]
    with pytest.raises(InputError, match=said) as error:
        command(tmp_path / recording, *(tmp_path / one if one == "." or one in names else one for one in options))
    assert "\n" not in str(error.value)
    after = sorted(path.name for path in tmp_path.iterdir())
    assert after == before


def test_checkpoints_of_one_modality(tmp_path, monkeypatch, untraced):
    """A checkpoint for words reads no sound, one for sound no words; it cannot do with the other alone."""
    wav = write_talk(tmp_path)
    for modality, on in (("text", {"words", "nothing"}), ("audio", {"sound", "nothing"})):
        folder = write_checkpoint(tmp_path / modality, modality)
        options = conversation.Options(folder, jobs=1)
        answer = conversation.run(archive.job_of(wav), options, tmp_path / "out")
        assert {one.rests_on for one in answer.answers} == on
        assert all((one.shares is None) == (one.rests_on == "nothing") for one in answer.answers)
    options = conversation.Options(tmp_path / "audio", audio=False)
    with pytest.raises(InputError, match="cannot answer from words alone"):
        conversation.run(conversation.Job("talk", tmp_path / "talk.csv"), options, tmp_path / "out")


def test_a_dialog_of_a_corpus_with_its_votes(checkpoint, tmp_path):
    """evaluate.py --page: the votes of the raters beside what the run says of the whole dialog."""
    recogniser = load_checkpoint(checkpoint)
    task = Task.of(made_up_corpus(), recogniser.run.settings)
    assert str(tmp_path / "d3.html") in write_dialog(checkpoint, recogniser, task, "d3", tmp_path)
    page = (tmp_path / "d3.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    rows = task.dialogs["d3"]
    assert [row[0] for row in data["utterances"]] == task.corpus.utterance_id[rows].tolist() and not data["sound"]
    *_, shares = recogniser.predict_corpus(task.corpus, np.arange(rows.start, rows.stop)).values()
    np.testing.assert_allclose([row[5] for row in data["utterances"]], shares, atol=1e-4)
    np.testing.assert_allclose([row[7] for row in data["utterances"]], task.shares[rows], atol=1e-4)
    ids = np.array([{"d0": "/a/../b", "d1": "2024/ü (1)"}.get(one, one) for one in task.corpus.dialog_id], object)
    renamed = Task.of(dataclasses.replace(task.corpus, dialog_id=ids), recogniser.run.settings)
    for dialog, name in (
        ("/a/../b", "%2Fa%2F..%2Fb.html"),
        ("2024/ü (1)", "2024%2Fü (1).html"),
    ):  # in the folder, whatever it is
        assert str(tmp_path / name) in write_dialog(checkpoint, recogniser, renamed, dialog, tmp_path)
        assert (tmp_path / name).is_file()
    with pytest.raises(InputError, match="made up: no dialog 'd9'; it has d0, d1, d2"):
        write_dialog(checkpoint, recogniser, task, "d9", tmp_path)


class Powers:
    """A recording in which second n has the n-th power on each channel."""

    seconds = 100.0

    def __init__(self, *powers):
        self.powers = powers

    def signal(self, start_s, end_s, channel):
        return np.array([1.0, -1]) * self.powers[int(start_s)][channel - 1] ** 0.5, None


@pytest.mark.parametrize(
    ("powers", "who"),
    [
        ([(1, 0.1), (0.2, 0.4), (2, 0.1)], "ABA"),  # microphones of about the same level
        ([(100, 2), (10, 4), (90, 1)], "ABA"),  # Bob's is the lower one
        ([(1e-7, 1e-2), (2e-7, 9e-3), (1e-7, 1e-4)], "BBB"),  # nobody on the first
        ([(1, 0.2), (4, 0.7), (2, 0.5)], "AAA"),  # one voice on both
        ([(1, 0.4), (0.4, 1), (1, 0.3)], "ABA"),  # close to each other
        ([(0.3, 0.5)], "B"),
        ([(0.0, 0.5), (0.0, 0.0)], "BA"),  # silence
    ],
)
def test_the_loudest_channel_tells_who_speaks(powers, who):
    said = [Utterance(str(n), "d", "Speaker", n, n + 1, "yes") for n in range(len(powers))]
    found = conversation._by_loudness(said, Powers(*powers), ("A", "B"), {})
    assert "".join(one.speaker for one in found) == who


def test_a_transcript_that_changes_meanwhile_is_answered_again(command, checkpoint, monkeypatch, tmp_path):
    wav, note_words = write_talk(tmp_path), conversation._note_words

    def changes(*given):
        with open(tmp_path / "talk.csv", "a", encoding="utf-8") as file:
            file.write("6.9,7.0,Ann,now\n")
        return note_words(*given)

    job, options = archive.job_of(wav), conversation.Options(checkpoint, jobs=1)
    conversation.run(job, options, tmp_path / "emotions")
    assert conversation.finished(job, options, tmp_path / "emotions")
    monkeypatch.setattr(conversation, "_note_words", changes)
    conversation.run(job, options, tmp_path / "emotions")
    assert not conversation.finished(job, options, tmp_path / "emotions")


def test_places_that_cannot_be_written_are_named_before_the_work(checkpoint, tmp_path):
    """A name of 240 bytes is none of them."""
    options = conversation.Options(checkpoint, audio=False)
    (tmp_path / "file").touch()
    (tmp_path / "full" / "\u044f.csv").mkdir(parents=True)
    for length, out, said in (
        (120, tmp_path / "out", None),
        (122, tmp_path / "out", "cannot be written .File name too long"),
        (1, tmp_path / "file" / "out", "file: is a file, and a folder for the answers is needed"),
        (1, tmp_path / "full", ".csv: is a folder, in the place of an answer"),
        (1, Path("/proc/self"), "/proc/self: cannot be written to .*; choose another --out"),
    ):
        transcript = tmp_path / ("\u044f" * length + ".srt")
        transcript.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello you\n")
        job = conversation.Job(transcript.stem, transcript)
        if said is None:
            conversation.run(job, options, out)
            assert len(list(out.iterdir())) == 4
            continue
        with pytest.raises(InputError, match=said):
            conversation.run(job, options, out)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_page_holds_mp3_whatever_the_file_is_called(tmp_path):
    wav = write_talk(tmp_path).rename(tmp_path / "talk.mp3")
    with opened(wav) as recording:
        kind, coded = sound.for_page(wav, recording, tmp_path)
    assert kind == "audio/mpeg" and not coded.startswith(b"RIFF")
    (tmp_path / "true.wav").write_bytes(coded)
    with opened(tmp_path / "true.wav") as recording:
        assert recording.is_mp3 and sound.for_page(tmp_path / "true.wav", recording, tmp_path) == (kind, coded)


@pytest.mark.parametrize("given", [("",), ("talk.wav", "--text-encoder", ""), ("talk.wav", "--glove=")])
def test_an_argument_that_is_empty_is_a_mistake(given):
    status, said = said_by(predict.main, *given)
    assert status == 2 and said.endswith("is empty; is a variable of the shell not set?\n")


@pytest.mark.parametrize("seconds, milliseconds", [(20, True), (4000, False), (None, False)])
def test_whole_numbers_that_fit_the_recording_as_milliseconds_are_those(seconds, milliseconds):
    """And nothing else is: not what fits as seconds, not without a recording; then a note asks."""
    recording, notes = seconds and mock.Mock(seconds=seconds), {}
    given = [Utterance(str(n), "talk", "A", 4000.0 * n, 4000.0 * n + 3500, "so") for n in range(4)]
    found = conversation._in_seconds(given, recording, True, notes)
    scale = 1000 if milliseconds else 1
    assert [(one.start_s, one.end_s) for one in found] == [(one.start_s / scale, one.end_s / scale) for one in given]
    assert list(notes) == [
        "times are whole numbers that fit the recording as milliseconds: taken for those"
        if milliseconds
        else "half of the utterances last 3500 s or longer; are these seconds?"
    ]
    assert conversation._in_seconds(given, recording, False, {}) == given  # a clock's, or a fraction is among them
    given[0] = dataclasses.replace(given[0], end_s=0.5)
    conversation._in_seconds(given[:1], mock.Mock(seconds=900), False, notes := {})
    assert list(notes) == ["all utterances lie in the first 0.5 s of 900; are their times seconds?"]


def test_the_demo(command, tmp_path):
    """A conversation that is made up is the same each time, and all of it is answered."""
    status, printed = command("--demo", "--out", tmp_path / "a")
    assert status == 0 and "made-up: 16 utterances, 2 speakers" in printed
    assert {row["speaker"] for row in read_csv(tmp_path / "a" / "made-up.csv")} == {"Ann", "Bob"}
    from prediction import demo  # noqa: PLC0415

    again = demo.write(tmp_path / "b")
    assert again.read_bytes() == (tmp_path / "a" / "made-up.wav").read_bytes()


def test_shares_are_shares_where_the_output_is_linear():
    np.testing.assert_allclose(
        output.as_shares(np.array([[-0.2, 0.6, 0.2], [-1, -1, -2]])), [[0, 0.75, 0.25], [1 / 3] * 3], rtol=1e-6
    )


def test_options_that_a_checkpoint_does_not_read_are_refused(command, checkpoint, tmp_path):
    wav = write_talk(tmp_path)
    for option, what in (("--text-encoder", "words"), ("--audio-encoder", "sound")):
        with pytest.raises(InputError, match=f"untrained: this run reads no {what} through an encoder, and some"):
            command(wav, option, "some/name")
    audio = write_checkpoint(tmp_path / "deaf", "audio")
    with pytest.raises(InputError, match="deaf: this run reads no words of a GloVe file, and .*words.txt was given"):
        load_checkpoint(audio, glove=tmp_path / "words.txt")
    assert not (tmp_path / "emotions").exists()
