"""Counts and times networks.

Operations are counted on paper, from the sizes of the layers: a multiplication and an addition are two. Counted are
the products with weights and, in attention, of queries with keys and of scores with values; batch norm, tanh, softmax
and pooling are left out (about one percent). A training step is three forward passes, since the backward pass has two
products for each one of the forward pass. Each count is given twice: with padding computed once, as `model.py` does
it (h utterances are h + 1 rows), and for the paper's zero-padded input (167 rows; 50 words). Several contexts share a
pack of rows in training; scores between them are computed and hidden, and not counted.
"""

import math
import time

import keras
import numpy as np

from attention import MutualCorrelationAttention, SubViewAttention
from checkpoint import load_checkpoint
from data.contexts import context_rows, dialog_contexts, shuffled_batches
from data.text import MAX_TOKENS, token_ids
from experiments.peers import bc_lstm, context_vectors
from scoring.evaluation import task_of
from storage.files import InputError
from systems import system_of
from training import backend
from training.loop import begin

PAPER_AUDIO_FEATURES = 6553
_WARM_UP_BATCHES = 3


def costs(run_folder, corpus_path=None):
    """Counts and times all networks of a run, and a BC-LSTM on the same utterance vectors in the same process.

    Returns:
        {"parameters", "flops_per_sample", "flops_per_epoch", "seconds_per_epoch", ...}: see the code. A sample is
        a training utterance, in the mean.

    Raises:
        InputError: the run is not finished or has no fusion network, or corpus and run do not fit.
    """
    backend.make_deterministic()
    recogniser = load_checkpoint(run_folder)
    run, networks = recogniser.run, recogniser.networks
    if "fusion" not in networks:
        raise InputError(f"{run_folder}: has no fusion network; Table 4 counts those of the paper's system")
    task = task_of(recogniser, corpus_path)
    train, vectors = task.train, recogniser.run_branches(task.corpus)[0]
    num_features, ids = len(recogniser.scaler.names), token_ids(task.corpus.transcript[train], recogniser.vocabulary)
    audio_rows, text_rows = (
        dialog_contexts(vectors[branch], task.dialogs, train, run.settings.context) for branch in ("audio", "text")
    )
    lengths = np.array([len(rows) for rows in text_rows])
    padded, lstm = run.context_length, bc_lstm(len(task.emotions))
    lstm_rows = {"once": lengths, "padded": np.full(len(train), padded)}
    counts = {
        "text": _both(networks["text"], (ids > 0).sum(axis=1), MAX_TOKENS),
        "audio": _both(networks["audio"], np.zeros(len(train)), 0),
        "fusion": _both(networks["fusion"], lengths, padded),
        "bc_lstm": {name: forward_flops(lstm, rows) for name, rows in lstm_rows.items()},
    }
    parameters = {stage: trainable(network) for stage, network in {**networks, "bc_lstm": lstm}.items()}
    embedding = trainable(networks["text"].get_layer("embedding"))
    branches = parameters["text"] - embedding + parameters["audio"]
    wider = (PAPER_AUDIO_FEATURES - num_features) * networks["audio"].get_layer("dense_1600").units
    recipe = recipe_of(run.settings)

    def epoch_seconds(network, batch):
        """One epoch after a few steps of warming up; the network is trained, hence changed."""
        inputs = lambda chosen: batch([audio_rows[i] for i in chosen], [text_rows[i] for i in chosen])  # noqa: E731
        begin(network, recipe)
        batches = shuffled_batches(len(train), recipe.batch_size, np.random.default_rng(0))
        seconds_of_steps(network, inputs, task.shares[train], batches[:_WARM_UP_BATCHES])
        return seconds_of_steps(network, inputs, task.shares[train], batches)

    return {
        "corpus_sha256": task.corpus.sha256,
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


def recipe_of(settings):
    """The `systems.base.Recipe` of the last network that these settings train."""
    return system_of(settings.variant).stages(settings)[-1].recipe


def trainable(network):
    """Number of trainable parameters of a model or layer."""
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


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
        network: of `model.py` or `peers.py`.
        rows: (N,) rows of each sample.

    Returns:
        (N,) float64.
    """
    rows = np.asarray(rows, "float64")
    total = np.zeros(len(rows))
    for layer in network.layers:
        if isinstance(layer, SubViewAttention | MutualCorrelationAttention):
            modalities = 2 if isinstance(layer, MutualCorrelationAttention) else 1
            width = layer.num_sub_views * layer.sub_view_dim
            factors, maps = 0, trainable(layer)
            if getattr(layer, "factor", "none") != "none":
                factors = 2 * width * layer.sub_view_dim
                maps -= math.prod(layer.audio_factor.shape) + math.prod(layer.text_factor.shape)
            total += 2 * rows * (maps + factors) + modalities * 4 * rows**2 * width
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * math.prod(layer.kernel.shape) * (rows if len(layer.input.shape) == 3 else 1)
        elif isinstance(layer, keras.layers.Bidirectional):
            kernels = [weight for weight in layer.trainable_weights if len(weight.shape) == 2]
            total += 2 * rows * sum(math.prod(weight.shape) for weight in kernels)
    return total


def seconds_of_steps(network, inputs, targets, batches):
    """Trains on each of the batches and times it.

    Args:
        network: is trained, hence changed.
        inputs: function from positions to the network's input.
        targets: (N, C).
        batches: index arrays.
    """
    began = time.perf_counter()
    for chosen in batches:
        network.train_on_batch(inputs(chosen), targets[chosen])
    return time.perf_counter() - began
