"""A small corpus, and the folder of `reproduce.py` as if experiments on it were done: files alone, no network."""

import json

import numpy as np

import reproduce
from data.corpus import Corpus, read_corpus, write_corpus
from data.labels import EMOTIONS
from data.task import Task
from experiments.catalogue import EXPERIMENTS
from experiments.reproduction import Reproduction
from experiments.runs import Place
from scoring.evaluation import EPOCHS_HEADER
from scoring.results import score, write_predictions
from storage.files import sha256, write_csv, write_json
from storage.runs import CorpusFile, Run, StageSummary, WordsFile, write_run

SEEDS = (0, 1)


def work_of(experiment, corpus, out, *options):
    """The `Reproduction` of a command line."""
    seeds = () if "--seeds" in options else ("--seeds", *map(str, SEEDS))
    if experiment.startswith(("causal", "emo", "encoded", "plain")):  # it reads words through GloVe
        glove = corpus.with_name("glove.txt")
        glove.write_text("word 1\n")
        options = ("--glove", str(glove), *options)
    given = reproduce.parse_arguments([experiment, "--corpus", str(corpus), "--out", str(out), *seeds, *options])
    place = Place(given.out, given.corpus, given.glove, given.quick, given.epochs, given.patience)
    return Reproduction(EXPERIMENTS[experiment], place, given.seeds, given.rates)


def planned(experiment, corpus, out, *options):
    """The runs of a command line."""
    work = work_of(experiment, corpus, out, *options)
    return work.planned(work.experiment)


def fabricated_corpus(path):
    """24 dialogs of 6 in five sessions, half of them scripted; the votes are random, with ties."""
    rng = np.random.default_rng(0)
    kinds = ("impro01", "impro02", "script01_1", "script02_1")
    dialogs = sorted(f"Ses0{session}F_{kind}" for session in range(1, 6) for kind in kinds)
    ids = [f"{dialog}_F{number:03d}" for dialog in dialogs for number in range(6)]
    count = len(ids)
    corpus = Corpus(
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
    )
    write_corpus(path, corpus)
    return path


def fabricate(runs, corpus_path, dev_loss=lambda run: 0.1):
    """Makes the folders of planned runs, trained and scored; "full" predicts the votes, the others badly."""
    corpus, rng = read_corpus(corpus_path), np.random.default_rng(1)
    for run in runs:
        task = Task.of(corpus, run.settings)
        shares, noise = task.shares[task.test], 0 if run.system == "full" else 2
        predictions = {"predictions": shares + noise * rng.random(shares.shape)}
        others = {f"predictions_{name}": rng.random(shares.shape) for name in run.stages[:-1] if "-" not in name}
        run.folder.mkdir(parents=True)
        if run.system == "full":
            predictions["predictions_best_on_test"] = rng.random(shares.shape)
            epochs = [[epoch, 0.2, 0.1 * epoch, 0.1, 0.1, 0.1] for epoch in (4, 5, 6)]
            write_csv(run.folder / "epochs.csv", EPOCHS_HEADER, epochs)
        for name, values in (predictions | others).items():
            write_predictions(run.folder / f"{name}.csv", task, values)
        weights = {f"{name}.weights.h5": name[0] for name in run.stages}
        results = {
            **score(task, predictions["predictions"]),
            "protocol": {"weights_sha256": weights},
            "branches": {name.removeprefix("predictions_"): score(task, one) for name, one in others.items()},
            "disagreement_counts": {part: {"utterances": len(rows), "ties": 1} for part, rows in task.split.items()},
        }
        write_json(run.folder / "results.json", results)
        stage = {"epochs": run.settings.epochs, "best_epoch": 9, "seconds": 60.0}
        stages = {name: StageSummary(**stage, best_dev_loss=dev_loss(run)) for name in run.stages}
        for name in run.stages[:-1] if run.branches else ():
            stages[name].taken_from = str(run.branches)
        content = Run(
            settings=run.settings,
            emotions=EMOTIONS,
            context_length=6,
            corpus=CorpusFile(
                name=corpus.name,
                path=str(corpus_path),
                sha256=corpus.sha256,
                audio_feature_set="egemaps_lld",
                num_audio_features=2,
            ),
            glove=WordsFile(path="", sha256=sha256(glove)) if (glove := _glove(run)) else None,
            branches=str(run.branches) if run.branches else None,
            stages=stages,
            files=weights | {"scaler.json": "s"},
            machine="abacus, 2 cores",
            devices=("cpu:0",),
            backend="tensorflow",
        )
        write_run(run.folder, content)


def _glove(run):
    return run.options[run.options.index("--glove") + 1] if "--glove" in run.options else None


def results_of(folder):
    """The content of a run's results.json."""
    return json.loads((folder / "results.json").read_text())
