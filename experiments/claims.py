"""The paper's claims, each with a verdict from the recorded tables: results/claims.csv and the table of the index."""

import csv
import tomllib
from pathlib import Path

from experiments.intervals import read_rows
from storage.files import InputError

CLAIMS = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))["claims"]
HOLDS, FAILS = "holds", "does not hold"
HEADER = ["claim", "the paper", "at the paper's rate", "verdict", "at dev's rate", "verdict at dev's rate"]
NOTHING = ("–", "not run")


def verdicts(results):
    """A line per claim, as HEADER says: the whole network with its fusion at the two learning rates.

    Args:
        results: folder of the recorded tables; those at the rate that dev chose are NAME-rates.csv.

    Returns:
        List of [text] * 6; a claim whose table is not there has "–" and "not run".
    """
    lines = []
    for claim in CLAIMS:
        if "untested" in claim:
            both = [("–", f"cannot be tested here: {claim['untested']}"), ("–", "–")]
        elif "ratio" in claim:
            counted = _ratio(results, claim)
            both = [counted, NOTHING if counted == NOTHING else ("–", "no learning rate in it")]
        else:
            both = [_interval(results, claim, suffix) for suffix in ("", "-rates")]
        lines.append([claim["says"], claim["paper"], *both[0], *both[1]])
    return lines


def _interval(results, claim, suffix):
    """What the interval of a paired difference, or of a score, says, and the verdict."""
    table, system, score = claim.get("row") or claim["value"]
    row = _row(results / f"{table}{suffix}.csv", system, score)
    if "value" in claim:
        if row is None or row.mean is None or row.low is None:
            return NOTHING
        paper = float(claim["paper"])
        if row.low <= paper <= row.high:
            return _said(row), "cannot be told: the paper's number is within our interval"
        return _said(row), f"{FAILS}: ours is below" if row.high < paper else f"{HOLDS}: ours is above"
    if row is None or row.difference_low is None:
        return NOTHING
    if row.difference_low > 0:
        return _said(row), HOLDS
    return _said(row), FAILS if row.difference_high < 0 else f"cannot be told with {_seeds(row)}"


def _said(row):
    """Both scores of a row's paired difference, of the whole network itself its score, with interval and seeds."""
    if row.difference_low is None:
        return f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}], {_seeds(row)}"
    ours = f"{row.mean + row.full_minus_this:.1f} against {row.mean:.1f}"
    interval = f"[{row.difference_low:+.2f}, {row.difference_high:+.2f}]"
    return f"{ours}: {row.full_minus_this:+.2f} {interval}, {_seeds(row)}"


def _seeds(row):
    return f"{row.seeds} seeds" if row.seeds > 1 else "one seed"


def _ratio(results, claim):
    """What a count says: no interval, the same each time."""
    column, ours, theirs = claim["ratio"]
    path = results / "table4.csv"
    if not path.exists():
        return NOTHING
    with open(path, encoding="utf-8", newline="") as file:
        counted = {line.get(""): line.get(column) for line in csv.DictReader(file)}
    if not counted.get(ours) or not counted.get(theirs):
        return NOTHING
    try:
        ratio = float(counted[ours]) / float(counted[theirs])
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: column {column!r} has no numbers ({error})") from error
    return f"{ratio:.2f} times", HOLDS if ratio <= claim["most"] else FAILS


def _row(path, system, score):
    rows = read_rows(path) if path.exists() else []
    return next((row for row in rows if (row.system, row.score) == (system, score)), None)
