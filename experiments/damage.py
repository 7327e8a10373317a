"""What recognised speech, and a missing modality, cost a causal run: the test session with damaged input.

Of the words of each test utterance a share is wrong: each such word is deleted, exchanged for another word of the
training, or has one put behind it, with equal chance. Every share is drawn several times. Besides, all words or all
sound of the test session are taken away.

    python -m experiments.damage runs/causal-seed0 runs/causal-seed1 --corpus iemocap.h5 --out runs/damage
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from data.corpus import rows_of_dialogs
from storage.files import InputError, made_folder, write_text
from surroundings import check_backend, run_program

SHARES, NUM_DRAWS = (0.05, 0.1, 0.2, 0.3), 5
UNDAMAGED = "as transcribed"  # the row that others are compared with


def main():
    parser = argparse.ArgumentParser(description="Score causal runs on test words that are wrong, or not there.")
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs of one system, a seed each")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus file of the runs")
    parser.add_argument("--text-encoder", help="where the encoder of the runs is (default: in the user's cache)")
    parser.add_argument("--out", type=Path, required=True, help="folder for damage.md and damage.csv")
    arguments = parser.parse_args()
    check_backend()
    write_damage(arguments.runs, arguments.corpus, arguments.text_encoder, arguments.out)
    print(f"written to {arguments.out}: damage.md, damage.csv")


def write_damage(run_folders, corpus_path, text_encoder, out):
    """Writes damage.md and damage.csv.

    Raises:
        InputError: a run is not finished, needs what is not there, or does not know utterances without sound; the
            runs differ in more than the seed, or the corpus file is another.
    """
    # The framework takes seconds, and --help needs none.
    from checkpoint import load_checkpoint
    from data.text import tokenize
    from experiments.intervals import recognition, rows_of, write_rows
    from experiments.markdown import rendered, scores_table
    from experiments.runs import check_same_but_seed
    from scoring.draws import draws_of
    from scoring.evaluation import task_of

    answers, runs = {}, check_same_but_seed(run_folders, corpus_path)
    recognisers = {folder: load_checkpoint(folder, text_encoder=text_encoder) for folder in run_folders}
    for folder, recogniser in recognisers.items():
        if not recogniser.bears_silence:
            raise InputError(f"{folder}: a run is needed that reads words and sound, and answers without one of them")
    made_folder(out)  # before the work
    for folder, recogniser in recognisers.items():
        task = task_of(recogniser, corpus_path)
        words = sorted({word for line in task.corpus.transcript[task.split["train"]] for word in tokenize(line)})
        for name, predictions in damaged_answers(recogniser, task.corpus, task.test, words).items():
            answers.setdefault(name, []).extend(predictions)
        print(f"{folder}: done", flush=True)
    scored = []
    for name, predictions in answers.items():
        one = recognition(name, (), task, predictions, draws_of(task), "answers")
        per_run = one.per_seed.reshape(len(runs), -1, one.per_seed.shape[1]).mean(axis=1)  # over the draws of words
        scored.append(dataclasses.replace(one, per_seed=per_run))
    rows = rows_of(scored, "answers", UNDAMAGED)
    text = rendered("damage", runs=runs, scores=scores_table(rows), num_draws=NUM_DRAWS)
    write_text(out / "damage.md", text)
    write_rows(out / "damage.csv", rows)


def damaged_answers(recogniser, corpus, test, words):
    """The answers of a recogniser on damaged input.

    Args:
        recogniser: `systems.base.Recogniser` that bears silence.
        corpus: `data.corpus.Corpus`.
        test: rows of the n test utterances.
        words: of the training, that stand for others.

    Returns:
        {name: list of (n, C), one for each draw}.
    """

    read = rows_of_dialogs(corpus.dialog_id, test)  # whole dialogs, as context
    part, rows = corpus.take(read), np.searchsorted(read, test)

    def answers(**changes):
        return list(recogniser.predict_corpus(dataclasses.replace(part, **changes), rows).values())[-1]

    def said(transcript):  # an encoder's vectors are of the words as transcribed
        return answers(transcript=transcript, text=None, text_encoder=None)

    found = {UNDAMAGED: [answers()]}
    for share in SHARES:
        orders = [np.random.default_rng([seed, int(1000 * share)]) for seed in range(NUM_DRAWS)]
        found[f"{share:.0%} of the words wrong"] = [
            said(damaged(part.transcript, share, words, order)) for order in orders
        ]
    found["words alone"] = [answers(audio=np.full_like(part.audio, np.nan))]
    found["sound alone"] = [said(np.full(len(part), "", object))]
    return found


def damaged(transcripts, share, words, order):
    """The transcripts, of whose words about a share is deleted, exchanged or followed by another word.

    Args:
        transcripts: N texts.
        share: from 0 to 1.
        words: that stand for others.
        order: numpy random generator.
    """
    lines = []
    for transcript in transcripts:
        line = []
        for word in transcript.split():
            if order.random() >= share:
                line.append(word)
                continue
            other = words[order.integers(len(words))]
            line += ([], [other], [word, other])[order.integers(3)]  # deleted, exchanged, inserted
        lines.append(" ".join(line))
    return np.array(lines, object)


if __name__ == "__main__":
    run_program(main, "interrupted; the same command begins again")
