"""A corpus of one's own: the table's rules, and what becomes of silent utterances."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, run_script
from hypothesis import given
from hypothesis import strategies as st
from tiny_release import tone, write_wav

from data.build import Options, prepare
from data.corpus import read_corpus
from data.reading import decode
from data.table import read_table
from data.utterance import Sound
from storage.files import InputError

HEADER = ["dialog", "utterance", "start_s", "end_s", "speaker", "transcript", "wav", "split", "vote:A", "vote:B"]
HEADER += ["self:me"]
ROWS = [
    ["d2", "u3", "2.5", "3", "Ann", "Well, yes.", "u3.wav", "train", "joy", "joy;calm", "calm"],
    ["d2", "u1", "0.5", "", "Bo", "No!", "u1.wav", "train", "anger", "", ""],
    ["d2", "u2", "0.5", "2", "Ann", "Don\u0092t", "", "train", "", "", ""],
    ["d1", "u4", "0", "1", "Bo", "Hm", "u4.wav", "dev", "calm", "calm", "joy"],
    ["d3", "u5", "0", "1", "Bo", "Oh", "u5.wav", "test", "calm", "joy", "joy"],
]
ODD = 'dialog,utenc"\n\r\x92vote:;\t|=\0\ufeff.1e-\u0301\u200b'
QUIET = Options(jobs=1, progress=False)


def write_table(path, rows=ROWS, header=HEADER):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_rows_become_utterances(tmp_path):
    source = read_table(write_table(tmp_path / "mine.csv"))
    utterances, notes = source.utterances, source.notes
    assert source.name == "mine" and source.emotions == ("anger", "calm", "joy")
    assert [one.utterance_id for one in utterances] == ["u1", "u2", "u3", "u4", "u5"]  # equal times keep their order
    third = utterances[2]
    assert (third.votes_external, third.votes_self, third.sound) == ((0, 1, 2), (0, 1, 0), Sound(tmp_path / "u3.wav"))
    assert (third.start_s, third.end_s, utterances[0].end_s, utterances[1].sound) == (2.5, 3.0, 0.5, None)
    assert utterances[1].transcript == "Don’t"
    first, second, third = notes
    assert first == f"{tmp_path / 'mine.csv'}: 1 control characters were Windows-1252 marks"
    assert second == "votes: anger 1, calm 5, joy 5" and third.startswith("1 utterances without any vote")
    assert read_table(tmp_path / "mine.csv", ("joy", "anger", "calm")).utterances[2].votes_external == (2, 0, 1)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("utterance", "u1", "line 3: utterance u1 is there already, in line 2"),
        ("start_s", "later", "line 2: start_s 'later' is no time"),
        ("start_s", "nan", "line 2: start_s 'nan' is no time"),
        ("end_s", "2", "line 2: u3 ends at 2.0 s, before it starts at 2.5 s"),
        ("split", "valid", "line 2: split 'valid' is none of train, dev, test"),
        ("split", "test", "line 3: dialog d2 has another split or session than in line 2"),
        ("speaker", " ", "line 2: no speaker"),
        ("speaker", "A\nB", r"line 3: speaker 'A\\nB' holds a line end or another control character"),
        ("utterance", "\0", "line 2: a NUL character"),
    ],
)
def test_mistakes_name_the_line(tmp_path, column, value, message):
    first = list(ROWS[0])
    first[HEADER.index(column)] = value
    with pytest.raises(InputError, match=message):
        read_table(write_table(tmp_path / "mine.csv", [first, *ROWS[1:]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_s": "start"}, "column 'start_s' missing, is it 'start'; needed are dialog"),
        ({"vote:A": "votes:A"}, "unknown column 'votes:A'"),
        ({"split": "transcript"}, "column 'transcript' is there twice"),
        ({"vote:A": "end", "vote:B": "x", "self:me": "y"}, "unknown column 'end'"),
    ],
)
def test_columns_are_checked(tmp_path, change, message):
    header = [change.get(name, name) for name in HEADER]
    with pytest.raises(InputError, match=message):
        read_table(write_table(tmp_path / "mine.csv", header=header))


def test_other_broken_tables(tmp_path):
    path = tmp_path / "mine.csv"
    keep = [i for i, name in enumerate(HEADER) if name != "split"]
    write_table(path, [[row[i] for i in keep] for row in ROWS], [HEADER[i] for i in keep])
    with pytest.raises(InputError, match="neither a column 'split' .* nor 'session'"):
        read_table(path)
    with pytest.raises(InputError, match="line 3, vote:A: 'anger' is none of joy, calm"):
        read_table(write_table(path), ("joy", "calm"))
    with pytest.raises(InputError, match="line 2: 3 cells, the header has 11; is a comma in a text"):
        read_table(write_table(path, [["a", "b", "c"]]))
    broken = {b"": "empty; expected a table", b"a,b\n": "no utterance in it", b'a,b\n"x': "line 2: not CSV"}
    for content, message in (*broken.items(), (None, "cannot be read")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_table(path)


def table_of_votes(folder, *votes):
    """A table with these cells in the column vote:A, then two of calm and joy, so that there are two emotions."""
    rows = [[f"d{i}", f"u{i}", i, 1 + i, "S", "hi", "", "train", vote, "", ""] for i, vote in enumerate(votes)]
    return write_table(
        folder / "mine.csv", [*rows, *(["d", v, 0, 1, "S", "hi", "", "dev", v, "", ""] for v in ("calm", "joy"))]
    )


def test_what_stands_for_no_vote_is_none(tmp_path):
    votes = ("", "nan", "NaN", "None", "N/A", "#N/A", "NULL", "<NA>", "-", "calm;nan", " ; ", "[]")
    source = read_table(table_of_votes(tmp_path, *votes))
    assert source.emotions == ("calm", "joy") and "votes: calm 2, joy 1" in source.notes
    assert "11 utterances without any vote: they are context, and neither trained on nor scored" in source.notes
    assert read_table(table_of_votes(tmp_path, "None"), ("calm", "joy", "None")).utterances[0].votes_external == (
        0,
        0,
        1,
    )


def test_empty_cells_as_programs_write_them(tmp_path):
    """R writes NA, a frame's text nan; in a transcript it could be a word."""
    first = [*ROWS[1]]
    first[HEADER.index("end_s")] = first[HEADER.index("wav")] = "NA"
    first[HEADER.index("transcript")] = "nan"
    source = read_table(write_table(tmp_path / "mine.csv", [ROWS[0], first, *ROWS[2:]]))
    one = source.utterances[0]
    assert (one.utterance_id, one.end_s, one.sound) == ("u1", one.start_s, None)
    assert source.notes["its transcript is 'nan', which counts as words; should it be empty?"] == ["u1"]


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (("calm|tense",), "line 2, vote:A: 'calm|tense' looks like several emotions; put ';' between them"),
        (("calm, tense",), "looks like several emotions"),
        (('["calm"]',), "looks like several emotions"),
        (('{"choices": ["calm", "joy"]}',), "looks like several emotions"),
        (("calm/tense",), "looks like several emotions"),
        (("0.0", "0.0", "calm"), r"line 2, vote:A \(and 1 more\): '0.0' is a number; write the emotion's name"),
        (("3",), "'3' is a number"),
        (("Calm",), "'calm' and 'Calm' look like one emotion, written in two ways"),
        (("ca\u200blm",), r"'calm' and 'ca\\u200blm' look like one emotion"),
        (("gêne", "ge\u0302ne"), r"'ge\\u0302ne' and 'g\\xeane' look like one emotion"),
        (("ｃａｌｍ",), "look like one emotion"),
        (("so-so", "so so"), "look like one emotion"),
    ],
)
def test_votes_that_are_no_emotions_are_refused_with_their_rows(tmp_path, votes, message):
    with pytest.raises(InputError, match=message) as caught:
        read_table(table_of_votes(tmp_path, *votes))
    assert str(caught.value).startswith(f"{tmp_path / 'mine.csv'}, line ")
    asked = tuple(dict.fromkeys([*votes, "calm", "joy"]))
    if ";" not in "".join(votes):
        assert read_table(tmp_path / "mine.csv", asked).emotions == asked, "what is listed is meant"


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("start_s", "2.5000000000000004", ("start_s", 2.5000000000000004)),
        ("start_s", "00:00:02.500", ("start_s", 2.5)),
        ("split", "Train", ("split", "train")),
        ("speaker", "Ann\u200b", ("speaker", "Ann")),
        ("speaker", "Zoe\u0308", ("speaker", "Zo\u00eb")),
    ],
)
def test_forms_that_programs_write(tmp_path, column, value, found):
    first = list(ROWS[0])
    first[HEADER.index(column)] = value
    third = read_table(write_table(tmp_path / "mine.csv", [first, *ROWS[1:]])).utterances[2]
    assert getattr(third, found[0]) == found[1]


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("1.0", 1), ("03", 3), ("99.", 99), ("100", None), ("1.5", None)]
)
def test_sessions_as_frames_write_them(tmp_path, text, number):
    header = ["session" if name == "split" else name for name in HEADER]
    place = HEADER.index("split")
    write_table(tmp_path / "mine.csv", [[*row[:place], text, *row[place + 1 :]] for row in ROWS], header)
    if number is None:
        with pytest.raises(InputError, match=f"line 2: session '{text}' is no number from 0 to 99"):
            read_table(tmp_path / "mine.csv")
    else:
        assert {one.session for one in read_table(tmp_path / "mine.csv").utterances} == {number}


@pytest.mark.fuzz
@given(st.binary(max_size=400) | st.text(ODD, max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_one_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    header = ",".join(HEADER).encode() + b"\n"
    for one in (content, header + content, header + b"d,u,1,2,s," + content + b",,train,a,b,"):
        path.write_bytes(one)
        try:
            source = read_table(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert all(len(one.votes_external) == len(source.emotions) for one in source.utterances)


def test_the_example_of_the_page_works(tmp_path):
    page = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("\n\n") if part.startswith("    dialog,"))
    (tmp_path / "mine.csv").write_text("\n".join(line.strip() for line in block.splitlines()), encoding="utf-8")
    source = read_table(tmp_path / "mine.csv")
    assert [one.split for one in source.utterances] == ["train", "train", "dev", "test"]
    assert list(source.notes) == ["votes: anger 2, joy 2, sadness 2, surprise 3"]
    assert source.emotions == ("anger", "joy", "sadness", "surprise")
    assert source.utterances[0].votes_external == (0, 2, 0, 1)


def test_windows_remnants():
    assert decode(b"Don\x92t \xc2\x97 caf\xc3\xa9", "a")[0] == "Don’t — café"
    assert decode("plain “text”".encode(), "a") == ("plain “text”", [])


def write_sounds(folder, names=("u1", "u3", "u4", "u5")):
    for number, name in enumerate(names):
        write_wav(folder / f"{name}.wav", tone(120 + 30 * number))


def test_the_command_prepares_a_table(tmp_path):
    write_sounds(tmp_path)
    table, out = write_table(tmp_path / "mine.csv"), tmp_path / "mine.h5"
    options = ("--table", table, "--out", out, "--without-audio", "keep", "--jobs", "1")
    done = run_script("-m", "data.prepare", "table", *options)
    assert done.returncode == 0, done.stderr
    assert "note: u2 (no sound file is named): no usable audio; kept with the training mean" in done.stdout
    corpus = read_corpus(out)
    assert (corpus.name, corpus.emotions, len(corpus)) == ("mine", ("anger", "calm", "joy"), 5)
    assert corpus.split.tolist() == ["train"] * 3 + ["dev", "test"]
    np.testing.assert_allclose(corpus.audio[1], corpus.audio[[0, 2]].mean(axis=0), rtol=1e-5)


def test_silent_utterances_are_skipped_or_kept_only_where_training_is_known(tmp_path):
    write_sounds(tmp_path, ("u1", "u3", "u4"))
    table, out = write_table(tmp_path / "mine.csv"), tmp_path / "mine.h5"
    prepare(read_table(table), out, QUIET)
    assert read_corpus(out).utterance_id.tolist() == ["u1", "u3", "u4"]
    header = ["session" if name == "split" else name for name in HEADER]
    place = HEADER.index("split")
    rows = [[*row[:place], "7", *row[place + 1 :]] for row in ROWS]
    write_table(table, rows, header)
    with pytest.raises(InputError, match="2 utterances have no usable audio, the first is u2; to keep them"):
        prepare(read_table(table), out, replace(QUIET, overwrite=True, without_audio="keep"))
    prepare(read_table(table), out, Options(audio="none", overwrite=True))
    kept = table.read_bytes()
    with pytest.raises(InputError, match="would take the place of what it is made of"):
        prepare(read_table(table), table, Options(audio="none", overwrite=True))
    assert table.read_bytes() == kept
    assert read_corpus(out).session.tolist() == [7] * 5 and read_corpus(out).split is None
