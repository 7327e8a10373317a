"""The figures: training curves, confusion matrix, coverage, attention (Fig. 5), factors; colour-blind safe."""

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np

from storage.files import atomic_path

matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a name or a transcript is no formula

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
        rows: `storage.runs.EpochRow`s.
        run: `storage.runs.Run`.
        path: of the PNG file.
    """
    stages = list(dict.fromkeys(row.stage for row in rows))
    figure, axes = plt.subplots(1, max(len(stages), 1), figsize=(4.2 * max(len(stages), 1), 3.4), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=False):
        of_stage = [(row.epoch, row.train_loss, row.dev_loss) for row in rows if row.stage == stage]
        epochs, train, dev = np.array(of_stage, "float64").T
        axis.plot(epochs, train, color=BLUE, label="training")
        axis.plot(epochs, dev, color=ORANGE, linestyle="--", label="dev")
        best = run.stages[stage].best_epoch
        axis.plot(best, dev[int(best) - 1], "o", color=ORANGE, label=f"kept: epoch {best}")
        axis.set(
            title=stage,
            xlabel="epoch",
            ylabel={"mse": "mean squared error"}.get(run.settings.loss, "cross-entropy"),
        )
        axis.set_yscale("log")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(run.corpus.name)
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


def coverage_figure(curves, title, path):
    """Accuracy of the answers when the least sure utterances are left unanswered.

    Args:
        curves: {name: (coverage (K,), accuracy (K,))} of `scoring.agreement.coverage_curve`, the run's answer last.
        title: above the figure.
        path: of the PNG file.
    """
    figure, axis = plt.subplots(figsize=(5, 3.8))
    styles = (("#666666", ":"), (ORANGE, "--"), (BLUE, "-"))
    for number, (name, (coverage, accuracy)) in enumerate(curves.items()):
        colour, style = styles[(number - len(curves)) % len(styles)]
        shown = np.unique(np.linspace(0, len(coverage) - 1, 1000).astype(int))
        axis.plot(coverage[shown], accuracy[shown], color=colour, linestyle=style, label=name)
    axis.set(xlabel="share of the utterances answered", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


_MOST_ROWS = 40  # utterances shown one by one in Fig. 5; earlier ones are summed up
_LABEL_CHARACTERS = 60


def attention_figure(scores, labels, num_padding, title, path):
    """Fig. 5 of the paper: how much the last utterance of a context attends to each, per sub-view and averaged.

    The padding rows and, in a context of more than 40 utterances, the earliest ones are rows of their own below and
    above, with their totals as numbers: they would drown the colours of the others.

    Args:
        scores: {"text": (V, H + 1), "audio": (V, H + 1)}, rows sum to one, last column: sum over the padding rows.
        labels: H transcripts.
        num_padding: how many rows the padding has.
        title: above the figure.
        path: of the PNG file.
    """
    num_utterances, num_views = len(labels), len(scores["text"])
    num_earlier = max(num_utterances - _MOST_ROWS, 0)
    shown = [f"{_shortened(label)}  {number}" for number, label in enumerate(labels, 1)][num_earlier:]
    table = {name: np.concatenate([one, one.mean(axis=0, keepdims=True)]).T for name, one in scores.items()}
    top = max(one[num_earlier:num_utterances].max() for one in table.values())
    blocks = [([f"padding, {num_padding} rows: total"], slice(num_utterances, None))] if num_padding else []
    blocks.insert(0, (shown, slice(num_earlier, num_utterances)))
    if num_earlier:
        blocks.insert(0, ([f"utterances 1 to {num_earlier}: total"], slice(0, num_earlier)))
    height = 0.26 * (len(shown) + 1.6 * (len(blocks) - 1)) + 1.7
    figure, axes = plt.subplots(
        len(blocks),
        2,
        figsize=(13.5, height),
        squeeze=False,
        layout="constrained",
        height_ratios=[max(len(names), 1.4) for names, _ in blocks],
    )
    views = [*map(str, range(1, num_views + 1)), "mean"]
    for row, (names, rows) in enumerate(blocks):
        for axis, modality in zip(axes[row], ("text", "audio"), strict=True):
            values, line = table[modality][rows], "white"
            if names is shown:
                colours = axis.imshow(values, cmap="viridis", vmin=0, vmax=top, aspect="auto")
            else:
                values, line = values.sum(axis=0), "black"
                axis.imshow(np.zeros((1, len(values))), cmap="Greys", aspect="auto")
                for column, value in enumerate(values):
                    axis.text(column, 0, f"{value:.2f}", ha="center", va="center", fontsize=8)
            axis.axvline(num_views - 0.5, color=line, linewidth=2)
            axis.set_yticks(range(len(names)), names if modality == "text" else [], fontsize=8)
            axis.tick_params(axis="y", length=0)
            if row == len(blocks) - 1:
                axis.set_xticks(range(num_views + 1), views, fontsize=8)
                axis.set_xlabel("sub-view")
            else:
                axis.set_xticks([])
            if row == 0:
                axis.set_title(modality)
    figure.colorbar(colours, ax=axes, label="attention score", fraction=0.03, pad=0.01)
    figure.suptitle(f"{title} (row {num_utterances}): what it attends to, last layer")
    save_figure(figure, path)


def _shortened(text):
    """One line of at most 60 characters."""
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1].rstrip() + "…"


def factor_figure(factors, title, path):
    """The learned correlation factors of each layer and modality, all on one scale around zero.

    Args:
        factors: one {"audio": (D, D) or (V, D, D), "text": the same} per layer; one row of panels per layer and
            modality with one panel per sub-view, or, for shared factors, per modality with one panel per layer.
        title: above the figure.
        path: of the PNG file.
    """
    shared = factors[0]["audio"].ndim == 2
    modalities = {"audio": "audio keys\n+= text keys ×", "text": "text keys\n+= audio keys ×"}
    if shared:
        panels = {label: [layer[name] for layer in factors] for name, label in modalities.items()}
        column, heads = "layer", len(factors)
    else:
        panels = {
            f"layer {number}\n{label}": list(layer[name])
            for number, layer in enumerate(factors, 1)
            for name, label in modalities.items()
        }
        column, heads = "sub-view", max(map(len, panels.values()))
    largest = max(np.abs(one).max() for row in panels.values() for one in row)
    size = 2.3 if shared else 1.3
    figure, axes = plt.subplots(
        len(panels), heads, figsize=(size * heads + 2, size * len(panels) + 0.9), squeeze=False, layout="constrained"
    )
    for row, (label, matrices) in zip(axes, panels.items(), strict=True):
        for number, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            if number >= len(matrices):
                axis.axis("off")
                continue
            image = axis.imshow(matrices[number], cmap="PuOr", vmin=-largest, vmax=largest)
            if label == next(iter(panels)):
                axis.set_title(f"{column} {number + 1}", fontsize=10)
        row[0].set_ylabel(label, fontsize=9 if shared else 7)
    figure.colorbar(image, ax=axes, label="weight", fraction=0.04, pad=0.02)
    figure.suptitle(f"{title}: learned correlation factors")
    save_figure(figure, path)
