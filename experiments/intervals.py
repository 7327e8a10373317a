"""Scores over several seeds: the paper's number, ours, and how sure we are of it.

Two kinds of doubt are kept apart. The standard deviation is over seeds (other initial weights and data order). The
95 % interval is over *dialogs*: utterances of one dialog share speakers and subject, so whole dialogs of the test
session are drawn with replacement (percentile bootstrap, Efron and Tibshirani 1993) and the mean over seeds is taken
anew. All systems are scored on the same draws, so that differences between systems are paired.

Letters of the shapes: S seeds, N test utterances, G dialogs, B bootstrap draws, M scores, C emotions.
"""

import csv
import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from experiments.catalogue import CONTENT
from scoring.agreement import agreement_scores
from scoring.draws import interval
from scoring.metrics import GROUPS, agreement_levels, average_precision, confusion_matrix, group_recalls, matrix_scores
from scoring.results import test_votes
from storage.files import InputError, named, write_csv


@dataclass(frozen=True)
class Scored:
    """A row of a table with its M scores in percent: `paper` (M or fewer), `per_seed` (S, M), `draws` (B, M)."""

    name: str
    paper: tuple
    per_seed: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True)
class Row:
    """One score of a row of a table, as CSV files have it; None for what is not there.

    `full_minus_this` is the paired difference to the row that the table compares with, with its interval and p value.
    """

    system: str
    score: str
    paper: float | None = None
    seeds: int | None = None
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    full_minus_this: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None


def write_rows(path, rows):
    """Writes `Row`s as CSV with all digits."""
    names = [field.name for field in dataclasses.fields(Row)]
    write_csv(path, names, [["" if value is None else value for value in dataclasses.astuple(row)] for row in rows])


def read_rows(path):
    """The `Row`s of `write_rows`.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    rows = []
    with named(path), open(path, encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        try:
            for name in ("system", "score", "mean"):
                if name not in (lines.fieldnames or ()):
                    raise ValueError(f"there is no column {name}")
            for line in lines:
                rows.append(row := Row(**{name: _read(name, cell) for name, cell in line.items()}))
                if row.mean is not None and row.seeds is None:
                    raise ValueError("a mean without its number of seeds")
        except (ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{path}, line {lines.line_num}: no row of a table of scores ({error})") from error
    if not rows:
        raise InputError(f"{path}: has no row")
    return rows


def _read(name, cell):
    if name in ("system", "score"):
        return cell
    value = None if cell == "" else int(cell) if name == "seeds" else float(cell)
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name} is {cell}")
    return value


# {kind of table: its scores}; in percent over the classes without 'other', but for the squared error, over all.
SCORES = {
    "accuracy": ("accuracy", "weighted F1"),
    "groups": ("accuracy", "weighted F1", *GROUPS),
    "answers": ("accuracy", "weighted F1", "UA", "MSE x 1000"),
    "precision": ("average precision",),
}
SCORES["raters"] = tuple(CONTENT["beside_raters"])


def percentages(matrices, emotions):
    """{score: (...) percent} of (..., C, C) confusion matrices, without 'other'; NaN without support."""
    found = matrix_scores(matrices * np.array([[name != "other"] for name in emotions]))
    named = {"accuracy": found["accuracy"], "weighted F1": found["weighted_f1"], "UA": found["unweighted_accuracy"]}
    return {name: 100 * value for name, value in (named | group_recalls(matrices, emotions)).items()}


def recognition(name, paper, task, predictions, draws, kind):
    """A row of a table of recognition.

    Args:
        name: of the row.
        paper: its scores in the paper, M or fewer.
        task: `data.task.Task` of N test utterances.
        predictions: S arrays (N, C), one per seed.
        draws: of `scoring.draws.dialog_draws`.
        kind: key of `SCORES`.

    Returns:
        `Scored`.
    """
    if kind == "raters":
        return beside_raters(name, task, predictions, draws)
    (counts, dialog), shares = draws, task.shares[task.test]
    weights, found = np.vstack([np.ones_like(counts[:1]), counts]), []  # as it is, then as drawn: (1 + B, G)
    for prediction in predictions:
        matrices = np.stack(
            [confusion_matrix(shares[dialog == g], prediction[dialog == g]) for g in range(counts.shape[1])]
        )  # (G, C, C)
        one = percentages(np.einsum("bg,gij->bij", weights, matrices), task.emotions)
        errors = 1000 * np.square(prediction - shares).mean(axis=1)
        one["MSE x 1000"] = weights @ np.bincount(dialog, errors) / (weights @ np.bincount(dialog))
        found.append(np.stack([one[score] for score in SCORES[kind]], axis=-1))
    found = np.array(found)  # (S, 1 + B, M)
    return Scored(name, tuple(paper), found[:, 0], found[:, 1:].mean(axis=0))


def beside_raters(name, task, predictions, draws):
    """`recognition` with the scores of `beside_raters` in experiments.toml."""
    (counts, dialog), votes = draws, test_votes(task)

    def of(prediction, weights=None):
        found = agreement_scores(*votes, prediction, task.emotions, weights)
        return np.stack([100 * np.asarray(found[key]) for key in CONTENT["beside_raters"].values()], axis=-1)

    per_seed = np.stack([of(prediction) for prediction in predictions])
    drawn = [of(prediction, counts[:, dialog]) for prediction in predictions]
    return Scored(name, (), per_seed, np.mean(drawn, axis=0))


def disagreement(paper, task, predictions, draws):
    """Table 5: a `Scored` of one score per emotion, average precision on the tied utterances, and their mean.

    Args:
        paper: {emotion, or "mean": percent}.
        task, predictions, draws: as for `recognition`.
    """
    (counts, dialog), shares = draws, task.shares[task.test]
    tied = agreement_levels(shares)["tie"]
    present = shares[tied] > 0
    known = present.any(axis=0)
    weights = counts[:, dialog[tied]]  # (B, n)
    per_seed = np.full((len(predictions), shares.shape[1]), np.nan)
    drawn = np.full((len(predictions), len(weights), shares.shape[1]), np.nan)
    for s, prediction in enumerate(predictions):
        for c in np.flatnonzero(known):
            per_seed[s, c] = 100 * average_precision(present[:, c], prediction[tied, c])
            drawn[s, :, c] = 100 * average_precision(present[:, c], prediction[tied, c], weights)
    columns = [(name, per_seed[:, c], drawn.mean(axis=0)[:, c]) for c, name in enumerate(task.emotions)]
    if known.any():
        columns.append(("mean", np.nanmean(per_seed[:, known], axis=1), np.nanmean(drawn[:, :, known], axis=(0, 2))))
    return [
        Scored(name, (paper[name],) if name in paper else (), each[:, None], all_draws[:, None])
        for name, each, all_draws in columns
    ]


def mean_of(name, rows):
    """The mean of several `Scored` of independent test sessions, drawn independently."""
    per_seed = [row.per_seed for row in rows]
    if len({len(one) for one in per_seed}) > 1:  # unfinished: the mean of each one's mean has no deviation
        per_seed = [one.mean(axis=0, keepdims=True) for one in per_seed]
    return Scored(name, (), np.mean(per_seed, axis=0), np.mean([row.draws for row in rows], axis=0))


def difference(full, other):
    """Paired difference of two rows' draws of one score.

    Args:
        full: (B,) draws.
        other: (B,) draws of the same dialogs.

    Returns:
        The 95 % interval of full - other, and twice the share of draws on the rarer side of zero, at least 1 / B: the
        two-sided p value of the bootstrap. None for both if nothing is left.
    """
    gain = (full - other)[np.isfinite(full - other)]
    if not len(gain):
        return None, None
    rarer = min((gain <= 0).mean(), (gain >= 0).mean())
    return interval(gain), float(min(1, max(2 * rarer, 1 / len(gain))))


def rows_of(scored, kind, base=None):
    """The `Row`s of a table, one per `Scored` and score.

    Args:
        scored: list of `Scored`.
        kind: key of `SCORES`.
        base: name of the one that the others are compared with, or None.
    """
    full = next((one for one in scored if one.name == base), None)
    rows = []
    for one in scored:
        for m, name in enumerate(SCORES[kind]):
            values = one.per_seed[:, m]
            low, high = interval(one.draws[:, m]) or (None, None)
            row = Row(one.name, name, one.paper[m] if m < len(one.paper) else None, len(values), low=low, high=high)
            if np.isfinite(values).all():
                sd = float(values.std(ddof=1)) if len(values) > 1 else None
                row = dataclasses.replace(row, mean=float(values.mean()), sd=sd)
                if full is not None and one is not full:
                    ends, p = difference(full.draws[:, m], one.draws[:, m])
                    gain = float(full.per_seed[:, m].mean() - values.mean())
                    lower, upper = ends or (None, None)
                    row = dataclasses.replace(
                        row, full_minus_this=gain, difference_low=lower, difference_high=upper, p=p
                    )
            rows.append(row)
    return rows
