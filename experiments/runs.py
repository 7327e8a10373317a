"""The runs of an experiment: planned from its systems, checked against what is there, trained and scored."""

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path

import train
from data.corpus import read_corpus
from experiments.programs import Program, held, run_logged
from scoring.evaluation import read_epochs
from settings import Settings
from storage.files import InputError, sha256, whole_json
from storage.runs import is_free, read_run
from systems import system_of


def difference(one, other, but=()):
    """The first setting that differs between two `Settings`, None if none does; the names `but` may."""
    names = (name for name in Settings.model_fields if name not in but)
    return next((name for name in names if getattr(one, name) != getattr(other, name)), None)


def check_same_but_seed(folders, corpus_path):
    """The `storage.runs.Run`s of folders that may stand in one line of a table.

    Raises:
        InputError: they differ in more than the seed, two have the same, or the corpus file is not theirs.
    """
    runs = [read_run(folder) for folder in folders]
    seeds = [run.settings.seed for run in runs]
    for folder, run in zip(folders, runs, strict=True):
        if seeds.count(run.settings.seed) > 1:
            raise InputError(f"{folder}: is not the only run of seed {run.settings.seed}; each seed counts once")
        other = difference(run.settings, runs[0].settings, but=("seed",))
        other = other or ("the corpus" if run.corpus.sha256 != runs[0].corpus.sha256 else None)
        if other or run.glove_sha256 != runs[0].glove_sha256:
            raise InputError(f"{folder}: differs from {folders[0]} in {other or 'the GloVe file'}")
    if sha256(corpus_path) != runs[0].corpus.sha256:
        raise InputError(f"{corpus_path}: is not the corpus file that the runs were trained on (SHA-256 differs)")
    return runs


def is_evaluated(folder, run):
    """Whether the results in a run's folder have all that tables need, from the weights that are there."""
    parts = ("calibration", "protocol", "branches", "disagreement_counts")
    results = whole_json(folder / "results.json", *parts)
    if not results or not all(isinstance(results[name], dict) for name in parts):
        return False
    names = ["predictions", *(f"predictions_{name}" for name in results["branches"])]
    there = all((folder / f"{name}.csv").exists() for name in names)
    return there and results["protocol"].get("weights_sha256") == run.weights()


@dataclass(frozen=True)
class PlannedRun:
    """A training run, whether it is there or not.

    `settings` and `stages` (their names, in training order) are what train.py makes of `options`, which lack --run and
    --branches; `giver` is the system whose run of the same seed gives its branches, or None. `scored` says whether its
    test session may be scored; `glove` is where the GloVe file is now, or None. All paths are absolute.
    """

    system: str
    seed: int
    folder: Path
    log: Path
    options: tuple
    settings: Settings
    stages: tuple
    corpus: Path
    giver: str | None
    scored: bool = True
    glove: Path | None = None

    @property
    def branches(self):
        """The run folder that gives its branches, or None."""
        return self.folder.with_name(f"{self.giver}-seed{self.seed}") if self.giver else None

    def check(self, corpus_sha256, glove_sha256):
        """Refuses a folder that holds another run than this one, or something else.

        Raises:
            InputError: says what differs.
        """
        if not (self.folder / "run.json").exists():
            if not is_free(self.folder):
                raise InputError(f"{self.folder}: holds something else than a run; move it, or choose another --out")
            return
        run = read_run(self.folder)
        if run.corpus.sha256 != corpus_sha256:
            raise InputError(f"{self.folder}: was trained on another corpus file; choose another --out")
        if name := difference(self.settings, run.settings):
            found, wanted = getattr(run.settings, name), getattr(self.settings, name)
            raise InputError(f"{self.folder}: was trained with {name} {found}, not {wanted}; choose another --out")
        if run.settings.reads_glove and run.glove_sha256 != glove_sha256:
            raise InputError(f"{self.folder}: was trained with another GloVe file; choose another --out")

    def __call__(self, going):
        """Trains and scores it, as far as that is not done; a job of `programs.do_all`."""
        lines, scoring = [], ("--corpus", self.corpus)
        with held(self.log, going) as log:

            def run(what, script, *arguments):
                program = Program(f"{self.system} seed {self.seed}: {what}", self.log, (script,), arguments)
                lines.append(run_logged(program, log, going))

            if not self.trained():
                run("training", "train.py", *self.training())
            if self.scored and not self.evaluated():
                run("evaluating", "evaluate.py", self.folder, *scoring)
            if self.scored and self.lacks_epochs():
                run("evaluating each epoch", "evaluate.py", self.folder, *scoring, "--epochs")
        return lines

    def training(self):
        """Arguments of train.py that begin it or go on with it."""
        if (self.folder / "run.json").exists():
            glove = ("--glove", self.glove) if self.glove and read_run(self.folder).glove else ()
            return ("--run", self.folder, "--resume", "--corpus", self.corpus, *glove)
        return (*self.options, "--run", self.folder, *(("--branches", self.branches) if self.branches else ()))

    def done(self):
        """Whether nothing is left to do."""
        return self.trained() and (not self.scored or (self.evaluated() and not self.lacks_epochs()))

    def trained(self):
        """Whether all stages are there."""
        if not (self.folder / "run.json").exists():
            return False
        return set(self.stages) <= set(read_run(self.folder).stages)

    def evaluated(self):
        """Whether its results have all that the tables need, from the weights that are there."""
        return (self.folder / "run.json").exists() and is_evaluated(self.folder, read_run(self.folder))

    def lacks_epochs(self):
        """Whether epochs were kept and not scored."""
        if not (self.folder / "epochs").is_dir():
            return False
        kept, scored = len(list((self.folder / "epochs").glob("*.weights.h5"))), []
        with contextlib.suppress(InputError):  # then they are scored again
            scored = read_epochs(self.folder / "epochs.csv")
        return len(scored) < kept or not (self.folder / "predictions_best_on_test.csv").exists()


@dataclass(frozen=True)
class Place:
    """Where runs are made, and of what: all that a command line of reproduce.py says but the experiment."""

    out: Path
    corpus: Path
    glove: Path | None
    quick: bool = False
    epochs: int | None = None
    patience: int | None = None

    @functools.cached_property
    def content(self):
        """The `data.corpus.Corpus`."""
        return read_corpus(self.corpus)

    @functools.cached_property
    def glove_sha256(self):
        return self.glove and sha256(self.glove)

    def log(self, name):
        return self.out / "logs" / f"{name}.txt"

    def options(self, system, more=()):
        """train.py's for a `catalogue.System`, without its seed; `more` are those of the whole experiment."""
        options = ["--corpus", str(self.corpus), *(("--glove", str(self.glove)) if self.glove else ())]
        options += system.quick if self.quick else ()
        for option, value in (("--epochs", self.epochs), ("--patience", self.patience)):
            options += (option, str(value)) if value is not None else ()
        return (*options, *more, *system.options, *(["--keep-epochs"] * system.keeps_epochs))

    def settings(self, system):
        """The `Settings` of a system, whatever the seed."""
        return settings_of(self.options(system))

    def run(self, system, seed, more=(), scored=True):
        """The `PlannedRun` of a `catalogue.System`.

        Raises:
            InputError: its folder holds another run, or the files lack what it needs.
        """
        name, options = f"{system.name}-seed{seed}", (*self.options(system, more), "--seed", str(seed))
        asked = settings_of(options)
        system_itself = system_of(asked.variant)
        settings = system_itself.settled(asked, self.content, self.glove)
        run = PlannedRun(
            system.name,
            seed,
            self.out / name,
            self.log(name),
            options,
            settings,
            tuple(stage.name for stage in system_itself.stages(settings)),
            self.corpus,
            system.branches,
            scored,
            self.glove,
        )
        run.check(self.content.sha256, self.glove_sha256)
        return run


def settings_of(options):
    """The `Settings` that train.py makes of these options."""
    parser = train.command_line()
    return train.settings_of(parser, vars(parser.parse_args(options)))
