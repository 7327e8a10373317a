"""A running dialog, utterance by utterance, in NumPy: a step is one row of each layer, two from utterance 257 on.

A framework takes longer to start a step than this one takes to compute. All members are computed side by side.

Letters of the shape comments: M members, F features, V sub-views, D sub-view size, H utterances so far, C emotions.
"""

import numpy as np
from scipy.special import softmax

from systems.causal.inputs import LARGEST_FEATURE, PRIOR_ROWS
from systems.causal.network import BIAS_SCALE, DISTANCE_EDGES, MODALITIES, MOST_ROWS, NUM_LAYERS, SUB_VIEW_DIM


class DialogStream:
    """Vote shares after each utterance of a running dialog, equal to those of the whole dialog at once.

    stream = load_checkpoint("checkpoints/iemocap-causal").stream()
    for utterance in dialog:
        shares = stream.step(transcript, audio_features, speaker, start_s, end_s)  # (C,)
    """

    def __init__(self, recogniser):
        self.recogniser, self.context = recogniser, recogniser.run.settings.context
        members = [
            {weight.path: np.asarray(weight, "float64") for weight in network.weights}
            for network in recogniser.networks.values()
        ]
        self.weights = {path: np.stack([member[path] for member in members]) for path in members[0]}
        self.past, self.following = _Past(), _Past()

    def step(self, transcript, audio_features=None, speaker=None, start_s=None, end_s=None):
        """Takes the next utterance; arguments are single rows of those of `Recogniser.predict_dialog`.

        Returns:
            (C,) float32 vote shares.

        Raises:
            ValueError: something that the run needs is missing, or the utterance starts before the last one; the
                stream is then as it was.
        """
        given = (transcript, audio_features, speaker, start_s, end_s)
        utterance = self.recogniser.checked_dialog(*(None if value is None else [value] for value in given))
        past = self.past if self.context else _Past()
        if past.times and utterance.start_s is not None and utterance.start_s[0] < past.times[0]:
            raise ValueError(f"start_s {start_s} is before that of the utterance ahead, {past.times[0]}")
        rows, sums = self._inputs(utterance, speaker, past)
        if len(past.speakers) == MOST_ROWS:  # see `network.windows`
            past = self.past = self.following
            self.following = _Past()
        if len(past.speakers) >= MOST_ROWS // 2:  # as the window that comes next has it
            self._forward(rows, speaker, self.following)
        shares = self._forward(rows, speaker, past)
        past.sums = sums
        past.times = None if utterance.start_s is None else (utterance.start_s[0], utterance.end_s[0])
        return shares.mean(axis=0).astype("float32")

    def _inputs(self, utterance, speaker, past):
        """{modality: (F,)} of the utterance, and the speakers' running sums with it."""
        rows, sums = {}, past.sums
        if self.recogniser.read.words or self.recogniser.read.encoded:
            rows["text"] = self.recogniser.word_rows(utterance.transcript)[0]
        if self.recogniser.read.sound:
            features = self.recogniser.read.sound.scaled(utterance, past.times and past.times[1])
            distances = np.zeros_like(features)
            if np.isnan(features).any():
                features = np.zeros_like(features)
            else:
                features = np.clip(features, -LARGEST_FEATURE, LARGEST_FEATURE)
                count, total = sums.get(speaker, (0, 0))
                sums = {**sums, speaker: (count + 1, total + features)}
                distances = features - sums[speaker][1] / (count + 1 + PRIOR_ROWS)
            rows["audio"] = np.concatenate([features, distances])
        return rows, sums

    def _forward(self, rows, speaker, past):
        """(M, C) shares: the layers of `causal_network` on the row of one utterance, which joins the past."""
        past.speakers.append(speaker)
        same = np.array([one == speaker for one in past.speakers])  # (H,)
        rows = {name: np.tanh(self._dense(f"{name}_dense", one)) for name, one in rows.items()}
        rows = {name: self._norm(f"input_norm_{name}", one) for name, one in rows.items()}
        absent = np.zeros_like(next(iter(rows.values())))
        rows = {name: rows.get(name, absent) for name in MODALITIES}
        distance = np.arange(len(same))[::-1]
        index = same * (len(DISTANCE_EDGES) + 1) + np.searchsorted(DISTANCE_EDGES, distance, "right")  # (H,)
        for number in range(1, NUM_LAYERS + 1):
            layer = f"attention_{number}"
            normed = {name: self._norm(f"norm_{number}_{name}", one) for name, one in rows.items()}
            maps = {
                (name, what): self._map(f"{layer}/{name}_{what}", one).reshape(len(one), -1, SUB_VIEW_DIM)
                for name, one in normed.items()
                for what in ("query", "key", "value")
            }  # (M, V, D) each
            self._correlate(layer, maps)
            for name in MODALITIES:
                keys, values = past.add((number, name), maps[name, "key"], maps[name, "value"])  # (M, V, H, D)
                scores = np.matmul(keys, maps[name, "query"][..., None] / SUB_VIEW_DIM**0.5)[..., 0]
                bias = BIAS_SCALE * self.weights[f"{layer}/{name}_bias"][:, index]  # (M, H, V)
                scores = softmax(scores + bias.transpose(0, 2, 1), axis=-1)
                seen = np.matmul(scores[..., None, :], values).reshape(len(scores), -1)
                rows[name] = rows[name] + np.tanh(self._map(f"{layer}/{name}_output", seen))
        joined = self._norm("norm_joined", np.concatenate(list(rows.values()), axis=-1))
        return softmax(self._dense("emotions", np.tanh(self._dense("dense_128", joined))), axis=-1)

    def _correlate(self, layer, maps):
        """Lets each modality's key see the other's, as `attention.MutualCorrelationAttention` does."""
        if f"{layer}/text_factor" not in self.weights:
            return
        key_a, key_t = maps["audio", "key"], maps["text", "key"]
        factors = {name: self.weights[f"{layer}/{name}_factor"] for name in MODALITIES}
        form = "mvd,mde->mve" if factors["audio"].ndim == 3 else "mvd,mvde->mve"
        maps["audio", "key"] = key_a + np.einsum(form, key_t, factors["audio"])
        sequential = self.recogniser.run.settings.update == "sequential"
        maps["text", "key"] = key_t + np.einsum(form, maps["audio", "key"] if sequential else key_a, factors["text"])

    def _map(self, path, rows):
        """(F,) or (M, F) rows through the (M, F, O) weight of that name: (M, O)."""
        return np.matmul(rows[..., None, :], self.weights[path])[..., 0, :]

    def _dense(self, name, rows):
        return self._map(f"{name}/kernel", rows) + self.weights[f"{name}/bias"]

    def _norm(self, name, rows):
        """`keras.layers.LayerNormalization` of (M, F) rows."""
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-3)
        return centred * scale * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]


class _Past:
    """What a stream keeps of the utterances before: keys, values, speakers, their running sums, the last times."""

    def __init__(self):
        self.rows, self.speakers, self.sums, self.times = {}, [], {}, None

    def add(self, place, *new):
        """All keys and values (M, V, H, D) of a place with the newest (M, V, D); room is made in doubling blocks."""
        kept, count = self.rows.get(place), len(self.speakers) - 1
        if kept is None or count == kept[0].shape[2]:
            room = [np.zeros((*one.shape[:2], max(16, 2 * count), one.shape[2])) for one in new]
            for one, before in zip(room, kept or (), strict=False):
                one[:, :, :count] = before
            kept = self.rows[place] = room
        for one, row in zip(kept, new, strict=True):
            one[:, :, count] = row
        return [one[:, :, : count + 1] for one in kept]
