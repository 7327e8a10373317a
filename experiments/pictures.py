"""Draws the pictures of the documents and brings the numbers in their sentences up to date, from saved results.

    python -m experiments.pictures

docs/network.svg and docs/causal.svg are drawings; docs/results.svg has experiments.toml's rows of the plot. A number
in a document names its source in a comment behind it, which no reader sees: `48.6<!-- table3 / T+A / accuracy / mean
-->` is of results/table3.csv, `20.3<!-- benchmarks/results.json / fusion.epoch_s -->` of a JSON file; it gets as many
digits after the point as it has. `.0373<!-- results/table3.md -->` must stand in that page. The same results give the
same bytes.
"""

import argparse
import html
import math
import re
from pathlib import Path

from experiments.catalogue import CONTENT
from experiments.intervals import read_rows
from experiments.markdown import rendered
from storage.files import InputError, made_folder, read_json, read_text, write_text
from surroundings import run_program

HERE = Path(__file__).resolve().parents[1]
RATER = ("checkpoints/iemocap-causal/results.json", "agreement.rater_accuracy_9")
# Class: fill and stroke, in a light page and in a dark one. Blue and orange are told apart by the colour-blind too.
COLOURS = {
    "page": ("#ffffff", "#d1d9e0", "#0d1117", "#3d444d"),
    "ink": ("#1f2328", "none", "#f0f6fc", "none"),
    "soft": ("#59636e", "none", "#a6b0bb", "none"),
    "text": ("#e3f0f8", "#0072b2", "#0c2d42", "#58b0e3"),
    "audio": ("#fbeadb", "#b45309", "#40260c", "#e8973f"),
    "joint": ("#eef1f4", "#59636e", "#1c2128", "#8c959f"),
    "inner": ("#ffffff", "#8c959f", "#0d1117", "#8c959f"),
    "flow": ("none", "#59636e", "none", "#a6b0bb"),
    "head": ("#59636e", "none", "#a6b0bb", "none"),
    "cross": ("none", "#a0307a", "none", "#e58cc5"),
    "cross-head": ("#a0307a", "none", "#e58cc5", "none"),
    "cross-box": ("#fbe9f4", "#a0307a", "#3b1730", "#e58cc5"),
    "grid": ("none", "#d1d9e0", "none", "#30363d"),
    "ours": ("#0072b2", "#0072b2", "#58b0e3", "#58b0e3"),
    "paper": ("#ffffff", "#b45309", "#0d1117", "#e8973f"),
    "rater": ("none", "#a0307a", "none", "#e58cc5"),
}
_SOURCED = re.compile(r"([+-]?\d*\.?\d+)(\s*<!-- ([^>]+? / [^>]+?|[^>]+?\.md) -->)")


def main():
    parser = argparse.ArgumentParser(description="Draw the documents' pictures and fill in their numbers.")
    parser.add_argument("--into", type=Path, default=HERE, help="folder of README.md and docs/ (default: the project)")
    into = parser.parse_args().into
    texts = {into / "docs" / f"{name}.svg": text for name, text in pictures().items()}
    texts |= {path: with_numbers(read_text(path), path) for path in documents(into)}
    made_folder(into / "docs")
    for path, text in texts.items():
        write_text(path, text)
    print(f"pictures and numbers of {into / 'docs'} and README.md are up to date")


def documents(folder=HERE):
    """The pages that people read: README.md and docs/."""
    return [path for path in (folder / "README.md", *sorted((folder / "docs").glob("*.md"))) if path.exists()]


def pictures():
    """{name: SVG} of the three pictures."""
    return {"network": network().svg(), "causal": causal().svg(), "results": results().svg()}


def with_numbers(text, path):
    """The text of a document, each number that names its source as that has it.

    Raises:
        InputError: a source is not there.
    """

    def filled(match):
        number, comment, source = match.groups()
        try:
            if source.endswith(".md"):
                if number not in read_text(HERE / source):
                    raise KeyError(number)
                return match[0]
            value = value_of(" ".join(source.split()))
            return f"{value:{'+' if number[0] in '+-' else ''}.{len(number.partition('.')[2])}f}{comment}"
        except (InputError, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
            raise InputError(f"{path}: the source '{source}' of {number} is not there ({error})") from error

    return _SOURCED.sub(filled, text)


def value_of(source):
    """The number that "TABLE / SYSTEM / SCORE / FIELD" or "FILE.json / KEY.KEY" names; "... / x 100" is in percent.

    Raises:
        InputError, KeyError, OSError: there is none.
    """
    place, *rest = source.split(" / ")
    if not place.endswith(".json"):
        return getattr(row_of(place, *rest[:2]), rest[2])
    found = read_json(HERE / place)
    keys = rest[0].split(".")
    while keys:
        key = keys.pop(0)
        if key not in found and keys:
            key = f"{key}.{keys.pop(0)}"  # such as "0.5"
        found = found[key]
    return float(found) * (100 if rest[1:] == ["x 100"] else 1)


def rows_of(table):
    """{(system, score): `intervals.Row`} of results/TABLE.csv; nothing where it has no page."""
    path = HERE / "results" / f"{table}.csv"
    return {(row.system, row.score): row for row in read_rows(path)} if path.with_suffix(".md").exists() else {}


def row_of(table, system, score):
    """The `intervals.Row` of results/TABLE.csv; an InputError where there is none."""
    try:
        return rows_of(table)[system, score]
    except KeyError as error:
        raise InputError(f"results/{table}.csv: has no row of {system}, {score}; write the table again") from error


class Picture:
    """An SVG drawing; coordinates are pixels from the top left. Styles are keys of COLOURS."""

    def __init__(self, width, height, title, description):
        self.about = {"width": width, "height": height, "title": title, "description": description}
        self.shapes = []

    def svg(self):
        light, dark = ({name: each[i : i + 2] for name, each in COLOURS.items()} for i in (0, 2))
        return rendered("picture", "svg", shapes=self.shapes, light=light, dark=dark, **self.about)

    def box(self, x, y, width, height, *lines, style="inner", size=13):
        """A rectangle with lines of text in its middle."""
        self.shapes.append(f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        top = y + height / 2 - (len(lines) - 1) * 0.6 * size + 0.36 * size
        for number, line in enumerate(lines):
            self.label(x + width / 2, top + 1.2 * size * number, line, anchor="middle", size=size)

    def label(self, x, y, text, style="ink", anchor="start", size=13, bold=False):
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{x:g}" y="{y:.4g}" text-anchor="{anchor}" font-size="{size}"'
        self.shapes.append(f'<text class="{style}" {place}{weight}>{html.escape(text)}</text>')

    def line(self, *points, style="flow", width=1.6, dashes=""):
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(
            f'<polyline class="{style}" points="{path}" style="fill:none" stroke-width="{width}"{dashes}/>'
        )

    def arrow(self, *points, style="flow", head="head"):
        """A line with a head at its end; its last part is level or upright."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        self.line(*points[:-1], (x - 5 * dx, y - 5 * dy), style=style)
        corners = [(x, y), *((x - 9 * dx + side * dy, y - 9 * dy + side * dx) for side in (4.5, -4.5))]
        path = " ".join(f"{a:g},{b:g}" for a, b in corners)
        self.shapes.append(f'<polygon class="{head}" points="{path}"/>')

    def mark(self, x, y, style, diamond=False):
        if diamond:
            points = f"{x:.1f},{y - 7} {x + 7:.1f},{y} {x:.1f},{y + 7} {x - 7:.1f},{y}"
            self.shapes.append(f'<polygon class="{style}" points="{points}" stroke-width="2"/>')
        else:
            self.shapes.append(f'<circle class="{style}" cx="{x:.1f}" cy="{y}" r="5"/>')


def network():
    """The paper's network as its authors coded it (model.py)."""
    drawing = Picture(
        1000,
        392,
        "The paper's network",
        "A text branch and an audio branch turn each utterance into two vectors. Four attention layers, in which the "
        "keys of text and audio see each other through a learned factor, read the vectors of the dialog so far. Dense "
        "layers give ten vote shares.",
    )
    _utterance(drawing, ("word vectors, 200", "2 × sub-view attention", "maximum over words"))
    _branch(drawing, 222, "audio", "audio branch", ("acoustic features", "Dense 1600, Dense 400", "Dense 200"))
    for style, top in (("text", 77), ("audio", 247)):
        for row in range(6):
            drawing.box(385, top + 16 * row, 78, 11, style=style if row == 5 else "inner")
        drawing.arrow((340, top + 86), (382, top + 86))
        drawing.arrow((466, top + 46), (502, top + 46))
    drawing.label(424, 213, "the dialog so far,", anchor="middle", style="soft")
    drawing.label(424, 230, "a row an utterance", anchor="middle", style="soft")
    _correlation(drawing, 504, "4 × mutual correlation attention", "batch norm and tanh after each")
    _head(drawing, ("side by side, 400", "Dense 256", "maximum over rows", "Dense 64, Dense 16"), "ten vote shares")
    return drawing


def causal():
    """Our causal system (systems/causal/)."""
    drawing = Picture(
        1000,
        392,
        "Our causal system",
        "The words and the sound of each utterance become two rows of 200 numbers. Two attention layers with the "
        "mutual correlation factor let each utterance see itself and earlier ones, and tell it how far back a row is "
        "and who speaks. Each row gives its own vote shares. Several networks are averaged.",
    )
    _utterance(drawing, ("mean word vector", "Dense 200, tanh", "layer norm"))
    sound = ("features and timing", "and distance from mean", "Dense 200, tanh, norm")
    _branch(drawing, 222, "audio", "sound", sound)
    for row in range(6):
        for column in range(row + 1):
            drawing.box(376 + 16 * column, 150 + 16 * row, 13, 13, style="joint")
    drawing.label(424, 128, "a row sees itself", anchor="middle", style="soft")
    drawing.label(424, 144, "and its past", anchor="middle", style="soft")
    drawing.label(424, 268, "told: how far back,", anchor="middle", style="soft")
    drawing.label(424, 285, "the same speaker?", anchor="middle", style="soft")
    drawing.arrow((340, 109), (502, 109))
    drawing.arrow((340, 308), (502, 308))
    _correlation(drawing, 504, "2 × mutual correlation attention", "layer norm, tanh, residual around each")
    _head(drawing, ("side by side, 400", "Dense 128, tanh", "softmax, each row", "mean of members"), "vote shares")
    return drawing


def _utterance(drawing, text):
    """What is said and how it sounds, and the text branch."""
    drawing.box(16, 100, 96, 46, "“Well,", "you came.”", style="text")
    drawing.arrow((112, 123), (134, 123))
    wave = [(18 + 2 * i, 293 + (1, -1)[i % 2] * (3 + 17 * abs((i * 37 % 23) - 11) / 11)) for i in range(46)]
    drawing.line(*wave, style="audio", width=1.4)
    drawing.arrow((112, 293), (134, 293))
    _branch(drawing, 52, "text", "text branch" if "attention" in text[1] else "words", text)


def _branch(drawing, top, style, title, steps):
    drawing.box(136, top, 204, 142, style=style)
    drawing.label(148, top + 21, title, bold=True)
    for number, step in enumerate(steps):
        drawing.box(148, top + 31 + 36 * number, 180, 27, step)
        if number:
            drawing.arrow((238, top + 22 + 36 * number), (238, top + 31 + 36 * number))


def _correlation(drawing, left, title, note):
    """A layer in which the keys of both modalities see each other (equations 4 and 5, in the released order)."""
    drawing.box(left, 32, 300, 346, style="joint")
    drawing.label(left + 14, 54, title, bold=True)
    for style, y, name in (("text", 95, "text"), ("audio", 294, "audio")):
        drawing.label(left + 14, y - 8 if y < 200 else y + 42, name, style="soft")
        for number, what in enumerate(("query", "key", "value")):
            drawing.box(left + 14 + 66 * number, y, 58, 28, what, style=style)
        drawing.arrow((left + 204, y + 14), (left + 222, y + 14))
        drawing.box(left + 222, y, 66, 28, "attend", style=style)
    key = left + 109
    drawing.arrow((key - 16, 123), (key - 16, 292), style="cross", head="cross-head")
    drawing.arrow((key + 16, 294), (key + 16, 125), style="cross", head="cross-head")
    drawing.box(key - 31, 178, 29, 24, "× Lₐ", style="cross-box", size=11)
    drawing.box(key + 2, 215, 29, 24, "× Lₜ", style="cross-box", size=11)
    for number, line in enumerate(
        ("mutual correlation", "factor: each key also", "gets the other's,", "through a matrix")
    ):
        drawing.label(left + 152, 182 + 18 * number, line)
    drawing.label(left + 150, 365, note, style="soft", anchor="middle", size=12)


def _head(drawing, steps, answer):
    for y, end in ((109, 119), (308, 127)):
        drawing.arrow((792, y), (822, y), (822, end), (838, end))
    for number, step in enumerate(steps):
        drawing.box(840, 109 + 38 * number, 146, 28, step)
        if number:
            drawing.arrow((913, 99 + 38 * number), (913, 109 + 38 * number))
    drawing.arrow((913, 251), (913, 266))
    for number, share in enumerate((8, 30, 5, 62, 12, 44, 4, 9, 3, 6)):
        drawing.box(850 + 13 * number, 340 - share, 9, share, style="ours")
    drawing.line((846, 340), (980, 340))
    drawing.label(913, 362, answer, anchor="middle", bold=True)


def results():
    """Accuracy of each system that results/ has, with its interval, the paper's number and a human rater's."""
    wanted = CONTENT["rows"]["plot"]
    found = [(name, row_of(table, system, "accuracy")) for name, table, system in wanted if rows_of(table)]
    found = [(name, row) for name, row in found if row.mean is not None and row.low is not None]
    if not found:
        raise InputError(f"{HERE / 'results'}: none of the tables is there that the plot shows")
    try:
        rater = 100 * value_of(" / ".join(RATER))
    except (KeyError, TypeError):
        rater = None
    left, right, top = 258, 826, 64
    bottom = top + 30 * len(found)
    most = 10 * math.ceil(max(row.high for _, row in found) / 10)
    drawing = Picture(
        900,
        bottom + 46,
        "Accuracy on Session 4 of IEMOCAP",
        "; ".join(f"{name} {_number(row.mean)}, paper {_number(row.paper)}" for name, row in found),
    )

    def x(percent):
        return round(left + (right - left) * (percent - 10) / (most - 10), 1)

    for percent in range(10, most + 1, 10):
        drawing.line((x(percent), top - 8), (x(percent), bottom), style="grid", width=1)
        drawing.label(x(percent), bottom + 18, f"{percent} %", style="soft", anchor="middle", size=12)
    legend = (("ours", False, "ours, with its 95 % interval", 30), ("paper", True, "the paper's number", 262))
    for style, diamond, what, place in legend:
        if not diamond:
            drawing.line((place - 14, 30), (place + 14, 30), style=style, width=2)
        drawing.mark(place, 30, style, diamond)
        drawing.label(place + 20, 34, what)
    if rater is not None:
        drawing.line((x(rater), top - 8), (x(rater), bottom), style="rater", width=2, dashes="5 4")
        drawing.line((440, 22), (440, 38), style="rater", width=2, dashes="5 4")
        drawing.label(452, 34, f"one human rater against the majority of the others: {rater:.1f}")
    for number, (name, row) in enumerate(found):
        y = top + 12 + 30 * number
        drawing.label(left - 14, y + 4, name, anchor="end", bold=name.startswith("our"))
        drawing.line((x(row.low), y), (x(row.high), y), style="ours", width=2.4)
        if row.paper is not None:
            drawing.mark(x(row.paper), y, "paper", diamond=True)
        drawing.mark(x(row.mean), y, "ours")
        drawing.label(right + 16, y + 4, f"{row.mean:.1f}", bold=True)
    drawing.label(
        (left + right) / 2, bottom + 37, "accuracy, nine emotions, Session 4 of IEMOCAP", "soft", "middle", 12
    )
    return drawing


def _number(value):
    return "not given" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    run_program(main, "interrupted; the same command begins again")
