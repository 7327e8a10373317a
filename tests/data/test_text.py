"""Tokens, ids and GloVe vectors by hand, and GloVe files that are damaged or are of another width."""

import gzip
import io
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import read_corpus
from data.text import build_vocabulary, read_glove, token_ids, tokenize, word_matrix
from storage.files import InputError

VECTORS = b"can 1 2 3\n. . . 4 5 6\nmail name@domain.com 0 0 0\nyes 7 8 9\n"  # 840B has words with spaces


def zipped(files):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return archive.getvalue()


def test_words_without_punctuation():
    assert tokenize("Well, I don't KNOW -- ask Ma\u2019am!") == ["well", "i", "dont", "know", "ask", "maam"]
    assert tokenize("[LAUGHTER] 2-3 caf\u00e9s_yes...") == ["laughter", "2", "3", "caf\u00e9s", "yes"]
    assert tokenize(" ?! ") == []


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        ("हिन्दी में, बात!", ["हिन्दी", "में", "बात"]),
        ("de\u0301ja\u0300 vu", ["d\u00e9j\u00e0", "vu"]),  # decomposed, as macOS writes it
        ("สวัสดี ครับ", ["สวัสดี", "ครับ"]),
        ("வணக்கம் বাংলা", ["வணக்கம்", "বাংলা"]),
        ("שָׁלוֹם اَلسَّلامُ", ["שָׁלוֹם", "اَلسَّلامُ"]),
        ("\u0130stanbul'da", ["istanbulda"]),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\u200c",
            ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"],
        ),
        ("\u2764\ufe0f 1\ufe0f\u20e3 co\u00adop \u200fa\u200bb don\u02bct", ["1", "coop", "a", "b", "dont"]),
        ("\u0301 \u0301x \u200d", ["x"]),
    ],
)
def test_marks_belong_to_their_word(transcript, words):
    assert tokenize(transcript) == words


@pytest.mark.fuzz
@given(st.text())
def test_any_text_gives_words_that_stay_words(transcript):
    for word in tokenize(transcript):
        assert tokenize(word) == [word] and any(one.isalnum() for one in word)


def test_the_words_of_iemocap_are_those_of_the_first_release(shared):
    """Their ids are in the published checkpoints."""
    lines = read_corpus(shared / "iemocap" / "iemocap.h5").transcript
    plain = [re.findall(r"[^\W_]+", re.sub(r"['\u2018\u2019`\u00b4]", "", line.lower())) for line in lines]
    assert [tokenize(line) for line in lines] == plain


def test_ids_are_cut_and_padded_at_the_end():
    vocabulary = build_vocabulary(["yes, we can", "can you?"])
    assert vocabulary == ["can", "we", "yes", "you"]
    ids = token_ids(["you can WE", "", "no: yes yes yes yes"], vocabulary, max_tokens=4)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[4, 1, 2, 0], [0, 0, 0, 0], [0, 3, 3, 3]]


def test_glove_vectors_of_the_words_wanted(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("can 1 2.5 -3e-1\nthe 0 0 0\n\u00a0odd 9 9 9\nyes 4 5 6\n", encoding="utf-8")
    vectors = read_glove(path, ["yes", "can", "absent"], dim=3)
    assert sorted(vectors) == ["can", "yes"]
    np.testing.assert_allclose(vectors["can"], [1, 2.5, -0.3], rtol=1e-6)
    matrix = word_matrix(["absent", "can", "yes"], vectors, seed=0, dim=3)
    assert matrix[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(matrix[2:], [[1, 2.5, -0.3], [4, 5, 6]], rtol=1e-6)
    assert 0 < np.abs(matrix[1]).max() <= 0.05
    assert (matrix == word_matrix(["absent", "can", "yes"], vectors, seed=0, dim=3)).all()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"can 1 2 3\nyes 1 2\n", "line 2: 2 numbers instead of 3"),
        (b"can 1 2 3\nyes 1 2", "ends within line 2, so it is not whole; fetch it again"),
        (b"can 1 2 3 4\nyes 1 2 3 4\n", "line 1: 4 numbers instead of 3; the network takes 3-d vectors"),
        (b"2 300\ncan 1 2 3 4\n", "line 2: 4 numbers instead of 3"),
        (b"2 3\ncan \x00\x01\xf0\xff", "line 2: not UTF-8 text; word vectors in word2vec's binary form"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (gzip.compress(b"can 1 2 3\n" * 9, mtime=0)[:-12], "the archive is damaged or cut off .*; fetch it again"),
        (zipped({"glove.3d.txt": b"can 1 2 3\n"})[:60], "the archive is damaged or cut off .*; fetch it again"),
        (zipped({"a.txt": b"can 1 2 3\n", "b.txt": b""}), "holds a.txt, b.txt; unpack it, and give the one of 3"),
        (b"can 1 2 3\nyes 1 2 x\n", "line 2: not a word and 3 numbers"),
        (b"can 1 2 3\nyes 1 2 nan\n", "line 2: not a word and 3 numbers"),
        (b"can 1 2 3\n\xff 1 2 3\n", "line 2: not UTF-8"),
        (b"can 1 2 3\n\n", "line 2: 0 numbers"),
        (b"can 1 2 3\nyes 1_0 2 3\n", "line 2: not a word and 3 numbers"),
        (b"can 1 2 3\nyes 1 \xc2\xb2 3\n", "line 2: not a word and 3 numbers"),
        (b"can 1 2 3\nyes 1e39 2 3\n", "line 2: not a word and 3 numbers"),
    ],
)
def test_damaged_glove_files_are_named_with_their_line(tmp_path, content, message):
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_glove(path, ["can", "yes"], dim=3)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"11 3\n" + VECTORS,  # as word2vec and fastText begin
        b"\xef\xbb\xbf" + VECTORS,
        VECTORS.replace(b"\n", b" \r\n"),
        gzip.compress(VECTORS, mtime=0),
        zipped({"glove.6B.50d.txt": b"x 1 2\n", "glove.6B.3d.txt": VECTORS}),
        zipped({"folder/": b"", "folder/vectors.txt": VECTORS}),
    ],
)
def test_word_vectors_as_they_come(tmp_path, content):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    vectors = read_glove(path, ["can", "yes", ". . .", "at 1"], dim=3)
    assert {word: vector.tolist() for word, vector in vectors.items()} == {
        "can": [1, 2, 3], ". . .": [4, 5, 6], "yes": [7, 8, 9],
    }  # fmt: skip


def test_a_file_without_line_ends_takes_no_memory():
    """/dev/zero never ends: a line is read no further than a line can be."""
    with pytest.raises(InputError, match="/dev/zero, line 1: 0 numbers instead of 3"):
        read_glove("/dev/zero", ["can"], dim=3)


def test_missing_glove_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_glove(tmp_path / "nowhere.txt", ["can"], dim=3)


@pytest.mark.fuzz
@given(
    st.lists(
        st.one_of(st.binary(max_size=12), st.sampled_from([b"can 1 2 3\n", b"yes ", b"1e39 ", b"\n"])), max_size=8
    ).map(b"".join)
)
def test_any_bytes_give_finite_vectors_or_a_named_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    path.write_bytes(content)
    try:
        vectors = read_glove(path, ["can", "yes", ""], dim=3)
    except InputError as error:
        assert str(error).startswith(str(path))
        return
    assert all(vector.shape == (3,) and np.isfinite(vector).all() for vector in vectors.values())
