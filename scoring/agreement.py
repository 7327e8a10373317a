"""What the answers are worth beside human raters: scores beyond the paper's, all as functions of weights.

A held-out rater beside the machine, EMO-SUPERB's rule, likelihood of the votes, top two, finding the utterances
without a majority, accuracy against coverage; docs/scores.md has definitions and sources.

Every score takes `weights`: how often each utterance counts, (N,) or (..., N), and has one value for each row of them.
Ones give the score itself. A bootstrap over dialogs gives `counts[:, dialog]`, (B, N), and gets the B draws.
Letters of the shapes: N utterances, C emotions, D of them not 'other', P held-out votes, K thresholds.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import rel_entr
from scipy.stats import entropy

from data.labels import is_tie, without_votes
from scoring.metrics import as_distributions, average_precision, matrix_scores, threshold_sums

# A share of this much is spread over all emotions before a logarithm is taken: regression says 0 or less at times.
SMOOTHING = 0.01
LEVELS = np.arange(1, 11) / 10  # coverages that results.json names


def agreement_scores(votes_external, votes_self, predictions, emotions, weights=None):
    """All scores of this file.

    Args:
        votes_external: (N, C) numbers of tags that the external raters gave.
        votes_self: (N, C) numbers of tags in the self-reports; zeros where they do not count.
        predictions: (N, C) predicted shares.
        emotions: the C names.
        weights: (..., N), see above; None for ones.

    Returns:
        {name: (...) float64}, NaN where nothing that counts can be scored.
    """
    votes = np.asarray(votes_external, "int32") + votes_self
    weights = np.ones(len(votes)) if weights is None else np.asarray(weights, "float64")
    rater, system = rater_matrices(votes_external, votes_self, predictions, emotions, weights)
    confidence, correct, rows = answers(votes, predictions, emotions)
    answered, top_2 = weights[..., rows], among_top_2(votes[rows], np.asarray(predictions)[rows])
    return {
        "num_held_out_votes": rater.sum(axis=(-2, -1)),
        **{f"rater_{name}_9": value for name, value in _headline(rater).items()},
        **{f"system_{name}_9": value for name, value in _headline(system).items()},
        "emo_superb_macro_f1": macro_f1(weights @ presence(votes, predictions, emotions)),
        "emo_superb_macro_f1_rater": macro_f1(weights @ rater_presence(votes_external, votes_self, emotions)),
        "kl_divergence": _ratio(weights @ kl_divergence(votes, predictions), weights.sum(axis=-1)),
        "log_likelihood_per_vote": _ratio(weights @ log_likelihood(votes, predictions), weights @ votes.sum(axis=1)),
        "top_2_accuracy_9": _ratio(answered @ top_2, answered.sum(axis=-1)),
        "no_majority_share": _ratio(weights @ is_tie(votes), weights.sum(axis=-1)),
        "no_majority_average_precision": average_precision(
            is_tie(votes), entropy(as_distributions(predictions), axis=1), weights
        ),
        "coverage_area_9": coverage_area(confidence, correct, answered),
    }


def _headline(matrices):
    found = matrix_scores(matrices)
    return {name: found[name] for name in ("accuracy", "weighted_f1", "unweighted_accuracy")}


def _ratio(sums, totals):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(sums, totals)


def held_out_votes(votes_external, votes_self):
    """Each external vote, taken away in turn, and the votes that remain. Equal votes of an utterance are one row.

    Returns:
        `utterance` (P,) its place, `answer` (P,) the emotion of the vote, `count` (P,) how many such votes, `rest`
        (P, C) the utterance's votes without one of them.
    """
    external = np.asarray(votes_external, "int32")
    utterance, answer = np.nonzero(external)
    rest = (external + votes_self)[utterance]
    rest[np.arange(len(rest)), answer] -= 1
    return utterance, answer, external[utterance, answer], rest


def rater_matrices(votes_external, votes_self, predictions, emotions, weights):
    """Confusion matrices of a held-out rater and of the system, on the same pairs.

    Each external vote is held against the unique majority of the utterance's other votes; where that ties, is 'other'
    or is missing, the vote is left out. The system answers each such pair with its largest share, the first of equals.
    Arguments as of `agreement_scores`.

    Returns:
        Two (..., C, C), rows are majorities.
    """
    utterance, answer, count, rest = held_out_votes(votes_external, votes_self)
    majority = rest.argmax(axis=1)
    kept = ~(is_tie(rest) | without_votes(rest) | np.isin(majority, _columns_of_other(emotions)))
    num, matrices = len(emotions), []
    for given in (answer, np.asarray(predictions).argmax(axis=1)[utterance]):
        cell = (majority * num + given)[kept]
        cells = csr_array((count[kept].astype("float64"), (utterance[kept], cell)), (len(votes_external), num * num))
        sums = weights.reshape(-1, len(votes_external)) @ cells
        matrices.append(sums.reshape(*weights.shape[:-1], num, num))
    return matrices


def presence(votes, predictions, emotions):
    """EMO-SUPERB's rule: an emotion is there above 1 / D of the shares without 'other', in vote and prediction alike.

    Utterances whose votes are all for 'other' are left out.

    Returns:
        (N, 3 * D) float64 per utterance, for `macro_f1`: there in both, in the vote, in the prediction.
    """
    voted, predicted = (_present(values, emotions) for values in (votes, predictions))
    named = ~without_votes(np.delete(votes, _columns_of_other(emotions), axis=1))[:, None]
    return np.hstack([voted & predicted & named, voted & named, predicted & named]).astype("float64")


def rater_presence(votes_external, votes_self, emotions):
    """`presence` with a held-out vote as the prediction and the other votes as the vote.

    Returns:
        (N, 3 * D) float64, summed over the external votes of an utterance; those for 'other' are no answer.
    """
    utterance, answer, count, rest = held_out_votes(votes_external, votes_self)
    found = presence(rest, np.eye(len(emotions))[answer], emotions)
    counted = (count * ~np.isin(answer, _columns_of_other(emotions))).astype("float64")
    return csr_array((counted, (utterance, np.arange(len(found)))), (len(votes_external), len(found))) @ found


def macro_f1(counts):
    """Mean F1 over the D emotions from (..., 3 * D) sums of `presence`; 0 for one never there, NaN if none ever is."""
    both, voted, predicted = np.moveaxis(counts.reshape(*counts.shape[:-1], 3, -1), -2, 0)
    f1 = 2 * both / np.maximum(voted + predicted, 1)
    return np.where(voted.any(axis=-1), f1.mean(axis=-1), np.nan)


def _present(values, emotions):
    shares = as_distributions(np.delete(values, _columns_of_other(emotions), axis=1))
    return shares > 1 / shares.shape[1]


def _columns_of_other(emotions):
    return [column for column, name in enumerate(emotions) if name == "other"]


def _smoothed(predictions):
    shares = as_distributions(predictions)
    return (1 - SMOOTHING) * shares + SMOOTHING / shares.shape[1]


def kl_divergence(votes, predictions):
    """(N,) Kullback-Leibler divergence of the smoothed prediction from the vote shares, in nats."""
    return rel_entr(as_distributions(votes), _smoothed(predictions)).sum(axis=1)


def log_likelihood(votes, predictions):
    """(N,) sum over the votes of an utterance of the logarithm of their smoothed predicted share, in nats."""
    return (votes * np.log(_smoothed(predictions))).sum(axis=1)


def answers(votes, predictions, emotions):
    """The utterances that accuracy without 'other' counts, and how sure the system is of each.

    Returns:
        `confidence` (n,) the top share of the prediction as a distribution, `correct` (n,) bool, `rows` (n,) places.
    """
    label = votes.argmax(axis=1)
    left_out = is_tie(votes) | is_tie(predictions) | np.isin(label, _columns_of_other(emotions))
    rows = np.flatnonzero(~left_out)
    confidence = as_distributions(predictions)[rows].max(axis=1)
    return confidence, np.asarray(predictions)[rows].argmax(axis=1) == label[rows], rows


def among_top_2(votes, predictions):
    """(N,) bool: at most one other emotion has a predicted share as large as the label's."""
    own = np.take_along_axis(predictions, votes.argmax(axis=1)[:, None], axis=1)
    return (predictions >= own).sum(axis=1) <= 2


def coverage_curve(confidence, correct, weights=None):
    """Accuracy of the answers above each threshold of confidence; utterances of equal confidence share one.

    Args:
        confidence, correct: (N,).
        weights: (..., N); None for ones.

    Returns:
        `coverage` (..., K) share of the utterances that is answered, ascending to 1; `accuracy` (..., K) of these.
    """
    answered, right = threshold_sums(confidence, correct, np.ones(len(correct)) if weights is None else weights)
    return _ratio(answered, answered[..., -1:]), _ratio(right, answered)


def coverage_area(confidence, correct, weights):
    """(...) area under `coverage_curve`: 1 minus the area under the risk-coverage curve. NaN where nothing counts."""
    coverage, accuracy = coverage_curve(confidence, correct, weights)
    area = (np.diff(coverage, axis=-1, prepend=0) * np.nan_to_num(accuracy)).sum(axis=-1)
    return np.where(np.any(weights, axis=-1), area, np.nan)


def accuracy_at(coverage, accuracy, levels=LEVELS):
    """{"0.1": accuracy at the first threshold that answers at least this share, ...} of one (K,) curve."""
    places = np.searchsorted(coverage, np.asarray(levels) - 1e-9)
    return {f"{level:g}": float(accuracy[place]) for level, place in zip(levels, places, strict=True)}
