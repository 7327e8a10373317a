"""Many runs with one command: what is planned, what is skipped, refused or resumed, and the tables written from it."""

import csv
import functools
import json
import re
import shutil

import numpy as np
import pytest
from fabricated import SEEDS, fabricate, fabricated_corpus, planned, results_of, work_of

import scoring.draws
from experiments import pages
from experiments.catalogue import EXPERIMENTS, SYSTEMS
from experiments.intervals import SCORES
from experiments.markdown import _TEMPLATES
from experiments.pages import PUBLISHED
from experiments.programs import Program, do_all, going_on
from experiments.rates import at_rate
from experiments.reproduction import reproduce
from experiments.results import hardware
from experiments.runs import PlannedRun, check_same_but_seed
from reproduce import parse_arguments
from storage.files import InputError, read_json, sha256, write_csv, write_json
from storage.runs import EpochRow, WordsFile, write_run

PAPERS = ("all", "variants", "folds")
OURS = ("causal", "causal-folds", "causal-raters")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of `reproduce.py` as if these experiments were done, and the corpus."""
    out = tmp_path_factory.mktemp("reproduce")
    corpus = fabricated_corpus(out / "corpus.h5")
    runs = {run.folder: run for name in PAPERS + OURS for run in planned(name, corpus, out)}
    fabricate(runs.values(), corpus)
    return out, corpus


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(scoring.draws, "dialog_draws", functools.partial(scoring.draws.dialog_draws, num_draws=60))


def test_runs_of_one_line_differ_in_the_seed_alone(done, tmp_path):
    """What publish and damage take; and the hardware of a line is that of all of its runs."""
    out, corpus = done
    folders = [out / f"causal-seed{seed}" for seed in SEEDS]
    runs = check_same_but_seed(folders, corpus)
    assert [run.settings.seed for run in runs] == list(SEEDS)
    other = runs[0].model_copy(update={"backend": "jax"})
    text = hardware([runs[0], other, runs[1]])
    assert text.count(" or ") == 1 and text.endswith(", jax")
    for what, change in (
        ("is not the only run of seed 0", {"settings": runs[0].settings}),
        ("differs from .*causal-seed0 in patience", {"settings": runs[1].settings.model_copy(update={"patience": 3})}),
        ("differs from .*causal-seed0 in the GloVe file", {"glove": WordsFile(path="x", sha256="0" * 64)}),
        ("in the corpus", {"corpus": runs[1].corpus.model_copy(update={"sha256": "0" * 64})}),
    ):
        (tmp_path / "run").mkdir(exist_ok=True)
        write_run(tmp_path / "run", runs[1].model_copy(update=change))
        with pytest.raises(InputError, match=what):
            check_same_but_seed([folders[0], tmp_path / "run"], corpus)
    (tmp_path / "other.h5").write_bytes(b"")
    with pytest.raises(InputError, match="other.h5: is not the corpus file that the runs were trained on"):
        check_same_but_seed(folders, tmp_path / "other.h5")


def here(tasks):
    """`data.workers.parallel`, one after the other."""
    return (function(*arguments, **named) for function, arguments, named in tasks)


@pytest.fixture
def called(monkeypatch):
    """The programs that would have run, as tuples of their arguments."""
    calls = []

    def run_logged(program, log, going):
        calls.append((*program.script, *map(str, program.arguments)))
        return program.what

    monkeypatch.setattr("experiments.programs.run_logged", run_logged)
    monkeypatch.setattr("experiments.runs.run_logged", run_logged)
    return calls


def test_plan_shares_branches_and_folds_cover_the_sessions(tmp_path):
    corpus = fabricated_corpus(tmp_path / "c.h5")
    assert {(run.system, run.branches) for run in planned("all", corpus, tmp_path) if run.seed == 1} == {
        ("full", None),
        ("categorical", None),
        ("no-context", tmp_path / "full-seed1"),
        ("no-factor", tmp_path / "full-seed1"),
    }
    for experiment, variant, rate in (("folds", "released", 1e-4), ("causal-folds", "causal", 1e-3)):
        folds = [run.settings for run in planned(experiment, corpus, tmp_path) if run.seed == 0]
        assert [one.test_session for one in folds] == [1, 2, 3, 4, 5]
        for one in folds:
            assert sorted((*one.train_sessions, one.dev_session, one.test_session)) == [1, 2, 3, 4, 5]
            assert one.dev_session == one.test_session % 5 + 1
            assert (one.variant, one.learning_rate) == (variant, rate)
    settings = {run.system: run.settings for run in planned("causal", corpus, tmp_path, "--epochs", "7")}
    assert {(one.variant, one.epochs, one.batch_size) for one in settings.values()} == {("causal", 7, 4)}
    assert settings["causal-no-factor"].factor == "none" and not settings["causal-no-context"].context


def test_every_experiment_can_be_planned_and_written(tmp_path):
    """Each record names systems, pages, templates and published rows that are there."""
    corpus = fabricated_corpus(tmp_path / "c.h5")
    for name, one in EXPERIMENTS.items():
        options = {option for system in one.systems.values() for option in system.options}
        if "meld" not in one.extras and not options & {"encoder", "both"}:  # the corpus has no vectors of an encoder
            assert len(planned(name, corpus, tmp_path, "--seeds", "3")) == len(one.systems)
        assert callable(getattr(pages, one.page)) and one.scores in SCORES and set(one.tables) <= set(EXPERIMENTS)
        assert _TEMPLATES.get_template(f"{one.template}.md.j2")
        assert one.base in (None, *(line.name for line in one.lines))
    assert {line.name for line in EXPERIMENTS["table3"].lines} == set(PUBLISHED["table3"])


def test_what_is_done_is_skipped_and_what_is_half_done_resumed(done, called):
    out, corpus = done
    run = next(one for one in planned("all", corpus, out) if one.system == "no-context")
    (out / "logs").mkdir()
    with going_on(out) as going:
        for state, scripts in (("done", []), ("not evaluated", ["evaluate.py"]), ("half", ["train.py", "evaluate.py"])):
            if state == "not evaluated":
                (run.folder / "predictions.csv").rename(run.folder / "kept.csv")
            if state == "half":
                content = read_json(run.folder / "run.json")
                kept = content["stages"].pop("fusion")
                write_json(run.folder / "run.json", content)
            called.clear()
            run(going)
            assert [call[0] for call in called] == scripts and run.done() is (state == "done")
        assert called[0] == ("train.py", "--run", str(run.folder), "--resume", "--corpus", str(corpus))
        content["stages"]["fusion"] = kept
        write_json(run.folder / "run.json", content)
        (run.folder / "kept.csv").rename(run.folder / "predictions.csv")
        fresh = planned("all", corpus, out / "elsewhere")[-1]
        fresh.log.parent.mkdir(parents=True)
        called.clear()
        fresh(going)
        assert called[0] == ("train.py", *fresh.options, "--run", str(fresh.folder))


def test_folder_of_another_run_is_refused(done, tmp_path):
    out, corpus = done
    with pytest.raises(InputError, match="epochs 50, not 3; choose another --out"):
        planned("table5", corpus, out, "--epochs", "3")
    words = tmp_path / "glove.txt"
    words.write_text("a 1\n")
    with pytest.raises(InputError, match="was trained with another GloVe file"):
        planned("table5", corpus, out, "--glove", str(words))
    with pytest.raises(InputError, match="another corpus file"):
        planned("table5", corpus, out)[0].check("0" * 64, None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-30],
        lambda text: text[:-2],  # within the last number
        lambda text: text + "\n",
        lambda text: "",
        lambda text: re.sub(",[^,]*\n$", ",nan\n", text),
        lambda text: text.replace("neutral,exciting", "exciting,neutral"),
    ],
)
def test_damaged_predictions_are_named(done, tmp_path, damage):
    out, corpus = done
    for folder in out.glob("full-seed*"):
        shutil.copytree(folder, tmp_path / folder.name)
    path = tmp_path / "full-seed0" / "predictions.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=r"full-seed0/predictions.csv: .*; evaluate the run again"):
        reproduce(work_of("table5", corpus, tmp_path))


def test_what_is_no_result_is_made_again_and_what_is_no_run_is_refused(done, tmp_path):
    out, corpus = done
    run = planned("table5", corpus, out)[0]
    content = (run.folder / "results.json").read_text()
    whole = json.loads(content)
    others = [whole | {"protocol": [1]}, whole | {"branches": 3}, {**whole, "disagreement_counts": None}]
    for damaged in ("[]", "", content[:300], "{}", *map(json.dumps, others)):
        (run.folder / "results.json").write_text(damaged)
        assert not run.evaluated()
    (run.folder / "results.json").write_text(content)
    assert run.evaluated()
    (run.folder / "epochs").mkdir()
    for epoch in (4, 5, 6):
        (run.folder / "epochs" / f"{epoch:03d}.weights.h5").touch()
    assert not run.lacks_epochs()
    epochs = (run.folder / "epochs.csv").read_text()
    for damaged in (epochs[: epochs.rindex("6,")], epochs[:10], epochs.replace("5,", "x,"), ""):
        (run.folder / "epochs.csv").write_text(damaged)
        assert run.lacks_epochs()
    (run.folder / "epochs.csv").write_text(epochs)
    (run.folder / "epochs" / "004.weights.h5").unlink()  # scored, and then deleted to save room
    assert not run.lacks_epochs()
    work = work_of("table4", corpus, out)
    costs = {"corpus_sha256": sha256(corpus), "parameters": {}, "flops_per_sample": {}, "devices": []}
    for damaged in ([1], {}, costs | {"corpus_sha256": "0"}):
        write_json(out / "costs.json", damaged)
        assert work.costs() is None
    write_json(out / "costs.json", costs)
    assert work.costs() == costs
    (out / "costs.json").unlink()
    shutil.rmtree(run.folder / "epochs")
    (tmp_path / run.folder.name / ".ipynb_checkpoints").mkdir(parents=True)  # as Jupyter makes them
    assert "--resume" not in planned("table5", corpus, tmp_path)[0].training()
    (tmp_path / run.folder.name / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than a run; move it, or choose another --out"):
        planned("table5", corpus, tmp_path)


def test_what_is_missing_is_said_before_anything_is_made(capsys):
    for arguments, message in (
        (["causal", "--quick"], "causal reads the word vectors of GloVe: give --glove FILE"),
        (["causal", "--corpus", "a.h5", "--finished"], "causal reads the word vectors of GloVe"),
        (["plain-peers", "--quick"], "plain-peers reads the word vectors of GloVe: give --glove FILE"),
        (["encoded", "--quick"], "encoded needs --corpus with an encoder's vectors: the miniature corpus has none"),
        (["meld", "--quick"], "meld needs --corpus with MELD"),
        (["trials", "--quick"], "trials sets its epochs itself"),
        (["table3", "--quick", "--seeds", "0", "-1"], "--seeds must be at least 0"),
        (["table3", "--quick", "--epochs", "0"], "--epochs must be at least 1"),
        (["table3", "--quick", "--rates", "0", "1e-4"], "--rates must be greater than 0"),
        (["table3", "--quick", "--seeds", "1073741824"], "--seeds must be below 2**30"),
        (["table3", "--quick", "--out", "results"], "--out results: is a run or the recorded tables; give a folder"),
    ):
        with pytest.raises(SystemExit):
            parse_arguments(arguments)
        assert message in capsys.readouterr().err


def test_program_that_fails_is_one_line_and_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.programs.PROJECT", tmp_path)
    (tmp_path / "bad.py").write_text("import sys; print('a'); sys.exit('error: no such file')")
    (tmp_path / "good.py").write_text("print('done')")
    (tmp_path / "killed.py").write_text("import os; os.kill(os.getpid(), 9)")
    bad, good, killed = (
        Program(name, tmp_path / f"{name}.txt", (f"{name}.py",), ()) for name in ("bad", "good", "killed")
    )
    with (
        pytest.raises(InputError, match=r"^killed was killed \(signal 9\), perhaps for want of memory; the same"),
        going_on(tmp_path) as going,
    ):
        killed(going)
    with (
        pytest.raises(InputError, match=r"bad failed: no such file \(all of it in .*bad.txt\)"),
        going_on(tmp_path) as going,
    ):
        do_all([good, bad, Program("later", tmp_path / "later.txt", ("good.py",), ())], going, here)
    assert (tmp_path / "good.txt").read_text() == "\n$ good.py\ndone\n" and not (tmp_path / "later.txt").read_text()
    assert not list(tmp_path.glob(".going*"))


COSTS = {
    "num_samples": 72,
    "mean_context": 3.5,
    "padded_context": 6,
    "parameters": {"text": 300, "audio": 200, "fusion": 1400000, "bc_lstm": 1700000, "embedding": 100},
    "parameters_without_embedding": {
        "ours": 1400400,
        "bc_lstm": 1700400,
        "ours_with_6553_audio_features": 12900000,
        "bc_lstm_with_6553_audio_features": 13200000,
    },
    "flops_per_sample": {name: {"once": 1.5e6, "padded": 3e6} for name in ("text", "audio", "fusion", "bc_lstm")},
    "flops_per_epoch": {name: {"once": 3e8, "padded": 6e8} for name in ("text", "audio", "fusion", "bc_lstm")},
    "seconds_per_epoch": {"fusion": 1.25, "bc_lstm": 2.5},
    "machine": "abacus, 2 cores",
    "devices": ["cpu:0"],
}


def test_tables_of_the_finished_runs_alone(done, tmp_path, capsys):
    """One seed of one system and all of another are missing: rows tell how many seeds they have."""
    out, corpus = done
    for folder in out.glob("*-seed*"):
        if folder.name not in ("no-context-seed1", "categorical-seed0", "categorical-seed1"):
            shutil.copytree(folder, tmp_path / folder.name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    said = reproduce(work_of("all", corpus, tmp_path))
    assert "table1 is not written: nothing finished of categorical" in capsys.readouterr().out
    assert "table3.md, table5.md, epochs.md;" in said
    with open(tmp_path / "table3.csv", encoding="utf-8", newline="") as file:
        seeds = {row["system"]: row["seeds"] for row in csv.DictReader(file)}
    assert (seeds["T+A"], seeds["T+A, no context"]) == ("2", "1")
    assert "seeds 0 1:" in (tmp_path / "table3.md").read_text()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


def test_tables_show_paper_and_ours(done):
    out, corpus = done
    tables, pages = {}, {}
    write_json(out / "costs.json", COSTS | {"corpus_sha256": sha256(corpus)})
    for experiment in PAPERS + OURS:
        reproduce(work_of(experiment, corpus, out))
        for name in EXPERIMENTS[experiment].tables:
            pages[name] = (out / f"{name}.md").read_text()
            assert "made up: the numbers say nothing about people" in pages[name].splitlines()[0]
            with open(out / f"{name}.csv", encoding="utf-8", newline="") as file:
                tables[name] = list(csv.DictReader(file))

    def mean_of(system, key, branch=None):
        scored = [results_of(out / f"{system}-seed{seed}") for seed in SEEDS]
        return np.mean([(one["branches"][branch] if branch else one)[key] for one in scored])

    accuracy = {row["system"]: row for row in tables["table3"] if row["score"] == "accuracy"}
    for name, system, branch in (("T", "full", "text"), ("T+A, no context", "no-context", None), ("T+A", "full", None)):
        assert float(accuracy[name]["mean"]) == pytest.approx(100 * mean_of(system, "accuracy_9", branch))
    assert (accuracy["T+A"]["mean"], accuracy["T+A"]["paper"], accuracy["T+A"]["p"]) == ("100.0", "51.6", "")
    gain = accuracy["T+A, no context"]
    assert float(gain["full_minus_this"]) == pytest.approx(100 - float(gain["mean"])) and float(gain["p"]) < 0.05
    assert "51.6 / **100.0** ± 0.0 [100.0, 100.0]" in pages["table3"]
    assert "2.0 minutes" not in pages["table3"] and "text and audio taken from the full run" in pages["table3"]
    assert [row["system"] for row in tables["table1"]][::2][-2:] == ["ours, categorical", "ours, regression"]
    assert "MARN (paper only)" in pages["table1"] and "C-MKL is not rebuilt" in pages["table1"]
    assert "dev chose epoch 9, the test session would choose 6; scored were 3 of 50 epochs, 4 to 6" in pages["epochs"]
    assert {row["system"] for row in tables["variants"]} == {"T+A, as released", "T+A, as in Figure 4"}
    precision = {row["system"]: row for row in tables["table5"]}
    assert precision["exciting"]["paper"] == "86.8" and float(precision["exciting"]["mean"]) == 100
    assert precision["fear"]["mean"] == ""  # nobody voted for it
    assert "| train | 5800 | 72 | 1405 | 1 |" in pages["table5"]
    assert len(tables["folds"]) == 6 * 6 and tables["folds"][0]["paper"] == ""
    causal = {(row["system"], row["score"]): row for row in tables["causal"]}
    for score, key, factor in (
        ("UA", "unweighted_accuracy_9", 100),
        ("accuracy", "accuracy_9", 100),
        ("MSE x 1000", "mean_squared_error", 1000),
    ):
        expected = factor * mean_of("causal-no-factor", key)
        assert float(causal["no factor", score]["mean"]) == pytest.approx(expected, rel=1e-4)
    assert len(tables["causal-folds"]) == 6 * 4
    by_name = {row[""]: row for row in tables["table4"]}
    assert by_name["BC-LSTM on the same vectors"]["seconds per epoch side by side"] == "2.5"
    assert by_name["fusion network"]["seconds per epoch in the runs"] == "1.2"  # 60 s for 50 epochs
    beyond = {row[""]: row for row in tables["beyond"]}
    assert float(beyond["T"]["MSE"]) == pytest.approx(mean_of("full", "mean_squared_error", "text"))
    assert beyond["T+A"]["scripted"] == "1.0"


LOSSES = {"full": (3, 2, 4), "no-context": (3, 1, 0.5), "no-factor": (1, 2, 0), "paper": (3, 1, 2)}


def test_dev_chooses_the_rate_of_each_line(tmp_path, called):
    """Two seeds decide, the test session is scored at the rate that stands, and recorded rows stand beside it."""
    corpus, rates, trained = fabricated_corpus(tmp_path / "c.h5"), (1e-4, 3e-4, 1e-3), []
    options = ("--seeds", "0", "1", "2", "--rates", *map(str, rates))
    work = work_of("table3", corpus, tmp_path, *options)

    def loss(run):
        name, number = run.system.split("-rate-")[0], rates.index(run.settings.learning_rate)
        return LOSSES[name][number] + (0.5 if run.seed == 0 else -0.5)

    def train(jobs):
        jobs = [arguments[0] for _, arguments, _ in jobs]
        trained.extend((job.system, job.seed, job.scored) for job in jobs)
        fabricate([job for job in jobs if not job.folder.exists()], corpus, loss)
        return [[] for _ in jobs]

    said = reproduce(work, train)
    assert "table3-rates.md" in said
    chosen = {name: one["chosen"] for name, one in read_json(tmp_path / "table3-rates.json")["lines"].items()}
    assert chosen == {
        "T+A, no context": "0.001",
        "T+A, no MCAF": "0.0001",
        "T+A": "0.0003",
        "T+A, as in Figure 4": "0.0003",
    }
    assert ("no-factor-rate-0.001", 0, False) not in trained, "3e-4 did not beat 1e-4"
    assert ("full", 2, False) in trained, "its branches are needed"
    scored = {system for system, seed, scored in trained if scored}
    assert scored == {"full-rate-0.0003", "no-context-rate-0.001", "no-factor", "paper-rate-0.0003"}
    page = (tmp_path / "table3-rates.md").read_text()
    assert "| T+A | 3.00000 | 2.00000 | 4.00000 | 0.0003 |" in page and "empty, since neither" in page
    with open(tmp_path / "table3-rates.csv", encoding="utf-8", newline="") as file:
        assert {row["seeds"] for row in csv.DictReader(file)} == {"3"}
    again = len(trained)
    assert "table3-rates.md" in reproduce(work, train) and len(trained) == again, "nothing is left to do"
    reproduce(work_of("table3", corpus, tmp_path, "--seeds", "0", "1"))
    reproduce(work_of("table3", corpus, tmp_path, *options))
    page = (tmp_path / "table3-rates.md").read_text()
    assert "of table3.csv in this folder" in page and "Not in the table" not in page
    for seed in range(3):
        (tmp_path / f"paper-rate-0.0003-seed{seed}" / "results.json").unlink()
    reproduce(work_of("table3", corpus, tmp_path, *options))
    page = (tmp_path / "table3-rates.md").read_text()
    assert "since no run at its rate is scored: T+A, as in Figure 4." in page and "| T+A, no MCAF |" in page
    assert at_rate(work.place, SYSTEMS["full"], 1e-4) is SYSTEMS["full"]


def test_a_line_that_was_not_run_is_no_peer(tmp_path):
    """Table 1 at the rates that dev chose, with nothing scored of the categorical network."""
    corpus, options = fabricated_corpus(tmp_path / "c.h5"), ("--rates", "1e-4", "3e-4")

    def train(jobs):
        fabricate([run for _, (run, *_), _ in jobs if isinstance(run, PlannedRun) and not run.folder.exists()], corpus)
        return [[] for _ in jobs]

    reproduce(work_of("table1", corpus, tmp_path, *options), train)
    for path in tmp_path.glob("categorical*/results.json"):
        path.unlink()
    reproduce(work_of("table1", corpus, tmp_path, *options))
    page = (tmp_path / "table1-rates.md").read_text()
    assert "no run at its rate is scored: ours, categorical." in page and "categorical (paper only)" not in page


def test_trials_are_of_dev_alone(tmp_path):
    """The fusion's lowest dev loss within 50 and 100 epochs, seed by seed; no run's test session is scored."""
    corpus = fabricated_corpus(tmp_path / "c.h5")
    work = work_of("trials", corpus, tmp_path, "--seeds", "0", "1")

    def train(jobs):
        jobs = [arguments[0] for _, arguments, _ in jobs]
        assert not any(job.scored for job in jobs)
        fabricate(jobs, corpus)
        for job in jobs:  # falls to epoch 60, then rises; twice as high without the padding, higher for seed 1
            first = [[stage, epoch, 0.2, 0.1, 0.5] for stage in job.stages[:-1] for epoch in range(1, 51)]
            high = (2 if job.system == "full-uncounted" else 1) + job.seed / 2
            own = [
                ["fusion", epoch, 0.2, high * (1 + abs(60 - epoch)) / 100, 0.5]
                for epoch in range(1, job.settings.epochs + 1)
            ]
            write_csv(job.folder / "history.csv", EpochRow._fields, own if job.giver else first + own)
        return [[] for _ in jobs]

    assert "trials.md" in reproduce(work, train)
    with open(tmp_path / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row[""], row["epochs"], row["kept epoch"]) for row in rows] == [
        ("as released", "50", "50"),
        ("as released", "100", "60"),
        ("padding not counted by batch norm", "50", "50"),
    ]
    losses = [[float(loss) for loss in row["seed by seed"].split()] for row in rows]
    np.testing.assert_allclose(losses, [[0.11, 0.165], [0.01, 0.015], [0.22, 0.275]])
    assert [float(row["mean lowest dev loss"]) for row in rows] == pytest.approx([0.1375, 0.0125, 0.2475])
