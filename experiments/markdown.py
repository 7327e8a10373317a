"""Pages in Markdown: tables, cells of scores, the templates of templates/, and tables inside pages written by hand."""

from pathlib import Path

import jinja2

from storage.files import InputError, named, write_text

END = "<!-- end -->"  # of a table in a page that is otherwise written by hand
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


_TEMPLATES.filters["spelled"] = lambda values: ", ".join(f"{name} {value}" for name, value in values.items())


def rendered(template, kind="md", **values):
    """The text of templates/TEMPLATE.KIND.j2."""
    return _TEMPLATES.get_template(f"{template}.{kind}.j2").render(values)


def markdown_table(header, rows):
    """A Markdown table; floats with three significant digits, large ones as in 1.4e7, and "–" for None."""
    lines = [header, ["---"] * len(header), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _plain(value):
    if isinstance(value, float) and value:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e5 else f"{value:.3g}"
    return "–" if value is None else value


def with_deviation(mean, sd, digits=1):
    """12.3 ± 0.4; "–" for None, and no deviation of a single seed."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def our_cell(row):
    """**48.6** ± 2.9 [44.1, 52.9]: what we have, of an `intervals.Row`."""
    if row.mean is None:
        return "–"
    mean, _, deviation = with_deviation(row.mean, row.sd).partition(" ")
    ends = "" if row.low is None else f" [{row.low:.1f}, {row.high:.1f}]"
    return f"**{mean}**{f' {deviation}' if deviation else ''}{ends}"


def score_cell(row):
    """51.6 / **48.6** ± 2.9 [44.1, 52.9]: what the paper and we have."""
    return f"{with_deviation(row.paper, None)} / {our_cell(row)}"


def difference_cell(row):
    """+4.6 [-0.5, +9.7], p 0.093: the full model minus the row, of an `intervals.Row`."""
    if row.full_minus_this is None:
        return "–"
    if row.difference_low is None:
        return f"{row.full_minus_this:+.1f}"
    return f"{row.full_minus_this:+.1f} [{row.difference_low:+.1f}, {row.difference_high:+.1f}], p {row.p:.3f}"


def scores_table(rows):
    """`intervals.Row`s as a Markdown table, a line per system and a column per score."""
    by_system = _by_system(rows)
    names = list(next(iter(by_system.values())))
    lines = []
    for system, scores in by_system.items():
        seeds = next((row.seeds for row in scores.values() if row.mean is not None), None)
        lines.append([system, seeds, *map(score_cell, scores.values())])
    return markdown_table(["", "seeds", *names], lines)


def turned_table(rows):
    """`intervals.Row`s of many scores as a Markdown table, a line per score and a column per system; ours alone."""
    by_system = _by_system(rows)
    names = list(next(iter(by_system.values())))
    lines = [[name, *(our_cell(scores[name]) for scores in by_system.values())] for name in names]
    return markdown_table(["", *by_system], lines)


def differences_table(rows):
    """The same of the differences to the full model; "" where nothing was compared."""
    compared = {
        system: scores
        for system, scores in _by_system(rows).items()
        if any(row.full_minus_this is not None for row in scores.values())
    }
    if not compared:
        return ""
    names = list(next(iter(compared.values())))
    return markdown_table(
        ["", *names], [[system, *map(difference_cell, scores.values())] for system, scores in compared.items()]
    )


def _by_system(rows):
    """{system: {score: `Row`}}, in the order of the rows."""
    found = {}
    for row in rows:
        found.setdefault(row.system, {})[row.score] = row
    return found


def around(path, begin):
    """What stands before the line `begin` and after the next `END` in a Markdown file.

    Raises:
        InputError: there is no such place, or no such file.
    """
    with named(path, advice="; it gets a table"):
        before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(END)
    if not after:
        raise InputError(f"{path}: has no place for the table, between '{begin}' and '{END}'")
    return before, after


def write_between(path, begin, text):
    """Replaces what stands between the line `begin` and `END` in a Markdown file.

    Raises:
        InputError: as `around`.
    """
    before, after = around(path, begin)
    write_text(path, before + "\n".join([begin, "", text, "", END]) + after)
