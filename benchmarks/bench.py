"""Speed and memory of every part, side by side on this machine, in one run.

    make bench

Dialog lengths and words per utterance are IEMOCAP's, vectors and labels random: no corpus is needed. Each part runs in
a process of its own, so that its peak memory is its own. Writes benchmarks/RESULTS.md and results.json beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from training import backend
from experiments.costs import begin_as_trained, seconds_of_steps
from storage.files import InputError, made_folder, read_json, write_json, write_text
from experiments.intervals import markdown_table, write_between

HERE = Path(__file__).parent
BEGIN = "<!-- Written by make bench: begin -->"
CONTEXT_LENGTH, NUM_TOKENS, NUM_WORDS, NUM_AUDIO_FEATURES, BATCH_SIZE = 167, 50, 2500, 6552, 64
TRAIN, TEST = ("1", "2", "5"), ("4",)
LENGTHS = (20, 50, 100, 200, 500, 1000)
SCRIPTS = ("train.py", "evaluate.py", "reproduce.py", "baselines.py", "costs.py", "tables.py")
MODULES = ("data.prepare", "experiments.publish", "benchmarks.bench")


def main():
    parser = argparse.ArgumentParser(description="Time every part on this machine; some minutes.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which (default: all)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md and results.json")
    parser.add_argument("--in-process", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        backend.start_quietly()
        found = PARTS[arguments.in_process]()
        processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        found["peak_memory_mib"] = max(resource.getrusage(one).ru_maxrss for one in processes) / 1024
        print("\n" + json.dumps(found))
        return
    try:
        bench(arguments.parts, arguments.out)
    except (InputError, OSError) as error:  # an OSError names its file
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the parts that were finished are kept: --parts measures the others", file=sys.stderr)
        sys.exit(130)


def bench(parts, out):
    """Runs the parts, one process each, and writes what is known of all parts.

    Raises:
        InputError: a part failed; the message has its last line.
    """
    path = out / "results.json"
    made_folder(out)
    earlier, machine = read_json(path) if path.exists() else {}, backend.machine()
    known = {part: found for part, found in earlier.items() if part in PARTS and found.get("machine") == machine}
    if len(known) < len(earlier):
        print(f"measured on another machine, or of no use any more: {', '.join(sorted(set(earlier) - set(known)))}")
    for part in parts:
        print(f"{time.strftime('%H:%M:%S')}  {part}", flush=True)
        command = [sys.executable, "-m", "benchmarks.bench", "--in-process", part]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{part} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        known[part] = {**json.loads(done.stdout.splitlines()[-1]), "machine": machine}
        write_json(path, known)
    write_text(out / "RESULTS.md", results(known))
    if out == HERE:
        write_between(HERE.parent / "README.md", BEGIN, [_machine(known), "", *main_table(known)])
    print(f"written to {out / 'RESULTS.md'}")


def lengths():
    """{"dialogs": {session: [utterances of each dialog]}, "words": [utterances of i words, the last of more, too]}."""
    return read_json(HERE / "iemocap_lengths.json")


def dialog_lengths(sessions):
    """Utterances of each dialog of the sessions."""
    known = lengths()["dialogs"]
    return [length for session in sessions for length in known[session]]


def contexts(sessions, seed=0):
    """Random acoustic and textual contexts of all utterances of the sessions' dialogs: two lists of (h, 200) views."""
    rng = np.random.default_rng(seed)
    audio, text = [], []
    for length in dialog_lengths(sessions):
        dialog = rng.normal(0, 0.5, (2, length, 200)).astype("float32")
        audio += [dialog[0, : i + 1] for i in range(length)]
        text += [dialog[1, : i + 1] for i in range(length)]
    return audio, text


def whole_dialogs(sessions):
    """The sessions' dialogs, random: (N, 200) acoustic and textual vectors, (N,) speakers, and the dialogs' slices."""
    stops, rng = np.cumsum(dialog_lengths(sessions)).tolist(), np.random.default_rng(0)
    dialogs = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    audio, text = rng.normal(0, 0.5, (2, stops[-1], 200)).astype("float32")
    return audio, text, rng.integers(0, 2, stops[-1]), dialogs


def targets(num, seed=1):
    return np.random.default_rng(seed).dirichlet(np.ones(10), num).astype("float32")


def timed_epochs(network, inputs, num, epochs=3):
    """Seconds of each epoch of training on N samples in batches of 64; the first one traces."""
    from data.contexts import shuffled_batches

    begin_as_trained(network)
    orders = [shuffled_batches(num, BATCH_SIZE, np.random.default_rng([0, epoch])) for epoch in range(epochs)]
    wanted = targets(num)
    return [seconds_of_steps(network, inputs, wanted, batches) for batches in orders]


def timed(function, calls):
    """Seconds of each call."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return seconds


def matmul_rate():
    """Operations a second of float32 products of 2048 x 2048 matrices, the best of ten."""
    import keras

    matrices = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 2048, 2048)).astype("float32"))
    return 2 * 2048**3 / min(timed(lambda: float(keras.ops.matmul(matrices[0], matrices[1])[0, 0]), 10))


def fusion():
    """An epoch of the fusion network with padding computed once, and the share of the machine's product rate."""
    from experiments.costs import forward_flops
    from data.contexts import context_rows
    from model import fusion_network

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
    from experiments.baselines import bc_lstm, context_vectors
    from benchmarks.padded import padded_fusion, zero_padded
    from data.contexts import context_rows
    from model import fusion_network

    audio, text = contexts(TRAIN)
    ours, plain = fusion_network(context_length=CONTEXT_LENGTH), padded_fusion(context_length=CONTEXT_LENGTH)
    plain.set_weights(ours.get_weights())

    def of(chosen):
        return [audio[i] for i in chosen], [text[i] for i in chosen]

    def padded(chosen):
        return [zero_padded(one, CONTEXT_LENGTH) for one in of(chosen)]

    chosen = np.random.default_rng(2).permutation(len(audio))[:BATCH_SIZE]
    answers = ours.predict_on_batch(context_rows(*of(chosen), CONTEXT_LENGTH))
    difference = float(np.abs(answers - plain.predict_on_batch(padded(chosen))).max())
    systems = {
        "ours": (ours, lambda chosen: context_rows(*of(chosen), CONTEXT_LENGTH)),
        "padded": (plain, padded),
        "bc_lstm": (bc_lstm(10), lambda chosen: context_vectors(*of(chosen))),
    }
    return {"largest_difference": difference, **in_turn(systems, len(audio), steps=8)}


def text_side_by_side():
    """Steps of the text branch and of the same on 50 padded tokens."""
    from benchmarks.padded import padded_text
    from data.contexts import token_rows
    from model import text_branch

    ids = token_ids()
    words = np.random.default_rng(1).normal(0, 0.4, (NUM_WORDS, 200)).astype("float32")
    systems = {
        "ours": (text_branch(words), lambda chosen: token_rows(ids[chosen])),
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
    from data.contexts import shuffled_batches

    wanted, seconds = targets(num), {name: [] for name in systems}
    for network, _ in systems.values():
        begin_as_trained(network)
    batches = shuffled_batches(num, BATCH_SIZE, np.random.default_rng([0, 0]))[:steps]
    for _ in range(1 + rounds):
        for name, (network, inputs) in systems.items():
            seconds[name].append(seconds_of_steps(network, inputs, wanted, batches))
    measured = {name: values[1:] for name, values in seconds.items()}
    scale = num / (steps * BATCH_SIZE)
    return {name: scale * float(np.median(values)) for name, values in measured.items()} | {"rounds_s": measured}


def causal():
    """An epoch of the causal variant: whole dialogs, four to a step."""
    import causal as variant
    from data.contexts import dialog_rows, side_by_side, similar_length_batches
    from model import fusion_network

    audio, text, speaker, dialogs = whole_dialogs(TRAIN)
    sizes, wanted = np.array(dialog_lengths(TRAIN)), targets(len(audio))
    network = fusion_network("causal", activation="softmax")
    begin_as_trained(network, variant="causal", **variant.DEFAULTS)
    seconds = []
    for epoch in range(3):
        began = time.perf_counter()
        batches = similar_length_batches(sizes, variant.DEFAULTS["batch_size"], np.random.default_rng([0, epoch]))
        for chosen in batches:
            slices = [dialogs[i] for i in chosen]
            network.train_on_batch(dialog_rows(audio, text, speaker, slices), side_by_side(wanted, slices))
        seconds.append(time.perf_counter() - began)
    return {"epoch_s": min(seconds[1:])}


def context_length():
    """A training step and a prediction of two contexts of so many rows; and of two dialogs, causally."""
    import keras

    from data.contexts import context_rows, dialog_rows
    from model import fusion_network

    rng, found = np.random.default_rng(0), {}
    for variant in ("released", "causal"):
        for length in LENGTHS:
            keras.backend.clear_session()
            network = fusion_network(variant, context_length=length)
            begin_as_trained(network, variant=variant)
            audio, text = rng.normal(size=(2, 2, length, 200)).astype("float32")
            if variant == "released":
                batch, wanted = context_rows(list(audio), list(text), length), targets(2)
            else:
                rows = [one.reshape(-1, 200) for one in (audio, text)]
                dialogs = [slice(0, length), slice(length, 2 * length)]
                batch = dialog_rows(*rows, rng.integers(0, 2, 2 * length), dialogs)
                wanted = targets(batch["audio"].shape[0] * batch["audio"].shape[1]).reshape(2, -1, 10)
            found[f"{variant}_{length}"] = {
                "step_s": min(timed(lambda n=network, b=batch, w=wanted: n.train_on_batch(b, w), 6)),
                "prediction_s": min(timed(lambda n=network, b=batch: n.predict_on_batch(b), 6)),
            }
    return found


def evaluation():
    """Predictions of the test session's 2,103 contexts in a fresh process, tracing included, and once more."""
    from model import fusion_network, predict_contexts

    audio, text = contexts(TEST)
    network = fusion_network(context_length=CONTEXT_LENGTH)
    seconds = timed(lambda: predict_contexts(network, audio, text), 2)
    return {"first_s": seconds[0], "again_s": seconds[1], "contexts": len(audio)}


def evaluation_causal():
    """The same by the causal variant, which runs over each dialog once."""
    from model import fusion_network, predict_dialogs

    dialogs = whole_dialogs(TEST)
    network = fusion_network("causal", activation="softmax")
    seconds = timed(lambda: predict_dialogs(network, *dialogs), 2)
    return {"first_s": seconds[0], "again_s": seconds[1], "utterances": len(dialogs[0])}


def token_ids():
    """(N, 50) random ids with IEMOCAP's numbers of words, for as many utterances as are trained on."""
    counts, rng = np.array(lengths()["words"]), np.random.default_rng(0)
    num = sum(dialog_lengths(TRAIN))
    words = rng.choice(len(counts), num, p=counts / counts.sum())
    ids = rng.integers(1, NUM_WORDS, (num, NUM_TOKENS)).astype("int32")
    return np.where(np.arange(NUM_TOKENS) < words[:, None], ids, 0)


def text():
    """An epoch of the text branch, padding computed once."""
    from data.contexts import token_rows
    from model import text_branch

    ids = token_ids()
    words = np.random.default_rng(1).normal(0, 0.4, (NUM_WORDS, 200)).astype("float32")
    seconds = timed_epochs(text_branch(words), lambda chosen: token_rows(ids[chosen]), len(ids))
    return {"first_epoch_s": seconds[0], "epoch_s": min(seconds[1:])}


def audio():
    """An epoch of the audio branch on emo_large's 6,552 columns."""
    from model import audio_branch

    num = sum(dialog_lengths(TRAIN))
    features = np.random.default_rng(0).normal(size=(num, NUM_AUDIO_FEATURES)).astype("float32")
    network = audio_branch(NUM_AUDIO_FEATURES)
    return {"epoch_s": min(timed_epochs(network, lambda chosen: {"features": features[chosen]}, num)[1:])}


def extraction():
    """Seconds of sound a second, eGeMAPS from wav files, for one worker and for one per core."""
    import joblib

    from data.extraction import extract_files
    from data.sample import write_release

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_release(Path(folder))
        wavs = sorted(Path(folder).rglob("sentences/wav/**/*.wav"))
        sound_s = sum((wav.stat().st_size - 44) / 32000 for wav in wavs)  # 16-bit mono at 16 kHz
        extract_files(wavs[:4], "egemaps_lld", Path(folder) / "warm", jobs=joblib.cpu_count(), progress=False)
        for jobs in dict.fromkeys((1, joblib.cpu_count())):
            cache = Path(folder) / f"cache-{jobs}"
            (seconds,) = timed(lambda c=cache, j=jobs: extract_files(wavs, "egemaps_lld", c, jobs=j, progress=False), 1)
            found[str(jobs)] = sound_s / seconds
    return {"sound_s_per_s": found, "sound_s": sound_s, "files": len(wavs)}


def start_up():
    """Seconds of `--help` of each script, the median of five."""
    found = {}
    for script in (*SCRIPTS, *MODULES):
        command = [sys.executable, *(("-m", script) if script in MODULES else (script,)), "--help"]
        seconds = timed(lambda c=command: subprocess.run(c, check=True, capture_output=True, cwd=HERE.parent), 5)
        found[script] = float(np.median(seconds))
    return {"help_s": found}


def corpus_of_iemocaps_size(path, num_features):
    """Writes a random corpus file with IEMOCAP's dialogs and words per utterance, for the scripts themselves."""
    from data.corpus import Corpus, write_corpus
    from data.labels import EMOTIONS

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


PARTS = {
    "fusion": fusion,
    "fusion-side-by-side": fusion_side_by_side,
    "causal": causal,
    "context-length": context_length,
    "evaluation": evaluation,
    "evaluation-causal": evaluation_causal,
    "text": text,
    "text-side-by-side": text_side_by_side,
    "audio": audio,
    "extraction": extraction,
    "start-up": start_up,
    "whole-run": whole_run,
}


def results(known):
    """The Markdown page of the parts that are measured."""
    lines = ["# Speed and memory", "", "Written by `make bench`. " + _machine(known), "", *main_table(known)]
    if "context-length" in known:
        lines += ["", "Two contexts (released) or two dialogs (causal) of so many rows, seconds:", ""]
        names = ["rows", "released, step", "released, prediction", "causal, step", "causal, prediction"]
        both = [(variant, what) for variant in ("released", "causal") for what in ("step_s", "prediction_s")]
        found = known["context-length"]
        lines += markdown_table(
            names, [[str(n)] + [f"{found[f'{variant}_{n}'][what]:.3f}" for variant, what in both] for n in LENGTHS]
        )
    lines += ["", "Peak memory of the process of each part, or of the largest that it starts, MiB:", ""]
    lines += markdown_table(["part", "MiB"], [[part, f"{one['peak_memory_mib']:.0f}"] for part, one in known.items()])
    return "\n".join(lines) + "\n"


def main_table(known):
    """What the README shows, as lines."""
    rows = [[name, measured(known), target] for name, part, (measured, target) in ROWS if part in known]
    return markdown_table(["", "measured", "target"], rows)


def _machine(known):
    about = known.get("fusion", {})
    where = f"{about['machine']}, {' '.join(about['devices'])}, {about['backend']}" if about else "this machine"
    return (
        f"Measured on {where}; IEMOCAP's dialog lengths (5,800 training contexts of Sessions 1, 2 and 5, 2,103 test "
        "contexts of Session 4), random vectors, batches of 64 (causal variant: of 4 dialogs), one run of each part in "
        "a process of its own, one after the other. An epoch is all steps with their batches' assembly, shapes traced "
        "before; the faster of two. Side by side: the same 8 batches (text: 30) by each network in turn, in one "
        "process, five rounds, the median scaled to an epoch."
    )


def _ratio(part, other):
    def measured(known):
        rounds = known[part]["rounds_s"]
        each = [theirs / ours for theirs, ours in zip(rounds[other], rounds["ours"], strict=True)]
        return (
            f"{known[part][other] / known[part]['ours']:.1f} times as fast, rounds {min(each):.1f} to {max(each):.1f}"
        )

    return measured


def _seconds(part, key="epoch_s"):
    return lambda known: f"{known[part][key]:.1f} s"


# What stands in the table: name, the part that must be there, (what is measured, the target).
ROWS = (
    ("fusion epoch", "fusion", (_seconds("fusion"), "")),
    ("fusion epoch, first one, with tracing", "fusion", (_seconds("fusion", "first_epoch_s"), "")),
    ("side by side: fusion epoch", "fusion-side-by-side", (_seconds("fusion-side-by-side", "ours"), "")),
    ("side by side: 167 padded rows", "fusion-side-by-side", (_seconds("fusion-side-by-side", "padded"), "")),
    ("side by side: BC-LSTM, 300 units", "fusion-side-by-side", (_seconds("fusion-side-by-side", "bc_lstm"), "")),
    ("ours against padded", "fusion-side-by-side", (_ratio("fusion-side-by-side", "padded"), "6 times")),
    ("ours against BC-LSTM", "fusion-side-by-side", (_ratio("fusion-side-by-side", "bc_lstm"), "faster")),
    (
        "largest difference of ours and padded, predictions",
        "fusion-side-by-side",
        (lambda known: f"{known['fusion-side-by-side']['largest_difference']:.1e}", "1e-5"),
    ),
    (
        "matrix-product rate of this machine, 2048 x 2048",
        "fusion",
        (lambda known: f"{known['fusion']['matmul_flops_per_s'] / 1e9:.0f} GFLOP/s", ""),
    ),
    (
        "of which a fusion epoch reaches",
        "fusion",
        (lambda known: f"{100 * known['fusion']['share_of_matmul_rate']:.0f} %", "65 %"),
    ),
    ("causal variant, fusion epoch", "causal", (_seconds("causal"), "")),
    ("predicting 2,103 contexts, tracing included", "evaluation", (_seconds("evaluation", "first_s"), "10 s")),
    ("the same again", "evaluation", (_seconds("evaluation", "again_s"), "")),
    (
        "the same utterances, causal variant, tracing included",
        "evaluation-causal",
        (_seconds("evaluation-causal", "first_s"), "10 s"),
    ),
    ("text epoch", "text", (_seconds("text"), "")),
    ("side by side: text epoch", "text-side-by-side", (_seconds("text-side-by-side", "ours"), "")),
    ("side by side: 50 padded tokens", "text-side-by-side", (_seconds("text-side-by-side", "padded"), "")),
    ("ours against padded, text", "text-side-by-side", (_ratio("text-side-by-side", "padded"), "3 times")),
    ("audio epoch, 6,552 columns", "audio", (_seconds("audio"), "")),
    (
        "eGeMAPS features, seconds of sound a second, by workers",
        "extraction",
        (
            lambda known: "; ".join(f"{n}: {rate:.0f}" for n, rate in known["extraction"]["sound_s_per_s"].items()),
            "",
        ),
    ),
    (
        "`train.py`, one epoch of each network, 6,552 columns, start-up included",
        "whole-run",
        (lambda known: f"{known['whole-run']['train_s']:.0f} s", ""),
    ),
    (
        "`evaluate.py` of it, start-up, branches and figure included",
        "whole-run",
        (lambda known: f"{known['whole-run']['evaluate_s']:.0f} s", ""),
    ),
    (
        "most memory of the two",
        "whole-run",
        (lambda known: f"{known['whole-run']['scripts_peak_memory_mib'] / 1024:.1f} GiB", "3 GiB"),
    ),
    (
        "slowest `--help`",
        "start-up",
        (lambda known: f"{max(known['start-up']['help_s'].values()):.2f} s", "1 s"),
    ),
)


if __name__ == "__main__":
    main()
