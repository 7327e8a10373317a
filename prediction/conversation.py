"""One conversation: transcript and recording to answers, notes on what is odd, and the files.

The recording is cut by the transcript's times, openSMILE describes each utterance, and the checkpoint answers for the
conversation as a whole. An utterance without known words, or without usable sound, is answered from the other.

Letters of the shape comments: N utterances, A acoustic features, C emotions.
"""

import contextlib
import functools
import json
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import opensmile  # noqa: F401 (before the framework: data.audio._opensmile says why)

from checkpoint import load_checkpoint
from data.transcripts import read_transcript
from data.utterance import Utterance
from prediction import output, sound
from prediction.page import write_page
from storage.files import InputError, read_json, sha256
from storage.runs import read_run

SUFFIXES = (".html", ".csv", ".emotions.vtt", ".json")  # of what is written, the last one last
_OVERLAP_S = 0.1  # shorter ones come of rounded times
_MANY_UNKNOWN = 0.4  # of the words; English talk has a tenth
# What a transcriber writes of sounds: "[laughter]", "(coughs)" alone in a line, "*sighs*", music.
_SOUNDS = re.compile(r"\[[^\]]*\]|[♪♫][^♪♫]*[♪♫]?|\*[^*\s][^*]{0,40}\*|^\W*[(（][^()（）]*[)）]\W*$")
_ABOUT = {
    "IEMOCAP": "ten actors who talk in pairs, acted or improvised, in American English and a quiet room",
    "MELD": "scenes of an American television series",
}
_lock = threading.Lock()  # a Dask worker may have several threads, and a network is for one at a time


@dataclass(frozen=True)
class Options:
    """How recordings are predicted.

    `checkpoint` is the run folder; `glove` a file of further words; `audio` whether sound is read; `speaker_channels`
    names a speaker for each channel of the recordings; `emo_large_conf` as of `data.audio.feature_config`; `jobs`
    processes, None for all cores; `progress` whether to show a bar.
    """

    checkpoint: Path
    glove: Path | None = None
    audio: bool = True
    speaker_channels: tuple = ()
    emo_large_conf: Path | None = None
    jobs: int | None = None
    progress: bool = False


@dataclass(frozen=True)
class Job:
    """A conversation to predict: its name, its transcript, its recording or None; `others` are further transcripts."""

    name: str
    transcript: Path
    recording: Path | None = None
    others: tuple = ()

    def inputs(self, options):
        """What the answer depends on, besides the checkpoint; a recording is known by its size and time."""
        said = asdict(options) | {"transcript": {"file": self.transcript.name, "sha256": sha256(self.transcript)}}
        for name in ("checkpoint", "jobs", "progress"):
            del said[name]
        for name in ("glove", "emo_large_conf"):
            said[name] = _seen(said[name])
        return said | {"recording": _seen(self.recording), "speaker_channels": list(options.speaker_channels)}


def _seen(path):
    """A file's name, size and time, or None."""
    if path is None:
        return None
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return {"file": Path(path).name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def checkpoint_said(folder):
    """{"name", "sha256", "trained_on"} of a run folder."""
    run = read_run(folder)
    return {"name": Path(folder).resolve().name, "sha256": sha256(folder / "run.json"), "trained_on": run.corpus.name}


def limits_of(folder):
    """What a reader has to know of a checkpoint, in a sentence or two."""
    run = read_run(folder)
    about = next((f", {text}" for name, text in _ABOUT.items() if run.corpus.name.startswith(name)), "")
    said = f"The answers are guesses of a network that learned from {run.corpus.name}{about}."
    if "results.json" in run.files:
        accuracy = read_json(folder / "results.json").get("accuracy_10")
        if isinstance(accuracy, float):
            said += (
                f" There it names the raters' majority for {100 * accuracy:.0f} of 100 utterances that it never saw."
            )
    return said + " Other voices, rooms, languages and everyday talk are harder."


@functools.lru_cache(maxsize=1)
def recogniser_of(checkpoint, glove):
    """The checkpoint, loaded once per process."""
    return load_checkpoint(checkpoint, glove=glove)


def path_of(job, out, suffix):
    """Where a file of a conversation is written."""
    return Path(out) / f"{job.name}{suffix}"


def finished(job, options, out):
    """What NAME.json of an earlier run holds where that run was of the same inputs, else None."""
    path = path_of(job, out, ".json")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["format"] == output.FORMAT and known["format_version"] == output.FORMAT_VERSION:
            same = known["inputs"] == job.inputs(options) and known["checkpoint"] == checkpoint_said(options.checkpoint)
            return known if same else None
    except (InputError, OSError, ValueError, KeyError, TypeError):
        pass
    return None


def check_out(job, out):
    """Refuses a folder in which an answer would take the place of what it is made of.

    Raises:
        InputError: so it is.
    """
    for suffix in SUFFIXES:
        path = path_of(job, out, suffix)
        for source in filter(None, (job.transcript, job.recording, *job.others)):
            if path.resolve() == source.resolve():
                raise InputError(f"{path}: the answer would take the place of {source}; choose another --out")


def run(job, options, out):
    """Predicts a conversation and writes its files; NAME.json comes last, so that it says that all are there.

    Returns:
        The `prediction.output.Conversation`.

    Raises:
        InputError: transcript, recording or checkpoint cannot be used; nothing is written then.
    """
    check_out(job, out)
    with sound.opened(job.recording) if job.recording else contextlib.nullcontext() as path:
        with _lock:
            conversation = predict(job, options, path)
        folder = path_of(job, out, "").parent
        played = sound.for_page(job.recording, path, conversation.duration_s, folder) if path else None
    folder.mkdir(parents=True, exist_ok=True)
    writers = (lambda *both: write_page(*both, played), output.write_table, output.write_subtitles)
    for suffix, write in zip(SUFFIXES, (*writers, output.write_answers), strict=True):
        write(path_of(job, out, suffix), conversation)
    return conversation


def predict(job, options, path):
    """The `prediction.output.Conversation` of a job.

    Args:
        job: `Job`.
        options: `Options`.
        path: of `prediction.sound.opened`, or None for words alone.
    """
    recogniser = recogniser_of(options.checkpoint, options.glove)
    utterances, notes = read_transcript(job.transcript)
    if job.others:
        notes[f"other transcripts are there and not read: {', '.join(one.name for one in job.others)}"] = []
    reads_sound, reads_words = "audio_features" in recogniser.needs, recogniser.run.settings.modality != "audio"
    if not path and reads_sound and not recogniser.bears_silence:
        raise InputError(f"{options.checkpoint}: this checkpoint cannot answer from words alone; give it the recording")
    duration_s = utterances[-1].end_s if not path else sound.length(path)[0]
    features, failures = None, {}
    if reads_sound:
        features = np.full((len(utterances), len(recogniser.audio_names)), np.nan)
    if path:
        _note_times(utterances, duration_s, notes, bool(options.speaker_channels))
    if path and reads_sound:
        features, failures = _features(job, utterances, path, options, recogniser, notes)
    texts = [_SOUNDS.sub(" ", one.transcript) for one in utterances]
    known = recogniser.known_words(texts) if reads_words else np.zeros(len(texts))
    _note_words(utterances, texts, known, notes)
    for why in dict.fromkeys(failures.values()):
        notes[f"no usable sound ({why})"] = [
            one.utterance_id for i, one in enumerate(utterances) if failures.get(i) == why
        ]
    rests = _rests_on(features, np.nan_to_num(known) > 0, recogniser)
    for what, said in (("words", "answered from the words alone"), ("sound", "answered from the sound alone")):
        _add(notes, said, [one.utterance_id for one, on in zip(utterances, rests, strict=True) if on == what])
    nothing = [one.utterance_id for one, on in zip(utterances, rests, strict=True) if on == "nothing"]
    _add(notes, "neither known words nor usable sound: no answer", nothing)
    shares = _shares(recogniser, utterances, texts, features, rests)
    if not reads_sound or not path:
        notes["no sound is read: all answers rest on the words"] = notes.pop("answered from the words alone", [])
    answers = tuple(map(output.Answer, utterances, shares, rests))
    return output.Conversation(
        name=job.name,
        emotions=recogniser.emotions,
        answers=answers,
        checkpoint=checkpoint_said(options.checkpoint),
        limits=limits_of(options.checkpoint),
        notes=notes,
        inputs=job.inputs(options),
        recording=job.recording,
        duration_s=max(duration_s, 0.001),
    )


def _add(notes, sentence, ids):
    if ids:
        notes[sentence] = ids


def _note_times(utterances, duration_s, notes, apart):
    """Times past the end of the sound, and speakers who talk at once, which no cut can part."""
    past = [one.utterance_id for one in utterances if one.start_s >= duration_s]
    _add(notes, f"start after the recording ends ({duration_s:.1f} s); are these its times, in seconds?", past)
    long = [one.utterance_id for one in utterances if one.start_s < duration_s < one.end_s - 0.25]
    _add(notes, f"end after the recording ends ({duration_s:.1f} s)", long)
    latest, at_once = {}, []  # {speaker: (end, id)} of each one's utterance that ends last
    for one in utterances:
        for speaker, (end_s, name) in latest.items():
            if speaker != one.speaker and min(end_s, one.end_s) - one.start_s > _OVERLAP_S:
                at_once += [name, one.utterance_id]
        latest[one.speaker] = max(latest.get(one.speaker, (0, "")), (one.end_s, one.utterance_id))
    said = "overlap with another speaker" + ("" if apart else ", and the sound holds both voices")
    _add(notes, said, list(dict.fromkeys(at_once)))


def _features(job, utterances, path, options, recogniser, notes):
    """((N, A) features, {position: why there are none})."""
    channels = _channels(job, utterances, path, options.speaker_channels, notes)
    spans = [(one.start_s, one.end_s, channels.get(one.speaker)) for one in utterances]
    feature_set = recogniser.run.corpus.audio_feature_set
    config = options.emo_large_conf
    features, failures, names = sound.features_of(path, spans, feature_set, config, options.jobs, options.progress)
    if names != recogniser.audio_names:
        raise InputError(
            f"{options.checkpoint}: reads other features than {feature_set} of this version of the project"
        )
    return features, failures


def _channels(job, utterances, path, named, notes):
    """{speaker: channel from 1}.

    Raises:
        InputError: there are fewer channels, or nobody of that name speaks.
    """
    num_channels = sound.length(path)[1]
    if not named:
        if num_channels > 1:
            notes[f"{num_channels} channels are averaged; --speaker-channels takes them apart"] = []
        return {}
    if num_channels != len(named):
        raise InputError(f"{job.recording}: {num_channels} channels, --speaker-channels names {len(named)}")
    speakers = {one.speaker for one in utterances}
    strangers = [name for name in named if name not in speakers]
    if strangers:
        raise InputError(
            f"{job.transcript}: no utterance of {strangers[0]!r:.40}, whom --speaker-channels names; "
            f"speakers are {', '.join(sorted(speakers))}"
        )
    _add(
        notes,
        "speaker without a channel: read from all channels",
        [u.utterance_id for u in utterances if u.speaker not in named],
    )
    return {name: number for number, name in enumerate(named, 1)}


def _note_words(utterances, texts, known, notes):
    """Empty texts, sounds in brackets, and words that the checkpoint does not know."""
    _add(notes, "no text", [one.utterance_id for one in utterances if not one.transcript])
    marked = [one.utterance_id for one, text in zip(utterances, texts, strict=True) if text != one.transcript]
    _add(notes, "sounds in brackets, such as [laughter]: not read as words", marked)
    counts = np.array([len(text.split()) for text in texts], "float64")
    there = ~np.isnan(known) & (counts > 0)
    if there.any():
        unknown = 1 - np.average(known[there], weights=counts[there])
        said = f"{unknown:.0%} of the words are unknown to the checkpoint".replace("%", " %")
        if unknown > _MANY_UNKNOWN:
            said += "; is this another language than its own? The answers rest on the sound, if at all"
        if unknown > 0.005:
            notes[said] = []


def _rests_on(features, has_words, recogniser):
    """One of `output.RESTS_ON` for each utterance."""
    has_sound = np.zeros(len(has_words), bool) if features is None else ~np.isnan(features).any(axis=1)
    if not recogniser.bears_silence:  # needs all that it reads
        if features is not None:
            both = "words+sound" if recogniser.run.settings.modality != "audio" else "sound"
            return [both if heard else "nothing" for heard in has_sound]
        return ["words" if known else "nothing" for known in has_words]
    names = {(True, True): "words+sound", (True, False): "words", (False, True): "sound", (False, False): "nothing"}
    return [names[bool(known), bool(heard)] for known, heard in zip(has_words, has_sound, strict=True)]


def _shares(recogniser, utterances, texts, features, rests):
    """N times (C,) shares, or None where there is nothing to answer from; such utterances are no context either."""
    rows = [i for i, on in enumerate(rests) if on != "nothing"]
    shares = [None] * len(utterances)
    if rows:
        answered = recogniser.predict_dialog(
            [texts[i] for i in rows],
            None if features is None else features[rows],
            [utterances[i].speaker for i in rows],
            np.array([utterances[i].start_s for i in rows]),
            np.array([utterances[i].end_s for i in rows]),
        )
        for i, row in zip(rows, answered, strict=True):
            shares[i] = row
    return shares


def of_dialog(folder, recogniser, task, dialog):
    """The `prediction.output.Conversation` of a dialog of a corpus, raters' votes beside the prediction.

    Args:
        folder: the run folder.
        recogniser: of `checkpoint.load_checkpoint`.
        task: `data.task.Task` on the corpus.
        dialog: its id.

    Raises:
        InputError: the corpus has no such dialog.
    """
    if dialog not in task.dialogs:
        raise InputError(
            f"{task.corpus.name}: no dialog {dialog!r:.60}; it has {', '.join(list(task.dialogs)[:3])}, ..."
        )
    corpus, rows = task.corpus, np.arange(task.dialogs[dialog].start, task.dialogs[dialog].stop)
    shares = list(recogniser.predict_corpus(corpus, rows).values())[-1]
    reads = {"text+audio": "words+sound", "text": "words", "audio": "sound"}[recogniser.run.settings.modality]
    answers = []
    for place, row in enumerate(rows):
        one = Utterance(
            str(corpus.utterance_id[row]),
            dialog,
            str(corpus.speaker[row]),
            float(corpus.start_s[row]),
            float(corpus.end_s[row]),
            str(corpus.transcript[row]),
        )
        votes = task.shares[row] if task.shares[row].sum() > 0 else None
        answers.append(output.Answer(one, shares[place], reads, votes))
    return output.Conversation(
        name=dialog,
        emotions=recogniser.emotions,
        answers=tuple(answers),
        checkpoint=checkpoint_said(Path(folder)),
        limits=limits_of(Path(folder)),
        duration_s=max(one.utterance.end_s for one in answers),
    )
