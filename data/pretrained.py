"""Trained transformers: where they are, what tells one from another, and how one is loaded without running its code.

A model is a folder with `config.json`, weights as safetensors, and a tokenizer or feature extractor, as transformers
saves it. Nothing in the folder is run, and nothing comes from the network unless it is asked for. torch and
transformers are optional packages: this file alone imports them, when the first model is looked for.
"""

import functools
import hashlib
import os
from pathlib import Path

from data.audio import SAMPLE_RATE_HZ
from storage.files import InputError, read_json, sha256

SOUND_FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")
LONGEST_TEXT = 512  # tokens; what the usual encoders were trained on
_WINDOW_S = 30  # of sound at once: attention takes memory with the square of it
# Weights that a model may lack, since no hidden layer depends on them.
_UNUSED_WEIGHTS = ("pooler.", "masked_spec_embed", "decoder.", "adapter.")
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
_DOWNLOADED = ("*.json", "*.safetensors", "*.txt", "*.model")


class Pretrained:
    """A model on its device, what reads its input, and its limits.

    `model` and `reader` are transformers' own; `most` is how many tokens or samples it takes at once, `least` how many
    samples it needs; `samples_a_frame` is None where the number of its frames follows from the sound.
    """

    def __init__(self, torch, model, reader, most, least=1, samples_a_frame=None):
        self.torch, self.model, self.reader = torch, model, reader
        self.most, self.least, self.samples_a_frame = most, least, samples_a_frame

    def hidden(self, layers, **inputs):
        """(B, layers, steps, width) of the hidden layers asked for."""
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        return self.torch.stack([states[layer] for layer in layers], dim=1)


def folders(path_or_name, download=False, advice="give the folder of a model, or --download"):
    """Where a model can be: the folder that is named, or those of that name in the user's Hugging Face cache.

    Args:
        path_or_name: a folder; or a name on the Hub, "sentence-transformers/all-MiniLM-L6-v2" or its last part.
        download: whether to ask the network for the name.
        advice: what the user can do where there is none.

    Returns:
        List of at least one path, the newest first.

    Raises:
        InputError: there is none, or it cannot be downloaded.
    """
    if Path(path_or_name).is_dir():
        return [Path(path_or_name)]
    if Path(path_or_name).exists():
        raise InputError(f"{path_or_name}: a file; give the folder of a model")
    _, _, hub = _packages()
    if download:
        try:
            # Folders of the repository hold other forms of the same weights.
            return [Path(hub.snapshot_download(str(path_or_name), allow_patterns=_DOWNLOADED, ignore_patterns="*/*"))]
        except Exception as error:  # of many types: no such name, no network, a full disk
            raise InputError(f"{path_or_name}: cannot be downloaded ({one_line(error)})") from error
    cache, ending = Path(hub.constants.HF_HUB_CACHE), "--" + str(path_or_name).replace("/", "--")
    configs = [path for path in cache.glob("models--*/snapshots/*/config.json") if path.parts[-4].endswith(ending)]
    if not configs:
        raise InputError(f"{path_or_name}: no such folder, and no model of this name in {cache}; {advice}")
    return [path.parent for path in sorted(configs, key=lambda path: -path.parent.stat().st_mtime)]


def name_of(folder):
    """A model's name: its folder's; in the user's Hugging Face cache the one that it has on the Hub."""
    folder = Path(os.path.abspath(folder))
    hub_name = folder.parent.parent.name
    if folder.parent.name == "snapshots" and hub_name.startswith("models--"):
        return hub_name.removeprefix("models--").replace("--", "/")
    return folder.name


def fingerprint(folder):
    """The SHA-256 of a model: of the names and hashes of `config.json` and of the files of its weights.

    Raises:
        InputError: the folder holds no model, or its weights are no safetensors.
    """
    folder, names = Path(folder), ["model.safetensors"]
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model in it (config.json is missing)")
    index = folder / "model.safetensors.index.json"  # of weights in several files
    if index.is_file() and not (folder / names[0]).is_file():
        content = read_json(index)
        parts = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
            raise InputError(f"{index}: does not say where the weights are (weight_map)")
        names = sorted({Path(name).name for name in parts.values()})
    for name in names:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: {name} is missing; weights are read from safetensors alone, since other forms can hold code"
            )
    lines = [f"{name} {sha256(folder / name)}\n" for name in ["config.json", *names]]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def tokenizer_of(folder):
    """{name: SHA-256} of the files that decide how a text is cut into tokens."""
    names = (*_VOCABULARIES, "merges.txt", "tokenizer_config.json")
    return {path.name: sha256(path) for path in sorted(path for name in names for path in Path(folder).glob(name))}


def _packages():
    """torch, transformers and huggingface_hub."""
    try:
        import huggingface_hub
        import torch
        import transformers
    except (ImportError, OSError) as error:  # OSError: a torch for CUDA without the packages of CUDA
        raise InputError(
            f"encoders need torch and transformers: pip install -r requirements-encoders.txt ({one_line(error)})"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers, huggingface_hub


def one_line(error):
    """What an error of a library says, shortened to a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@functools.lru_cache(maxsize=2)
def loaded(folder, of_sound):
    """The model of a folder, on a CUDA card if there is one; once in each process.

    Args:
        folder: as text; `fingerprint` was content with it.
        of_sound: whether it shall read sound, or text.

    Returns:
        `Pretrained`.

    Raises:
        InputError: a package is missing; it is no model, or one of another kind; or weights are missing in it.
    """
    torch, transformers, _ = _packages()
    rules = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **rules)
        _check_kind(folder, config.model_type, transformers.MODEL_MAPPING[type(config)].main_input_name, of_sound)
        # Without a file, some tokenizers are made of nothing, and know no word.
        if not of_sound and not any(any(Path(folder).glob(name)) for name in _VOCABULARIES):
            raise InputError(f"{folder}: the tokenizer is missing (tokenizer.json)")
        reader_class = transformers.AutoFeatureExtractor if of_sound else transformers.AutoTokenizer
        reader = reader_class.from_pretrained(folder, **rules)
        model, found = transformers.AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **rules
        )
    except InputError:
        raise
    except Exception as error:  # transformers raises many types on what is no model
        if "custom code" in str(error):
            raise InputError(f"{folder}: needs code of its own, and no code of a model's folder is run") from error
        raise InputError(f"{folder}: no model that transformers can load ({one_line(error)})") from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(_UNUSED_WEIGHTS))
    if missing:
        raise InputError(f"{folder}: {len(missing)} of the model's weights are missing, the first is {missing[0]}")
    model = (model.get_encoder() if hasattr(model, "encoder") and hasattr(model, "decoder") else model).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    if not of_sound:
        if reader.pad_token is None:
            reader.pad_token = reader.eos_token
        most = min(LONGEST_TEXT, reader.model_max_length, getattr(config, "max_position_embeddings", LONGEST_TEXT))
        return Pretrained(torch, model, reader, most)
    if reader.sampling_rate != SAMPLE_RATE_HZ:
        raise InputError(f"{folder}: reads sound of {reader.sampling_rate} Hz, and not of {SAMPLE_RATE_HZ}")
    if config.model_type == "whisper":  # it fills each sound up to its own length of 30 s
        return Pretrained(torch, model, reader, reader.n_samples, samples_a_frame=2 * reader.hop_length)
    least = 1  # samples of one frame, back through the convolutions
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        least = (least - 1) * stride + kernel
    return Pretrained(torch, model, reader, _WINDOW_S * SAMPLE_RATE_HZ, least)


def _check_kind(folder, family, reads, of_sound):
    if of_sound and family not in SOUND_FAMILIES:
        raise InputError(f"{folder}: of the kind {family}; encoders of sound are {', '.join(SOUND_FAMILIES)}")
    if not of_sound and reads != "input_ids":
        raise InputError(f"{folder}: of the kind {family}, which reads {reads} and no text")
    if not of_sound and family in SOUND_FAMILIES:
        raise InputError(f"{folder}: of the kind {family}, which reads sound and no text")
