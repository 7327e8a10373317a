"""Makes a provided checkpoint from finished and evaluated runs that differ in the seed alone: weights and model card.

    python -m experiments.publish checkpoints/iemocap-causal runs/causal-seed0 runs/causal-seed1 ... --corpus iemocap.h5

Taken is the run with the median dev loss (of an even number the lower one), so that the checkpoint is neither a lucky
nor an unlucky seed; the card has the scores of all of them. Only what loading needs is copied: no transcript, vote,
feature or utterance id of the corpus, but the vocabulary. The text of the card, in templates/, is about IEMOCAP.

--half rounds the weights to the precision of 16-bit floats and packs them, which halves the files. The checkpoint is
then scored anew, so that its card and its results.json are those of the weights that are there.
"""

import argparse
from pathlib import Path

from surroundings import check_backend, run_program


def main():
    parser = argparse.ArgumentParser(description="Make a provided checkpoint and its model card from finished runs.")
    parser.add_argument("folder", type=Path, help="of the checkpoint; one that is there is replaced")
    parser.add_argument("runs", type=Path, nargs="+", help="finished and evaluated run folders, one per seed")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus file of the runs")
    parser.add_argument("--note", default="", help="a sentence for the card, about the word vectors used, say")
    parser.add_argument("--damage", type=Path, help="damage.csv of experiments.damage on these runs, for the card")
    parser.add_argument("--half", action="store_true", help="round the weights to 16 bits: files of half the size")
    arguments = parser.parse_args()
    check_backend()
    from experiments.cards import publish  # the framework takes seconds, and --help needs none

    publish(arguments.folder, arguments.runs, arguments.corpus, arguments.note, arguments.half, arguments.damage)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir()) / 1e6
    print(f"{arguments.folder}: {size:.1f} MB")
    print(f"check it: python evaluate.py {arguments.folder} --corpus {arguments.corpus} --out runs/check")


if __name__ == "__main__":
    run_program(main, "interrupted; nothing is lost")
