"""The evaluation beyond the paper's print-out, the authors' weights, the explaining figures.

On a run folder with untrained networks: what is tested does not depend on good predictions.
"""

import csv
import dataclasses
import functools
import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest
from test_model import write_released_file

import surroundings
from checkpoint import load_checkpoint
from data.contexts import context_rows, dialog_contexts
from data.corpus import dialog_slices, read_corpus, write_corpus
from data.task import Task
from model import (
    fusion_network,
    load_released_weights,
    predict_contexts,
    predict_features,
    predict_tokens,
    vector_model,
)
from scoring import evaluation
from settings import Settings
from storage.files import InputError, sha256, write_json
from storage.runs import StageSummary, write_run
from storage.weights import save_weights
from systems import system_of
from systems.base import correlation_layers
from systems.released import BranchRecogniser
from training.backend import describe_device
from training.run import _prepared


def write_untrained_run(folder, corpus_path, **settings):
    """A run folder as train.py leaves it, with the first weights."""
    settings = Settings(epochs=1, **settings)
    system = system_of(settings.variant)
    work, _, run = _prepared(system, settings, corpus_path, None)
    folder.mkdir()
    keras.utils.set_random_seed(0)
    for name, content in work.files().items():
        write_json(folder / name, content)
        run.files[name] = sha256(folder / name)
    for stage in system.stages(settings):
        name = f"{stage.name}.weights.h5"
        save_weights(work.network(stage), folder / name)
        run.files[name] = sha256(folder / name)
        run.stages[stage.name] = StageSummary(epochs=1, best_epoch=1, best_dev_loss=1.0, seconds=1.0)
    write_run(folder, run)
    return folder


loaded = functools.cache(load_checkpoint)  # its networks take seconds to be traced


def evaluate(run, corpus=None, out=None, released_weights=None, test=None):
    """What evaluate.py does after its arguments are read."""
    recogniser = loaded(run)
    task = evaluation.task_of(recogniser, corpus, test)
    return evaluation.evaluate(run, recogniser, task, describe_device(), out, released_weights)


def explain(run, utterance, out=None):
    recogniser = loaded(run)
    return evaluation.explain(run, recogniser, evaluation.task_of(recogniser), utterance, out)


def token_ids_of(corpus_path):
    settings = Settings()
    return system_of("released").work(Task.of(read_corpus(corpus_path), settings), None).ids


@pytest.fixture(scope="module")
def untrained(miniature, tmp_path_factory):
    return write_untrained_run(tmp_path_factory.mktemp("untrained") / "run", miniature)


def read_predictions(path):
    with open(path, encoding="utf-8", newline="") as file:
        return np.array([row[1:] for row in list(csv.reader(file))[1:]], "float32")


def test_another_corpus_file_is_said(untrained, miniature, tmp_path, untraced):
    """The features differ: scored, since a licence holder extracts features anew, but not in silence."""
    corpus = read_corpus(miniature)
    corpus.audio[:] += 1
    write_corpus(tmp_path / "other.h5", corpus)
    evaluate(untrained)
    before = (untrained / "predictions.csv").read_bytes()
    printed = evaluate(untrained, tmp_path / "other.h5")
    other = untrained / f"on-{sha256(tmp_path / 'other.h5')[:8]}"
    assert (untrained / "predictions.csv").read_bytes() == before != (other / "predictions.csv").read_bytes()
    assert "the corpus file is not the one of the training (SHA-256): features and scores may differ" in printed


def test_scores_that_are_not_the_runs_own_do_not_replace_them(untrained, tmp_path):
    """Other utterances get a folder of their own; a folder of another run, or the run's own, is refused."""
    recogniser = loaded(untrained)
    task = evaluation.task_of(recogniser, test="all")
    assert evaluation.results_folder(untrained, recogniser, task) == untrained / "all-utterances"
    authors = evaluation.results_folder(untrained, recogniser, task, released_weights=True)
    assert authors == untrained / "released-weights-all-utterances"
    shutil.copytree(untrained, tmp_path / "other")
    for out, test in ((tmp_path / "other", None), (untrained, 5)):
        task = evaluation.task_of(recogniser, test=test)
        with pytest.raises(InputError, match="results of its own; choose another --out"):
            evaluation.results_folder(untrained, recogniser, task, out)
    assert evaluation.results_folder(untrained, recogniser, evaluation.task_of(recogniser), untrained) == untrained
    with pytest.raises(InputError, match="glove.txt: no such file; give a GloVe file"):
        load_checkpoint(untrained, glove=tmp_path / "glove.txt")


@pytest.mark.parametrize("name, error", [("foo", "must be one of tensorflow, jax, torch"), ("torch", "not installed")])
def test_backends_that_cannot_run_are_named(name, error, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"KERAS_BACKEND={name}: .*{error}"):
        surroundings.check_backend()


def test_any_part_of_another_corpus_can_be_scored(untrained, miniature, tmp_path):
    """Session 2 alone, the others gone; then all of it; the tables do not speak of a class that is not there."""
    corpus = read_corpus(miniature)
    part = corpus.take(np.flatnonzero(corpus.session == 2))
    write_corpus(tmp_path / "part.h5", part)
    with pytest.raises(InputError, match="no utterance of session 1 .train. in the corpus, which has sessions .2."):
        evaluate(untrained, tmp_path / "part.h5", tmp_path)
    for test, name in ((2, "session 2"), ("all", "all utterances")):
        printed = evaluate(untrained, tmp_path / "part.h5", tmp_path, test=test)
        assert f"{name}; fusion, released" in printed and "most frequent training label" not in printed
        results = json.loads((tmp_path / "results.json").read_text())
        assert results["num_utterances"] == np.count_nonzero((part.votes_external + part.votes_self).any(axis=1))
        assert results["majority_accuracy"] is None and results["protocol"]["test"] == name
        assert f"{len(part)} of these {len(part)} utterances served the training" in printed
    with pytest.raises(InputError, match="no utterance of session 7; it has 2"):
        evaluate(untrained, tmp_path / "part.h5", tmp_path, test=7)
    none = np.zeros_like(part.votes_external)
    write_corpus(tmp_path / "voteless.h5", dataclasses.replace(part, votes_external=none, votes_self=none))
    evaluation.task_of(loaded(untrained), tmp_path / "voteless.h5", "all")  # to look at, but not to score
    with pytest.raises(InputError, match="no test utterance has a vote"):
        evaluate(untrained, tmp_path / "voteless.h5", tmp_path, test="all")


def test_parts_of_the_test_session_add_up(untrained, miniature):
    printed = evaluate(untrained)
    results, corpus = json.loads((untrained / "results.json").read_text()), read_corpus(miniature)
    assert printed.startswith("acc:") and "average precision (any vote counts)" in printed
    assert "features and scores may differ" not in printed and "served the training" not in printed
    for stage in (results, *results["branches"].values()):
        assert sum(part["num_utterances"] for part in stage["agreement_levels"].values()) == stage["num_utterances"]
        assert sum(part["num_utterances"] for part in stage["dialog_kinds"].values()) == stage["num_utterances"]
        assert stage["agreement_levels"]["tie"]["num_utterances"] == stage["disagreement"]["num_utterances"]
        # What holds for every utterance holds in the mean over parts.
        for score in ("mean_squared_error", "jensen_shannon_distance"):
            for parts in (stage["agreement_levels"].values(), stage["dialog_kinds"].values()):
                mean = sum(part["num_utterances"] * part[score] for part in parts) / stage["num_utterances"]
                assert mean == pytest.approx(stage[score])
        scored = sum(one["count"] for one in stage["calibration"]["bins"])
        assert scored == stage["classes_10"]["num_utterances"]
    votes = corpus.votes_external + corpus.votes_self
    for part, sessions in (("train", (1, 2, 5)), ("dev", (3,)), ("test", (4,))):
        rows = votes[np.isin(corpus.session, sessions)]
        ties = sum(1 for row in rows if row.any() and sorted(row)[-1] == sorted(row)[-2])
        assert results["disagreement_counts"][part] == {"utterances": len(rows), "ties": ties}
    text = read_predictions(untrained / "predictions_text.csv")
    assert text.shape == (results["num_utterances"], 10)
    assert not np.allclose(text, read_predictions(untrained / "predictions.csv"))


def test_released_weights_take_the_place_of_the_fusion_network(untrained, miniature, tmp_path, untraced):
    path = tmp_path / "fusion.h5"
    write_released_file(path, np.random.default_rng(4))
    printed = evaluate(untrained, released_weights=path)
    assert "the authors' fusion weights" in printed
    results = json.loads((untrained / "released-weights" / "results.json").read_text())
    assert results["protocol"]["released_weights"] == {"path": str(path), "sha256": sha256(path)}
    # By another way: the paper's 167 rows, whatever the run's longest dialog, on the run's utterance vectors.
    recogniser, corpus = loaded(untrained), read_corpus(miniature)
    network = fusion_network("released")
    load_released_weights(network, path)
    text_ids = token_ids_of(miniature)
    text = predict_tokens(vector_model(recogniser.networks["text"]), text_ids)
    audio = predict_features(vector_model(recogniser.networks["audio"]), recogniser.scaler.transform(corpus.audio))
    test = np.flatnonzero((corpus.session == 4) & (corpus.votes_external + corpus.votes_self).any(axis=1))
    contexts = [dialog_contexts(one, dialog_slices(corpus.dialog_id), test) for one in (audio, text)]
    found = read_predictions(untrained / "released-weights" / "predictions.csv")
    np.testing.assert_allclose(found, predict_contexts(network, *contexts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"modality": "text"}, "modality is text"), ({"variant": "paper"}, "variant is paper")],
)
def test_released_weights_need_a_released_run(settings, message, miniature, tmp_path):
    run = write_untrained_run(tmp_path / "run", miniature, **settings)
    with pytest.raises(InputError, match=f"{message}, the authors' weights need"):
        evaluate(run, released_weights=tmp_path / "fusion.h5")
    assert not (run / "released-weights").exists()


def test_explained_scores_are_those_of_the_zero_padded_dialog(untrained, miniature, tmp_path, untraced):
    corpus, recogniser = read_corpus(miniature), loaded(untrained)
    rows = next(iter(dialog_slices(corpus.dialog_id).values()))
    context = corpus.take(slice(rows.start, rows.start + 3))
    scores, num_padding = recogniser.last_attention(context)
    length = recogniser.run.context_length
    assert num_padding == length - 3 and scores["text"].shape == (10, 4)
    network = recogniser.networks["fusion"]
    ids = token_ids_of(miniature)[rows][:3]
    vectors = {
        "text": predict_tokens(vector_model(recogniser.networks["text"]), ids),
        "audio": predict_features(
            vector_model(recogniser.networks["audio"]), recogniser.scaler.transform(context.audio)
        ),
    }
    padded = {name: np.pad(one, ((0, num_padding), (0, 0))) for name, one in vectors.items()}
    batch = context_rows([padded["audio"]], [padded["text"]], length)  # every row stands for itself
    layer = correlation_layers(network)[-1]
    inputs = keras.Model(network.input, layer.input[:2]).predict_on_batch(batch)
    _, plain = layer([one[:1, :length] for one in inputs], return_scores=True)
    for name, one in zip(("audio", "text"), plain, strict=True):
        views = np.asarray(one)[0, :, 2]  # (V, length)
        expected = np.concatenate([views[:, :3], views[:, 3:].sum(axis=1, keepdims=True)], axis=1)
        np.testing.assert_allclose(scores[name], expected, atol=1e-5)


def test_explain_writes_figures(untrained, miniature, tmp_path):
    utterance = str(read_corpus(miniature).utterance_id[5])
    explain(untrained, utterance, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"fig5.png", "fig5.pdf", "factors.png", "factors.pdf"}
    with pytest.raises(InputError, match="no utterance 'nobody'"):
        explain(untrained, "nobody")


def test_factors_by_kind():
    shapes = {}
    for factor in ("shared", "per_view", "none"):
        recogniser = BranchRecogniser(None, {"fusion": fusion_network("paper", factor=factor)}, None, None)
        shapes[factor] = [tuple(layer["text"].shape) for layer in recogniser.learned_factors()]
    assert shapes["shared"] == [(20, 20), (16, 16), (16, 16), (8, 8)] and shapes["none"] == []
    assert shapes["per_view"] == [(10, 20, 20), (8, 16, 16), (4, 16, 16), (4, 8, 8)]
