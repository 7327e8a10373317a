"""The parts of the benchmark: each a function that gives numbers for results.json, run in a process of its own."""

import functools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import keras
import numpy as np

from benchmarks.hour import predict_hour  # noqa: F401 (a part)
from benchmarks.padded import padded_fusion, padded_text
from benchmarks.scale import scale  # noqa: F401 (a part)
from data.contexts import context_rows, shuffled_batches, token_rows
from data.corpus import Corpus, read_corpus, write_corpus
from data.extraction import extract_files
from data.labels import EMOTIONS
from data.sample import write_release
from data.task import Task
from data.utterance import Sound
from experiments.operations import forward_flops, recipe_of, seconds_of_steps
from experiments.peers import bc_lstm, context_vectors
from model import audio_branch, fusion_network, predict_contexts, text_branch
from settings import Settings
from storage.files import InputError, read_json
from storage.runs import CorpusFile, Run, read_run
from systems import system_of
from systems.causal import CausalRecogniser
from systems.causal.network import causal_network, dialog_rows, predict_dialogs
from training import backend
from training.loop import begin

HERE = Path(__file__).parent
CONTEXT_LENGTH, NUM_TOKENS, NUM_WORDS, NUM_AUDIO_FEATURES = 167, 50, 2500, 6552
SMALL_AUDIO = 46  # columns of egemaps_lld
TRAIN, TEST = ("1", "2", "5"), ("4",)
LENGTHS = (20, 50, 100, 200, 500, 1000)
RECIPE = recipe_of(Settings())
SCRIPTS = (("train.py",), ("evaluate.py",), ("reproduce.py",), ("-m", "data.prepare"), ("-m", "benchmarks.bench"))
SCRIPTS += tuple(("-m", f"experiments.{name}") for name in ("baselines", "costs", "publish", "tables"))


@functools.cache
def lengths():
    """{"dialogs": {session: [utterances of each dialog]}, "words": [utterances of i words, the last of more, too]}."""
    return read_json(HERE / "iemocap_lengths.json")


def dialog_lengths(sessions):
    """Utterances of each dialog of the sessions."""
    return [length for session in sessions for length in lengths()["dialogs"][session]]


def contexts(sessions, seed=0):
    """Random acoustic and textual contexts of all utterances of the sessions' dialogs: two lists of (h, 200) views."""
    rng = np.random.default_rng(seed)
    audio, text = [], []
    for length in dialog_lengths(sessions):
        dialog = rng.normal(0, 0.5, (2, length, 200)).astype("float32")
        audio += [dialog[0, : i + 1] for i in range(length)]
        text += [dialog[1, : i + 1] for i in range(length)]
    return audio, text


def targets(num, seed=1):
    return np.random.default_rng(seed).dirichlet(np.ones(10), num).astype("float32")


def timed(function, calls):
    """Seconds of each call."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return seconds


def timed_epochs(network, inputs, num, epochs=3):
    """Seconds of each epoch of training on N samples in batches of 64; the first one traces."""
    begin(network, RECIPE)
    orders = [shuffled_batches(num, RECIPE.batch_size, np.random.default_rng([0, epoch])) for epoch in range(epochs)]
    wanted = targets(num)
    return [seconds_of_steps(network, inputs, wanted, batches) for batches in orders]


def matmul_rate():
    """Operations a second of float32 products of 2048 x 2048 matrices, the best of ten."""
    matrices = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 2048, 2048)).astype("float32"))
    return 2 * 2048**3 / min(timed(lambda: float(keras.ops.matmul(matrices[0], matrices[1])[0, 0]), 10))


def fusion():
    """An epoch of the fusion network with padding computed once, and the share of the machine's product rate."""
    audio, text = contexts(TRAIN)
    rates = [matmul_rate()]
    network = fusion_network(context_length=CONTEXT_LENGTH)

    def inputs(chosen):
        return context_rows([audio[i] for i in chosen], [text[i] for i in chosen], CONTEXT_LENGTH)

    seconds = timed_epochs(network, inputs, len(audio))
    rates.append(matmul_rate())
    sizes = np.array([len(rows) for rows in audio])
    needed = 3 * float(forward_flops(network, sizes + (sizes < CONTEXT_LENGTH)).sum())
    rate = float(np.mean(rates))
    return {
        "first_epoch_s": seconds[0],
        "epoch_s": min(seconds[1:]),
        "flops_per_epoch": needed,
        "matmul_flops_per_s": rate,
        "share_of_matmul_rate": needed / min(seconds[1:]) / rate,
        **backend.describe_device(),
    }


def fusion_side_by_side():
    """Steps of the fusion network, of the same on 167 zero-padded rows with the same weights, and of a BC-LSTM."""
    audio, text = contexts(TRAIN)
    ours, plain = fusion_network(context_length=CONTEXT_LENGTH), padded_fusion(context_length=CONTEXT_LENGTH)
    plain.set_weights(ours.get_weights())

    def of(chosen):
        return [audio[i] for i in chosen], [text[i] for i in chosen]

    def padded(chosen):
        return [keras.utils.pad_sequences(one, CONTEXT_LENGTH, "float32", "post") for one in of(chosen)]

    chosen = np.random.default_rng(2).permutation(len(audio))[: RECIPE.batch_size]
    answers = ours.predict_on_batch(context_rows(*of(chosen), CONTEXT_LENGTH))
    difference = float(np.abs(answers - plain.predict_on_batch(padded(chosen))).max())
    systems = {
        "ours": (ours, lambda chosen: context_rows(*of(chosen), CONTEXT_LENGTH)),
        "padded": (plain, padded),
        "bc_lstm": (bc_lstm(10), lambda chosen: context_vectors(*of(chosen))),
    }
    return {"largest_difference": difference, **in_turn(systems, len(audio), steps=8)}


def fusion_bfloat16():
    """Steps of the fusion network, and of the same with the operands of its products in bfloat16.

    In PyTorch, on one thread: where the processor has such instructions, its oneDNN rounds the operands and sums in
    float32. Of the backends it alone has a switch that can be turned between two steps.
    """
    if keras.backend.backend() != "torch":
        raise InputError("fusion-bfloat16 is measured in PyTorch; set KERAS_BACKEND=torch")
    backend.torch.set_num_threads(1)  # two wait for each other wherever another program has the core of one
    audio, text = contexts(TRAIN)

    def system(precision):
        def inputs(chosen):
            backend.torch.set_float32_matmul_precision(precision)
            return context_rows([audio[i] for i in chosen], [text[i] for i in chosen], CONTEXT_LENGTH)

        return fusion_network(context_length=CONTEXT_LENGTH), inputs

    systems = {"ours": system("highest"), "bfloat16": system("medium")}
    found = in_turn(systems, len(audio), steps=8)
    return {**found, "times_as_fast": found["ours"] / found["bfloat16"], **backend.describe_device()}


def text_side_by_side():
    """Steps of the text branch and of the same on 50 padded tokens."""
    ids = token_ids()
    systems = {
        "ours": (text_branch(word_vectors()), lambda chosen: token_rows(ids[chosen])),
        "padded": (padded_text(NUM_WORDS), lambda chosen: ids[chosen]),
    }
    return in_turn(systems, len(ids), steps=30)


def in_turn(systems, num, steps, rounds=5):
    """The same batches by each of the systems in turn, so that all meet the same moods of the machine.

    Args:
        systems: {name: (network, function from positions to its input)}.
        num: samples of an epoch.
        steps: batches of a round.
        rounds: how often each system trains on these batches after a first time.

    Returns:
        {name: the median round in seconds, scaled to an epoch}, and {"rounds_s": {name: seconds of each round}}.
    """
    wanted, seconds = targets(num), {name: [] for name in systems}
    for network, _ in systems.values():
        begin(network, RECIPE)
    batches = shuffled_batches(num, RECIPE.batch_size, np.random.default_rng([0, 0]))[:steps]
    for _ in range(1 + rounds):
        for name, (network, inputs) in systems.items():
            seconds[name].append(seconds_of_steps(network, inputs, wanted, batches))
    measured = {name: values[1:] for name, values in seconds.items()}
    to_epoch = num / (steps * RECIPE.batch_size)
    return {name: to_epoch * float(np.median(values)) for name, values in measured.items()} | {"rounds_s": measured}


def causal_work():
    """The causal system's networks and data on a random corpus of IEMOCAP's size, random word vectors."""
    system = system_of("causal")
    with tempfile.TemporaryDirectory() as folder:
        path, glove = Path(folder) / "corpus.h5", Path(folder) / "glove.txt"
        corpus_of_iemocaps_size(path, SMALL_AUDIO)
        rows = word_vectors()
        lines = (f"word{i} {' '.join(f'{value:.3f}' for value in row)}\n" for i, row in enumerate(rows))
        glove.write_text("".join(lines), encoding="utf-8")
        corpus = read_corpus(path)
        task = Task.of(corpus, system.settled(Settings(variant="causal", **system.defaults), corpus, glove))
        return system.work(task, glove), task, system.stages(task.settings)


def causal():
    """An epoch of a member of the causal system: whole dialogs, four to a step."""
    work, _, (stage, *_) = causal_work()
    network = work.network(stage)
    data = work.data(stage, network)
    begin(network, stage.recipe)
    seconds = []
    for epoch in range(3):
        order = np.random.default_rng([0, epoch])
        began = time.perf_counter()
        for chosen in data.cut(len(data.names), stage.recipe.batch_size, order):
            network.train_on_batch(*data.batch(chosen, order))
        seconds.append(time.perf_counter() - began)
    return {"epoch_s": min(seconds[1:])}


def stream():
    """A step of a stream of all members after 200 utterances: the median of twenty."""
    work, task, stages = causal_work()
    about = CorpusFile(name="", path="", sha256="", audio_feature_set="", num_audio_features=SMALL_AUDIO)
    run = Run(settings=task.settings, emotions=task.emotions, context_length=CONTEXT_LENGTH, corpus=about)
    networks = {stage.name: work.network(stage) for stage in stages}
    following, corpus = CausalRecogniser(run, networks, work.inputs).stream(), task.corpus

    def step(i):
        utterance = (corpus.transcript[i], corpus.audio[i], corpus.speaker[i], 5.0 * i, 5.0 * i + 4)
        return timed(lambda: following.step(*utterance), 1)[0]

    return {"step_s": float(np.median([step(i) for i in range(220)][200:])), "members": len(networks)}


def context_length():
    """A training step and a prediction of two contexts of so many rows; and of two dialogs, causally."""
    rng, found = np.random.default_rng(0), {}
    recipe = recipe_of(Settings(variant="causal", **system_of("causal").defaults))
    for length in LENGTHS:
        audio, text = rng.normal(size=(2, 2, length, 200)).astype("float32")
        dialogs = [slice(0, length), slice(length, 2 * length)]
        arrays = {"audio": audio.reshape(-1, 200), "text": text.reshape(-1, 200)}
        rows = dialog_rows(arrays | {"speaker": rng.integers(0, 2, 2 * length).astype("int32")}, dialogs)
        wanted = targets(rows["speaker"].size).reshape(2, -1, 10)
        both = {
            "released": (
                lambda n=length: fusion_network(context_length=n),
                RECIPE,
                context_rows(list(audio), list(text), length),
                targets(2),
            ),
            "causal": (lambda: causal_network(200, 200, "shared", "sequential", 10), recipe, rows, wanted),
        }
        for name, (made, own_recipe, batch, shares) in both.items():
            keras.backend.clear_session()
            network = made()
            begin(network, own_recipe)
            found[f"{name}_{length}"] = {
                "step_s": min(timed(lambda n=network, b=batch, w=shares: n.train_on_batch(b, w), 6)),
                "prediction_s": min(timed(lambda n=network, b=batch: n.predict_on_batch(b), 6)),
            }
    return found


def evaluation():
    """Predictions of the test session's 2,103 contexts in a fresh process, tracing included, and once more."""
    audio, text = contexts(TEST)
    network = fusion_network(context_length=CONTEXT_LENGTH)
    seconds = timed(lambda: predict_contexts(network, audio, text), 2)
    return {"first_s": seconds[0], "again_s": seconds[1], "contexts": len(audio)}


def evaluation_causal():
    """The same by a member of the causal system, which runs over each dialog once."""
    stops, rng = np.cumsum(dialog_lengths(TEST)).tolist(), np.random.default_rng(0)
    dialogs = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    arrays = {name: rng.normal(size=(stops[-1], 2 * SMALL_AUDIO)).astype("float32") for name in ("audio", "text")}
    arrays["speaker"] = rng.integers(0, 2, stops[-1]).astype("int32")
    network = causal_network(2 * SMALL_AUDIO, 2 * SMALL_AUDIO, "shared", "sequential", 10)
    seconds = timed(lambda: predict_dialogs(network, arrays, dialogs), 2)
    return {"first_s": seconds[0], "again_s": seconds[1], "utterances": stops[-1]}


def word_vectors():
    return np.random.default_rng(1).normal(0, 0.4, (NUM_WORDS, 200)).astype("float32")


def token_ids():
    """(N, 50) random ids with IEMOCAP's numbers of words, for as many utterances as are trained on."""
    counts, rng = np.array(lengths()["words"]), np.random.default_rng(0)
    num = sum(dialog_lengths(TRAIN))
    words = rng.choice(len(counts), num, p=counts / counts.sum())
    ids = rng.integers(1, NUM_WORDS, (num, NUM_TOKENS)).astype("int32")
    return np.where(np.arange(NUM_TOKENS) < words[:, None], ids, 0)


def text():
    """An epoch of the text branch, padding computed once."""
    ids = token_ids()
    seconds = timed_epochs(text_branch(word_vectors()), lambda chosen: token_rows(ids[chosen]), len(ids))
    return {"first_epoch_s": seconds[0], "epoch_s": min(seconds[1:])}


def audio():
    """An epoch of the audio branch on emo_large's 6,552 columns."""
    num = sum(dialog_lengths(TRAIN))
    features = np.random.default_rng(0).normal(size=(num, NUM_AUDIO_FEATURES)).astype("float32")
    network = audio_branch(NUM_AUDIO_FEATURES)
    return {"epoch_s": min(timed_epochs(network, lambda chosen: {"features": features[chosen]}, num)[1:])}


def extraction():
    """Seconds of sound a second, eGeMAPS from wav files, for one worker and for one per core."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_release(Path(folder))
        wavs = sorted(Path(folder).rglob("sentences/wav/**/*.wav"))
        sound_s = sum((wav.stat().st_size - 44) / 32000 for wav in wavs)  # 16-bit mono at 16 kHz
        sounds = [Sound(wav) for wav in wavs]
        extract_files(sounds[:4], "egemaps_lld", Path(folder) / "warm", jobs=joblib.cpu_count(), progress=False)
        for jobs in dict.fromkeys((1, joblib.cpu_count())):
            cache = Path(folder) / f"cache-{jobs}"
            (seconds,) = timed(
                lambda c=cache, j=jobs: extract_files(sounds, "egemaps_lld", c, jobs=j, progress=False), 1
            )
            found[str(jobs)] = sound_s / seconds
    return {"sound_s_per_s": found, "sound_s": sound_s, "files": len(wavs)}


def start_up():
    """Seconds of `--help` of each script, the median of five."""
    found = {}
    for script in SCRIPTS:
        command = [sys.executable, *script, "--help"]
        seconds = timed(lambda c=command: subprocess.run(c, check=True, capture_output=True, cwd=HERE.parent), 5)
        found[script[-1]] = float(np.median(seconds))
    return {"help_s": found}


def corpus_of_iemocaps_size(path, num_features):
    """Writes a random corpus file with IEMOCAP's dialogs and words per utterance, for the scripts themselves."""
    rng, known = np.random.default_rng(0), lengths()
    dialogs = [(int(session), length) for session, of in sorted(known["dialogs"].items()) for length in of]
    sizes, num = [length for _, length in dialogs], sum(length for _, length in dialogs)
    counts = np.array(known["words"])
    words = [f"word{i}" for i in range(NUM_WORDS)]
    spoken = [" ".join(rng.choice(words, n)) for n in rng.choice(len(counts), num, p=counts / counts.sum())]
    rows = np.concatenate([np.arange(length) for length in sizes])
    corpus = Corpus(
        name="random numbers of IEMOCAP's size",
        emotions=EMOTIONS,
        audio_feature_set="egemaps_lld",
        audio_names=tuple(f"column{i}" for i in range(num_features)),
        utterance_id=np.array([f"u{i:05d}" for i in range(num)], object),
        dialog_id=np.repeat(np.array([f"d{i:03d}" for i in range(len(dialogs))], object), sizes),
        speaker=np.where(rows % 2, "M", "F").astype(object),
        transcript=np.array(spoken, object),
        session=np.repeat(np.array([session for session, _ in dialogs], "int8"), sizes),
        start_s=5.0 * rows,
        end_s=5.0 * rows + 4,
        votes_external=rng.multinomial(3, np.full(10, 0.1), num).astype("int16"),
        votes_self=np.zeros((num, 10), "int16"),
        audio=rng.normal(size=(num, num_features)).astype("float32"),
    )
    write_corpus(path, corpus)


def whole_run():
    """The scripts as users run them, start-up, branches and figures included: one epoch of each network, evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, run = Path(folder) / "corpus.h5", Path(folder) / "run"
        corpus_of_iemocaps_size(corpus, NUM_AUDIO_FEATURES)
        train = ("train.py", "--corpus", corpus, "--epochs", "1", "--run", run)
        seconds = []
        for script, *options in (train, ("evaluate.py", run)):
            command = [sys.executable, HERE.parent / script, *options]
            seconds += timed(lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL), 1)
    scripts = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"train_s": seconds[0], "evaluate_s": seconds[1], "scripts_peak_memory_mib": scripts}


def members():
    """`train.py --variant causal --jobs 2`: four members of 59 epochs each, as IEMOCAP takes about."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, glove, run = (Path(folder) / name for name in ("corpus.h5", "glove.txt", "run"))
        corpus_of_iemocaps_size(corpus, SMALL_AUDIO)
        rows = [" ".join([f"word{i}", *map("{:.4f}".format, row)]) for i, row in enumerate(word_vectors())]
        glove.write_text("\n".join(rows) + "\n")
        options = ["--variant", "causal", "--jobs", "2", "--epochs", "59", "--patience", "0"]
        files = ["--corpus", corpus, "--glove", glove, "--run", run]
        command = [sys.executable, HERE.parent / "train.py", *options, *files]
        (seconds,) = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), 1)
        num_epochs = sum(stage.epochs for stage in read_run(run).stages.values())
    return {"train_s": seconds, "epochs": num_epochs, **backend.describe_device()}
