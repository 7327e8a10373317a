"""The plain LSTM beside our system: its size, blind to the future, trained, given to another run, loaded."""

import dataclasses

import numpy as np
import pytest
from fabricated import fabricated_corpus

from checkpoint import load_checkpoint
from data.corpus import read_corpus
from settings import Settings
from storage.files import InputError
from storage.runs import EncoderFiles, read_run, write_run
from systems import system_of
from systems.causal.network import predict_dialogs
from systems.lstm import lstm_network
from training.run import begin_run, check_branches

SMALL = {"variant": "lstm", "loss": "cross_entropy", "modality": "audio", "epochs": 1, "batch_size": 4}


def test_parameter_count_and_no_future():
    """An LSTM of 200 on 12 + 7 columns, Dense 10; other utterances from row 20 on leave the answers before."""
    network = lstm_network(12, 7, 10)
    assert network.count_params() == 4 * 200 * (12 + 7 + 200 + 1) + 200 * 10 + 10
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(30, width)).astype("float32") for name, width in (("audio", 12), ("text", 7))}
    rows["speaker"] = np.zeros(30, "int32")
    changed = {name: np.concatenate([values[:20], values[20:][::-1]]) for name, values in rows.items()}
    before, after = (predict_dialogs(network, one, [slice(0, 30)]) for one in (rows, changed))
    np.testing.assert_allclose(before[:20], after[:20], atol=1e-6)
    assert (np.abs(before[21:] - after[21:]).max(axis=1) > 1e-6).any()


def test_members_come_from_a_run_that_differs_in_their_number_alone(tmp_path, request):
    corpus = fabricated_corpus(tmp_path / "corpus.h5")
    begin_run(tmp_path / "traced", Settings(**SMALL, members=1), corpus)  # as its user's
    request.getfixturevalue("untraced")
    begin_run(tmp_path / "alone", Settings(**SMALL, members=2), corpus)
    begin_run(tmp_path / "one", Settings(**SMALL, members=1), corpus)
    begin_run(tmp_path / "two", Settings(**SMALL, members=2), corpus, branches=tmp_path / "one")
    begin_run(tmp_path / "first", Settings(**SMALL, members=1), corpus, branches=tmp_path / "alone")
    for folder, number in (("one", 1), ("first", 1), ("two", 1), ("two", 2)):  # taken over or trained: the same bytes
        weights = f"member-{number}.weights.h5"
        assert (tmp_path / folder / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()
    traced, one, taken = (read_run(tmp_path / name) for name in ("traced", "one", "two"))
    assert traced.stages["member-1"].best_dev_loss == pytest.approx(one.stages["member-1"].best_dev_loss, rel=1e-4)
    assert taken.taken == ("member-1",)
    taken.branches = "gone"  # what was taken is here, so the run can go on without it
    assert check_branches(taken, system_of("lstm").stages(taken.settings)) == []
    del taken.stages["member-1"]
    with pytest.raises(InputError, match="gone: no run is there, and member-1 comes from it; put it back"):
        check_branches(taken, system_of("lstm").stages(taken.settings))
    words = tmp_path / "words.txt"  # read by none of them
    words.write_text("word 1\n")
    begin_run(tmp_path / "deaf", Settings(**SMALL, members=1), corpus, words, tmp_path / "two")
    assert read_run(tmp_path / "deaf").glove is None
    with pytest.raises(InputError, match="was trained with seed 0, this run has 1"):
        begin_run(tmp_path / "no", Settings(**SMALL, members=1, seed=1), corpus, branches=tmp_path / "two")
    run = read_run(tmp_path / "alone")
    del run.stages["member-2"]
    write_run(tmp_path / "alone", run)
    with pytest.raises(InputError, match="has no finished network member-2"):
        begin_run(tmp_path / "no", Settings(**SMALL, members=2), corpus, branches=tmp_path / "alone")
    with pytest.raises(InputError, match="the network that answers is taken over"):
        begin_run(tmp_path / "no", Settings(**SMALL, members=1), corpus, branches=tmp_path / "two", keep_epochs=True)
    assert not (tmp_path / "no").exists()
    recogniser, part = load_checkpoint(tmp_path / "two"), read_corpus(corpus)
    shares, whole = (recogniser.predict_corpus(part, rows)["lstm"] for rows in (np.arange(6), None))
    for rows in (part.session == 4, slice(2, 9), [-1, 3], np.zeros(len(part), bool)):
        np.testing.assert_allclose(recogniser.predict_corpus(part, rows)["lstm"], whole[rows], atol=1e-6)
    assert recogniser.predict_corpus(part, [])["lstm"].shape == (0, len(part.emotions))
    dialog = (part.transcript[:6], part.audio[:6], part.speaker[:6], part.start_s[:6], part.end_s[:6])
    np.testing.assert_allclose(recogniser.predict_dialog(*(list(one) for one in dialog)), shares, atol=1e-6)
    with pytest.raises(InputError, match="--variant lstm with --modality audio has no attention to draw"):
        recogniser.last_attention(part)
    with pytest.raises(ValueError, match="a causal run can follow a dialog"):
        recogniser.stream()
    other = EncoderFiles(name="other", sha256="0" * 64, layers=(-1,), pooling="mean")
    recogniser.run.corpus.audio_encoder = other.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(InputError, match="the corpus: sound"):
        recogniser.predict_corpus(dataclasses.replace(part, audio_encoder=other))


def test_what_it_lacks_is_refused():
    with pytest.raises(InputError, match="--variant lstm does not read --factor: leave that out"):
        system_of("lstm").accept(Settings(**SMALL, factor="none"))
