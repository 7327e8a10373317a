"""What corpus and settings decide: the parts of a split of one's own, one emotion against the rest, refusals."""

import dataclasses

import numpy as np
import pytest
from fabricated import fabricated_corpus
from test_table import write_table

from data.build import Options, prepare
from data.corpus import check_corpus, read_corpus
from data.table import read_table
from data.task import REST, Task
from settings import Settings
from storage.files import InputError


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    prepare(read_table(write_table(folder / "mine.csv")), folder / "mine.h5", Options(audio="none"))
    return folder / "mine.h5"


def test_a_split_of_its_own_takes_the_place_of_sessions(mine):
    corpus = read_corpus(mine)
    task, swapped = Task.of(corpus, Settings()), Task.of(corpus, Settings(split="paper"))
    assert {name: rows.tolist() for name, rows in task.split.items()} == {"train": [0, 1, 2], "dev": [3], "test": [4]}
    assert task.train.tolist() == [0, 2], "u2 has no votes"
    whole = [Task.of(corpus, Settings(split=split), "all") for split in ("official", "paper")]
    for one in (task, whole[0]):  # what the run learned from or chose by, whatever is scored
        assert one.seen.tolist() == [True] * 4 + [False]
    assert swapped.seen.tolist() == whole[1].seen.tolist() == [True, True, True, False, True]
    assert swapped.split["test"].tolist() == [3] and swapped.split["dev"].tolist() == [4]
    assert (task.name_of_test, swapped.name_of_test) == ("test split", "dev split as test")
    with pytest.raises(InputError, match="mine has a split of its own, and the settings choose sessions: train"):
        Task.of(corpus, Settings(test_session=5))
    with pytest.raises(InputError, match="its split has no test utterance"):
        Task.of(corpus.take(slice(0, 4)), Settings())
    corpus.votes_external[3] = corpus.votes_self[3] = 0
    with pytest.raises(InputError, match="mine: no dev utterance has a vote of an external rater, and those"):
        Task.of(corpus, Settings(raters="external")).check_votes("train", "dev")
    corpus.split[2] = "valid"
    with pytest.raises(InputError, match="'split' of u3 is 'valid', not train, dev or test"):
        check_corpus(corpus, mine)


def test_one_emotion_against_the_rest(mine):
    corpus = read_corpus(mine)
    task = Task.of(corpus, Settings(emotion="joy"))
    assert task.emotions == ("joy", REST)
    expected = [[0, 1], [0, 0], [0.5, 0.5], [1 / 3, 2 / 3], [2 / 3, 1 / 3]]
    np.testing.assert_allclose(task.shares, expected, rtol=1e-6)
    with pytest.raises(InputError, match="--emotion happy: mine has anger, calm, joy"):
        Task.of(corpus, Settings(emotion="happy"))
    with pytest.raises(InputError, match="all others together are called so"):
        Task.of(dataclasses.replace(corpus, emotions=("anger", REST, "joy")), Settings(emotion=REST))


def test_sessions_have_no_other_reading(mine):
    corpus = dataclasses.replace(read_corpus(mine), split=None)
    with pytest.raises(InputError, match="--split paper swaps dev and test of a corpus with its own split"):
        Task.of(corpus, Settings(split="paper"))
    assert len(Task.of(corpus, Settings(split="paper"), "all").test) == 4  # where no split is read


def test_the_runs_own_test_session_by_name_is_the_whole_task(tmp_path):
    corpus = read_corpus(fabricated_corpus(tmp_path / "corpus.h5"))
    own, named = Task.of(corpus, Settings()), Task.of(corpus, Settings(), 4)
    assert named.tests_its_own and {name: len(rows) for name, rows in named.split.items()} == {
        name: len(rows) for name, rows in own.split.items()
    }
    alone = Task.of(corpus.take(np.flatnonzero(corpus.session == 4)), Settings(), 4)
    assert len(alone.split["test"]) == len(own.split["test"]) and not len(alone.split["train"])
