"""The causal variant: against loops, blind to the future, a stream equal to the whole dialog, and its scripts."""

import ast
import csv
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
from conftest import ROOT, run_script
from test_attention import D, F, V, arrays, softmax, weights_by_name

import causal
from attention import BIAS_SCALE, CausalMutualCorrelationAttention
from checkpoint import Recogniser, Scaler, load_checkpoint
from data.contexts import similar_length_batches
from data.corpus import dialog_slices, read_corpus
from data.labels import EMOTIONS
from data.text import vectors_from_parts, word_parts
from model import audio_branch, fusion_network, predict_dialogs, text_branch


def test_layer_equals_loops():
    """Each score gets the bias of its distance and speaker; 9 to 12 back is one distance, over 64 the last."""
    num_rows = 70
    audio, text = arrays((1, num_rows, F), (1, num_rows, F + 1))
    speaker = np.random.default_rng(0).integers(0, 2, (1, num_rows)).astype("int32")
    layer = CausalMutualCorrelationAttention(V, D)
    layer([audio, text], speaker=speaker)
    for weight in (layer.audio_factor, layer.text_factor):
        assert not np.array(weight).any()  # as if there were none, until training moves it
        weight.assign(0.3 * np.random.default_rng(1).normal(size=(D, D)))
    outputs, scores = layer([audio, text], speaker=speaker, return_scores=True)
    w = weights_by_name(layer)
    first = [0, 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 65]  # smallest distance of each of the 13
    per_view = np.kron(np.eye(V), w["audio_factor"]), np.kron(np.eye(V), w["text_factor"])
    key_a = audio[0] @ w["audio_key"] + text[0] @ w["text_key"] @ per_view[0]
    keys = {"audio": key_a, "text": text[0] @ w["text_key"] + key_a @ per_view[1]}
    for x, modality, ours, our_scores in zip((audio[0], text[0]), ("audio", "text"), outputs, scores, strict=True):
        query, key, value = x @ w[f"{modality}_query"], keys[modality], x @ w[f"{modality}_value"]
        expected = []
        for view in range(V):
            part = slice(view * D, (view + 1) * D)
            raw = query[:, part] @ key[:, part].T / np.sqrt(D)
            for q in range(num_rows):
                for k in range(num_rows):
                    distance = max(i for i, edge in enumerate(first) if edge <= max(q - k, 0))
                    row = 13 * (speaker[0, q] == speaker[0, k]) + distance
                    raw[q, k] = raw[q, k] + BIAS_SCALE * w[f"{modality}_bias"][row, view] if k <= q else -np.inf
            np.testing.assert_allclose(our_scores[0, view], softmax(raw), atol=1e-5)
            expected.append(softmax(raw) @ value[:, part])
        np.testing.assert_allclose(ours[0], np.concatenate(expected, axis=1) @ w[f"{modality}_output"], atol=1e-4)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return fusion_network("causal", activation="softmax")


def dialog(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    audio, text = rng.normal(size=(2, num_rows, 200)).astype("float32")
    return {"audio": audio, "text": text, "speaker": rng.integers(0, 2, num_rows).astype("int32")}


def test_the_future_changes_nothing(network):
    """Other utterances from row 20 on leave the answers before as they are, and change those after."""
    rows, changed = dialog(30), dialog(30, seed=1)
    changed = {name: np.concatenate([values[:20], changed[name][20:]]) for name, values in rows.items()}
    before, after = (predict_dialogs(network, **one, dialogs=[slice(0, 30)]) for one in (rows, changed))
    np.testing.assert_allclose(before[:20], after[:20], atol=1e-6)
    assert (np.abs(before[20:] - after[20:]).max(axis=1) > 1e-4).all()


def test_each_answer_is_the_last_of_the_dialog_up_to_it(network):
    rows = dialog(18)
    whole = predict_dialogs(network, **rows, dialogs=[slice(0, 18)])
    for num in (1, 5, 17):
        part = {name: values[:num] for name, values in rows.items()}
        np.testing.assert_allclose(
            predict_dialogs(network, **part, dialogs=[slice(0, num)])[-1], whole[num - 1], atol=1e-6
        )


def test_parameter_count_and_training_step():
    """698,458 as the docstring says; one step on a padded batch moves every weight."""
    keras.utils.set_random_seed(3)
    network = fusion_network("causal", activation="softmax")
    assert network.count_params() == 698_458
    before = [np.array(weight) for weight in network.trainable_weights]
    network.compile("sgd", "categorical_crossentropy", jit_compile=False)
    rows = {name: np.stack([values, values]) for name, values in dialog(6).items()}
    targets = np.zeros((2, 6, 10), "float32")
    targets[0, :, 3], targets[1, :4, 5] = 1, 1
    network.train_on_batch(rows, targets)
    for weight, old in zip(network.trainable_weights, before, strict=True):
        assert np.isfinite(np.asarray(weight)).all() and np.abs(np.asarray(weight) - old).max() > 0, weight.path


def test_distances_from_the_speakers_mean_by_hand():
    """The mean so far of speaker 0 after 3 and 6 is (3 + 6) / (2 + 8); each dialog begins anew; 9 is cut at 6."""
    features, speaker = np.array([[3.0], [-3.0], [6.0], [6.0]]), np.array([0, 1, 0, 0])
    found = causal.with_distances(features, speaker, [slice(0, 3), slice(3, 4)])
    expected = [[3, 3 - 3 / 9], [-3, -3 + 3 / 9], [6, 6 - 9 / 10], [6, 6 - 6 / 9]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(causal.with_distances(np.array([[9.0]]), np.array([0]), [slice(0, 1)])[0, 0], 6)


def test_timing_by_hand():
    found = causal.timing_features(
        ["well I don't know", "yes", "no"],
        np.array([1.0, 3.5, 0]),
        np.array([3.0, 3.55, 1]),
        [slice(0, 2), slice(2, 3)],
    )
    expected = [[np.log(2), np.log(5), 2, 0], [np.log(0.1), np.log(2), 1 / 0.3, 0.5], [0, np.log(2), 1, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_prior_correction_by_hand():
    """Equal shares, one emotion 81 times as frequent: its share becomes 81 ** -0.35 of the other's."""
    found = causal.prior_corrected(np.array([0.5, 0.5]), [0.81 - 0.003, 0.01 - 0.003])
    np.testing.assert_allclose(found[0] / found[1], 81**-0.35, rtol=1e-6)


def test_words_from_their_parts():
    vectors = {word: np.full(2, value, "float32") for word, value in (("did", 1), ("not", 3), ("stop", 5), ("love", 7))}
    found = vectors_from_parts(["didnt", "stopped", "loved", "did", "xyzzy"], vectors)
    assert {word: vector[0] for word, vector in found.items()} == {"didnt": 2, "stopped": 5, "loved": 7}
    assert word_parts("gonna") == [("going", "to")]


def test_batches_hold_each_dialog_once_and_like_lengths():
    lengths = np.array([5, 80, 7, 90, 6, 100, 40])
    first, second = (similar_length_batches(lengths, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(np.concatenate(first)) == list(range(7)) == sorted(np.concatenate(second))
    assert [list(batch) for batch in first] != [list(batch) for batch in second]


@pytest.fixture(scope="module")
def recogniser():
    """Untrained networks: two members, two fusions."""
    rng = np.random.default_rng(5)
    keras.utils.set_random_seed(5)
    vocabulary, names = ["no", "well", "yes"], causal.feature_names(("loudness", "pitch"))
    words = rng.normal(size=(4, 200)).astype("float32")
    networks = {
        "text": text_branch(words, 4, "softmax", **causal.TEXT[-1]),
        "audio": audio_branch(2 * len(names), 4, "softmax", **causal.AUDIO[-1]),
        "fusion": fusion_network("causal", num_emotions=4, activation="softmax"),
    }
    members = []
    for _ in range(2):
        members.append(
            {
                name: [w + rng.uniform(-0.02, 0.02, w.shape) for w in networks[name].get_weights()]
                for name in ("text", "audio")
            }
        )
    fusions = [[w + rng.uniform(-0.02, 0.02, w.shape) for w in networks["fusion"].get_weights()] for _ in range(2)]
    scaler = Scaler(names, np.zeros(len(names)), np.ones(len(names)))
    run = {"settings": {"context": True}, "prior_shares": [0.4, 0.3, 0.2, 0.1], "emotions": list("abcd")}
    return Recogniser(run, vocabulary, scaler, networks, members, fusions)


UTTERANCES = {
    "transcripts": ["well", "no no", "", "yes well", "unheard"],
    "audio_features": np.random.default_rng(9).normal(size=(5, 2)),
    "speakers": ["F", "M", "M", "F", "F"],
    "start_s": np.array([0.0, 1.5, 3, 3.2, 9]),
    "end_s": np.array([1.0, 2.5, 4, 5.0, 9.1]),
}


def test_stream_equals_the_whole_dialog(recogniser):
    whole = recogniser.predict_dialog(**UTTERANCES)
    stream = recogniser.stream()
    for number in range(5):
        one = [values[number] for values in UTTERANCES.values()]
        with pytest.raises(ValueError, match="speakers"):
            stream.step(one[0], one[1], None, one[3], one[4])  # leaves the stream as it was
        np.testing.assert_allclose(stream.step(*one), whole[number], atol=1e-5)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)


def test_past_counts_and_future_does_not(recogniser):
    """Other first words change the last answer; other last words leave the first answer; without context neither."""
    other_first = UTTERANCES | {"transcripts": ["yes", *UTTERANCES["transcripts"][1:]]}
    other_last = UTTERANCES | {"transcripts": [*UTTERANCES["transcripts"][:4], "no"]}
    plain, first, last = (recogniser.predict_dialog(**one) for one in (UTTERANCES, other_first, other_last))
    assert np.abs(plain[4] - first[4]).max() > 1e-6
    np.testing.assert_allclose(plain[:4], last[:4], atol=1e-6)
    alone = Recogniser(
        recogniser.run | {"settings": {"context": False}},
        *(getattr(recogniser, n) for n in ("vocabulary", "scaler", "networks", "members", "fusions")),
    )
    one = {name: values[4:] for name, values in UTTERANCES.items()}
    expected = alone.predict_dialog(**one)[0]
    np.testing.assert_allclose(alone.predict_dialog(**other_first)[4], expected, atol=1e-6)
    stream = alone.stream()
    for number in range(5):
        shares = stream.step(*(values[number] for values in UTTERANCES.values()))
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_missing_arguments_are_named(recogniser):
    with pytest.raises(ValueError, match="start_s of each of the 5 utterances"):
        recogniser.predict_dialog(**UTTERANCES | {"start_s": None})
    with pytest.raises(ValueError, match="2 columns of audio_names"):
        recogniser.predict_dialog(**UTTERANCES | {"audio_features": np.zeros((5, 3))})
    with pytest.raises(ValueError, match="a list of texts, one per utterance"):
        recogniser.predict_dialog(**UTTERANCES | {"transcripts": "words"})
    features = np.zeros((5, 2))
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="audio_features of utterance 3, counted from 0, is not finite"):
        recogniser.predict_dialog(**UTTERANCES | {"audio_features": features})
    with pytest.raises(ValueError, match="end_s of utterance 1, counted from 0, is not finite"):
        recogniser.predict_dialog(**UTTERANCES | {"end_s": [0.0, np.inf, 1.0, 1.0, 1.0]})


def test_trains_and_evaluates(miniature, tmp_path):
    """The scripts, on one branch; the checkpoint's answers are those in predictions.csv, and the answer adds up."""
    run = tmp_path / "run"
    options = ("--variant", "causal", "--modality", "audio", "--epochs", 2, "--train-sessions", 1, 2)
    done = run_script("train.py", "--corpus", miniature, "--run", run, *options)
    assert done.returncode == 0, done.stderr
    stages = ["audio-start", "audio-without-1", "audio-without-2", "audio", "fusion", "fusion-2"]
    assert list(json.loads((run / "run.json").read_text())["stages"]) == stages
    done = run_script("evaluate.py", run)
    assert done.returncode == 0, done.stderr
    assert "fusion, causal" in done.stdout
    with open(run / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = {row[0]: np.array(row[1:], "float64") for row in list(csv.reader(file))[1:]}
    corpus = read_corpus(miniature)
    dialog_id, place = next(
        item for item in dialog_slices(corpus.dialog_id).items() if corpus.session[item[1].start] == 4
    )
    part = corpus.take(place)
    recogniser = load_checkpoint(run)
    shares = recogniser.predict_dialog(part.transcript, part.audio, part.speaker, part.start_s, part.end_s)
    for utterance, row in zip(part.utterance_id, shares, strict=True):
        if utterance in rows:
            np.testing.assert_allclose(row, rows[utterance], atol=1e-5)
    done = run_script("-m", "experiments.publish", tmp_path / "provided", run, "--corpus", miniature)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "provided").glob("*-start*"))
    card = (tmp_path / "provided" / "README.md").read_text()
    assert "{" not in card.split("Settings:")[0] and "Ses0" not in card
    np.testing.assert_array_equal(
        load_checkpoint(tmp_path / "provided").predict_dialog(
            part.transcript, part.audio, part.speaker, part.start_s, part.end_s
        ),
        shares,
    )


def test_the_example_of_the_readme(tmp_path):
    """The very lines of the README, with two made-up sounds in a folder that sees the project."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.split("From sound files and their words to vote shares:")[1].split("`shares` is")[0].splitlines()
    code = "\n".join(line.removeprefix("    ") for line in lines)
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    for number, name in enumerate(("hello.wav", "well.wav"), 1):
        time_s = np.arange(16000 * number) / 16000
        soundfile.write(tmp_path / name, 0.3 * np.sin(2 * np.pi * 150 * number * time_s) * np.sin(6 * time_s), 16000)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shares = ast.literal_eval(done.stdout.splitlines()[-1])
    assert tuple(shares) == EMOTIONS and abs(sum(shares.values()) - 1) < 0.06
