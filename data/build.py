"""From what a reader found to the corpus file: features, utterances without sound, one HDF5 file, fidelity table."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.audio import feature_config
from data.corpus import Corpus, write_corpus
from data.extraction import extract_files
from data.fidelity import fidelity_table, find_numbers
from data.iemocap import read_release
from data.sample import NAME, write_release
from data.sound import ffmpeg, is_clip
from storage.files import InputError


@dataclass(frozen=True)
class Options:
    """How a corpus file is made.

    `audio` is one of `data.audio.FEATURE_SETS`; `emo_large_conf` openSMILE's emo_large.conf, for the set of that name;
    `jobs` processes for the extraction, None for all cores; `scheduler` a Dask cluster's HOST:PORT instead; `progress`
    whether to show a bar; `overwrite` whether the file may be there already; `without_audio` "keep" or "skip", None
    for what the corpus usually does.
    """

    audio: str = "egemaps_lld"
    emo_large_conf: Path | None = None
    jobs: int | None = None
    scheduler: str | None = None
    progress: bool = True
    overwrite: bool = False
    without_audio: str | None = None


def check_out(out, overwrite):
    """Finds out before hours of work whether the result can be written.

    Raises:
        InputError: it cannot, or is there already.
    """
    out = Path(out)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder for the corpus file")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: there already; give --overwrite to replace it")


def prepare(source, out, options=Options()):
    """Makes the corpus file of a source, and prints its notes and the fidelity table.

    Args:
        source: a `data.utterance.Source`.
        out: the corpus file to write.
        options: `Options`.

    Raises:
        InputError: see `check_out`, `data.extraction.extract_files` and `data.corpus.write_corpus`; ffmpeg is needed
            and not installed; or no utterance has usable audio.
    """
    check_out(out, options.overwrite)
    cache = Path(f"{out}.features.jsonl")
    vectors, audio_names, said, failures = _features(source, cache, options)
    kept, vectors, settled = _settle_audio(source, vectors, failures, options)
    corpus = corpus_of(source, kept, options.audio, audio_names, vectors)
    found = find_numbers(corpus)
    write_corpus(out, corpus)
    if failures:
        print(
            f"{len(failures)} files failed; {cache} is kept, so that after mending them "
            "the same command with --overwrite is quick"
        )
    else:
        cache.unlink(missing_ok=True)
    changed = [f"{one.utterance_id}: {said[one.wav]}; kept" for one in source.utterances if one.wav in said]
    for note in source.notes + changed + settled:
        print(f"note: {note}")
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


def _features(source, cache, options):
    """Like `extract_files`, with vectors of no columns for the feature set "none"."""
    if options.audio == "none":
        with feature_config("none", options.emo_large_conf):  # refuses a configuration that nothing would use
            return {one.wav: np.zeros(0, "float32") for one in source.utterances}, (), {}, {}
    wavs = [utterance.wav for utterance in source.utterances if utterance.wav is not None]
    if any(map(is_clip, wavs)):
        ffmpeg()  # refuses to begin where it is not installed
    return extract_files(
        wavs, options.audio, cache, options.emo_large_conf, options.jobs, options.progress, options.scheduler
    )


def _settle_audio(source, features, failures, options):
    """The utterances of the corpus file and their feature vectors.

    An utterance without usable audio is left out ("skip"), or stays for its words ("keep"). A corpus file has a finite
    vector for every utterance, and zeros would be far from all others once the features are standardised. So its
    vector is the mean over the training utterances with audio, which standardisation turns into zeros: no part but
    training says anything about it.

    Returns:
        (utterances, their vectors, one sentence for each without usable audio).

    Raises:
        InputError: no utterance has usable audio; or one is to be kept and the corpus has no split, so nothing says
            what training is.
    """
    silent = {
        one.utterance_id: failures.get(one.wav, "no sound file is named")
        for one in source.utterances
        if one.wav not in features
    }
    if len(silent) == len(source.utterances):
        name, why = silent.popitem()
        raise InputError(f"{source.path}: no utterance with usable audio; {name}: {why}")
    sounding = [one for one in source.utterances if one.utterance_id not in silent]
    if not silent or (options.without_audio or source.without_audio) == "skip":
        notes = [f"{name} left out: {why}; the scores cover one utterance fewer" for name, why in silent.items()]
        return sounding, [features[one.wav] for one in sounding], notes
    if sounding[0].split is None:
        raise InputError(
            f"{source.path}: {len(silent)} utterances have no usable audio, the first is {next(iter(silent))}; to keep "
            "them needs a column 'split', which says what is training; or skip them"
        )
    training = [features[one.wav] for one in sounding if one.split == "train"]
    if not training:
        raise InputError(f"{source.path}: no training utterance with usable audio")
    mean = np.mean(training, axis=0, dtype="float64").astype("float32")
    notes = [f"{name} has no audio: {why}; kept with the training mean of each feature" for name, why in silent.items()]
    return source.utterances, [features.get(one.wav, mean) for one in source.utterances], notes


def corpus_of(source, utterances, audio_feature_set, audio_names, audio):
    """The corpus of a source.

    Args:
        source: `data.utterance.Source`.
        utterances: N of its utterances.
        audio_feature_set: the feature set's name.
        audio_names: its A column names.
        audio: N vectors (A,).

    Returns:
        A `data.corpus.Corpus`.
    """

    def column(field, dtype):
        return np.array([getattr(utterance, field) for utterance in utterances], dtype)

    return Corpus(
        name=source.name,
        emotions=tuple(source.emotions),
        audio_feature_set=audio_feature_set,
        audio_names=tuple(audio_names),
        utterance_id=column("utterance_id", object),
        dialog_id=column("dialog_id", object),
        speaker=column("speaker", object),
        transcript=column("transcript", object),
        session=column("session", "int8"),
        start_s=column("start_s", "float64"),
        end_s=column("end_s", "float64"),
        votes_external=column("votes_external", "int16"),
        votes_self=column("votes_self", "int16"),
        audio=np.array(audio, "float32").reshape(len(utterances), len(audio_names)),
        split=column("split", object) if utterances[0].split is not None else None,
    )
