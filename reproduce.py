"""The paper's tables with one command: trains and evaluates what they need, and writes them beside ours.

    python reproduce.py all --corpus iemocap.h5 --glove glove.6B.200d.txt
    python reproduce.py table3 --corpus iemocap.h5 --glove glove.6B.200d.txt --seeds 0
    python reproduce.py table2 --corpus meld.h5 --glove glove.6B.200d.txt   # another corpus, hence not in `all`
    python reproduce.py all --quick                    # the made-up miniature corpus, a few minutes

What is finished is kept and what is half done goes on: the same command can be stopped and given again. Text and
audio branch are trained once per seed and shared by the runs that differ in the fusion alone.

    python reproduce.py causal --corpus iemocap.h5 --glove glove.6B.200d.txt   # our own variant, and what adds what
"""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import train
from storage.files import InputError, made_folder, read_json, sha256

SCRIPTS = Path(__file__).parent
SESSIONS = (1, 2, 3, 4, 5)
FOLDS = tuple(f"fold-{session}" for session in SESSIONS)
# Options of train.py that make each system; those in FUSION_ONLY take their branches from "full".
SYSTEMS = {
    "full": ("--keep-epochs",),
    "categorical": ("--targets", "categorical"),
    "no-context": ("--no-context",),
    "no-factor": ("--factor", "none"),
    "paper": ("--variant", "paper"),
    "rate-3e-4": ("--learning-rate", "3e-4"),
    "rate-1e-3": ("--learning-rate", "1e-3"),
    "rate-3e-4-no-context": ("--learning-rate", "3e-4", "--no-context"),
    "rate-3e-4-no-factor": ("--learning-rate", "3e-4", "--factor", "none"),
}
# The same for the causal variant; its branches come from "causal".
CAUSAL_SYSTEMS = {
    "causal": (),
    "causal-no-factor": ("--factor", "none"),
    "causal-no-context": ("--no-context",),
    "causal-text": ("--modality", "text"),
    "causal-audio": ("--modality", "audio"),
}
RATES = tuple(system for system in SYSTEMS if system.startswith("rate-"))
FUSION_ONLY = ("no-context", "no-factor", "paper", *RATES, *list(CAUSAL_SYSTEMS)[1:])
CAUSAL_FOLDS = tuple(f"causal-{fold}" for fold in FOLDS)
# Table 2: one binary network for each emotion and each reading of which part of MELD is the test.
MELD_EMOTIONS = ("anger", "joy", "neutral", "sadness", "surprise")
MELD_SYSTEMS = {
    f"meld-{split}-{emotion}": ("--split", split, "--emotion", emotion)
    for split in ("official", "paper")
    for emotion in MELD_EMOTIONS
}
TABLES = {
    "table1": ("full", "categorical"),
    "table3": ("full", "no-context", "no-factor"),
    "table4": ("full",),
    "table5": ("full",),
}
EXPERIMENTS = TABLES | {
    "all": ("full", "no-context", "no-factor", "categorical"),
    "epochs": ("full",),
    "variants": ("full", "paper"),
    "rates": ("full", *RATES),
    "folds": FOLDS,
    "causal": ("causal", "causal-no-factor", "causal-no-context"),
    "causal-modalities": ("causal", "causal-text", "causal-audio"),
    "causal-folds": CAUSAL_FOLDS,
    "table2": tuple(MELD_SYSTEMS),
}
# Smaller than train.py's own settings for the miniature corpus, so that `all` ends in minutes.
QUICK = {"epochs": 6, "batch_size": 16, "learning_rate": 1e-3}
QUICK_SEEDS, PAPER_SEEDS = (0, 1), (0, 1, 2, 3, 4)


def main():
    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup wants hang-ups ignored
            signal.signal(number, signal.default_int_handler)
    try:
        reproduce(arguments)
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped, nothing is lost; go on with the same command", file=sys.stderr)
        sys.exit(130)


def parse_arguments(argv=None):
    """The command line, with the defaults that depend on others filled in."""
    parser = argparse.ArgumentParser(description="Train and evaluate what the paper's tables need, and write them.")
    parser.add_argument(
        "experiment",
        choices=EXPERIMENTS,
        help="which; epochs: the epoch chosen on dev or on the test session; variants: the released network and Figure "
        "4's; rates: the fusion at 3 and 10 times the learning rate, at 3 times without context or factor, too; folds: "
        "each session is the test session once; table2 needs MELD, so `all` leaves it out; causal and causal-...: our "
        "own variant. `all` has no variants, rates, folds or causal ones",
    )
    parser.add_argument("--corpus", type=Path, help="corpus file of data.prepare")
    parser.add_argument("--glove", type=Path, help="GloVe text file (default: word vectors start random)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: 0 1 2 3 4; with --quick 0 1")
    parser.add_argument("--epochs", type=int, metavar="N", help="most epochs of each stage (default: train.py's)")
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop a stage after N epochs without a lower dev loss (default: never)",
    )
    parser.add_argument("--out", type=Path, help="folder for runs, tables, figures (default: runs/reproduce-CORPUS)")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at the same time (default: 1; with --quick one per core)"
    )
    parser.add_argument("--quick", action="store_true", help="the made-up miniature corpus, few epochs, two seeds")
    parser.add_argument(
        "--finished",
        action="store_true",
        help="train nothing: write the tables of the runs that are finished, of each system the seeds that are there",
    )
    arguments = parser.parse_args(argv)
    if arguments.quick == bool(arguments.corpus):
        parser.error("give either --corpus FILE or --quick")
    if arguments.quick and arguments.experiment == "table2":
        parser.error("table2 needs --corpus with MELD: the miniature corpus has other emotions")
    if arguments.jobs is None:
        arguments.jobs = len(os.sched_getaffinity(0)) if arguments.quick else 1
    if arguments.jobs < 1:
        parser.error("--jobs must be positive")
    arguments.seeds = list(dict.fromkeys(arguments.seeds or (QUICK_SEEDS if arguments.quick else PAPER_SEEDS)))
    name = "quick" if arguments.quick else arguments.corpus.stem
    arguments.out = arguments.out or Path("runs") / f"reproduce-{name}"
    return arguments


def reproduce(arguments):
    """Does all of it and prints where the files are.

    Raises:
        InputError: bad input, or a run that failed; the message has its last line.
        KeyboardInterrupt: a signal came; running programs have saved their state.
    """
    began = time.monotonic()
    corpus_path = train.miniature_corpus() if arguments.quick else arguments.corpus
    corpus_sha256 = sha256(corpus_path)
    plan = planned_runs(arguments, corpus_path)
    for run in plan:
        run.check(corpus_sha256)
    costs = None
    if arguments.finished:
        plan = [run for run in plan if run.trained() and run.evaluated()]
        if arguments.experiment in ("table4", "all"):
            costs = finished_costs(arguments, corpus_sha256)
    else:
        made_folder(arguments.out / "logs")
        costs = train_and_measure(arguments, corpus_path, corpus_sha256, plan)
    peers = finished_baselines(arguments) if arguments.experiment in ("table1", "all") else {}
    from experiments.tables import WRITERS, Results

    systems = EXPERIMENTS[arguments.experiment]
    folders = {system: [run.folder for run in plan if run.system == system] for system in systems}
    results = Results(folders, corpus_path, costs, peers)
    with_epochs = [folder for folder in folders.get("full", ()) if (folder / "epochs.csv").exists()]
    names = [*TABLES, "epochs", "beyond"] if arguments.experiment == "all" else [arguments.experiment]
    written = []
    for name in names:
        missing = [system for system in EXPERIMENTS.get(name, systems) if not folders[system]]
        missing += ["costs"] * (name == "table4" and costs is None)
        missing += ["full that kept its epochs"] * (name == "epochs" and not with_epochs)
        if missing:
            print(f"{name} is not written: nothing finished of {', '.join(missing)}")
            continue
        one = Results({"full": with_epochs}, corpus_path) if name == "epochs" else results
        WRITERS[name](one, arguments.out / name)
        written.append(f"{name}.md")
    if not written:
        raise InputError(f"{arguments.out}: no table has all of its runs; without --finished they are made")
    print(f"\ndone in {(time.monotonic() - began) / 60:.1f} minutes; in {arguments.out}:")
    print("  " + ", ".join(written) + "; the same with all digits as .csv")
    if arguments.experiment == "all" and not arguments.finished:
        print("  figures/: " + ", ".join(sorted(path.name for path in (arguments.out / "figures").iterdir())))
    print(f"  one folder per run ({len(plan)}), each with its own scores and figures; logs/")


def train_and_measure(arguments, corpus_path, corpus_sha256, plan):
    """Makes what the tables need, as far as it is not there; gives the content of costs.json, or None."""
    programs, costs = Programs(), None
    try:
        for wave in (False, True):  # those that take their branches from another run come second
            do_all([(run.finish, (programs,)) for run in plan if bool(run.branches) is wave], arguments.jobs, programs)
        if arguments.experiment in ("table1", "all"):
            tune_baselines(arguments, corpus_path, [run for run in plan if run.system == "full"], programs)
        if arguments.experiment in ("table4", "all"):
            costs = measured_costs(arguments, corpus_path, corpus_sha256, plan[0], programs)
        if arguments.experiment == "all":
            draw_figures(arguments, corpus_path, plan[0], programs)
    except BaseException:
        programs.stop()
        raise
    return costs


@dataclass(frozen=True)
class Run:
    """One training run: its system and seed, its folder, and the command line that trains it.

    `options` are all of train.py's but --run and --branches; `branches` is the folder it takes its branches from, or
    None.
    """

    system: str
    seed: int
    folder: Path
    options: tuple
    branches: Path | None
    log: Path

    def check(self, corpus_sha256):
        """Refuses a folder that holds another run than this one.

        Raises:
            InputError: says what differs.
        """
        if not (self.folder / "run.json").exists():
            return
        from checkpoint import read_run

        run = read_run(self.folder)
        if run["corpus"].get("sha256") != corpus_sha256:
            raise InputError(f"{self.folder}: was trained on another corpus file; choose another --out")
        settings = train.parse_arguments(self.options)[1]
        wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
        for name, value in wanted.items():
            found = run["settings"].get(name)
            if found != value:
                raise InputError(f"{self.folder}: was trained with {name} {found}, not {value}; choose another --out")
        glove = train.parse_arguments(self.options)[0].glove
        if (run.get("glove") or {}).get("sha256") != (sha256(glove) if glove else None):
            raise InputError(f"{self.folder}: was trained with another GloVe file; choose another --out")

    def finish(self, programs):
        """Trains and evaluates, as far as that is not done."""
        corpus = train.parse_arguments(self.options)[0].corpus
        if not self.trained():
            branches = ("--branches", self.branches) if self.branches else ()
            if (self.folder / "run.json").exists():
                arguments = ("--run", self.folder, "--resume")
            else:
                for leftover in self.folder.glob(".*"):  # killed before it began
                    leftover.unlink()
                arguments = (*self.options, "--run", self.folder, *branches)
            programs.run(f"{self.system} seed {self.seed}: training", self.log, "train.py", *arguments)
        if not self.evaluated():
            name = f"{self.system} seed {self.seed}: evaluating"
            programs.run(name, self.log, "evaluate.py", self.folder, "--corpus", corpus)
        if (self.folder / "epochs").is_dir() and not (self.folder / "epochs.csv").exists():
            name = f"{self.system} seed {self.seed}: evaluating each epoch"
            programs.run(name, self.log, "evaluate.py", self.folder, "--corpus", corpus, "--epochs")

    def trained(self):
        """Whether all stages are there."""
        from checkpoint import read_run, stages_of

        if not (self.folder / "run.json").exists():
            return False
        run = read_run(self.folder)
        return all(stage in run["stages"] for stage in stages_of(run["settings"]))

    def evaluated(self):
        """Whether results.json has all that the tables need, from the weights that are there."""
        from checkpoint import read_run, stages_of

        if not (self.folder / "run.json").exists():
            return False
        run = read_run(self.folder)
        names = ["results.json", "predictions.csv"]
        branches = dict.fromkeys(stage.split("-")[0] for stage in stages_of(run["settings"]))
        names += [f"predictions_{branch}.csv" for branch in list(branches)[:-1]]
        if not all((self.folder / name).exists() for name in names):
            return False
        results, files = read_json(self.folder / "results.json"), run["files"]
        weights = {name: digest for name, digest in files.items() if name.endswith(".weights.h5")}
        return "calibration" in results and results["protocol"]["weights_sha256"] == weights


def planned_runs(arguments, corpus_path):
    """The `Run`s that the experiment needs, in order of use."""
    settings = ["--corpus", str(corpus_path)] + (["--glove", str(arguments.glove)] if arguments.glove else [])
    quick = QUICK if arguments.quick else {}
    is_causal = arguments.experiment.startswith("causal")
    if is_causal:  # its batches are of dialogs
        quick = {name: value for name, value in quick.items() if name == "epochs"}
    given = {name: getattr(arguments, name) for name in ("epochs", "patience") if getattr(arguments, name) is not None}
    for name, value in (quick | given).items():
        settings += [f"--{name.replace('_', '-')}", str(value)]
    if arguments.experiment == "table2":
        settings += meld_options(corpus_path)
    plan = []
    for system in EXPERIMENTS[arguments.experiment]:
        for seed in arguments.seeds:
            name = f"{system}-seed{seed}"
            own = fold_options(system) or (SYSTEMS | CAUSAL_SYSTEMS | MELD_SYSTEMS)[system]
            options = (*settings, *(("--variant", "causal") if is_causal else ()), *own, "--seed", str(seed))
            full = f"{'causal' if is_causal else 'full'}-seed{seed}"
            branches = arguments.out / full if system in FUSION_ONLY else None
            log = arguments.out / "logs" / f"{name}.txt"
            plan.append(Run(system, seed, arguments.out / name, options, branches, log))
    return plan


def meld_options(corpus_path):
    """train.py's options for the modalities that the corpus has.

    Raises:
        InputError: it is not MELD.
    """
    from data.corpus import read_corpus

    corpus = read_corpus(corpus_path)
    if corpus.split is None or not set(MELD_EMOTIONS) <= set(corpus.emotions):
        raise InputError(
            f"{corpus_path}: table2 needs MELD, with its own split and {', '.join(MELD_EMOTIONS)}; "
            "make it with 'python -m data.prepare meld'"
        )
    return [] if corpus.audio_names else ["--modality", "text"]


def fold_options(system):
    """train.py's sessions for "fold-K", "causal-fold-K": test on K, dev on the next, train on the rest; else ()."""
    if system.removeprefix("causal-") not in FOLDS:
        return ()
    test = FOLDS.index(system.removeprefix("causal-")) + 1
    dev = test % len(SESSIONS) + 1
    rest = [str(session) for session in SESSIONS if session not in (test, dev)]
    return ("--train-sessions", *rest, "--dev-session", str(dev), "--test-session", str(test))


class Programs:
    """The programs that are running, so that all can be stopped."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = set()
        self.stopping = False

    def run(self, what, log, script, *arguments):
        """Runs a script of the project with its output in `log`; says so on the terminal.

        Raises:
            InputError: it failed.
        """
        # Unbuffered, so that the log grows as the program works and its lines stand in their order.
        command = [sys.executable, "-u", str(SCRIPTS / script), *map(str, arguments)]
        began = time.monotonic()
        with open(log, "a", encoding="utf-8") as file:
            print(f"\n$ {' '.join(command[2:])}", file=file, flush=True)
            with self.lock:
                if self.stopping:
                    return
                process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
                self.running.add(process)
            print(f"{time.strftime('%H:%M:%S')}  {what} (output in {log})", flush=True)
            status = process.wait()
        with self.lock:
            self.running.discard(process)
        if self.stopping:
            return
        if status:
            last = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-1]
            raise InputError(f"{what} failed: {last.removeprefix('error: ')} (all of it in {log})")
        print(f"{time.strftime('%H:%M:%S')}  {what}: {(time.monotonic() - began) / 60:.1f} min", flush=True)

    def stop(self):
        """Asks all programs to end and waits for them: train.py saves its state first."""
        with self.lock:
            self.stopping = True
            running = list(self.running)
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def do_all(tasks, jobs, programs):
    """Calls (function, arguments) pairs, `jobs` at a time; the first failure stops the others and is raised."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in tasks]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            programs.stop()
            raise


def tune_baselines(arguments, corpus_path, runs, programs):
    """Tunes and scores the systems of baselines.py on the vectors of each run."""
    from experiments.baselines import GRIDS

    epochs = baseline_epochs(arguments)
    options = ("--corpus", corpus_path, "--out", arguments.out / "baselines")
    options += ("--epochs", epochs) if epochs else ()
    tasks = []
    for run in runs:
        if all(peer_is_done(arguments, system, run.seed) for system in GRIDS):
            continue
        log = arguments.out / "logs" / f"baselines-seed{run.seed}.txt"
        program = (f"baselines seed {run.seed}", log, "baselines.py", run.folder, "--seeds", run.seed, *options)
        tasks.append((programs.run, program))
    do_all(tasks, arguments.jobs, programs)


def baseline_epochs(arguments):
    """The baselines' --epochs, or None."""
    return QUICK["epochs"] if arguments.quick else arguments.epochs


def finished_baselines(arguments):
    """{system: [folder per seed]} of the baselines that are done."""
    from experiments.baselines import GRIDS

    done = {system: [s for s in arguments.seeds if peer_is_done(arguments, system, s)] for system in GRIDS}
    return {system: [peer_folder(arguments, system, s) for s in seeds] for system, seeds in done.items() if seeds}


def peer_folder(arguments, system, seed):
    """Where baselines.py puts a system's results."""
    return arguments.out / "baselines" / f"{system}-seed{seed}"


def peer_is_done(arguments, system, seed):
    """Whether a baseline's results are there, from the branches that are there; baselines.py refuses other ones."""
    folder, run = peer_folder(arguments, system, seed), arguments.out / f"full-seed{seed}" / "run.json"
    if not (folder / "results.json").exists() or not run.exists():
        return False
    protocol, files = read_json(folder / "results.json")["protocol"], read_json(run)["files"]
    same = all(files.get(name) == digest for name, digest in protocol["branches_sha256"].items())
    epochs = baseline_epochs(arguments)
    return same and (epochs is None or protocol.get("epochs", epochs) == epochs)


def measured_costs(arguments, corpus_path, corpus_sha256, run, programs):
    """Counts and times the networks of a run, once; gives the content of costs.json."""
    if finished_costs(arguments, corpus_sha256) is None:
        out, log = arguments.out / "costs.json", arguments.out / "logs" / "costs.txt"
        programs.run("costs (Table 4)", log, "costs.py", run.folder, "--corpus", corpus_path, "--out", out)
    return finished_costs(arguments, corpus_sha256)


def finished_costs(arguments, corpus_sha256):
    """The content of costs.json for this corpus, or None."""
    path = arguments.out / "costs.json"
    costs = read_json(path) if path.exists() else None
    return costs if costs and costs["corpus_sha256"] == corpus_sha256 else None


def draw_figures(arguments, corpus_path, run, programs):
    """Figures of a run; Fig. 5 for the test utterance whose context is nearest to 25 utterances."""
    figures = arguments.out / "figures"
    figures.mkdir(exist_ok=True)
    for path in [*run.folder.glob("confusion_matrix.*"), *run.folder.glob("training_curves.*")]:
        shutil.copyfile(path, figures / path.name)
    if not (figures / "factors.pdf").exists():
        from data.corpus import dialog_slices, read_corpus
        from data.labels import split_of

        corpus = read_corpus(corpus_path)
        starts = {dialog: rows.start for dialog, rows in dialog_slices(corpus.dialog_id).items()}
        rows = split_of(corpus, vars(train.Settings()))["test"]
        lengths = np.array([row - starts[corpus.dialog_id[row]] + 1 for row in rows])
        utterance = corpus.utterance_id[rows[np.abs(lengths - 25).argmin()]]
        log = arguments.out / "logs" / "figures.txt"
        options = ("--corpus", corpus_path, "--out", figures, "--explain", utterance)
        programs.run("figures", log, "evaluate.py", run.folder, *options)


if __name__ == "__main__":
    main()
