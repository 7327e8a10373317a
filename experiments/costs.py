"""What the networks cost: trainable parameters, operations, seconds per epoch (Table 4 of the paper).

Operations are counted on paper, from the sizes of the layers: a multiplication and an addition are two. Counted are
the products with weights and, in attention, of queries with keys and of scores with values; batch norm, tanh, softmax
and pooling are left out (about one percent). A training step is three forward passes, since the backward pass has two
products for each one of the forward pass. Each count is given twice: with padding computed once, as `model.py` does
it (h utterances are h + 1 rows), and for the paper's zero-padded input (167 rows; 50 words). Several contexts share a
pack of rows in training; scores between them are computed and hidden, and not counted.

    python costs.py runs/iemocap-released-seed0 --out costs.json
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from training import backend
from storage.files import InputError, write_json

PAPER_AUDIO_FEATURES = 6553
_WARM_UP_BATCHES = 3


def main():
    parser = argparse.ArgumentParser(description="Count and time a run's networks and a BC-LSTM beside them.")
    parser.add_argument("run", type=Path, help="finished run folder of train.py, with a fusion network")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument("--out", type=Path, help="JSON file for the result; default: RUN/costs.json")
    arguments = parser.parse_args()
    try:
        backend.start_quietly()
        out = arguments.out or arguments.run / "costs.json"
        write_json(out, costs(arguments.run, arguments.corpus))
        print(f"written to {out}")
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        sys.exit(130)


def costs(run_folder, corpus_path=None):
    """Counts and times all networks of a run, and a BC-LSTM on the same utterance vectors in the same process.

    Returns:
        {"parameters", "flops_per_sample", "flops_per_epoch", "seconds_per_epoch", ...}: see the code. A sample is
        a training utterance, in the mean.

    Raises:
        InputError: the run is not finished or has no fusion network, or corpus and run do not fit.
    """
    from experiments.baselines import bc_lstm, context_vectors
    from data.contexts import context_rows, dialog_contexts
    from data.corpus import dialog_slices
    from data.labels import split_of, vote_shares, without_votes
    from data.text import MAX_TOKENS, token_ids
    from evaluate import load

    backend.make_deterministic()
    recogniser, corpus, _ = load(run_folder, corpus_path)
    run, settings, networks = recogniser.run, recogniser.run["settings"], recogniser.networks
    if "fusion" not in networks:
        raise InputError(f"{run_folder}: has a {recogniser.final_stage} branch alone; Table 4 needs a fusion network")
    if settings["variant"] == "causal":
        raise InputError(f"{run_folder}: Table 4 counts the paper's networks, this run is of the causal variant")
    train = split_of(corpus, settings)["train"]
    shares = vote_shares(corpus.votes_external, corpus.votes_self, settings["raters"])
    train = train[~without_votes(shares[train])]
    vectors, num_features = recogniser.run_branches(corpus)[0], len(recogniser.scaler.names)
    ids = token_ids(corpus.transcript, recogniser.vocabulary)
    dialogs = dialog_slices(corpus.dialog_id)
    audio_rows, text_rows = (
        dialog_contexts(vectors[branch], dialogs, train, settings["context"]) for branch in ("audio", "text")
    )

    lengths = np.array([len(rows) for rows in text_rows])
    padded, words = run["context_length"], (ids[train] > 0).sum(axis=1)
    lstm = bc_lstm(len(corpus.emotions))
    lstm_rows = {"once": lengths, "padded": np.full(len(train), padded)}
    counts = {
        "text": _both(networks["text"], words, MAX_TOKENS),
        "audio": _both(networks["audio"], np.zeros(len(train)), 0),
        "fusion": _both(networks["fusion"], lengths, padded),
        "bc_lstm": {name: forward_flops(lstm, rows) for name, rows in lstm_rows.items()},
    }
    parameters = {stage: trainable(network) for stage, network in {**networks, "bc_lstm": lstm}.items()}
    embedding = trainable(networks["text"].get_layer("embedding"))
    branches = parameters["text"] - embedding + parameters["audio"]
    wider = (PAPER_AUDIO_FEATURES - num_features) * networks["audio"].get_layer("dense_1600").units

    def epoch_seconds(network, batch):
        inputs = lambda chosen: batch([audio_rows[i] for i in chosen], [text_rows[i] for i in chosen])  # noqa: E731
        return seconds_per_epoch(network, inputs, shares[train], settings["batch_size"])

    return {
        "corpus_sha256": corpus.sha256,
        "num_samples": len(train),
        "mean_context": float(lengths.mean()),
        "padded_context": padded,
        "num_audio_features": num_features,
        "parameters": parameters | {"embedding": embedding},
        "parameters_without_embedding": {
            "ours": branches + parameters["fusion"],
            "bc_lstm": branches + parameters["bc_lstm"],
            "ours_with_6553_audio_features": branches + parameters["fusion"] + wider,
            "bc_lstm_with_6553_audio_features": branches + parameters["bc_lstm"] + wider,
        },
        "flops_per_sample": {n: {k: float(f.mean()) for k, f in both.items()} for n, both in counts.items()},
        "flops_per_epoch": {n: {k: 3 * float(f.sum()) for k, f in both.items()} for n, both in counts.items()},
        "seconds_per_epoch": {
            "fusion": epoch_seconds(networks["fusion"], lambda a, t: context_rows(a, t, padded)),
            "bc_lstm": epoch_seconds(lstm, context_vectors),
        },
        **backend.describe_device(),
    }


def trainable(network):
    """Number of trainable parameters of a model or layer."""
    return int(sum(np.prod(weight.shape) for weight in network.trainable_weights))


def _both(network, lengths, padded):
    """Forward operations with the padding computed once (one more row unless full) and with all `padded` rows."""
    once = lengths + (lengths < padded)
    return {"once": forward_flops(network, once), "padded": forward_flops(network, np.full(len(lengths), padded))}


def forward_flops(network, rows):
    """Operations of one forward pass for each of N samples.

    With R rows, V sub-views of D, F inputs and O outputs, per modality: an attention has 2 R (3 F V D + V D O) for its
    maps, 2 R V D D for the correlation factor, 4 R^2 V D for scores and values; Dense has 2 F O, per row where its
    input has rows; an LSTM of U units 2 R 4 U (F + U) per direction.

    Args:
        network: of `model.py` or `baselines.py`.
        rows: (N,) rows of each sample.

    Returns:
        (N,) float64.
    """
    import keras

    from attention import MutualCorrelationAttention, SubViewAttention

    rows = np.asarray(rows, "float64")
    total = np.zeros(len(rows))
    for layer in network.layers:
        if isinstance(layer, SubViewAttention | MutualCorrelationAttention):
            modalities = 2 if isinstance(layer, MutualCorrelationAttention) else 1
            width = layer.num_sub_views * layer.sub_view_dim
            factors = 0
            if getattr(layer, "factor", "none") != "none":
                factors = 2 * width * layer.sub_view_dim
                maps = trainable(layer) - _size(layer.audio_factor) - _size(layer.text_factor)
            else:
                maps = trainable(layer)
            total += 2 * rows * (maps + factors) + modalities * 4 * rows**2 * width
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * _size(layer.kernel) * (rows if len(layer.input.shape) == 3 else 1)
        elif isinstance(layer, keras.layers.Bidirectional):
            kernels = [w for w in layer.trainable_weights if len(w.shape) == 2]
            total += 2 * rows * sum(map(_size, kernels))
    return total


def _size(weight):
    return int(np.prod(weight.shape))


def seconds_per_epoch(network, inputs, targets, batch_size):
    """Trains one epoch after a few steps of warming up, and times it.

    Args:
        network: is trained, hence changed.
        inputs: function from positions to the network's input.
        targets: (N, C).
        batch_size: utterances per step.
    """
    from data.contexts import shuffled_batches

    begin_as_trained(network)
    batches = shuffled_batches(len(targets), batch_size, np.random.default_rng(0))
    seconds_of_steps(network, inputs, targets, batches[:_WARM_UP_BATCHES])
    return seconds_of_steps(network, inputs, targets, batches)


def begin_as_trained(network, **settings):
    """Gives a network that is to be timed what train.py gives a fusion of these settings: optimizer, loss, tracing."""
    import fit
    import train

    fit.begin(network, train.recipe_of("fusion", train.Settings(**settings)))


def seconds_of_steps(network, inputs, targets, batches):
    """Trains on each of the batches, index arrays, and times it; the other arguments as for `seconds_per_epoch`."""
    began = time.perf_counter()
    for chosen in batches:
        network.train_on_batch(inputs(chosen), targets[chosen])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
