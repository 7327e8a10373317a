"""What the tests of predictions share: a causal checkpoint that nobody trained, and a short talk."""

import csv
import sys

import keras
import numpy as np
import soundfile

import predict
from data.audio import feature_names
from data.corpus import Corpus
from data.sample import VOICES, speak
from data.task import Task
from settings import Settings
from storage.files import sha256, write_json
from storage.runs import CorpusFile, Run, StageSummary, write_run
from storage.weights import save_arrays, save_weights
from systems import system_of

EMOTIONS = (
    "neutral", "exciting", "sadness", "frustration", "happiness", "angry", "other", "surprised", "disgust", "fear",
)  # fmt: skip
WORDS = ("hello", "you", "what", "now", "bad", "good")


def made_up_corpus():
    """Five dialogs of four utterances, one for each session; the words are WORDS, the sound is noise."""
    rng, num = np.random.default_rng(0), 20
    names = feature_names("egemaps_lld", "")
    return Corpus(
        name="made up",
        emotions=EMOTIONS,
        audio_feature_set="egemaps_lld",
        audio_names=names,
        utterance_id=np.array([f"d{i // 4}u{i}" for i in range(num)], object),
        dialog_id=np.array([f"d{i // 4}" for i in range(num)], object),
        speaker=np.array([f"{'Ann' if i % 2 else 'Bob'}" for i in range(num)], object),
        transcript=np.array([" ".join(rng.choice(WORDS, 3)) + " <i>" for _ in range(num)], object),
        session=np.arange(num, dtype="int8") // 4 + 1,
        start_s=np.arange(num) % 4 * 2.0,
        end_s=np.arange(num) % 4 * 2.0 + 1,
        votes_external=rng.multinomial(3, np.full(len(EMOTIONS), 0.1), num).astype("int16"),
        votes_self=np.zeros((num, len(EMOTIONS)), "int16"),
        audio=(30 * rng.normal(size=(num, len(names)))).astype("float32"),
    )


def write_checkpoint(folder, modality="text+audio"):
    """A run folder of the causal system with random weights, which knows WORDS."""
    folder.mkdir()
    words, corpus = folder.parent / "words.txt", made_up_corpus()
    rng = np.random.default_rng(0)
    words.write_text("".join(f"{word} {' '.join(f'{one:.3f}' for one in rng.normal(size=200))}\n" for word in WORDS))
    system = system_of("causal")
    settings = Settings(variant="causal", loss="cross_entropy", members=1, modality=modality)
    settings = system.settled(settings, corpus, None if modality == "audio" else words)
    work = system.work(Task.of(corpus, settings), words)
    for name, content in work.files().items():
        (save_arrays if name.endswith(".h5") else write_json)(folder / name, content)
    keras.utils.set_random_seed(1)
    (stage,) = system.stages(settings)
    save_weights(work.network(stage), folder / f"{stage.name}.weights.h5")
    run = Run(
        settings=settings,
        emotions=EMOTIONS,
        context_length=9,
        corpus=CorpusFile(
            name="made up", path="no.h5", sha256="0" * 64, audio_feature_set="egemaps_lld", num_audio_features=46
        ),
        stages={stage.name: StageSummary(epochs=1, best_epoch=1, best_dev_loss=1.0, seconds=1.0)},
        files={path.name: sha256(path) for path in folder.iterdir()},
    )
    write_run(folder, run)
    return folder


# Start s, end s, speaker, words: known, unknown, none, a sound, at once with the next, too short to hear.
TALK = (
    (0.5, 2.0, "Ann", "Hello you, what now?"),
    (2.2, 3.5, "Bob", "Gar nichts"),
    (3.5, 4.5, "Ann", ""),
    (4.6, 5.6, "Bob", "[laughter]"),
    (5.4, 6.5, "Ann", "bad <script>alert(1)</script> & good"),
    (6.6, 6.601, "Bob", "good"),
    (6.7, 6.701, "Bob", "[coughs]"),
)
LENGTH_S = 7.0


def write_talk(folder, name="talk", channels=1, suffix=".wav"):
    """The recording of TALK and its transcript NAME.csv; with two channels Ann is on the first, Bob on the second."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(int(16000 * LENGTH_S), 2)) * 3
    for start_s, end_s, speaker, _ in TALK:
        voice = speak(rng, max(end_s - start_s, 0.1), {"Ann": 205, "Bob": 120}[speaker], **VOICES["high"])
        first = round(start_s * 16000)
        signal[first : first + len(voice), int(speaker == "Bob")] += voice
    signal = signal if channels == 2 else signal.sum(axis=1)
    soundfile.write(folder / f"{name}{suffix}", np.clip(signal, -32768, 32767).astype("int16"), 16000)
    rows = [f'{start_s},{end_s},{speaker},"{words}"\n' for start_s, end_s, speaker, words in TALK]
    (folder / f"{name}.csv").write_text("start,end,speaker,text\n" + "".join(rows), encoding="utf-8")
    return folder / f"{name}{suffix}"


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def command_of(checkpoint, monkeypatch, capsys):
    """A function that runs predict.py in this process with a checkpoint: (exit status, what it printed)."""

    def run(*arguments):
        line = ["predict.py", "--checkpoint", checkpoint, "--no-progress", "--jobs", "1", *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        status = 0
        try:
            predict.main()
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().out

    return run
