"""The paper's claims, each with a verdict from the recorded tables: results/claims.csv and the table of the index."""

import csv
import tomllib
from pathlib import Path

from experiments.intervals import read_rows

CLAIMS = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))["claims"]
HOLDS, FAILS = "holds", "does not hold"
HEADER = ["claim", "the paper", "here, at the paper's learning rate", "here, at the rate that dev chose", "verdict"]


def verdicts(results):
    """A line per claim, as HEADER says.

    Args:
        results: folder of the recorded tables.

    Returns:
        List of [text] * 5; a claim whose table is not there has "–" and "not run".
    """
    lines = []
    for claim in CLAIMS:
        if "untested" in claim:
            found, verdict = "–", f"cannot be tested here: {claim['untested']}"
        elif "ratio" in claim:
            found, verdict = _ratio(results, claim)
        else:
            found, verdict = _interval(results, claim)
        lines.append([claim["says"], claim["paper"], found, _at_rate(results, claim), verdict])
    return lines


def _interval(results, claim):
    """What the interval of a paired difference, or of a score, says."""
    table, system, score = claim.get("row") or claim["value"]
    row = _row(results / f"{table}.csv", system, score)
    if "value" in claim:
        if row is None or row.mean is None:
            return "–", "not run"
        paper = float(claim["paper"])
        if row.low <= paper <= row.high:
            return _said(row), "cannot be told: the paper's number is within our interval"
        return _said(row), f"{FAILS}: ours is below" if row.high < paper else f"{HOLDS}: ours is above"
    if row is None or row.difference_low is None:
        return "–", "not run"
    if row.difference_low > 0:
        return _said(row), HOLDS
    return _said(row), FAILS if row.difference_high < 0 else f"cannot be told with {_seeds(row)}"


def _said(row):
    """The paired difference of a row, of the whole network itself its score, with interval and seeds."""
    if row.difference_low is None:
        return f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}], {_seeds(row)}"
    return f"{row.full_minus_this:+.2f} [{row.difference_low:+.2f}, {row.difference_high:+.2f}], {_seeds(row)}"


def _seeds(row):
    return f"{row.seeds} seeds" if row.seeds > 1 else "one seed"


def _ratio(results, claim):
    """What a count says: no interval, the same each time."""
    column, ours, theirs = claim["ratio"]
    path = results / "table4.csv"
    if not path.exists():
        return "–", "not run"
    with open(path, encoding="utf-8", newline="") as file:
        counted = {line[""]: line.get(column) for line in csv.DictReader(file)}
    if not counted.get(ours) or not counted.get(theirs):
        return "–", "not run"
    ratio = float(counted[ours]) / float(counted[theirs])
    return f"{ratio:.2f} times as many", HOLDS if ratio <= claim["most"] else FAILS


def _at_rate(results, claim):
    """The same at dev's rate."""
    row = _row(results / "rates.csv", *claim["rate"]) if "rate" in claim else None
    return _said(row) if row else "–"


def _row(path, system, score):
    rows = read_rows(path) if path.exists() else []
    return next((row for row in rows if (row.system, row.score) == (system, score)), None)
