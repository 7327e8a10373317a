"""The figures: training curves and the confusion matrix; drawn to be read at a glance, colour-blind safe."""

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np

from data.files import atomic_path

# Okabe and Ito's palette: distinct for every common kind of colour vision.
BLUE, ORANGE = "#0072B2", "#D55E00"


def save_figure(figure, path):
    """Writes the figure as PNG and, beside it, as vector PDF; both atomically and with the same bytes every time."""
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        with atomic_path(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)
    plt.close(figure)


def training_curves(rows, run, path):
    """Training and dev loss of each stage by epoch, with the epoch that was kept.

    Args:
        rows: of history.csv.
        run: content of run.json.
        path: of the PNG file.
    """
    stages = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = plt.subplots(1, max(len(stages), 1), figsize=(4.2 * max(len(stages), 1), 3.4), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=False):
        epochs, train, dev = np.array([row[1:4] for row in rows if row[0] == stage], "float64").T
        axis.plot(epochs, train, color=BLUE, label="training")
        axis.plot(epochs, dev, color=ORANGE, linestyle="--", label="dev")
        best = run["stages"][stage]["best_epoch"]
        axis.plot(best, dev[int(best) - 1], "o", color=ORANGE, label=f"kept: epoch {best}")
        axis.set(
            title=stage,
            xlabel="epoch",
            ylabel={"mse": "mean squared error"}.get(run["settings"]["loss"], "cross-entropy"),
        )
        axis.set_yscale("log")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(run["corpus"]["name"])
    figure.tight_layout()
    save_figure(figure, path)


def confusion_figure(matrix, emotions, title, path):
    """The confusion matrix: counts as text, colour by the share of the label's utterances.

    Args:
        matrix: (C, C) counts, rows are labels.
        emotions: the C names.
        title: above the figure.
        path: of the PNG file.
    """
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(7.5, 6.5))
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix >= 0):
        dark = shares[row, column] > 0.55
        axis.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=9,
        )
    axis.set_xticks(range(len(emotions)), emotions, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(
        range(len(emotions)), [f"{name} ({count})" for name, count in zip(emotions, matrix.sum(axis=1), strict=True)]
    )
    axis.set(xlabel="prediction", ylabel="label (utterances)", title=title)
    figure.colorbar(image, label="share of the label's utterances", fraction=0.046)
    save_figure(figure, path)
