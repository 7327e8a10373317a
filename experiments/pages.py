"""Writes the page and the CSV file of each table from finished runs, the paper's numbers beside ours.

Each page is written by the function that the `catalogue.Experiment` names: it takes the experiment, the
`results.Results` of its systems, and the path without suffix.
"""

import tomllib
from pathlib import Path

import numpy as np

from experiments.catalogue import CONTENT, EXPERIMENTS, PEERS
from experiments.intervals import SCORES, Scored, disagreement, mean_of, read_rows, rows_of, write_rows
from experiments.markdown import (
    difference_cell,
    differences_table,
    markdown_table,
    our_cell,
    rendered,
    score_cell,
    scores_table,
    turned_table,
    with_deviation,
)
from experiments.results import encoder_of, hardware, span
from scoring.draws import NUM_DRAWS
from scoring.evaluation import read_epochs
from scoring.metrics import agreement_levels
from storage.files import read_text, write_csv, write_text

HERE = Path(__file__).parent
RECORDED = HERE.parent / "results"
PUBLISHED = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))


def title_of(experiment, results):
    made_up = ", which is made up: the numbers say nothing about people" if "made up" in results.corpus.name else ""
    encoders = [encoder_of(run) for system in results.folders for run in results.runs(system)[:1]]
    through = "".join(f", words through {one}" for one in dict.fromkeys(filter(None, encoders)))
    return f"{experiment.title}, on {results.corpus.name}{made_up}{through}"


def scored_lines(experiment, results):
    """The `intervals.Scored` of the experiment's lines, the paper's numbers in them."""
    paper = PUBLISHED.get(experiment.paper_of, {})
    return [
        results.recognition(line.name, paper.get(line.name, ()), line.system.name, line.stage, experiment.scores)
        for line in experiment.lines
    ]


def write_scores(experiment, results, path, scored, table=scores_table, **values):
    """Writes a `table` of `Scored`s, compared with the experiment's base, on its template; gives the rows."""
    rows = rows_of(scored, experiment.scores, experiment.base)
    text = rendered(
        experiment.template,
        title=title_of(experiment, results),
        scores=table(rows),
        differences=differences_table(rows),
        num_draws=NUM_DRAWS,
        training=results.training(experiment.systems),
        **values,
    )
    write_text(path.with_suffix(".md"), text)
    write_rows(path.with_suffix(".csv"), rows)
    return rows


def scores_page(experiment, results, path):
    """The lines' scores and their differences to the base; those beside human raters are many, so each has a line."""
    table = turned_table if experiment.scores == "raters" else scores_table
    write_scores(experiment, results, path, scored_lines(experiment, results), table)


def folds_page(experiment, results, path):
    """Each session as the test session once, and the mean of all."""
    scored = scored_lines(experiment, results)
    write_scores(experiment, results, path, [*scored, mean_of("mean of the five", scored)])


def peers_page(experiment, results, path):
    """Table 1: the paper's rows, rebuilt as far as there are peers, and ours."""
    write_scores(experiment, results, path, with_peers(experiment, results), **about_peers(results))


def plain_peers_page(experiment, results, path):
    """The peers on inputs that no training has touched, beside the paper's network."""
    kind = experiment.scores
    rows = [results.recognition(PEERS[peer], (), peer, kind=kind) for peer in results.peers]
    write_scores(experiment, results, path, [*rows, *scored_lines(experiment, results)], **about_peers(results))


def with_peers(experiment, results):
    """The majority class and the paper's rows before the experiment's own."""
    ours = scored_lines(experiment, results)
    peer_of, own = {PEERS[peer]: peer for peer in results.peers}, {line.name for line in EXPERIMENTS["table1"].lines}
    floor = PEERS["majority"]
    rows = [results.recognition(floor, (), "majority", kind=experiment.scores)] if floor in peer_of else []
    for name, paper in PUBLISHED["table1"].items():
        if name in peer_of:
            rows.append(results.recognition(name, paper, peer_of[name], kind=experiment.scores))
        elif name not in own:
            empty = np.full((1, len(SCORES[experiment.scores])), np.nan)
            rows.append(Scored(f"{name} (paper only)", tuple(paper), empty, empty))
    return rows + ours


def about_peers(results):
    """What the page says about how the peers were tuned."""
    protocols = {peer: [one["protocol"] for one in results.scores(peer)] for peer in results.peers}
    tuned = []
    for peer, seeds in protocols.items():
        if len(seeds[0]["points"]) > 1:
            tried = {
                name: list(dict.fromkeys(f"{one['point'][name]:g}" for one in seeds[0]["points"]))
                for name in seeds[0]["chosen"]["point"]
            }
            tuned.append(
                {
                    "name": PEERS[peer],
                    "grid": "; ".join(f"{name} {', '.join(values)}" for name, values in tried.items()),
                    "chosen": ["/".join(f"{value:g}" for value in one["chosen"]["point"].values()) for one in seeds],
                    "minutes": float(np.mean([one["seconds"] for one in seeds])) / 60,
                }
            )
    any_peer = next(iter(protocols.values()), [{}])[0]
    return {
        "peers": tuned,
        "ties": any_peer.get("ties"),
        "window": protocols["bc_lstm"][0]["window"] if "bc_lstm" in protocols else None,
    }


MEASURED_2 = {
    "accuracy": lambda scores, emotion: scores["accuracy"],
    "weighted F1": lambda scores, emotion: scores["weighted_f1"],
    "F1 of the emotion": lambda scores, emotion: scores["per_class"][emotion]["f1"],
    "UA": lambda scores, emotion: scores["unweighted_accuracy"],
}


def meld_page(experiment, results, path):
    """Table 2: one binary network per emotion of MELD, for both readings of which part is the test."""
    header = ["test", "emotion", "seeds", "accuracy, paper", "F1, paper"]
    header += [f"{name}{what}" for name in MEASURED_2 for what in ("", ", sd")]
    header += ["always the more frequent, accuracy", "always the more frequent, weighted F1", "test utterances"]
    digits, shown = [], []
    for line in experiment.lines:
        part, emotion = line.name, line.stage
        paper, per_seed = PUBLISHED["table2"][emotion], [one["classes_10"] for one in results.scores(line.system.name)]
        means, sds = mean_and_sd([[100 * of(one, emotion) for of in MEASURED_2.values()] for one in per_seed])
        support = [one["support"] for one in per_seed[0]["per_class"].values()]
        largest = max(support) / sum(support)
        floors = [100 * largest, 100 * largest * 2 * largest / (1 + largest)]
        cells = list(map(with_deviation, means, sds))
        both = [value for pair in zip(means, sds, strict=True) for value in pair]
        digits.append([part, emotion, len(per_seed), *paper, *both, *floors, sum(support)])
        ours = [f"{paper[0]} / **{cells[0]}**", f"{paper[1]} / **{cells[1]}**", *cells[2:]]
        shown.append([part, emotion, *ours, f"{floors[0]:.1f} / {floors[1]:.1f}", sum(support)])
    columns = ["test", "emotion", "accuracy", "weighted F1", "F1 of the emotion", "UA", "floor", "utterances"]
    runs = [run for system in results.folders for run in results.runs(system)]
    stages = [stage for run in runs for stage in run.stages.values()]
    text = rendered(
        "table2",
        title=title_of(experiment, results),
        table=markdown_table(columns, shown),
        modality=", ".join(sorted({run.settings.modality for run in runs})),
        seeds=results.training(list(results.folders)[:1])[0]["seeds"],
        most_epochs=runs[0].settings.epochs,
        patience=runs[0].settings.patience,
        epochs=span([stage.epochs for stage in stages]),
        best=span([stage.best_epoch for stage in stages]),
        hardware=hardware(runs),
    )
    write_page(path, text, header, digits)


def mean_and_sd(per_seed):
    """Lists of the columns' means and standard deviations; None where there is none."""
    values = np.array(per_seed, "float64")
    sds = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
    return [[None if np.isnan(one) else float(one) for one in each] for each in (values.mean(axis=0), sds)]


def write_page(path, text, header, rows):
    """Writes PATH.md and PATH.csv; None as an empty cell."""
    write_text(path.with_suffix(".md"), text)
    write_csv(path.with_suffix(".csv"), header, [["" if cell is None else cell for cell in row] for row in rows])


def epochs_page(experiment, results, path):
    """The main row with the epoch that dev chose, and with the one that is best on the test session."""
    seeds = []
    for folder, run in zip(results.folders["full"], results.runs("full"), strict=True):
        epochs = read_epochs(folder / "epochs.csv")
        numbers, stage = [int(one["epoch"]) for one in epochs], list(run.stages.values())[-1]
        best = max(epochs, key=lambda epoch: epoch["accuracy_9"])
        seeds.append(
            {
                "seed": run.settings.seed,
                "dev": stage.best_epoch,
                "test": int(best["epoch"]),
                "scored": len(epochs),
                "epochs": stage.epochs,
                "first": numbers[0],
                "last": numbers[-1],
            }
        )
    write_scores(experiment, results, path, scored_lines(experiment, results), seeds=seeds)


def costs_page(experiment, results, path):
    """Table 4: parameters, operations, time."""
    costs = results.costs
    flops, epoch, total = costs["flops_per_sample"], costs["flops_per_epoch"], costs["parameters_without_embedding"]
    runs = results.runs("full")
    measured = {
        name: float(np.mean([run.stages[name].seconds / run.stages[name].epochs for run in runs]))
        for name in runs[0].stages
    }
    header = ["", "trainable parameters", "FLOPs per sample, padding once", "FLOPs per sample, all rows"]
    header += ["FLOPs per epoch, padding once", "FLOPs per epoch, all rows", "seconds per epoch in the runs"]
    header += ["seconds per epoch side by side"]
    rows = [
        [name, count, "", per_sample, "", "", seconds, ""]
        for name, (count, per_sample, seconds) in PUBLISHED["table4"].items()
    ]
    names = {
        "text": "text branch, without word vectors",
        "audio": "audio branch",
        "fusion": "fusion network",
        "bc_lstm": "BC-LSTM on the same vectors",
    }
    for stage, name in names.items():
        count = costs["parameters"][stage] - (costs["parameters"]["embedding"] if stage == "text" else 0)
        counted = [flops[stage]["once"], flops[stage]["padded"], epoch[stage]["once"], epoch[stage]["padded"]]
        times = [measured.get(stage, ""), costs["seconds_per_epoch"].get(stage, "")]
        rows.append([name, float(count), *counted, *times])
    for key, name in (("ours", "branches and fusion"), ("bc_lstm", "branches and BC-LSTM")):
        rows.append([name, float(total[key])] + [""] * 6)
        rows.append([f"{name}, 6553 audio columns", float(total[f"{key}_with_6553_audio_features"])] + [""] * 6)
    text = rendered("table4", title=title_of(experiment, results), table=markdown_table(header, rows), costs=costs)
    write_page(path, text, header, rows)


def disagreement_page(experiment, results, path):
    """Table 5: disagreement counts, and average precision where raters disagree."""
    (system,) = experiment.systems
    task = results.task(system)
    scored = disagreement(PUBLISHED["table5"], task, results.predictions(system), results.draws(system))
    shares = task.shares[task.test]
    present = (shares[agreement_levels(shares)["tie"]] > 0).sum(axis=0)
    counts = results.scores(system)[0]["disagreement_counts"]
    parts = [
        [part, paper[0], counts[part]["utterances"], paper[1], counts[part]["ties"]]
        for part, paper in PUBLISHED["table5_counts"].items()
    ]
    with_it = [
        [name, int(count), 100 * float(count) / max(int(present.sum()), 1)]
        for name, count in zip(task.emotions, present, strict=True)
    ]
    write_scores(
        experiment,
        results,
        path,
        scored,
        counts=markdown_table(["", "utterances, paper", "utterances", "ties, paper", "ties"], parts),
        present=markdown_table(["", "tied test utterances with it", "share of all such votes, %"], with_it),
        chosen=results.rates and next(iter(results.rates["lines"].values()))["chosen"],
    )


def trials_page(experiment, results, path):
    """The lowest dev loss of each line within each number of epochs that was tried; no test session is scored."""
    header = ["", "epochs", "seeds", "mean lowest dev loss", "seed by seed", "kept epoch"]
    most = {line: results.runs(line.system.name)[0].settings.epochs for line in experiment.lines}
    digits, shown = [], []
    for line in experiment.lines:
        losses = results.dev_losses(line.system.name)
        for epochs in sorted({one for one in most.values() if one <= most[line]}):
            within = [one[:epochs] for one in losses]
            lowest, kept = [min(one) for one in within], [one.index(min(one)) + 1 for one in within]
            first = [line.name, epochs, len(within)]
            digits.append([*first, float(np.mean(lowest)), " ".join(map(str, lowest)), span(kept)])
            shown.append([*first, f"{np.mean(lowest):.4f}", ", ".join(f"{loss:.4f}" for loss in lowest), span(kept)])
    runs = [run for system in results.folders for run in results.runs(system)]
    text = rendered(
        experiment.template,
        title=title_of(experiment, results),
        table=markdown_table(header, shown),
        seeds=" ".join(map(str, sorted({run.settings.seed for run in runs}))),
        hardware=hardware(runs),
    )
    write_page(path, text, header, digits)


def beyond_page(experiment, results, path):
    """Scores that the paper does not have, mean and standard deviation over seeds."""
    header, digits, shown = ["", "seeds", *CONTENT["beyond"]], [], []
    for line in experiment.lines:
        per_seed = [seed["branches"][line.stage] if line.stage else seed for seed in results.scores(line.system.name)]
        means, sds = mean_and_sd([[_at(seed, keys) for keys in CONTENT["beyond"].values()] for seed in per_seed])
        digits.append([line.name, len(per_seed), *means])
        shown.append([line.name, len(per_seed), *(with_deviation(*pair, 3) for pair in zip(means, sds, strict=True))])
    text = rendered("beyond", title=title_of(experiment, results), table=markdown_table(header, shown))
    write_page(path, text, header, digits)


def _at(content, keys):
    """The number at "these.keys"; NaN where a part of the test session has no utterance."""
    for key in keys.split("."):
        content = content.get(key, {})
    return content if isinstance(content, float) else np.nan


def two_rates_page(experiment, results, path):
    """The lines at the paper's learning rate, as far as that was recorded, beside those at the rate that dev chose."""
    scored = scored_lines(experiment, results)
    about = {}
    if experiment.extras == ("peers",):
        scored, about = with_peers(experiment, results), about_peers(results)
    rows = rows_of(scored, experiment.scores, experiment.base)
    recorded, origin = recorded_rows(experiment.paper_of, path.parent, results.corpus.name)
    names = SCORES["accuracy"]
    both, differences = [], []
    for system in dict.fromkeys(row.system for row in rows):
        of_system = {row.score: row for row in rows if row.system == system}
        cells = [(recorded.get((system, name)), of_system[name]) for name in names]
        both.append([system, *(cell for old, new in cells for cell in (old and score_cell(old), our_cell(new)))])
        if system != experiment.base:
            differences.append([system, *(one and difference_cell(one) for pair in cells for one in pair)])
    header = ["", *(f"{name}, {rate}" for name in names for rate in ("paper's rate", "dev's rate"))]
    rates = results.rates["tried"]
    losses = [
        [name, *(None if loss is None else f"{loss:.5f}" for loss in map(one["dev_loss"].get, rates)), one["chosen"]]
        for name, one in results.rates["lines"].items()
    ]
    write_scores(
        experiment,
        results,
        path,
        scored,
        base=experiment.base,
        both=markdown_table(header, both),
        both_differences=markdown_table(header, differences),
        losses=markdown_table(["", *rates, "chosen"], losses),
        chosen=results.rates,
        absent=[name for name in results.rates["lines"] if name not in {line.name for line in experiment.lines}],
        origin=origin,
        **about,
    )


def recorded_rows(name, folder, corpus_name):
    """{(system, score): `Row`} at the paper's rate, and where they are from.

    They are of the folder's own NAME.csv, else of the project's results, whose runs are gone, of the same corpus. The
    table "variants" adds its rows.
    """
    for place, origin in ((folder, f"of {name}.csv in this folder"), (RECORDED, f"as recorded in results/{name}.csv")):
        page = place / f"{name}.md"
        if page.exists() and f", on {corpus_name}," in read_text(page).partition("\n")[0] + ",":
            paths = [place / f"{one}.csv" for one in ("variants", name)]
            return {(row.system, row.score): row for path in paths if path.exists() for row in read_rows(path)}, origin
    return {}, f"empty, since neither this folder nor results/ has {name}.csv of this corpus"
