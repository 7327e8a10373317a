"""The networks: parameter counts, padding computed once against plain padded networks, the authors' own layers."""

import csv
import importlib.util
import json

import h5py
import keras
import numpy as np
import pytest
from averaged import answers_of_the_mean
from conftest import ROOT, SHARED, run_script, said_by, untraced_steps

import evaluate
from benchmarks.padded import padded_fusion, padded_text
from data.contexts import context_rows, shuffled_batches, token_rows
from data.corpus import dialog_slices, read_corpus, write_corpus
from model import (
    audio_branch,
    fusion_network,
    load_released_weights,
    predict_contexts,
    predict_features,
    predict_tokens,
    text_branch,
    vector_model,
)
from settings import TEST_SESSION, Settings
from storage.files import InputError
from systems import system_of
from systems.causal.network import causal_network, predict_dialogs

LENGTH = 19  # rows of the padded references; short, for speed


def random_contexts(lengths, seed=3):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=(h, 200)).astype("float32") for h in lengths] for _ in range(2)]


def zero_padded(contexts):
    return keras.utils.pad_sequences(contexts, LENGTH, "float32", "post")


def with_random_statistics(network, seed=5):
    """Random weights everywhere, so that no batch norm is the identity."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w for w in network.get_weights()])
    return network


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_padding_once_equals_padded_network(variant, request):
    """In prediction, and in training: one step moves every weight and every batch-norm statistic alike.

    The padded network has the rows of each context in reverse order: no network here sees the order.
    """
    if variant == "released":  # whose traced step test_training.py has
        request.getfixturevalue("untraced")
    lengths = [1, 4, LENGTH, 7, LENGTH - 1, 2, 3]
    audio, text = random_contexts(lengths)
    ours = with_random_statistics(fusion_network(variant, context_length=LENGTH))
    plain = padded_fusion(variant, LENGTH)
    plain.set_weights(ours.get_weights())
    padded = [zero_padded([rows[::-1] for rows in contexts]) for contexts in (audio, text)]
    np.testing.assert_allclose(predict_contexts(ours, audio, text), plain.predict_on_batch(padded), atol=1e-5)

    targets = np.random.default_rng(1).dirichlet(np.ones(10), len(lengths)).astype("float32")
    for network, inputs in ((ours, context_rows(audio, text, LENGTH)), (plain, padded)):
        network.compile(keras.optimizers.SGD(0.05), "mse")
        network.train_on_batch(inputs, targets)
    for weight, mine, theirs in zip(ours.weights, ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=6e-5, err_msg=weight.path)


@pytest.mark.parametrize("count_padding", [True, False])
def test_batch_norm_counts_the_padding_or_leaves_it_out(count_padding, request):
    """The moving mean after one step, against the mean in NumPy of what the first attention gives; by the setting."""
    if count_padding:  # whose traced step test_training.py has
        request.getfixturevalue("untraced")
    lengths = [1, 4, LENGTH - 1, 2]  # that of LENGTH - 1 has one row of padding
    audio, text = random_contexts(lengths)
    settings = Settings(padding="counted" if count_padding else "uncounted")
    network = with_random_statistics(system_of("released").network(settings, "fusion", None, 46, 10, LENGTH))
    rows = context_rows(audio, text, LENGTH)
    attended = keras.Model(network.input, network.get_layer("attention_1").output)(rows)
    counts = rows["multiplicity"] * (rows["audio"].any(axis=-1) | count_padding)
    wanted = []
    for modality, values in zip(("audio", "text"), attended, strict=True):
        mean = (np.asarray(values) * counts[..., None]).sum((0, 1)) / counts.sum()
        wanted.append(0.99 * np.asarray(network.get_layer(f"norm_1_{modality}").moving_mean) + 0.01 * mean)
    assert counts.sum() == (LENGTH * len(lengths) if count_padding else sum(lengths))
    network.compile(keras.optimizers.SGD(0.05), "mse")
    network.train_on_batch(rows, np.full((len(lengths), 10), 0.1, "float32"))
    for modality, mean in zip(("audio", "text"), wanted, strict=True):
        np.testing.assert_allclose(network.get_layer(f"norm_1_{modality}").moving_mean, mean, atol=1e-6)


def test_text_branch_equals_padded_branch(untraced):
    """Fifty places with padding and unknown words against known words and one padding row; trained one step."""
    rng = np.random.default_rng(2)
    words = rng.normal(0, 0.5, (9, 200)).astype("float32")
    ids = np.zeros((4, 50), "int32")
    ids[0, :50] = rng.integers(1, 9, 50)
    ids[1, :3] = [4, 0, 8]  # an unknown word in the middle
    ids[2, :6] = [1, 2, 3, 4, 5, 5]
    ours = text_branch(words)
    plain = padded_text(9)
    plain.set_weights(ours.get_weights())
    np.testing.assert_allclose(predict_tokens(ours, ids), plain.predict_on_batch(ids), atol=1e-5)
    targets = rng.dirichlet(np.ones(10), 4).astype("float32")
    for network, inputs in ((ours, token_rows(ids)), (plain, ids)):
        network.compile(keras.optimizers.SGD(0.05), "mse")
        network.train_on_batch(inputs, targets)
    for weight, mine, theirs in zip(ours.weights, ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5, err_msg=weight.path)


# Figure 4, per layer and modality: three input maps, one output map, factor, batch norm; then Dense 64 -> 10.
PAPER_PARAMETERS = (
    64 * 10
    + 10
    + 2
    * sum(
        3 * width_in * width + width * width + view * view + 4 * width
        for width_in, width, view in ((200, 200, 20), (200, 128, 16), (128, 64, 16), (64, 32, 8))
    )
)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: fusion_network("released"), 1_411_258),  # published
        (lambda: fusion_network("paper"), PAPER_PARAMETERS),
        (lambda: text_branch(np.zeros((3, 200), "float32")), 3 * 200 + 2 * (160_000 + 800) + 2_010),
        (lambda: audio_branch(6552), 6552 * 1600 + 1600 * 5 + 1600 * 400 + 400 * 5 + 400 * 200 + 200 + 2_010),
        (lambda: fusion_network(factor="none"), 1_411_258 - 4 * 2 * 400),
        (lambda: fusion_network(factor="per_view"), 1_411_258 + 4 * 2 * 400 * 9),
    ],
)
def test_parameter_counts(network, parameters):
    assert network().count_params() == parameters


def test_contexts_in_any_order_and_mix():
    lengths = np.random.default_rng(0).integers(1, LENGTH + 1, 150)
    audio, text = random_contexts(lengths)
    network = with_random_statistics(fusion_network(context_length=LENGTH))
    together = predict_contexts(network, audio, text, batch_size=32)
    assert together.shape == (150, 10)
    shuffled = np.random.default_rng(1).permutation(150)
    apart = predict_contexts(network, [audio[i] for i in shuffled], [text[i] for i in shuffled], batch_size=7)
    np.testing.assert_allclose(apart, together[shuffled], atol=1e-5)


PREDICT = """
import sys
import evaluate
import keras
import numpy as np
from data.contexts import context_rows
from model import fusion_network, predict_contexts
from systems.causal.network import CausalMutualCorrelationAttention, causal_network, dialog_inputs, predict_dialogs
sys.path.append("tests")
from averaged import answers_of_the_mean

given = np.load(sys.argv[1], allow_pickle=False)
network = fusion_network(context_length=int(given["context_length"]))
network.set_weights([given[f"weight_{i}"] for i in range(len(network.weights))])
audio, text = ([given[f"{name}_{i}"] for i in range(3)] for name in ("audio", "text"))
predictions = predict_contexts(network, audio, text)
network.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")  # step by step it is slow
network.optimizer.build(network.trainable_variables)
loss = network.train_on_batch(context_rows(audio, text, network.context_length), given["targets"])
causal = causal_network(200, 200, "shared", "sequential", 10)
causal.set_weights([given[f"causal_{i}"] for i in range(len(causal.weights))])
rows = {"audio": audio[-1], "text": text[-1], "speaker": given["speaker"]}
answers = predict_dialogs(causal, rows, [slice(0, len(audio[-1]))])
# JAX's compiler broke on the gradient of a batch of one long dialog, and took the process with it.
inputs, speaker = dialog_inputs(20, 20)
outputs = CausalMutualCorrelationAttention(2, 5)([inputs["audio"], inputs["text"]], speaker=speaker)
layer = keras.Model({**inputs, "speaker": speaker}, keras.ops.concatenate(outputs, axis=-1))
layer.compile("sgd", "mse", jit_compile=keras.backend.backend() == "jax")
long = {"audio": np.ones((1, 144, 20)), "text": np.ones((1, 144, 20)), "speaker": np.zeros((1, 144), "int32")}
assert np.isfinite(layer.train_on_batch(long, np.ones((1, 144, 20))))
np.savez(sys.argv[2], predictions=predictions, loss=loss, answers=answers, averaged=answers_of_the_mean())
if sys.argv[3:]:
    sys.argv[:3] = ["evaluate.py"]
    evaluate.main()
"""


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """(file of random weights and contexts, what TensorFlow makes of them, arguments of evaluate.py, its folder).

    Evaluated are two dialogs of the real test session; () and None where the real data is not here. They are short, so
    that JAX compiles each network for one shape.
    """
    folder = tmp_path_factory.mktemp("tensorflow")
    keras.utils.set_random_seed(0)  # else the weights, and the last digits of the loss, depend on the tests before
    audio, text = random_contexts([1, 5, LENGTH])
    network = with_random_statistics(fusion_network(context_length=LENGTH))
    targets = np.random.default_rng(1).dirichlet(np.ones(10), 3).astype("float32")
    given = {f"weight_{i}": weight for i, weight in enumerate(network.get_weights())}
    given |= {f"audio_{i}": rows for i, rows in enumerate(audio)} | {f"text_{i}": rows for i, rows in enumerate(text)}
    causal = causal_network(200, 200, "shared", "sequential", 10)
    given |= {f"causal_{i}": weight for i, weight in enumerate(causal.get_weights())}
    given |= {"targets": targets, "context_length": LENGTH, "speaker": np.arange(LENGTH, dtype="int32") // 2 % 2}
    np.savez(folder / "given.npz", **given)
    rows = {"audio": audio[-1], "text": text[-1], "speaker": given["speaker"]}
    with untraced_steps():
        made = {"predictions": predict_contexts(network, audio, text), "averaged": answers_of_the_mean()}
        made["answers"] = predict_dialogs(causal, rows, [slice(0, LENGTH)])
        network.compile("adam", "mse", jit_compile=False)
        network.optimizer.build(network.trainable_variables)
        made["loss"] = network.train_on_batch(context_rows(audio, text, LENGTH), targets)
        if not SHARED.is_dir():
            return folder / "given.npz", made, (), None
        corpus = read_corpus(SHARED / "iemocap" / "iemocap.h5")
        dialogs = dialog_slices(corpus.dialog_id).values()
        dialogs = [rows for rows in dialogs if corpus.session[rows.start] == TEST_SESSION]
        chosen = sorted(dialogs, key=lambda rows: rows.stop - rows.start)[:2]
        write_corpus(folder / "corpus.h5", corpus.take(np.concatenate([np.r_[rows] for rows in chosen])))
        released = ROOT / "checkpoints" / "iemocap-released"
        arguments = (released, "--corpus", folder / "corpus.h5", "--test-session", TEST_SESSION)
        assert said_by(evaluate.main, *arguments, "--out", folder) == (0, "")
    return folder / "given.npz", made, arguments, folder


def answers_in(folder):
    """(utterance ids, (N, C) predictions, confusion matrix) of results of evaluate.py."""
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    matrix = json.loads((folder / "results.json").read_text())["confusion_matrix"]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], "float64"), matrix


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(backend, on_tensorflow, tmp_path):
    """The same weights and contexts: same predictions, same training loss. Skips where the backend is not installed.

    And evaluate.py on real dialogs, where they are here: the provided checkpoint's answers, and how many are right.
    """
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    given, made, arguments, scored = on_tensorflow
    arguments = (*arguments, "--out", tmp_path / "scored") if arguments else ()
    # JAX compiles in half the time where it shall not optimise.
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    env = {"KERAS_BACKEND": backend, "XLA_FLAGS": quick}
    done = run_script("-c", PREDICT, given, tmp_path / "found.npz", *arguments, env=env)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz", allow_pickle=False)
    np.testing.assert_allclose(found["loss"], made["loss"], rtol=1e-5)
    for name, atol in (("predictions", 1e-5), ("answers", 1e-5), ("averaged", 1e-6)):
        np.testing.assert_allclose(found[name], made[name], atol=atol)
    if scored:
        (ids, shares, matrix), (their_ids, their_shares, their_matrix) = map(answers_in, (scored, tmp_path / "scored"))
        assert len(ids) > 20 and ids == their_ids and matrix == their_matrix and np.trace(matrix) > np.sum(matrix) / 3
        np.testing.assert_allclose(their_shares, shares, atol=1e-5)


def test_contexts_that_do_not_fit_are_named():
    network = fusion_network(context_length=LENGTH)
    good = np.zeros((2, 200), "float32")
    with pytest.raises(ValueError, match="equally many.*2 and 1"):
        predict_contexts(network, [good, good], [good])
    with pytest.raises(ValueError, match="context 1 .*3, 200.*2, 200"):
        predict_contexts(network, [good, np.zeros((3, 200))], [good, good])
    with pytest.raises(ValueError, match="context 0"):
        predict_contexts(network, [good[:0]], [good[:0]])


def test_vectors_are_200_wide(untraced):
    ids = np.array([[1, 2, 0], [2, 0, 0]])
    assert predict_tokens(vector_model(text_branch(np.ones((3, 200), "float32"))), ids).shape == (2, 200)
    assert predict_features(vector_model(audio_branch(46)), np.zeros((3, 46), "float32")).shape == (3, 200)


def test_batches_hold_each_sample_once_and_change_with_the_epoch():
    orders = [shuffled_batches(200, 64, np.random.default_rng([0, epoch])) for epoch in (0, 0, 1)]
    for batches in orders:
        assert [len(batch) for batch in batches] == [64, 64, 64, 8]
        np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(200))
    assert [list(b) for b in orders[0]] == [list(b) for b in orders[1]] != [list(b) for b in orders[2]]


@pytest.mark.parametrize("multiples, shape, first_rows", [((4, 1), (2, 20), [18, 2]), ((16, 2), (2, 32), [18, 7, 7])])
def test_packs_are_rounded_up(multiples, shape, first_rows, monkeypatch):
    """18 rows and 7, padding included: two packs of 20; or one of 32 and an empty one, where shapes are compiled."""
    monkeypatch.setattr("data.contexts.pack_multiples", lambda: multiples)
    segment = context_rows(*random_contexts([17, 6]), context_length=40)["segment"]
    assert segment.shape == shape
    assert [np.sum(segment[0] == i) for i in (0, 1, 2) if (segment[0] == i).any()] == first_rows


def test_packs_by_hand(monkeypatch):
    """Contexts of 2, 14 and 5 rows and of 16 without padding: the longest first, then where each first fits."""
    monkeypatch.setattr("data.contexts.pack_multiples", lambda: (16, 2))
    audio = [np.full((h, 1), value) for h, value in ((2, 5.0), (14, 6.0), (5, 7.0), (16, 8.0))]
    batch = context_rows(audio, [rows + 1 for rows in audio], context_length=16)
    assert batch["audio"].shape == (4, 16, 1)  # three packs, made even
    segments = [[3] * 16, [1] * 15 + [4], [2] * 6 + [0] * 3 + [4] * 7, [4] * 16]
    multiplicities = [[1] * 16, [1] * 14 + [2, 0], [1] * 5 + [11] + [1, 1, 14] + [0] * 7, [0] * 16]
    np.testing.assert_array_equal(batch["segment"], segments)
    np.testing.assert_array_equal(batch["multiplicity"], multiplicities)
    np.testing.assert_array_equal(batch["audio"][2, :, 0], [7] * 5 + [0] + [5] * 2 + [0] * 8)
    np.testing.assert_array_equal(batch["text"][1, :, 0], [7] * 14 + [0, 0])


def test_golden_predictions_of_the_authors_layers(shared, untraced):
    golden = np.load(shared / "golden" / "released_fusion.npz", allow_pickle=False)
    network = fusion_network("released")
    load_released_weights(network, shared / "golden" / "released_fusion.h5")
    count = len(golden["lengths"])
    audio, text = ([golden[f"{name}_{i}"] for i in range(count)] for name in ("audio", "text"))
    np.testing.assert_allclose(predict_contexts(network, audio, text), golden["prediction"], atol=2e-5)


def write_released_file(path, rng, whole_model=False):
    """A Keras 2 weight file in the authors' layout: layers by order, suffixes that do not start at 0."""
    shapes = [(name, (200, 200)) for name in ["WQ_a", "WK_a", "WV_a", "WO_a", "WQ_t", "WK_t", "WV_t", "WO_t"]]
    attention = [*shapes, ("WF_t", (20, 20)), ("WF_a", (20, 20))]

    def norm(width):
        return [(name, (width,)) for name in ("gamma", "beta", "moving_mean", "moving_variance")]

    def dense(*shape):
        return [("kernel", shape), ("bias", shape[1:])]

    layers = [("input_1", [])]
    for i in range(4):
        layers += [(f"fusion_attention_{i + 5}", attention)]
        layers += [(f"batch_normalization_{2 * i + 9 + j}", norm(200)) for j in range(2)]
    layers += [("dense_7", dense(400, 256)), ("batch_normalization_17", norm(256))]
    layers += [("dense_8", dense(256, 64)), ("batch_normalization_18", norm(64))]
    layers += [("dense_9", dense(64, 16)), ("batch_normalization_19", norm(16)), ("dense_10", dense(16, 10))]
    written = []
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for layer, weights in layers:
            group = root.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}/{name}:0".encode() for name, _ in weights], "S64")
            for name, shape in weights:
                values = rng.uniform(0.05, 0.1, shape).astype("float32")
                group[f"{layer}/{name}:0"] = values
                written.append((name, values))
    return written


@pytest.mark.parametrize("whole_model", [False, True])
def test_released_file_is_copied_by_name_and_order(tmp_path, whole_model, untraced):
    """The self-contained twin: each array lands in its place, and the padded reference on them agrees."""
    path = tmp_path / "fusion.h5"
    written = write_released_file(path, np.random.default_rng(4), whole_model)
    network = fusion_network("released", context_length=LENGTH)
    load_released_weights(network, path)
    for variable, (name, values) in zip(network.weights, written, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), values, err_msg=name)
    plain = padded_fusion("released", LENGTH)
    plain.set_weights([values for _, values in written])
    audio, text = random_contexts([3, LENGTH])
    expected = plain.predict_on_batch([zero_padded(audio), zero_padded(text)])
    np.testing.assert_allclose(predict_contexts(network, audio, text), expected, atol=2e-5)


def test_released_file_of_another_architecture_is_reported(tmp_path):
    path = tmp_path / "fusion.h5"
    write_released_file(path, np.random.default_rng(4))
    network = fusion_network("released", factor="none", context_length=LENGTH)
    with pytest.raises((InputError, ValueError)):
        load_released_weights(network, path)
    with h5py.File(path, "r+") as file:
        group = file["dense_9/dense_9"]
        del group["kernel:0"]
        group["kernel:0"] = np.zeros((65, 16), "float32")
    with pytest.raises(InputError, match=r"kernel.*\(65, 16\), expected .*dense_16: float32 \(64, 16\)"):
        load_released_weights(fusion_network("released", context_length=LENGTH), path)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"input_1", b"dense_9"]
    with pytest.raises(InputError, match="weight 1 should be WQ_a, the file has kernel .*2 in the file"):
        load_released_weights(fusion_network("released", context_length=LENGTH), path)
