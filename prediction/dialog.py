"""The page of a dialog of a corpus: the raters' votes beside the prediction. A corpus has no sound to play."""

from pathlib import Path

import numpy as np

from data.utterance import Utterance
from prediction import output
from prediction.about import checkpoint_said, limits_of
from prediction.page import write_page
from storage.files import InputError

_NO_NAMES = str.maketrans({"/": "%2F", "\0": "%00", "%": "%25"})  # what no name of a file can hold
_COLUMNS = ("utterance_id", "dialog_id", "speaker", "start_s", "end_s", "transcript")


def write_dialog(folder, recogniser, task, dialog, out):
    """Writes the page of a dialog of a corpus, the raters' votes beside the prediction.

    Args:
        folder: the run folder.
        recogniser: of `checkpoint.load_checkpoint`.
        task: `data.task.Task` on the corpus.
        dialog: its id.
        out: folder for the page.

    Returns:
        The text to print.

    Raises:
        InputError: the corpus has no such dialog.
    """
    corpus = task.corpus
    if dialog not in task.dialogs:
        raise InputError(f"{corpus.name}: no dialog {dialog!r:.60}; it has {', '.join(list(task.dialogs)[:3])}, ...")
    rows = np.arange(task.dialogs[dialog].start, task.dialogs[dialog].stop)
    *_, shares = recogniser.predict_corpus(corpus, rows).values()
    features = corpus.audio[task.dialogs[dialog]] if recogniser.reads_sound else None
    known = recogniser.known_words(corpus.transcript[rows]) if recogniser.reads_words else np.zeros(len(rows))
    rests, answers = output.rests_on(recogniser, features, known > 0), []
    for row, answer, on in zip(rows, output.as_shares(shares), rests, strict=True):
        one = Utterance(*(getattr(corpus, name)[row] for name in _COLUMNS))
        votes = task.shares[row] if task.shares[row].any() else None
        answers.append(output.Answer(one, answer, on, votes))
    path = Path(out) / f"{dialog.translate(_NO_NAMES)}.html"
    conversation = output.Conversation(
        name=dialog,
        emotions=recogniser.emotions,
        answers=tuple(answers),
        checkpoint=checkpoint_said(Path(folder)),
        limits=limits_of(Path(folder)),
        duration_s=max(one.utterance.end_s for one in answers),
    )
    write_page(path, conversation)
    return f"written to {path}"
