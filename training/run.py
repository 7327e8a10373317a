"""One run from settings to a finished run folder: begun, locked, stopped by signals, resumed, its stages trained."""

import contextlib
import io
import os
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import keras

from data.corpus import read_corpus
from data.task import Task
from data.workers import handled
from scoring.figures import training_curves
from storage import files
from storage.files import InputError, made_folder, sha256, write_csv, write_json
from storage.runs import (
    CorpusFile,
    EpochRow,
    Run,
    StageSummary,
    WordsFile,
    check_files,
    is_free,
    read_history,
    read_run,
    write_run,
)
from storage.weights import load_weights, save_arrays, save_weights
from surroundings import PARENT
from systems import system_of
from training import backend
from training.loop import Stopped, fit
from training.members import train_side_by_side
from training.state import StageState


@dataclass(frozen=True)
class RunFolder:
    """A run folder that this process has locked. `lock` is the open lock file."""

    path: Path
    lock: object

    def check_there(self):
        """Refuses to go on in a folder that was removed or replaced: half a run would be written into a new one.

        Raises:
            InputError: it is not the one that was locked.
        """
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path / ".lock"), os.fstat(self.lock.fileno())):
                return
        raise InputError(f"{self.path}: was removed while the run was at work in it; nothing more is written")


@contextlib.contextmanager
def locked(path):
    """Holds the folder for this process."""
    with files.locked(path / ".lock", f"{path}: another train.py is at work in this folder") as file:
        yield RunFolder(path, file)


@contextlib.contextmanager
def stop_requests():
    """While open, SIGINT and SIGTERM are remembered instead of ending the process; yields a function that tells."""
    received, parent = [], os.environ.get(PARENT)

    def stop():
        if not received and parent and os.getppid() != int(parent):
            received.append(signal.SIGTERM)
        return received[0] if received else None

    with handled(lambda number, _: received.append(number), signal.SIGINT, signal.SIGTERM):
        yield stop


def begin_run(path, settings, corpus_path, glove=None, branches=None, keep_epochs=False, jobs=1):
    """Trains all stages of a new run; arguments as train.py's options.

    Raises:
        InputError: bad input, a folder that exists, or a loss that is no number. Before training nothing is written.
        SystemExit: SIGINT or SIGTERM came; the run can go on with `resume_run`.
    """
    path = Path(path)
    refuse_existing(path)
    system = system_of(settings.variant)
    system.accept(settings)
    stages = system.stages(settings)
    check_jobs(jobs, settings, stages)
    if keep_epochs and not stages[-1].answers:
        raise InputError(f"--keep-epochs: --variant {settings.variant} answers with several networks")
    if keep_epochs and branches and stages[-1].decided_by:
        raise InputError("--keep-epochs: with --branches the network that answers is taken over, so it has no epochs")
    work, task, run = _prepared(system, settings, corpus_path, glove)
    if branches:
        run.branches = str(Path(branches).resolve())
        run.taken = taken_over(run, stages)
        for stage in check_branches(run, stages):  # fits, before anything is written
            load_weights(work.network(stage), Path(branches) / f"{stage.name}.weights.h5")
    made_folder(path)
    with locked(path) as folder:
        refuse_existing(path)  # again: another train.py may have begun
        if keep_epochs:
            (path / "epochs").mkdir(exist_ok=True)  # tells `resume_run`
        write_run(path, run)
        _train(folder, run, stages, work, task, (corpus_path, glove), jobs)


def resume_run(path, corpus_path=None, glove=None, jobs=1):
    """Goes on with a stopped run, with its own settings.

    Args:
        path: the run folder.
        corpus_path, glove: where the corpus file and the GloVe file are now; None for where they were.
        jobs: how many members to train side by side.

    Raises:
        InputError, SystemExit: as `begin_run`; also another backend, or files that are not the run's.
    """
    path = Path(path)
    run = read_run(path)
    system = system_of(run.settings.variant)
    stages = system.stages(run.settings)
    check_jobs(jobs, run.settings, stages)
    if glove and not run.glove:
        raise InputError(f"--glove {glove}: the run in {path} began without GloVe")
    corpus_path = corpus_path or Path(run.corpus.path)
    glove = glove or (run.glove and Path(run.glove.path))
    for option, file, begun in (("--corpus", corpus_path, run.corpus), ("--glove", glove, run.glove)):
        if begun and not file.exists():
            raise InputError(f"{file}: no such file; where was it moved? Say so with {option}")
        if begun and sha256(file) != begun.sha256:
            raise InputError(f"{file}: is not the file that the run began with (SHA-256 differs)")
    check_surroundings(run, path)
    work, task, _ = _prepared(system, run.settings, corpus_path, glove)
    check_branches(run, stages)
    with locked(path) as folder:
        run = read_run(path)  # again: another train.py may have gone on until now
        _train(folder, run, stages, work, task, (corpus_path, glove), jobs)


def train_member(name, lock, path, corpus_path, glove=None):
    """Brings the state of one member to the end of its training, for a process that has locked the folder.

    Args:
        name: of its stage.
        lock: the open lock file.
        path, corpus_path, glove: as of `resume_run`.

    Raises:
        InputError: as of `training.loop.fit`, or the files have changed since the run began.
        SystemExit: a signal came, or the other process has died; the state is saved.
    """
    folder, run = RunFolder(path, lock), read_run(path)
    system = system_of(run.settings.variant)
    with contextlib.redirect_stdout(io.StringIO()):  # the other process has said it
        work, task, now = _prepared(system, run.settings, corpus_path, glove)
    if (now.corpus.sha256, now.glove_sha256) != (run.corpus.sha256, run.glove_sha256):
        raise InputError(
            f"{name}: corpus file or GloVe file has changed since the run began; put it back, and --resume"
        )
    stage = next(stage for stage in system.stages(run.settings) if stage.name == name)
    backend.settle()
    backend.make_deterministic()
    with stop_requests() as stop:
        network = _network(work, stage)
        try:
            fit(stage, network, work.data(stage, network), task, folder, None, stop)
        except Stopped as stopped:
            sys.exit(128 + stopped.signal)


def check_jobs(jobs, settings, stages):
    """Refuses fewer than one at once, and networks side by side that need each other.

    Raises:
        InputError: says so.
    """
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: must be 1 or more")
    if jobs > 1 and not all(stage.is_member for stage in stages):
        raise InputError(f"--jobs {jobs}: --variant {settings.variant} has no members to train side by side")


def _prepared(system, settings, corpus_path, glove):
    """(`Work`, `Task`, `Run` before training)."""
    corpus = read_corpus(corpus_path)
    settings = system.settled(settings, corpus, glove)
    task = Task.of(corpus, settings)
    task.check_votes("train", "dev")
    if glove and not settings.reads_glove:
        print(f"{glove}: is not read, since these settings need no GloVe file")
    work, read = system.work(task, glove), glove if settings.reads_glove else None
    run = Run(
        settings=settings,
        emotions=task.emotions,
        context_length=task.context_length,
        corpus=CorpusFile(
            name=corpus.name,
            path=str(Path(corpus_path).resolve()),
            sha256=corpus.sha256,
            audio_feature_set=corpus.audio_feature_set,
            num_audio_features=len(corpus.audio_names),
            text_encoder=corpus.text_encoder,
            audio_encoder=corpus.audio_encoder,
            num_utterances=len(corpus),
            num_train=len(task.train),
            num_dev=len(task.dev),
        ),
        glove=WordsFile(path=str(Path(read).resolve()), sha256=sha256(read)) if read else None,
        **_surroundings(),
    )
    return work, task, run


def _surroundings():
    return {**backend.describe_device(), "software": backend.software()}


def check_surroundings(run, folder):
    """Refuses to go on with another backend, and says what else is not as it was: the last digits may then differ.

    Raises:
        InputError: the backend is another.
    """
    now = _surroundings()
    if run.backend != now["backend"]:
        raise InputError(
            f"{folder}: was begun on {run.backend}, this is {now['backend']}; set the environment variable "
            f"KERAS_BACKEND={run.backend}"
        )
    for name in ("machine", "devices", "software"):
        if getattr(run, name) != now[name]:
            print(
                f"note: {name} of the run's beginning: {getattr(run, name)}; now: {now[name]}; last digits may differ"
            )


def refuse_existing(folder):
    """Refuses a folder in which no run can begin.

    Raises:
        InputError: says so.
    """
    if not is_free(folder):
        go_on = f", or go on with it: --run {shlex.quote(str(folder))} --resume"
        raise InputError(
            f"{folder}: exists already; choose another --run{go_on if (folder / 'run.json').exists() else ''}"
        )


def _train(folder, run, stages, work, task, sources, jobs):
    """Trains the stages that the run does not have yet; `sources` are the paths of corpus and GloVe file."""
    for left in folder.path.glob(".*.tmp"):  # of writes that were killed
        left.unlink()
    backend.settle()
    backend.make_deterministic()
    with stop_requests() as stop:
        try:
            _train_stages(folder, run, stages, work, task, stop, sources, jobs)
        except Stopped as stopped:
            again = f"python train.py --run {shlex.quote(str(folder.path))} --resume{f' --jobs {jobs}' * (jobs > 1)}"
            print(f"stopped, nothing is lost; go on with: {again}", file=sys.stderr)
            sys.exit(128 + stopped.signal)


def _network(work, stage):
    keras.utils.set_random_seed(stage.seed)
    return work.network(stage)


def _train_stages(folder, run, stages, work, task, stop, sources, jobs):
    path = folder.path
    for name, content in work.files().items():
        if (path / name).exists() and sha256(path / name) == run.files.get(name):
            continue  # another machine may give other last digits
        (save_arrays if name.endswith(".h5") else write_json)(path / name, content)
        run.files[name] = sha256(path / name)
        if run.stages:  # of a file that was lost
            write_run(path, run)
    rows, taken = read_history(path, run), names_taken(run, stages)
    left = [stage.name for stage in stages if stage.name not in (*run.stages, *taken)]
    if min(jobs, len(left)) > 1:
        train_side_by_side(left, folder, *sources, jobs, stop)
    for stage in stages:
        network = _network(work, stage)
        weights = path / f"{stage.name}.weights.h5"
        if stage.name in run.stages:
            check_files(path, run, [weights.name])
            load_weights(network, weights)
        else:
            if stage.name in taken:
                source = Path(run.branches)
                load_weights(network, source / weights.name)
                summary = {**read_run(source).stages[stage.name].model_dump(), "taken_from": run.branches}
            else:
                kept = path / "epochs" if stage is stages[-1] and (path / "epochs").is_dir() else None
                summary, stage_rows = fit(stage, network, work.data(stage, network), task, folder, rows, stop, kept)
                rows += stage_rows
            folder.check_there()
            write_csv(path / "history.csv", EpochRow._fields, rows)
            save_weights(network, weights)
            run.files[weights.name] = sha256(weights)
            run.stages[stage.name] = StageSummary(**summary)
            write_run(path, run)
        StageState(stage.name, network, path).delete()  # also of a stage before: a kill may have come in between
        work.done(stage, network)
    folder.check_there()
    training_curves(rows, run, path / "training_curves.png")


def taken_over(run, stages):
    """Names of the stages that --branches gives. Members that the other run was never to have are trained.

    Raises:
        InputError: no run is there, or this system has no stage that another run could give.
    """
    could = [stage for stage in stages if stage.decided_by]
    if not could:
        raise InputError(f"--branches: --variant {run.settings.variant} has no branch that another run could give")
    other = read_run(run.branches)
    planned = {stage.name for stage in system_of(other.settings.variant).stages(other.settings)}
    return tuple(stage.name for stage in could if stage.name in planned or not stage.is_member) or (could[0].name,)


def names_taken(run, stages):
    """Names of the stages that come from the run `branches`; an earlier version took all that it could."""
    if run.branches and run.taken is None:
        return tuple(stage.name for stage in stages if stage.decided_by)
    return run.taken or ()


def check_branches(run, stages):
    """Refuses --branches that are not there, or were not made from the same data in the same way.

    Returns:
        The stages that this run takes over and lacks yet.

    Raises:
        InputError: says what is missing or differs.
    """
    taken = names_taken(run, stages)
    wanted = [stage for stage in stages if stage.name in taken and stage.name not in run.stages]
    if not wanted:
        return []
    source = Path(run.branches)
    if not (source / "run.json").exists():
        raise InputError(f"--branches {source}: no run is there, and {wanted[0].name} comes from it; put it back")
    other = read_run(source)
    for stage in wanted:
        if stage.name not in other.stages:
            raise InputError(f"--branches {source}: has no finished network {stage.name}")
        if other.corpus.sha256 != run.corpus.sha256:
            raise InputError(f"--branches {source}: was trained on another corpus file")
        for name in stage.decided_by:
            ours, theirs = getattr(run.settings, name), getattr(other.settings, name)
            if theirs != ours:
                raise InputError(f"--branches {source}: was trained with {name} {theirs}, this run has {ours}")
        if run.settings.reads_glove and other.glove_sha256 != run.glove_sha256:
            raise InputError(f"--branches {source}: was trained with another GloVe file")
    check_files(source, other, [f"{stage.name}.weights.h5" for stage in wanted])
    return wanted
