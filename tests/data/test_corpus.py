"""The corpus file: what is written is read, equal content gives equal bytes, hostile and damaged files are refused."""

import dataclasses

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import Corpus, dialog_slices, read_corpus, write_corpus
from storage.files import InputError
from storage.runs import EncoderFiles


def small_corpus(num_features=5, **changes):
    """Three utterances of two dialogs, four emotions; every size differs."""
    rows = np.arange(3)
    corpus = Corpus(
        name="tiny",
        emotions=("neutral", "angry", "sadness", "fear"),
        audio_feature_set="egemaps_lld",
        audio_names=tuple(f"feature_{number:040d}" for number in range(num_features)),
        utterance_id=np.array(["a_F000", "a_M000", "b_F000"], object),
        dialog_id=np.array(["a", "a", "b"], object),
        speaker=np.array(["Ses01F", "Ses01M", "Ses01F"], object),
        transcript=np.array(["Gr\u00fc\u00dfe \u4f60\u597d \U0001f600!", "", "Yes."], object),
        session=np.array([1, 1, 2], "int8"),
        start_s=np.array([0.5, 0.5, 0.25]),
        end_s=np.array([1.5, 0.75, 1]),
        votes_external=np.array([[3, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 4]], "int16"),
        votes_self=np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], "int16"),
        audio=(rows[:, None] + np.linspace(-1, 6e13, num_features)).astype("float32"),
    )
    return dataclasses.replace(corpus, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "corpus.h5"


@pytest.mark.parametrize("num_features", [0, 5, 6552])
def test_what_is_written_is_read(path, num_features):
    corpus = small_corpus(num_features)
    write_corpus(path, corpus)
    found = read_corpus(path)
    assert len(found.sha256) == 64
    for field in dataclasses.fields(Corpus):
        expected, value = getattr(corpus, field.name), getattr(found, field.name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(value, expected, err_msg=field.name)
            assert value.dtype == expected.dtype
        elif field.name != "sha256":
            assert value == expected
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_equal_corpora_are_equal_files(path, tmp_path):
    other = tmp_path / "other.h5"
    write_corpus(path, small_corpus())
    write_corpus(other, small_corpus())
    assert path.read_bytes() == other.read_bytes()


def test_an_official_split_is_kept(path):
    split = np.array(["train", "train", "test"], object)
    write_corpus(path, small_corpus(split=split))
    assert read_corpus(path).split.tolist() == split.tolist()


ENCODER = EncoderFiles(name="some/encoder", layers=(3, -1), pooling="mean-std", sha256="0" * 64)


def test_vectors_of_encoders_are_kept_with_what_made_them(path, tmp_path):
    text = np.arange(6, dtype="float32").reshape(3, 2)
    write_corpus(path, small_corpus(text=text, text_encoder=ENCODER))
    found = read_corpus(path)
    assert (found.text == text).all() and found.text_encoder == ENCODER and found.audio_encoder is None
    assert (found.take([2, 0]).text == text[[2, 0]]).all() and found.take([2, 0]).text_encoder == ENCODER
    # Without them the file has no trace of them.
    write_corpus(path, dataclasses.replace(found, text=None, text_encoder=None))
    write_corpus(tmp_path / "plain.h5", small_corpus())
    assert path.read_bytes() == (tmp_path / "plain.h5").read_bytes()
    write_corpus(path, small_corpus(audio_encoder=ENCODER))
    assert read_corpus(path).audio_encoder == ENCODER and read_corpus(path).text is None


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("layers", "3", "attributes of 'text': layers: must be a valid array"),
        ("layers", [1, 1], "attributes of 'text': layers: one is there twice"),
        ("pooling", "max", "attributes of 'text': pooling: must be 'mean' or 'mean-std'"),
        ("encoder", None, "attributes of 'text': name: must be a valid string, found None"),
    ],
)
def test_an_encoder_that_is_not_said_is_refused(path, name, value, message):
    write_corpus(path, small_corpus(text=np.zeros((3, 2), "float32"), text_encoder=ENCODER))
    with h5py.File(path, "r+") as file:
        del file["text"].attrs[name]
        if value is not None:
            file["text"].attrs[name] = value
    refused(path, message)


def test_vectors_of_another_encoder_are_refused_whatever_its_name():
    ENCODER.check(ENCODER.model_copy(update={"name": "the same elsewhere"}), "x.h5: words")
    for change in ({"sha256": "1" * 64}, {"layers": (3,)}, {"pooling": "mean"}):
        with pytest.raises(InputError, match="^x.h5: words of the encoder some/encoder .*; the run was trained on"):
            ENCODER.check(ENCODER.model_copy(update=change), "x.h5: words")


def test_rows_of_dialogs():
    corpus = small_corpus()
    assert dialog_slices(corpus.dialog_id) == {"a": slice(0, 2), "b": slice(2, 3)}
    assert dialog_slices(corpus.dialog_id[:0]) == {}
    taken = corpus.take(np.array([2, 0]))
    assert taken.utterance_id.tolist() == ["b_F000", "a_F000"]
    assert taken.audio.shape == (2, 5) and taken.emotions == corpus.emotions


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"start_s": np.array([0.5, 0.25, 0])}, "a_M000 starts before the utterance ahead of it"),
        ({"start_s": np.array([0.5, np.nan, 0])}, "the times of a_M000 are not finite"),
        ({"end_s": np.array([1, 1, np.inf])}, "the times of b_F000 are not finite"),
        ({"dialog_id": np.array(["a", "b", "a"], object)}, "do not lie together"),
        ({"utterance_id": np.array(["x", "y", "x"], object)}, "utterance x is there twice"),
        ({"votes_self": np.zeros((3, 3), "int16")}, r"'votes_self' has shape \(3, 3\), expected \(3, 4\)"),
        ({"votes_self": np.full((3, 4), -1, "int16")}, "'votes_self' of a_F000 is negative"),
        ({"audio": np.zeros((3, 4), "float32")}, "5 column names"),
        ({"audio": np.full((3, 5), np.inf, "float32")}, "audio features of a_F000 are not finite"),
        ({"text": np.zeros((2, 4), "float32"), "text_encoder": ENCODER}, r"'text' has shape \(2, 4\), expected 3 rows"),
        ({"text": np.full((3, 4), np.nan, "float32"), "text_encoder": ENCODER}, "text vectors of a_F000 are not"),
        ({"text": np.zeros((3, 4), "float32")}, "'text' is there, and no encoder that made it"),
        ({"emotions": ("neutral", "angry", "angry", "fear")}, "at least two different emotions"),
    ],
)
def test_a_corpus_that_breaks_a_rule_is_not_written(path, changes, message):
    with pytest.raises(InputError, match=message):
        write_corpus(path, small_corpus(**changes))
    assert not path.exists()


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_are_none_are_refused(path, tmp_path):
    refused(path, "no such file")
    path.write_bytes(b"")
    refused(path, "not a readable HDF5 file")
    path.write_text("utterance_id,transcript\n")
    refused(path, "not a readable HDF5 file")
    write_corpus(path, small_corpus())
    whole = path.read_bytes()
    for kept in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refused(path, "truncated")
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "weights"
    refused(path, "not a corpus file")
    refused(tmp_path, "a folder, not a file")


def replace(file, name, data=None, **kwargs):
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=data, **kwargs).attrs.update(attributes)


def link_out(file):
    del file["audio"]
    file["audio"] = h5py.ExternalLink("/etc/passwd", "audio")


def link_softly(file):
    file.move("audio", "hidden")
    file["audio"] = h5py.SoftLink("/hidden")


def go_virtual(file):
    layout = h5py.VirtualLayout((3, 5), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "audio", (3, 5))
    del file["audio"]
    file.create_virtual_dataset("audio", layout)


def store_outside(file):
    del file["audio"]
    file.create_dataset("audio", (3, 5), "f4", external=[("elsewhere.raw", 0, 60)])


def declare_many_rows(file):
    """A million empty utterances, which take no space on disk until somebody reads them."""
    for name, dataset in list(file.items()):
        shape, dtype = (1_000_000, *dataset.shape[1:]), dataset.dtype
        del file[name]
        file.create_dataset(name, shape, dtype, compression="gzip")


HOSTILE = {
    "more rows than bytes": (declare_many_rows, "declares 1000000 utterances, more than the file can hold"),
    "an enormous text": (
        lambda file: replace(file, "transcript", ["x" * 200_000] * 3, dtype=h5py.string_dtype("utf-8")),
        "a text of more than 100000 characters",
    ),
    "gigabytes of text": (
        lambda file: replace(file, "transcript", shape=(3,), dtype="S2000000000", chunks=(1,)),
        "not a readable HDF5 file|more than the file can hold",
    ),
    "version": (
        lambda file: file.attrs.__setitem__("format_version", 2),
        "format version 2, this program reads version 1",
    ),
    "versions": (lambda file: file.attrs.__setitem__("format_version", [1, 1]), "format version"),
    "no emotions": (lambda file: file.attrs.__delitem__("emotions"), "'emotions' must be a list of names"),
    "emotions as numbers": (
        lambda file: file.attrs.__setitem__("emotions", [1, 2, 3, 4]),
        "'emotions' must be a list of names",
    ),
    "no votes": (lambda file: file.__delitem__("votes_self"), "'votes_self' is missing"),
    "a group": (lambda file: (file.__delitem__("audio"), file.create_group("audio")), "'audio' is not a dataset"),
    "a link out": (link_out, "'audio' is a link"),
    "a link inside": (link_softly, "'audio' is a link"),
    "a virtual dataset": (go_virtual, "'audio' keeps its data in another file"),
    "data outside": (store_outside, "'audio' keeps its data in another file"),
    "a terabyte": (
        lambda file: replace(file, "audio", shape=(3, 10**11), dtype="f4", chunks=(1, 1000)),
        "more than the file can hold",
    ),
    "a terabyte of rows": (
        lambda file: replace(file, "session", shape=(10**12,), dtype="i1", chunks=(1000,)),
        "more than the file can hold",
    ),
    "text as numbers": (
        lambda file: replace(file, "audio", np.array([["x"] * 5] * 3, "S1")),
        "'audio' must hold numbers",
    ),
    "numbers as text": (lambda file: replace(file, "transcript", np.zeros(3)), "'transcript' must hold text"),
    "too few rows": (lambda file: replace(file, "session", np.zeros(2, "i1")), r"'session' has shape \(2,\)"),
    "too many axes": (lambda file: replace(file, "start_s", np.zeros((3, 1))), r"'start_s' has shape \(3, 1\)"),
    "too few columns": (
        lambda file: replace(file, "votes_self", np.zeros((3, 3), "i2")),
        "expected .3, 4. for 4 emotions",
    ),
    "no UTF-8": (
        lambda file: replace(file, "transcript", [b"\xff\xfe"] * 3, dtype=h5py.string_dtype("utf-8")),
        "transcript|decode",
    ),
    "no names": (lambda file: file["audio"].attrs.__delitem__("names"), "'names' must be a list of names"),
    "not finite": (lambda file: replace(file, "audio", np.full((3, 5), np.nan, "f4")), "of a_F000 are not finite"),
    "out of range": (
        lambda file: replace(file, "session", np.array([1, 1, 300])),
        "'session' must hold whole numbers of at most 127",
    ),
    "half a vote": (
        lambda file: replace(file, "votes_external", np.full((3, 4), 0.5)),
        "'votes_external' must hold whole numbers",
    ),
    "a huge vote": (
        lambda file: replace(file, "votes_self", np.full((3, 4), 70_000)),
        "'votes_self' must hold whole numbers of at most 32767",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(path, name):
    change, message = HOSTILE[name]
    write_corpus(path, small_corpus())
    with h5py.File(path, "r+") as file:
        change(file)
    refused(path, message)


@pytest.mark.fuzz
@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_give_a_corpus_or_a_named_error(tmp_path_factory, damage):
    path = tmp_path_factory.getbasetemp() / "fuzzed.h5"
    write_corpus(path, small_corpus())
    content = bytearray(path.read_bytes())
    for position, value in damage:
        content[position % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        corpus = read_corpus(path)
    except InputError as error:
        assert str(error).startswith(str(path))
        return
    assert corpus.audio.shape == (len(corpus), len(corpus.audio_names))
    assert np.isfinite(corpus.audio).all()
