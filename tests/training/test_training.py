"""The scripts as users run them: train and evaluate the miniature corpus, stop and resume, bad input."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT, run_script, said_by
from forked import Program

import evaluate
import train
from checkpoint import load_checkpoint
from data.corpus import read_corpus
from data.labels import EMOTIONS, vote_shares
from data.task import split_sessions
from scoring.evaluation import score_epochs, task_of
from scoring.metrics import confusion_matrix, scores
from storage.files import InputError, sha256
from training.run import refuse_existing

# Those that train.py takes for the miniature corpus by itself, but fewer epochs.
EPOCHS = 5
SETTINGS = ("--epochs", EPOCHS, "--batch-size", 16, "--learning-rate", 1e-3, "--keep-epochs")
RESULT_FILES = (
    "text.weights.h5",
    "audio.weights.h5",
    "fusion.weights.h5",
    "history.csv",
    "vocabulary.json",
    "scaler.json",
)


@pytest.fixture(scope="module")
def trained(miniature, tmp_path_factory):
    """A finished and evaluated run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    done = run_script("train.py", "--corpus", miniature, "--run", folder, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"python evaluate.py {folder}")
    done = run_script("evaluate.py", folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def test_text_and_audio_together_beat_each_alone(trained):
    results = json.loads((trained / "results.json").read_text())
    text, audio = (results["branches"][stage]["accuracy_10"] for stage in ("text", "audio"))
    assert results["accuracy_10"] > max(text, audio)
    assert min(text, audio) > results["majority_accuracy"]


def test_results_agree_with_the_predictions(trained, miniature):
    """The confusion matrix is counted again from predictions.csv and the corpus file, and stands in the print-out."""
    corpus, results = read_corpus(miniature), json.loads((trained / "results.json").read_text())
    with open(trained / "predictions.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["utterance_id", *EMOTIONS]
    test = split_sessions(corpus.session)["test"]
    assert [row[0] for row in rows] == list(corpus.utterance_id[test])
    shares = vote_shares(corpus.votes_external, corpus.votes_self)[test]
    matrix = confusion_matrix(shares, np.array([row[1:] for row in rows], "float64"))
    np.testing.assert_array_equal(matrix, results["confusion_matrix"])
    printed = (trained / "printed.txt").read_text()
    assert printed.startswith(f"acc:{matrix.trace() / matrix.sum()}\nfinal result:\n")
    assert "made up" in printed and "made up" in results["protocol"]["corpus"]
    assert results["protocol"]["test_session"] == 4 and results["protocol"]["seed"] == 0
    assert (trained / "confusion_matrix.png").stat().st_size > 10_000


def test_every_epoch_is_kept_and_scored(trained):
    """The chosen epoch has the run's own scores; the best on test, whose predictions are written, no lower ones."""
    done = run_script("evaluate.py", trained, "--epochs")
    assert done.returncode == 0, done.stderr
    results, run = (json.loads((trained / name).read_text()) for name in ("results.json", "run.json"))
    with open(trained / "epochs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    fusion = run["stages"]["fusion"]
    chosen = rows[fusion["best_epoch"] - 1]
    assert float(chosen["dev_loss"]) == fusion["best_dev_loss"]
    for name in ("accuracy_9", "weighted_f1_9", "unweighted_accuracy_9", "mean_squared_error"):
        assert float(chosen[name]) == pytest.approx(results[name], rel=1e-6)
    ids, best = read_predictions(trained / "predictions_best_on_test.csv")
    corpus = read_corpus(run["corpus"]["path"])
    place = {name: number for number, name in enumerate(corpus.utterance_id)}
    shares = vote_shares(corpus.votes_external, corpus.votes_self)[[place[name] for name in ids]]
    matrix = confusion_matrix(shares, best)
    accuracy = scores(matrix, EMOTIONS, without=("other",))["accuracy"]
    assert accuracy == pytest.approx(max(float(row["accuracy_9"]) for row in rows))
    assert done.stdout.count("what not to report") == 1 and "lowest dev loss: the run's result" in done.stdout


def test_epochs_of_another_run_are_refused(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    best = json.loads((copy / "run.json").read_text())["stages"]["fusion"]["best_epoch"]
    recogniser = load_checkpoint(copy)
    shutil.copyfile(copy / "epochs" / f"{best % EPOCHS + 1:03d}.weights.h5", copy / "epochs" / f"{best:03d}.weights.h5")
    with pytest.raises(InputError, match=f"{best:03d}.weights.h5: is not what the run has kept"):
        score_epochs(copy, recogniser, task_of(recogniser))
    shutil.rmtree(copy / "epochs")
    with pytest.raises(InputError, match="no epochs were kept; train it with train.py --keep-epochs"):
        score_epochs(copy, recogniser, task_of(recogniser))


def read_predictions(path):
    """Utterance ids, and (N, C) predictions."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], "float64")


def test_run_folder_says_what_made_it(trained, miniature):
    run = json.loads((trained / "run.json").read_text())
    assert run["emotions"] == list(EMOTIONS) and run["settings"]["epochs"] == EPOCHS
    assert run["corpus"]["sha256"] == sha256(miniature) and run["backend"] and run["software"]["keras"]
    assert {name: sha256(trained / name) for name in run["files"]} == run["files"]
    with open(trained / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for stage in ("text", "audio", "fusion"):
        dev = [float(row["dev_loss"]) for row in rows if row["stage"] == stage]
        assert len(dev) == EPOCHS and run["stages"][stage]["best_dev_loss"] == min(dev)
        assert run["stages"][stage]["best_epoch"] == 1 + int(np.argmin(dev))
    assert (trained / "training_curves.png").exists() and any((trained / "tensorboard" / "fusion").iterdir())
    assert not list(trained.glob("*.state-*"))


def start_training(folder, *arguments):
    return Program(["train.py", "--run", folder, *arguments], ROOT)


def wait_for(process, words):
    """Reads the output until a line begins with `words`."""
    for line in process.lines():
        if line.split()[: len(words)] == words:
            return
    raise AssertionError(f"no line {words}: {process.stderr.read()}")


def end_of(process):
    """(exit code, what it said) of a process that is about to end."""
    _, said = process.communicate(timeout=600)
    return process.returncode, said


def killed(folder, kind, number, *arguments):
    """Runs train.py until tests/killed.py kills it, or to its end; returns the finished process."""
    return run_script("tests/training/killed.py", kind, number, "--run", folder, *arguments, path=ROOT)


def test_stopped_and_killed_run_ends_with_the_same_bytes(trained, miniature, tmp_path):
    """SIGTERM twice, SIGKILL in mid-write, between stages and in mid-epoch, a full disk, a damaged state: one end."""
    folder, moments = tmp_path / "run", np.random.default_rng(6)
    process = start_training(folder, "--corpus", miniature, *SETTINGS)
    wait_for(process, ["text", f"2/{EPOCHS}"])
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    code, said = end_of(process)
    assert code == 128 + signal.SIGTERM and f"python train.py --run {folder} --resume" in said

    died = killed(folder, "write", moments.integers(2, 6), "--resume")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(folder.glob(".*.tmp"))) == 1, "half a file is left"

    states = {path: path.read_bytes() for path in folder.glob("text.state-*.h5")}
    full = run_script("train.py", "--run", folder, "--resume", file_bytes=64_000)
    assert full.returncode == 2 and "Traceback" not in full.stderr and full.stderr.count("error: ") == 1
    assert ".h5: cannot be written (File too large); the file is as it was before" in full.stderr
    assert {path: path.read_bytes() for path in folder.glob("text.state-*.h5")} == states
    assert not list(folder.glob(".*.tmp"))

    died = killed(folder, "stage", 1, "--resume")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert list(json.loads((folder / "run.json").read_text())["stages"]) == ["text"]
    assert list(folder.glob("text.state-*.h5")), "killed before they were removed"

    died = killed(folder, "step", moments.integers(3, 90), "--resume")
    assert died.returncode == -signal.SIGKILL, died.stderr

    process = start_training(folder, "--resume")
    wait_for(process, ["fusion", f"3/{EPOCHS}"])
    process.send_signal(signal.SIGSTOP)  # else a fast machine has finished before the other one is refused
    refused = run_script("train.py", "--run", folder, "--resume")
    assert refused.returncode == 2 and "another train.py" in refused.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    newest = max(folder.glob("fusion.state-*.h5"), key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)

    done = run_script("train.py", "--run", folder, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"damaged state {newest.name} left aside" in done.stderr
    assert_same_run(folder, trained)


def assert_same_run(folder, whole):
    """Weights, history, vocabulary and scaler byte for byte; best epochs; and nothing left of what was killed."""
    for name in (*RESULT_FILES, *(path.relative_to(whole) for path in (whole / "epochs").glob("*"))):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    stages = [json.loads((path / "run.json").read_text())["stages"] for path in (folder, whole)]
    for summaries in stages:
        for summary in summaries.values():
            del summary["seconds"]
    assert stages[0] == stages[1]
    assert not list(folder.glob("*.state-*")) and not list(folder.glob(".*.tmp"))


@pytest.mark.stress
def test_random_kills_end_with_the_same_bytes(miniature, tmp_path):
    """At least 20 kills: before, in and after writes, between stages, after any step, or whenever the clock says."""
    settings = ("--corpus", miniature, "--epochs", 3, "--batch-size", 64, "--learning-rate", 1e-3)
    whole = tmp_path / "whole"
    assert run_script("train.py", "--run", whole, *settings).returncode == 0
    moments, kills, runs = np.random.default_rng(0), [], 0
    while len(kills) < 20:
        folder, runs = tmp_path / f"run{runs}", runs + 1
        code = None
        while code != 0:
            go_on = ("--resume",) if (folder / "run.json").exists() else settings
            kind = str(moments.choice(["step", "write", "rename", "stage", "clock"]))
            number = int(moments.integers(1, {"step": 16, "write": 12, "rename": 12, "stage": 3, "clock": 99}[kind]))
            if kind == "clock":
                process = start_training(folder, *go_on)
                wait_for_any(process, folder)
                time.sleep(number / 20)
                process.kill()
                code, said = end_of(process)
            else:
                done = killed(folder, kind, number, *go_on)
                code, said = done.returncode, done.stderr
            assert code in (0, -signal.SIGKILL), said
            if code:
                kills.append(f"{kind} {number}")
        assert_same_run(folder, whole)
    print(f"\n{len(kills)} kills in {runs} runs: {', '.join(kills)}")
    print(f"each run compared byte for byte with the one never killed: {', '.join(RESULT_FILES)}, best epochs")


def wait_for_any(process, folder):
    """Waits until the run has its run.json, or the process ended."""
    while process.poll() is None and not (folder / "run.json").exists():
        time.sleep(0.01)


def test_a_run_that_never_began_can_begin(tmp_path):
    """Killed before run.json is there: neither finished nor to be resumed, so it must not stand in the way."""
    (tmp_path / ".lock").write_text("")
    (tmp_path / "epochs").mkdir()
    refuse_existing(tmp_path)
    (tmp_path / "run.json").write_text("")
    with pytest.raises(InputError, match="exists already"):
        refuse_existing(tmp_path)


def test_not_a_number_names_the_batch_and_keeps_the_state(tmp_path, miniature):
    """A learning rate far too high: the loss overflows within an epoch or two."""
    done = run_script(
        "train.py", "--corpus", miniature, "--run", tmp_path / "run", "--modality", "audio", "--learning-rate", 1e38
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "audio, epoch" in done.stderr and "the loss is" in done.stderr and "Ses0" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--modality", "text", "--factor", "none"), "no correlation factor"),
        (("--modality", "text", "--padding", "uncounted"), "no context to pad: drop --padding"),
        (("--variant", "causal", "--modality", "text", "--left-out", "0.1"), "none can be left out"),
        (("--variant", "causal", "--padding", "uncounted"), "--variant causal does not read --padding"),
        (("--modality", "audio", "--no-context"), "no context"),
        (("--epochs", "0"), "--epochs: must be greater than 0"),
        (("--learning-rate", "inf"), "--learning-rate: must be a finite number"),
        (("--resume", "--seed", "1"), "--resume goes with --run"),
        (("--corpus", "absent.h5"), "absent.h5: no such file"),
        (("--dev-session", "4"), "session 4 is there twice"),
        (("--split", "paper"), "has none"),
        (("--emotion", "bliss"), "--emotion bliss: "),
        (("--marks", "--left-out", 0.1), "--variant released does not read --marks, --left-out: leave that out"),
        (("--words", "both"), "drop --words"),
    ],
)
def test_mistakes_get_one_line(arguments, message, miniature, tmp_path):
    corpus = () if "--corpus" in arguments or "--resume" in arguments else ("--corpus", miniature)
    code, said = said_by(train.main, *corpus, "--run", tmp_path / "run", *arguments)
    assert code == 2 and message in said and said.splitlines()[-1].count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_existing_folder_is_refused(trained, miniature):
    done = run_script("train.py", "--corpus", miniature, "--run", trained)
    assert done.returncode == 2 and "exists already" in done.stderr and "Traceback" not in done.stderr


def test_a_run_goes_on_where_its_corpus_file_was_moved_to(trained, miniature, tmp_path):
    """The path in run.json is absolute; a file that is elsewhere now is named with --corpus, and its hash decides."""
    copy, moved = tmp_path / "run", tmp_path / "moved.h5"
    shutil.copytree(trained, copy)
    run = json.loads((copy / "run.json").read_text())
    assert run["corpus"]["path"] == str(miniature)
    (copy / "run.json").write_text(json.dumps(run | {"corpus": run["corpus"] | {"path": "/nowhere/else.h5"}}))
    code, said = said_by(evaluate.main, copy)
    assert code == 2 and "/nowhere/else.h5: the run's corpus file is not there; say where it is with --corpus" in said
    shutil.copyfile(miniature, moved)
    assert said_by(train.main, "--run", copy, "--resume", "--corpus", moved)[0] == 0
    moved.write_bytes(moved.read_bytes() + b"x")
    code, said = said_by(train.main, "--run", copy, "--resume", "--corpus", moved)
    assert code == 2 and "moved.h5: is not the file that the run began with (SHA-256 differs)" in said


def test_a_run_goes_on_where_its_glove_file_was_moved_to(trained, miniature, tmp_path):
    run, glove = tmp_path / "run", tmp_path / "moved.txt"
    shutil.copytree(trained, run)
    glove.write_text("hello " + " ".join(["0.5"] * 200) + "\n")
    begun = json.loads((run / "run.json").read_text())
    begun["glove"] = {"path": "/nowhere/glove.txt", "sha256": sha256(glove)}
    (run / "run.json").write_text(json.dumps(begun))
    code, said = said_by(train.main, "--run", run, "--resume")
    assert code == 2 and "/nowhere/glove.txt: no such file; where was it moved? Say so with --glove" in said
    assert said_by(train.main, "--run", run, "--resume", "--glove", glove)[0] == 0
    code, said = said_by(train.main, "--run", trained, "--resume", "--glove", glove)
    assert code == 2 and "began without GloVe" in said


def test_corpus_that_does_not_fit_is_refused(trained, miniature, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(miniature.read_bytes())
    with h5py.File(other, "r+") as file:
        names, audio = file["audio"].attrs["names"], file["audio"][()]
        del file["audio"]
        file["audio"] = audio[:, :40]
        file["audio"].attrs["names"] = names[:40]
    code, said = said_by(evaluate.main, trained, "--corpus", other, "--out", tmp_path / "out")
    assert code == 2 and "40 columns" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "reproduce.py", "predict.py"])
def test_help_imports_no_framework(script):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    assert run_script("-c", code).stdout.rstrip().endswith("[]")


KINDS = ("", ".cff", ".css", ".csv", ".h5", ".j2", ".js", ".json", ".md", ".png", ".py", ".svg", ".toml", ".txt")


def test_repository_holds_no_corpus_material():
    """Files of known kinds alone; no utterance ids but in code, a few; arrays only in checkpoints, whole and known."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for path in map(Path, filter(None, listed.stdout.split("\0"))):
        assert path.suffix in KINDS, f"{path}: is of a kind that this test cannot look into"
        content = (ROOT / path).read_bytes()
        if path.suffix == ".py":  # a few examples, and the names in the parsers' tests
            assert len(re.findall(rb"Ses0\d[FM]_\w+", content)) <= 30, f"{path}: holds many utterance ids"
        else:
            assert b"Ses0" not in content, f"{path}: holds what looks like utterance ids"
        if path.suffix in (".h5", ".png"):  # test_provided.py loads these: names, shapes and hashes fit
            assert path.parts[0] == "checkpoints", f"{path}: belongs to no checkpoint"
            assert path.name in json.loads((ROOT / path.parent / "run.json").read_text())["files"]
