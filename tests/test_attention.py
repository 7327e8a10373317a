"""The attention layers against NumPy loops, a worked example, and the properties that the paper's text promises."""

import keras
import numpy as np
import pytest
from keras import ops

from attention import MutualCorrelationAttention, SubViewAttention

# All sizes differ, so that a swap of axes fails.
B, H, F, V, D, OUT = 2, 5, 3, 4, 6, 7


def softmax(scores):
    exponent = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def reference_attention(query, key, value, num_sub_views, visible=None):
    """Equations 1 to 3 for one sample, by loops over sub-views: (H, V D) each -> (H, V D) and scores."""
    size = query.shape[1] // num_sub_views
    outputs, scores = [], []
    for j in range(num_sub_views):
        part = slice(j * size, (j + 1) * size)
        raw = query[:, part] @ key[:, part].T / np.sqrt(size)
        if visible is not None:
            raw = np.where(visible, raw, -np.inf)
        scores.append(softmax(raw))
        outputs.append(scores[-1] @ value[:, part])
    return np.concatenate(outputs, axis=1), np.stack(scores)


def reference_correlation(audio, text, w, update, num_sub_views, visible=None):
    """Equations 4 and 5, then attention in each modality, for one sample; `w` maps weight names to arrays."""

    def times(keys, factor):
        size = keys.shape[1] // num_sub_views
        views = np.split(keys, num_sub_views, axis=1)
        factors = [factor] * num_sub_views if factor.ndim == 2 else list(factor)
        assert views[0].shape[1] == size
        return np.concatenate([view @ f for view, f in zip(views, factors, strict=True)], axis=1)

    key_a, key_t = audio @ w["audio_key"], text @ w["text_key"]
    if "audio_factor" in w:
        new_key_a = key_a + times(key_t, w["audio_factor"])
        key_t = key_t + times(new_key_a if update == "sequential" else key_a, w["text_factor"])
        key_a = new_key_a
    rows_a, _ = reference_attention(audio @ w["audio_query"], key_a, audio @ w["audio_value"], num_sub_views, visible)
    rows_t, _ = reference_attention(text @ w["text_query"], key_t, text @ w["text_value"], num_sub_views, visible)
    return rows_a @ w["audio_output"], rows_t @ w["text_output"]


def arrays(*shapes):
    rng = np.random.default_rng(7)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def weights_by_name(layer):
    return {weight.name: np.asarray(weight, "float64") for weight in layer.weights}


@pytest.mark.parametrize("causal", [False, True])
def test_sub_view_attention_equals_loops(causal):
    (x,) = arrays((B, H, F))
    layer = SubViewAttention(V, D, output_dim=OUT, causal=causal)
    outputs, scores = layer(x, return_scores=True)
    w = weights_by_name(layer)
    visible = np.tril(np.ones((H, H), bool)) if causal else None
    assert outputs.shape == (B, H, OUT) and scores.shape == (B, V, H, H)
    for b in range(B):
        rows, expected_scores = reference_attention(x[b] @ w["query"], x[b] @ w["key"], x[b] @ w["value"], V, visible)
        np.testing.assert_allclose(outputs[b], rows @ w["output"], atol=1e-5)
        np.testing.assert_allclose(scores[b], expected_scores, atol=1e-6)


@pytest.mark.parametrize("update", ["sequential", "simultaneous"])
@pytest.mark.parametrize("factor", ["shared", "per_view", "none"])
@pytest.mark.parametrize("causal", [False, True])
def test_mutual_correlation_equals_loops(update, factor, causal):
    audio, text = arrays((B, H, F), (B, H, F + 2))
    layer = MutualCorrelationAttention(V, D, output_dim=OUT, update=update, factor=factor, causal=causal)
    outputs = layer([audio, text])
    visible = np.tril(np.ones((H, H), bool)) if causal else None
    for b in range(B):
        expected = reference_correlation(audio[b], text[b], weights_by_name(layer), update, V, visible)
        for ours, theirs in zip(outputs, expected, strict=True):
            assert ours.shape == (B, H, OUT)
            np.testing.assert_allclose(ours[b], theirs, atol=1e-5)


def test_worked_example():
    """Two rows, one sub-view of one number: k_a' = 1 + 2 * 0.5 = 2, k_t' = 2 + 2 * 0.25 = 2.5 in row 1; row 2 is 0."""
    layer = MutualCorrelationAttention(1, 1)
    audio, text = np.array([[[1.0], [0.0]]], "float32"), np.array([[[2.0], [0.0]]], "float32")
    layer([audio, text])
    one = np.ones((1, 1), "float32")
    layer.set_weights([one] * 8 + [one / 4, one / 2])  # queries, keys, values and outputs 1, text factor, audio factor
    audio_out, text_out = layer([audio, text])
    # Row 1 of audio: scores softmax(1 * [2, 0]), values [1, 0]; row 2 has query 0, hence the plain mean.
    np.testing.assert_allclose(audio_out[0, :, 0], [1 / (1 + np.exp(-2.0)), 0.5], atol=1e-6)
    np.testing.assert_allclose(text_out[0, :, 0], [2 / (1 + np.exp(-5.0)), 1.0], atol=1e-6)


def test_factor_zero_is_plain_attention():
    audio, text = arrays((B, H, F), (B, H, F))
    layer, plain = MutualCorrelationAttention(V, D), MutualCorrelationAttention(V, D, factor="none")
    layer([audio, text]), plain([audio, text])
    zero = np.zeros((D, D), "float32")
    layer.set_weights(plain.get_weights() + [zero, zero])
    for ours, theirs in zip(layer([audio, text]), plain([audio, text]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["sub_view", "mutual"])
def test_multiplicity_stands_for_copies(kind):
    """A row of multiplicity 3 acts as three equal rows; a row of multiplicity 0 is not there."""
    audio, text = arrays((B, H, F), (B, H, F))
    multiplicity = np.tile(np.array([1, 3, 1, 0, 2], "float32"), (B, 1))
    copies = [0, 1, 1, 1, 2, 4, 4]
    if kind == "sub_view":
        layer = SubViewAttention(V, D)
        ours, theirs = [layer(audio, multiplicity=multiplicity)], [layer(audio[:, copies])]
    else:
        layer = MutualCorrelationAttention(V, D)
        ours, theirs = layer([audio, text], multiplicity=multiplicity), layer([audio[:, copies], text[:, copies]])
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(one)[:, [0, 1, 1, 1, 2, 4, 4]], other, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_segments_do_not_see_each_other(causal):
    audio, text = arrays((1, H, F), (1, H, F))
    segment = np.array([[0, 0, 1, 1, 1]], "int32")
    layer = MutualCorrelationAttention(V, D, causal=causal)
    for whole, first, second in zip(
        layer([audio, text], segment=segment),
        layer([audio[:, :2], text[:, :2]]),
        layer([audio[:, 2:], text[:, 2:]]),
        strict=True,
    ):
        np.testing.assert_allclose(whole, ops.concatenate([first, second], axis=1), atol=1e-5)


def test_scores_on_request_sum_to_one_and_skip_absent_rows():
    audio, text = arrays((B, H, F), (B, H, F))
    multiplicity = np.tile(np.array([1, 1, 0, 5, 1], "float32"), (B, 1))
    layer = MutualCorrelationAttention(V, D)
    outputs, scores = layer([audio, text], multiplicity=multiplicity, return_scores=True)
    assert len(outputs) == len(scores) == 2
    for one in scores:
        np.testing.assert_allclose(ops.sum(one, axis=-1), np.ones((B, V, H)), atol=1e-5)
        assert float(ops.max(one[..., 2])) == 0


def test_training_step_moves_every_weight():
    audio, text = arrays((B, H, F), (B, H, F))
    inputs = [keras.Input((None, F)), keras.Input((None, F))]
    model = keras.Model(inputs, keras.layers.Concatenate()(MutualCorrelationAttention(V, D)(inputs)))
    before = [weight.copy() for weight in model.get_weights()]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch([audio, text], np.ones((B, H, 2 * V * D), "float32"))
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.allclose(np.asarray(weight), old, atol=1e-9), weight.path


@pytest.mark.parametrize(
    "layer",
    [
        SubViewAttention(2, 3, output_dim=5, causal=True),
        MutualCorrelationAttention(2, 3, output_dim=5, update="simultaneous", factor="per_view", causal=True),
    ],
)
def test_configuration_and_file_round_trip(layer, tmp_path):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    mutual = isinstance(layer, MutualCorrelationAttention)
    inputs = [keras.Input((None, F)), keras.Input((None, F))] if mutual else keras.Input((None, F))
    data = arrays((B, H, F), (B, H, F)) if mutual else arrays((B, H, F))[0]
    model = keras.Model(inputs, copy(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")  # safe mode; the classes are registered
    for ours, theirs in zip(loaded(data), model(data), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weight_order_is_the_released_one():
    layer = MutualCorrelationAttention(V, D)
    layer.build([(None, None, F), (None, None, F)])
    assert [weight.name for weight in layer.weights] == [
        *("audio_query", "audio_key", "audio_value", "audio_output"),
        *("text_query", "text_key", "text_value", "text_output", "text_factor", "audio_factor"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sub_views": 0, "sub_view_dim": 2}, "num_sub_views"),
        ({"num_sub_views": 2, "sub_view_dim": 2.5}, "sub_view_dim"),
        ({"num_sub_views": 2, "sub_view_dim": 2, "output_dim": -1}, "output_dim"),
        ({"num_sub_views": 2, "sub_view_dim": 2, "update": "both"}, "update .*'both'"),
        ({"num_sub_views": 2, "sub_view_dim": 2, "factor": "some"}, "factor .*'some'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MutualCorrelationAttention(**arguments)
