"""Table 2: the runs on MELD that it plans, both readings of the test part, and one run through the scripts."""

import csv
import json

import pytest
from fabricated import SEEDS, fabricated_corpus, planned
from test_meld import write_release

from checkpoint import load_checkpoint
from data.build import Options, prepare
from data.corpus import read_corpus
from data.meld import read_meld
from experiments.catalogue import EXPERIMENTS
from experiments.pages import meld_page
from experiments.results import Results
from scoring.evaluation import evaluate, task_of
from settings import Settings
from storage.files import InputError, write_json
from storage.runs import CorpusFile, Run, StageSummary, write_run
from training.backend import describe_device
from training.run import begin_run


@pytest.fixture
def text_only(tmp_path):
    prepare(read_meld(write_release(tmp_path / "release"), False), tmp_path / "meld.h5", Options(audio="none"))
    return tmp_path / "meld.h5"


def test_table_2_is_ten_binary_networks_a_seed(text_only, tmp_path):
    plan = planned("table2", text_only, tmp_path, "--seeds", "3", "--patience", "2")
    settings = [run.settings for run in plan]
    assert len({(one.split, one.emotion) for one in settings}) == len(plan) == 10
    assert {(one.modality, one.seed, one.patience, one.epochs) for one in settings} == {("text", 3, 2, 50)}
    assert all(run.system == f"meld-{run.settings.split}-{run.settings.emotion}" for run in plan)
    with pytest.raises(InputError, match="table2 needs MELD, with its own split and anger, joy"):
        planned("table2", fabricated_corpus(tmp_path / "other.h5"), tmp_path)


def test_meld_is_our_system_on_all_emotions(text_only, tmp_path, capsys):
    """Words alone where the corpus has no sound; a corpus without a split of its own is refused."""
    words = tmp_path / "glove.txt"
    words.write_text("word 1\n")
    plan = planned("meld", text_only, tmp_path, "--seeds", "3", "--glove", str(words))
    assert [(run.system, run.settings.variant) for run in plan] == [("meld", "causal"), ("meld-lstm", "lstm")]
    assert {(run.settings.modality, run.settings.words, run.settings.emotion) for run in plan} == {
        ("text", "glove", "all")
    }
    with pytest.raises(SystemExit):
        planned("meld", text_only, tmp_path, "--seeds", "3")
    assert "meld reads the word vectors of GloVe: give --glove FILE" in capsys.readouterr().err
    with pytest.raises(InputError, match="no word vectors of encoder: add them with 'python -m data.prepare encode'"):
        planned("meld-encoded", text_only, tmp_path, "--seeds", "3", "--glove", str(words))
    with pytest.raises(InputError, match="meld needs MELD, with its own split; make it"):
        planned("meld", fabricated_corpus(tmp_path / "other.h5"), tmp_path, "--glove", str(words))


def test_table_2_shows_both_readings(text_only, tmp_path):
    about = CorpusFile(name="MELD", path="", sha256="", audio_feature_set="none", num_audio_features=0)
    plan = planned("table2", text_only, tmp_path)
    for run in plan:
        run.folder.mkdir()
        scores = {"accuracy": 0.7 + 0.1 * run.seed, "weighted_f1": 0.6, "unweighted_accuracy": 0.55}
        of_two = {run.settings.emotion: {"f1": 0.25, "support": 1}, "other emotions": {"f1": 0.8, "support": 3}}
        write_json(run.folder / "results.json", {"classes_10": scores | {"per_class": of_two}})
        stages = {"text": StageSummary(epochs=7, best_epoch=4, best_dev_loss=0.1, seconds=1.0)}
        content = Run(
            settings=run.settings, emotions=tuple(of_two), context_length=3, corpus=about, stages=stages,
            machine="abacus", devices=("cpu:0",), backend="tensorflow",
        )  # fmt: skip
        write_run(run.folder, content)
    experiment = EXPERIMENTS["table2"]
    folders = {system: [tmp_path / f"{system}-seed{seed}" for seed in SEEDS] for system in experiment.systems}
    meld_page(experiment, Results(folders, read_corpus(text_only)), tmp_path / "table2")
    with open(tmp_path / "table2.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["test"] for row in rows[5:]} == {"dev (as the paper's numbers say)"}
    first = rows[0]
    assert (first["emotion"], first["accuracy, paper"], first["F1, paper"]) == ("anger", "79.4", "75.3")
    assert float(first["accuracy"]) == pytest.approx(75) and float(first["accuracy, sd"]) == pytest.approx(7.0710678)
    assert float(first["F1 of the emotion"]) == pytest.approx(25)
    # Always the class of three in four: right on 3/4; its F1 is 6/7, that of the other 0.
    assert float(first["always the more frequent, accuracy"]) == 75
    assert float(first["always the more frequent, weighted F1"]) == pytest.approx(100 * 0.75 * 6 / 7)
    page = (tmp_path / "table2.md").read_text()
    assert "79.4 / **75.0 ± 7.1**" in page and "Ours reads text alone, the paper's text and audio" in page
    assert "trained 7, best 4; on abacus, cpu:0" in page and read_corpus(text_only).name in page


def test_a_run_says_which_part_it_tested(text_only, tmp_path, untraced):
    """One epoch on the miniature release, text alone, the paper's reading, one emotion."""
    run = tmp_path / "run"
    begin_run(run, Settings(modality="text", split="paper", emotion="sadness", epochs=1), text_only)
    recogniser = load_checkpoint(run)
    printed = evaluate(run, recogniser, task_of(recogniser), describe_device())
    assert "MELD, dev split as test; text alone" in printed
    results, content = (json.loads((run / name).read_text()) for name in ("results.json", "run.json"))
    assert results["emotions"] == content["emotions"] == ["sadness", "other emotions"]
    protocol = results["protocol"]
    assert (protocol["split"], protocol["test"], protocol["emotion"]) == ("paper", "dev split as test", "sadness")
    assert "test_session" not in protocol and results["num_utterances"] == 1
    assert set(results["classes_10"]["per_class"]) == {"sadness", "other emotions"}
    assert content["corpus"]["num_train"] == 5 and content["corpus"]["num_dev"] == 2
