"""Gathers finished tables in results/: a page and a CSV file each, an index, and the main rows in README.md.

    python -m experiments.tables runs/reproduce-iemocap runs/reproduce-meld
    python -m experiments.tables runs/reproduce-mpnet --suffix mpnet
    python -m experiments.pictures

The second one is of the same experiments on another corpus file: its tables stand beside the others, as NAME-mpnet. A
table that none of the folders has stays as it was recorded; without folders the index and the rows are written anew.
The last command brings the pictures and the numbers in the documents' sentences up to date.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from experiments.catalogue import CONTENT, EXPERIMENTS
from storage.files import InputError, made_folder, read_text, write_csv, write_text
from surroundings import run_program

HERE = Path(__file__).resolve().parents[1]
OTHER_FORMS = ("beyond", "table2", "table4", "trials")  # tables that are not of `intervals.Row`s
BEGIN = "<!-- Written by experiments.tables from results/: begin -->"


def main():
    parser = argparse.ArgumentParser(description="Gather finished tables in results/ and README.md.")
    parser.add_argument(
        "folders", type=Path, nargs="*", help="what reproduce.py wrote; of two, the first has the table"
    )
    parser.add_argument("--suffix", default="", metavar="NAME", help="of the tables' names, to stand beside others")
    parser.add_argument("--into", type=Path, default=HERE, help="folder of results/, README.md (default: the project)")
    arguments = parser.parse_args()
    names = gather(arguments.folders, arguments.into, arguments.suffix)
    print(f"{', '.join(names) or 'index and rows'} in {arguments.into / 'results'}")


def gather(folders, into, suffix=""):
    """Writes the tables into results/ as NAME or NAME-SUFFIX, the index, and the README's rows; gives their names.

    Raises:
        InputError: a folder has no table, or a damaged one; one is of another corpus than the recorded table of its
            name, or the project would get tables of a made-up corpus; or README.md has no place for the rows. Nothing
            is written then.
    """
    from experiments.claims import HEADER, verdicts
    from experiments.intervals import read_rows
    from experiments.markdown import around, markdown_table, rendered, write_between

    known = [name for one in EXPERIMENTS for name in (one, f"{one}-rates")] + ["damage"]
    found = {}
    for name in known:
        path = next((folder / f"{name}.md" for folder in folders if (folder / f"{name}.md").exists()), None)
        if path:
            found[name] = path
    for folder in folders:
        if not any((folder / f"{name}.md").exists() for name in known):
            raise InputError(f"{folder}: no table in there; reproduce.py writes them")
    results = into / "results"
    for name, path in found.items():
        there = results / f"{name}-{suffix}.md" if suffix else results / f"{name}.md"
        if into.resolve() == HERE and "made up" in title_of(path):
            raise InputError(f"{path}: is of a made-up corpus, and would stand in README.md; give another --into")
        if there.exists() and corpus_of(there) and corpus_of(path) != corpus_of(there):
            raise InputError(f"{path}: is not of {corpus_of(there)}, as {there} is; give another --suffix or --into")
    for name in found:
        if suffix and f"{name}-{suffix}" in known:
            raise InputError(f"--suffix {suffix}: {name}-{suffix} is another table; choose another suffix")
    around(into / "README.md", BEGIN)
    texts = {}
    for name, path in found.items():
        there = f"{name}-{suffix}" if suffix else name
        texts |= {f"{there}{ending}": read_text(path.with_suffix(ending)) for ending in (".md", ".csv")}
        if name not in OTHER_FORMS:
            read_rows(path.with_suffix(".csv"))
    with tempfile.TemporaryDirectory() as trial:  # all is read before anything is written
        trial = Path(trial) / "results"
        if results.is_dir():
            shutil.copytree(results, trial)
        made_folder(trial)
        for name, text in texts.items():
            write_text(trial / name, text)
        stems = [path.stem for path in trial.glob("*.md")]
        pages = sorted((known.index(name), stem) for stem in stems if (name := _table_of(stem, known)))
        titles = {stem: title_of(trial / f"{stem}.md").removeprefix("# ") for _, stem in pages}
        claims = verdicts(trial)
        rows, of_readme = (rows_table(trial, CONTENT["rows"][place]) for place in ("index", "readme"))
    made_folder(results)
    for name, text in texts.items():
        write_text(results / name, text)
    write_csv(results / "claims.csv", HEADER, claims)
    claims = markdown_table(HEADER, claims)
    write_text(results / "README.md", rendered("index", titles=titles, rows=rows, claims=claims))
    write_between(into / "README.md", BEGIN, of_readme)
    return [f"{name}-{suffix}" if suffix else name for name in found]


def title_of(page):
    """The first line of a table's page."""
    return read_text(page).partition("\n")[0]


def corpus_of(page):
    """The corpus that a table's page names in its title; "" where it names none."""
    return title_of(page).partition(", on ")[2].partition(",")[0]


def _table_of(stem, known):
    """Which table a page is of, by its name: the longest NAME of NAME or NAME-SUFFIX; None for another page."""
    return max((name for name in known if stem == name or stem.startswith(f"{name}-")), key=len, default=None)


def rows_table(folder, wanted):
    """The table of rows of experiments.toml: paper / ours, as far as the CSV files in `folder` have them."""
    from experiments.intervals import SCORES, read_rows
    from experiments.markdown import markdown_table, score_cell

    lines = []
    for name, table, system in wanted:
        path = folder / f"{table}.csv"
        there = path.exists() and path.with_suffix(".md").exists()
        rows = {row.score: row for row in read_rows(path) if row.system == system} if there else {}
        if set(SCORES["accuracy"]) <= set(rows) and rows["accuracy"].mean is not None:
            cells = [score_cell(rows[score]) for score in SCORES["accuracy"]]
            lines.append([name, rows["accuracy"].seeds, *cells])
    return markdown_table(["", "seeds", "accuracy, paper / ours", "weighted F1, paper / ours"], lines)


if __name__ == "__main__":
    run_program(main, "interrupted; the same command begins again")
