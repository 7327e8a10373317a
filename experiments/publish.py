"""Makes a provided checkpoint from finished and evaluated runs that differ in the seed alone: weights and model card.

    python -m experiments.publish checkpoints/iemocap-causal runs/causal-seed0 runs/causal-seed1 ... --corpus iemocap.h5

Taken is the run with the median dev loss (of an even number the lower one), so that the checkpoint is neither a lucky
nor an unlucky seed; the card has the scores of all of them. Only what loading needs is copied: no transcript, vote,
feature or utterance id of the corpus, but the vocabulary. The text of the card, in templates/, is about IEMOCAP.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from storage.files import InputError, read_json, sha256, write_json, write_text
from storage.runs import read_run, write_run
from surroundings import check_backend, run_program


def main():
    parser = argparse.ArgumentParser(description="Make a provided checkpoint and its model card from finished runs.")
    parser.add_argument("folder", type=Path, help="of the checkpoint; one that is there is replaced")
    parser.add_argument("runs", type=Path, nargs="+", help="finished and evaluated run folders, one per seed")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus file of the runs")
    parser.add_argument("--note", default="", help="a sentence for the card, about the word vectors used, say")
    arguments = parser.parse_args()
    check_backend()
    publish(arguments.folder, arguments.runs, arguments.corpus, arguments.note)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir()) / 1e6
    print(f"{arguments.folder}: {size:.1f} MB")
    print(f"check it: python evaluate.py {arguments.folder} --corpus {arguments.corpus} --out runs/check")


def publish(folder, run_folders, corpus_path, note=""):
    """Writes the checkpoint's folder, anew.

    Raises:
        InputError: a run is not finished or not evaluated, the runs differ in more than the seed, or the folder is
            there and no checkpoint.
    """
    from checkpoint import load_checkpoint  # the framework takes seconds, and --help needs none
    from experiments.runs import difference
    from systems import system_of

    if folder.exists() and (not (folder / "README.md").exists() or not (folder / "run.json").exists()):
        raise InputError(f"{folder}: is there and no provided checkpoint; choose another folder")
    runs = [read_run(one) for one in run_folders]
    stages = system_of(runs[0].settings.variant).stages(runs[0].settings)
    for one, run in zip(run_folders, runs, strict=True):
        differing = difference(run.settings, runs[0].settings, but=("seed",))
        if differing or run.corpus.sha256 != runs[0].corpus.sha256:
            raise InputError(f"{one}: differs from {run_folders[0]} in {differing or 'the corpus'}")
        if missing := [stage.name for stage in stages if stage.name not in run.stages]:
            raise InputError(f"{one}: is not finished ({missing[0]} is not trained)")
        if not (one / "predictions.csv").exists() or not (one / "results.json").exists():
            raise InputError(f"{one}: is not evaluated; run 'python evaluate.py {one}'")
        if read_json(one / "results.json")["protocol"]["weights_sha256"] != run.weights():
            raise InputError(f"{one}: was evaluated with other weights; run 'python evaluate.py {one}'")
    if sha256(corpus_path) != runs[0].corpus.sha256:
        raise InputError(f"{corpus_path}: is not the corpus file that the runs were trained on (SHA-256 differs)")
    # The dev loss of the network that answers, or the mean of those that answer together.
    answering = [stage.name for stage in stages if stage.answers] or [stage.name for stage in stages]
    losses = [float(np.mean([run.stages[name].best_dev_loss for name in answering])) for run in runs]
    chosen = int(np.argsort(losses)[(len(losses) - 1) // 2])
    source, run = run_folders[chosen], runs[chosen]
    load_checkpoint(source)  # is whole
    new = folder.with_name(f".{folder.name}.new")  # beside it, so that nothing is lost if anything fails
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in [*run.files, "confusion_matrix.png"]:
        shutil.copyfile(source / name, new / name)
    results = read_json(source / "results.json")
    for stage in run.stages.values():
        stage.taken_from = None  # a path of ours
    for stage in results["protocol"]["stages"].values():
        stage.pop("taken_from", None)
    write_json(new / "results.json", results)
    names = [*run.files, "results.json", "confusion_matrix.png"]
    published = run.model_copy(update={"files": {name: sha256(new / name) for name in names}, "branches": None})
    for file in filter(None, (published.corpus, published.glove)):
        file.path = Path(file.path).name
    write_run(new, published)
    text = card(folder.name, note, run_folders, runs, losses, chosen, corpus_path, published)
    write_text(new / "README.md", f"{text}    {sha256(new / 'run.json')}  run.json\n")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def card(name, note, run_folders, runs, losses, chosen, corpus_path, published):
    """The model card, its numbers filled in."""
    from data.corpus import read_corpus
    from experiments.intervals import SCORES, rows_of
    from experiments.markdown import markdown_table, our_cell, rendered
    from experiments.results import Results

    results, seeds = read_json(run_folders[chosen] / "results.json"), [run.settings.seed for run in runs]
    lines = {f"this checkpoint, seed {seeds[chosen]}": [run_folders[chosen]], "all seeds": run_folders}
    table, rows = Results(lines, read_corpus(corpus_path)), []
    for label in lines:
        scored = table.recognition(label, (), label, kind="answers")
        rows.append([label, *(our_cell(row).replace("**", "") for row in rows_of([scored], "answers"))])
    accuracies = dict(zip(seeds, (f"{value:.1f}" for value in scored.per_seed[:, 0]), strict=True))
    matrix = [[emotion, *row] for emotion, row in zip(results["emotions"], results["confusion_matrix"], strict=True)]
    return rendered(
        "card",
        name=name,
        note=note,
        run=published,
        seeds=" ".join(map(str, seeds)),
        dev_losses=", ".join(f"{seed}: {loss:.5f}" for seed, loss in zip(seeds, losses, strict=True)),
        minutes=f"{sum(stage.seconds for stage in published.stages.values()) / 60:.0f}",
        scores=markdown_table(["", *SCORES["answers"]], rows),
        accuracies=", ".join(f"{seed}: {value}" for seed, value in accuracies.items()),
        accuracy_10=f"{results['accuracy_10']:.4f}",
        matrix=markdown_table(["", *results["emotions"]], matrix),
        settings=published.settings.model_dump_json(),
    )


if __name__ == "__main__":
    run_program(main, "interrupted; nothing is lost")
