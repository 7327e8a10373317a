"""Vectors of encoders: what they hold, the families of sound, restart, refusals. Tiny ones with random weights."""

import dataclasses
import json
import pickle
import shutil
import socket
import sys

import numpy as np
import pytest
from conftest import run_script
from test_corpus import small_corpus
from tiny_release import write_tiny_release

from data import encoders, prepare, pretrained
from data.corpus import read_corpus, write_corpus
from data.encoders import AudioEncoder, TextEncoder
from storage.files import InputError

torch = pytest.importorskip("torch", reason="the optional package torch is not installed")
transformers = pytest.importorskip("transformers", reason="the optional package transformers is not installed")
torch.set_num_threads(1)  # for sizes like these, threads only wait for each other

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oh", "well", "i", "do", "not", "know", "a"]
TEXTS = ["oh well", "i do not know", "", "oh well", "know " * 40, "well well a", "Never heard."]
SIZES = {"num_attention_heads": 2, "intermediate_size": 12}
# Frames of 20 ms, as the real ones have; the first takes 150 samples.
FRAMES = {"conv_dim": (6, 7), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_feat_extract_layers": 2}
WAVES = SIZES | FRAMES | {"hidden_size": 8, "num_hidden_layers": 2, "num_conv_pos_embeddings": 4}
WAVES |= {"num_conv_pos_embedding_groups": 2, "vocab_size": 5, "num_buckets": 8, "max_bucket_distance": 10}
WHISPER = {"d_model": 8, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 5}
WHISPER |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_source_positions": 50}
WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def write_text_encoder(folder, seed=0):
    """A BERT of three layers of width 8 that reads 32 tokens."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=3, max_position_embeddings=32, **SIZES
    )
    transformers.BertModel(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    transformers.BertTokenizer(vocabulary, model_max_length=32).save_pretrained(folder)
    return folder


def write_sound_encoder(folder, family):
    """A wav2vec 2.0, HuBERT, WavLM or Whisper of two layers of width 8."""
    torch.manual_seed(1)
    if family == "Whisper":  # it reads parts of a second
        transformers.WhisperModel(transformers.WhisperConfig(**WHISPER)).save_pretrained(folder)
        transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    else:
        config = getattr(transformers, f"{family}Config")(**WAVES)
        getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_text_encoder(tmp_path_factory.mktemp("text") / "tiny-bert")


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return write_sound_encoder(tmp_path_factory.mktemp("sound") / "tiny-hubert", "Hubert")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever asks the network fails the test."""

    def refuse(*arguments):
        raise AssertionError("the network is asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def by_hand(bert, text, layers):
    """The steps of one text, cut to 32 tokens: [(steps, width)] of the layers."""
    model = transformers.BertModel.from_pretrained(bert).eval()
    ids = [WORDS.index(word) if word in WORDS else 1 for word in text.lower().replace(".", " .").split()][:30]
    with torch.no_grad():
        states = model(torch.tensor([[2, *ids, 3]]), output_hidden_states=True).hidden_states
    return [states[layer][0].double().numpy() for layer in layers]


@pytest.mark.parametrize("pooling", [None, "mean-std"])
def test_text_vectors_are_those_of_each_text_alone(bert, monkeypatch, pooling):
    monkeypatch.setattr(encoders, "_BATCH_TOKENS", 40)  # batches of one to four texts
    encoder = TextEncoder.load(bert, (1, -1), pooling)
    vectors = encoder.encode(TEXTS)
    expected = []
    for text in TEXTS:
        pools = [(s.mean(0), s.std(0))[: 1 + bool(pooling)] for s in by_hand(bert, text, (1, 3))]
        expected.append(np.concatenate([pool for layer in pools for pool in layer]))
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert vectors.dtype == "float32" and vectors.shape == (7, len(encoder.names))
    assert encoder.names[7:9] == (("layer1_mean_7", "layer1_std_0") if pooling else ("layer1_mean_7", "layer-1_mean_0"))
    assert encoder.num_cut(TEXTS) == 1
    assert encoder.encode([]).shape == (0, len(encoder.names))
    assert (encoder.identity.name, encoder.identity.pooling) == ("tiny-bert", pooling or "mean")


def test_other_kinds_of_text_models(tmp_path):
    """One with a decoder, which is left out; one without a token for padding, and nothing around a text."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"oh": 0, "?": 1, "end": 2}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    reader = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", eos_token="end")
    t5 = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    gpt = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 2}
    for name, model in (
        ("t5", transformers.T5EncoderModel(transformers.T5Config(vocab_size=3, **t5))),
        ("gpt", transformers.GPT2Model(transformers.GPT2Config(vocab_size=3, **gpt))),
    ):
        model.save_pretrained(tmp_path / name)
        reader.save_pretrained(tmp_path / name)
        encoder = TextEncoder.load(tmp_path / name)
        vectors = encoder.encode(["oh oh no", "", "oh"])
        assert vectors.shape == (3, 8) and (vectors[1] == 0).all() and vectors[[0, 2]].all()
        np.testing.assert_allclose(encoder.encode(["oh"])[0], vectors[2], atol=1e-6)
        assert (encoder.encode([""]) == 0).all()


def test_a_batch_is_bounded_and_holds_every_text_once(monkeypatch):
    monkeypatch.setattr(encoders, "_BATCH_TOKENS", 100)
    lengths = sorted([0, 0, 3, 3, 8, 20, 45, 46, 47, 99, 100, 5000, 6000])
    batches = list(encoders._batches(lengths))
    assert [row for batch in batches for row in range(batch.start, batch.stop)] == list(range(len(lengths)))
    several = [batch for batch in batches if batch.stop > batch.start + 1]
    assert len(several) == 3
    assert all((lengths[batch.stop - 1] + 2) * (batch.stop - batch.start) <= 100 for batch in several)


def test_a_killed_encoding_goes_on_and_gives_the_same_bytes(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "_BATCH_TOKENS", 20)
    encoder, cache, done = TextEncoder.load(bert), tmp_path / "cache", []
    encode = TextEncoder._encode

    def counted(self, texts, most=99):
        if len(done) == most:
            raise KeyboardInterrupt
        done.append(texts)
        return encode(self, texts)

    whole = encoder.encode(TEXTS)
    monkeypatch.setattr(TextEncoder, "_encode", lambda *given: counted(*given, most=3))
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(TEXTS, cache)
    with open(cache, "rb+") as file:
        file.truncate(cache.stat().st_size - 5)  # as a kill in the middle of a batch leaves it
    monkeypatch.setattr(TextEncoder, "_encode", counted)
    assert encoder.encode(TEXTS, cache)[:].tobytes() == whole.tobytes()
    assert done.count(done[2]) == 2 and len(done) == len({str(texts) for texts in done}) + 1
    before = len(done)
    assert encoder.encode(TEXTS, cache)[:].tobytes() == whole.tobytes() and len(done) == before
    # Rows of other texts, or another encoder, are none of ours.
    assert encoder.encode(TEXTS[:2], cache)[:].tobytes() == whole[:2].tobytes() and len(done) > before
    with pytest.raises(InputError, match="nowhere/cache: cannot be written"):
        encoder.encode(TEXTS, tmp_path / "nowhere/cache")
    # Nor those that another tokenizer has cut into tokens.
    other = TextEncoder(shutil.copytree(bert, tmp_path / "other"), encoder.identity)
    encoder.encode(TEXTS, cache)
    tokenizer, before = json.loads((tmp_path / "other" / "tokenizer.json").read_text()), len(done)
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1))
    other.encode(TEXTS, cache)
    assert len(done) > before


def test_a_tokenizer_of_another_model_is_named(bert, tmp_path, monkeypatch):
    encoder = TextEncoder.load(bert)
    monkeypatch.setattr(encoder._model.model.embeddings, "word_embeddings", torch.nn.Embedding(2, 8))
    with pytest.raises(InputError, match="tiny-bert: its tokenizer knows more words than its weights"):
        encoder.encode(["some words"])


@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert", "WavLM", "Whisper"])
def test_sound_is_pooled_over_its_frames(tmp_path, family, monkeypatch):
    monkeypatch.setattr(pretrained, "_WINDOW_S", 1)
    encoder = AudioEncoder.load(write_sound_encoder(tmp_path / family, family), (1, -1))
    sound = np.random.default_rng(0).normal(0, 0.1, 20_000).astype("float32")  # two parts of 0.625 s
    vector = encoder.extract(sound)
    one, steps = pretrained.loaded(encoder.folder, True), []
    for part in (sound[:10_000], sound[10_000:]):
        with torch.no_grad():
            if family == "Whisper":
                filled = np.concatenate([part, np.zeros(6_000, "float32")])
                inputs = transformers.WhisperFeatureExtractor(chunk_length=1)(filled, sampling_rate=16_000)
                states = one.model(torch.tensor(inputs["input_features"]), output_hidden_states=True)
                states = [state[:, :32] for state in states.hidden_states]  # 10,000 samples are 31.25 frames
            else:
                scaled = torch.tensor((part - part.mean()) / part.std())[None]
                states = one.model(scaled, output_hidden_states=True).hidden_states
        steps.append([states[layer][0].double().numpy() for layer in (1, 2)])
    layers = [np.concatenate(parts) for parts in zip(*steps, strict=True)]
    expected = np.concatenate([pool for layer in layers for pool in (layer.mean(0), layer.std(0))])
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert vector.shape == (32,) and encoder.names[8] == "layer1_std_0" and str(encoder) == f"encoder:{family}"
    if family != "Whisper":
        with pytest.raises(InputError, match=r"9 ms are too short for \w+$"):
            encoder.extract(sound[:149])


def test_an_encoder_goes_to_other_processes_by_its_folder(hubert):
    encoder = AudioEncoder.load(hubert)
    packed = pickle.dumps(encoder)
    assert len(packed) < 2000 and pickle.loads(packed) == encoder


def test_the_command_encodes_words_and_sound(bert, hubert, tmp_path, capsys):
    release = write_tiny_release(tmp_path)
    common = ["iemocap", "--release", str(release)]
    plain, both, added = (tmp_path / f"{name}.h5" for name in ("plain", "both", "added"))
    sound = [*common, "--audio", f"encoder:{hubert}", "--jobs", "1"]
    prepare.main([*sound, "--out", str(plain)])
    words = ["--text-encoder", str(bert), "--pooling", "mean-std"]
    prepare.main([*sound, "--out", str(both), *words, "--layers", "-1"])
    corpus = read_corpus(both)
    assert corpus.audio_feature_set == "encoder:tiny-hubert" and corpus.audio.shape == (10, 16)
    assert corpus.audio_encoder == AudioEncoder.load(hubert).identity
    text = TextEncoder.load(bert, pooling="mean-std")
    assert corpus.text_encoder == text.identity
    np.testing.assert_allclose(corpus.text, text.encode(corpus.transcript), atol=1e-6)
    # Words added to a file that is there: everything else is the same.
    add = ["encode", "--corpus", str(plain), *words]
    prepare.main([*add, "--out", str(added)])
    assert added.read_bytes() == both.read_bytes()
    assert "16 numbers for the words of each utterance, from tiny-bert" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([release.name, "plain.h5", "both.h5", "added.h5"])
    with pytest.raises(InputError, match="added.h5: there already"):
        prepare.main([*add, "--out", str(added)])


@pytest.mark.stress
def test_other_processes_give_the_same_bytes(hubert, tmp_path):
    """Each of them imports torch and transformers, which takes 8 seconds."""
    arguments = ["iemocap", "--release", str(write_tiny_release(tmp_path)), "--audio", f"encoder:{hubert}"]
    for name in ("1", "2"):
        prepare.main([*arguments, "--out", str(tmp_path / name), "--jobs", name])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_encoder_of_a_run_is_found_by_path_name_and_hash(bert, tmp_path, monkeypatch):
    identity = TextEncoder.load(bert, (2,)).identity
    found = TextEncoder.find(identity, bert)
    assert found.folder == str(bert) and found.identity == identity
    # In the user's cache: by the whole name, or its last part, and of several revisions the one with the same weights.
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for message in (
        "^tiny-bert: no such folder, and no model of this name in .*; give the folder of the one that was",
    ):
        with pytest.raises(InputError, match=message):
            TextEncoder.find(identity)
    revisions = tmp_path / "models--somebody--tiny-bert/snapshots"
    shutil.copytree(bert, revisions / "older")
    write_text_encoder(revisions / "newer", seed=5)
    (revisions / "partial").mkdir()
    shutil.copy(bert / "config.json", revisions / "partial")
    assert TextEncoder.find(identity).folder == str(revisions / "older")
    named = dataclasses.replace(found, identity=identity.model_copy(update={"name": "somebody/tiny-bert"})).identity
    assert TextEncoder.find(named).folder == str(revisions / "older")
    shutil.rmtree(revisions / "partial")
    assert TextEncoder.load("tiny-bert").identity.name == "somebody/tiny-bert"
    shutil.rmtree(revisions / "older")
    message = "newer: not tiny-bert as it was in training, its weights or config.json differ; .* with --text-encoder$"
    with pytest.raises(InputError, match=message):
        TextEncoder.find(identity)


def damaged(folder, bert, what):
    """A copy of the text encoder with a fault."""
    shutil.copytree(bert, folder)
    if what == "no model":
        (folder / "config.json").unlink()
    elif what == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif what == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif what == "truncated":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    elif what == "weights missing":
        safetensors = pytest.importorskip("safetensors.torch")
        weights = safetensors.load_file(folder / "model.safetensors")
        kept = {name: weight for name, weight in weights.items() if "layer.1." not in name}
        safetensors.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    elif what == "parts missing":
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        changes = {
            "code": {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}},
            "other sizes": {"hidden_size": 10},
        }[what]
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        (folder / "own.py").write_text(f"open({str(folder / 'it ran')!r}, 'w')\nclass Own: pass\n")
    return folder


@pytest.mark.parametrize(
    "what, message",
    [
        ("no model", "no model in it .config.json is missing"),
        (
            "pickled",
            "model.safetensors is missing; weights are read from safetensors alone, since other forms",
        ),
        ("truncated", "no model that transformers can load"),
        ("weights missing", "16 of the model's weights are missing, the first is encoder.layer.1"),
        ("parts missing", "model-00001-of-00002.safetensors is missing"),
        ("code", "needs code of its own, and no code of a model's folder is run"),
        ("no tokenizer", "the tokenizer is missing"),
        ("other sizes", "no model that transformers can load"),
    ],
)
def test_a_folder_that_is_no_encoder_is_one_line(bert, tmp_path, what, message):
    folder = damaged(tmp_path / "encoder", bert, what)
    with pytest.raises(InputError, match=message) as caught:
        TextEncoder.load(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
    assert not (folder / "it ran").exists()


def test_what_cannot_be_asked_is_one_line(bert, hubert, tmp_path, monkeypatch):
    vision = tmp_path / "vision"
    shutil.copytree(bert, vision)
    transformers.ViTConfig(hidden_size=8, **SIZES).save_pretrained(vision)
    deaf = tmp_path / "deaf"
    shutil.copytree(hubert, deaf)
    (deaf / "preprocessor_config.json").unlink()
    for call, message in (
        (lambda: TextEncoder.load(hubert), "of the kind hubert, which reads input_values and no text"),
        (lambda: TextEncoder.load(vision), "of the kind vit, which reads pixel_values and no text"),
        (lambda: AudioEncoder.load(deaf), "no model that transformers can load .Can't load feature extractor"),
        (lambda: AudioEncoder.load(bert), "of the kind bert; encoders of sound are wav2vec2, hubert, wavlm, whisper"),
        (lambda: TextEncoder.load(bert, (4,)), "there is no layer 4; it has 3, and 0, the embedding"),
        (lambda: TextEncoder.load(bert, (1, 1)), "layers: one is there twice"),
        (lambda: TextEncoder.load(tmp_path / "nowhere"), "nowhere: no such folder, and no model of this name in"),
        (lambda: TextEncoder.load(bert / "config.json"), "config.json: a file; give the folder of a model"),
        (lambda: TextEncoder.load("some/name", download=True), "some/name: cannot be downloaded"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    pretrained.loaded.cache_clear()
    with pytest.raises(InputError, match="^encoders need torch and transformers: pip install -r requirements-encoders"):
        TextEncoder.load(bert)


def test_the_command_refuses_before_it_begins(bert, tmp_path, capsys):
    corpus = tmp_path / "corpus.h5"
    write_corpus(corpus, small_corpus())
    for arguments, message in (
        (["sample", "--audio", "opensmile"], "argument --audio: 'opensmile' is none of egemaps_lld, emo_large"),
        (["sample", "--layers", "1"], "which encoder? give --text-encoder, or --audio encoder:PATH_OR_NAME"),
        (["encode", "--corpus", str(corpus)], "which encoder?"),
        (["sample", "--text-encoder", str(bert), "--layers", "3", "3"], "--layers: one is there twice"),
    ):
        with pytest.raises((SystemExit, InputError)) as caught:
            prepare.main([*arguments, "--out", str(tmp_path / "out.h5")])
        assert message in str(caught.value) + capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.h5"]


def test_nothing_needs_the_packages_before_an_encoder_is_asked_for():
    code = "import sys, data.build, data.encoders; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    assert run_script("-c", code).stdout == "[]\n"
