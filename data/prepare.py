"""Prepares a corpus file: parse the release, extract audio features, write one HDF5 file, compare with the paper.

    python -m data.prepare iemocap --release IEMOCAP_full_release --out iemocap.h5
    python -m data.prepare meld --release MELD.Raw --out meld.h5
    python -m data.prepare table --table mine.csv --out mine.h5          # your own corpus: data/README.md
    python -m data.prepare sample --out sample.h5

An interrupted command goes on where it stopped when it is given again: finished utterances lie in a cache beside the
output (`<out>.features.jsonl`), which is removed once the output is written without a failed file.
"""

import argparse
import dataclasses
from pathlib import Path

from data.audio import FEATURE_SETS
from surroundings import run_program


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
    common.add_argument(
        "--scheduler",
        metavar="HOST:PORT",
        help="let the workers of a Dask cluster do it; all machines see this project and all files at the same path",
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
    """Runs one command."""
    given = _parser().parse_args(arguments)
    from data import build, iemocap, meld, table  # what they import takes seconds, and --help needs none

    asked = {f.name: getattr(given, f.name, None) for f in dataclasses.fields(build.Options)}
    options = build.Options(**{name: value for name, value in asked.items() if value is not None})
    build.check_out(given.out, given.overwrite)
    with_sound = given.audio != "none"
    if given.corpus == "sample":
        build.prepare_sample(given.out, options, given.release_out)
        return
    if given.corpus == "iemocap":
        source = iemocap.read_release(given.release, with_sound)
    elif given.corpus == "meld":
        source = meld.read_meld(given.release, with_sound)
    else:
        source = table.read_table(given.table, given.emotions, given.name, with_sound)
    build.prepare(source, given.out, options)


if __name__ == "__main__":
    run_program(main, "interrupted: the same command goes on where it stopped")
