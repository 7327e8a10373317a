"""What networks cost: operations by hand, and a run's own numbers for Table 4."""

import numpy as np
import pytest
from fabricated import fabricated_corpus
from test_evaluate import write_untrained_run

from experiments import operations
from experiments.operations import costs, forward_flops, trainable
from experiments.peers import BC_LSTM_UNITS, bc_lstm, context_vectors
from model import fusion_network
from storage.files import InputError


def test_operations_by_hand():
    """The released fusion network and BC-LSTM, 3 rows: two operations for each multiplication and addition."""
    per_layer = 2 * (4 * 2 * 3 * 200 * 200 + 2 * 3 * 200 * 20 + 2 * 3 * 3 * 200 * 2)
    dense = 2 * (3 * 400 * 256 + 256 * 64 + 64 * 16 + 16 * 10)
    network = fusion_network("released")
    np.testing.assert_array_equal(forward_flops(network, [3]), [4 * per_layer + dense])
    assert trainable(network) == 1_407_386  # the released 1,411,258 less 3,872 moving statistics
    lstm = bc_lstm()
    gates, units = 4, BC_LSTM_UNITS
    expected = 2 * 3 * 2 * gates * units * (400 + units) + 2 * 2 * units * 10
    np.testing.assert_array_equal(forward_flops(lstm, [3]), [expected])


def test_bc_lstm_does_not_see_the_padding():
    audio, text = ([np.random.default_rng(i).normal(size=(h, 200)) for h in (2, 5)] for i in (0, 1))
    lstm = bc_lstm()
    together = lstm.predict_on_batch(context_vectors(audio, text))
    alone = lstm.predict_on_batch(context_vectors(audio[:1], text[:1]))
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)


def test_costs_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "begin", lambda network, recipe: None)
    monkeypatch.setattr(operations, "seconds_of_steps", lambda network, inputs, targets, batches: float(len(batches)))
    corpus = fabricated_corpus(tmp_path / "corpus.h5")
    found = costs(write_untrained_run(tmp_path / "run", corpus))
    assert found["parameters"]["fusion"] == 1_407_386 and found["num_audio_features"] == 2
    own, wider = (found["parameters_without_embedding"][name] for name in ("ours", "ours_with_6553_audio_features"))
    assert wider - own == (6553 - 2) * 1600
    assert found["mean_context"] == 3.5 and found["padded_context"] == 6
    flops = found["flops_per_sample"]
    assert all(each["once"] < each["padded"] for name, each in flops.items() if name != "audio")
    assert found["seconds_per_epoch"] == {"fusion": 2, "bc_lstm": 2}  # 72 utterances in batches of 64
    with pytest.raises(InputError, match="has no fusion network; Table 4 counts those of the paper's system"):
        costs(write_untrained_run(tmp_path / "audio", corpus, modality="audio"))
