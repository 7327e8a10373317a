"""From what a reader found to the corpus file: features, utterances without sound, one HDF5 file, fidelity table."""

import contextlib
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.audio import feature_config
from data.corpus import NUMBERS, TEXT, Corpus, read_corpus, write_corpus
from data.encoders import AudioEncoder, TextEncoder
from data.extraction import extract_files
from data.fidelity import fidelity_table, find_numbers
from data.iemocap import read_release
from data.sample import NAME, write_release
from data.sound import ffmpeg, needs_ffmpeg
from storage.files import InputError, locked, named, write_text

_FIRST = 100  # files that are tried before the work begins
_EXAMPLES = 3  # of a note that is about many
_ROUNDED_S = 0.5  # how far times may be from the sound in any case
_USUAL_S = 3  # of an utterance whose sound is not known
_MILLISECONDS = 200  # times longer than its sound: no utterance is cut so badly
# Beside the corpus file stand those of work that is not finished, and all notes; they begin like this.
_NOTES = "Notes of data.prepare\n"
_BESIDE = {
    ".features.jsonl": re.compile(rb'\s*({"key": |$)'),
    ".text": re.compile(rb"[0-9a-f]{64}\n|$"),
    ".notes.txt": re.compile(_NOTES.encode()),
}


@dataclass(frozen=True)
class Options:
    """How a corpus file is made.

    `audio` is one of `data.audio.FEATURE_SETS`, or an encoder; `text_encoder` reads the transcripts, None for none;
    `emo_large_conf` is openSMILE's emo_large.conf, for the set of that name; `jobs` processes for the audio, None for
    all cores; `scheduler` a Dask cluster's HOST:PORT instead; `progress` whether to show a bar; `overwrite` whether the
    file may be there already; `without_audio` "keep" or "skip", None for what the corpus usually does.
    """

    audio: str | AudioEncoder = "egemaps_lld"
    text_encoder: TextEncoder | None = None
    emo_large_conf: Path | None = None
    jobs: int | None = None
    scheduler: str | None = None
    progress: bool = True
    overwrite: bool = False
    without_audio: str | None = None


def check_out(out, overwrite):
    """Finds out before hours of work whether the result can be written.

    Raises:
        InputError: it cannot, or is there already; or a file that is none of ours has the name of unfinished work or
            of the notes.
    """
    out = Path(out)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder for the corpus file")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: there already; give --overwrite to replace it")
    for suffix, begins in _BESIDE.items():
        path = Path(f"{out}{suffix}")
        if path.exists() and not begins.match(_head(path)):
            raise InputError(f"{path}: there already, and its name is needed; move it, or give another --out")


def _head(path):
    with named(path), open(path, "rb") as file:
        return file.read(100)


@contextlib.contextmanager
def _begun(out, overwrite):
    """While open, no other process makes the same file: two would write into one another's unfinished rows."""
    check_out(out, overwrite)
    lock = Path(out).with_name(f".{Path(out).name}.lock")
    with locked(lock, f"{out}: another data.prepare is at work on it; wait for it, or give another --out"):
        try:
            check_out(out, overwrite)  # again: another one may have ended just now
            yield
        finally:
            lock.unlink(missing_ok=True)


def prepare(source, out, options=Options()):
    """Makes the corpus file of a source, and prints its notes and the fidelity table.

    Args:
        source: a `data.utterance.Source`.
        out: the corpus file to write.
        options: `Options`.

    Raises:
        InputError: see `check_out`, `data.extraction.extract_files` and `data.corpus.write_corpus`; ffmpeg is needed
            and not installed; no utterance has usable audio; the times are far from the sound; or another process is at
            work on the file.
    """
    made_of = {source.path, *(one.sound.path for one in source.utterances if one.sound)}
    if any(Path(file).name == Path(out).name and Path(file).resolve() == Path(out).resolve() for file in made_of):
        raise InputError(f"{out}: the corpus file would take the place of what it is made of; choose another --out")
    with _begun(out, options.overwrite):
        _prepare(source, out, options)


def _prepare(source, out, options):
    cache, notes = Path(f"{out}.features.jsonl"), {sentence: list(about) for sentence, about in source.notes.items()}
    results, audio_names = _extract(source, cache, options)
    timed = _compared_with_sound(source, results, notes)
    kept, vectors = _settle_audio(source, timed, results, options, notes)
    corpus = corpus_of(source, kept, options.audio, audio_names, vectors)
    found = find_numbers(corpus)
    _write(out, corpus, options)
    failed = {sound.path for sound, result in results.items() if result.failure}
    if failed:
        print(
            f"{len(failed)} files failed; {cache} is kept, so that after mending them "
            "the same command with --overwrite is quick"
        )
    else:
        cache.unlink(missing_ok=True)
    _print_notes(notes, Path(f"{out}.notes.txt"))
    print(fidelity_table(found, source.published))
    print(f"{out}: {len(corpus)} utterances of {source.name}, {len(audio_names)} audio features ({options.audio})")


def prepare_sample(out, options=Options(), release_out=None):
    """Makes the miniature corpus and prepares it through the same parser and extractor as the real one.

    Args:
        out, options: as in `prepare`.
        release_out: folder to write the made-up release to and keep it; None uses a temporary one.

    Raises:
        InputError: `out` or the release in `release_out` is there already or cannot be written.
    """
    check_out(out, options.overwrite)
    with tempfile.TemporaryDirectory(prefix="miniature_") as temporary:
        release = write_release(release_out or temporary)
        prepare(read_release(release, options.audio != "none", NAME, published=None), out, options)
    print("This corpus is made up: its numbers say that the programs work, and nothing about people.")


def _extract(source, cache, options):
    """({sound: `data.extraction.Extracted`}, column names); nothing of both for the feature set "none"."""
    if options.audio == "none":
        with feature_config("none", options.emo_large_conf):  # refuses a configuration that nothing would use
            return {}, ()
    sounds = [utterance.sound for utterance in source.utterances if utterance.sound is not None]
    first = list(dict.fromkeys(sound.path for sound in sounds))[:_FIRST]
    if first and all(map(needs_ffmpeg, first)):  # else a file that cannot be read is named, and the others go on
        ffmpeg()  # refuses to begin where it is not installed
    jobs = options.jobs or getattr(options.audio, "jobs", None)
    return extract_files(
        sounds, options.audio, cache, options.emo_large_conf, jobs, options.progress, options.scheduler
    )


def _compared_with_sound(source, results, notes):
    """The utterances, an end that the source does not have taken from the length of the sound.

    Times that are far from the sound become a note.

    Raises:
        InputError: most of them are so long that they must be milliseconds.
    """
    timed, ratios = [], []
    for one, following in zip(source.utterances, [*source.utterances[1:], None], strict=True):
        file_s = getattr(results.get(one.sound), "file_s", None)
        said_s = one.end_s - one.start_s
        if not said_s and following and following.dialog_id == one.dialog_id:
            ratios.append(((following.start_s - one.start_s) / (file_s or _USUAL_S), one))
        elif said_s:
            cut = file_s and one.sound.start_s is not None
            ratios.append(((one.end_s if cut else said_s) / (file_s or _USUAL_S), one))
            if file_s and not cut and abs(said_s - file_s) > max(_ROUNDED_S, file_s / 2):
                sentence = (
                    "its times and the length of its sound differ by more than half; wrong times, another file, or a "
                    "whole dialog's recording that no other row names"
                )
                notes.setdefault(sentence, []).append(f"{one.utterance_id} ({said_s:.6g} s, sound {file_s:.6g} s)")
        timed.append(one if said_s or not file_s else replace(one, end_s=one.start_s + file_s))
    ratios.sort(key=lambda ratio: ratio[0])
    ratio, one = ratios[len(ratios) // 2] if ratios else (0, None)
    if ratio > _MILLISECONDS:
        raise InputError(
            f"{source.path}: {one.utterance_id}, {one.start_s:.6g} to {one.end_s:.6g} s, is {ratio:.3g} times as long "
            "as its sound, or as people speak, and it is the one in the middle: the times seem to be milliseconds; "
            "divide them by 1000, or mend those that are wrong"
        )
    return timed


def _settle_audio(source, utterances, results, options, notes):
    """The utterances of the corpus file and their feature vectors.

    An utterance without usable audio is left out ("skip"), or stays for its words ("keep"). A corpus file has a finite
    vector for every utterance, and zeros would be far from all others once the features are standardised. So its
    vector is the mean over the training utterances with audio, which standardisation turns into zeros: no part but
    training says anything about it.

    Raises:
        InputError: no utterance has usable audio, or none of a session of a release; or one is to be kept and the
            corpus has no split, so nothing says what training is.
    """
    if options.audio == "none":
        return utterances, np.zeros((len(utterances), 0), "float32")
    vectors, silent = {}, {}
    for one in utterances:
        result = results.get(one.sound)
        if result is None or result.failure:
            silent[one.utterance_id] = result.failure if result else "no sound file is named"
            continue
        vectors[one.utterance_id] = result.features
        for said in (result.note or "").split("; "):
            if said:
                notes.setdefault(f"{said}; kept", []).append(one.utterance_id)
    if not vectors:
        name, why = silent.popitem()
        raise InputError(f"{source.path}: no utterance with usable audio; {name}: {why}")
    sounding = [one for one in utterances if one.utterance_id in vectors]
    lost = sorted({one.session for one in utterances} - {one.session for one in sounding})
    if lost and source.published:  # of a release: it would be divided without that session
        name = next(one.utterance_id for one in utterances if one.session == lost[0])
        raise InputError(
            f"{source.path}: no usable audio in all of Session{lost[0]}; unpack it anew, or give --audio none; "
            f"{name}: {silent[name]}"
        )
    if not silent:
        return utterances, list(vectors.values())
    named_silent = [f"{name} ({why})" for name, why in silent.items()]
    if (options.without_audio or source.without_audio) == "skip":
        notes["left out, without usable audio; the scores cover one utterance fewer"] = named_silent
        return sounding, list(vectors.values())
    if sounding[0].split is None:
        raise InputError(
            f"{source.path}: {len(silent)} utterances have no usable audio, the first is {next(iter(silent))}; to keep "
            "them needs a column 'split', which says what is training; or skip them"
        )
    training = [vectors[one.utterance_id] for one in sounding if one.split == "train"]
    if not training:
        raise InputError(f"{source.path}: no training utterance with usable audio")
    mean = np.mean(training, axis=0, dtype="float64").astype("float32")
    notes["no usable audio; kept with the training mean of each feature"] = named_silent
    return utterances, [vectors.get(one.utterance_id, mean) for one in utterances]


def _print_notes(notes, path):
    """Prints the notes; what is about many is one line with three of them, and all are in the file `path`."""
    listed = []
    for sentence, about in notes.items():
        lines = [f"{one}: {sentence}" for one in about]
        if len(about) > _EXAMPLES:
            listed += lines
            lines = [f"{len(about)} times: {sentence}; {', '.join(about[:_EXAMPLES])}, ... (all in {path})"]
        for line in lines or [sentence]:
            print(f"note: {line}")
    if listed:
        text = _NOTES + "".join(f"{line}\n" for line in listed)
        write_text(path, text.encode("utf-8", "backslashreplace").decode())
    else:
        path.unlink(missing_ok=True)


def encode(path, out, options):
    """Adds vectors of the transcripts to a corpus file that is there; all the rest stays as it is.

    Args:
        path: the corpus file.
        out: the corpus file to write.
        options: `Options` with a `text_encoder`.

    Raises:
        InputError: see `check_out`, `data.corpus.read_corpus` and `data.encoders.TextEncoder.encode`.
    """
    with _begun(out, options.overwrite):
        corpus = read_corpus(path)
        _write(out, corpus, options)
    print(f"{out}: {len(corpus)} utterances of {corpus.name}")


def _write(out, corpus, options):
    """Writes the corpus file, with vectors of the transcripts if an encoder shall make them."""
    if options.text_encoder is None:
        write_corpus(out, corpus)
        return
    encoder, texts, cache = options.text_encoder, corpus.transcript.tolist(), Path(f"{out}.text")
    vectors = encoder.encode(texts, cache, options.progress)
    write_corpus(out, replace(corpus, text=vectors, text_encoder=encoder.identity))
    cache.unlink(missing_ok=True)
    if num_cut := encoder.num_cut(texts):
        print(f"note: {num_cut} transcripts are longer than the encoder reads; their ends are not in the vectors")
    print(f"{vectors.shape[1]} numbers for the words of each utterance, from {encoder.identity.name}")


def corpus_of(source, utterances, feature_set, audio_names, audio):
    """The `data.corpus.Corpus` of a `data.utterance.Source`.

    Args:
        utterances: N of its utterances.
        feature_set: its audio, as of `Options.audio`.
        audio_names: its A column names.
        audio: N vectors (A,).
    """
    dtypes = dict.fromkeys(TEXT, object) | {name: dtype for name, dtype in NUMBERS.items() if name != "audio"}
    if utterances[0].split is not None:
        dtypes["split"] = object
    return Corpus(
        name=source.name,
        emotions=tuple(source.emotions),
        audio_feature_set=str(feature_set),
        audio_encoder=getattr(feature_set, "identity", None),
        audio_names=tuple(audio_names),
        audio=np.array(audio, "float32").reshape(len(utterances), len(audio_names)),
        **{name: np.array([getattr(one, name) for one in utterances], dtype) for name, dtype in dtypes.items()},
    )
