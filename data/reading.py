"""The one reading of text, times and tables: what files hold that came through Windows, a spreadsheet or a script.

Every reader of the project uses these functions, so that a file that one of them understands is no riddle to another.
A file that cannot be read is named by its cause: what it is, not what it lacks.
"""

import codecs
import csv
import io
import math
import re
from pathlib import Path

from storage.files import InputError, named

_BYTE_ORDER_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
XML, JSON = "an XML file", "a JSON file"
# How files begin that are given in place of others.
_KINDS = {
    rb"version https://git-lfs": "a pointer of Git LFS, not the file; fetch it with 'git lfs pull'",
    rb"(?:\.\./)*(?:\.git/annex|/annex)/": "a pointer of git-annex, not the file; fetch it with 'git annex get'",
    rb"\s*<(?:!doctype|html)": "a web page, not the file; was a login needed to fetch it?",
    rb"\s*<\?xml": XML,
    rb"#EXTM3U|\[playlist\]": "a playlist, not sound",
    rb"PK\x03\x04": "a zip archive (or a spreadsheet under another name)",
    rb"\xd0\xcf\x11\xe0": "an old Office document (.xls, .doc)",
    rb"\x1f\x8b": "a gzip archive; unpack it",
    rb"%PDF": "a PDF document",
    rb"\x89HDF": "an HDF5 file",
    rb"\{\\rtf": "an RTF document; save it as plain text",
    rb"\s*[{\[]\s*[\"{\[]": JSON,
}
_SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
_DELIMITERS = ",;\t|"

_WINDOWS_1252 = {
    code: bytes([code & 0xFF]).decode("cp1252", "replace") for code in (*range(0x80, 0xA0), *range(0xDC80, 0xDD00))
}
# What a run of bytes that are no UTF-8 can be in a text of Windows-1252: quotes and dashes, and at most two letters of
# Western Europe. Longer runs, symbols and capitals inside words come from other code pages, which nothing tells apart.
_MARKS = "\u201a\u201e\u2026\u2039\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u203a\u20ac\u2122"
_MARKS += "\u00a0\u00a1\u00ab\u00b0\u00b4\u00b7\u00bb\u00bf"
_LETTERS = "\u00c0-\u00cf\u00d1-\u00d6\u00d8-\u00dc\u00df-\u00ef\u00f1-\u00f6\u00f8-\u00fc\u0153"
_WESTERN = re.compile(f"[{_MARKS}]*[{_LETTERS}]{{0,2}}[{_MARKS}]*")
# UTF-8 that was read as Windows-1252 and saved so: what became of quotes, dashes and letters of Western Europe.
_TWICE = re.compile("\u00e2\u20ac[\u2122\u0153\u02dc\u201c\u201d\u00a6\ufffd]|\u00c3[\u00a0-\u00bf]")
_FOREIGN = re.compile("(?P<before>[a-z]?)(?P<run>[\udc80-\udcff]+)")

NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?[0-9]*,[0-9]+\s*")
# whisper's .tsv: whole milliseconds, and nothing is quoted. A program that quotes doubles the quotes within a cell.
_OF_WHISPER = re.compile(r'start\tend\ttext(?:\r?\n[0-9]+\t[0-9]+\t(?!"[^\r\n]*""[^\r\n]*"\r?(?:\n|$))[^\t\r\n]*)+\s*')
_BLANK = " \t\r\n\v\f\u00a0\u200b\ufeff"
_CLOCK = re.compile(
    r"(?:(?P<hours>[0-9]{1,3}):)?(?P<minutes>[0-9]{1,3}):(?P<seconds>[0-9]{1,2})"
    r"(?:(?P<mark>[.,])(?P<fraction>[0-9]{0,9}))?"
)


def read_bytes(path):
    """A text file's bytes in UTF-8, without a byte-order mark; what is no UTF-8 stays as it is.

    Raises:
        InputError: the file cannot be read, or is not in the encoding that its byte-order mark says.
    """
    with named(path):
        content = Path(path).read_bytes()
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            content = content[len(mark) :]
            try:
                return content if encoding == "utf-8" else content.decode(encoding).encode("utf-8")
            except UnicodeError as error:
                raise InputError(f"{path}: begins as {encoding.upper()} and is none; save it as UTF-8") from error
    return content


def what_it_is(head):
    """What a file is by its first bytes, in words: a pointer or a web page in its place, an archive; None: unknown."""
    if not head:
        return "empty"
    return next((kind for pattern, kind in _KINDS.items() if re.match(pattern, head, re.IGNORECASE)), None)


def decode(content, path, line=1):
    """Bytes to text, in UTF-8 with remnants of Windows-1252.

    Corpora that went through Windows hold its quotes and dashes as single bytes (0x92) or, converted once without
    care, as control characters (U+0092). Both become the characters that were meant.

    Args:
        content: from `read_bytes`.
        path: of the file, for the messages.
        line: the number of its first line.

    Returns:
        (text, sentences on what was mended).

    Raises:
        InputError: it holds NUL characters, or is in another code page.

    >>> decode(b"Don\\x92t \\xc2\\x97 caf\\xc3\\xa9", "mine.csv")[0]
    'Don’t — café'
    """
    text = content.decode("utf-8", "surrogateescape")  # byte 0x92 that is no UTF-8 becomes U+DC92

    def refuse(position, what):
        raise InputError(f"{path}, line {line + text.count(chr(10), 0, position)}: {what}")

    if "\0" in text:
        if text.count("\0") > len(text) / 4:
            refuse(0, "looks like UTF-16 without its byte-order mark; save it as UTF-8")
        refuse(text.index("\0"), "a NUL character; the file is damaged, or no text")
    num_bytes = 0
    for found in _FOREIGN.finditer(text):
        meant = found["run"].translate(_WINDOWS_1252)
        if not _WESTERN.fullmatch(meant) or (found["before"] and meant[0].isupper()):
            refuse(found.start(), "not UTF-8 but another code page; open it where it looks right and save it as UTF-8")
        num_bytes += len(meant)
    num_controls = sum("\x80" <= one <= "\x9f" for one in text)
    notes = [f"{num_bytes} bytes are not UTF-8, read as Windows-1252"] * bool(num_bytes)
    notes += [f"{num_controls} control characters were Windows-1252 marks"] * bool(num_controls)
    text = text.translate(_WINDOWS_1252)
    if twice := list(_TWICE.finditer(text)):
        place = line + text.count("\n", 0, twice[0].start())
        notes.append(
            f"{len(twice)} places look like UTF-8 that was read as Windows-1252, the first in line {place} "
            f"({twice[0][0]!r}); save the file anew from its original, as UTF-8"
        )
    return text, notes


def text_of(path):
    """The text of a file in whatever encoding `decode` finds."""
    return decode(read_bytes(path), path)[0]


def seconds(text, thousandths=False):
    """Seconds of a time: any number of 0 or more (12.5, .5, 1e-3), or a clock's (00:16:16,059, 2:03.5); else NaN.

    Behind a clock's comma stands a fraction, as behind its point. In subtitles and in MELD `thousandths` stand there:
    ",28" are 28 of them.
    """
    if clock := _CLOCK.fullmatch(text):
        hours, minutes = int(clock["hours"] or 0), int(clock["minutes"])
        fraction = clock["fraction"] or "0"
        if thousandths and clock["mark"] == ",":
            fraction = fraction.zfill(3)
        return 3600 * hours + 60 * minutes + float(f"{clock['seconds']}.{fraction}")
    time_s = float(text) if NUMBER.fullmatch(text) else math.nan
    return time_s if 0 <= time_s < math.inf else math.nan


def read_rows(path):
    """Reads a table with a header: CSV as spreadsheets and programs write it, or a spreadsheet itself.

    Columns are separated by comma, semicolon, tab or bar, whichever cuts the header most often; with another than the
    comma, `12,5` is a number. Empty rows, empty columns at the end and a frame's index are passed over.

    Returns:
        (rows, columns, notes): a list of (line number, {column: stripped text}), the columns' names, and sentences on
        what was mended.

    Raises:
        InputError: the file cannot be read, is no table, or a row has another number of cells than the header.
    """
    path = Path(path)
    content = read_bytes(path)
    kind = what_it_is(content[:512])
    if path.suffix.lower() in _SPREADSHEETS or (content.startswith(b"PK") and b"xl/" in content):
        lines, notes = _cells_of_spreadsheet(path)
    elif kind:
        raise InputError(f"{path}: {kind}; expected a table, with a header line and one row per utterance")
    else:
        text, notes = decode(content, path)
        lines = list(_cells_of_text(path, text, notes))
    lines = ((number, [cell.strip(_BLANK) for cell in cells]) for number, cells in lines)
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise InputError(f"{path}: no utterance in it; expected a header line and one row per utterance")
    (first, columns), *lines = lines
    while not columns[-1]:
        columns.pop()
    for number, cells in lines:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            alone = len(columns) == 1
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells, the header has {len(columns)}; "
                f"{f'is line {first} the header?' if alone else 'is a comma in a text without quotes around it?'}"
            )
    again = [number for number, cells in lines if cells[: len(columns)] == columns]
    if again:
        notes.append(f"the header is there again in line {again[0]} (several tables in one?); not read")
        lines = [(number, cells) for number, cells in lines if number not in again]
    if re.fullmatch(r"(?:Unnamed: 0)?", columns[0]) and all(cells[0].isdigit() for _, cells in lines):
        notes.append("the first column has no name and counts the rows; it is not read")
        columns, lines = columns[1:], [(number, cells[1:]) for number, cells in lines]
    twice = [name for i, name in enumerate(columns) if name in columns[:i]]
    if twice:
        raise InputError(
            f"{path}, line {first}: column '{twice[0]}' is there twice"
            if twice[0]
            else f"{path}, line {first}: columns without a name"
        )
    rows = [(number, dict(zip(columns, cells, strict=False))) for number, cells in lines]
    return rows, columns, [f"{path}: {note}" for note in notes]


def _cells_of_text(path, text, notes):
    """(line number, cells) of each row of a text; a row that goes on over lines has the number of its last.

    A quote that is not closed swallows the rows below it: that is noted where a line within a cell looks like a row.
    """
    start = 0
    if declared := re.match(r"sep=(.)\r?\n", text):  # Excel's own
        text, start = text[declared.end() :], 1
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = (
        declared[1]
        if declared
        else max(_DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))
    )
    quoting = csv.QUOTE_NONE if _OF_WHISPER.fullmatch(text) else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    first, swallowing = start + 1, []  # lines where the row begins, and where those that swallow others do
    try:
        for cells in reader:
            within = [line for cell in cells for line in cell.splitlines()[1:]]
            if len(cells) > 2 and any(line.count(delimiter) >= len(cells) - 1 for line in within):
                swallowing.append(first)
            first = start + reader.line_num + 1
            if delimiter != ",":
                cells = [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in cells]
            yield start + reader.line_num, cells
    except csv.Error as error:
        unclosed = "unexpected end of data" in str(error)
        number, said = (first, "a quote is not closed") if unclosed else (start + reader.line_num, error)
        raise InputError(f"{path}, line {number}: not CSV ({said})") from error
    if swallowing:
        said = f"line {swallowing[0]}: a quote goes on over what look like rows; is one too many or missing?"
        notes.append(f"{said} ({len(swallowing)} such rows)")


def _cells_of_spreadsheet(path):
    """([(line number, cells)] of the first sheet with rows, sentences on what was not read)."""
    import pandas  # noqa: PLC0415 (takes half a second, and most tables are text)

    engine = "calamine" if path.suffix.lower() in (".xls", ".ods") else "openpyxl"
    try:
        sheets = pandas.read_excel(path, engine=engine, sheet_name=None, header=None, dtype=object, na_filter=False)
        name, frame = next((one for one in sheets.items() if len(one[1]) > 1), next(iter(sheets.items())))
        lines = list(enumerate(frame.to_numpy().tolist(), 1))
        unsaved = _formula_without_value(path, name, lines) if engine == "openpyxl" else None
    except ImportError as error:
        package = "openpyxl" if "openpyxl" in str(error) else "python-calamine"
        raise InputError(f"{path}: needs the package {package}: pip install {package}; or save it as CSV") from error
    except Exception as error:  # each of its engines has errors of its own
        raise InputError(f"{path}: not a readable spreadsheet ({str(error)[:200]}); save it as CSV in UTF-8") from error
    if unsaved:
        raise InputError(
            f"{path}: {unsaved} is a formula without a saved value; open the file in Excel or LibreOffice and save it"
        )
    which = "the first," if name == next(iter(sheets)) else "the first with rows,"
    notes = [f"{len(sheets)} sheets; {which} {name!r}, is read"] if len(sheets) > 1 else []
    errors = [number for number, cells in lines if any(map(_is_error, cells))]
    if errors:
        notes.append(f"line {errors[0]}: a cell is an error, such as #N/A; read as empty ({len(errors)} such lines)")
    return [(number, ["" if _is_error(cell) else str(cell) for cell in cells]) for number, cells in lines], notes


def _is_error(cell):
    return isinstance(cell, float) and math.isnan(cell)


def _formula_without_value(path, name, lines):
    """The first formula of a sheet, such as "B3", if no formula of it has a value; else None.

    A program wrote such a sheet, and no spreadsheet has computed it.
    """
    import openpyxl  # noqa: PLC0415

    if not any(cell == "" for _, cells in lines for cell in cells):
        return None
    with open(path, "rb") as file:  # whatever its name ends with
        sheet = openpyxl.load_workbook(file, read_only=True)[name]
        sheet.reset_dimensions()
        both = [
            (cell, value)
            for row, (_, values) in zip(sheet.iter_rows(), lines, strict=False)
            for cell, value in zip(row, values, strict=False)
            if cell.data_type == "f"
        ]
    return both[0][0].coordinate if both and all(value == "" for _, value in both) else None
