"""Prepares a corpus file: parse the release, extract audio features, write one HDF5 file, compare with the paper.

    python -m data.prepare iemocap --release IEMOCAP_full_release --out iemocap.h5
    python -m data.prepare sample --out sample.h5

An interrupted command goes on where it stopped when it is given again: finished utterances lie in a cache beside the
output (`<out>.features.jsonl`), which is removed once the output is written without a failed file.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from data.audio import FEATURE_SETS
from data.files import InputError


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


def _prepare_release(release, out, name, audio, emo_large_conf, jobs, progress, published):
    """Parser, extractor, corpus file and fidelity table; `published` as in `fidelity_table`."""
    from data.corpus import write_corpus
    from data.fidelity import fidelity_table, find_numbers
    from data.iemocap import read_release

    utterances, notes = read_release(release, with_wavs=audio != "none")
    cache = Path(f"{out}.features.jsonl")
    features, audio_names, said, failures = _features(utterances, audio, emo_large_conf, cache, jobs, progress)
    for utterance in utterances:
        if utterance.wav in said:
            notes.append(f"{utterance.utterance_id}: {said[utterance.wav]}; kept")
        if utterance.wav in failures:
            notes.append(
                f"{utterance.utterance_id} left out: {failures[utterance.wav]}; the scores cover one utterance fewer"
            )
    kept = [utterance for utterance in utterances if utterance.wav not in failures]
    if not kept:
        raise InputError(f"{release}: no utterance with usable audio; {notes[-1]}")
    corpus = build_corpus(kept, name, audio, audio_names, [features[utterance.wav] for utterance in kept])
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


def _features(utterances, audio, emo_large_conf, cache, jobs, progress):
    """Like `extract_files`, with vectors of no columns for the feature set "none"."""
    import numpy as np

    from data.audio import feature_config
    from data.extraction import extract_files

    wavs = [utterance.wav for utterance in utterances]
    if audio != "none":
        return extract_files(wavs, audio, cache, emo_large_conf, jobs, progress)
    with feature_config(audio, emo_large_conf):  # refuses a configuration that nothing would use
        return {wav: np.zeros(0, "float32") for wav in wavs}, (), {}, {}


def build_corpus(utterances, name, audio_feature_set, audio_names, audio):
    """The corpus of these utterances.

    Args:
        utterances: N records sorted by dialog, then start time.
        name: the corpus's name.
        audio_feature_set: the feature set's name.
        audio_names: its A column names.
        audio: N vectors (A,).

    Returns:
        A `data.corpus.Corpus`.
    """
    import numpy as np

    from data.corpus import Corpus
    from data.labels import EMOTIONS

    def column(field, dtype):
        return np.array([getattr(utterance, field) for utterance in utterances], dtype)

    return Corpus(
        name=name,
        emotions=EMOTIONS,
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
    sample = corpora.add_parser("sample", parents=[common], help="a made-up miniature, no corpus needed")
    sample.add_argument("--release-out", type=Path, metavar="DIR", help="keep the made-up release in DIR")
    return parser


def main(arguments=None):
    """Runs one command; returns the exit code (0, 2 for a mistake of the user's, 130 for an interruption)."""
    options = vars(_parser().parse_args(arguments))
    prepare = {"iemocap": prepare_iemocap, "sample": prepare_sample}[options.pop("corpus")]
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
