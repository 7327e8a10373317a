"""Rows that stay in the file: the same numbers, whatever is asked for; a system reads, learns and predicts the same."""

import dataclasses

import numpy as np
import pytest
from test_corpus import ENCODER, small_corpus

from data import corpus as corpus_module
from data.corpus import read_corpus, rows_of_dialogs, write_corpus
from data.rows import Rows, dialog_blocks, joined
from data.scaling import Scaler
from data.task import Task
from settings import Settings
from storage.files import InputError
from storage.runs import CorpusFile, Run
from systems import system_of
from systems.causal import CausalRecogniser

NUM, DIALOG = 120, 10


def wide_corpus():
    """120 utterances of 12 dialogs in three sessions, with sound and an encoder's vectors."""
    rng, rows = np.random.default_rng(0), np.arange(NUM)
    return small_corpus(
        5,
        utterance_id=np.array([f"u{i:03d}" for i in rows], object),
        dialog_id=np.array([f"d{i // DIALOG:02d}" for i in rows], object),
        speaker=np.where(rows % 3, "M", "F").astype(object),
        transcript=np.where(rows % 7, "well yes", "").astype(object),
        session=np.array([1, 3, 4], "int8")[rows // 40],
        start_s=3.0 * (rows % DIALOG),
        end_s=3.0 * (rows % DIALOG) + 2,
        votes_external=rng.multinomial(3, np.full(4, 0.25), NUM).astype("int16"),
        votes_self=np.zeros((NUM, 4), "int16"),
        audio=rng.normal(5, 3, (NUM, 5)).astype("float32"),
        text=rng.normal(size=(NUM, 9)).astype("float32"),
        text_encoder=ENCODER,
    )


@pytest.fixture
def both(tmp_path, monkeypatch):
    """(corpus in memory, the same with audio and text in the file)."""
    path = tmp_path / "corpus.h5"
    write_corpus(path, wide_corpus())
    in_memory = read_corpus(path)
    monkeypatch.setattr(corpus_module, "MOST_IN_MEMORY", 100)
    in_file = read_corpus(path)
    assert isinstance(in_file.audio, Rows) and isinstance(in_file.text, Rows) and in_memory.audio.nbytes > 100
    return in_memory, in_file


CHOICES = [
    slice(None),
    slice(7, 31),
    slice(0, 0),
    slice(2, 50, 5),
    np.array([5, 6, 7, 3, 3, 119, 0]),
    np.arange(NUM) % 2 == 1,
    np.zeros(0, "int64"),
]


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_rows_are_those_of_the_array(both, number):
    (array, rows), chosen = (one.text for one in both), CHOICES[number]
    assert rows.shape == array.shape and len(rows) == NUM
    np.testing.assert_array_equal(rows[chosen], array[chosen])
    np.testing.assert_array_equal(np.asarray(rows.take(chosen), "float64"), array[chosen])
    np.testing.assert_array_equal(rows.take(chosen).take(slice(1, 4))[:], array[chosen][1:4])
    np.testing.assert_array_equal(rows.take(slice(20, 90))[np.array([3, 60])], array[20:90][[3, 60]])
    np.testing.assert_array_equal(rows[4], array[4])
    np.testing.assert_array_equal(rows[-1], array[-1])


def test_a_part_is_read_and_no_more():
    asked = []

    def read(rows):
        asked.append((int(rows.start), int(rows.stop)))
        return np.arange(rows.start, rows.stop, dtype="float32")[:, None]

    assert joined(read, [4, 5, 6, 2, 3, 9], 1).ravel().tolist() == [4, 5, 6, 2, 3, 9]
    assert asked == [(4, 7), (2, 4), (9, 10)]


def test_the_same_file_is_written_again(both, tmp_path):
    for name, corpus in zip(("a", "b"), both, strict=True):
        write_corpus(tmp_path / name, corpus)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numbers_that_are_none_are_found(tmp_path, monkeypatch):
    corpus = wide_corpus()
    path = tmp_path / "bad.h5"
    write_corpus(path, corpus)
    bad = np.array(corpus.text)
    bad[[33, 70]] = np.nan
    monkeypatch.setattr(corpus_module, "check_corpus", lambda *given: None)
    write_corpus(path, dataclasses.replace(corpus, text=bad))
    monkeypatch.undo()
    monkeypatch.setattr(corpus_module, "MOST_IN_MEMORY", 100)
    with pytest.raises(InputError, match="text vectors of u033 are not finite .2 such utterances"):
        read_corpus(path)


def test_a_file_that_is_gone_is_said(both, tmp_path):
    (tmp_path / "corpus.h5").unlink()
    with pytest.raises(InputError, match="corpus.h5: no such file; prepare it again"):
        both[1].audio[3:5]


def test_dialogs_fill_a_block():
    dialogs = [slice(0, 4), slice(4, 6), slice(6, 9), slice(9, 30), slice(30, 31)]
    assert dialog_blocks(dialogs, 6) == [dialogs[:2], dialogs[2:3], dialogs[3:4], dialogs[4:]]
    assert dialog_blocks([], 6) == []
    ids = np.array(["a", "a", "b", "c", "c", "a"], object)  # the later "a" is another dialog
    assert rows_of_dialogs(ids, [1, 3]).tolist() == [0, 1, 3, 4]


def test_scales_of_parts_are_those_of_the_whole():
    """Far from zero, where a mean of squares would lose the deviation."""
    features = np.random.default_rng(0).normal([1e8, 0, 3], [1, 2, 0], (1000, 3))
    found = Scaler.fit_parts(lambda: np.array_split(features, 7), "abc")
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scale, [features[:, 0].std(), features[:, 1].std(), 1], rtol=1e-9)


def test_a_long_dialog_is_learned_in_pieces(both, monkeypatch):
    """Its pieces are the rows of the whole, with their targets, each once."""
    system, found = system_of("causal"), {}
    settings = Settings(variant="causal", **system.defaults | {"train_sessions": (1,), "left_out": 0.0})
    task = Task.of(both[0], system.settled(settings, both[0], None))
    (stage, *_), work = system.stages(task.settings), system.work(task, None)
    for most in (512, 5):
        monkeypatch.setattr("systems.causal.MOST_ROWS", most)
        data = work.data(stage, None)
        batches = [data.batch(np.array([i]), np.random.default_rng(1)) for i in range(len(data.names))]
        ids = list(data.names)  # a name for each piece of a dialog
        lengths = [min(most, DIALOG - most * ids[:i].count(name)) for i, name in enumerate(ids)]
        assert ids.count(ids[0]) == (1 if most > DIALOG else 2)
        parts = [[*inputs.values(), targets] for inputs, targets in batches]
        found[most] = [
            np.concatenate([values[0, :length] for values, length in zip(one, lengths, strict=True)])
            for one in zip(*parts, strict=True)
        ]
    for whole, pieces in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("context", [True, False])
def test_a_system_reads_learns_and_answers_the_same(both, monkeypatch, context, untraced):
    """From the file and in memory bit for bit; in blocks of two dialogs but for rounding."""
    system, found = system_of("causal"), []
    chosen = {"train_sessions": (1,), "context": context, "members": 1}
    settings = Settings(variant="causal", **system.defaults | chosen)
    for corpus, rows in ((both[0], None), (both[1], None), (both[1], 25)):
        if rows:
            monkeypatch.setattr("data.rows.dialog_blocks.__defaults__", (rows,))
            monkeypatch.setattr("data.rows.blocks.__defaults__", (rows,))
        task = Task.of(corpus, system.settled(settings, corpus, None))
        work = system.work(task, None)
        (stage,) = system.stages(task.settings)
        network = work.network(stage)
        data = work.data(stage, network)
        if found:
            network.set_weights(found[0][0].get_weights())
        inputs, targets = data.batch(np.array([0, 3]), np.random.default_rng(1))
        about = CorpusFile(name="", path="", sha256="", audio_feature_set="egemaps_lld", num_audio_features=5)
        run = Run(settings=task.settings, emotions=task.emotions, context_length=DIALOG, corpus=about)
        answers = CausalRecogniser(run, {stage.name: network}, work.inputs).predict_corpus(corpus, [3, 4, 50, 119])
        found.append((network, *inputs.values(), targets, data.predict_dev(), answers["causal"]))
    for whole, from_file, in_blocks in zip(*(one[1:] for one in found), strict=True):
        np.testing.assert_array_equal(from_file, whole)
        np.testing.assert_allclose(in_blocks, whole, atol=1e-5)
