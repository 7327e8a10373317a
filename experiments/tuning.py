"""Tunes the peers on dev and scores the best of each once: the work of `python -m experiments.baselines`.

Letters of the shapes: N utterances, C emotions.
"""

import collections
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from checkpoint import load_checkpoint
from data.corpus import read_corpus
from data.labels import categorical_targets, is_tie
from data.scaling import Scaler
from data.task import Task, name_of_test
from experiments.catalogue import CONTENT, GRIDS, PEERS, PLAIN_GRIDS
from experiments.peers import BC_LSTM_WINDOW, TRAINERS
from scoring.evaluation import home_of_results, task_of
from scoring.metrics import confusion_matrix, scores
from scoring.results import score, write_predictions
from storage.files import InputError, made_folder, sha256, whole_json, write_json
from storage.runs import Run, read_run
from systems.causal.inputs import LARGEST_FEATURE, Words
from training import backend


@dataclass(frozen=True)
class Material:
    """What all peers share: the `data.task.Task`, and (N, F) `vectors` standardised on the training utterances.

    Acoustic columns come first; of a run's branches they are 400. `ties` is as of the command line, or of plain_peers
    in experiments.toml; `run` gave the vectors, or says which words and sound they are of.
    """

    task: Task
    vectors: np.ndarray
    ties: str
    run: Run | None = None

    @functools.cached_property
    def targets(self):
        """(N, C) what networks learn: vote shares, or one-hot with ties as 'other', which may be left out."""
        if self.ties in ("ours", "shares"):
            return self.task.shares
        emotions = self.task.emotions
        return categorical_targets(self.task.shares, emotions.index("other") if "other" in emotions else 0)

    @property
    def loss(self):
        """Mean squared error with a linear output, as the paper regresses, for "ours"; else cross-entropy, softmax."""
        return "mse" if self.ties == "ours" else "cross_entropy"

    @property
    def activation(self):
        return None if self.ties == "ours" else "softmax"


def baselines(
    run, corpus=None, out=None, systems=tuple(GRIDS), seeds=None, ties="other", epochs=50, patience=5, glove=None
):
    """Tunes, trains and scores; a peer whose results are there is not trained again.

    Args:
        run: folder of a run with finished text and audio branches.
        corpus: corpus file; None for the one of the run.
        out: folder for the results; None for RUN/baselines, of a provided checkpoint runs/NAME/baselines.
        systems: names in GRIDS or PLAIN_GRIDS.
        seeds: None for the run's.
        ties: "other" or "ours", see `--ties`.
        epochs, patience: of the networks.
        glove: where the run's GloVe file is now, for the peers that read it; None for where it was.

    Returns:
        The text to print: one line per peer and seed.

    Raises:
        InputError: no such branches, corpus and run do not fit, or a result folder holds something else.
    """
    backend.make_deterministic()
    plain = [system for system in systems if system in PLAIN_GRIDS]
    material = material_of(run, corpus, ties) if len(plain) < len(systems) else None
    plain_one = plain_material(run, corpus, glove) if plain else None
    out = made_folder(out or home_of_results(run, read_run(run)) / "baselines")
    lines = [f"{'system':<16} seed  dev accuracy  test accuracy  weighted F1      UA  chosen"]
    for seed in seeds or [(material or plain_one).run.settings.seed]:
        for system in systems:
            folder = made_folder(out / f"{system}-seed{seed}")
            one = replace(plain_one, ties=CONTENT["plain_peers"][system]["ties"]) if system in plain else material
            own = identity(one.run, one.task.corpus, system, one.ties, seed, epochs, patience)
            results = finished(folder, own) or tune(one, own, folder, epochs, patience)
            chosen = results["protocol"]["chosen"]
            numbers = [chosen["dev_accuracy"], results["accuracy_9"], results["weighted_f1_9"]]
            numbers.append(results["unweighted_accuracy_9"])
            point = ", ".join(f"{name} {value:g}" for name, value in chosen["point"].items()) or "-"
            lines.append("{:<16} {:4d} {:13.4f} {:14.4f} {:12.4f} {:7.4f}  {}".format(system, seed, *numbers, point))
    return "\n".join([*lines, f"\nwritten to {out}: a folder per system and seed with results.json, predictions.csv"])


def material_of(run_folder, corpus_path, ties):
    """Reads run and corpus, and computes the utterance vectors."""
    recogniser = load_checkpoint(run_folder, ("text", "audio"))
    task = task_of(recogniser, corpus_path)
    learned = task.shares[np.concatenate([task.train, task.dev])]
    if ties == "other" and is_tie(learned).any() and "other" not in task.emotions:
        raise InputError(f"{task.corpus.name}: has ties and no emotion 'other' for them to become; give --ties ours")
    vectors = recogniser.run_branches(task.corpus)[0]
    vectors = np.concatenate([vectors["audio"], vectors["text"]], axis=1)
    scaler = Scaler.fit(vectors[task.train], map(str, range(vectors.shape[1])))
    return Material(task, scaler.transform(vectors), ties, recogniser.run)


def plain_material(run_folder, corpus_path, glove=None):
    """Mean GloVe vectors and acoustic columns, of a run's corpus and GloVe file; `glove` is where that is now."""
    run = read_run(run_folder)
    path = Path(corpus_path or run.corpus.path)
    task = Task.of(read_corpus(path), run.settings)
    if task.corpus.sha256 != run.corpus.sha256:
        raise InputError(f"{path}: is not the corpus file that {run_folder} was trained on")
    if not run.glove or not task.corpus.audio_names:
        raise InputError(f"{run_folder}: was trained without GloVe or without sound, which these peers read")
    glove = Path(glove or run.glove.path)
    if not glove.is_file():
        raise InputError(f"{glove}: no such file; say with --glove where the GloVe file of {run_folder} is now")
    if sha256(glove) != run.glove.sha256:
        raise InputError(f"{glove}: is not the GloVe file that {run_folder} was trained with")
    corpus, training = task.corpus, task.split["train"]
    text = Words.fit(corpus.transcript[training], glove).rows(corpus.transcript)[0]
    audio = Scaler.fit(corpus.audio[training], corpus.audio_names).transform(corpus.audio)
    audio = np.clip(audio, -LARGEST_FEATURE, LARGEST_FEATURE)
    return Material(task, np.concatenate([audio, text], axis=1), "shares", run)


def identity(run, corpus, system, ties, seed, epochs, patience):
    """What decides a result; stands in its protocol.

    Args:
        run: `storage.runs.Run` that gives the vectors, or says of which words and sound they are.
        corpus: `data.corpus.Corpus`.
        system: in GRIDS or PLAIN_GRIDS.
        ties: as of `Material`.
        seed, epochs, patience: as of `baselines`.
    """
    read = () if system in PLAIN_GRIDS else _BRANCHES
    weights = {name: digest for name, digest in run.files.items() if name in read}
    settings = run.settings.model_dump(mode="json")
    own = {"epochs": epochs, "patience": patience} if "learning_rate" in _ALL_GRIDS[system][0] else {}
    return {
        "system": system,
        "seed": seed,
        "ties": ties,
        "corpus_sha256": corpus.sha256,
        "branches_sha256": weights,
        "test": name_of_test(corpus, run.settings),
        "raters": settings["raters"],
        "task": {name: settings[name] for name in _OF_TASK},
        "glove_sha256": run.glove_sha256,
        "grid": _ALL_GRIDS[system],
        **own,
        **({"window": BC_LSTM_WINDOW} if system == "bc_lstm" else {}),
    }


_ALL_GRIDS = collections.ChainMap(GRIDS, PLAIN_GRIDS)
_BRANCHES = ("text.weights.h5", "audio.weights.h5")
_OF_TASK = ("train_sessions", "dev_session", "split", "emotion", "targets")
_LATER = {"task", "glove_sha256"}  # what results of earlier versions do not say


def finished(folder, own):
    """The results of the peer of this `identity` if it is done, or None.

    Raises:
        InputError: the folder holds results of something else.
    """
    results = results_in(folder)
    if results and (name := other_in(results["protocol"], own)):
        raise InputError(f"{folder}: holds results with another {name}; choose another --out")
    return results


def results_in(folder):
    """The content of a peer's results.json; None where it is not there, damaged, or without its predictions."""
    results = whole_json(folder / "results.json", "protocol", "unweighted_accuracy_9")
    whole = isinstance(results.get("protocol"), dict) and "chosen" in results["protocol"]
    return results if whole and (folder / "predictions.csv").exists() else None


def other_in(protocol, own):
    """The first of an `identity` that a protocol has otherwise, or None."""
    for name, value in own.items():
        if protocol.get(name) != value and (name in protocol or name not in _LATER):
            return name
    return None


def tune(material, own, folder, epochs, patience):
    """Trains every grid point, scores the test utterances with the best on dev, writes and returns results.json."""
    task, system, seed = material.task, own["system"], own["seed"]
    points, best = [], None
    began = time.perf_counter()
    for point in _ALL_GRIDS[system]:
        predict, details = TRAINERS[system](material, seed, epochs=epochs, patience=patience, **point)
        matrix = confusion_matrix(task.shares[task.dev], predict(task.dev))
        accuracy = scores(matrix, task.emotions, without=("other",))["accuracy"]
        points.append({"point": point, "dev_accuracy": accuracy, **details})
        print(f"{system} seed {seed} {point}: dev accuracy {accuracy:.4f} {details}", flush=True)
        if best is None or accuracy > best[0]["dev_accuracy"]:
            best = points[-1], predict
    chosen, predict = best
    predictions = predict(task.test)
    results = {
        "protocol": {
            **own,
            "name": PEERS[system],
            "corpus": task.corpus.name,
            "selection_rule": "networks: epoch of the lowest dev loss; grid point of the highest dev accuracy without "
            "'other'; the test utterances are scored once",
            "tie_rule": "utterances whose label or prediction has no unique maximum are left out of the score",
            "points": points,
            "chosen": chosen,
            "seconds": time.perf_counter() - began,
            **backend.describe_device(),
        },
        "emotions": list(task.emotions),
        **score(task, predictions),
    }
    write_predictions(folder / "predictions.csv", task, predictions)
    write_json(folder / "results.json", results)
    return results
