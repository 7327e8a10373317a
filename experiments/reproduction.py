"""Does an experiment: plans its runs, makes what is missing, writes the tables. The work of reproduce.py."""

import dataclasses
import functools
import shutil
import time
from dataclasses import dataclass

import numpy as np

from data.task import Task
from experiments import baselines, pages
from experiments.catalogue import CONTENT, EXPERIMENTS, GRIDS, PLAIN_GRIDS, SYSTEMS, Experiment
from experiments.programs import Program, do_all, going_on
from experiments.rates import chosen_rates, lines_at
from experiments.results import Results
from experiments.runs import Place
from experiments.tuning import identity, other_in, results_in
from settings import Settings
from storage.files import InputError, made_folder, read_json, whole_json, write_json
from storage.runs import read_run


@dataclass(frozen=True)
class Reproduction:
    """One command of reproduce.py: an experiment at a place. `seeds` are all of it, `rates` those of --rates, or ()."""

    experiment: Experiment
    place: Place
    seeds: tuple
    rates: tuple = ()

    def planned(self, experiment):
        """The `runs.PlannedRun`s of an experiment with all seeds, in order of use.

        Raises:
            InputError: a folder holds another run, or the corpus is not the experiment's.
        """
        more = self.meld_options() if "meld" in experiment.extras else ()
        by_session = any("--test-session" in system.options for system in experiment.systems.values())
        if by_session and self.place.content.split is not None:
            raise InputError(f"{self.place.corpus}: has a split of its own, and {experiment.name} goes by sessions")
        return [
            self.place.run(system, seed, more, experiment.scored)
            for system in experiment.systems.values()
            for seed in self.seeds
        ]

    def with_givers(self, runs):
        """The runs, and before them those that give branches to them and are not among them."""
        there, givers = {run.folder for run in runs}, {}
        for run in runs:
            if run.giver and run.branches not in there:
                givers[run.branches] = self.place.run(SYSTEMS[run.giver], run.seed, scored=False)
        return [*givers.values(), *runs]

    def meld_options(self):
        """train.py's options for the modalities that the corpus has.

        Raises:
            InputError: it is not MELD.
        """
        corpus, emotions = self.place.content, {line.stage for line in self.experiment.lines if line.stage}
        if corpus.split is None or not emotions <= set(corpus.emotions):
            raise InputError(
                f"{self.place.corpus}: {self.experiment.name} needs MELD, with its own split"
                f"{' and ' * bool(emotions)}{', '.join(sorted(emotions))}; make it with 'python -m data.prepare meld'"
            )
        return () if corpus.audio_names else ("--modality", "text")

    def finished(self):
        """(experiment, runs) as far as they are there, for tables that need no training."""

        def refuse_unfinished(runs):
            for run in runs:
                if not run.trained():
                    raise InputError(f"{run.folder}: is not trained, and without it no rate can be chosen")

        experiment = self.at_rates(refuse_unfinished)
        return experiment, [
            run for run in self.planned(experiment) if run.trained() and (run.evaluated() or not run.scored)
        ]

    def at_rates(self, finish):
        """The experiment, with --rates at those that dev chose: they are written down."""
        if not self.rates:
            return self.experiment
        lines = (*self.experiment.lines, *self.experiment.rated)
        deciding = [line for line in lines if not line.stage]
        rates = chosen_rates(self.place, deciding, self.rates, self.seeds, finish)
        write_json(self.rates_path(), rates)
        return self.experiment.at_rates(lines_at(self.place, lines, rates["lines"]))

    def rates_path(self):
        return self.place.out / f"{self.experiment.name}-rates.json"

    def made(self, parallel):
        """(experiment, runs), all of it trained and scored, and what else the tables need.

        Raises:
            InputError: bad input, or a program that failed; the message has its last line.
            KeyboardInterrupt: a signal came; the programs have saved their state.
        """
        _ = self.place.content  # refuses a file that is no corpus, before anything is made
        made_folder(self.place.out / "logs")
        with going_on(self.place.out / "logs") as going:
            do = functools.partial(do_all, going=going, parallel=parallel)

            def finish(runs):
                runs = self.with_givers(runs)
                for wave in (False, True):  # those that take their branches from another run come second
                    do([run for run in runs if bool(run.giver) is wave and not run.done()])

            experiment = self.at_rates(finish)
            runs = self.planned(experiment)
            finish(runs)
            extras = experiment.extras
            do(self.tuning())
            if "costs" in extras and self.costs() is None:
                options = (runs[0].folder, "--corpus", self.place.corpus, "--out", self.place.out / "costs.json")
                do([Program("costs (Table 4)", self.place.log("costs"), ("-m", "experiments.costs"), options)])
            if "figures" in extras:
                do(self.figures(runs[0].folder))
        return experiment, runs

    def tuning(self):
        """Programs that tune and score the peers on the vectors of each full run, as far as that is not done."""
        out, epochs, names = self.place.out / "baselines", self.peer_epochs(), self.peer_names()
        options = ("--corpus", self.place.corpus, "--out", out, "--systems", *names)
        options += ("--epochs", epochs) if epochs else ()
        options += ("--glove", self.place.glove) if "plain-peers" in self.experiment.extras else ()
        return [
            Program(
                f"baselines seed {seed}",
                self.place.log(f"baselines-seed{seed}"),
                ("-m", "experiments.baselines"),
                (self.place.out / f"full-seed{seed}", "--seeds", seed, *options),
            )
            for seed in self.seeds
            if not all(self.peer_is_done(peer, seed) for peer in self.peer_names())
        ]

    def peer_names(self):
        """The peers that the experiment needs."""
        extras = self.experiment.extras
        return [*(GRIDS if "peers" in extras else ()), *(PLAIN_GRIDS if "plain-peers" in extras else ())]

    def peer_epochs(self):
        """The peers' --epochs, or None."""
        return 6 if self.place.quick else self.place.epochs

    def peers(self):
        """{peer: [result folder per seed]} of those that are done."""
        done = {peer: [seed for seed in self.seeds if self.peer_is_done(peer, seed)] for peer in self.peer_names()}
        folder = self.place.out / "baselines"
        return {peer: [folder / f"{peer}-seed{seed}" for seed in seeds] for peer, seeds in done.items() if seeds}

    def peer_is_done(self, peer, seed):
        """Whether its results are there, of the run and the corpus that are; experiments.baselines refuses others."""
        results = results_in(self.place.out / "baselines" / f"{peer}-seed{seed}")
        folder = self.place.out / f"full-seed{seed}"
        if results is None or not (folder / "run.json").exists():
            return False
        run, plain = read_run(folder), CONTENT["plain_peers"].get(peer)
        options = {"epochs": self.peer_epochs() or baselines.EPOCHS, "patience": baselines.PATIENCE}
        ties = plain["ties"] if plain else "other"
        own = identity(run, self.place.content, peer, ties, seed, **options)
        return other_in(results["protocol"], own) is None

    def costs(self):
        """The content of costs.json for this corpus; None where it is not there, or damaged."""
        costs = whole_json(self.place.out / "costs.json", "corpus_sha256", "parameters", "flops_per_sample", "devices")
        return costs if costs and costs["corpus_sha256"] == self.place.content.sha256 else None

    def figures(self, run):
        """Copies a run's figures; gives the program of Fig. 5 for the test context nearest to 25 utterances."""
        figures = made_folder(self.place.out / "figures")
        for path in [*run.glob("confusion_matrix.*"), *run.glob("training_curves.*")]:
            shutil.copyfile(path, figures / path.name)
        if (figures / "factors.pdf").exists():
            return []
        task = Task.of(self.place.content, Settings())
        rows, ids = task.split["test"], task.corpus.dialog_id
        lengths = np.array([row - task.dialogs[str(ids[row])].start + 1 for row in rows])
        utterance = task.corpus.utterance_id[rows[np.abs(lengths - 25).argmin()]]
        options = (run, "--corpus", self.place.corpus, "--out", figures, "--explain", utterance)
        return [Program("figures", self.place.log("figures"), ("evaluate.py",), options)]

    def write_tables(self, experiment, runs):
        """Writes the tables that have all of their runs; gives their names, and says which have not."""
        folders = {name: [run.folder for run in runs if run.system == name] for name in experiment.systems}
        costs, peers = self.costs(), self.peers()
        rates = read_json(self.rates_path()) if self.rates else None
        results, written = Results(folders, self.place.content, costs, peers, rates), []
        for name in experiment.tables:
            one = with_finished_lines(experiment, folders) if self.rates else EXPERIMENTS[name]
            own, missing = results, [system for system in one.systems if not folders[system]]
            missing += ["costs"] * ("costs" in one.extras and costs is None)
            if "epochs" in one.extras and not missing:
                kept = [path for path in folders["full"] if (path / "epochs.csv").exists()]
                own, missing = (
                    Results({"full": kept}, self.place.content),
                    [] if kept else ["full that kept its epochs"],
                )
            if missing:
                print(f"{name} is not written: nothing finished of {', '.join(missing)}")
                continue
            getattr(pages, one.page)(one, own, self.place.out / name)
            written.append(name)
        return written


def with_finished_lines(experiment, folders):
    """The experiment without the lines of which nothing is finished, as long as it has the one to compare with."""
    lines = tuple(line for line in experiment.lines if folders[line.system.name])
    there = {line.name for line in lines}
    return dataclasses.replace(experiment, lines=lines) if experiment.base in there else experiment


def reproduce(work, parallel=None):
    """Does all of a `Reproduction`.

    Args:
        work: the `Reproduction`.
        parallel: of `data.workers.parallel`; None to train nothing.

    Returns:
        The text to print.

    Raises:
        InputError, KeyboardInterrupt: as `Reproduction.made`, and where no table has all of its runs.
    """
    began, out = time.monotonic(), work.place.out
    experiment, runs = work.made(parallel) if parallel else work.finished()
    written = work.write_tables(experiment, runs)
    if not written:
        raise InputError(f"{out}: no table has all of its runs; without --finished they are made")
    lines = [f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes; in {out}:"]
    lines.append("  " + ", ".join(f"{name}.md" for name in written) + "; the same with all digits as .csv")
    if "figures" in experiment.extras and parallel:
        lines.append("  figures/: " + ", ".join(sorted(path.name for path in (out / "figures").iterdir())))
    return "\n".join([*lines, f"  one folder per run ({len(runs)}), each with its own scores and figures; logs/"])
