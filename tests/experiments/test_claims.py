"""The table of claims: verdicts by hand, and those recorded are those of the recorded tables."""

import csv

from experiments.claims import HEADER, verdicts
from experiments.intervals import Row, write_rows
from experiments.tables import HERE


def test_verdicts_by_hand(tmp_path):
    """An interval above zero holds, below does not, around it cannot be told; a table that is not there was not run."""
    ends = {"ours, categorical": (1.0, 3.0), "SVM": (-3.0, -1.0), "RF": (-1.0, 1.0)}
    rows = [
        Row(name, "accuracy", None, 5, 40.0, 1.0, 38.0, 42.0, sum(pair) / 2, *pair, 0.01) for name, pair in ends.items()
    ]
    write_rows(tmp_path / "table1.csv", rows)
    whole = Row("T+A", "accuracy", 51.6, 2, 50.0, 1.0, 48.0, 51.0)
    write_rows(tmp_path / "table3.csv", [whole])
    write_rows(tmp_path / "table3-rates.csv", [Row("T+A", "accuracy", None, 1, 52.25, 0, 51, 53)])
    found = {says: rest for says, *rest in verdicts(tmp_path)}
    said = [found[f"{claim} (Table 1)"][2] for claim in ("It beats an SVM", "It beats a random forest", "It beats TFN")]
    assert said == ["does not hold", "cannot be told with 5 seeds", "not run"]
    holds = found["Regression of the vote shares beats one emotion for each utterance (Table 1)"]
    assert holds == ["51.6 against 47.3", "42.0 against 40.0: +2.00 [+1.00, +3.00], 5 seeds", "holds", "–", "not run"]
    accuracy = found["Accuracy of the whole network (Table 3)"]
    assert accuracy[1:] == [
        "50.00 [48.00, 51.00], 2 seeds",
        "does not hold: ours is below",
        "52.25 [51.00, 53.00], one seed",
        "cannot be told: the paper's number is within our interval",
    ]


def test_recorded_verdicts_are_those_of_the_recorded_tables():
    with open(HERE / "results" / "claims.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [HEADER, *verdicts(HERE / "results")]
