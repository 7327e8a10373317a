"""Members trained side by side: the same bytes as one after the other; what ends one ends the others."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT, Program, run_script
from fabricated import fabricated_corpus

from storage.files import InputError
from storage.runs import read_run
from training import members
from training.loop import Stopped
from training.members import train_side_by_side


def test_stopped_and_resumed_they_end_with_the_same_bytes(tmp_path):
    corpus = fabricated_corpus(tmp_path / "corpus.h5")
    options = ("--corpus", corpus, "--variant", "lstm", "--modality", "audio", "--members", 2, "--epochs", 15)
    done = run_script("train.py", *options, "--run", tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    process = Program(["train.py", *options, "--run", tmp_path / "two", "--jobs", 2], ROOT)
    next(line for line in process.lines() if line.split()[1:2] == ["3/15"])
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 128 + signal.SIGTERM and "--resume --jobs 2" in said
    assert not read_run(tmp_path / "two").stages and list((tmp_path / "two").glob("member-*.state-*.h5"))
    done = run_script("train.py", "--run", tmp_path / "two", "--resume")
    assert done.returncode == 0, done.stderr
    for name in ("member-1.weights.h5", "member-2.weights.h5", "history.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    assert not list((tmp_path / "two").glob("*.state-*"))
    refused = run_script("train.py", "--corpus", corpus, "--run", tmp_path / "none", "--jobs", 2)
    assert refused.returncode == 2 and "--variant released has no members" in refused.stderr


@pytest.fixture
def processes(monkeypatch):
    """In place of trainings each name is a program; gives the processes that were started."""
    there = []

    def started(program, *_, said):
        there.append(subprocess.Popen([sys.executable, "-c", f"import os, signal, sys; {program}"], stderr=said))
        return there[-1]

    monkeypatch.setattr(members, "_started", lambda *arguments: started(*arguments[:-1], said=arguments[-1]))
    return there


def test_all_are_trained_and_what_they_note_is_shown(processes, capfd):
    notes = [f"print('note {number}', file=sys.stderr)" for number in range(3)]
    train_side_by_side(notes, "folder", "corpus", None, 2, lambda: None)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(capfd.readouterr().err.splitlines()) == ["note 0", "note 1", "note 2"]


@pytest.mark.parametrize(
    ("end", "stop", "error", "message"),
    [
        ("os.kill(os.getpid(), 9)", None, InputError, "its process was killed .signal 9., perhaps for want of memory"),
        ("os.kill(os.getpid(), 2)", None, Stopped, "2"),
        ("print('note\\nerror: the loss is nan', file=sys.stderr); sys.exit(2)", None, InputError, "^the loss is nan$"),
        ("sys.exit(143)", None, Stopped, "15"),
        ("1 / 0", None, InputError, "its process ended with status 1"),
        ("signal.pause(), 'too'", 2, Stopped, "2"),
    ],
)
def test_what_ends_one_ends_the_others(processes, capfd, end, stop, error, message):
    with pytest.raises(error, match=message):
        train_side_by_side(["signal.pause()", end, "pass"], "folder", "corpus", None, 2, lambda: stop)
    assert processes[0].returncode == -signal.SIGTERM and len(processes) == 2
    said = capfd.readouterr().err
    assert ("note" in said, "ZeroDivisionError" in said) == ("note" in end, "1 / 0" in end)


def test_one_that_fails_as_it_ends_is_told_and_all_are_ended(processes, tmp_path):
    """As on a full disk, where it cannot save its state."""
    ready = tmp_path / "ready"
    fails = "signal.pthread_sigmask(signal.SIG_BLOCK, [15])", f"open({str(ready)!r}, 'w')", "signal.sigwait([15])"
    fails = "; ".join([*fails, "print('error: no space left', file=sys.stderr)", "sys.exit(2)"])
    with pytest.raises(InputError, match="^no space left$"):
        train_side_by_side(
            [fails, "signal.pause()"], "folder", "corpus", None, 3, lambda: 15 if ready.exists() else None
        )
    assert all(process.returncode is not None for process in processes)
