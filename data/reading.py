"""The one reading of text, times and tables: what files hold that came through Windows, a spreadsheet or a script.

Every reader of the project uses these functions, so that a file that one of them understands is no riddle to another.
"""

import codecs
import csv
import io
import math
import re
from collections import Counter
from pathlib import Path

from storage.files import InputError

_BYTE_ORDER_MARKS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WINDOWS_1252 = {
    code: bytes([code & 0xFF]).decode("cp1252", "replace") for code in (*range(0x80, 0xA0), *range(0xDC80, 0xDD00))
}
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_CLOCK = re.compile(
    r"(?P<hours>[0-9]{1,2}):(?P<minutes>[0-9]{1,2}):(?P<seconds>[0-9]{1,2})[,.](?P<thousandths>[0-9]{1,3})"
)


def read_bytes(path):
    """A text file's bytes in UTF-8, without a byte-order mark; what is no UTF-8 stays as it is.

    Raises:
        InputError: the file cannot be read, or is not in the encoding that its byte-order mark says.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            content = content[len(mark) :]
            try:
                return content if encoding == "utf-8" else content.decode(encoding).encode("utf-8")
            except UnicodeError as error:
                raise InputError(f"{path}: begins as {encoding.upper()} and is none; save it as UTF-8") from error
    return content


def decode(content):
    """Bytes to text, in UTF-8 with remnants of Windows-1252.

    Corpora that went through Windows hold its quotes and dashes as single bytes (0x92) or, converted once without
    care, as control characters (U+0092). Both become the characters that were meant.

    Returns:
        (text, sentences on what was mended).

    >>> decode(b"Don\\x92t \\xc2\\x97 caf\\xc3\\xa9")[0]
    'Don’t — café'
    """
    text = content.decode("utf-8", "surrogateescape")  # byte 0x92 that is no UTF-8 becomes U+DC92
    num_bytes = sum("\udc80" <= one <= "\udcff" for one in text)
    num_controls = sum("\x80" <= one <= "\x9f" for one in text)
    notes = [f"{num_bytes} bytes are not UTF-8, read as Windows-1252"] * bool(num_bytes)
    notes += [f"{num_controls} control characters were Windows-1252 marks"] * bool(num_controls)
    return text.translate(_WINDOWS_1252), notes


def seconds(text):
    """Seconds of a time such as 12.5 or 00:16:16,059; NaN where the text is no time.

    In the second form thousandths are counted, as in subtitles: ",28" are 28 of them.
    """
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, whole, thousandths = map(int, clock.groups())
        return 3600 * hours + 60 * minutes + whole + thousandths / 1000
    return float(text) if _SECONDS.fullmatch(text) else math.nan


def read_rows(path):
    """Reads a CSV file with a header.

    Returns:
        (rows, columns, notes): a list of (line number, {column: stripped text}), the columns' names, and sentences on
        what was mended.

    Raises:
        InputError: the file cannot be read, is no CSV, or a row has another number of cells than the header.
    """
    text, notes = decode(read_bytes(path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue  # an empty line
            if len(cells) != len(columns):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, the header has {len(columns)}; "
                    "is a comma in a text without quotes around it?"
                )
            rows.append((reader.line_num, dict(zip(columns, map(str.strip, cells), strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' is there twice")
    if not rows:
        raise InputError(f"{path}: no utterance in it; expected a header line and one row per utterance")
    return rows, columns, [f"{path}: {note}" for note in notes]
