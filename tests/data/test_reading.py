"""Text, times and tables as programs write them: code pages, number forms, delimiters, spreadsheets, what is none."""

import csv
import gzip
import io
import math

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reading import decode, read_rows, seconds
from storage.files import InputError

ROWS = [
    ["name", "time", "words"],
    ["a", "0.5", "Grüße, “you”"],
    ["b;c", "12", 'two\nlines and "quotes"'],
    ["d", "", "x"],
]


def as_text(rows=ROWS, delimiter=",", end="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def rows_of(path):
    rows, columns, _ = read_rows(path)
    return [columns, *([row[name] for name in columns] for _, row in rows)]


@pytest.mark.parametrize(
    "text, time_s",
    [
        *(
            ("12.5", 12.5),
            ("0.30000000000000004", 0.30000000000000004),
            (".5", 0.5),
            ("2.", 2),
            ("+2.5", 2.5),
            ("0", 0),
        ),
        *(("1e-3", 0.001), ("1.5E+2", 150), ("00:16:16,059", 976.059), ("0:00:02,28", 2.28), ("00:00:02.28", 2.28)),
        *(("2:03.5", 123.5), ("00:00:12.500000", 12.5), ("100:00:00", 360_000)),
        *((text, math.nan) for text in ("", "-1", "nan", "inf", "1e400", "1_0", "12,5", "soon", "٣", "1:2:3:4")),
    ],
)
def test_times(text, time_s):
    assert seconds(text) == pytest.approx(time_s, abs=1e-12, nan_ok=True)


def test_thousandths_of_subtitles():
    found = [seconds(text, thousandths=True) for text in ("0:00:02,28", "0:01,059", "0:01.5", "12.5")]
    assert found == pytest.approx([2.028, 1.059, 1.5, 12.5])


@pytest.mark.parametrize("text", ["Don’t — “no” … crème brûlée", "créée: 5 € «à Ÿ»".replace("Ÿ", "ô"), "ÉTÉ"])
def test_windows_1252_is_read(text):
    content = text.encode("cp1252")
    assert decode(content, "a")[0] == text and "bytes are not UTF-8" in decode(content, "a")[1][0]


def test_utf8_that_was_read_as_windows_1252_is_noted():
    """Saved so once, and left with control characters by Latin-1; what people write is not meant."""
    for encoding in ("cp1252", "latin-1"):
        twice = "x\nDon’t, café".encode().decode(encoding)
        note = decode(twice.encode(), "a", line=3)[1][-1]
        assert note.startswith("2 places look like UTF-8 that was read as Windows-1252, the first in line 4 ('â€™');")
    assert decode("â, Ã and € of “São Paulo”".encode(), "a") == ("â, Ã and € of “São Paulo”", [])


@pytest.mark.parametrize(
    "text, encoding",
    [
        *(("平静", "gbk"), ("こんにちは", "shift-jis"), ("안녕", "euc-kr"), ("привет", "cp1251"), ("привет", "koi8-r")),
        *(
            ("zażółć", "cp1250"),
            ("güzel ışık", "cp1254"),
            ("שלום", "cp1255"),
            ("café", "mac-roman"),
            ("příliš", "cp1250"),
        ),
    ],
)
def test_other_code_pages_are_refused(tmp_path, text, encoding):
    (tmp_path / "a.csv").write_bytes(as_text([["a", "b"], ["1", "2"], ["3", text]]).encode(encoding))
    with pytest.raises(InputError, match="a.csv, line 3: not UTF-8 but another code page; .* save it as UTF-8"):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", ",;\t|")
def test_every_delimiter_and_encoding_gives_the_same_rows(tmp_path, delimiter, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes(as_text(delimiter=delimiter).encode(encoding))
    assert rows_of(path) == ROWS
    assert [number for number, _ in read_rows(path)[0]] == [2, 4, 5], "a row has the number of its last line"
    path.write_bytes((f"sep={delimiter}\r\n" + as_text(delimiter=delimiter)).encode(encoding))
    assert rows_of(path) == ROWS and read_rows(path)[0][0][0] == 3


def test_numbers_with_a_decimal_comma(tmp_path):
    (tmp_path / "a.csv").write_text("name;time\na;1,234\nb;,5\nwell, 1,5 or so;2\n")
    assert rows_of(tmp_path / "a.csv")[1:] == [["a", "1.234"], ["b", ".5"], ["well, 1,5 or so", "2"]]
    (tmp_path / "psalm.csv").write_text("start;text\n00:12,5;3:16,17\n1:02:03,25;a\n")  # clocks stay as they are
    assert rows_of(tmp_path / "psalm.csv")[1:] == [["00:12,5", "3:16,17"], ["1:02:03,25", "a"]]


def test_spreadsheets(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="the optional package openpyxl is not installed")
    path = tmp_path / "a.xlsx"
    with pandas.ExcelWriter(path) as book:
        frame = pandas.DataFrame(
            [["a", 0.5, "Grüße"], [None, None, None], ["b", 12, "x"]], columns=["name", "time", "words"]
        )
        frame.to_excel(book, index=False)
        frame.to_excel(book, sheet_name="notes")
    rows, columns, notes = read_rows(path)
    assert columns == ["name", "time", "words"] and notes == [f"{path}: 2 sheets; the first, 'Sheet1', is read"]
    assert [(number, list(row.values())) for number, row in rows] == [(2, ["a", "0.5", "Grüße"]), (4, ["b", "12", "x"])]
    with pandas.ExcelWriter(tmp_path / "second.xlsx") as book:
        pandas.DataFrame().to_excel(book, sheet_name="cover")
        frame.to_excel(book, index=False)
    assert read_rows(tmp_path / "second.xlsx") == (
        rows,
        columns,
        [f"{tmp_path / 'second.xlsx'}: 2 sheets; the first with rows, 'Sheet1', is read"],
    )
    for value in ("=A1", "#N/A"):
        book = openpyxl.Workbook()
        for row in (["name", "words"], ["a", "nan"], ["b", value], ["", "last"]):
            book.active.append(row)
        book.save(tmp_path / "cell.xlsx")
        if value == "=A1":
            with pytest.raises(InputError, match="cell.xlsx: B3 is a formula without a saved value"):
                read_rows(tmp_path / "cell.xlsx")
    rows_with_error, _, notes = read_rows(tmp_path / "cell.xlsx")
    assert [row["words"] for _, row in rows_with_error] == ["nan", "", "last"]
    assert notes == [
        f"{tmp_path / 'cell.xlsx'}: line 3: a cell is an error, such as #N/A; read as empty (1 such lines)"
    ]
    path.rename(tmp_path / "a.csv")
    assert read_rows(tmp_path / "a.csv")[0] == rows, "under another name"
    path.write_bytes((tmp_path / "a.csv").read_bytes()[:2000])
    with pytest.raises(InputError, match="a.xlsx: not a readable spreadsheet .*; save it as CSV in UTF-8"):
        read_rows(path)


def test_a_quote_that_swallows_rows_is_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('name,age,words\na,1,"Hi\nb,2,lost\nc,3,also"\nd,4,"two\nlines, no more"\n')
    rows, _, notes = read_rows(path)
    assert len(rows) == 2 and [note.partition(": ")[2] for note in notes] == [
        "line 2: a quote goes on over what look like rows; is one too many or missing? (1 such rows)"
    ]
    path.write_text('name,words\na,Hi\nb,"ho\nc,so\nd,no\n')
    with pytest.raises(InputError, match="line 3: not CSV .a quote is not closed"):
        read_rows(path)


def test_what_spreadsheets_and_frames_add_is_passed_over(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,time,,\na,1,,\n,,,\n\nb,2,,\n,,,\n , ,,\n")
    assert rows_of(path) == [["name", "time"], ["a", "1"], ["b", "2"]]
    path.write_text("name,time\na,1\nname,time\nb,2\n")  # two files in one
    assert rows_of(path) == [["name", "time"], ["a", "1"], ["b", "2"]]
    assert read_rows(path)[2] == [f"{path}: the header is there again in line 3 (several tables in one?); not read"]
    for index in ("", "Unnamed: 0"):
        path.write_text(f"{index},name\n0,a\n1,b\n")
        assert rows_of(path) == [["name"], ["a"], ["b"]]
        assert read_rows(path)[2] == [f"{path}: the first column has no name and counts the rows; it is not read"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty; expected a table"),
        (b"a,b\n", "no utterance in it"),
        (b"a,b\n1,2\n3,4,5\n", "line 3: 3 cells, the header has 2; is a comma in a text"),
        (b"# made on Monday\na,b\n1,2\n", "line 2: 2 cells, the header has 1; is line 1 the header?"),
        (b"a,a\n1,2\n", "column 'a' is there twice"),
        (b'a,b\n1,"2\n', "line 2: not CSV"),
        (b"a,b\n1,2\n\x003,4\n", "line 3: a NUL character"),
        ("a,b\n1,2\n".encode("utf-16-le"), "looks like UTF-16 without its byte-order mark; save it as UTF-8"),
        (b"\xff\xfea,b\n1", "begins as UTF-16-LE and is none"),
        (b"<!DOCTYPE html>\n<html>", "a web page, not the file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b'[\n  {"id": 1}]', "a JSON file; expected a table"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "a gzip archive; unpack it"),
        (b"PK\x03\x04 and more", "a zip archive"),
        (b"\xd0\xcf\x11\xe0 and more", "an old Office document"),
    ],
)
def test_what_is_no_table_is_named_by_its_cause(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(tmp_path / "a.csv")
    assert str(caught.value).startswith(str(tmp_path / "a.csv")) and "\n" not in str(caught.value)


cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8).map(
    lambda text: text.strip(" \u00a0\u200b\ufeff")
)


@pytest.mark.fuzz
@given(
    st.lists(st.tuples(cells.map("x{}".format), cells, cells), min_size=1, max_size=5),
    st.sampled_from(";\t|,"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_table_comes_back_as_it_was_written(tmp_path_factory, rows, delimiter, encoding, end):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    header = ["name", "time", "words"]
    path.write_bytes(as_text([header, *rows], delimiter, end).encode(encoding))
    assert rows_of(path)[1:] == [
        [cell.replace(",", ".") if delimiter != "," and decimal(cell) else cell for cell in row] for row in rows
    ]


def decimal(cell):
    whole, comma, rest = cell.lstrip("+-").partition(",")
    digits = set("0123456789")
    return comma and set(whole) <= digits and rest and set(rest) <= digits and len(cell) - len(cell.lstrip("+-")) < 2
