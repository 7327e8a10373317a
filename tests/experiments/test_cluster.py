"""Runs on the workers of a Dask cluster: one is killed, Ctrl-C comes, and the end is the same as without any of it."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from fabricated import fabricated_corpus

import reproduce
from experiments.catalogue import System
from experiments.runs import Place
from storage.files import InputError
from storage.runs import read_run
from training.run import begin_run, resume_run

distributed = pytest.importorskip("distributed", reason="the optional package distributed is not installed")

# As reproduce.py does its runs, without the seconds that its tables take to import.
DRIVER = """
import pickle, sys
from pathlib import Path
from data.workers import parallel
from experiments.programs import do_all, going_on
from surroundings import run_program

def main():
    runs = pickle.loads(Path(sys.argv[1]).read_bytes())
    with parallel(scheduler=sys.argv[2]) as run, going_on(runs[0].log.parent) as going:
        do_all(runs, going, run)

run_program(main, "stopped, nothing is lost")
"""


def wait_until(said, log, process):
    """Waits until the log says something often enough: a text, and how often."""
    began = time.monotonic()
    while not log.exists() or log.read_text().count(said[0]) < said[1]:
        assert process.poll() is None and time.monotonic() - began < 300, log.exists() and log.read_text()
        time.sleep(0.05)


def parent_of_training(folder):
    """The process that has started train.py in this folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if b"--run" in words and str(folder).encode() in words:
                return int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it ended
            continue
    raise AssertionError("no training is at work")


def test_a_killed_worker_and_ctrl_c_change_nothing(tmp_path):
    corpus = fabricated_corpus(tmp_path / "corpus.h5")
    system = System("audio", ("--modality", "audio", "--batch-size", "2", "--epochs", "14"), None, ())
    run = Place(tmp_path / "out", corpus, None).run(system, 0, scored=False)
    run.log.parent.mkdir(parents=True)
    (tmp_path / "runs").write_bytes(pickle.dumps([run]))
    quiet = {"dashboard_address": None, "silence_logs": 50, "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, local_directory=tmp_path, **quiet) as cluster:
        scheduler = cluster.scheduler_address.removeprefix("tcp://")
        command = [sys.executable, "-c", DRIVER, tmp_path / "runs", scheduler]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait_until(("s/epoch", 2), run.log, process)
        os.kill(parent_of_training(run.folder), signal.SIGKILL)  # the worker
        wait_until(("going on after epoch", 1), run.log, process)  # on another one, from the state
        log = run.log.read_text()
        assert "stopped, nothing is lost" in log and "another train.py" not in log
        wait_until(("s/epoch", log.count("s/epoch") + 2), run.log, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130 and "stopped, nothing is lost" in process.stderr.read()
        assert run.log.read_text().count("stopped, nothing is lost") == 2
    assert list(run.folder.glob("audio.state-*.h5")) and not run.trained()

    assert run.log.read_text().count("$ train.py") == 2, "begun once, gone on with once"
    resume_run(run.folder)
    assert run.trained()
    begin_run(tmp_path / "whole", run.settings, corpus)
    for name in ("history.csv", "audio.weights.h5", "scaler.json"):
        assert (run.folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_run(run.folder).files == read_run(tmp_path / "whole").files


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("data.workers._PATIENCE_S", 1)
    corpus = fabricated_corpus(tmp_path / "corpus.h5")
    with socket.socket() as taken:  # a port where nobody answers
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["table5", "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--scheduler", address]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *options])
        with pytest.raises(InputError, match=f"--scheduler {address}: no Dask scheduler answers there"):
            reproduce.main()
    assert not (tmp_path / "out").exists()
