"""The causal system: its layer against loops, blind to the future, a stream equal to the whole dialog, its scripts."""

import csv
import dataclasses
import functools
import json

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import run_script, said_by
from test_attention import D, F, V, arrays, softmax, weights_by_name

import evaluate as evaluate_py
from checkpoint import load_checkpoint
from data.contexts import similar_length_batches
from data.corpus import dialog_slices, read_corpus
from data.scaling import Scaler
from data.text import tokenize, vectors_from_parts, word_parts
from experiments.cards import halve, publish
from experiments.damage import damaged
from experiments.intervals import Row, write_rows
from scoring.evaluation import evaluate, task_of
from settings import Settings
from storage.files import InputError, read_json, sha256
from storage.runs import CorpusFile, Run, read_run
from systems import system_of
from systems.base import Utterances
from systems.causal import CausalRecogniser, Inputs, leave_out
from systems.causal.inputs import (
    TIMING_NAMES,
    WORD_COLUMNS,
    Sound,
    Words,
    known_vectors,
    mark_counts,
    timing_features,
    with_distances,
    word_counts,
)
from systems.causal.network import (
    BIAS_SCALE,
    CausalMutualCorrelationAttention,
    causal_network,
    predict_dialogs,
    windows,
)
from training.backend import describe_device


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
    return causal_network(12, 7, "shared", "sequential", 10)


def dialog(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    audio, text = (rng.normal(size=(num_rows, width)).astype("float32") for width in (12, 7))
    return {"audio": audio, "text": text, "speaker": rng.integers(0, 2, num_rows).astype("int32")}


def test_the_future_changes_nothing(network):
    """Other utterances from row 20 on leave the answers before as they are, and change those after."""
    rows, changed = dialog(30), dialog(30, seed=1)
    changed = {name: np.concatenate([values[:20], changed[name][20:]]) for name, values in rows.items()}
    before, after = (predict_dialogs(network, one, [slice(0, 30)]) for one in (rows, changed))
    np.testing.assert_allclose(before[:20], after[:20], atol=1e-6)
    assert (np.abs(before[20:] - after[20:]).max(axis=1) > 1e-4).all()


def test_parameter_count_and_training_step(network, untraced):
    """By hand; one step on a padded batch moves every weight."""
    own = {width: width * 200 + 200 + 400 for width in (12, 7)}  # Dense, layer normalisation
    layer = 2 * (4 * 200 * 200 + 20 * 20 + 26 * 10 + 400)
    assert network.count_params() == sum(own.values()) + 2 * layer + 800 + 400 * 128 + 128 + 1290
    network = keras.models.clone_model(network)
    before = [np.array(weight) for weight in network.trainable_weights]
    network.compile("sgd", "categorical_crossentropy", jit_compile=False)
    rows = {name: np.stack([values, values]) for name, values in dialog(6).items()}
    targets = np.zeros((2, 6, 10), "float32")
    targets[0, :, 3], targets[1, :4, 5] = 1, 1
    network.train_on_batch(rows, targets)
    for weight, old in zip(network.trainable_weights, before, strict=True):
        assert np.isfinite(np.asarray(weight)).all() and np.abs(np.asarray(weight) - old).max() > 0, weight.path


def test_distances_from_the_speakers_mean_by_hand():
    """The mean so far of speaker 0 after 3 and 6 is (3 + 6) / (2 + 8); each dialog begins anew; 9 is cut at 6.

    A row without sound counts for nobody and is zeros.
    """
    features = np.array([[3.0], [-3.0], [np.nan], [6.0], [6.0]])
    found = with_distances(features, np.array([0, 1, 0, 0, 0]), [slice(0, 4), slice(4, 5)])
    expected = [[3, 3 - 3 / 9], [-3, -3 + 3 / 9], [0, 0], [6, 6 - 9 / 10], [6, 6 - 6 / 9]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(with_distances(np.array([[9.0]]), np.array([0]), [slice(0, 1)])[0, 0], 6)


def test_timing_and_word_counts_by_hand():
    found = timing_features(np.array([1.0, 3.5, 0]), np.array([3.0, 3.55, 1]), [slice(0, 2), slice(2, 3)])
    np.testing.assert_allclose(found, [[np.log(2), 0], [np.log(0.1), 0.5], [0, 0]], rtol=1e-9)
    counts = word_counts(["well I don't know", "yes", "", "xyzzy"], np.array([[1, 1], [0, 1], [0, 0], [0, 0]]))
    np.testing.assert_allclose(counts, [[np.log(5) - 2], [np.log(2) - 2], [0], [0]], rtol=1e-6)


def test_marks_by_hand():
    """log2(1 + count) of !, ? and ...; none where no word is known, or without --marks."""
    texts = ["No! No! No!", "What?! Well\u2026", "\uff1f yes ....", "unheard!"]
    counts = mark_counts(texts, np.array([[1.0], [1], [1], [0]]))
    np.testing.assert_allclose(counts, [[2, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]], rtol=1e-6)
    assert untrained().predict_dialog([], np.zeros((0, 2)), [], [], []).shape == (0, 4)
    with_marks, without = untrained(modality="text", members=1, marks=True), untrained(modality="text", members=1)
    np.testing.assert_array_equal(with_marks.word_rows(["no?!"])[0, -3:], [1, 1, 0])
    np.testing.assert_array_equal(without.word_rows(["no?!"]), without.word_rows(["no"]))
    with pytest.raises(InputError, match="drop --marks"):
        system_of("causal").accept(Settings(variant="causal", loss="cross_entropy", modality="audio", marks=True))


def test_sound_says_nothing_of_the_words_nor_words_of_the_sound():
    """What is left out in training must be gone whole: else the network learns from it, and misses it later."""
    recogniser, codes = untrained(), np.zeros(25, "int32")
    seen = [slice(0, 25)]
    spoken = Utterances(**UTTERANCE_FIELDS)
    other = dataclasses.replace(spoken, transcript=["no well yes"] * 25)
    rows = [recogniser.read.sound.rows(one, codes, seen) for one in (spoken, other)]
    np.testing.assert_array_equal(*rows)
    words = recogniser.inputs(spoken, seen)["text"]
    louder = dataclasses.replace(spoken, audio=spoken.audio + 1, end_s=spoken.end_s + 1)
    np.testing.assert_array_equal(recogniser.inputs(louder, seen)["text"], words)
    assert not words[[text in ("", "unheard") for text in spoken.transcript]].any()


def test_words_from_their_parts():
    vectors = {word: np.full(2, value, "float32") for word, value in (("did", 1), ("not", 3), ("stop", 5), ("love", 7))}
    found = vectors_from_parts(["didnt", "stopped", "loved", "did", "xyzzy"], vectors)
    assert {word: vector[0] for word, vector in found.items()} == {"didnt": 2, "stopped": 5, "loved": 7}
    assert word_parts("gonna") == [("going", "to")]


def write_glove(path, words, seed=0):
    """A GloVe file of random vectors."""
    vectors = np.random.default_rng(seed).normal(size=(len(words), 200))
    path.write_text("".join(f"{w} {' '.join(f'{x:.3f}' for x in v)}\n" for w, v in zip(words, vectors, strict=True)))
    return {word: np.round(vector, 3) for word, vector in zip(words, vectors, strict=True)}


def test_mean_word_vectors_by_hand(tmp_path):
    """Fitted on two utterances; unknown words do not count; none known is a row of zeros; a larger file knows more."""
    known = write_glove(tmp_path / "small.txt", ["yes", "no", "did", "not"])
    words = Words.fit(["yes no", "no xyzzy", "didn't", ""], tmp_path / "small.txt")
    assert words.vocabulary == ("didnt", "no", "yes")
    raw = np.stack([(known["yes"] + known["no"]) / 2, known["no"], (known["did"] + known["not"]) / 2])
    expected = np.clip((raw - raw.mean(axis=0)) / raw.std(axis=0), -6, 6)
    rows, share = words.rows(["yes no", "no xyzzy", "didnt", "xyzzy", ""])
    np.testing.assert_allclose(rows[:3], expected, atol=1e-5)
    assert not rows[3:].any()
    np.testing.assert_array_equal(share, [1, 0.5, 1, 0, np.nan])
    write_glove(tmp_path / "large.txt", ["xyzzy"], seed=1)
    rows, share = words.rows(["xyzzy"], known_vectors({"xyzzy"}, tmp_path / "large.txt"))
    assert rows.any() and share == [1]


def test_words_or_sound_are_left_out_in_the_share_asked_for():
    """Of one utterance never both; about a fifth each, and besides a tenth of the dialogs each as a whole."""
    rows = {"text": np.ones((500, 20, 3)), "audio": np.ones((500, 20, 2)), "speaker": np.zeros((500, 20), "int32")}
    leave_out(rows, 0.2, np.random.default_rng(0))
    gone = {name: ~rows[name].any(axis=-1) for name in ("text", "audio")}
    assert not (gone["text"] & gone["audio"]).any()
    for one in gone.values():
        whole = one.all(axis=1)
        assert 0.07 < whole.mean() < 0.13
        assert 0.14 < one[~whole].mean() < 0.22  # of 0.9 of the dialogs, 0.8 are drawn utterance by utterance


def test_batches_hold_each_dialog_once_and_like_lengths():
    lengths = np.array([5, 80, 7, 90, 6, 100, 40])
    first, second = (similar_length_batches(lengths, 2, np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(np.concatenate(first)) == list(range(7)) == sorted(np.concatenate(second))
    assert [list(batch) for batch in first] != [list(batch) for batch in second]


@functools.cache  # a network takes seconds to be traced, and no test changes one
def untrained(modality="text+audio", factor="shared", context=True, update="sequential", members=2, marks=False):
    """A recogniser of members with random weights."""
    rng, names = np.random.default_rng(5), ("loudness", "pitch", *TIMING_NAMES)
    words = "given" if modality == "audio" else "glove"
    chosen = {"modality": modality, "factor": factor, "context": context, "update": update, "marks": marks}
    settings = Settings(variant="causal", words=words, **chosen)
    sound = Sound(Scaler(names, np.zeros(4), np.ones(4))) if modality != "text" else None
    words = None
    if modality != "audio":
        vectors = rng.normal(size=(3, 200)).astype("float32")
        words = Words(("no", "well", "yes"), vectors, Scaler(WORD_COLUMNS, np.zeros(200), np.ones(200)))
    networks, inputs = {}, Inputs(sound, words, marks=marks)
    for number in range(members):
        network = causal_network(*inputs.widths, factor, update, 4)
        network.set_weights([w + rng.uniform(-0.1, 0.1, w.shape) for w in network.get_weights()])
        networks[f"member-{number + 1}"] = network
    corpus = CorpusFile(name="x", path="x", sha256="", audio_feature_set="x", num_audio_features=2)
    run = Run(settings=settings, emotions=tuple("abcd"), context_length=9, corpus=corpus)
    return CausalRecogniser(run, networks, inputs)


UTTERANCES = {
    "transcripts": ["well", "no no?!", "", "Yes, well...", "unheard!"] * 5,
    "audio_features": np.random.default_rng(9).normal(size=(25, 2)),
    "speakers": ["F", "M", "M", "F", "F"] * 5,
    "start_s": np.arange(25) + np.array([0.0, 0.5, 0, -0.8, 0] * 5),
    "end_s": np.arange(25) + np.array([1.0, 0.7, 0.2, 0.5, 0.1] * 5),
}
UTTERANCES["audio_features"][7] = np.nan  # without usable sound
UTTERANCE_FIELDS = dict(zip(("transcript", "audio", "speaker", "start_s", "end_s"), UTTERANCES.values(), strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor": "per_view", "update": "simultaneous", "members": 1},
        {"factor": "none", "modality": "audio", "members": 1},
        {"modality": "text", "members": 1, "marks": True},
        {"context": False, "members": 1},
    ],
    ids=str,
)
def test_stream_equals_the_whole_dialog(options, untraced):
    recogniser = untrained(**options)
    silent = np.nan if recogniser.bears_silence else 0.0
    features = np.nan_to_num(UTTERANCES["audio_features"], nan=silent)
    dialog = UTTERANCES | {"audio_features": features}
    whole, stream = recogniser.predict_dialog(**dialog), recogniser.stream()
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    for number in range(25):
        one = [values[number] for values in dialog.values()]
        with pytest.raises(ValueError, match="speakers"):
            stream.step(one[0], one[1], None, one[3], one[4])  # leaves the stream as it was
        np.testing.assert_allclose(stream.step(*one), whole[number], atol=1e-6)


def test_long_dialogs_are_seen_in_windows(monkeypatch):
    """With 8 rows at once, row 8 on is answered from the 4 to 7 rows before; streamed and explained, the same."""
    for name in ("", ".network", ".stream"):
        monkeypatch.setattr(f"systems.causal{name}.MOST_ROWS", 8)
    assert windows(slice(3, 10)) == [(slice(3, 10), 3)] and windows(slice(3, 12))[1] == (slice(7, 12), 11)
    recogniser = untrained()
    whole, stream = recogniser.predict_dialog(**UTTERANCES), recogniser.stream()
    rows = recogniser.inputs(Utterances(**UTTERANCE_FIELDS), [slice(0, 25)])
    for number in range(25):
        first = max(0, 4 * (number // 4) - 4)
        seen = {name: values[None, first : number + 1] for name, values in rows.items()}
        wanted = [network.predict_on_batch(seen)[0, -1] for network in recogniser.networks.values()]
        np.testing.assert_allclose(whole[number], np.mean(wanted, axis=0), atol=1e-6)
        np.testing.assert_allclose(stream.step(*(one[number] for one in UTTERANCES.values())), whole[number], atol=1e-6)
    scores, _ = recogniser.last_attention(Utterances(**UTTERANCE_FIELDS))
    for one in scores.values():
        assert one.shape[1] == 26 and not one[:, :20].any() and one[:, 20:25].all()
        np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-5)


def test_past_counts_and_future_does_not():
    """Other first words change the last answer; other last words leave the first answer; without context neither."""
    other_first = UTTERANCES | {"transcripts": ["yes", *UTTERANCES["transcripts"][1:]]}
    other_last = UTTERANCES | {"transcripts": [*UTTERANCES["transcripts"][:24], "no"]}
    recogniser = untrained()
    plain, first, last = (recogniser.predict_dialog(**one) for one in (UTTERANCES, other_first, other_last))
    assert np.abs(plain[24] - first[24]).max() > 1e-6
    np.testing.assert_allclose(plain[:24], last[:24], atol=1e-6)
    alone = untrained(context=False, members=1)
    one = {name: values[24:] for name, values in UTTERANCES.items()}
    np.testing.assert_allclose(alone.predict_dialog(**other_first)[24], alone.predict_dialog(**one)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start_s": None}, "start_s of each of the 25 utterances"),
        ({"audio_features": np.zeros((25, 3))}, "2 columns of audio_names"),
        ({"audio_features": [["a", "b"]] * 25}, "audio_features must be numbers"),
        ({"transcripts": "words"}, "a list of texts, one per utterance"),
        ({"transcripts": {"a": 1}}, "a list of texts, one per utterance"),
        ({"transcripts": (word for word in "ab")}, "a list of texts, one per utterance"),
        ({"speakers": "F" * 25}, "speakers must be a list, one for each utterance. Received: 'FFF"),
        ({"start_s": 0.0}, "start_s must be a list, one for each utterance. Received: 0.0"),
        ({"start_s": np.float64(0)}, "start_s must be a list"),
        ({"audio_features": np.full((25, 2), 1j)}, "audio_features must be numbers"),
        ({"start_s": pd.to_timedelta(np.arange(25), unit="s")}, "start_s must be numbers.*they are timedelta64"),
        (
            {"audio_features": pd.DataFrame(np.zeros((25, 2)), columns=["b", "a"])},
            "audio_features has other columns than audio_names, or in another order",
        ),
        (
            {"audio_features": np.full((25, 2), 1e38)},
            "audio_features of utterance 0, counted from 0, is not finite, or too",
        ),
        ({"transcripts": [None] * 25}, "transcripts of utterance 0, counted from 0, must be a text. Received: None"),
        ({"transcripts": [float("nan")] * 25}, "must be a text. Received: nan"),
        ({"speakers": ["F"] * 24 + [None]}, "speakers of utterance 24, counted from 0, must be a text"),
        ({"end_s": [np.inf] * 25}, "end_s of utterance 0, counted from 0, is not finite"),
        ({"start_s": np.arange(25)[::-1]}, "start_s of utterance 1, counted from 0, is before that of the one ahead"),
        ({"end_s": [-1.0] * 25}, "utterance 0, counted from 0, ends before it starts"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        untrained().predict_dialog(**UTTERANCES | changed)


def test_tables_masks_and_any_collection_are_read():
    """Of pandas and NumPy: columns by their order where the names agree; a masked row is one without sound."""
    recogniser = untrained()
    sound = np.asarray(UTTERANCES["audio_features"], "float64")
    table = pd.DataFrame(sound, columns=recogniser.audio_names)
    whole, masked = recogniser.predict_dialog(**UTTERANCES), np.ma.masked_array(sound, np.zeros_like(sound, bool))
    speakers = dict(enumerate(UTTERANCES["speakers"])).values()
    read = recogniser.predict_dialog(**UTTERANCES | {"audio_features": table, "speakers": speakers})
    np.testing.assert_array_equal(read, whole)
    masked[3] = np.ma.masked
    sound[3] = np.nan
    silent, read = (recogniser.predict_dialog(**UTTERANCES | {"audio_features": one}) for one in (sound, masked))
    np.testing.assert_array_equal(read, silent)
    assert np.abs(silent - whole).max() > 1e-6


def test_trains_and_evaluates(miniature, tmp_path, untraced):
    """The scripts; the checkpoint's answers are those in predictions.csv, the members' mean; published, the same."""
    corpus = read_corpus(miniature)
    words = sorted({word for line in corpus.transcript for word in tokenize(line)})
    write_glove(tmp_path / "glove.txt", words)
    run, options = tmp_path / "run", ("--variant", "causal", "--members", 2, "--epochs", 2, "--train-sessions", 1, 2)
    options += ("--marks",)
    done = run_script("train.py", "--corpus", miniature, "--glove", tmp_path / "glove.txt", "--run", run, *options)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((run / "run.json").read_text())["stages"]) == ["member-1", "member-2"]
    done = run_script("evaluate.py", run)
    assert done.returncode == 0, done.stderr
    assert "causal" in done.stdout
    with open(run / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = {row[0]: np.array(row[1:], "float64") for row in list(csv.reader(file))[1:]}
    place = next(part for part in dialog_slices(corpus.dialog_id).values() if corpus.session[part.start] == 4)
    part = corpus.take(place)
    dialog = (part.transcript, part.audio, part.speaker, part.start_s, part.end_s)
    recogniser = load_checkpoint(run)
    shares = recogniser.predict_dialog(*dialog)
    members = [CausalRecogniser(recogniser.run, {name: one}, recogniser.read)
               for name, one in recogniser.networks.items()]  # fmt: skip
    np.testing.assert_allclose(np.mean([one.predict_dialog(*dialog) for one in members], axis=0), shares, atol=1e-6)
    for utterance, row in zip(part.utterance_id, shares, strict=True):
        if utterance in rows:
            np.testing.assert_allclose(row, rows[utterance], atol=1e-5)
    options_of_glove = ("--glove", tmp_path / "glove.txt")
    before = (run / "results.json").read_bytes()
    assert said_by(evaluate_py.main, run, *options_of_glove)[0] == 0
    assert (run / "results.json").read_bytes() == before
    (further,) = run.glob("glove-*/results.json")  # words that the checkpoint alone does not know
    assert json.loads(further.read_text())["protocol"]["glove"]["sha256"] == sha256(tmp_path / "glove.txt")
    refused = run_script("train.py", "--corpus", miniature, "--run", tmp_path / "no", *options)
    assert refused.returncode == 2 and "no word vectors of glove: give --glove FILE" in refused.stderr
    done = run_script("-m", "experiments.publish", tmp_path / "provided", run, "--corpus", miniature)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "provided" / "README.md").read_text()
    assert "{{" not in card and "Ses0" not in card and "Speakers and times are needed. The answer is" in card
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "provided").predict_dialog(*dialog), shares)
    with pytest.raises(InputError, match="is not the only run of seed 0"):
        publish(tmp_path / "twice", [run, run], miniature)
    (run / "README.md").write_text("notes\n")
    with pytest.raises(InputError, match="is there and no provided checkpoint; choose another folder"):
        publish(run, [run], miniature)
    (run / "README.md").unlink()
    with pytest.raises(InputError, match="provided: is a provided checkpoint, and one is made from runs"):
        publish(tmp_path / "twice", [tmp_path / "provided"], miniature)
    alone, whole = Row("sound alone", "accuracy", None, 1, 12.25), read_json(run / "results.json")["accuracy_9"]
    write_rows(tmp_path / "damage.csv", [Row("as transcribed", "accuracy", None, 1, 100 * whole + 5), alone])
    with pytest.raises(InputError, match="--damage: is not of these runs"):
        publish(tmp_path / "half", [run], miniature, damage=tmp_path / "damage.csv")
    assert not (tmp_path / "half").exists()
    write_rows(tmp_path / "damage.csv", [Row("as transcribed", "accuracy", None, 1, 100 * whole), alone])
    publish(tmp_path / "half", [run], miniature, half=True, damage=tmp_path / "damage.csv")
    assert "| sound alone | 1 | – / **12.2** |" in (tmp_path / "half" / "README.md").read_text()
    assert {path.name for path in (tmp_path / "half").iterdir()} == {
        path.name for path in (tmp_path / "provided").iterdir()
    }
    halved, provided = load_checkpoint(tmp_path / "half"), read_run(tmp_path / "half")
    for stage, network in halved.networks.items():
        for ours, whole in zip(network.get_weights(), recogniser.networks[stage].get_weights(), strict=True):
            np.testing.assert_array_equal(ours, whole.astype("float16"))
    assert provided.files == {name: sha256(tmp_path / "half" / name) for name in provided.files}
    scored = json.loads((tmp_path / "half" / "results.json").read_text())
    assert scored["protocol"]["weights_sha256"] == provided.weights() != read_run(run).weights()
    again = evaluate(tmp_path / "half", halved, task_of(halved, miniature), describe_device(), tmp_path / "again")
    assert f"acc:{scored['accuracy_10']}" in again
    recogniser.networks["member-1"].trainable_weights[0].assign(recogniser.networks["member-1"].weights[0] + 1e6)
    with pytest.raises(InputError, match=r"member-1.weights.h5: a weight is too large for a 16-bit float"):
        halve(tmp_path / "half", provided, recogniser)


def test_damaged_words_in_the_share_asked_for():
    """Of 30 % of the words each kind of mistake is about a third; the same generator gives the same words."""
    spoken = np.array([" ".join(f"w{i}" for i in range(1000))] * 4, object)
    lines = damaged(spoken, 0.3, ["other"], np.random.default_rng(0))
    assert (damaged(spoken, 0.3, ["other"], np.random.default_rng(0)) == lines).all()
    words = " ".join(lines).split()
    kept = len([word for word in words if word != "other"]) / 4000
    assert abs(kept - 0.8) < 0.03 and abs(words.count("other") / 4000 - 0.2) < 0.03
    assert (damaged(spoken, 0.0, ["other"], np.random.default_rng(0)) == spoken).all()
