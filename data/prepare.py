"""Prepares a corpus file: parse the release, extract audio features, write one HDF5 file, compare with the paper.

    python -m data.prepare iemocap --release IEMOCAP_full_release --out iemocap.h5
    python -m data.prepare meld --release MELD.Raw --out meld.h5
    python -m data.prepare table --table mine.csv --out mine.h5          # your own corpus: data/README.md
    python -m data.prepare sample --out sample.h5
    python -m data.prepare encode --corpus iemocap.h5 --text-encoder all-MiniLM-L6-v2 --out iemocap-minilm.h5

An interrupted command goes on where it stopped when it is given again: finished utterances lie in a cache beside the
output (`<out>.features.jsonl`; `<out>.text` of a text encoder), which is removed once the output is written without a
failed file. docs/encoders.md says more of encoders.
"""

import argparse
import dataclasses
from pathlib import Path

from data.audio import FEATURE_SETS
from storage.files import InputError
from surroundings import run_program

_ENCODER = "encoder:"  # what follows is where it is


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, found {number}")
    return number


def _feature_set(text):
    if text not in FEATURE_SETS and not (text.startswith(_ENCODER) and text != _ENCODER):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(FEATURE_SETS)}, {_ENCODER}PATH_OR_NAME")
    return text


def _parser():
    parser = argparse.ArgumentParser(prog="python -m data.prepare", description="Prepares a corpus file for training.")
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="corpus")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--out", required=True, type=Path, metavar="FILE", help="the corpus file to write (HDF5)")
    output.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    output.add_argument(
        "--text-encoder",
        metavar="PATH_OR_NAME",
        help="keep vectors of the transcripts too: a model's folder, or its name on the Hugging Face Hub",
    )
    output.add_argument(
        "--layers", nargs="+", type=int, metavar="N", help="of the encoders; 0: the embedding, -1: the last (default)"
    )
    output.add_argument(
        "--pooling", choices=("mean", "mean-std"), help="of the layers (default: mean of words, mean-std of sound)"
    )
    output.add_argument("--download", action="store_true", help="get encoders that are not here from the network")
    common = argparse.ArgumentParser(add_help=False, parents=[output])
    common.add_argument(
        "--audio",
        type=_feature_set,
        default="egemaps_lld",
        metavar="SET",
        help="egemaps_lld, 46 columns; emo_large, the paper's 6552; none; or encoder:PATH_OR_NAME, a wav2vec 2.0, "
        "HuBERT, WavLM or Whisper (default: %(default)s)",
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
    encode = corpora.add_parser("encode", parents=[output], help="add vectors of words to a corpus file")
    encode.add_argument("--corpus", required=True, type=Path, metavar="FILE", dest="corpus_file", help="of any corpus")
    return parser


def _encoders(given, audio):
    """{field of `data.build.Options`: encoder} of those that are asked for."""
    from data import encoders

    how, found = {"layers": given.layers or (-1,), "pooling": given.pooling, "download": given.download}, {}
    if audio.startswith(_ENCODER):
        found["audio"] = encoders.AudioEncoder.load(audio.removeprefix(_ENCODER), **how)
    if given.text_encoder:
        found["text_encoder"] = encoders.TextEncoder.load(given.text_encoder, **how)
    if not found and (given.layers or given.pooling or given.download or given.corpus == "encode"):
        of_sound = ", or --audio encoder:PATH_OR_NAME" * (given.corpus != "encode")
        raise InputError(f"which encoder? give --text-encoder{of_sound}")
    return found


def main(arguments=None):
    """Runs one command."""
    given = _parser().parse_args(arguments)
    from data import build, iemocap, meld, table  # what they import takes seconds, and --help needs none

    asked = {f.name: getattr(given, f.name, None) for f in dataclasses.fields(build.Options)}
    audio = getattr(given, "audio", "none")
    build.check_out(given.out, given.overwrite)
    asked |= _encoders(given, audio)
    options = build.Options(**{name: value for name, value in asked.items() if value is not None})
    with_sound = audio != "none"
    if given.corpus == "encode":
        build.encode(given.corpus_file, given.out, options)
        return
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
