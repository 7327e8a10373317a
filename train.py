"""Trains the paper's model: text branch, audio branch, utterance vectors, fusion network.

Section 4.2 of the paper: mean squared error against the vote shares, Adam, the weights of the lowest dev loss are
kept. The test session is never read; that is evaluate.py's part.

    python train.py                                                # the made-up miniature corpus
    python train.py --corpus iemocap.h5 --glove glove.6B.200d.txt  # the paper's protocol
"""

import argparse
import contextlib
import csv
import dataclasses
import fcntl
import json
import platform
import re
import signal
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from training import backend
import causal
from storage.files import InputError, made_folder, sha256, write_csv, write_json
from data.labels import DEV_SESSION, TEST_SESSION, TRAIN_SESSIONS

MINIATURE_CORPUS = Path("runs/miniature.h5")
# The paper's 50 epochs of 64 utterances at 1e-4 would be 250 short steps on 300 utterances: no learning to see.
MINIATURE = {"epochs": 20, "batch_size": 16, "learning_rate": 1e-3}


def option(default, text, **argument):
    """A setting: its default, its help text, and what argparse needs besides."""
    return field(default=default, metadata={"help": text, **argument})


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's result, besides the corpus. Defaults are the paper's (section 4.2)."""

    variant: str = option(
        "released",
        "fusion network: the authors' code, Figure 4, or ours that knows the current utterance (causal.py)",
        choices=("released", "paper", "causal"),
    )
    update: str = option(
        "sequential", "of the correlation factor: released code, or eqs 4-5", choices=("sequential", "simultaneous")
    )
    factor: str = option(
        "shared",
        "one per modality (released code), one per sub-view (Fig. 3), or no factor",
        choices=("shared", "per_view", "none"),
    )
    modality: str = option(
        "text+audio",
        "both, or one branch alone (rows T and A of Table 3; causal: with its fusion, which gets zeros for the other)",
        choices=("text+audio", "text", "audio"),
    )
    context: bool = option(
        True, "whether the fusion sees the dialog before the utterance", action=argparse.BooleanOptionalAction
    )
    targets: str = option(
        "shares",
        "vote shares, or one-hot with ties as 'other' (Table 1, categorical)",
        choices=("shares", "categorical"),
    )
    loss: str = option(
        "mse", "mse with a linear output (paper), or cross_entropy with softmax", choices=("mse", "cross_entropy")
    )
    raters: str = option(
        "all", "whose votes count: all with self-reports (paper), or external raters", choices=("all", "external")
    )
    train_sessions: tuple = option(TRAIN_SESSIONS, "sessions to train on", type=int, nargs="+", metavar="S")
    dev_session: int = option(DEV_SESSION, "session that chooses the epoch", type=int, metavar="S")
    test_session: int = option(TEST_SESSION, "session left for evaluate.py", type=int, metavar="S")
    split: str = option(
        "official",
        "for a corpus with its own split: that one, or dev and test swapped, as the paper's MELD",
        choices=("official", "paper"),
    )
    emotion: str = option("all", "all, or this one against all others (the binary networks of Table 2)", metavar="NAME")
    epochs: int = option(50, "most epochs of each stage (causal: of the fusion)", type=int, metavar="N")
    patience: int = option(0, "stop a stage after N epochs without a lower dev loss; 0: never", type=int, metavar="N")
    batch_size: int = option(
        64, "utterances per step (causal: dialogs, and 16 times as many utterances in a branch)", type=int, metavar="N"
    )
    learning_rate: float = option(1e-4, "of Adam (causal: of the fusion's AdamW)", type=float, metavar="R")
    seed: int = option(0, "of weights and data order", type=int, metavar="N")


def main():
    arguments, settings = parse_arguments()
    try:
        backend.start_quietly()
        train(arguments, settings)
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted before training began; the run folder is as it was", file=sys.stderr)
        sys.exit(130)


def parse_arguments(argv=None):
    """The command line.

    Returns:
        (namespace with corpus, glove, run, resume, branches, keep_epochs and those of several devices; `Settings`).
    """
    parser = argparse.ArgumentParser(description="Train the paper's model.", argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--corpus",
        type=Path,
        help="corpus file of data.prepare (default: the miniature corpus, made at "
        "the first use, with settings for its size: " + _listed(MINIATURE) + ")",
    )
    parser.add_argument(
        "--glove", type=Path, help="GloVe text file, e.g. glove.6B.200d.txt (default: word vectors start random)"
    )
    parser.add_argument("--run", type=Path, help="folder for the results (default: runs/CORPUS-VARIANT-seedN)")
    parser.add_argument("--resume", action="store_true", help="go on with the stopped run in --run, with its settings")
    parser.add_argument(
        "--branches",
        type=Path,
        metavar="RUN",
        help="take text and audio branch from this finished run; --epochs, --patience and --learning-rate are then the "
        "fusion's alone",
    )
    parser.add_argument(
        "--keep-epochs",
        action="store_true",
        help="keep the last stage's weights of every epoch in RUN/epochs, 6 MB each; see evaluate.py --epochs",
    )
    several = parser.add_argument_group(
        "several devices", "share every training step, with the result of one device; needs Keras on JAX"
    )
    several.add_argument(
        "--devices", type=int, metavar="N", help="devices of this process; on a CPU virtual ones (default: 1)"
    )
    several.add_argument("--processes", type=int, metavar="N", help="processes that train together (default: 1)")
    several.add_argument(
        "--process",
        type=int,
        metavar="I",
        help="number of this one, from 0; all are started with the same other options, and all but 0 write to "
        "RUN-process-I",
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where they meet: an address of process 0")
    settings = dataclasses.fields(Settings)
    for setting in settings:
        name, argument = "--" + setting.name.replace("_", "-"), dict(setting.metadata)
        default = " ".join(map(str, setting.default)) if isinstance(setting.default, tuple) else setting.default
        ours = f"; causal: {causal.DEFAULTS[setting.name]}" if setting.name in causal.DEFAULTS else ""
        parser.add_argument(name, **argument | {"help": f"{argument['help']} (default: {default}{ours})"})
    given = vars(parser.parse_args(argv))
    if "resume" in given and set(given) - set(_SEVERAL) != {"run", "resume"}:
        parser.error("--resume goes with --run and nothing else: settings and corpus are those of the run")
    several = _SEVERAL | {name: given[name] for name in _SEVERAL if name in given}
    if several["devices"] < 1 or not 0 <= several["process"] < several["processes"]:
        parser.error("--devices and --processes must be positive, --process from 0 to --processes - 1")
    if several["processes"] > 1 and not {"process", "coordinator"} <= set(given):
        parser.error("--processes needs --process and --coordinator")
    port = re.fullmatch(r".+:(\d{1,5})", several["coordinator"] or "here:1")
    if not port or not 1 <= int(port[1]) <= 65535:
        parser.error("--coordinator must be HOST:PORT, the port from 1 to 65535")
    values = {} if "corpus" in given else dict(MINIATURE)
    if given.get("variant") == "causal":
        values |= causal.DEFAULTS
    values |= {setting.name: given.pop(setting.name) for setting in settings if setting.name in given}
    chosen = Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    problem = impossible(chosen)
    if problem:
        parser.error(problem)
    if "keep_epochs" in given and chosen.variant == "causal":
        parser.error("--keep-epochs: --variant causal averages networks that have epochs of their own")
    defaults = {"corpus": None, "glove": None, "run": None, "resume": False, "branches": None, "keep_epochs": False}
    defaults["given"] = set(given)
    return argparse.Namespace(**defaults | several | given), chosen


_SEVERAL = {"devices": 1, "processes": 1, "process": 0, "coordinator": None}


def _listed(values):
    return ", ".join(f"{name} {value}" for name, value in values.items())


def impossible(settings):
    """Why these settings cannot be combined or used, or None."""
    for name in ("epochs", "batch_size", "learning_rate"):
        if not 0 < getattr(settings, name) < float("inf"):
            return f"--{name.replace('_', '-')} must be positive"
    for name in ("patience", "seed"):
        if getattr(settings, name) < 0:
            return f"--{name} must not be negative"
    if settings.seed >= 2**30:
        return "--seed must be below 2**30"
    if settings.variant == "causal":
        if settings.loss != "cross_entropy":
            return "--variant causal is trained with cross_entropy: drop --loss"
        if len(settings.train_sessions) < 2:
            return "--variant causal goes once without each training session: give at least two --train-sessions"
    elif settings.modality != "text+audio":
        alone = f"--modality {settings.modality} trains a branch alone"
        if (settings.factor, settings.update) != ("shared", "sequential"):
            return f"{alone}, which has no correlation factor: drop --factor and --update"
        if not settings.context:
            return f"{alone}, which sees no context: drop --no-context"
        if settings.variant != "released":
            return f"{alone}, the same in each variant: drop --variant"
    if settings.factor == "none" and settings.update != "sequential":
        return "--factor none has nothing to update: drop --update"
    return None


@contextlib.contextmanager
def stop_requests():
    """While open, SIGINT and SIGTERM are remembered instead of ending the process; yields a function that tells."""
    received = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def locked(folder):
    """Holds the folder for this process; the kernel drops the lock when the process dies, however it dies."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another train.py is at work in this folder") from error
        yield


def train(arguments, settings):
    """Runs all stages into the run folder and prints the evaluate command.

    Raises:
        InputError: bad input, a folder that exists, or a loss that is no number.
        SystemExit: SIGINT or SIGTERM came; the run can go on with --resume.
    """
    if arguments.resume:
        from checkpoint import read_run

        run = read_run(own_folder(arguments))
        known = {setting.name for setting in dataclasses.fields(Settings)}
        settings = Settings(**{name: value for name, value in run["settings"].items() if name in known})
        arguments.corpus, arguments.glove = Path(run["corpus"]["path"]), run["glove"] and Path(run["glove"]["path"])
    corpus_path = arguments.corpus or miniature_corpus()
    arguments.run = arguments.run or Path("runs") / f"{corpus_path.stem}-{settings.variant}-seed{settings.seed}"
    folder = own_folder(arguments)
    if not arguments.resume:
        refuse_existing(folder, arguments.run)
    if arguments.resume:
        for path, begun in ((corpus_path, run["corpus"]), (arguments.glove, run["glove"])):
            if begun and sha256(path) != begun["sha256"]:
                raise InputError(f"{path}: is not the file that the run began with (SHA-256 differs)")
    prepared = prepare(corpus_path, arguments.glove, settings)
    devices = backend.Devices(arguments.devices, arguments.processes, arguments.process, arguments.coordinator)
    if arguments.resume:
        check_surroundings(run, devices, arguments.run)
    else:
        run = describe_run(prepared, corpus_path, arguments, settings, devices)
    devices.check_agreement(
        {
            "settings": json.dumps(run["settings"]),
            "corpus": run["corpus"]["sha256"],
            "GloVe file": (run["glove"] or {}).get("sha256", ""),
            "finished stages": json.dumps({stage: run["files"].get(f"{stage}.weights.h5") for stage in run["stages"]}),
        }
    )
    check_branches(run, settings)
    made_folder(folder)
    with locked(folder), stop_requests() as stop:
        for left in folder.glob(".*.tmp"):  # of writes that were killed
            left.unlink()
        if arguments.resume:
            run = read_run(folder)  # again: another train.py may have gone on until now
        else:
            refuse_existing(folder, arguments.run)  # again: another train.py may have begun
            if arguments.keep_epochs:
                (folder / "epochs").mkdir(exist_ok=True)  # tells --resume
            write_json(folder / "run.json", run)
        from training.loop import Stopped

        try:
            run_stages(folder, run, prepared, settings, devices.any_process(stop), devices)
        except Stopped as stopped:
            options = [f"--{name} {getattr(arguments, name)}" for name in _SEVERAL if name in arguments.given]
            jax = ["KERAS_BACKEND=jax"] * bool(options)
            again = " ".join([*jax, f"python train.py --run {arguments.run} --resume", *options])
            print(f"stopped, nothing is lost; go on with: {again}", file=sys.stderr)
            sys.exit(128 + stopped.signal)
    print(f"\nevaluate it: python evaluate.py {folder}")


def check_surroundings(run, devices, folder):
    """Refuses to go on with another backend, and says what else is not as it was: the last digits may then differ.

    Raises:
        InputError: the backend is another.
    """
    now = {**devices.describe(), "software": software()}
    if run["backend"] != now["backend"]:
        raise InputError(
            f"{folder}: was begun on {run['backend']}, this is {now['backend']}; set the environment variable "
            f"KERAS_BACKEND={run['backend']}"
        )
    for name in ("machine", "devices", "software"):
        if run.get(name) != now[name]:
            print(f"note: {name} of the run's beginning: {run.get(name)}; now: {now[name]}; last digits may differ")


def own_folder(arguments):
    """The run folder of this process: --run, or beside it for the further ones of several processes."""
    name = f"{arguments.run.name}-process-{arguments.process}"
    return arguments.run.with_name(name) if arguments.process else arguments.run


def refuse_existing(folder, run=None):
    """Refuses a folder that holds anything but what a run that never began leaves; `run` is --run, if it is another.

    Raises:
        InputError: says so.
    """
    if folder.exists() and (not folder.is_dir() or any(_of_a_run(path) for path in folder.iterdir())):
        go_on = f", or go on with it: --run {run or folder} --resume" if (folder / "run.json").exists() else ""
        raise InputError(f"{folder}: exists already; choose another --run{go_on}")


def _of_a_run(path):
    return path.name[0] != "." and not (path.name == "epochs" and path.is_dir() and not any(path.iterdir()))


def miniature_corpus():
    """The made-up corpus, prepared at the first use."""
    if not MINIATURE_CORPUS.exists():
        from data.prepare import prepare_sample

        print(f"no --corpus given: preparing the made-up miniature corpus, {MINIATURE_CORPUS}")
        MINIATURE_CORPUS.parent.mkdir(exist_ok=True)
        prepare_sample(MINIATURE_CORPUS)
    return MINIATURE_CORPUS


@dataclass(frozen=True)
class Prepared:
    """What all stages share: N utterances, C emotions, A features.

    `targets` (N, C); `shares` (N, C) vote shares; `train` and `dev` indices of voted utterances; `ids` (N, T) tokens
    or None; `words` (W, 200) first word vectors; `features` (N, A) standardised or None; `dialogs` {id: slice}.
    """

    corpus: object
    shares: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    dev: np.ndarray
    vocabulary: list
    ids: np.ndarray
    words: np.ndarray
    scaler: object
    features: np.ndarray
    dialogs: dict

    def dev_part(self):
        """Ids, targets and shares of the dev utterances, and the emotions: the last fields of `fit.StageData`."""
        rows = self.dev
        return self.corpus.utterance_id[rows], self.targets[rows], self.shares[rows], self.corpus.emotions


def prepare(corpus_path, glove_path, settings):
    """Reads corpus and word vectors, and fits vocabulary and scaler on the training sessions alone."""
    from checkpoint import Scaler, stages_of
    from data import labels, text
    from data.corpus import dialog_slices, read_corpus

    corpus = labels.task_of(read_corpus(corpus_path), vars(settings))
    shares = labels.vote_shares(corpus.votes_external, corpus.votes_self, settings.raters)
    split = labels.split_of(corpus, vars(settings))
    if settings.variant == "causal" and corpus.split is not None:
        raise InputError(
            f"{corpus_path}: --variant causal goes once without each training session, and this corpus has a split of "
            "its own instead of sessions"
        )
    voted = ~labels.without_votes(shares)
    targets = shares
    if settings.targets == "categorical":
        if "other" not in corpus.emotions:
            raise InputError(
                f"{corpus_path}: --targets categorical turns ties into 'other', which this corpus does not have"
            )
        targets = labels.categorical_targets(shares, corpus.emotions.index("other"))
    branches = {stage.split("-")[0] for stage in stages_of(dataclasses.asdict(settings))}
    dialogs = dialog_slices(corpus.dialog_id)
    vocabulary = ids = words = scaler = features = None
    if "text" in branches:
        vocabulary = text.build_vocabulary(corpus.transcript[split["train"]])
        ids = text.token_ids(corpus.transcript, vocabulary)
        vectors = text.read_glove(glove_path, vocabulary) if glove_path else {}
        if glove_path and settings.variant == "causal":
            parts = {part for word in vocabulary for parts in text.word_parts(word) for part in parts}
            vectors |= text.vectors_from_parts(vocabulary, vectors | text.read_glove(glove_path, parts))
        words = text.word_matrix(vocabulary, vectors, settings.seed)
        known = (ids[split["dev"]] > 0).sum() / sum(
            len(text.tokenize(line)[: text.MAX_TOKENS]) for line in corpus.transcript[split["dev"]]
        )
        print(
            f"text: {len(vocabulary)} training words, {len(vectors)} with a GloVe vector, the others start random; "
            f"{known:.1%} of the dev words are among them"
        )
    if "audio" in branches:
        if not corpus.audio_names:
            raise InputError(
                f"{corpus_path}: has no audio features; train with --modality text, or prepare with --audio egemaps_lld"
            )
        if settings.variant == "causal":
            seen = causal.seen_dialogs(dialogs.values(), settings.context)
            raw = causal.raw_features(corpus, seen)
            scaler = Scaler.fit(raw[split["train"]], causal.feature_names(corpus.audio_names))
            features = causal.with_distances(scaler.transform(raw), causal.speaker_codes(corpus.speaker), seen)
        else:
            scaler = Scaler.fit(corpus.audio[split["train"]], corpus.audio_names)
            features = scaler.transform(corpus.audio)
    train_rows, dev_rows = (split[part][voted[split[part]]] for part in ("train", "dev"))
    return Prepared(
        corpus,
        shares,
        targets,
        train_rows,
        dev_rows,
        vocabulary,
        ids,
        words,
        scaler,
        features,
        dialogs,
    )


def describe_run(prepared, corpus_path, arguments, settings, devices):
    """run.json before training: all that decides the result."""
    from checkpoint import RUN_FORMAT, RUN_FORMAT_VERSION

    corpus = prepared.corpus
    return {
        "format": RUN_FORMAT,
        "format_version": RUN_FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "emotions": list(corpus.emotions),
        "context_length": max(rows.stop - rows.start for rows in prepared.dialogs.values()),
        "corpus": {
            "name": corpus.name,
            "path": str(corpus_path),
            "sha256": corpus.sha256,
            "num_utterances": len(corpus),
            "num_train": len(prepared.train),
            "num_dev": len(prepared.dev),
            "audio_feature_set": corpus.audio_feature_set,
            "num_audio_features": len(corpus.audio_names),
        },
        "glove": {"path": str(arguments.glove), "sha256": sha256(arguments.glove)} if arguments.glove else None,
        "branches": str(arguments.branches) if arguments.branches else None,
        "prior_shares": prepared.targets[prepared.train].mean(axis=0, dtype="float64").tolist(),
        "software": software(),
        **devices.describe(),
        "stages": {},
        "files": {},
    }


def software():
    """{package: version} of what computes."""
    packages = ("keras", "numpy", "h5py", "tensorflow-cpu", "tensorflow", "jax", "torch")
    return {"python": platform.python_version(), **{name: found for name in packages if (found := _version(name))}}


def _version(package):
    with contextlib.suppress(Exception):
        return version(package)
    return None


def run_stages(folder, run, prepared, settings, stop, devices):
    """Trains the stages that the run does not have yet, one after the other."""
    import keras

    from checkpoint import STAGES, build_networks, check_files, load_weights, save_weights, stages_of
    from scoring.figures import training_curves
    from training.loop import HISTORY_HEADER, StageState, fit

    backend.make_deterministic()
    num_words = len(prepared.vocabulary or ()) + 1
    num_features = 0 if prepared.features is None else prepared.features.shape[1]
    builders = build_networks(run["settings"], num_words, num_features, len(run["emotions"]), run["context_length"])
    if "text" in builders:
        write_json(folder / "vocabulary.json", prepared.vocabulary)
        run["files"]["vocabulary.json"] = sha256(folder / "vocabulary.json")
    if "audio" in builders:
        write_json(folder / "scaler.json", prepared.scaler.to_json())
        run["files"]["scaler.json"] = sha256(folder / "scaler.json")
    rows = read_history(folder, run)
    networks, starts, vectors, stages = {}, {}, {}, stages_of(run["settings"])
    for stage in stages:
        branch = stage.split("-")[0]
        # A seed of its own for each network: its start does not depend on which were trained before it.
        keras.utils.set_random_seed(causal.seed_of(stage, settings.seed) * len(STAGES) + STAGES.index(branch))
        fresh = builders[branch](prepared.words) if branch == "text" else builders[branch]()
        network = networks.setdefault(branch, fresh)
        if network is not fresh:
            copy_variables(fresh, network)
        start = causal.start_of(stage, run["settings"])
        if start:
            network.set_weights(starts[start])
        weights = folder / f"{stage}.weights.h5"
        if stage in run["stages"]:
            check_files(folder, run, [weights.name])
            load_weights(network, weights)
        else:
            if run["branches"] and shares_branch(branch, settings):
                summary = take_branch(Path(run["branches"]), stage, network)
            else:
                data = stage_data(stage, prepared, network, vectors, settings, run["context_length"])
                recipe = recipe_of(stage, settings)
                kept = folder / "epochs" if stage == stages[-1] and (folder / "epochs").is_dir() else None
                summary, stage_rows = fit(stage, network, data, recipe, folder, rows, stop, devices, kept)
                rows += stage_rows
            write_csv(folder / "history.csv", HISTORY_HEADER, rows)
            save_weights(network, weights)
            run["files"][weights.name] = sha256(weights)
            run["stages"][stage] = summary
            write_json(folder / "run.json", run)
        StageState(stage, network, folder).delete()  # also of a stage before: a kill may have come in between
        if stage.endswith("-start"):
            starts[stage] = network.get_weights()
        elif branch != "fusion" and "fusion" in builders:
            vectors[stage] = branch_vectors(branch, network, prepared, settings)
    training_curves(rows, run, folder / "training_curves.png")


def copy_variables(source, target):
    """Copies weights and states of random generators to another network of the same builder."""
    for from_layer, to_layer in zip(source.layers, target.layers, strict=True):
        for new, variable in zip(from_layer.variables, to_layer.variables, strict=True):
            variable.assign(new)


def branch_vectors(branch, network, prepared, settings):
    """(N, 200) vectors of all utterances."""
    import model

    if branch == "text":
        padded = settings.variant != "causal"
        return model.predict_tokens(model.vector_model(network), prepared.ids, padded=padded)
    return model.predict_features(model.vector_model(network), prepared.features)


def recipe_of(stage, settings):
    """`fit.Recipe` of a stage: the paper's is the same for all."""
    from training.loop import Recipe

    if settings.variant == "causal":
        return causal.recipe(stage, settings)
    return Recipe(**{name: getattr(settings, name) for name in _RECIPE})


_RECIPE = ("epochs", "patience", "batch_size", "learning_rate", "loss", "seed")


def shares_branch(branch, settings):
    """Whether a run takes this branch from --branches: not where the branch itself looks at the dialog."""
    looks_back = settings.variant == "causal" and branch == "audio" and not settings.context
    return branch != "fusion" and not looks_back


def read_history(folder, run):
    """Rows of history.csv of the stages that are trained, numbers as numbers.

    Raises:
        InputError: a row is damaged or an epoch of such a stage is missing.
    """
    path, trained = folder / "history.csv", [s for s, summary in run["stages"].items() if "taken_from" not in summary]
    if not trained:
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [[row[0], int(row[1]), *map(float, row[2:])] for row in list(csv.reader(file))[1:]]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); the run cannot go on without it") from error
    rows = [row for row in rows if row[0] in trained]
    if [row[:2] for row in rows] != [[s, epoch + 1] for s in trained for epoch in range(run["stages"][s]["epochs"])]:
        raise InputError(f"{path}: epochs are missing; the run cannot go on without them")
    return rows


def check_branches(run, settings):
    """Refuses --branches that are not there, or were not made from the same data in the same way.

    Raises:
        InputError: says what is missing or differs.
    """
    from checkpoint import check_files, read_run, stages_of

    wanted = [one for one in stages_of(run["settings"]) if shares_branch(one.split("-")[0], settings)]
    wanted = [one for one in wanted if one not in run["stages"]]
    if not run["branches"] or not wanted:
        return
    source = Path(run["branches"])
    other = read_run(source)
    # Not among them, since they are the fusion's alone here: epochs, patience and learning rate.
    decisive = ["targets", "loss", "raters", "train_sessions", "dev_session", "split", "emotion", "batch_size", "seed"]
    if "causal" in (other["settings"]["variant"], run["settings"]["variant"]) and (
        other["settings"]["variant"] != run["settings"]["variant"]
    ):
        raise InputError(f"--branches {source}: the causal variant has branches of its own")
    if other["corpus"]["sha256"] != run["corpus"]["sha256"]:
        raise InputError(f"--branches {source}: was trained on another corpus file")
    for name in decisive:
        ours, theirs = run["settings"][name], other["settings"].get(name)
        if theirs != (list(ours) if isinstance(ours, tuple) else ours):
            raise InputError(f"--branches {source}: was trained with {name} {theirs}, this run has {ours}")
    if (other.get("glove") or {}).get("sha256") != (run["glove"] or {}).get("sha256"):
        raise InputError(f"--branches {source}: was trained with another GloVe file")
    for stage in wanted:
        if stage not in other["stages"]:
            raise InputError(f"--branches {source}: has no finished {stage} branch")
    check_files(source, other, [f"{stage}.weights.h5" for stage in wanted])


def take_branch(source, stage, network):
    """Copies a branch from a finished run, which `check_branches` has looked at; gives the stage's summary."""
    from checkpoint import load_weights, read_run

    load_weights(network, source / f"{stage}.weights.h5")
    return {**read_run(source)["stages"][stage], "taken_from": str(source)}


def stage_data(stage, prepared, network, vectors, settings, context_length):
    """`fit.StageData` of a stage: the inputs of its network for the training and the dev utterances.

    `vectors` are {stage: (N, 200)} of the trained branches.
    """
    import model
    from data.contexts import context_rows, dialog_contexts, token_rows
    from training.loop import StageData

    if settings.variant == "causal":
        if stage.startswith("fusion"):
            return causal.fusion_data(prepared, network, vectors, settings)
        return causal.branch_data(stage, prepared, network)
    train_rows, dev_rows = prepared.train, prepared.dev
    targets = prepared.targets[train_rows]
    if stage == "text":
        ids = prepared.ids[train_rows]

        def batch(chosen):
            return token_rows(ids[chosen]), targets[chosen]

        def predict_dev():
            return model.predict_tokens(network, prepared.ids[dev_rows])

    elif stage == "audio":
        features = prepared.features[train_rows]

        def batch(chosen):
            return {"features": features[chosen]}, targets[chosen]

        def predict_dev():
            return model.predict_features(network, prepared.features[dev_rows])

    else:
        contexts = {
            part: [
                dialog_contexts(vectors[name], prepared.dialogs, rows, settings.context) for name in ("audio", "text")
            ]
            for part, rows in (("train", train_rows), ("dev", dev_rows))
        }

        def batch(chosen):
            audio_rows, text_rows = ([rows[i] for i in chosen] for rows in contexts["train"])
            return context_rows(audio_rows, text_rows, context_length), targets[chosen]

        def predict_dev():
            return model.predict_contexts(network, *contexts["dev"])

    return StageData(prepared.corpus.utterance_id[train_rows], batch, predict_dev, *prepared.dev_part())


if __name__ == "__main__":
    main()
