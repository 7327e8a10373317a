"""A corpus of podcasts: the same work on 10,000, 100,000 and 1,000,000 made-up utterances, 33 to a dialog.

46 acoustic columns and 768 of a text encoder, random. What is measured is written, trained on (one epoch of one member
of the causal system, dev session included) and predicted by processes of their own. The largest has 3.3 GB of arrays
and takes half an hour: `make bench SCALE=1`.

    python -m benchmarks.scale FOLDER NUM write|use     # what the benchmark starts
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data.corpus import Corpus, read_corpus, write_corpus
from data.labels import EMOTIONS
from data.rows import Rows
from data.task import Task
from settings import Settings
from storage.runs import CorpusFile, EncoderFiles, Run
from systems import system_of
from systems.causal import CausalRecogniser
from training.loop import begin

SIZES, LARGEST = (10_000, 100_000), 1_000_000
DIALOG = 33  # utterances
AUDIO, TEXT = 46, 768  # columns
HERE = Path(__file__).parent


def scale():
    """{number of utterances: {what: seconds, peak memory}}; the largest where the environment has SCALE=1."""
    found = {}
    for num in (*SIZES, *([LARGEST] if os.environ.get("SCALE") == "1" else [])):
        with tempfile.TemporaryDirectory() as folder:
            one = {}
            for what in ("write", "use"):
                command = [sys.executable, "-m", "benchmarks.scale", folder, str(num), what]
                done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stderr.strip().splitlines()[-1])
                one |= json.loads(done.stdout.splitlines()[-1])
        found[str(num)] = one
    return found


def made_up(num):
    """A `data.corpus.Corpus` of random numbers that are drawn when they are read."""

    def numbers(width):
        return Rows(lambda places: drawn(places, width), range(num), width)

    def drawn(places, width):
        return np.random.default_rng([int(places[0]), width]).standard_normal((len(places), width), "float32")

    rng, rows = np.random.default_rng(0), np.arange(num)
    words = np.array([f"word{i}" for i in range(2500)])
    spoken = rng.choice(words, (num, 8))
    parts = np.array(["train"] * 8 + ["dev", "test"], object)
    return Corpus(
        name=f"{num} made-up utterances",
        emotions=EMOTIONS,
        audio_feature_set="egemaps_lld",
        audio_names=tuple(f"column{i}" for i in range(AUDIO)),
        utterance_id=np.array([f"u{i:07d}" for i in rows], object),
        dialog_id=np.array([f"d{i // DIALOG:06d}" for i in rows], object),
        speaker=np.where(rows % 2, "M", "F").astype(object),
        transcript=np.array([" ".join(line) for line in spoken], object),
        session=np.ones(num, "int8"),
        start_s=5.0 * (rows % DIALOG),
        end_s=5.0 * (rows % DIALOG) + 4,
        votes_external=rng.multinomial(3, np.full(len(EMOTIONS), 0.1), num).astype("int16"),
        votes_self=np.zeros((num, len(EMOTIONS)), "int16"),
        audio=numbers(AUDIO),
        split=parts[rows // DIALOG % len(parts)],
        text=numbers(TEXT),
        text_encoder=EncoderFiles(name="made up", layers=(-1,), pooling="mean", sha256="0" * 64),
    )


def write(path, num):
    """Seconds to write the corpus file."""
    corpus = made_up(num)
    began = time.perf_counter()
    write_corpus(path, corpus)
    return {"write_s": time.perf_counter() - began, "file_mib": path.stat().st_size / 2**20}


def use(path, num):
    """Seconds to read the corpus file, to fit the scales, of an epoch, and of a prediction of all utterances."""
    system, found, times = system_of("causal"), {}, [time.perf_counter()]

    def took(name):
        times.append(time.perf_counter())
        found[f"{name}_s"] = times[-1] - times[-2]
        found[f"{name}_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    corpus = read_corpus(path)
    settings = Settings(variant="causal", **system.defaults)
    task = Task.of(corpus, system.settled(settings, corpus, None))
    took("read")
    work = system.work(task, None)
    took("fit")
    stage = system.stages(task.settings)[0]
    network = work.network(stage)
    data = work.data(stage, network)
    begin(network, stage.recipe)
    order = np.random.default_rng(0)
    batches = data.cut(len(data.names), stage.recipe.batch_size, order)
    for chosen in batches[:2]:  # traces
        network.train_on_batch(*data.batch(chosen, order))
    about = CorpusFile(name="", path="", sha256="", audio_feature_set="egemaps_lld", num_audio_features=AUDIO)
    run = Run(settings=task.settings, emotions=task.emotions, context_length=DIALOG, corpus=about)
    recogniser = CausalRecogniser(run, {stage.name: network}, work.inputs)
    recogniser.predict_corpus(corpus, np.arange(2000))  # traces
    took("trace")
    for chosen in batches[2:]:
        network.train_on_batch(*data.batch(chosen, order))
    data.predict_dev()
    took("epoch")
    assert np.isfinite(recogniser.predict_corpus(corpus)["causal"]).all()
    took("predict")
    return found


if __name__ == "__main__":
    folder, num, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    found = (write if what == "write" else use)(folder / "corpus.h5", num)
    found[f"{what}_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))
