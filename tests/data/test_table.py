"""A corpus of one's own: the table's rules, what becomes of silent utterances, the split and tasks of a run."""

import csv

import numpy as np
import pytest
from conftest import ROOT, run_script
from hypothesis import given
from hypothesis import strategies as st
from tiny_release import tone, write_wav

import train
from data import prepare
from data.corpus import check_corpus, read_corpus
from storage.files import InputError
from data.labels import REST, name_of_test, split_of, task_of, vote_shares
from data.table import clean_text, read_table

HEADER = ["dialog", "utterance", "start_s", "end_s", "speaker", "transcript", "wav", "split", "vote:A", "vote:B"]
HEADER += ["self:me"]
ROWS = [
    ["d2", "u3", "2.5", "3", "Ann", "Well, yes.", "u3.wav", "train", "joy", "joy;calm", "calm"],
    ["d2", "u1", "0.5", "", "Bo", "No!", "u1.wav", "train", "anger", "", ""],
    ["d2", "u2", "0.5", "2", "Ann", "Don\u0092t", "", "train", "", "", ""],
    ["d1", "u4", "0", "1", "Bo", "Hm", "u4.wav", "dev", "calm", "calm", "joy"],
    ["d3", "u5", "0", "1", "Bo", "Oh", "u5.wav", "test", "calm", "joy", "joy"],
]


def write_table(path, rows=ROWS, header=HEADER):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_rows_become_utterances(tmp_path):
    utterances, emotions, notes = read_table(write_table(tmp_path / "mine.csv"))
    assert emotions == ("anger", "calm", "joy")
    assert [one.utterance_id for one in utterances] == ["u1", "u2", "u3", "u4", "u5"]  # equal times keep their order
    third = utterances[2]
    assert (third.votes_external, third.votes_self, third.wav) == ((0, 1, 2), (0, 1, 0), tmp_path / "u3.wav")
    assert (third.start_s, third.end_s, utterances[0].end_s, utterances[1].wav) == (2.5, 3.0, 0.5, None)
    assert utterances[1].transcript == "Don’t"
    assert notes[0].endswith("1 control characters were Windows-1252 marks")
    assert notes[1].startswith("1 utterances without any vote")
    assert read_table(tmp_path / "mine.csv", ("joy", "anger", "calm"))[0][2].votes_external == (2, 0, 1)


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
        ({"start_s": "start"}, "column 'start_s' missing; needed are dialog"),
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
    for content, message in ((b"", "no utterance in it"), (b'a,b\n"x', "line 2: not CSV"), (None, "cannot be read")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_table(path)


@pytest.mark.fuzz
@given(st.binary(max_size=400) | st.text(alphabet='dialog,utenc"\n\r\x92vote:;', max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_one_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    header = ",".join(HEADER).encode() + b"\n"
    for one in (content, header + content, header + b"d,u,1,2,s," + content + b",,train,a,b,"):
        path.write_bytes(one)
        try:
            utterances, emotions, _ = read_table(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert all(len(one.votes_external) == len(emotions) for one in utterances)


def test_the_example_of_the_page_works(tmp_path):
    page = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("\n\n") if part.startswith("    dialog,"))
    (tmp_path / "mine.csv").write_text("\n".join(line.strip() for line in block.splitlines()), encoding="utf-8")
    utterances, emotions, notes = read_table(tmp_path / "mine.csv")
    assert [one.split for one in utterances] == ["train", "train", "dev", "test"] and not notes
    assert emotions == ("anger", "joy", "sadness", "surprise") and utterances[0].votes_external == (0, 2, 0, 1)


def test_windows_remnants():
    assert clean_text(b"Don\x92t \xc2\x97 caf\xc3\xa9")[0] == "Don’t — café"
    assert clean_text("plain “text”".encode()) == ("plain “text”", [])


def write_sounds(folder, names=("u1", "u3", "u4", "u5")):
    for number, name in enumerate(names):
        write_wav(folder / f"{name}.wav", tone(120 + 30 * number))


def test_the_command_prepares_a_table(tmp_path):
    write_sounds(tmp_path)
    table, out = write_table(tmp_path / "mine.csv"), tmp_path / "mine.h5"
    done = run_script("-m", "data.prepare", "table", "--table", table, "--out", out, "--without-audio", "keep")
    assert done.returncode == 0, done.stderr
    assert "u2 has no audio: no sound file is named; kept with the training mean of each feature" in done.stdout
    corpus = read_corpus(out)
    assert (corpus.name, corpus.emotions, len(corpus)) == ("mine", ("anger", "calm", "joy"), 5)
    assert corpus.split.tolist() == ["train"] * 3 + ["dev", "test"]
    np.testing.assert_allclose(corpus.audio[1], corpus.audio[[0, 2]].mean(axis=0), rtol=1e-5)


def test_silent_utterances_are_skipped_or_kept_only_where_training_is_known(tmp_path):
    write_sounds(tmp_path, ("u1", "u3", "u4"))
    table, out = write_table(tmp_path / "mine.csv"), tmp_path / "mine.h5"
    prepare.prepare_table(table, out, jobs=1, progress=False)
    assert read_corpus(out).utterance_id.tolist() == ["u1", "u3", "u4"]
    header = ["session" if name == "split" else name for name in HEADER]
    place = HEADER.index("split")
    rows = [[*row[:place], "7", *row[place + 1 :]] for row in ROWS]
    write_table(table, rows, header)
    with pytest.raises(InputError, match="2 utterances have no usable audio, the first is u5; to keep them"):
        prepare.prepare_table(table, out, jobs=1, progress=False, overwrite=True, without_audio="keep")
    prepare.prepare_table(table, out, audio="none", overwrite=True)
    assert read_corpus(out).session.tolist() == [7] * 5 and read_corpus(out).split is None


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    prepare.prepare_table(write_table(folder / "mine.csv"), folder / "mine.h5", audio="none")
    return folder / "mine.h5"


def test_a_split_of_its_own_takes_the_place_of_sessions(mine):
    settings, corpus = vars(train.Settings()), read_corpus(mine)
    assert {name: rows.tolist() for name, rows in split_of(corpus, settings).items()} == {
        "train": [0, 1, 2],
        "dev": [3],
        "test": [4],
    }
    swapped = settings | {"split": "paper"}
    other = task_of(corpus, swapped)
    assert split_of(other, swapped)["test"].tolist() == [3] and split_of(other, swapped)["dev"].tolist() == [4]
    assert [name_of_test(corpus, one) for one in (settings, swapped)] == ["test split", "dev split as test"]
    with pytest.raises(InputError, match="mine has a split of its own: drop --train-sessions"):
        split_of(corpus, settings | {"test_session": 5})
    with pytest.raises(InputError, match="its split has no test utterance"):
        split_of(corpus.take(slice(0, 4)), settings)
    corpus.split[2] = "valid"
    with pytest.raises(InputError, match="'split' of u3 is 'valid', not train, dev or test"):
        check_corpus(corpus, mine)


def test_one_emotion_against_the_rest(mine):
    corpus = read_corpus(mine)
    task = task_of(corpus, vars(train.Settings(emotion="joy")))
    assert task.emotions == ("joy", REST)
    shares = vote_shares(task.votes_external, task.votes_self)
    expected = [[0, 1], [0, 0], [0.5, 0.5], [1 / 3, 2 / 3], [2 / 3, 1 / 3]]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    with pytest.raises(InputError, match="--emotion happy: mine has anger, calm, joy"):
        task_of(corpus, vars(train.Settings(emotion="happy")))


def test_sessions_have_no_other_reading(miniature):
    with pytest.raises(InputError, match="--split paper swaps dev and test of a corpus with its own split"):
        train.prepare(miniature, None, train.Settings(split="paper"))
