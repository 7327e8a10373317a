"""Prepares a corpus file: parse the release, extract audio features, write one HDF5 file, compare with the paper.

    python -m data.prepare iemocap --release IEMOCAP_full_release --out iemocap.h5
    python -m data.prepare meld --release MELD.Raw --out meld.h5
    python -m data.prepare table --table mine.csv --out mine.h5          # your own corpus: data/README.md
    python -m data.prepare sample --out sample.h5

An interrupted command goes on where it stopped when it is given again: finished utterances lie in a cache beside the
output (`<out>.features.jsonl`), which is removed once the output is written without a failed file.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from data.audio import FEATURE_SETS
from storage.files import InputError


def prepare_iemocap(release, out, audio="egemaps_lld", emo_large_conf=None, jobs=None, progress=True, overwrite=False):
    """Prepares the corpus file of the real IEMOCAP and prints the fidelity table.

    Args:
        release: the folder IEMOCAP_full_release or its parent.
        out: the corpus file to write.
        audio: feature set, one of FEATURE_SETS.
        emo_large_conf: openSMILE's emo_large.conf, for the set of that name.
        jobs: processes for the extraction; None takes all cores.
        progress: whether to show a progress bar.
        overwrite: whether an existing `out` may be replaced.

    Raises:
        InputError: see `data.iemocap.read_release`, `data.audio.feature_config` and `data.corpus.write_corpus`.
    """
    from data.fidelity import PUBLISHED

    _check_out(out, overwrite)
    _prepare_release(release, out, "IEMOCAP", audio, emo_large_conf, jobs, progress, PUBLISHED)


def prepare_sample(
    out, audio="egemaps_lld", emo_large_conf=None, jobs=None, progress=True, overwrite=False, release_out=None
):
    """Makes the miniature corpus and prepares it through the same parser and extractor as the real one.

    Args:
        release_out: folder to write the made-up release to and keep it; None uses a temporary one.
        out, audio, emo_large_conf, jobs, progress, overwrite: as in `prepare_iemocap`.

    Raises:
        InputError: `out` or the release in `release_out` is there already or cannot be written.
    """
    from data.sample import NAME, write_release

    _check_out(out, overwrite)
    with tempfile.TemporaryDirectory(prefix="miniature_") as temporary:
        release = write_release(release_out or temporary)
        _prepare_release(release, out, NAME, audio, emo_large_conf, jobs, progress, published=None)
    print("This corpus is made up: its numbers say that the programs work, and nothing about people.")


def _check_out(out, overwrite):
    """Finds out before hours of work whether the result can be written."""
    out = Path(out)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder for the corpus file")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: there already; give --overwrite to replace it")


def prepare_meld(
    release,
    out,
    audio="egemaps_lld",
    emo_large_conf=None,
    jobs=None,
    progress=True,
    overwrite=False,
    without_audio="keep",
):
    """Prepares the corpus file of MELD and prints the fidelity table.

    Args:
        release: the folder of the raw release; for `audio` "none" that of the three CSV files.
        without_audio: what becomes of utterances whose clip is missing or broken: "keep" or "skip", see
            `_settle_audio`.
        out, audio, emo_large_conf, jobs, progress, overwrite: as in `prepare_iemocap`.

    Raises:
        InputError: see `data.meld.read_meld`, `data.audio.feature_config` and `data.corpus.write_corpus`; or ffmpeg
            is needed and not installed.
    """
    from data.fidelity import PUBLISHED_MELD
    from data.meld import EMOTIONS, read_meld

    _check_out(out, overwrite)
    utterances, notes = read_meld(release, with_clips=audio != "none")
    options = (audio, emo_large_conf, jobs, progress, without_audio)
    _prepare(utterances, notes, release, out, "MELD", EMOTIONS, *options, PUBLISHED_MELD)


def prepare_table(
    table,
    out,
    audio="egemaps_lld",
    emo_large_conf=None,
    jobs=None,
    progress=True,
    overwrite=False,
    without_audio="skip",
    name=None,
    emotions=None,
):
    """Prepares the corpus file of a corpus of one's own and prints what is in it.

    Args:
        table: the CSV file, as `data/README.md` describes it.
        name: of the corpus; None for the file's name.
        emotions: names in label order; None for alphabetical order.
        without_audio: as in `prepare_meld`; "keep" needs the column `split`.
        out, audio, emo_large_conf, jobs, progress, overwrite: as in `prepare_iemocap`.

    Raises:
        InputError: see `data.table.read_table`, and as `prepare_meld`.
    """
    from data.table import read_table

    _check_out(out, overwrite)
    utterances, emotions, notes = read_table(table, emotions)
    options = (audio, emo_large_conf, jobs, progress, without_audio)
    _prepare(utterances, notes, table, out, name or Path(table).stem, emotions, *options)


def _prepare_release(release, out, name, audio, emo_large_conf, jobs, progress, published):
    """Reads an IEMOCAP release and goes on as `_prepare`; an utterance without usable audio is left out."""
    from data.iemocap import read_release
    from data.labels import EMOTIONS

    utterances, notes = read_release(release, with_wavs=audio != "none")
    _prepare(utterances, notes, release, out, name, EMOTIONS, audio, emo_large_conf, jobs, progress, "skip", published)


def _prepare(
    utterances,
    notes,
    source,
    out,
    name,
    emotions,
    audio,
    emo_large_conf,
    jobs,
    progress,
    without_audio,
    published=None,
):
    """Extractor, corpus file and fidelity table of these utterances; `published` as in `fidelity_table`."""
    from data.corpus import write_corpus
    from data.fidelity import fidelity_table, find_numbers

    cache = Path(f"{out}.features.jsonl")
    features, audio_names, said, failures = _features(utterances, audio, emo_large_conf, cache, jobs, progress)
    for utterance in utterances:
        if utterance.wav in said:
            notes.append(f"{utterance.utterance_id}: {said[utterance.wav]}; kept")
    silent = {}
    if audio != "none":
        silent = {one.utterance_id: failures[one.wav] for one in utterances if one.wav in failures}
        silent |= {one.utterance_id: "no sound file is named" for one in utterances if one.wav is None}
    if len(silent) == len(utterances):
        raise InputError(
            f"{source}: no utterance with usable audio; {utterances[-1].utterance_id}: {silent.popitem()[1]}"
        )
    kept, vectors, said_of_silent = _settle_audio(utterances, features, audio, silent, without_audio, source)
    notes += said_of_silent
    corpus = build_corpus(kept, name, emotions, audio, audio_names, vectors)
    found = find_numbers(corpus)
    write_corpus(out, corpus)
    if failures:
        print(
            f"{len(failures)} files failed; {cache} is kept, so that after mending them "
            "the same command with --overwrite is quick"
        )
    else:
        cache.unlink(missing_ok=True)
    for note in notes:
        print(f"note: {note}")
    print(fidelity_table(found, published))
    print(f"{out}: {len(corpus)} utterances of {name}, {len(audio_names)} audio features ({audio})")


def _settle_audio(utterances, features, audio, silent, without_audio, source):
    """The utterances of the corpus file and their feature vectors.

    An utterance without usable audio is left out ("skip"), or stays for its words ("keep"). A corpus file has a finite
    vector for every utterance, and zeros would be far from all others once the features are standardised. So its
    vector is the mean over the training utterances with audio, which standardisation turns into zeros: no part but
    training says anything about it.

    Returns:
        (utterances, their vectors, one sentence for each of `silent`).

    Raises:
        InputError: an utterance is to be kept and the corpus has no split, so nothing says what training is.
    """
    import numpy as np

    if not silent or without_audio == "skip":
        kept = [one for one in utterances if one.utterance_id not in silent]
        notes = [f"{name} left out: {why}; the scores cover one utterance fewer" for name, why in silent.items()]
        vectors = [np.zeros(0, "float32") if audio == "none" else features[one.wav] for one in kept]
        return kept, vectors, notes
    if utterances[0].split is None:
        raise InputError(
            f"{source}: {len(silent)} utterances have no usable audio, the first is {next(iter(silent))}; to keep them "
            "needs a column 'split', which says what is training; or skip them"
        )
    training = [features[one.wav] for one in utterances if one.split == "train" and one.utterance_id not in silent]
    if not training:
        raise InputError(f"{source}: no training utterance with usable audio")
    mean = np.mean(training, axis=0, dtype="float64").astype("float32")
    notes = [f"{name} has no audio: {why}; kept with the training mean of each feature" for name, why in silent.items()]
    return utterances, [mean if one.utterance_id in silent else features[one.wav] for one in utterances], notes


def _features(utterances, audio, emo_large_conf, cache, jobs, progress):
    """Like `extract_files`, with vectors of no columns for the feature set "none"."""
    from data.audio import feature_config
    from data.clips import ffmpeg, is_clip
    from data.extraction import extract_files

    if audio != "none":
        wavs = [utterance.wav for utterance in utterances if utterance.wav is not None]
        if any(map(is_clip, wavs)):
            ffmpeg()  # refuses to begin where it is not installed
        return extract_files(wavs, audio, cache, emo_large_conf, jobs, progress)
    with feature_config(audio, emo_large_conf):  # refuses a configuration that nothing would use
        return {}, (), {}, {}


def build_corpus(utterances, name, emotions, audio_feature_set, audio_names, audio):
    """The corpus of these utterances.

    Args:
        utterances: N records sorted by dialog, then start time; of `data.iemocap` or `data.table`.
        name: the corpus's name.
        emotions: names in the order of the votes.
        audio_feature_set: the feature set's name.
        audio_names: its A column names.
        audio: N vectors (A,).

    Returns:
        A `data.corpus.Corpus`.
    """
    import numpy as np

    from data.corpus import Corpus

    def column(field, dtype):
        return np.array([getattr(utterance, field) for utterance in utterances], dtype)

    split = column("split", object) if getattr(utterances[0], "split", None) is not None else None
    return Corpus(
        name=name,
        emotions=tuple(emotions),
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
        split=split,
    )


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {number}")
    return number


def _parser():
    parser = argparse.ArgumentParser(prog="python -m data.prepare", description="Prepares a corpus file for training.")
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="corpus")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", required=True, type=Path, metavar="FILE", help="the corpus file to write (HDF5)")
    common.add_argument(
        "--audio",
        choices=FEATURE_SETS,
        default="egemaps_lld",
        help="feature set: egemaps_lld, 46 columns; emo_large, the paper's 6552 (default: %(default)s)",
    )
    common.add_argument("--emo-large-conf", type=Path, metavar="PATH", help="openSMILE's config/misc/emo_large.conf")
    common.add_argument(
        "--jobs", type=_positive, metavar="N", help="processes for the audio features (default: all cores)"
    )
    common.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    iemocap = corpora.add_parser("iemocap", parents=[common], help="the IEMOCAP release")
    iemocap.add_argument(
        "--release", required=True, type=Path, metavar="DIR", help="IEMOCAP_full_release or the folder that holds it"
    )
    silent = argparse.ArgumentParser(add_help=False)
    silent.add_argument(
        "--without-audio",
        choices=("keep", "skip"),
        help="utterances whose sound is missing or broken: keep them for their words, with the training mean of each "
        "feature (default of meld; needs a split), or skip them (default of table)",
    )
    meld = corpora.add_parser("meld", parents=[common, silent], help="the raw MELD release")
    meld.add_argument(
        "--release",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the three CSV files and the three folders of clips; --audio none needs the CSV files alone",
    )
    table = corpora.add_parser("table", parents=[common, silent], help="a corpus of your own, see data/README.md")
    table.add_argument("--table", required=True, type=Path, metavar="CSV", help="one row per utterance")
    table.add_argument("--name", help="of the corpus (default: the name of the CSV file)")
    table.add_argument(
        "--emotions", nargs="+", metavar="NAME", help="in label order (default: those in the votes, alphabetically)"
    )
    sample = corpora.add_parser("sample", parents=[common], help="a made-up miniature, no corpus needed")
    sample.add_argument("--release-out", type=Path, metavar="DIR", help="keep the made-up release in DIR")
    return parser


def main(arguments=None):
    """Runs one command; returns the exit code (0, 2 for a mistake of the user's, 130 for an interruption)."""
    given = vars(_parser().parse_args(arguments))
    options = {name: value for name, value in given.items() if value is not None}
    prepare = {"iemocap": prepare_iemocap, "meld": prepare_meld, "table": prepare_table, "sample": prepare_sample}[
        options.pop("corpus")
    ]
    try:
        prepare(**options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a place that this user may not read or write, a disk that is full
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
