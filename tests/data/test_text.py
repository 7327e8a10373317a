"""Tokens, ids and GloVe vectors by hand, and GloVe files that are damaged or are of another width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.text import build_vocabulary, read_glove, token_ids, tokenize, word_matrix
from storage.files import InputError


def test_words_without_punctuation():
    assert tokenize("Well, I don't KNOW -- ask Ma\u2019am!") == ["well", "i", "dont", "know", "ask", "maam"]
    assert tokenize("[LAUGHTER] 2-3 caf\u00e9s_yes...") == ["laughter", "2", "3", "caf\u00e9s", "yes"]
    assert tokenize(" ?! ") == []


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
