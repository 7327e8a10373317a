"""Encoders of words and of sound: hidden layers of a trained transformer, pooled to one vector for each utterance.

An encoder is a folder with `config.json`, weights as safetensors, and a tokenizer or feature extractor, as
transformers saves it. Nothing in the folder is run, and nothing comes from the network unless it is asked for.
torch and transformers are optional packages: this file alone imports them, when the first encoder is loaded.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from storage.files import InputError, read_json, sha256
from storage.runs import EncoderFiles

POOLINGS = ("mean", "mean-std")
PREFIX = "encoder:"  # of the audio feature set
_SOUND_FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")
_SAMPLE_RATE_HZ = 16_000
_WINDOW_S = 30  # longer sound is encoded in equal parts of at most this: attention needs the square of it in memory
_LONGEST_TEXT = 512  # tokens; what the usual encoders were trained on
_BATCH_TOKENS = 8192  # of a batch of texts, padding included
# Weights that a model may lack, since no hidden layer depends on them.
_UNUSED_WEIGHTS = ("pooler.", "masked_spec_embed", "decoder.", "lm_head.", "adapter.")
_WANTED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class _Encoder:
    """An encoder in a folder; the model itself is loaded once in each process, when it is first needed."""

    folder: str
    identity: EncoderFiles

    @classmethod
    def load(cls, path_or_name, layers=(-1,), pooling=None, download=False):
        """The encoder of a folder, or of a name on the Hugging Face Hub.

        Args:
            path_or_name: a folder; or a name as "sentence-transformers/all-MiniLM-L6-v2", looked for in the user's
                cache. There the last part of the name will do.
            layers: the layers to take, 1 for the first; 0 is the embedding, -1 the last.
            pooling: "mean", or "mean-std", the mean and the standard deviation (ddof=0); None for the kind's own.
            download: whether the network may be asked for a name.

        Raises:
            InputError: a package is missing, no such folder or name, no model in it, an encoder of another kind, a
                layer that it lacks, or weights that are no safetensors.
        """
        folder = _folders(path_or_name, download)[0]
        identity = EncoderFiles(
            name=_name_of(folder), layers=tuple(layers), pooling=pooling or cls._POOLING, sha256=fingerprint(folder)
        )
        encoder = cls(str(folder), identity)
        encoder._model()
        return encoder

    @classmethod
    def find(cls, identity, path_or_name=None):
        """The very encoder that `identity` names.

        Args:
            identity: `storage.runs.EncoderFiles`, as a corpus file or a run has it.
            path_or_name: where it is, as of `load`; None for its name, in the user's cache.

        Raises:
            InputError: it is not there, or has other weights; or see `load`.
        """
        folders = _folders(path_or_name or identity.name, advice="give its folder with --text-encoder")
        folder = next((folder for folder in folders if fingerprint(folder) == identity.sha256), None)
        if folder is None:
            raise InputError(
                f"{folders[0]}: other weights than the encoder {identity.name} (SHA-256 {identity.sha256[:8]}...) that "
                "was trained with; give the folder of that one with --text-encoder"
            )
        encoder = cls(str(folder), identity)
        encoder._model()
        return encoder

    @property
    def num_columns(self):
        """The length of a vector."""
        return len(self.names)

    @property
    def names(self):
        """The names of the columns: layer by layer, the means, then the deviations."""
        width = self._model().model.config.hidden_size
        parts = ("mean", "std")[: 1 + (self.identity.pooling == "mean-std")]
        return tuple(
            f"layer{layer}_{part}_{i}" for layer in self.identity.layers for part in parts for i in range(width)
        )

    def _model(self):
        return _loaded(self.folder, self._IS_SOUND, self.identity.layers)

    def _pooled(self, count, sums, squares):
        """Vectors (N, T) from sums over steps (N, layers, width) and the numbers of steps (N,)."""
        mean = sums / np.maximum(count, 1)[:, None, None]
        if self.identity.pooling == "mean":
            return mean.reshape(len(mean), -1).astype("float32")
        deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1)[:, None, None] - mean**2, 0))
        return np.stack([mean, deviation], axis=2).reshape(len(mean), -1).astype("float32")


class TextEncoder(_Encoder):
    """Vectors of transcripts: over tokens, those that open and close a text among them, padding left out."""

    _IS_SOUND, _POOLING = False, "mean"

    def encode(self, texts, cache=None, progress=False):
        """Vectors of texts; the same texts in other company differ by rounding at most.

        Args:
            texts: N of them.
            cache: a file that keeps finished batches; made if missing, gone on with if there. None for none.
            progress: whether to show a bar.

        Returns:
            (N, T) float32.

        Raises:
            InputError: a vector is not finite, or the cache cannot be written.
        """
        # Texts of one length lie together, so that there is little padding.
        different = sorted(set(texts), key=lambda text: (len(text), text))
        rows = np.empty((len(different), self.num_columns), "float32")
        batches = list(_batches([len(text) for text in different]))
        bar = tqdm(
            desc=self.identity.name,
            total=len(different),
            unit=" texts",
            disable=not progress,
            mininterval=0.1 if sys.stderr.isatty() else 10,
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(bar)
            num_kept = 0
            if cache:
                owner = json.dumps([self.identity.model_dump(mode="json"), different])
                file, num_kept = _kept_rows(cache, owner, rows, [batch.stop for batch in batches])
                stack.enter_context(file)
            bar.update(num_kept)
            for batch in batches:
                if batch.stop <= num_kept:
                    continue
                rows[batch] = self._encode(different[batch])
                if cache:
                    with _writing(cache):
                        file.write(rows[batch])
                        file.flush()
                bar.update(batch.stop - batch.start)
        if not np.isfinite(rows).all():
            raise InputError(f"{self.folder}: the vector of a text is not finite; its weights are damaged")
        row_of = {text: row for row, text in enumerate(different)}
        return rows[[row_of[text] for text in texts]]

    def num_cut(self, texts):
        """How many texts are longer than the encoder reads; only their beginnings count."""
        one = self._model()
        return sum(len(text) > one.most // 4 and len(one.reader(text)["input_ids"]) > one.most for text in texts)

    def _encode(self, texts):
        one = self._model()
        with one.torch.inference_mode():
            batch = one.reader(texts, padding=True, truncation=True, max_length=one.most, return_tensors="pt")
            batch = batch.to(one.model.device)
            if not batch["input_ids"].shape[1]:  # empty texts, and a tokenizer that adds nothing
                return np.zeros((len(texts), self.num_columns), "float32")
            hidden = one.hidden(**batch)  # (N, layers, steps, width)
            hidden = hidden * batch["attention_mask"][:, None, :, None]
            count = batch["attention_mask"].sum(1)
            sums, squares = hidden.sum(2, dtype=one.torch.float64), (hidden.double() ** 2).sum(2)
        return self._pooled(*(array.cpu().numpy() for array in (count, sums, squares)))


class AudioEncoder(_Encoder):
    """Vectors of sound, over frames: wav2vec 2.0, HuBERT, WavLM, and Whisper's encoder.

    One utterance at a time: padding would change what those without an attention mask give.
    """

    _IS_SOUND, _POOLING = True, "mean-std"

    @property
    def feature_set(self):
        """The name of the feature set."""
        return PREFIX + self.identity.name

    def extract(self, signal):
        """The vector of one utterance.

        Args:
            signal: (T,) float32 mono at 16 kHz.

        Returns:
            (A,) float32.

        Raises:
            InputError: it is too short, or the vector is not finite.
        """
        one = self._model()
        if len(signal) < one.least:
            raise InputError(f"{1000 * len(signal) // _SAMPLE_RATE_HZ} ms are too short for {self.identity.name}")
        count, sums, squares = 0, 0, 0
        with one.torch.inference_mode(), one.one_thread():
            for window in np.array_split(signal, math.ceil(len(signal) / one.most)):
                inputs = one.reader(window, sampling_rate=_SAMPLE_RATE_HZ, return_tensors="pt").to(one.model.device)
                hidden = one.hidden(**inputs)[0].double()  # (layers, frames, width)
                if one.samples_a_frame:  # Whisper fills up to 30 s
                    hidden = hidden[:, : math.ceil(len(window) / one.samples_a_frame)]
                count += hidden.shape[1]
                sums, squares = sums + hidden.sum(1).cpu().numpy(), squares + (hidden**2).sum(1).cpu().numpy()
        vector = self._pooled(np.array([count]), sums[None], squares[None])[0]
        if not np.isfinite(vector).all():
            raise InputError(f"{self.identity.name} gives values that are not finite")
        return vector


class _Loaded:
    """A model on its device with what reads its input, and its limits."""

    def __init__(self, torch, model, reader, layers, most, least=1, samples_a_frame=None):
        self.torch, self.model, self.reader, self._layers = torch, model, reader, layers
        self.most, self.least, self.samples_a_frame = most, least, samples_a_frame

    def hidden(self, **inputs):
        """(N, layers, steps, width) of the layers asked for."""
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        return self.torch.stack([states[layer] for layer in self._layers], dim=1)

    @contextlib.contextmanager
    def one_thread(self):
        """Files are encoded side by side, a core each; and their bytes shall not depend on how many there are."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(1)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)


def _kept_rows(path, owner, rows, stops):
    """Opens the file of finished rows (a line that says whose they are, then their bytes) and reads them.

    Args:
        path: the file.
        owner: what the rows belong to, as text.
        rows: (N, T) float32 to fill.
        stops: where batches end; a part of a batch, as a kill leaves it, is dropped.

    Returns:
        (the file, open for the next batch, and the number of rows filled).
    """
    head = hashlib.sha256(owner.encode()).hexdigest().encode() + b"\n"
    with _writing(path):
        file = open(path, "a+b")  # noqa: SIM115 (the caller closes it)
        file.seek(0)
        if file.read(len(head)) != head:
            file.truncate(0)
            file.write(head)
            file.flush()
        whole = (file.seek(0, os.SEEK_END) - len(head)) // rows[:1].nbytes if len(rows) else 0
        num_rows = max((stop for stop in stops if stop <= whole), default=0)
        file.truncate(len(head) + num_rows * rows[:1].nbytes)
        file.seek(len(head))
        file.readinto(rows[:num_rows])
    return file, num_rows


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _batches(lengths):
    """Slices of texts, sorted by length, that together hold a bounded number of tokens (at most one a character)."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        longest = min(lengths[min(stop, len(lengths) - 1)] + 2, _LONGEST_TEXT)  # with the next one
        if stop == len(lengths) or (stop + 1 - start) * longest > _BATCH_TOKENS:
            yield slice(start, stop)
            start = stop


def fingerprint(folder):
    """The SHA-256 of an encoder: of the names and hashes of `config.json` and of the files of its weights.

    Raises:
        InputError: the folder holds no model, or its weights are no safetensors.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model in it (config.json is missing)")
    names = {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        parts = read_json(index)
        parts = parts.get("weight_map") if isinstance(parts, dict) else None
        if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
            raise InputError(f"{index}: does not say where the weights are (weight_map)")
        names = {Path(name).name for name in parts.values()}
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise InputError(
            f"{folder}: {missing[0]} is missing"
            + ("; weights in other forms are not read: they can hold code; save it as safetensors" if pickled else "")
        )
    lines = [f"{name} {sha256(folder / name)}\n" for name in ["config.json", *sorted(names)]]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _name_of(folder):
    """The name of a model: its folder's, or where that is one of the user's cache, the one on the Hub."""
    folder = Path(folder).absolute()
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


def _folders(path_or_name, download=False, advice="give the folder of a model, or --download"):
    """The folders where a model can be: the one that is named, or those of that name in the user's cache."""
    if Path(path_or_name).is_dir():
        return [Path(path_or_name)]
    if Path(path_or_name).exists():
        raise InputError(f"{path_or_name}: a file; give the folder of a model")
    _, _, hub = _packages()
    name = str(path_or_name)
    if download:
        try:
            return [Path(hub.snapshot_download(name, allow_patterns=_WANTED_FILES, ignore_patterns=["*/*"]))]
        except Exception as error:  # of many types: no such name, no network, a full disk
            raise InputError(f"{name}: cannot be downloaded ({_first_line(error)})") from error
    cache = Path(hub.constants.HF_HUB_CACHE)
    wanted = name.replace("/", "--")
    found = [
        config.parent
        for config in sorted(cache.glob("models--*/snapshots/*/config.json"))
        if config.parents[2].name in (f"models--{wanted}",) or config.parents[2].name.endswith(f"--{wanted}")
    ]
    if not found:
        raise InputError(f"{name}: no such folder, and no model of this name in {cache}; {advice}")
    return found


def _first_line(error):
    return " ".join(str(error).split())[:200] or type(error).__name__


def _packages():
    """torch, transformers and huggingface_hub."""
    try:
        import huggingface_hub
        import torch
        import transformers
    except ImportError as error:
        raise InputError(f"encoders need the package {error.name}: pip install -r requirements-encoders.txt") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers, huggingface_hub


@functools.lru_cache(maxsize=2)
def _loaded(folder, is_sound, layers):
    """The model of a folder, checked; see `_Encoder.load`."""
    fingerprint(folder)
    torch, transformers, _ = _packages()
    rules = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **rules)
        if (config.model_type in _SOUND_FAMILIES) != is_sound:
            other = f"the audio needs one of {', '.join(_SOUND_FAMILIES)}" if is_sound else "it is an encoder of sound"
            raise InputError(f"{folder}: a model of the kind {config.model_type}; {other}")
        read = transformers.AutoFeatureExtractor if is_sound else transformers.AutoTokenizer
        reader = read.from_pretrained(folder, **rules)
        model, found = transformers.AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **rules
        )
    except InputError:
        raise
    except Exception as error:  # transformers raises many types on what is no model
        raise InputError(f"{folder}: no model that transformers can load ({_first_line(error)})") from error
    lacking = sorted(name for name in found["missing_keys"] if not name.startswith(_UNUSED_WEIGHTS))
    if lacking:
        raise InputError(f"{folder}: {len(lacking)} weights of the model are missing, the first is {lacking[0]}")
    if config.is_encoder_decoder:
        model = model.get_encoder()
    num_layers = config.num_hidden_layers
    for layer in layers:
        if not -num_layers - 1 <= layer <= num_layers:
            raise InputError(f"{folder}: layer {layer} is asked for, the model has {num_layers}")
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    if not is_sound:
        if model.main_input_name != "input_ids":
            raise InputError(f"{folder}: a model of the kind {config.model_type}, which reads no text")
        if reader.pad_token is None:
            reader.pad_token = reader.eos_token
        longest = getattr(config, "max_position_embeddings", None) or _LONGEST_TEXT
        return _Loaded(torch, model, reader, layers, min(_LONGEST_TEXT, longest, reader.model_max_length))
    if reader.sampling_rate != _SAMPLE_RATE_HZ:
        raise InputError(f"{folder}: for sound of {reader.sampling_rate} Hz; the project's has {_SAMPLE_RATE_HZ}")
    if config.model_type == "whisper":
        return _Loaded(torch, model, reader, layers, reader.n_samples, samples_a_frame=2 * reader.hop_length)
    least = 1
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        least = (least - 1) * stride + kernel
    return _Loaded(torch, model, reader, layers, _WINDOW_S * _SAMPLE_RATE_HZ, least)
