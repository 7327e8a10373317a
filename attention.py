"""The two attention layers of the paper: sub-view attention, and its mutual correlation between audio and text.

Section 3.2 of the paper, equations 1 to 5 and Figure 3. Both layers treat the rows of a dialog as a set with
multiplicities, so that the equal rows of a zero-padded dialog are computed once (see `SubViewAttention`).

Letters of the shape comments: B samples, H rows (utterances or words), F input features, V sub-views, D sub-view
size, O outputs, Q query rows where they are not all H.
"""

import keras
from keras import ops

_REGISTER = keras.saving.register_keras_serializable(package="mcaf")

UPDATES = ("sequential", "simultaneous")
FACTORS = ("shared", "per_view", "none")
_HIDDEN = -1e9  # added to a score that must come out as 0


@_REGISTER
class SubViewAttention(keras.layers.Layer):
    """Self-attention over rows, split into sub-views (equations 1 to 3).

    1. Linear maps without bias give query, key and value, each split into V sub-views of D: (B, H, V, D).
    2. Per sub-view: scores = softmax(query key^T / sqrt(D)) over the keys' rows: (B, V, H, H).
    3. scores times value, sub-views side by side: (B, H, V D).
    4. Output map W_O without bias: (B, H, O).

    A row of multiplicity m stands for m equal rows: log m is added to its scores as a key, which is exactly what m
    copies would contribute to the softmax. Multiplicity 0 means that the row is not there: no other row sees it, and
    its own output has no meaning. With segments, a row sees the rows of its own segment only, so that several short
    dialogs can share a line of rows.

    Args:
        num_sub_views: V, number of sub-views.
        sub_view_dim: D, size of each sub-view.
        output_dim: O, width of the output; V D if None.
        causal: whether a row sees itself and earlier rows only.

    Call arguments:
        inputs: (B, H, F) floats.
        multiplicity: (B, H) floats >= 0, or None where every row stands for itself.
        segment: (B, H) ints, or None where all rows of a sample see each other.
        return_scores: whether to return the scores too.

    Returns:
        (B, H, O); with `return_scores` also the scores (B, V, H, H), queries before keys, each row summing to one.
        The score of a key of multiplicity m is the sum over its m copies.

    Raises:
        ValueError: a size is not a positive integer.
    """

    def __init__(self, num_sub_views, sub_view_dim, output_dim=None, causal=False, **kwargs):
        super().__init__(**kwargs)
        _check_positive(num_sub_views=num_sub_views, sub_view_dim=sub_view_dim, output_dim=output_dim)
        self.num_sub_views = num_sub_views
        self.sub_view_dim = sub_view_dim
        self.output_dim = output_dim
        self.causal = causal

    def build(self, input_shape):
        self.query, self.key, self.value, self.output_map = _add_maps(self, "", input_shape[-1])

    def call(self, inputs, multiplicity=None, segment=None, return_scores=False):
        query, key, value = self.project(inputs)
        outputs, scores = attend(query, key, value, multiplicity, segment, self.causal)
        outputs = ops.matmul(outputs, self.output_map)  # (B, H, O)
        return (outputs, scores) if return_scores else outputs

    def project(self, inputs):
        """Query, key and value of each row, (B, H, V, D) each."""
        return [_split(self, ops.matmul(inputs, kernel)) for kernel in (self.query, self.key, self.value)]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], _output_dim(self))

    def get_config(self):
        return super().get_config() | _sizes(self)


@_REGISTER
class MutualCorrelationAttention(keras.layers.Layer):
    """Sub-view attention in two modalities whose keys see each other through a learnable factor (equations 4, 5).

    1. Query, key and value of audio and of text as in `SubViewAttention`: (B, H, V, D) each.
    2. Mutual correlation factor, L_a for the audio keys k_a and L_t for the text keys k_t:
       `update="sequential"` (released code): k_a' = k_a + k_t L_a, then k_t' = k_t + k_a' L_t.
       `update="simultaneous"` (paper): k_a' = k_a + k_t L_a and k_t' = k_t + k_a L_t.
    3. Steps 2 to 4 of `SubViewAttention` in each modality, with the new keys.

    The factor is one (D, D) matrix per modality that all sub-views share (`factor="shared"`, released code), one per
    sub-view, (V, D, D) (`factor="per_view"`, Figure 3), or absent (`factor="none"`: two attentions side by side, the
    paper's ablation). All weights start he_uniform (released code).

    Args:
        num_sub_views: V, number of sub-views.
        sub_view_dim: D, size of each sub-view.
        output_dim: O, width of each output; V D if None.
        update: "sequential" or "simultaneous".
        factor: "shared", "per_view" or "none".
        factor_initializer: first value of the factor.
        causal: whether a row sees itself and earlier rows only.

    Call arguments:
        inputs: [audio, text], both (B, H, F) floats; row h of both is the same utterance.
        multiplicity: (B, H) floats >= 0, how many equal rows each row stands for, 0 = not there; or None for all 1.
        segment: (B, H) ints, rows see those of their own segment only; or None.
        return_scores: whether to return the scores too.

    Returns:
        [audio, text], both (B, H, O); with `return_scores`, ([audio, text], [audio scores, text scores]) with scores
        (B, V, H, H), queries before keys.

    Raises:
        ValueError: a size is not a positive integer, or `update` or `factor` is none of the above.
    """

    def __init__(
        self,
        num_sub_views,
        sub_view_dim,
        output_dim=None,
        update="sequential",
        factor="shared",
        causal=False,
        factor_initializer="he_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_positive(num_sub_views=num_sub_views, sub_view_dim=sub_view_dim, output_dim=output_dim)
        if update not in UPDATES:
            raise ValueError(f"update must be one of {UPDATES}. Received: {update!r}")
        if factor not in FACTORS:
            raise ValueError(f"factor must be one of {FACTORS}. Received: {factor!r}")
        self.num_sub_views = num_sub_views
        self.sub_view_dim = sub_view_dim
        self.output_dim = output_dim
        self.update = update
        self.factor = factor
        self.causal = causal
        self.factor_initializer = factor_initializer

    def build(self, input_shape):
        audio_shape, text_shape = input_shape
        self.audio_maps = _add_maps(self, "audio_", audio_shape[-1])
        self.text_maps = _add_maps(self, "text_", text_shape[-1])
        if self.factor != "none":
            shape = (self.sub_view_dim, self.sub_view_dim)
            if self.factor == "per_view":
                shape = (self.num_sub_views, *shape)
            # he_uniform takes the last two axes of a three-axis shape as a convolution; draw each view on its own.
            initializer = _PerView(self.factor_initializer) if self.factor == "per_view" else self.factor_initializer
            self.text_factor = self.add_weight(name="text_factor", shape=shape, initializer=initializer)
            self.audio_factor = self.add_weight(name="audio_factor", shape=shape, initializer=initializer)

    def call(self, inputs, multiplicity=None, segment=None, return_scores=False):
        outputs, scores = [], []
        for projected, maps in zip(self.project(inputs), (self.audio_maps, self.text_maps), strict=True):
            rows, row_scores = attend(*projected, multiplicity, segment, self.causal)
            outputs.append(ops.matmul(rows, maps[3]))  # (B, H, O)
            scores.append(row_scores)
        return (outputs, scores) if return_scores else outputs

    def project(self, inputs):
        """(query, correlated key, value) of audio and of text, (B, H, V, D) each."""
        (query_a, key_a, value_a), (query_t, key_t, value_t) = (
            [_split(self, ops.matmul(rows, kernel)) for kernel in maps[:3]]
            for rows, maps in zip(inputs, (self.audio_maps, self.text_maps), strict=True)
        )
        if self.factor != "none":
            new_key_a = key_a + self._times_factor(key_t, self.audio_factor)
            seen_by_text = new_key_a if self.update == "sequential" else key_a
            key_t = key_t + self._times_factor(seen_by_text, self.text_factor)
            key_a = new_key_a
        return (query_a, key_a, value_a), (query_t, key_t, value_t)

    def _times_factor(self, keys, factor):
        return ops.einsum("bhvd,vde->bhve" if self.factor == "per_view" else "bhvd,de->bhve", keys, factor)

    def compute_output_shape(self, input_shape):
        return [(*shape[:-1], _output_dim(self)) for shape in input_shape]

    def get_config(self):
        own = {name: getattr(self, name) for name in ("update", "factor", "factor_initializer")}
        return super().get_config() | _sizes(self) | own


def attend(query, key, value, multiplicity=None, segment=None, causal=False, bias=None):
    """Scores of each query's row over the keys' rows, and the values weighted by them (equations 1 and 2).

    Args:
        query: (B, H, V, D); without the other arguments also (B, Q, V, D).
        key: (B, H, V, D).
        value: (B, H, V, D).
        multiplicity: (B, H) how many equal rows each key stands for, or None.
        segment: (B, H) which rows see each other, or None.
        causal: whether query h sees the keys 0..h only.
        bias: (B, V, Q, H) added to the scores, or None.

    Returns:
        rows (B, Q, V D) and scores (B, V, Q, H).
    """
    scale = 1 / float(key.shape[-1]) ** 0.5
    scores = ops.einsum("bqvd,bhvd->bvqh", query * scale, key)
    if bias is not None:
        scores = scores + bias
    hidden = []  # what is added to the scores, broadcast over the sub-views in one pass
    if multiplicity is not None:
        # log 0 would do as well, but its infinity times 0 is NaN where a whole sample is absent.
        there = ops.where(multiplicity > 0, ops.log(ops.maximum(multiplicity, 1e-30)), _HIDDEN)
        hidden.append(ops.expand_dims(there, 1))  # (B, 1, H)
    if segment is not None:
        same = ops.equal(ops.expand_dims(segment, 2), ops.expand_dims(segment, 1))
        hidden.append(ops.where(same, 0.0, _HIDDEN))  # (B, H, H)
    if causal:
        rows = ops.arange(ops.shape(key)[1])
        hidden.append(ops.where(rows <= ops.expand_dims(rows, 1), 0.0, _HIDDEN)[None])  # (1, H, H)
    if hidden:
        scores = scores + ops.expand_dims(sum(hidden), 1)
    # Keras warns of a softmax over one value.
    scores = ops.ones_like(scores) if scores.shape[-1] == 1 else ops.softmax(scores, axis=-1)
    rows = ops.einsum("bvqh,bhvd->bqvd", scores, value)
    return _merge(rows), scores


@_REGISTER
class _PerView(keras.initializers.Initializer):
    """Draws each matrix of a (V, D, D) weight with the fan of one matrix."""

    def __init__(self, name):
        self.name = name

    def __call__(self, shape, dtype=None):
        return ops.stack([keras.initializers.get(self.name)(shape[1:], dtype=dtype) for _ in range(shape[0])])

    def get_config(self):
        return {"name": self.name}


def _add_maps(layer, prefix, input_dim):
    """The kernels of query, key, value and output, in this order (released code)."""
    inner_dim = layer.num_sub_views * layer.sub_view_dim
    shapes = {name: (input_dim, inner_dim) for name in ("query", "key", "value")}
    shapes["output"] = (inner_dim, _output_dim(layer))
    return [
        layer.add_weight(name=f"{prefix}{name}", shape=shape, initializer="he_uniform")
        for name, shape in shapes.items()
    ]


def _split(layer, rows):
    """(B, H, V D) -> (B, H, V, D)."""
    shape = ops.shape(rows)
    return ops.reshape(rows, (shape[0], shape[1], layer.num_sub_views, layer.sub_view_dim))


def _merge(rows):
    """(B, H, V, D) -> (B, H, V D)."""
    shape = ops.shape(rows)
    return ops.reshape(rows, (shape[0], shape[1], rows.shape[2] * rows.shape[3]))


def _output_dim(layer):
    return layer.output_dim or layer.num_sub_views * layer.sub_view_dim


def _sizes(layer):
    return {
        "num_sub_views": layer.num_sub_views,
        "sub_view_dim": layer.sub_view_dim,
        "output_dim": layer.output_dim,
        "causal": layer.causal,
    }


def _check_positive(**sizes):
    for name, size in sizes.items():
        if not (size is None and name == "output_dim") and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{name} must be a positive integer. Received: {size!r}")
