"""predict.py on a folder of conversations: faults cost what they must, and what is finished is kept."""

import contextlib
import json
import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from dying import square
from made_up import EMOTIONS, command_of, read_csv, write_checkpoint, write_talk

from prediction import archive, conversation, output
from storage.files import InputError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained")


@pytest.fixture
def command(monkeypatch, checkpoint, capsys):
    return command_of(checkpoint, monkeypatch, capsys)


def in_this_process(jobs, call, pool_of, width):
    """In place of `archive._results`: the same without the seconds that a worker takes to start."""
    work, *arguments = call
    return ((job, work(job, *arguments)) for job in jobs)


def test_a_folder_goes_on_after_faults_and_where_it_was(command, monkeypatch, tmp_path):
    """Names of folders stay, a broken recording and one without transcript are named, the rest is done once."""
    folder, out = tmp_path / "talks", tmp_path / "talks" / "emotions"
    write_talk(folder / "monday")
    write_talk(folder, "broken")
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    write_talk(folder, "same")
    shutil.copy(folder / "same.wav", folder / "same.aiff")  # two recordings of a name
    shutil.copy(folder / "same.wav", folder / "lone.wav")
    status, printed = command(folder, "--jobs", "1")
    assert status == 1 and "3 predicted, 0 finished before, 2 failed" in printed
    assert "failed: lone: no transcript beside it" in printed and "failed: broken: " in printed
    assert {path.name for path in out.glob("*.json")} == {"same.wav.json", "same.aiff.json"}
    summary = read_csv(out / "summary.csv")
    assert [row["conversation"] for row in summary] == ["broken", "lone", "same.aiff", "same.wav", "monday/talk"]
    assert [bool(row["failure"]) for row in summary] == [True, True, False, False, False]
    assert summary[4]["utterances"] == "7" and summary[4]["unanswered"] == "1" and summary[4]["top"] in EMOTIONS
    index = (out / "index.html").read_text("utf-8")
    assert 'href="monday/talk.html"' in index and "no transcript beside it" in index
    kept = (out / "monday" / "talk.html").stat().st_mtime_ns
    shutil.copy(folder / "monday" / "talk.wav", folder / "broken.wav")  # mended
    (folder / "lone.wav").unlink()
    with open(folder / "same.csv", "a", encoding="utf-8") as file:
        file.write("6.9,7.0,Ann,now\n")  # changed
    monkeypatch.setattr(archive, "_results", in_this_process)
    status, printed = command(folder)
    assert status == 0 and "3 predicted, 1 finished before, 0 failed" in printed
    assert (out / "monday" / "talk.html").stat().st_mtime_ns == kept
    assert not any(row["failure"] for row in read_csv(out / "summary.csv"))


def test_answers_are_not_taken_for_conversations(command, monkeypatch, tmp_path):
    """Names of the folder's own files, answers beside what they are of, the same command twice."""
    monkeypatch.setattr(archive, "_results", in_this_process)
    cue = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>hello you\n"
    for name in ("summary", "index", "talk"):
        (tmp_path / f"{name}.vtt").write_text(cue)
    for number, out in enumerate((tmp_path, tmp_path / "others", tmp_path)):
        status, printed = command(tmp_path, "--audio", "none", "--out", out)
        assert status == 0 and f"{0 if number == 2 else 3} predicted" in printed, printed
        rows = read_csv(out / "summary.csv")
        assert [row["conversation"] for row in rows] == ["index.vtt", "summary.vtt", "talk"]
        assert read_csv(out / "summary.vtt.csv")[0]["transcript"] == "hello you"
        assert 'href="index.vtt.html"' in (out / "index.html").read_text("utf-8")
    for name in ("summary.csv", "index.html"):  # somebody's own, beside what shall be predicted
        folder = tmp_path / f"own {name}"
        folder.mkdir()
        (folder / "talk.vtt").write_text(cue)
        (folder / name).write_text("start,end,speaker,text\n0,1,Ann,hello\n")
        with pytest.raises(InputError, match=f"{name}: the folder's own {name} would take its place"):
            command(folder, "--audio", "none", "--out", folder)
        assert (folder / name).read_text().startswith("start,end") and len(list(folder.iterdir())) == 2
    wav = write_talk(tmp_path / "sound")
    (tmp_path / "sound" / "talk.csv").rename(tmp_path / "sound" / "talk.en.csv")
    for _ in range(2):
        assert command(wav, "--out", tmp_path / "sound")[0] == 0
    assert (tmp_path / "sound" / "talk.json").exists()


def test_a_worker_that_dies_costs_one_recording():
    def pool_of():
        return ProcessPoolExecutor(1, get_context("spawn"))

    found = dict(archive._results(iter(range(8)), (square,), pool_of, 2))
    died = found.pop(3)
    assert found == {number: number**2 for number in range(8) if number != 3} and "its worker died" in died


def test_a_worker_that_is_told_to_end_dies(monkeypatch):
    """By SIGTERM in the middle of a recording: the pool sees a dead worker, not an exception that ends the parent."""
    monkeypatch.setattr(conversation, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    def told():
        archive._begin(1)
        try:
            archive._work(None, None, None)
        except SystemExit:
            os._exit(3)

    process = get_context("fork").Process(target=told)
    process.start()
    process.join(60)
    assert process.exitcode == 1


def test_ctrl_c_keeps_what_was_finished(command, monkeypatch, tmp_path, checkpoint):
    for name in "ab":
        write_talk(tmp_path, name)

    def interrupted(jobs, call, pool_of, width):
        work, *arguments = call
        job = next(jobs)
        yield job, work(job, *arguments)
        raise KeyboardInterrupt

    (tmp_path / "emotions").mkdir()
    of_another = {"checkpoint": {"name": "x", "sha256": "0", "trained_on": "y"}, "speakers": {}, "utterances": []}
    of_another = {"format": "mcaf-prediction", "format_version": 1, "duration_s": 1.0, "inputs": {}} | of_another
    (tmp_path / "emotions" / "b.json").write_text(json.dumps(of_another, indent=1))
    write_talk(tmp_path, "c")
    (tmp_path / "emotions" / "c.json").write_text('{"segments": []}')  # somebody else's
    monkeypatch.setattr(archive, "_results", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command(tmp_path)
    assert [row["conversation"] for row in read_csv(tmp_path / "emotions" / "summary.csv")] == ["a"]
    monkeypatch.setattr(archive, "_results", in_this_process)
    printed = command(tmp_path)[1]
    assert "1 predicted, 1 finished before, 1 failed" in printed and "c.json: is not predict.py's" in printed
    assert (tmp_path / "emotions" / "c.json").read_text() == '{"segments": []}'


def test_a_cluster_gives_the_same_answers(command, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the optional package distributed is not installed")
    write_talk(tmp_path, "a")
    write_talk(tmp_path, "b")
    quiet = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **quiet) as cluster:
        address = cluster.scheduler_address
        status, printed = command(tmp_path, "--scheduler", address.removeprefix("tcp://"))
    assert status == 0 and "2 predicted" in printed, printed
    command(tmp_path / "a.wav", "--out", tmp_path / "here")
    assert (tmp_path / "emotions" / "a.csv").read_bytes() == (tmp_path / "here" / "a.csv").read_bytes()


def test_names_that_are_no_text(command, monkeypatch, tmp_path):
    """A file's name that is no UTF-8, and half a character in a transcript, are shown as far as they are text."""
    wav = write_talk(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    wav.rename(tmp_path / f"{name}.wav")
    segment = {"start": 0.5, "end": 2, "text": "hello \ud83d\u0007 you", "words": [], "speaker": "A\udc80"}
    (tmp_path / f"{name}.json").write_text(json.dumps([segment]))
    (tmp_path / "talk.csv").unlink()
    monkeypatch.setattr(archive, "_results", in_this_process)
    bad = os.fsdecode(b"b\xe4d")
    wav = tmp_path / f"{bad}.wav"
    wav.write_bytes(b"RIFF nothing")
    (tmp_path / f"{bad}.csv").write_text("start,text\nsoon,hi\n")
    assert command(tmp_path)[0] == 1
    assert ["b?d" in row["failure"] for row in read_csv(tmp_path / "emotions" / "summary.csv")] == [True, False]
    (row,) = read_csv(tmp_path / "emotions" / f"{name}.csv")
    assert (row["speaker"], row["transcript"]) == ("A?", "hello ? you")
    assert 'href="caf%E9.html"' in (tmp_path / "emotions" / "index.html").read_text("utf-8")


def test_transcripts_beside_a_recording(tmp_path):
    """Its very name, then one with a language, of each the richest first; never what predict.py wrote."""
    for name in (
        "talk.srt",
        "talk.en.vtt",
        "talk.json",
        "talk.emotions.vtt",
        "talk2.vtt",
        "talk.wav.TextGrid",
        "talk.txt",
    ):
        (tmp_path / name).touch()
    found = [path.name for path in archive.find_transcript(tmp_path / "talk.wav")]
    assert found == ["talk.wav.TextGrid", "talk.json", "talk.srt", "talk.en.vtt"]


def test_workers_end_with_a_parent_that_is_killed():
    """They would wait for work for ever, with all that they have loaded."""
    fork, (receiver, sender) = get_context("fork"), get_context("fork").Pipe(False)

    def work():
        archive._begin(1)
        sender.send(os.getpid())
        time.sleep(600)

    def begin():
        fork.Process(target=work).start()
        time.sleep(600)

    parent = fork.Process(target=begin)
    parent.start()
    worker = receiver.recv()
    parent.kill()
    until = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError):
        while Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_summary_counts_what_was_answered():
    """By hand: a second of one emotion, three of the other; a hundred without an answer count nothing."""
    shares = ([1.0, 0.0], None, [0.0, 1.0])
    times = ((0, 1), (1, 101), (101, 104))
    utterances = [{"start_s": a, "end_s": b, "shares": one} for (a, b), one in zip(times, shares, strict=True)]
    found = archive._summary({"duration_s": 104, "speakers": {}, "utterances": utterances, "emotions": ["a", "b"]})
    assert found["shares"].tolist() == [0.25, 0.75] and found["unanswered"] == 1


def test_names_within_a_folder_are_different(tmp_path):
    for name in ("talk.wav", "talk.mp4", "talk.wav.mp3", "talk.wav.srt"):
        (tmp_path / name).touch()
    names = [
        job.name if isinstance(job, conversation.Job) else job[0] for job in archive.jobs_in(tmp_path, tmp_path / "o")
    ]
    assert sorted(names) == ["talk.mp4", "talk.wav", "talk.wav.mp3"]


def test_a_transcript_of_another_recording_is_none_of_this(tmp_path):
    names = ["meeting.wav", "meeting.part2.wav", "meeting.part2.vtt", "meeting.02.eaf", "meeting.de.eaf"]
    names += ["meeting.vtt", "meeting.pt-BR.srt", "meeting.en_US.srt", "meeting.ok.mp3", "meeting.ok.vtt"]
    for name in names:
        (tmp_path / name).write_text("")
    found = [path.name for path in archive.find_transcript(tmp_path / "meeting.wav")]
    assert found == ["meeting.vtt", "meeting.de.eaf", "meeting.en_US.srt", "meeting.pt-BR.srt"]
    assert [path.name for path in archive.find_transcript(tmp_path / "meeting.part2.wav")] == ["meeting.part2.vtt"]


def test_an_answer_with_negative_shares_is_made_again():
    """As an earlier version wrote those of the paper's system."""
    for shares, whole in (([0.25, 0.75], True), ([-0.05, 1.05], False), ([0.6, 0.5], False)):
        assert output.adds_up({"utterances": [{"shares": None}, {"shares": shares}]}) == whole
