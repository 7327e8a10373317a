"""The evaluation beyond the paper's print-out, the authors' weights, the explaining figures and the costs.

On a run folder with untrained networks: what is tested does not depend on good predictions.
"""

import argparse
import csv
import importlib.util
import json

import keras
import numpy as np
import pytest
from test_model import write_released_file

from training import backend
import train
from experiments.baselines import BC_LSTM_UNITS, bc_lstm, context_vectors
from checkpoint import build_networks, load_checkpoint, save_weights
from experiments.costs import forward_flops, trainable
from data.contexts import context_rows, dialog_contexts
from data.corpus import dialog_slices, read_corpus, write_corpus
from storage.files import InputError, sha256, write_json
from evaluate import evaluate, explain
from explain import correlation_layers, last_attention, learned_factors
from model import (
    fusion_network,
    load_released_weights,
    predict_contexts,
    predict_features,
    predict_tokens,
    vector_model,
)


def write_untrained_run(folder, corpus_path, **settings):
    """A run folder as train.py leaves it, with the first weights."""
    settings = train.Settings(epochs=1, **settings)
    prepared = train.prepare(corpus_path, None, settings)
    arguments = argparse.Namespace(glove=None, branches=None)
    run = train.describe_run(prepared, corpus_path, arguments, settings, backend.Devices())
    folder.mkdir()
    keras.utils.set_random_seed(0)
    files = {"vocabulary.json": prepared.vocabulary, "scaler.json": prepared.scaler and prepared.scaler.to_json()}
    for name, content in files.items():
        if content is not None:
            write_json(folder / name, content)
            run["files"][name] = sha256(folder / name)
    num_words, num_features = len(prepared.vocabulary or ()) + 1, len(prepared.corpus.audio_names)
    builders = build_networks(run["settings"], num_words, num_features, 10, run["context_length"])
    for stage, build in builders.items():
        network = build(prepared.words) if stage == "text" else build()
        name = f"{stage}.weights.h5"
        save_weights(network, folder / name)
        run["files"][name] = sha256(folder / name)
        run["stages"][stage] = {"epochs": 1, "best_epoch": 1, "best_dev_loss": 1.0, "seconds": 1.0}
    write_json(folder / "run.json", json.loads(json.dumps(run)))
    return folder


@pytest.fixture(scope="module")
def untrained(miniature, tmp_path_factory):
    return write_untrained_run(tmp_path_factory.mktemp("untrained") / "run", miniature)


def read_predictions(path):
    with open(path, encoding="utf-8", newline="") as file:
        return np.array([row[1:] for row in list(csv.reader(file))[1:]], "float32")


def test_another_corpus_file_is_said(untrained, miniature, tmp_path):
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


@pytest.mark.parametrize("name, error", [("foo", "must be one of tensorflow, jax, torch"), ("torch", "not installed")])
def test_backends_that_cannot_run_are_named(name, error, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"KERAS_BACKEND={name}: .*{error}"):
        backend.start_quietly()


def test_parts_of_the_test_session_add_up(untrained, miniature):
    printed = evaluate(untrained)
    results, corpus = json.loads((untrained / "results.json").read_text()), read_corpus(miniature)
    assert printed.startswith("acc:") and "average precision (any vote counts)" in printed
    assert "features and scores may differ" not in printed
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


def test_released_weights_take_the_place_of_the_fusion_network(untrained, miniature, tmp_path):
    path = tmp_path / "fusion.h5"
    write_released_file(path, np.random.default_rng(4))
    printed = evaluate(untrained, released_weights=path)
    assert "the authors' fusion weights" in printed
    results = json.loads((untrained / "released-weights" / "results.json").read_text())
    assert results["protocol"]["released_weights"] == {"path": str(path), "sha256": sha256(path)}
    # By another way: the paper's 167 rows, whatever the run's longest dialog, on the run's utterance vectors.
    recogniser, corpus = load_checkpoint(untrained), read_corpus(miniature)
    network = fusion_network("released")
    load_released_weights(network, path)
    text_ids = train.prepare(miniature, None, train.Settings()).ids
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


def test_explained_scores_are_those_of_the_zero_padded_dialog(untrained, miniature, tmp_path):
    corpus, recogniser = read_corpus(miniature), load_checkpoint(untrained)
    rows = next(iter(dialog_slices(corpus.dialog_id).values()))
    context = corpus.take(slice(rows.start, rows.start + 3))
    scores, num_padding = last_attention(recogniser, context)
    length = recogniser.run["context_length"]
    assert num_padding == length - 3 and scores["text"].shape == (10, 4)
    network = recogniser.networks["fusion"]
    ids = train.prepare(miniature, None, train.Settings()).ids[rows][:3]
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
    shapes = {
        factor: [tuple(layer["text"].shape) for layer in learned_factors(fusion_network("paper", factor=factor))]
        for factor in ("shared", "per_view", "none")
    }
    assert shapes["shared"] == [(20, 20), (16, 16), (16, 16), (8, 8)] and shapes["none"] == []
    assert shapes["per_view"] == [(10, 20, 20), (8, 16, 16), (4, 16, 16), (4, 8, 8)]


def test_operations_by_hand():
    """The released fusion network and BC-LSTM, 3 rows: two operations for each multiplication and addition."""
    per_layer = 2 * (4 * 2 * 3 * 200 * 200 + 2 * 3 * 200 * 20 + 2 * 3 * 3 * 200 * 2)
    dense = 2 * (3 * 400 * 256 + 256 * 64 + 64 * 16 + 16 * 10)
    network = fusion_network("released")
    np.testing.assert_array_equal(forward_flops(network, [3]), [4 * per_layer + dense])
    assert trainable(network) == 1_407_386  # the released 1,411,258 less 3,872 moving statistics
    lstm = bc_lstm()
    gates, units = 4, BC_LSTM_UNITS
    expected = 2 * 3 * 2 * gates * units * (400 + units) + 2 * 2 * units * 10
    np.testing.assert_array_equal(forward_flops(lstm, [3]), [expected])


def test_bc_lstm_does_not_see_the_padding():
    audio, text = ([np.random.default_rng(i).normal(size=(h, 200)) for h in (2, 5)] for i in (0, 1))
    lstm = bc_lstm()
    together = lstm.predict_on_batch(context_vectors(audio, text))
    alone = lstm.predict_on_batch(context_vectors(audio[:1], text[:1]))
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)
