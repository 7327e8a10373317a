"""Scores a recogniser on the test utterances of a corpus file, and explains one of its answers.

The recogniser comes from `checkpoint.load_checkpoint`; the scores are those of `scoring.results`.
"""

from pathlib import Path

from data.corpus import read_corpus
from data.task import Task
from scoring.figures import attention_figure, confusion_figure, coverage_figure, factor_figure
from scoring.metrics import agreement_levels, confusion_matrix, mean_squared_error, scores
from scoring.results import printed, protocol, score, test_coverage, unknown_share, write_predictions
from storage.files import InputError, made_folder, read_text, sha256, write_csv, write_json
from storage.runs import epoch_weights, read_history
from storage.weights import load_weights

EPOCHS_HEADER = ["epoch", "dev_loss", "accuracy_9", "weighted_f1_9", "unweighted_accuracy_9", "mean_squared_error"]


def task_of(recogniser, corpus_path=None, test=None):
    """The task of a run on a corpus file.

    Args:
        recogniser: of `checkpoint.load_checkpoint`.
        corpus_path: None for the file that it was trained on.
        test: as of `data.task.Task.of`.

    Raises:
        InputError: there is no such file, or corpus and run do not fit.
    """
    path = Path(corpus_path or recogniser.run.corpus.path)
    if not corpus_path and not path.exists():
        raise InputError(f"{path}: the run's corpus file is not there; say where it is with --corpus")
    task = Task.of(read_corpus(path), recogniser.run.settings, test)
    recogniser.check_fits(task.corpus, path)
    return task


def evaluate(run_folder, recogniser, task, device, out=None, released_weights=None):
    """Predicts the test utterances and writes results.json, predictions*.csv, confusion_matrix and coverage as figures.

    Args:
        run_folder: where the recogniser comes from.
        recogniser: of `checkpoint.load_checkpoint`.
        task: of `task_of`.
        device: of `training.backend.describe_device`.
        out: folder for the results; None for `results_folder`'s, or its folder "released-weights".
        released_weights: weight file of the authors' fusion network to take in place of the run's, or None.

    Returns:
        The text to print: the released print-out, then tables for people.

    Raises:
        InputError: the weights do not fit the network, or nothing can be scored.
    """
    run, corpus = recogniser.run, task.corpus
    task.check_votes("test")
    if released_weights:
        recogniser = recogniser.with_released_weights(released_weights)
    out = results_folder(run_folder, recogniser, task, out, bool(released_weights))
    predictions = recogniser.predict_corpus(corpus, task.test)
    *others, final = predictions
    results = {
        "protocol": protocol(run, task, device),
        "emotions": list(corpus.emotions),
        **score(task, predictions[final]),
        "disagreement_counts": {
            part: {"utterances": len(rows), "ties": int(agreement_levels(task.shares[rows])["tie"].sum())}
            for part, rows in task.split.items()
        },
        "branches": {name: score(task, predictions[name]) for name in others},
    }
    if recogniser.glove:
        results["protocol"]["glove"] = recogniser.glove.model_dump()
    said = corpus.transcript[task.test]
    results["unknown_words"] = unknown = unknown_share(said, recogniser.known_words(said))
    answer = f"{final}, {run.settings.variant}" if others else f"{final} alone"
    if released_weights:
        results["protocol"]["released_weights"] = {"path": str(released_weights), "sha256": sha256(released_weights)}
        answer = "the authors' fusion weights on this run's utterance vectors"
    write_json(out / "results.json", results)
    write_predictions(out / "predictions.csv", task, predictions[final])
    for name in others:
        write_predictions(out / f"predictions_{name}.csv", task, predictions[name])
    title = f"{corpus.name}, {task.name_of_test}: accuracy {results['accuracy_10']:.3f}"
    confusion_figure(results["confusion_matrix"], corpus.emotions, title, out / "confusion_matrix.png")
    curves = {name: test_coverage(task, predictions[name]) for name in predictions}
    coverage_figure(curves, f"{corpus.name}, {task.name_of_test}, without 'other'", out / "coverage.png")
    text = printed(task, run, results, final, answer)
    if unknown is not None:
        text += f"\n\n{100 * unknown:.1f} % of the words are unknown to the run"
    return f"{text}\n\nwritten to {out}: results.json, predictions.csv, confusion_matrix and coverage (.png, .pdf)"


def home_of_results(run_folder, run):
    """Where a run's results go by themselves: into its folder, or for a provided checkpoint runs/NAME."""
    return Path("runs") / Path(run_folder).resolve().name if run.is_provided else Path(run_folder)


def results_folder(run_folder, recogniser, task, out=None, released_weights=False):
    """`out`, or `home_of_results` and in there a folder for scores that are not the run's own; made if need be.

    Such are those of the authors' weights, of other test utterances, with words that training did not have, and, but
    for a provided checkpoint, of another corpus file.

    Raises:
        InputError: it cannot be made, or has results that would be overwritten: a provided checkpoint's, or those of a
            run that these are not the own results of.
    """
    run, run_folder, other = recogniser.run, Path(run_folder), ["released-weights"] * released_weights
    if not run.is_provided and task.corpus.sha256 != run.corpus.sha256:
        other.append(f"on-{task.corpus.sha256[:8]}")
    if not task.tests_its_own:
        other.append(task.name_of_test.replace(" ", "-"))
    if recogniser.glove:
        other.append(f"glove-{recogniser.glove.sha256[:8]}")
    out = Path(out) if out else home_of_results(run_folder, run) / "-".join(other)
    own = out.resolve() == run_folder.resolve() and not run.is_provided and not other
    if (out / "run.json").exists() and not own:
        raise InputError(f"{out}: is a run or a provided checkpoint with results of its own; choose another --out")
    return made_folder(out)


def score_epochs(run_folder, recogniser, task, out=None):
    """Scores every epoch that was kept on the test session, which the paper's protocol does for one epoch alone.

    Writes epochs.csv, and the predictions of the epoch with the highest accuracy without 'other' as
    predictions_best_on_test.csv: figures to compare the run's own with, never a result. Arguments as of `evaluate`.

    Returns:
        The text to print.

    Raises:
        InputError: no epoch was kept, the files are not of this run, or nothing can be scored.
    """
    task.check_votes("test")
    run_folder, run, corpus = Path(run_folder), recogniser.run, task.corpus
    stage = list(recogniser.networks)[-1]
    count, chosen = run.stages[stage].epochs, run.stages[stage].best_epoch
    kept = [epoch for epoch in range(1, count + 1) if epoch_weights(run_folder / "epochs", epoch).exists()]
    if not kept:
        raise InputError(f"{run_folder}: no epochs were kept; train it with train.py --keep-epochs")
    same = epoch_weights(run_folder / "epochs", chosen)
    if chosen not in kept or sha256(same) != run.files[f"{stage}.weights.h5"]:
        raise InputError(f"{same}: is not what the run has kept as its best epoch; the epochs are of another run")
    out = results_folder(run_folder, recogniser, task, out)
    dev_loss = {row.epoch: row.dev_loss for row in read_history(run_folder, run) if row.stage == stage}
    shares, rows, best = task.shares[task.test], [], None
    for epoch in kept:
        load_weights(recogniser.networks[stage], epoch_weights(run_folder / "epochs", epoch))
        predictions = list(recogniser.predict_corpus(corpus, task.test).values())[-1]
        found = scores(confusion_matrix(shares, predictions), corpus.emotions, without=("other",))
        numbers = [found[name] for name in ("accuracy", "weighted_f1", "unweighted_accuracy")]
        rows.append([epoch, dev_loss[epoch], *numbers, mean_squared_error(shares, predictions)])
        if best is None or numbers[0] > best[0]:
            best = numbers[0], epoch, predictions
    write_predictions(out / "predictions_best_on_test.csv", task, best[2])
    write_csv(out / "epochs.csv", EPOCHS_HEADER, rows)  # last: it tells that both are there
    line = "{:<6} {:9.5f} {:9.4f} {:12.4f}".format
    notes = {chosen: "lowest dev loss: the run's result"}
    notes[best[1]] = "; ".join([*([notes[best[1]]] if best[1] in notes else []), "best on test: what not to report"])
    return "\n".join(
        [
            f"{corpus.name}, {task.name_of_test}; {stage}; without 'other'",
            "epoch   dev loss  accuracy  weighted F1",
            *(f"{line(*row[:4])}  {notes.get(row[0], '')}".rstrip() for row in rows),
            f"\nwritten to {out}: epochs.csv, predictions_best_on_test.csv",
        ]
    )


def read_epochs(path):
    """The rows of epochs.csv, as {name: number} by `EPOCHS_HEADER`.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    text = read_text(path)
    header, *rows = [line.split(",") for line in text.splitlines()] or [[]]
    try:
        found = [dict(zip(EPOCHS_HEADER, map(float, row), strict=True)) for row in rows]
    except ValueError:
        found = []
    if header != EPOCHS_HEADER or not found or not text.endswith("\n"):  # cut inside a number, it would look whole
        raise InputError(f"{path}: is damaged; make it anew with 'python evaluate.py {path.parent} --epochs'")
    return found


def explain(run_folder, recogniser, task, utterance_id, out=None):
    """Draws the attention scores of the last mutual correlation layer for one utterance (Fig. 5), and the factors.

    Returns:
        The text to print: the files written.

    Raises:
        InputError: the run has no attention over a dialog, or the corpus has no such utterance.
    """
    corpus = task.corpus
    if utterance_id not in corpus.utterance_id:
        raise InputError(f"no utterance '{utterance_id}' in the corpus; the first is {corpus.utterance_id[0]}")
    place = int((corpus.utterance_id == utterance_id).argmax())
    first = task.dialogs[str(corpus.dialog_id[place])].start
    context = corpus.take(slice(first if recogniser.run.settings.context else place, place + 1))
    attention, num_padding = recogniser.last_attention(context)
    out = results_folder(run_folder, recogniser, task, out)
    labels = [f"{speaker}: {text}" for speaker, text in zip(context.speaker, context.transcript, strict=True)]
    attention_figure(attention, labels, num_padding, f"{corpus.name}, {utterance_id}", out / "fig5.png")
    written = ["fig5.png", "fig5.pdf"]
    factors = recogniser.learned_factors()
    if factors:
        factor_figure(factors, corpus.name, out / "factors.png")
        written += ["factors.png", "factors.pdf"]
    return f"written to {out}: {', '.join(written)}"
