"""Gathers finished tables in results/: a page and a CSV file each, an index, and the main rows in README.md.

    python -m experiments.tables runs/reproduce-iemocap runs/reproduce-meld
    python -m experiments.pictures

A table that none of the folders has stays as it was recorded; without folders the index and the rows are written anew.
The second command brings the pictures and the numbers in the documents' sentences up to date.
"""

import argparse
from pathlib import Path

from storage.files import InputError, read_text, write_csv, write_text
from surroundings import run_program

HERE = Path(__file__).resolve().parents[1]
BEGIN = "<!-- Written by experiments.tables from results/: begin -->"
# The rows of results/README.md and of README.md: table, system there, name here.
MAIN_ROWS = (
    ("table1", "majority class", "always the most frequent emotion of the training sessions"),
    ("table1", "SVM", "SVM"),
    ("table1", "RF", "random forest"),
    ("table1", "EF-LSTM", "EF-LSTM"),
    ("table1", "BC-LSTM", "BC-LSTM"),
    ("table1", "TFN", "TFN"),
    ("table1", "ours, categorical", "the paper's network, categorical"),
    ("table3", "A", "audio branch"),
    ("table3", "T", "text branch"),
    ("table3", "T+A, no context", "the paper's network, no context"),
    ("table3", "T+A, no MCAF", "the paper's network, no correlation factor"),
    ("variants", "T+A, as in Figure 4", "the paper's network, widths and pooling of Figure 4"),
    ("table3", "T+A", "**the paper's network, as released**"),
    ("epochs", "epoch of the lowest dev loss", "the seeds of it that kept every epoch: epoch chosen on dev"),
    ("epochs", "epoch of the highest test accuracy", "the same seeds, epoch chosen on test (the usual mistake)"),
    ("rates", "T+A, learning rate 0.0003", "the paper's network, fusion at 3e-4 (dev chose it)"),
    ("causal", "no context", "our causal system, no context"),
    ("causal", "no factor", "our causal system, no correlation factor"),
    ("causal", "causal", "**our causal system**"),
    ("encoded", "plain LSTM, same inputs", "a plain LSTM on the inputs of the next"),
    ("encoded", "GloVe and encoder", "**our causal system, with an encoder's word vectors**"),
)
README_ROWS = (
    ("table3", "T", "the paper's text branch"),
    ("table3", "T+A", "the paper's network, both and the dialog"),
    ("rates", "T+A, learning rate 0.0003", "the same, learning rate chosen on dev"),
    ("causal", "causal", "**our causal system**"),
    ("encoded", "GloVe and encoder", "**our causal system, with an encoder**"),
)


def main():
    parser = argparse.ArgumentParser(description="Gather finished tables in results/ and README.md.")
    parser.add_argument(
        "folders", type=Path, nargs="*", help="what reproduce.py wrote; of two, the first has the table"
    )
    parser.add_argument("--into", type=Path, default=HERE, help="folder of results/, README.md (default: the project)")
    arguments = parser.parse_args()
    names = gather(arguments.folders, arguments.into)
    print(f"{', '.join(names) or 'index and rows'} in {arguments.into / 'results'}")


def gather(folders, into):
    """Writes the tables into results/, the index, and the README's rows; gives the names of the tables.

    Raises:
        InputError: no folder has a table, README.md has no place for it, or the project would get tables of a made-up
            corpus.
    """
    from experiments.catalogue import EXPERIMENTS
    from experiments.claims import HEADER, verdicts
    from experiments.markdown import around, markdown_table, rendered, write_between

    known = [name for one in EXPERIMENTS for name in (one, f"{one}-rates")] + ["damage"]
    found = {}
    for name in known:
        path = next((folder / f"{name}.md" for folder in folders if (folder / f"{name}.md").exists()), None)
        if path:
            found[name] = path
    if folders and not found:
        raise InputError(f"{', '.join(map(str, folders))}: no table in there; reproduce.py writes them")
    for path in found.values():
        if into == HERE and "made up" in read_text(path).partition("\n")[0]:
            raise InputError(f"{path}: is of a made-up corpus, and would stand in README.md; give another --into")
    around(into / "README.md", BEGIN)  # before anything is written
    results = into / "results"
    results.mkdir(exist_ok=True)
    for name, path in found.items():
        for suffix in (".md", ".csv"):
            write_text(results / f"{name}{suffix}", read_text(path.with_suffix(suffix)))
    paths = {name: results / f"{name}.md" for name in known}
    titles = {
        name: read_text(path).partition("\n")[0].removeprefix("# ") for name, path in paths.items() if path.exists()
    }
    claims = verdicts(results)
    write_csv(results / "claims.csv", HEADER, claims)
    rows, claims = rows_table(results, MAIN_ROWS), markdown_table(HEADER, claims)
    write_text(results / "README.md", rendered("index", titles=titles, rows=rows, claims=claims))
    write_between(into / "README.md", BEGIN, rows_table(results, README_ROWS))
    return list(found)


def rows_table(folder, wanted):
    """The table of the rows `wanted`: paper / ours, as far as the CSV files in `folder` have them."""
    from experiments.intervals import SCORES, read_rows
    from experiments.markdown import markdown_table, score_cell

    lines = []
    for table, system, name in wanted:
        path = folder / f"{table}.csv"
        there = path.exists() and path.with_suffix(".md").exists()
        rows = {row.score: row for row in read_rows(path) if row.system == system} if there else {}
        if rows and rows["accuracy"].mean is not None:
            cells = [score_cell(rows[score]) for score in SCORES["accuracy"]]
            lines.append([name, rows["accuracy"].seeds, *cells])
    return markdown_table(["", "seeds", "accuracy, paper / ours", "weighted F1, paper / ours"], lines)


if __name__ == "__main__":
    run_program(main, "interrupted; the same command begins again")
