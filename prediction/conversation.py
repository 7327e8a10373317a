"""One conversation: transcript and recording to answers, notes on what is odd, and the files.

The recording is cut by the transcript's times, openSMILE describes each utterance, and the checkpoint answers for the
conversation as a whole. An utterance without known words, or without usable sound, is answered from the other.

Letters of the shape comments: N utterances, A acoustic features, C emotions.
"""

import contextlib
import dataclasses
import functools
import os
import re
import stat
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from checkpoint import load_checkpoint
from data.encoders import AudioEncoder
from data.pieces import WHOLE_NUMBERS
from data.sound import opened
from data.transcripts import NO_END, NO_SPEAKERS, read_transcript
from prediction import output, sound
from prediction.about import checkpoint_said, limits_of
from prediction.page import write_page
from scoring.results import unknown_share
from storage.files import InputError, made_folder, named, read_json, sha256

SUFFIXES = (".html", ".csv", output.SUBTITLES, ".json")  # of what is written, the last one last
_OVERLAP_S = 0.1  # shorter ones come of rounded times
_LOUDEST = "no speakers are named: each utterance is given to the channel that is loudest at its time"
_OF_PROGRAMS = (".csv", ".tsv", ".json")  # transcripts whose times may have another unit than they seem
_FAR_LONGER = 20  # times that milliseconds, read as seconds, are longer than the recording; or seconds shorter
_LONG_S = 300  # as the median utterance
_ROUNDED_S = 0.25  # that an end may lie behind the recording's
_FAR_BELOW, _TOGETHER = 100, 1.6  # ratios of power: 20 dB and 2 dB
_SOME_UNKNOWN, _MANY_UNKNOWN = 0.02, 0.4  # of the words; American talk has a tenth
# What a transcriber writes of sounds: "[laughter]", "(coughs)" alone in a line, "*sighs*", music.
_SOUNDS = re.compile(r"\[[^\]]*\]|[♪♫][^♪♫]*[♪♫]?|(?<!\w)\*[^*\s][^*]{0,40}\*(?!\w)|^\W*[(（][^()（）]*[)）]\W*$")
_lock = threading.Lock()  # a Dask worker may have several threads, and a network is for one at a time


@dataclass(frozen=True)
class Options:
    """How recordings are predicted.

    `checkpoint` is the run folder; `glove` a file of further words; `text_encoder` and `audio_encoder` say where the
    encoders are that it reads through, None: by their names; `audio` whether sound is read; `speaker_channels`
    names a speaker for each channel of the recordings; `emo_large_conf` as of `data.audio.feature_config`; `jobs`
    processes, None for all cores; `progress` whether to show a bar.
    """

    checkpoint: Path
    glove: Path | None = None
    text_encoder: str | None = None
    audio_encoder: str | None = None
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
        said = asdict(options) | {
            "transcript": {"file": shown(self.transcript.name), "sha256": sha256(self.transcript)}
        }
        for name in ("checkpoint", "jobs", "progress"):
            del said[name]
        for name in ("glove", "emo_large_conf"):
            said[name] = _seen(said[name])
        return said | {"recording": _seen(self.recording), "speaker_channels": list(options.speaker_channels)}


def _seen(path):
    """A file's name, size and time, or None."""
    if path is None:
        return None
    with named(path):
        stat = Path(path).stat()
    return {"file": shown(Path(path).name), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


@functools.lru_cache(maxsize=1)
def recogniser_of(checkpoint, glove, text_encoder):
    """The checkpoint, loaded once per process."""
    return load_checkpoint(checkpoint, glove=glove, text_encoder=text_encoder)


def shown(name):
    """The name of a file as text; bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def path_of(job, out, suffix):
    """Where a file of a conversation is written."""
    return Path(out) / f"{job.name}{suffix}"


def read_answer(path):
    """What a NAME.json of ours holds, or None where it is none."""
    try:
        known = read_json(path)
        ours = (known["format"], known["format_version"]) == (output.FORMAT, output.FORMAT_VERSION)
        return known if ours and output.adds_up(known) else None
    except (InputError, KeyError, TypeError, ValueError):
        return None


def finished(job, options, out):
    """Whether NAME.json is of an earlier run on the same inputs, by the same checkpoint."""
    known = read_answer(path_of(job, out, ".json"))
    with contextlib.suppress(InputError, OSError, KeyError):
        if known and known["inputs"] == job.inputs(options):
            return known["checkpoint"] == checkpoint_said(options.checkpoint)
    return False


def check_out(job, out):
    """Refuses, before the work, a transcript that is an answer, and places where the answer cannot be.

    Raises:
        InputError: the transcript is an answer of ours; a name is too long; a file is in the place of the folder, or
            a folder in that of a file; another file than an answer of ours lies there; or the folder cannot be written
            to.
    """
    if output.is_answer(job.transcript):
        raise InputError(f"{job.transcript}: what predict.py wrote, not a transcript")
    for suffix in SUFFIXES:
        path = path_of(job, out, suffix)
        with named(path, "cannot be written"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISDIR(os.lstat(path).st_mode):  # which refuses a name that is too long
                raise InputError(f"{path}: is a folder, in the place of an answer; choose another --out")
        if path.exists() and not output.is_answer(path):
            raise InputError(f"{path}: is not predict.py's, and the answer would take its place; choose another --out")
    there = next(one for one in path.parents if one.exists())
    if not there.is_dir():
        raise InputError(f"{there}: is a file, and a folder for the answers is needed; choose another --out")
    with named(there, "cannot be written to", "; choose another --out"), tempfile.TemporaryFile(dir=there):
        pass


def run(job, options, out):
    """Predicts a conversation and writes its files; NAME.json comes last, so that it says that all are there.

    Returns:
        The `prediction.output.Conversation`.

    Raises:
        InputError: transcript, recording or checkpoint cannot be used; nothing is written then.
    """
    check_out(job, out)
    folder = path_of(job, out, "").parent
    with (
        opened(job.recording, channels_apart=True, by_clock=True)
        if job.recording
        else contextlib.nullcontext() as recording
    ):
        if recording and not recording.seconds:
            raise InputError(f"{job.recording}: no samples in it")
        with _lock:
            conversation = predict(job, options, recording)
        played = sound.for_page(job.recording, recording, folder) if recording else None
    made_folder(folder)
    writers = (lambda *both: write_page(*both, played), output.write_table, output.write_subtitles)
    for suffix, write in zip(SUFFIXES, (*writers, output.write_answers), strict=True):
        write(path_of(job, out, suffix), conversation)
    return conversation


def predict(job, options, recording):
    """The `prediction.output.Conversation` of a job; `recording` is a `data.sound.Recording`, None for words alone."""
    recogniser = recogniser_of(options.checkpoint, options.glove, options.text_encoder)
    reads_sound, reads_words = recogniser.reads_sound, recogniser.reads_words
    if not recording and reads_sound and not recogniser.bears_silence:
        raise InputError(f"{options.checkpoint}: this checkpoint cannot answer from words alone; give it the recording")
    inputs = job.inputs(options)  # before they are read: what changes from now on is seen the next time
    utterances, notes = read_transcript(job.transcript)
    whole = notes.pop(WHOLE_NUMBERS, None) is not None
    if job.transcript.suffix.lower() in _OF_PROGRAMS:
        utterances = _in_seconds(utterances, recording, whole, notes)
    if job.others:
        others = ", ".join(shown(one.name) for one in job.others)
        notes[f"other transcripts are there and not read: {others}"] = []
    if recording and utterances[-1].utterance_id in notes.get(NO_END, ()):
        last = utterances[-1]
        utterances[-1] = dataclasses.replace(last, end_s=max(last.end_s, recording.seconds))
    features = np.full((len(utterances), len(recogniser.audio_names)), np.nan) if reads_sound else None
    if recording and options.speaker_channels:
        named = options.speaker_channels
        if recording.num_channels != len(named):
            raise InputError(
                f"{job.recording}: {recording.num_channels} channels, --speaker-channels names {len(named)}"
            )
        if notes.pop(NO_SPEAKERS, None) is not None:
            utterances = _by_loudness(utterances, recording, named, notes)
    if recording:
        _note_times(utterances, recording.seconds, notes, bool(options.speaker_channels))
    if recording and reads_sound:
        features = _features(job, utterances, recording, options, recogniser, notes)
    texts = [_SOUNDS.sub(" ", one.transcript) for one in utterances]
    known = recogniser.known_words(texts) if reads_words else np.full(len(texts), np.nan)
    if reads_words:
        _note_words(utterances, texts, known, notes)
    rests = output.rests_on(recogniser, features, known > 0)
    if reads_sound and recording:
        for what in ("words", "sound"):
            said = f"answered from the {what} alone" if reads_words else "answered"
            _add(notes, said, utterances, [on == what and reads_words for on in rests])
    else:
        notes["no sound is read: all answers rest on the words"] = []
    _add(notes, "nothing to answer from, hence no answer", utterances, [on == "nothing" for on in rests])
    return output.Conversation(
        name=shown(job.name),
        emotions=recogniser.emotions,
        answers=tuple(map(output.Answer, utterances, _shares(recogniser, utterances, texts, features, rests), rests)),
        checkpoint=checkpoint_said(options.checkpoint),
        limits=limits_of(options.checkpoint),
        notes=notes,
        inputs=inputs,
        recording=job.recording,
        duration_s=recording.seconds if recording else max(one.end_s for one in utterances),
    )


def _add(notes, sentence, utterances, which):
    """A note on some of the utterances, if any: `which` says of each whether it is one of them."""
    ids = [one.utterance_id for one, chosen in zip(utterances, which, strict=True) if chosen]
    if ids:
        notes[sentence] = ids


def _in_seconds(utterances, recording, whole, notes):
    """The utterances; whole numbers that fit the recording as milliseconds alone are taken for those."""
    times = np.array([[one.start_s, one.end_s] for one in utterances])
    longest_s, seconds = times.max(), recording.seconds if recording else np.inf
    if whole and longest_s > _FAR_LONGER * seconds and longest_s / 1000 <= seconds + 1:
        notes["times are whole numbers that fit the recording as milliseconds: taken for those"] = []
        return [dataclasses.replace(one, start_s=one.start_s / 1000, end_s=one.end_s / 1000) for one in utterances]
    if _FAR_LONGER * longest_s < seconds < np.inf:
        notes[f"all utterances lie in the first {longest_s:.3g} s of {seconds:.0f}; are their times seconds?"] = []
    median_s = float(np.median(times[:, 1] - times[:, 0]))
    if median_s > _LONG_S:
        notes[f"half of the utterances last {median_s:.0f} s or longer; are these seconds?"] = []
    return utterances


def _note_times(utterances, duration_s, notes, apart):
    """Times past the end of the sound, and utterances at the same time, which no cut can part."""
    past = [one.start_s >= duration_s for one in utterances]
    said = f"start after the recording ends ({duration_s:.1f} s); are these not seconds, or is it cut off?"
    _add(notes, said, utterances, past)
    long = [one.start_s < duration_s < one.end_s - _ROUNDED_S for one in utterances]
    _add(notes, f"end after the recording ends ({duration_s:.1f} s)", utterances, long)
    latest, at_once, twice = {}, set(), set()  # {speaker: (end, id)} of each one's utterance that ends last
    for one in utterances:
        for speaker, (end_s, name) in latest.items():
            if min(end_s, one.end_s) - one.start_s > _OVERLAP_S:
                (twice if speaker == one.speaker else at_once).update((name, one.utterance_id))
        latest[one.speaker] = max(latest.get(one.speaker, (0, "")), (one.end_s, one.utterance_id))
    said = "overlap with another speaker" + ("" if apart else ", and the sound holds both voices")
    _add(notes, said, utterances, [one.utterance_id in at_once for one in utterances])
    said = "overlap with another utterance of the same speaker; are the same words there twice?"
    _add(notes, said, utterances, [one.utterance_id in twice for one in utterances])


def _features(job, utterances, recording, options, recogniser, notes):
    """(N, A) features, a row of NaN where there is no usable sound."""
    channels = _channels(job, utterances, recording, options.speaker_channels, notes)
    spans = [(one.start_s, one.end_s, channels.get(one.speaker)) for one in utterances]
    corpus = recogniser.run.corpus
    feature_set = corpus.audio_feature_set
    if corpus.audio_encoder:
        feature_set = AudioEncoder.find(corpus.audio_encoder, options.audio_encoder)
    features, said, names = sound.features_of(
        recording, spans, feature_set, options.emo_large_conf, options.jobs, options.progress
    )
    if names != recogniser.audio_names:
        raise InputError(
            f"{options.checkpoint}: reads other features than {feature_set} of this version of the project"
        )
    silent = np.isnan(features).any(axis=1)
    of_utterances = [(note or "").split("; ") if not mute else [note] for note, mute in zip(said, silent, strict=True)]
    for note in dict.fromkeys(note for notes in of_utterances for note in notes):
        which = [note in notes for notes in of_utterances]
        if note and "averaged" not in note:
            mute = any(one and no_sound for one, no_sound in zip(which, silent, strict=True))
            _add(notes, f"no usable sound ({note})" if mute else f"sound: {note}", utterances, which)
    return features


def _by_loudness(utterances, recording, named, notes):
    """The utterances of a transcript without speakers, each with the name of the loudest channel at its time.

    Loud is measured against the channel's own mean over all utterances: microphones differ. For a channel far below the
    loudest that is a hundredth of the loudest one's mean: it may hold noise alone. Where all channels rise and fall
    together, one voice is heard on all of them.
    """

    def power(one, channel):
        try:
            return float(recording.signal(one.start_s, min(one.end_s, recording.seconds), channel)[0].var())
        except InputError:  # no sound there
            return 0.0

    powers = np.array([[power(one, channel) for channel in range(1, len(named) + 1)] for one in utterances])
    mean = powers.mean(axis=0)
    relative = powers / np.maximum(mean, max(mean.max() / _FAR_BELOW, 1e-30))
    loudest = relative.argmax(axis=1)
    notes[_LOUDEST] = []
    if (relative.max(axis=1) <= _TOGETHER * relative.min(axis=1)).all():
        loudest[:] = mean.argmax()
        notes[f"all channels rise and fall together, as of one voice: all is given to {named[mean.argmax()]}"] = []
    _add(notes, f"no channel has sound: given to {named[0]}", utterances, ~powers.any(axis=1))
    return [dataclasses.replace(one, speaker=named[i]) for one, i in zip(utterances, loudest, strict=True)]


def _channels(job, utterances, recording, named, notes):
    """{speaker: channel from 1}.

    Raises:
        InputError: nobody of that name speaks.
    """
    if not named:
        if recording.num_channels > 1:
            notes[f"{recording.num_channels} channels are averaged; --speaker-channels takes them apart"] = []
        return {}
    speakers = {one.speaker for one in utterances}
    strangers = [name for name in named if name not in speakers]
    if strangers and _LOUDEST not in notes:
        raise InputError(
            f"{job.transcript}: no utterance of {strangers[0]!r:.40}, whom --speaker-channels names; "
            f"speakers are {', '.join(sorted(speakers))}"
        )
    others = [one.speaker not in named for one in utterances]
    _add(notes, "speaker without a channel: read from all channels", utterances, others)
    return {name: number for number, name in enumerate(named, 1)}


def _note_words(utterances, texts, known, notes):
    """Empty texts, sounds in brackets, and words that the checkpoint does not know."""
    _add(notes, "no text", utterances, [not one.transcript for one in utterances])
    marked = [text != one.transcript for one, text in zip(utterances, texts, strict=True)]
    _add(notes, "sounds in brackets, such as [laughter]: not read as words", utterances, marked)
    unknown = unknown_share(texts, known) or 0
    if unknown > _SOME_UNKNOWN:
        language = "; is this another language than its own?" if unknown > _MANY_UNKNOWN else ""
        notes[f"{100 * unknown:.0f} % of the words are unknown to the checkpoint{language}"] = []


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
        for i, row in zip(rows, output.as_shares(answered), strict=True):
            shares[i] = row
    return shares
