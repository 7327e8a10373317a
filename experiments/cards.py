"""Provided checkpoints from finished runs: their files, and the model card. The work of publish.py."""

import shutil
from pathlib import Path

import numpy as np

from checkpoint import load_checkpoint
from data.corpus import read_corpus
from experiments.damage import UNDAMAGED
from experiments.intervals import SCORES, read_rows, rows_of
from experiments.markdown import markdown_table, our_cell, rendered, scores_table
from experiments.pages import RECORDED
from experiments.results import Results, hardware_of_givers
from experiments.runs import check_same_but_seed, is_evaluated
from scoring.evaluation import evaluate, task_of
from settings import Settings
from storage.files import InputError, read_json, sha256, write_json, write_text
from storage.hdf5 import open_hdf5
from storage.runs import read_run, write_run
from storage.weights import ADVICE, save_arrays, weight_arrays
from systems import system_of
from training.backend import describe_device


def publish(folder, run_folders, corpus_path, note="", half=False, damage=None):
    """Writes the checkpoint's folder, anew.

    Raises:
        InputError: a run is not finished, not evaluated, or a provided checkpoint; the runs differ in more than the
            seed, or two have the same; the corpus is not IEMOCAP; `damage` is no table; or the folder is there and no
            checkpoint.
    """
    folder = folder.resolve()
    if folder.exists() and not ((folder / "run.json").is_file() and read_run(folder).is_provided):
        raise InputError(f"{folder}: is there and no provided checkpoint; choose another folder")
    damage = damage and read_rows(damage)
    runs = check_same_but_seed(run_folders, corpus_path)
    if not runs[0].corpus.name.startswith(("IEMOCAP", "miniature")):
        raise InputError(f"{run_folders[0]}: is of {runs[0].corpus.name}, and the card in templates/ is about IEMOCAP")
    stages = system_of(runs[0].settings.variant).stages(runs[0].settings)
    for one, run in zip(run_folders, runs, strict=True):
        if missing := [stage.name for stage in stages if stage.name not in run.stages]:
            raise InputError(f"{one}: is not finished ({missing[0]} is not trained)")
        if run.is_provided:
            raise InputError(f"{one}: is a provided checkpoint, and one is made from runs")
        if not is_evaluated(one, run):
            raise InputError(f"{one}: is not evaluated, or with other weights; run 'python evaluate.py {one}'")
    if damage:
        accuracy = 100 * np.mean([read_json(one / "results.json")["accuracy_9"] for one in run_folders])
        undamaged = [row.mean for row in damage if (row.system, row.score) == (UNDAMAGED, "accuracy")]
        if not undamaged or undamaged[0] is None or abs(undamaged[0] - accuracy) > 0.1:
            raise InputError("--damage: is not of these runs: their accuracy as transcribed is another one")
    # The dev loss of the network that answers, or the mean of those that answer together.
    answering = [stage.name for stage in stages if stage.answers] or [stage.name for stage in stages]
    losses = [float(np.mean([run.stages[name].best_dev_loss for name in answering])) for run in runs]
    chosen = int(np.argsort(losses)[(len(losses) - 1) // 2])
    recogniser = load_checkpoint(run_folders[chosen])  # is whole
    new = folder.with_name(f".{folder.name}.new")  # beside it, so that nothing is lost if anything fails
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        fill(new, folder.name, run_folders, runs, losses, chosen, recogniser, corpus_path, note, half, damage)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def fill(new, name, run_folders, runs, losses, chosen, recogniser, corpus_path, note, half, damage):
    """Writes a checkpoint's files into the folder `new`; arguments as in `publish`."""
    source, run = run_folders[chosen], runs[chosen]
    branches_on, seconds = hardware_of_givers([run]), run.own_seconds  # before the paths of ours go
    for file in run.files:
        shutil.copyfile(source / file, new / file)
    for stage in run.stages.values():
        stage.taken_from = None  # a path of ours
    run.branches = run.taken = None
    for file in filter(None, (run.corpus, run.glove)):
        file.path = Path(file.path).name
    scored = source
    if half:
        scored = new
        halve(new, run, recogniser)
        rounded = load_checkpoint(new)
        evaluate(new, rounded, task_of(rounded, corpus_path), describe_device(), new)
    results = read_json(scored / "results.json")
    for stage in results["protocol"]["stages"].values():
        stage.pop("taken_from", None)
    table = table_of(run_folders, runs, scored, corpus_path)
    write_json(new / "results.json", results)
    if scored is source:
        shutil.copyfile(source / "confusion_matrix.png", new / "confusion_matrix.png")
    names = [*run.files, "results.json", "confusion_matrix.png"]
    for path in new.iterdir():
        if path.name not in names:
            path.unlink()
    published = run.model_copy(update={"files": {name: sha256(new / name) for name in names}})
    write_run(new, published)
    text = card(name, note, runs, losses, table, published, results, half, damage, branches_on, seconds)
    write_text(new / "README.md", f"{text}    {sha256(new / 'run.json')}  run.json\n")


def halve(folder, run, recogniser):
    """Rounds the weights of all networks in a run folder to 16-bit floats; the files hold 32 bits as before, packed.

    Raises:
        InputError: a weight is too large for that.
    """
    for stage, network in recogniser.networks.items():
        path = folder / f"{stage}.weights.h5"
        arrays = weight_arrays(network)
        if max(np.abs(array).max() for array in arrays.values()) > np.finfo("float16").max:
            raise InputError(f"{path.name}: a weight is too large for a 16-bit float; publish without --half")
        rounded = {name: array.astype("float16").astype(array.dtype) for name, array in arrays.items()}
        save_arrays(path, rounded, packed=True)
    for name in run.files:
        if name.endswith(".h5") and name.partition(".")[0] not in recogniser.networks:
            with open_hdf5(folder / name, ADVICE) as file:
                arrays = {key: file[key][()] for key in file}
            save_arrays(folder / name, arrays, packed=True)
        run.files[name] = sha256(folder / name)
    write_run(folder, run)


def table_of(run_folders, runs, scored, corpus_path):
    """(Markdown table of what is published and of all seeds, {seed: accuracy in words})."""
    lines = {f"this checkpoint, seed {read_run(scored).settings.seed}": [scored], "all seeds": run_folders}
    table, rows = Results(lines, read_corpus(corpus_path)), []
    for label in lines:
        found = table.recognition(label, (), label, kind="answers")
        rows.append([label, *(our_cell(row).replace("**", "") for row in rows_of([found], "answers"))])
    seeds = [run.settings.seed for run in runs]
    accuracies = dict(zip(seeds, (f"{value:.1f}" for value in found.per_seed[:, 0]), strict=True))
    return markdown_table(["", *SCORES["answers"]], rows), accuracies


def card(name, note, runs, losses, table, published, results, half, damage, branches_on, seconds):
    """The model card, its numbers filled in; `table` is of `table_of`, `branches_on` the hardware that trained those.
    `seconds` is how long the rest was trained.

    The paper's network at another rate than the paper's has the recorded scores at that one beside its own.
    """
    papers, own = Settings(), published.settings
    of_paper = published.corpus.name == "IEMOCAP" and own.learning_rate != papers.learning_rate
    of_paper &= own.model_copy(update={"learning_rate": papers.learning_rate, "seed": papers.seed}) == papers
    recorded = read_rows(RECORDED / "table3.csv") if of_paper else []
    at_papers_rate = {row.score: row for row in recorded if row.system == "T+A"}
    scores, accuracies = table
    matrix = [[emotion, *row] for emotion, row in zip(results["emotions"], results["confusion_matrix"], strict=True)]
    return rendered(
        "card",
        name=name,
        note=note,
        half=half,
        papers_seeds=at_papers_rate["accuracy"].seeds if at_papers_rate else None,
        at_papers_rate={score: our_cell(row).replace("**", "") for score, row in at_papers_rate.items()},
        branches_on=branches_on,
        damage=scores_table(damage) if damage else "",
        run=published,
        seeds=" ".join(map(str, accuracies)),
        dev_losses=", ".join(f"{run.settings.seed}: {loss:.5f}" for run, loss in zip(runs, losses, strict=True)),
        minutes=f"{seconds / 60:.0f}",
        scores=scores,
        accuracies=", ".join(f"{seed}: {value}" for seed, value in accuracies.items()),
        accuracy_10=f"{results['accuracy_10']:.4f}",
        matrix=markdown_table(["", *results["emotions"]], matrix),
        settings=published.settings.model_dump_json(),
    )
