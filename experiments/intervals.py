"""Tables of results over several seeds: the paper's number, ours, and how sure we are of it.

Two kinds of doubt are kept apart. The standard deviation is over seeds (other initial weights and data order). The
95 % interval is over *dialogs*: utterances of one dialog share speakers and subject, so whole dialogs of the test
session are drawn with replacement (percentile bootstrap, Efron and Tibshirani 1993) and the mean over seeds is taken
anew. All systems are scored on the same draws, so that differences between systems are paired.

Letters of the shapes: S seeds, N test utterances, G dialogs, B bootstrap draws, M scores, C emotions.
"""

from dataclasses import dataclass

import numpy as np

from storage.files import InputError, write_csv, write_text
from scoring.metrics import GROUPS, agreement_levels, average_precision, confusion_matrix, group_recalls, scores

NUM_DRAWS = 2000
SCORES = ("accuracy", "weighted F1", *GROUPS)  # of Tables 1 and 3, in percent, 9 classes
ANSWER_SCORES = ("accuracy", "weighted F1", "UA", "MSE x 1000")  # of the causal variant's table
CSV_HEADER = ["system", "score", "paper", "seeds", "mean", "sd", "low", "high"]
CSV_HEADER += ["full_minus_this", "difference_low", "difference_high", "p"]
END = "<!-- end -->"  # of a table in a page that is otherwise written by hand


@dataclass(frozen=True)
class System:
    """One system's M scores in percent: `paper` ("" where there is none), `per_seed` (S, M), `draws` (B, M)."""

    name: str
    paper: tuple
    per_seed: np.ndarray
    draws: np.ndarray


def dialog_draws(dialog_id, num_draws=NUM_DRAWS, seed=0):
    """How often each test utterance counts in each bootstrap draw of dialogs.

    Args:
        dialog_id: (N,) the dialog of each utterance.
        num_draws: B.
        seed: of the draws.

    Returns:
        (B, G) counts that sum to G, and (N,) the dialog's number of each utterance.
    """
    names, dialog = np.unique(dialog_id, return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), num_draws)
    return counts, dialog


def headline(matrix, emotions):
    """The M scores of Table 3 in percent from a (C, C) confusion matrix, without 'other'; NaN without support."""
    result = _nine_classes(matrix, emotions)
    if result is None:
        return np.full(len(SCORES), np.nan)
    recalls = group_recalls(matrix, list(emotions)).values()
    values = [result["accuracy"], result["weighted_f1"], *(np.nan if r is None else r for r in recalls)]
    return 100 * np.array(values, "float64")


def answer_scores(matrix, emotions):
    """Accuracy, weighted F1 and unweighted accuracy in percent, else as `headline`."""
    result = _nine_classes(matrix, emotions)
    if result is None:
        return np.full(3, np.nan)
    return 100 * np.array([result[name] for name in ("accuracy", "weighted_f1", "unweighted_accuracy")], "float64")


def _nine_classes(matrix, emotions):
    """`metrics.scores` without 'other'; None where no utterance of another class is left."""
    if not any(matrix[i].any() for i, name in enumerate(emotions) if name != "other"):
        return None
    return scores(matrix, emotions, without=("other",))


def recognition(name, paper, shares, predictions, draws, emotions, scored=headline):
    """A system of Tables 1 and 3, or with `scored=answer_scores` of the table of the causal variant.

    Args:
        name: of the system.
        paper: its M scores in the paper, or fewer.
        shares: (N, C) vote shares.
        predictions: S arrays (N, C), one per seed.
        draws: of `dialog_draws`.
        emotions: the C names.
        scored: function of a confusion matrix and the emotions that gives the M scores.

    Returns:
        `System`.
    """
    counts, dialog = draws
    per_seed, drawn = [], []
    for prediction in predictions:
        matrices = np.stack(
            [confusion_matrix(shares[dialog == g], prediction[dialog == g]) for g in range(counts.shape[1])]
        )  # (G, C, C)
        per_seed.append(scored(matrices.sum(axis=0), emotions))
        drawn.append([scored(matrix, emotions) for matrix in np.einsum("bg,gij->bij", counts, matrices)])
    return System(name, paper, np.array(per_seed), np.mean(drawn, axis=0))


def with_squared_error(system, shares, predictions, draws):
    """The system with one more score, the mean squared error over all utterances and emotions, times 1000."""
    counts, dialog = draws
    sizes = np.bincount(dialog, minlength=counts.shape[1])
    errors = [1000 * np.square(prediction - shares).mean(axis=1) for prediction in predictions]
    sums = np.array([np.bincount(dialog, error, counts.shape[1]) for error in errors])  # (S, G)
    per_seed = np.array([[error.mean()] for error in errors])
    drawn = (counts @ sums.T / (counts @ sizes)[:, None]).mean(axis=1, keepdims=True)  # (B, 1)
    return System(system.name, system.paper, np.hstack([system.per_seed, per_seed]), np.hstack([system.draws, drawn]))


def disagreement_systems(paper, shares, predictions, draws, emotions):
    """Table 5: one `System` of one score per emotion, average precision on the tied utterances, and their mean.

    Args:
        paper: the C + 1 published values.
        shares, predictions, draws, emotions: as for `recognition`.
    """
    counts, dialog = draws
    tied = agreement_levels(shares)["tie"]
    present = shares[tied] > 0
    known = present.any(axis=0)
    weights = counts[:, dialog[tied]]  # (B, n)
    per_seed = np.full((len(predictions), len(emotions)), np.nan)
    drawn = np.full((len(predictions), len(weights), len(emotions)), np.nan)
    for s, prediction in enumerate(predictions):
        for c in np.flatnonzero(known):
            per_seed[s, c] = 100 * average_precision(present[:, c], prediction[tied, c])
            drawn[s, :, c] = 100 * average_precision(present[:, c], prediction[tied, c], weights)
    systems = [
        System(name, (paper[c],), per_seed[:, c : c + 1], drawn.mean(axis=0)[:, c : c + 1])
        for c, name in enumerate(emotions)
    ]
    if known.any():
        mean, mean_drawn = np.nanmean(per_seed[:, known], axis=1), np.nanmean(drawn[:, :, known], axis=(0, 2))
        systems.append(System("mean", (paper[-1],), mean[:, None], mean_drawn[:, None]))
    return systems


def interval(draws):
    """95 % percentile interval of (B,) draws; NaN draws, without support, are left out. None if nothing is left."""
    draws = draws[np.isfinite(draws)]
    return tuple(float(q) for q in np.quantile(draws, (0.025, 0.975))) if len(draws) else None


def difference(full, other):
    """Paired difference of two systems' draws of one score.

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


def system_rows(systems, score_names=SCORES, full=None):
    """CSV rows (`CSV_HEADER`) of the systems, one per system and score.

    Args:
        systems: list of `System`.
        score_names: M names.
        full: the `System` that the others are compared with, or None.
    """
    rows = []
    for system in systems:
        for m, score in enumerate(score_names):
            values = system.per_seed[:, m]
            low, high = interval(system.draws[:, m]) or ("", "")
            paper = system.paper[m] if m < len(system.paper) else ""
            mean = float(values.mean()) if np.isfinite(values).all() else ""
            deviation = float(values.std(ddof=1)) if len(values) > 1 and mean != "" else ""
            row = [system.name, score, paper, len(values), mean, deviation, low, high, "", "", "", ""]
            if full is not None and system is not full and mean != "":
                ends, p = difference(full.draws[:, m], system.draws[:, m])
                row[8:] = [float(full.per_seed[:, m].mean() - mean), *(ends or ("", "")), "" if p is None else p]
            rows.append(row)
    return rows


def markdown_rows(rows):
    """Rows of `system_rows` as two Markdown tables: the scores, and the differences to the full model, if any."""
    names = list(dict.fromkeys(row[1] for row in rows))
    systems = list(dict.fromkeys(row[0] for row in rows))
    cell = {(row[0], row[1]): row for row in rows}
    lines = [_line(["", "seeds", *names]), _line(["---"] * (len(names) + 2))]
    for system in systems:
        seeds = cell[system, names[0]][3] if any(cell[system, name][4] != "" for name in names) else "–"
        lines.append(_line([system, seeds, *(_score_cell(cell[system, name]) for name in names)]))
    compared = [system for system in systems if any(cell[system, name][8] != "" for name in names)]
    if compared:
        lines += ["", "Full model minus the system, the same dialogs drawn for both:", ""]
        lines += [_line(["", *names]), _line(["---"] * (len(names) + 1))]
        lines += [_line([system, *(_difference_cell(cell[system, name]) for name in names)]) for system in compared]
    return lines


def _line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def _score_cell(row):
    paper = "–" if row[2] == "" else f"{row[2]:.1f}"
    if row[4] == "":
        return f"{paper} / –"
    deviation = "" if row[5] == "" else f" ± {row[5]:.1f}"
    ends = "" if row[6] == "" else f" [{row[6]:.1f}, {row[7]:.1f}]"
    return f"{paper} / **{row[4]:.1f}**{deviation}{ends}"


def _difference_cell(row):
    if row[8] == "":
        return "–"
    ends = "" if row[9] == "" else f" [{row[9]:+.1f}, {row[10]:+.1f}], p {row[11]:.3f}"
    return f"{row[8]:+.1f}{ends}"


def markdown_table(header, rows):
    """A plain Markdown table, as lines; floats with three significant digits, large ones as in 1.4e7."""
    return [_line(header), _line(["---"] * len(header)), *(_line(map(_plain, row)) for row in rows)]


def _plain(value):
    if isinstance(value, float) and value:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e5 else f"{value:.3g}"
    return value


def write_table(path, title, notes, lines, header, rows):
    """Writes PATH.md with title, table lines and notes, and PATH.csv with all digits.

    Args:
        path: without suffix.
        title: one line.
        notes: paragraphs that follow the table.
        lines: Markdown lines of the table.
        header, rows: of the CSV file.
    """
    write_text(path.with_suffix(".md"), "\n\n".join([f"# {title}", "\n".join(lines), *notes]) + "\n")
    write_csv(path.with_suffix(".csv"), header, rows)


def around(path, begin):
    """What stands before the line `begin` and after the next `END` in a Markdown file.

    Raises:
        InputError: there is no such place, or no such file.
    """
    try:
        before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); it gets a table") from error
    _, _, after = rest.partition(END)
    if not after:
        raise InputError(f"{path}: has no place for the table, between '{begin}' and '{END}'")
    return before, after


def write_between(path, begin, lines):
    """Replaces what stands between the line `begin` and `END` in a Markdown file.

    Raises:
        InputError: as `around`.
    """
    before, after = around(path, begin)
    write_text(path, before + "\n".join([begin, "", *lines, "", END]) + after)
