"""Many runs with one command: what is planned, what is skipped, refused or resumed, and the tables written from it."""

import csv
import functools
import json
import shutil

import numpy as np
import pytest

import reproduce
import train
from data.corpus import Corpus, read_corpus, write_corpus
from storage.files import InputError, sha256, write_csv, write_json
from data.labels import EMOTIONS, split_sessions, vote_shares
from evaluate import EPOCHS_HEADER, score
from experiments.intervals import END, System, dialog_draws, difference, disagreement_systems, interval, recognition, system_rows
from experiments.tables import BEGIN, HERE, WRITERS, Results, gather

SEEDS = [0, 1]


def arguments_of(experiment, corpus, out, *options):
    arguments = ["--corpus", str(corpus), "--out", str(out), "--seeds", *map(str, SEEDS), *options]
    return reproduce.parse_arguments([experiment, *arguments])


def planned(experiment, corpus, out, *options):
    return reproduce.planned_runs(arguments_of(experiment, corpus, out, *options), corpus)


def test_plan_shares_branches_and_folds_cover_the_sessions(tmp_path):
    plan = planned("all", tmp_path / "c.h5", tmp_path)
    assert {(run.system, run.branches) for run in plan if run.seed == 1} == {
        ("full", None),
        ("categorical", None),
        ("no-context", tmp_path / "full-seed1"),
        ("no-factor", tmp_path / "full-seed1"),
    }
    folds = [train.parse_arguments(run.options)[1] for run in planned("folds", tmp_path / "c.h5", tmp_path)]
    assert [s.test_session for s in folds if s.seed == 0] == [1, 2, 3, 4, 5]
    for settings in folds:
        assert sorted((*settings.train_sessions, settings.dev_session, settings.test_session)) == [1, 2, 3, 4, 5]
        assert settings.epochs == 50 and settings.learning_rate == 1e-4  # the paper's


def test_plan_of_the_causal_variant(tmp_path):
    """Its ablations take branches from its own full run; defaults are its own; folds as for the paper's networks."""
    corpus = tmp_path / "c.h5"
    for experiment, others in (("causal", ("no-factor", "no-context")), ("causal-modalities", ("text", "audio"))):
        plan = [run for run in planned(experiment, corpus, tmp_path) if run.seed == 1]
        assert {run.system: run.branches for run in plan} == {"causal": None} | {
            f"causal-{name}": tmp_path / "causal-seed1" for name in others
        }
        settings = [train.parse_arguments(run.options)[1] for run in plan]
        assert {(s.variant, s.loss, s.batch_size, s.seed) for s in settings} == {("causal", "cross_entropy", 4, 1)}
    folds = [train.parse_arguments(run.options)[1] for run in planned("causal-folds", corpus, tmp_path)]
    assert [(s.variant, s.test_session) for s in folds if s.seed == 0] == [("causal", n) for n in (1, 2, 3, 4, 5)]


class Recorded:
    """Stands for `reproduce.Programs`: keeps the command lines."""

    def __init__(self):
        self.calls = []

    def run(self, what, log, script, *arguments):
        self.calls.append((script, *map(str, arguments)))


def test_what_is_done_is_skipped_and_what_is_half_done_resumed(fabricated):
    out, corpus = fabricated
    run = next(one for one in planned("all", corpus, out) if one.system == "no-context")
    for state, scripts in (("done", []), ("not evaluated", ["evaluate.py"]), ("half", ["train.py", "evaluate.py"])):
        if state == "not evaluated":
            (run.folder / "predictions.csv").rename(run.folder / "kept.csv")
        if state == "half":
            content = json.loads((run.folder / "run.json").read_text())
            kept = content["stages"].pop("fusion")
            write_json(run.folder / "run.json", content)
        programs = Recorded()
        run.finish(programs)
        assert [call[0] for call in programs.calls] == scripts
    assert programs.calls[0] == ("train.py", "--run", str(run.folder), "--resume")
    content["stages"]["fusion"] = kept
    write_json(run.folder / "run.json", content)
    (run.folder / "kept.csv").rename(run.folder / "predictions.csv")

    fresh = planned("all", corpus, out / "elsewhere")[-1]
    programs = Recorded()
    fresh.finish(programs)
    assert programs.calls[0] == ("train.py", *fresh.options, "--run", str(fresh.folder))


def test_folder_of_another_run_is_refused(fabricated, tmp_path):
    out, corpus = fabricated
    for run in planned("all", corpus, out):
        run.check(sha256(corpus))
    with pytest.raises(InputError, match="epochs 50, not 3; choose another --out"):
        planned("table5", corpus, out, "--epochs", "3")[0].check(sha256(corpus))
    with pytest.raises(InputError, match="another corpus file"):
        planned("table5", corpus, out)[0].check("0" * 64)


def test_program_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "SCRIPTS", tmp_path)
    (tmp_path / "train.py").write_text(
        "import sys; print('a'); print('error: no such file', file=sys.stderr); sys.exit(2)"
    )
    with pytest.raises(InputError, match="full seed 0 failed: no such file .all of it in "):
        reproduce.Programs().run("full seed 0", tmp_path / "log.txt", "train.py")


def fabricated_corpus(path):
    """24 dialogs of 6 in five sessions, half of them scripted; the votes are random, with ties."""
    rng = np.random.default_rng(0)
    kinds = ("impro01", "impro02", "script01_1", "script02_1")
    dialogs = sorted(f"Ses0{session}F_{kind}" for session in range(1, 6) for kind in kinds)
    ids = [f"{dialog}_F{number:03d}" for dialog in dialogs for number in range(6)]
    count = len(ids)
    return write_corpus(
        path,
        Corpus(
            name="fabricated (made up)",
            emotions=EMOTIONS,
            audio_feature_set="egemaps_lld",
            audio_names=("a", "b"),
            utterance_id=np.array(ids),
            dialog_id=np.repeat(dialogs, 6),
            speaker=np.array([name[:6] for name in ids]),
            transcript=np.array(["word"] * count),
            session=np.array([int(name[4]) for name in ids], "int8"),
            start_s=np.tile(np.arange(6.0), len(dialogs)),
            end_s=np.tile(np.arange(6.0) + 0.5, len(dialogs)),
            votes_external=rng.multinomial(3, [0.2, 0.2, 0.1, 0.2, 0.1, 0.1, 0.05, 0.05, 0, 0], count).astype("int16"),
            votes_self=np.zeros((count, 10), "int16"),
            audio=rng.normal(size=(count, 2)).astype("float32"),
        ),
    )


FABRICATED = ("all", "variants", "rates", "folds", "causal", "causal-folds")


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory):
    """The folder of `reproduce.py` as if these experiments were done; the full model predicts the votes."""
    out = tmp_path_factory.mktemp("reproduce")
    path = out / "corpus.h5"
    fabricated_corpus(path)
    corpus = read_corpus(path)
    shares = vote_shares(corpus.votes_external, corpus.votes_self)
    rng = np.random.default_rng(1)
    plan = {run.folder: run for experiment in FABRICATED for run in planned(experiment, path, out)}
    for run in plan.values():
        settings = train.parse_arguments(run.options)[1]
        split = split_sessions(
            corpus.session, settings.train_sessions, (settings.dev_session,), (settings.test_session,)
        )
        test, noise = split["test"], 0 if run.system == "full" else 2
        predictions = {
            "predictions": shares[test] + noise * rng.random((len(test), 10)),
            "predictions_text": rng.random((len(test), 10)),
            "predictions_audio": rng.random((len(test), 10)),
        }
        run.folder.mkdir()
        if run.system == "full":
            predictions["predictions_best_on_test"] = rng.random((len(test), 10))
            epochs = [[epoch, 0.2, 0.1 * epoch, 0.1, 0.1, 0.1] for epoch in (4, 5, 6)]
            write_csv(run.folder / "epochs.csv", EPOCHS_HEADER, epochs)
        for name, values in predictions.items():
            rows = [
                [utterance, *map(float, row)] for utterance, row in zip(corpus.utterance_id[test], values, strict=True)
            ]
            write_csv(run.folder / f"{name}.csv", ["utterance_id", *EMOTIONS], rows)
        scored = {name: score(corpus, shares, split["train"], test, one) for name, one in predictions.items()}
        counts = {part: {"utterances": len(rows), "ties": 1} for part, rows in split.items()}
        results = {
            **scored["predictions"],
            "protocol": {"weights_sha256": {"fusion.weights.h5": "f"}},
            "branches": {"text": scored["predictions_text"], "audio": scored["predictions_audio"]},
            "disagreement_counts": counts,
        }
        write_json(run.folder / "results.json", results)
        stage = {"epochs": 50, "best_epoch": 9, "best_dev_loss": 0.1, "seconds": 60.0}
        taken = {**stage, "taken_from": "full"} if run.branches else stage
        content = {
            "format": "mcaf-run",
            "format_version": 1,
            "settings": {name: value for name, value in vars(settings).items()},
            "emotions": list(EMOTIONS),
            "context_length": 6,
            "corpus": {
                "name": corpus.name,
                "path": str(path),
                "sha256": corpus.sha256,
                "audio_feature_set": "egemaps_lld",
                "num_audio_features": 2,
            },
            "glove": None,
            "branches": str(run.branches) if run.branches else None,
            "stages": {"text": taken, "audio": taken, "fusion": stage},
            "files": {"fusion.weights.h5": "f", "scaler.json": "s"},
            "machine": "abacus, 2 cores",
            "devices": ["cpu:0"],
            "backend": "tensorflow",
        }
        write_json(run.folder / "run.json", content)
    return out, path


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


def test_tables_of_the_finished_runs_alone(fabricated, tmp_path, capsys, monkeypatch):
    """One seed of one system and all of another are missing: rows tell how many seeds they have."""
    monkeypatch.setattr("tables.dialog_draws", functools.partial(dialog_draws, num_draws=200))
    out, corpus = fabricated
    for folder in out.glob("*-seed*"):
        if folder.name not in ("no-context-seed1", "categorical-seed0", "categorical-seed1"):
            shutil.copytree(folder, tmp_path / folder.name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    reproduce.reproduce(arguments_of("all", corpus, tmp_path, "--finished"))
    said = capsys.readouterr().out
    assert "table1 is not written: nothing finished of categorical" in said
    assert "table4 is not written: nothing finished of costs" in said and "table3.md" in said
    with open(tmp_path / "table3.csv", encoding="utf-8", newline="") as file:
        seeds = {row["system"]: row["seeds"] for row in csv.DictReader(file)}
    assert (seeds["T+A"], seeds["T+A, no context"]) == ("2", "1")
    assert "seeds 0 1:" in (tmp_path / "table3.md").read_text()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


def test_tables_show_paper_and_ours(fabricated, tmp_path, monkeypatch):
    monkeypatch.setattr("tables.dialog_draws", functools.partial(dialog_draws, num_draws=200))
    out, corpus = fabricated
    tables = {}

    def scored(system):
        return [json.loads((out / f"{system}-seed{seed}" / "results.json").read_text()) for seed in SEEDS]

    names = (*reproduce.TABLES, "epochs", "beyond", "variants", "rates", "folds", "causal", "causal-folds")
    for name in names:  # test_meld.py has table2
        systems = reproduce.EXPERIMENTS[name if name in FABRICATED else "all"]
        folders = {system: [out / f"{system}-seed{seed}" for seed in SEEDS] for system in systems}
        WRITERS[name](Results(folders, corpus, COSTS), tmp_path / name)
        markdown = (tmp_path / f"{name}.md").read_text()
        assert "made up" in markdown.splitlines()[0] and "nan" not in markdown.lower()
        with open(tmp_path / f"{name}.csv", encoding="utf-8", newline="") as file:
            tables[name] = list(csv.DictReader(file))

    rows = {(row["system"], row["score"]): row for row in tables["table3"]}
    full = rows["T+A", "accuracy"]
    assert full["paper"] == "51.6" and float(full["mean"]) == float(full["low"]) == float(full["high"]) == 100
    ablation = rows["T+A, no MCAF", "accuracy"]
    values = [100 * one["accuracy_9"] for one in scored("no-factor")]
    assert float(ablation["mean"]) == pytest.approx(np.mean(values))
    assert float(ablation["sd"]) == pytest.approx(np.std(values, ddof=1))
    assert float(ablation["full_minus_this"]) == pytest.approx(100 - np.mean(values))
    assert float(ablation["low"]) < np.mean(values) < float(ablation["high"])
    text = [100 * one["branches"]["text"]["accuracy_9"] for one in scored("full")]
    assert float(rows["T", "accuracy"]["mean"]) == pytest.approx(np.mean(text))
    assert "text and audio taken from the full run" in (tmp_path / "table3.md").read_text()
    assert {row["system"]: row["paper"] for row in tables["table1"] if row["score"] == "accuracy"}[
        "MARN (paper only)"
    ] == "44.1"
    epochs = {(row["system"], row["score"]): row for row in tables["epochs"]}
    best = epochs["epoch of the highest test accuracy", "accuracy"]
    assert float(epochs["epoch of the lowest dev loss", "accuracy"]["mean"]) == 100 and float(best["mean"]) < 100
    assert "test session would choose 6; scored were 3 of 50 epochs, 4 to 6" in (tmp_path / "epochs.md").read_text()
    assert {row["system"] for row in tables["variants"]} == {"T+A, as released", "T+A, as in Figure 4"}
    rates = {row["system"]: row for row in tables["rates"] if row["score"] == "accuracy"}
    assert [(name, row["paper"]) for name, row in rates.items()] == [
        ("T+A, learning rate 0.0001", "51.6"),
        ("T+A, learning rate 0.0003", ""),
        ("T+A, learning rate 0.001", ""),
        ("T+A, no context, learning rate 0.0003", ""),
        ("T+A, no MCAF, learning rate 0.0003", ""),
    ]
    fastest = 100 * np.mean([one["accuracy_9"] for one in scored("rate-1e-3")])
    assert float(rates["T+A, learning rate 0.001"]["mean"]) == pytest.approx(fastest)
    precision = {row["system"]: row for row in tables["table5"]}
    assert precision["exciting"]["paper"] == "86.8" and float(precision["exciting"]["mean"]) == 100
    assert precision["fear"]["mean"] == ""  # nobody voted for it
    assert len(tables["folds"]) == 6 * 6 and tables["folds"][0]["paper"] == ""
    causal = {(row["system"], row["score"]): row for row in tables["causal"]}
    results = scored("causal-no-factor")
    for score_name, key in (("UA", "unweighted_accuracy_9"), ("accuracy", "accuracy_9")):
        expected = 100 * np.mean([one[key] for one in results])
        assert float(causal["no factor", score_name]["mean"]) == pytest.approx(expected)
    squared_error = 1000 * np.mean([one["mean_squared_error"] for one in results])
    assert float(causal["no factor", "MSE x 1000"]["mean"]) == pytest.approx(squared_error, rel=1e-4)
    assert len(tables["causal-folds"]) == 6 * 4
    by_name = {row[""]: row for row in tables["table4"]}
    assert by_name["BC-LSTM on the same vectors"]["seconds per epoch side by side"] == "2.5"
    assert by_name["fusion network"]["seconds per epoch in the runs"] == "1.2"  # 60 s for 50 epochs


def test_tables_are_gathered(tmp_path):
    """The first folder that has a table gives it; the README's rows come from the CSV files, the rest of it stays."""
    header = "system,score,paper,seeds,mean,sd,low,high"
    for folder, accuracy in (("a", "61.52"), ("b", "9")):
        (tmp_path / folder).mkdir()
        rows = [f"causal,{score},,5,{accuracy},0.71,56.1,65.0" for score in ("accuracy", "weighted F1")]
        (tmp_path / folder / "causal.csv").write_text("\n".join([header, *rows]))
        (tmp_path / folder / "causal.md").write_text(f"# Ours\n\n{accuracy}\n")
    rows = [f"T+A,{score},51.6,1,49.8,,45.0,54.0" for score in ("accuracy", "weighted F1")]
    (tmp_path / "b" / "table3.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "b" / "table3.md").write_text("# Table 3\n")
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert gather([tmp_path / "a", tmp_path / "b"], tmp_path) == ["table3", "causal"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Table 3" in text and "## Ours\n\n61.52" in text and "## Ours\n\n9" not in text
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith(f"{END}\nafter\n") and "old" not in readme
    cell = "– / 61.5 ± 0.7 [56.1, 65.0]"
    assert f"| **causal variant (ours)** | 5 | {cell} | {cell} |" in readme
    assert "| 1 | 51.6 / 49.8 [45.0, 54.0] |" in readme
    with pytest.raises(InputError, match="no table"):
        gather([tmp_path / "results"], tmp_path)
    with pytest.raises(InputError, match="README.md: cannot be read"):
        gather([tmp_path / "a"], tmp_path / "b")
    assert not (tmp_path / "b" / "results").exists()
    (tmp_path / "a" / "causal.md").write_text("# Ours, on miniature (made up)\n")
    with pytest.raises(InputError, match="causal.md: is of a made-up corpus"):
        gather([tmp_path / "a"], HERE)


def test_bootstrap_draws_whole_dialogs():
    counts, dialog = dialog_draws(np.array(["b", "b", "a", "c"]), num_draws=500, seed=3)
    assert counts.shape == (500, 3) and (counts.sum(axis=1) == 3).all() and list(dialog) == [1, 1, 0, 2]
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)
    shares = np.array([[1.0, 0, 0]] * 2 + [[0, 1.0, 0]] * 2)
    emotions = ("angry", "sadness", "other")
    right = recognition("right", (), shares, [shares], (counts, dialog), emotions)
    half = recognition("half", (), shares, [shares, np.tile([1.0, 0, 0], (4, 1))], (counts, dialog), emotions)
    assert list(half.per_seed[:, 0]) == [100, 50]
    # The second seed is right on dialog b alone, which has two utterances.
    expected = (100 + 100 * 2 * counts[:, 1] / (2 * counts[:, 1] + counts[:, 0] + counts[:, 2])) / 2
    np.testing.assert_allclose(half.draws[:, 0], expected)
    assert np.isnan(right.draws[counts[:, 1] == 0, 2]).all()  # no angry utterance in the draw: no recall
    ends, p = difference(right.draws[:, 0], half.draws[:, 0])
    assert ends == pytest.approx(tuple(np.quantile(100 - expected, (0.025, 0.975))))
    assert p == pytest.approx(2 * (expected == 100).mean())
    assert interval(np.array([np.nan])) is None and difference(np.array([np.nan]), np.array([1.0])) == (None, None)


def test_single_seed_has_no_deviation():
    system = System("x", (50.0,), np.array([[40.0]]), np.arange(101.0)[:, None])
    assert system_rows([system], ("accuracy",)) == [["x", "accuracy", 50.0, 1, 40.0, "", 2.5, 97.5, "", "", "", ""]]


def test_disagreement_bootstrap_counts_dialogs_as_often_as_drawn():
    shares = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1.0, 0, 0]])
    draws = (np.array([[1, 1, 1], [0, 2, 1]]), np.arange(3))
    prediction = np.array([[0, 0.4, 0], [0, 0.9, 0], [0, 0, 0]])
    systems = disagreement_systems((1.0, 2.0, 3.0, 4.0), shares, [prediction], draws, ("a", "b", "c"))
    assert [system.name for system in systems] == ["a", "b", "c", "mean"]
    assert [float(system.per_seed[0, 0]) for system in systems] == pytest.approx([100, 50, 50, 200 / 3])
    assert np.isnan(systems[1].draws[1, 0]) and systems[2].draws[1, 0] == 100
