"""Bootstrap draws of dialogs, and the intervals that they give (Efron and Tibshirani 1993, percentile bootstrap).

Utterances of one dialog share speakers and subject, so whole dialogs of the test part are drawn with replacement.
Letters of the shapes: N test utterances, G dialogs, B draws.
"""

import numpy as np

NUM_DRAWS = 2000


def dialog_draws(dialog_id, num_draws=NUM_DRAWS, seed=0):
    """How often each test utterance counts in each bootstrap draw of dialogs.

    Args:
        dialog_id: (N,) the dialog of each utterance.
        num_draws: B.
        seed: of the draws.

    Returns:
        (B, G) counts that sum to G, and (N,) the dialog's number of each utterance.
    """
    names, dialog = np.unique(dialog_id, return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), num_draws)
    return counts, dialog


def draws_of(task):
    """`dialog_draws` of a `data.task.Task`: the same for the same test session, independent for another."""
    return dialog_draws(task.corpus.dialog_id[task.test], seed=int(task.test[0]))


def interval(draws):
    """95 % percentile interval of (B,) draws; NaN draws, without support, are left out. None if nothing is left."""
    draws = draws[np.isfinite(draws)]
    return tuple(float(q) for q in np.quantile(draws, (0.025, 0.975))) if len(draws) else None
