"""The provided checkpoints are whole, small, and what their cards say."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, run_script

from checkpoint import load_checkpoint
from experiments.cards import card
from scoring.evaluation import home_of_results, results_folder
from storage.files import InputError, sha256
from storage.runs import read_run

PROVIDED = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/run.json"))


RELEASED = ROOT / "checkpoints" / "iemocap-released"


def test_all_are_there():
    assert [folder.name for folder in PROVIDED] == ["iemocap-causal", "iemocap-encoded", "iemocap-released"]


@pytest.mark.parametrize("folder", PROVIDED, ids=lambda folder: folder.name)
def test_card_and_files_agree(folder, untraced):
    card, run = (folder / "README.md").read_text(encoding="utf-8"), read_run(folder)
    largest = 14e6 if folder == RELEASED else 10e6
    assert sum(path.stat().st_size for path in folder.iterdir()) < largest
    for name, digest in run.files.items():
        assert sha256(folder / name) == digest and f"{digest}  {name}" in card
    assert f"{sha256(folder / 'run.json')}  run.json" in card
    results = json.loads((folder / "results.json").read_text())
    assert results["protocol"]["weights_sha256"] == run.weights()
    for emotion, row in zip(results["emotions"], results["confusion_matrix"], strict=True):
        assert f"| {emotion} | {' | '.join(map(str, row))} |" in card
    # Else an evaluation would change what is provided.
    assert home_of_results(folder, run) == Path("runs") / folder.name
    recogniser, rng = load_checkpoint(folder), np.random.default_rng(0)
    if run.settings.words == "both":  # its encoder is no part of it; test_encoders.py has one of its own
        return
    features = rng.normal(size=(3, len(recogniser.audio_names)))
    shares = recogniser.predict_dialog(["hello", "well", "no"], features, ["F", "M", "F"], [0, 1, 2], [0.9, 1.9, 2.9])
    assert shares.shape == (3, 10) and np.isfinite(shares).all() and np.abs(shares.sum(axis=1) - 1).max() < 0.5


# The encoded corpus file is not among the maintainers' data. test_model.py has the other backends.
@pytest.mark.parametrize("folder", [PROVIDED[0], RELEASED], ids=lambda folder: folder.name)
def test_the_real_corpus_gives_the_cards_confusion_matrix(folder, shared, tmp_path):
    corpus = shared / "iemocap" / "iemocap.h5"
    done = run_script("evaluate.py", folder, "--corpus", corpus, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "features and scores may differ" not in done.stdout
    found, card = (json.loads((path / "results.json").read_text()) for path in (tmp_path, folder))
    assert found["confusion_matrix"] == card["confusion_matrix"] and found["accuracy_9"] == card["accuracy_9"]
    if folder.name == "iemocap-released":
        beside = found["agreement"]
        for who, percent in (("rater", [48.2, 49.3, 35.7]), ("system", [47.0, 46.4, 34.8])):
            names = [f"{who}_{name}_9" for name in ("accuracy", "weighted_f1", "unweighted_accuracy")]
            assert [round(100 * beside[name], 1) for name in names] == percent
        assert beside["num_held_out_votes"] == 2833 and round(beside["emo_superb_macro_f1"], 3) == 0.422


def test_a_dialog_without_utterances_has_no_answers():
    assert load_checkpoint(RELEASED).predict_dialog([], np.zeros((0, 46))).shape == (0, 10)


def test_results_of_a_provided_checkpoint_stay(tmp_path, monkeypatch):
    """Scoring one into its own folder would overwrite what its run.json vouches for."""
    folder = tmp_path / "provided"
    shutil.copytree(RELEASED, folder)
    before = {path.name: sha256(path) for path in folder.iterdir()}
    recogniser = load_checkpoint(folder)
    task = SimpleNamespace(tests_its_own=True)
    with pytest.raises(InputError, match="is a run or a provided checkpoint with results of its own; choose another"):
        results_folder(folder, recogniser, task, folder)
    shutil.copytree(folder, tmp_path / "runs" / "provided")
    monkeypatch.chdir(tmp_path)  # where its results would go by themselves
    for source in (folder, Path("runs/provided")):
        with pytest.raises(
            InputError, match="runs/provided: is a run or a provided checkpoint with results of its own"
        ):
            results_folder(source, recogniser, task)
    assert before == {path.name: sha256(path) for path in folder.iterdir()}


def test_the_card_of_another_rate_has_the_papers_beside_it():
    """And which machine trained what was taken over; not where the rate is the paper's."""
    run, results = read_run(RELEASED), json.loads((RELEASED / "results.json").read_text())
    table = ("| |", {2: "47.8"})
    for rate, said in ((1e-3, True), (1e-4, False)):
        one = run.model_copy(update={"settings": run.settings.model_copy(update={"learning_rate": rate})})
        text = card("name", "", [one], [0.03], table, one, results, False, None, "abacus, 2 cores", 190)
        assert (
            "learning rate here is 0.001. At the paper's, 0.0001, 5 seeds have 48.6 ± 2.9 [44.1, 52.9]" in text
        ) is said
        assert "from a run on abacus, 2 cores." in text and " 3 minutes on " in text
