"""Makes a provided checkpoint from finished and evaluated runs that differ in the seed alone: weights and model card.

    python -m experiments.publish checkpoints/iemocap-causal runs/causal-seed0 runs/causal-seed1 ... --corpus iemocap.h5

Taken is the run with the median dev loss (of an even number the lower one), so that the checkpoint is neither a lucky
nor an unlucky seed; the card has the scores of all of them. Only what loading needs is copied: no transcript, vote,
feature or utterance id of the corpus, but the vocabulary. `card.md`, the text of the card, is about IEMOCAP.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from checkpoint import load_checkpoint, read_run, stages_of
from storage.files import InputError, read_json, sha256, write_json, write_text
from experiments.intervals import ANSWER_SCORES, answer_scores, interval, recognition, with_squared_error
from experiments.tables import Results

# What the card of the causal variant says of its inputs and members.
_OURS = """
- **Besides**, each feature's distance from the mean of the speaker so far, and four columns of timing
  (`causal.TIMING_NAMES`), so speakers and times are needed. Each branch is the mean of its cross-fitted members, the
  fusion that of two networks (the dev loss below is the first's), and rare emotions are corrected for their share in
  training."""
CARD_TEXTS = Path(__file__).parent / "card.md"
COPIED = ("vocabulary.json", "scaler.json", "results.json", "confusion_matrix.png")


def main():
    parser = argparse.ArgumentParser(description="Make a provided checkpoint and its model card from finished runs.")
    parser.add_argument("folder", type=Path, help="of the checkpoint; one that is there is replaced")
    parser.add_argument("runs", type=Path, nargs="+", help="finished and evaluated run folders, one per seed")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus file of the runs")
    parser.add_argument("--note", default="", help="a sentence for the card, about the word vectors used, say")
    arguments = parser.parse_args()
    try:
        publish(arguments.folder, arguments.runs, arguments.corpus, arguments.note)
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; nothing is lost", file=sys.stderr)
        sys.exit(130)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir()) / 1e6
    print(f"{arguments.folder}: {size:.1f} MB")
    print(f"check it: python evaluate.py {arguments.folder} --corpus {arguments.corpus} --out runs/check")


def publish(folder, run_folders, corpus_path, note=""):
    """Writes the checkpoint's folder, anew.

    Raises:
        InputError: a run is not finished or not evaluated, the runs differ in more than the seed, or the folder is
            there and no checkpoint.
    """
    if folder.exists() and (not (folder / "README.md").exists() or not (folder / "run.json").exists()):
        raise InputError(f"{folder}: is there and no provided checkpoint; choose another folder")
    runs = [read_run(one) for one in run_folders]
    for one, run in zip(run_folders, runs, strict=True):
        differing = [
            key for key in run["settings"] if key != "seed" and run["settings"][key] != runs[0]["settings"][key]
        ]
        if differing or run["corpus"]["sha256"] != runs[0]["corpus"]["sha256"]:
            raise InputError(f"{one}: differs from {run_folders[0]} in {', '.join(differing) or 'the corpus'}")
        if missing := [stage for stage in stages_of(run["settings"]) if stage not in run["stages"]]:
            raise InputError(f"{one}: is not finished ({missing[0]} is not trained)")
        if not (one / "predictions.csv").exists() or not (one / "results.json").exists():
            raise InputError(f"{one}: is not evaluated; run 'python evaluate.py {one}'")
        weights = {name: digest for name, digest in run["files"].items() if name.endswith(".weights.h5")}
        if read_json(one / "results.json")["protocol"]["weights_sha256"] != weights:
            raise InputError(f"{one}: was evaluated with other weights; run 'python evaluate.py {one}'")
    if sha256(corpus_path) != runs[0]["corpus"]["sha256"]:
        raise InputError(f"{corpus_path}: is not the corpus file that the runs were trained on (SHA-256 differs)")
    losses = [run["stages"][_decisive(run)]["best_dev_loss"] for run in runs]
    chosen = int(np.argsort(losses)[(len(losses) - 1) // 2])
    source, run = run_folders[chosen], runs[chosen]
    load_checkpoint(source)  # is whole
    kept = [stage for stage in stages_of(run["settings"]) if not stage.endswith("-start")]
    files = [f"{stage}.weights.h5" for stage in kept] + [file for file in COPIED if (source / file).exists()]
    run["files"] = {file: sha256(source / file) for file in files}
    run["corpus"]["path"] = Path(run["corpus"]["path"]).name
    if run["glove"]:
        run["glove"]["path"] = Path(run["glove"]["path"]).name
    run["branches"] = None
    for stage in run["stages"].values():
        stage.pop("taken_from", None)
    text = card(folder.name, note, run_folders, runs, chosen, corpus_path)
    new = folder.with_name(f".{folder.name}.new")  # beside it, so that nothing is lost if anything fails
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for file in files:
        shutil.copyfile(source / file, new / file)
    write_json(new / "run.json", run)
    write_text(new / "README.md", f"{text}    {sha256(new / 'run.json')}  run.json\n")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _decisive(run):
    """The stage whose dev loss chooses among the seeds: the fusion, or the one branch of a run."""
    return "fusion" if "fusion" in run["stages"] else stages_of(run["settings"])[-1]


def card(name, note, run_folders, runs, chosen, corpus_path):
    """The model card: `card.md` with the numbers of the runs filled in."""
    run, results = runs[chosen], read_json(run_folders[chosen] / "results.json")
    seeds = [one["settings"]["seed"] for one in runs]
    table = Results({"system": run_folders}, corpus_path)
    rows, shares, predictions = table.predictions("system")
    draws = table.draws(rows)
    systems = {}
    for label, members in (
        (f"this checkpoint, seed {seeds[chosen]}", [predictions[chosen]]),
        ("all seeds", predictions),
    ):
        scored = recognition(label, (), shares, members, draws, table.corpus.emotions, answer_scores)
        systems[label] = with_squared_error(scored, shares, members, draws)
    lines = ["| | " + " | ".join(ANSWER_SCORES) + " |", "|---" * (len(ANSWER_SCORES) + 1) + "|"]
    for label, system in systems.items():
        cells = []
        for m in range(len(ANSWER_SCORES)):
            values, ends = system.per_seed[:, m], interval(system.draws[:, m])
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.1f}{spread} [{ends[0]:.1f}, {ends[1]:.1f}]")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    accuracies = [
        f"{seed}: {value:.1f}" for seed, value in zip(seeds, systems["all seeds"].per_seed[:, 0], strict=True)
    ]
    lines += ["", f"Accuracy of each seed: {', '.join(accuracies)}. The dev loss alone chose among them."]
    emotions = results["emotions"]
    matrix = ["| | " + " | ".join(emotions) + " |", "|---" * (len(emotions) + 1) + "|"]
    matrix += [
        f"| {name_} | " + " | ".join(map(str, row)) + " |"
        for name_, row in zip(emotions, results["confusion_matrix"], strict=True)
    ]
    settings = run["settings"]
    text = CARD_TEXTS.read_text(encoding="utf-8")
    values = {
        "name": name,
        "note": note,
        "variant": settings["variant"],
        "corpus": run["corpus"]["name"],
        "train": " ".join(map(str, settings["train_sessions"])),
        "dev": settings["dev_session"],
        "choice": "epoch and settings" if settings["variant"] == "causal" else "the epoch",
        "test": settings["test_session"],
        "feature_set": run["corpus"]["audio_feature_set"],
        "num_features": run["corpus"]["num_audio_features"],
        "ours": _OURS if settings["variant"] == "causal" else "",
        "seed": settings["seed"],
        "seeds": " ".join(map(str, seeds)),
        "dev_losses": ", ".join(
            f"{one['settings']['seed']}: {one['stages'][_decisive(one)]['best_dev_loss']:.5f}" for one in runs
        ),
        "epochs": ", ".join(f"{stage} {s['best_epoch']} of {s['epochs']}" for stage, s in run["stages"].items()),
        "minutes": f"{sum(stage['seconds'] for stage in run['stages'].values()) / 60:.0f}",
        "hardware": f"{run['machine']}, {' '.join(run['devices'])}, {run['backend']}",
        "software": ", ".join(f"{package} {number}" for package, number in run["software"].items()),
        "scores": "\n".join(lines),
        "accuracy_10": f"{results['accuracy_10']:.4f}",
        "matrix": "\n".join(matrix),
        "settings": json.dumps(settings),
        "hashes": "\n".join(f"    {digest}  {file}" for file, digest in run["files"].items()),
    }
    for key, value in values.items():
        text = text.replace("{" + key + "}", str(value))
    return text


if __name__ == "__main__":
    main()
