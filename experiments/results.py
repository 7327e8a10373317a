"""What finished runs have to say, for the tables: predictions, scores, and how they were trained."""

import csv
import functools
import io
from pathlib import Path

import numpy as np

from data.task import Task
from experiments.intervals import recognition
from scoring.draws import draws_of
from storage.files import InputError, named, read_json
from storage.runs import read_history, read_run


class Results:
    """Finished and scored runs.

    Args:
        folders: {system: [run folder per seed]}.
        corpus: the `data.corpus.Corpus` of all runs.
        costs: content of costs.json, for Table 4 alone.
        peers: {peer: [result folder of experiments.baselines per seed]}, for Table 1 alone.
        rates: content of rates.json, for --rates alone.
    """

    def __init__(self, folders, corpus, costs=None, peers=None, rates=None):
        self.folders, self.costs, self.peers, self.rates = folders, costs, peers or {}, rates
        self.corpus, self._tasks = corpus, {}

    @functools.cache  # noqa: B019 (a program's few results live as long as it does)
    def runs(self, system):
        """The `storage.runs.Run` of each seed."""
        return [read_run(folder) for folder in self.folders[system]]

    def scores(self, system):
        """The content of results.json of each seed."""
        return [read_json(folder / "results.json") for folder in self._folders(system)]

    def _folders(self, system):
        return self.peers[system] if system in self.peers else self.folders[system]

    def task(self, system):
        """The `data.task.Task` of a system, whatever the seed."""
        known = system  # peers have the table's own task
        if system in self.peers:
            known = next(name for name, folders in self.folders.items() if folders)
        settings = self.runs(known)[0].settings.model_copy(update={"seed": 0})
        if settings not in self._tasks:
            self._tasks[settings] = Task.of(self.corpus, settings)
        return self._tasks[settings]

    def predictions(self, system, stage=""):
        """(n, C) predictions for the test utterances, one per seed, of a stage or (by default) of the whole.

        Raises:
            InputError: a file is missing, damaged, or of other utterances.
        """
        task, found = self.task(system), []
        for folder in self._folders(system):
            path = folder / (f"predictions_{stage}.csv" if stage else "predictions.csv")
            with named(path, advice="; evaluate the run again"):
                text = path.read_text(encoding="utf-8", errors="replace")
            header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
            if header != ["utterance_id", *task.emotions] or not text.endswith("\n"):  # cut in a number, it looks whole
                raise InputError(f"{path}: is cut off, or of other emotions; evaluate the run again")
            if [row[:1] for row in rows] != [[one] for one in task.corpus.utterance_id[task.test].tolist()]:
                raise InputError(f"{path}: is not of the run's test utterances; evaluate the run again")
            try:
                found.append(np.array([row[1:] for row in rows], "float32").reshape(-1, len(task.emotions)))
            except ValueError as error:
                raise InputError(f"{path}: a row is damaged or cut off; evaluate the run again") from error
            if not np.isfinite(found[-1]).all():
                raise InputError(f"{path}: a share is no number; evaluate the run again")
        return found

    def dev_losses(self, system):
        """The dev loss of each epoch of the whole network, one list per seed."""
        runs = zip(self._folders(system), self.runs(system), strict=True)
        return [
            [row.dev_loss for row in read_history(folder, run) if row.stage == list(run.stages)[-1]]
            for folder, run in runs
        ]

    def draws(self, system):
        """`scoring.draws.draws_of` its task."""
        return draws_of(self.task(system))

    def recognition(self, name, paper, system, stage="", kind="groups"):
        """`intervals.Scored` of a stage of a system."""
        return recognition(name, paper, self.task(system), self.predictions(system, stage), self.draws(system), kind)

    def training(self, systems):
        """How these systems were trained, as texts for templates: of each stage epochs, kept epoch, lowest dev loss."""
        found = []
        for system in systems:
            runs = self.runs(system)
            stages = {name: [run.stages[name] for run in runs] for name in runs[0].stages}
            source = next((Path(each[0].taken_from).name for each in stages.values() if each[0].taken_from), "")
            one = {
                "system": system,
                "seeds": " ".join(str(run.settings.seed) for run in runs),
                "minutes": float(np.mean([run.own_seconds for run in runs])) / 60,
                "taken": [name for name, each in stages.items() if each[0].taken_from],
                "source": source.removesuffix(f"-seed{runs[0].settings.seed}"),
                "source_hardware": hardware_of_givers(runs),
                "epochs": {name: span([stage.epochs for stage in each]) for name, each in stages.items()},
                "kept": {name: span([stage.best_epoch for stage in each]) for name, each in stages.items()},
                "dev_loss": {
                    name: f"{np.mean([stage.best_dev_loss for stage in each]):.4f}" for name, each in stages.items()
                },
                "encoder": encoder_of(runs[0]),
                "reads": f"{runs[0].settings.modality}, words of {runs[0].settings.words}"
                + (" and marks" if runs[0].settings.marks else ""),
                "hardware": hardware(runs),
            }
            found.append(one)
        return found


def encoder_of(run):
    """The encoder that a run reads words through, in words; "" of none."""
    encoder = run.corpus.text_encoder if run.settings.words in ("encoder", "both") else None
    return f"{encoder.name}, layers {' '.join(map(str, encoder.layers))}" if encoder else ""


def hardware(runs):
    """What the runs were trained on, each machine once."""
    return " or ".join(dict.fromkeys(f"{run.machine}, {' '.join(run.devices)}, {run.backend}" for run in runs))


def hardware_of_givers(runs):
    """What those were trained on whose stages the runs took over; "" of none."""
    givers = [Path(run.branches) for run in runs if run.branches]
    if not all((giver / "run.json").exists() for giver in givers):
        return "a machine that is no longer known"
    return hardware([read_run(giver) for giver in givers])


def span(numbers):
    """The smallest and the largest of several numbers, as text."""
    return f"{min(numbers)} to {max(numbers)}" if len(set(numbers)) > 1 else f"{numbers[0]}"
