"""Vectors of words and of sound from trained transformers: hidden layers, pooled over tokens or frames.

The layers are counted as transformers does: 0 is the embedding, 1 the first layer, -1 the last. A vector holds layer
after layer the mean over the steps, with the pooling "mean-std" behind it the standard deviation (ddof=0).
"""

import contextlib
import hashlib
import json
import math
import os
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from data.audio import SAMPLE_RATE_HZ
from data.pretrained import LONGEST_TEXT, fingerprint, folders, loaded, name_of, one_line, tokenizer_of
from data.rows import Rows
from data.workers import progress_bar
from settings import option, said_of
from storage.files import InputError, named
from storage.runs import EncoderFiles

_BATCH_TOKENS = 4096  # of texts encoded together, padding included


@dataclass(frozen=True)
class _Encoder:
    """An encoder that was found and checked. It can go to other processes, and each loads the model when it needs it.

    `folder` is the model's, with its whole path; `identity` what tells it from others (`storage.runs.EncoderFiles`).
    """

    folder: str
    identity: EncoderFiles

    @classmethod
    def load(cls, path_or_name, layers=(-1,), pooling=None, download=False):
        """The encoder of a folder, or of a name on the Hugging Face Hub.

        Args:
            path_or_name, download: as of `data.pretrained.folders`.
            layers: the layers to take.
            pooling: "mean" or "mean-std"; None for what is usual for the kind.

        Raises:
            InputError: no such model, or one of another kind; a layer that it lacks; weights that are no safetensors;
                or a package is missing.
        """
        folder = folders(path_or_name, download)[0]
        about = {"name": name_of(folder), "layers": tuple(layers), "pooling": pooling or cls._POOLING}
        try:
            return cls(str(folder.absolute()), EncoderFiles(sha256=fingerprint(folder), **about))._checked()
        except ValidationError as error:
            raise InputError(said_of(error, option)) from error

    @classmethod
    def find(cls, identity, path_or_name=None):
        """The very encoder that an identity names.

        Args:
            identity: as a corpus file or a run holds it.
            path_or_name: where it is; None for its name, in the user's cache.

        Raises:
            InputError: it is not there, or what is there has other weights; and see `load`.
        """
        problem = None
        advice = f"give the folder of the one that was used in training with {cls._OPTION}"
        for folder in folders(path_or_name or identity.name, advice=advice):
            try:
                if fingerprint(folder) == identity.sha256:
                    return cls(str(folder.absolute()), identity)._checked()
                problem = InputError(
                    f"{folder}: not {identity.name} as it was in training, its weights or config.json differ; {advice}"
                )
            except InputError as error:
                problem = error
        raise problem

    @property
    def names(self):
        """The names of a vector's columns."""
        width = self._model.model.config.hidden_size
        parts = ("mean", "std") if self.identity.pooling == "mean-std" else ("mean",)
        return tuple(
            f"layer{layer}_{part}_{i}" for layer in self.identity.layers for part in parts for i in range(width)
        )

    @property
    def _model(self):
        return loaded(self.folder, self._OF_SOUND)

    def _checked(self):
        num_layers = getattr(self._model.model.config, "num_hidden_layers", None)
        for layer in self.identity.layers:
            if num_layers is not None and not -num_layers - 1 <= layer <= num_layers:
                raise InputError(f"{self.folder}: there is no layer {layer}; it has {num_layers}, and 0, the embedding")
        try:
            self._try()
        except Exception as error:  # whatever torch and the model raise
            raise InputError(f"{self.folder}: no encoder of this kind ({one_line(error)})") from error
        return self

    def _pooled(self, num_steps, sums, squares):
        """(N, T) float32 from the numbers of steps (N,), and sums and sums of squares over them (N, layers, width)."""
        num_steps = np.maximum(num_steps, 1)[:, None, None]
        mean = sums / num_steps
        if self.identity.pooling == "mean-std":
            deviation = np.sqrt(np.maximum(squares / num_steps - mean**2, 0))
            mean = np.concatenate([mean, deviation], axis=2)
        return mean.reshape(len(mean), -1).astype("float32")


class TextEncoder(_Encoder):
    """Vectors of transcripts, over tokens: with those that open and close a text, without padding."""

    _OF_SOUND, _POOLING, _OPTION = False, "mean", "--text-encoder"

    def encode(self, texts, cache=None, progress=False):
        """Vectors of texts; one text in other company gives the same vector but for rounding.

        Args:
            texts: N of them; what is longer than the encoder reads is cut (`num_cut`).
            cache: path of a file that keeps finished batches; made if missing, gone on with if there. None for none.
            progress: whether to show a bar.

        Returns:
            (N, T) float32; with a cache `data.rows.Rows`, which stay in it.

        Raises:
            InputError: a vector is not finite, the tokenizer is of another model, or the cache cannot be written.
        """
        # Each text once, and those of one length together: little padding.
        different = sorted(set(texts), key=lambda text: (len(text), text))
        batches, num_kept, width = list(_batches([len(text) for text in different])), 0, len(self.names)
        row_of = {text: row for row, text in enumerate(different)}
        places = np.array([row_of[text] for text in texts], "int64")
        with contextlib.ExitStack() as stack:
            if cache:
                owner = json.dumps([self.identity.model_dump(mode="json"), tokenizer_of(self.folder), different])
                file, num_kept = _kept_batches(cache, owner, batches, width)
                stack.enter_context(file)
                shape = len(different), width
                rows = Rows(lambda at: np.memmap(cache, "float32", "r", _HEAD_BYTES, shape)[at], places, width)
            else:
                rows = np.empty((len(different), width), "float32")
            done = batches[num_kept - 1].stop if num_kept else 0
            bar = stack.enter_context(progress_bar(self.identity.name, len(different), "texts", progress, done))
            for batch in batches[num_kept:]:
                try:
                    vectors = self._encode(different[batch])
                except IndexError as error:
                    raise InputError(
                        f"{self.folder}: its tokenizer knows more words than its weights; is it another model's?"
                    ) from error
                bad = ~np.isfinite(vectors).all(axis=1)
                if bad.any():
                    raise InputError(
                        f"{self.folder}: the vectors of {bad.sum()} texts are not finite; its weights are damaged"
                    )
                if cache:
                    with named(cache, "cannot be written", "; the texts finished so far are kept"):
                        file.write(vectors)
                else:
                    rows[batch] = vectors
                bar.update(batch.stop - batch.start)
        return rows if cache else rows[places]

    def num_cut(self, texts):
        """How many of the texts are longer than the encoder reads."""
        one = self._model
        return sum(len(text.encode()) > one.most and len(one.reader(text)["input_ids"]) > one.most for text in texts)

    def _try(self):
        """The longest text that it shall read."""
        if self._encode(["a " * self._model.most]).shape != (1, len(self.names)):
            raise ValueError("its layers differ in width")

    def _encode(self, texts):
        one = self._model
        with one.torch.inference_mode():
            batch = one.reader(texts, padding=True, truncation=True, max_length=one.most, return_tensors="pt")
            batch = batch.to(one.model.device)
            mask = batch["attention_mask"]  # (B, steps)
            if not mask.shape[1]:  # of empty texts, where nothing opens and closes a text
                return np.zeros((len(texts), len(self.names)), "float32")
            hidden = one.hidden(self.identity.layers, **batch).double() * mask[:, None, :, None]
            sums = mask.sum(1), hidden.sum(2), (hidden**2).sum(2)
        return self._pooled(*(array.cpu().numpy() for array in sums))


class AudioEncoder(_Encoder):
    """Vectors of sound, over frames: wav2vec 2.0, HuBERT, WavLM, and Whisper's encoder.

    One utterance at a time: padding would change what an encoder without a mask gives. What is longer than 30 s is read
    in equal parts.
    """

    _OF_SOUND, _POOLING, _OPTION = True, "mean-std", "--audio-encoder"

    def __str__(self):
        """The name of the feature set."""
        return f"encoder:{self.identity.name}"

    @property
    def jobs(self):
        """The processes to use where nothing else is said: one for a CUDA card, else None."""
        return 1 if self._model.model.device.type == "cuda" else None

    def extract(self, signal):
        """The vector of one utterance.

        Args:
            signal: (T,) float32 mono at 16 kHz.

        Returns:
            (A,) float32.

        Raises:
            InputError: the sound is too short, or the vector is not finite.
        """
        one = self._model
        if len(signal) < one.least:
            raise InputError(f"{1000 * len(signal) // SAMPLE_RATE_HZ} ms are too short for {self.identity.name}")
        num_frames, sums, squares = 0, 0, 0
        with one.torch.inference_mode(), _one_thread(one.torch):
            for part in np.array_split(signal, math.ceil(len(signal) / one.most)):
                inputs = one.reader(part, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").to(one.model.device)
                hidden = one.hidden(self.identity.layers, **inputs)[0].double()  # (layers, frames, width)
                if one.samples_a_frame:
                    hidden = hidden[:, : math.ceil(len(part) / one.samples_a_frame)]
                num_frames += hidden.shape[1]
                sums, squares = sums + hidden.sum(1).cpu().numpy(), squares + (hidden**2).sum(1).cpu().numpy()
        vector = self._pooled(np.array([num_frames]), sums[None], squares[None])[0]
        if not np.isfinite(vector).all():
            raise InputError(f"{self.identity.name} gives values that are not finite")
        return vector

    def _try(self):
        """The shortest sound that it shall read."""
        self.extract(np.zeros(self._model.least, "float32"))


@contextlib.contextmanager
def _one_thread(torch):
    """Files are encoded side by side, each on a core; and the bytes shall not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(lengths):
    """Slices of texts, sorted by their length in characters, each of a bounded number of tokens with the padding."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        # There are hardly more tokens than characters, and two around them.
        longest = min(lengths[min(stop, len(lengths) - 1)] + 2, LONGEST_TEXT)
        if stop == len(lengths) or (stop + 1 - start) * longest > _BATCH_TOKENS:
            yield slice(start, stop)
            start = stop


_HEAD_BYTES = 65  # of the file of finished rows: a line that says whose they are


def _kept_batches(path, owner, batches, width):
    """Opens the file of finished rows, a line that says whose they are, then their bytes.

    Args:
        path: the file.
        owner: what the rows belong to, as text; those of another owner are dropped.
        batches: their slices; a part of a batch, as a kill leaves it, is dropped.
        width: T.

    Returns:
        (the file, open for the next batch; the number of batches in it).
    """
    head = hashlib.sha256(owner.encode()).hexdigest().encode() + b"\n"
    with named(path, "cannot be written", "; the texts finished so far are kept"):
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 (the caller closes it)
        file.seek(0)
        if file.read(_HEAD_BYTES) != head:
            file.truncate(0)
            file.write(head)
        whole = (file.seek(0, os.SEEK_END) - _HEAD_BYTES) // (4 * width)
        kept = [batch.stop for batch in batches if batch.stop <= whole]
        file.truncate(_HEAD_BYTES + 4 * width * max(kept, default=0))
    return file, len(kept)
