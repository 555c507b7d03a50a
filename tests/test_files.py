"""Reading rows: what is detected in a file, and the effect of a damaged row."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llmtasker.errors import ConfigurationError
from llmtasker.files import BrokenRow, Format, detect, output_format, read_header, read_rows

OFFICE = (
    "id;ville;montant;message\r\n"
    "01234;Évry;3,50;Où est mon colis, s'il vous plaît ?\r\n"
    'NA;NULL;;"Bonjour ;\r\nmerci"\r\n'
)
OFFICE_ROWS = [
    {"id": "01234", "ville": "Évry", "montant": "3,50", "message": "Où est mon colis, s'il vous plaît ?"},
    {"id": "NA", "ville": "NULL", "montant": "", "message": "Bonjour ;\r\nmerci"},
]


def put(folder: Path, content: bytes | str, name: str = "in.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, **given: Any) -> list[dict[str, Any]]:
    return list(read_rows(path, **given))


def reasons(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row.error.message if isinstance(row, BrokenRow) else None for row in rows]


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("cp1252", "cp1252"),
        ("latin-1", "cp1252"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
    ],
)
def test_an_office_file_is_read_as_it_was_written(tmp_path: Path, written: str, seen: str) -> None:
    path = put(tmp_path, OFFICE.encode(written))
    assert detect(path) == Format(delimiter=";", encoding=seen, decimal=",", newline="\r\n")
    assert rows_of(path) == OFFICE_ROWS
    assert rows_of(path, encoding=written, delimiter=";") == OFFICE_ROWS


def test_a_late_byte_decides_the_encoding(tmp_path: Path) -> None:
    """The first é comes after more than a block of ASCII."""
    path = put(tmp_path, b"id;message\n" + b"1;plain\n" * 200_000 + "2;payé 5 €\n".encode("cp1252"))
    assert detect(path).encoding == "cp1252"
    assert rows_of(path)[-1] == {"id": "2", "message": "payé 5 €"}


def test_bytes_that_windows_1252_does_not_have_are_latin_1(tmp_path: Path) -> None:
    path = put(tmp_path, b"id;message\n1;\xe9\x81\n")
    with pytest.warns(UserWarning, match="its letters look strange"):
        assert detect(path).encoding == "latin-1"
    assert list(read_rows(path, Format(delimiter=";", encoding="latin-1"))) == [{"id": "1", "message": "é\x81"}]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("注文が届きません", "shift-jis"),
        ("我的包裹没有到", "gb18030"),
        ("Посылка не пришла", "cp1251"),
        ("Το δέμα δεν έφτασε", "cp1253"),
        ("colis endommagé à l'arrivée, reçu", "mac-roman"),
    ],
)
def test_an_encoding_that_is_not_western_is_warned_of_and_can_be_given(
    tmp_path: Path, text: str, encoding: str
) -> None:
    path = put(tmp_path, f"id,message\n1,{text}\n".encode(encoding))
    with pytest.warns(UserWarning, match="its letters look strange"):
        detect(path)
    assert [row["message"] for row in read_rows(path, encoding=encoding)] == [text]


def test_an_accent_in_windows_1252_is_not_strange(tmp_path: Path) -> None:
    assert detect(put(tmp_path, "id;m\n1;« Déçu, été à l’hôtel… 5 € »\n".encode("cp1252"))).encoding == "cp1252"


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a;b\n1;2\n", ";"),
        ("a,b\n1,2\n", ","),
        ("a\tb\n1, 2\t3; 4\n", "\t"),
        ("a|b\n1|2,5\n", "|"),
        ("nom;prix, EUR\nx;1,5\ny;2,5\n", ";"),
        ('id,text\n1,"x; y; z"\n2,"x; y"\n', ","),
        ("id;text\n1;a, b, c\n2;d, e, f\n3;g, h, i\n", ";"),
        ("id;text\n1;a\n2;b;c\n3;d\n", ";"),
        ("message\nbonjour\n", ","),
        ("message\nbonjour, ça va\net toi, mon ami, dis\n", ";"),
        ("message, en clair\nbonjour\nmerci\nau revoir\n", ";"),
        ("a;b\n", ";"),
        ("", ","),
        ("sep=|\na|b;c;d\n", "|"),
        ("id;text;x\n1;a\rb;c\n2;d\re;f\n", ";"),
    ],
)
def test_the_delimiter_is_seen(tmp_path: Path, text: str, delimiter: str) -> None:
    assert detect(put(tmp_path, text)).delimiter == delimiter


def test_one_column_of_free_text_is_one_column(tmp_path: Path) -> None:
    path = put(tmp_path, "message\nbonjour, ça va\net toi, mon ami, dis\n")
    assert rows_of(path) == [{"message": "bonjour, ça va"}, {"message": "et toi, mon ami, dis"}]


@pytest.mark.parametrize("given", ["\\t", "tab", "\t"])
def test_a_tab_can_be_typed(tmp_path: Path, given: str) -> None:
    assert rows_of(put(tmp_path, "a\tb,c\n1\t2,3\n"), delimiter=given) == [{"a": "1", "b,c": "2,3"}]


def test_the_separator_line_of_excel_is_not_a_row(tmp_path: Path) -> None:
    assert rows_of(put(tmp_path, "sep=;\r\na;b\r\n1;2,5\r\n")) == [{"a": "1", "b": "2,5"}]


@pytest.mark.parametrize(
    ("text", "decimal"), [("a;b\n1;2,5\n", ","), ("a;b\n1;2.5\n", "."), ("a;b\n1;x\n", "."), ("a;b\n1,5;2.5\n", ".")]
)
def test_the_decimal_mark_is_seen(tmp_path: Path, text: str, decimal: str) -> None:
    assert detect(put(tmp_path, text)).decimal == decimal


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_are_seen_and_kept_inside_quotes(tmp_path: Path, newline: str) -> None:
    path = put(tmp_path, f'a,b{newline}1,"x{newline}y"{newline}{newline}2,z{newline}')
    assert detect(path).newline == newline
    assert rows_of(path) == [{"a": "1", "b": f"x{newline}y"}, {"a": "2", "b": "z"}]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"a;b\n"])
def test_a_file_without_rows_has_none(tmp_path: Path, content: bytes) -> None:
    assert rows_of(put(tmp_path, content)) == []


def test_long_cells_and_odd_characters_are_kept(tmp_path: Path) -> None:
    long = "é" * 300_000
    path = put(tmp_path, f'id,message\n1,{long}\n2,"a\0b\x0c\u2028c\x85"\n')
    assert rows_of(path) == [{"id": "1", "message": long}, {"id": "2", "message": "a\0b\x0c\u2028c\x85"}]
    assert csv.field_size_limit() > 300_000


@pytest.mark.parametrize(
    ("text", "broken", "others"),
    [
        ("id;t\n1;a\n2;b;c\n3;d\n", "line 3 has 3 cells, the header has 2", ["1", "3"]),
        ("id;t\n1;a\n2\n3;d\n", "line 3 has 1 cell, the header has 2", ["1", "3"]),
        ('id;t\n1;"a"\n2;"b" c\n3;d\n', "line 3 can't be read as CSV", ["1", "3"]),
        ('id;t\n1;"a"\n2;"b\n3;d\n4;e\n', "line 3 can't be read as CSV", ["1", "3", "4"]),
        ('id;t\n1;a\n2;"b\n3;d\n4;"e"\n5;"f"\n', "line 3 can't be read as CSV", ["1", "3", "4", "5"]),
        ('id;t\n1;"a"\n2;"b\n3;"c" d\n4;e\n', "line 3 can't be read as CSV", ["1", "4"]),
        ('id;t\n1;a\n2;"b', "line 3 can't be read as CSV", ["1"]),
        ('id;t\n1;"a\n;x"\n2;"b\nc" d\n3;e\n', "line 4 can't be read as CSV", ["1", "3"]),
    ],
)
def test_a_bad_row_does_not_lose_the_others(tmp_path: Path, text: str, broken: str, others: list[str]) -> None:
    rows = rows_of(put(tmp_path, text), delimiter=";")
    bad = [row for row in rows if isinstance(row, BrokenRow)]
    assert [row["id"] for row in rows if not isinstance(row, BrokenRow)] == others
    assert len(bad) == 1
    assert bad[0].error.message.startswith(broken)


def test_a_quote_that_is_never_closed_is_given_up_within_bounds(tmp_path: Path) -> None:
    line = "7;" + "x" * 100_000 + "\n"
    path = put(tmp_path, 'id;t\n0;"closed"\n1;"open\n' + line * 300)
    rows = rows_of(path, delimiter=";")
    assert len(rows) == 302
    assert [isinstance(row, BrokenRow) for row in rows[:4]] == [False, True, False, False]
    assert rows[301]["id"] == "7"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('id\tmessage\n1\tfine\n2\t"Nice" she said\n3\tok\n', ["fine", '"Nice" she said', "ok"]),
        ('id\tmessage\n1\t"Nice she\n2\tfine\n3\tthen"\n', ['"Nice she', "fine", 'then"']),
        (
            'id,message,mood\n1,"Nice she,glad\n2,fine,glad\n3,then",sad\n4,no,sad\n',
            ['"Nice she', "fine", 'then"', "no"],
        ),
        ('id;message\n1;5" long\n2;6"\n', ['5" long', '6"']),
    ],
)
def test_quotes_of_texts_swallow_no_row(tmp_path: Path, text: str, messages: list[str]) -> None:
    path = put(tmp_path, text)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rows = rows_of(path)
    assert [row["message"] for row in rows] == messages
    assert not any(isinstance(row, BrokenRow) for row in rows)
    assert [str(one.message).partition(": ")[2] for one in said] in (
        ["quotes are read as characters: each line is a row without them"],
        [],  # quotes inside a cell are characters in any case
    )


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('id;message\n1;"Bonjour\nMerci; au revoir"\n2;ok\n', ["Bonjour\nMerci; au revoir", "ok"]),
        ('id;message\n1;"a\nb"\n2;ok\n', ["a\nb", "ok"]),
        ('id,message\n1,"a, b"\n2,ok\n', ["a, b", "ok"]),
        ('id,message\n1,"a ""b"" c"\n2,ok\n', ['a "b" c', "ok"]),
    ],
)
def test_quotes_around_cells_are_not_part_of_the_text(tmp_path: Path, text: str, messages: list[str]) -> None:
    assert [row["message"] for row in rows_of(put(tmp_path, text))] == messages


def test_a_refused_row_keeps_all_its_cells(tmp_path: Path) -> None:
    rows = rows_of(put(tmp_path, 'id,message,more\n1,a,{"x": 1, "y": 2}\n2,b,c\n3,"d" e,f\n4,"g",h\n'))
    assert [isinstance(row, BrokenRow) for row in rows] == [True, False, True, False]
    assert rows[0] == {"id": "1", "message": "a", "more": '{"x": 1, "y": 2}'}
    assert rows[2] == {"id": "3", "message": '"d" e', "more": "f"}


def test_odd_bytes_among_utf_8_garble_only_what_they_are(tmp_path: Path) -> None:
    lines = [f"{n};reçu et payé" for n in range(9)]
    content = "\n".join(["id;message", *lines]).encode() + "\n9;déjà payé 5 € ".encode("cp1252") + b"\x81\n"
    path = put(tmp_path, content)
    with pytest.warns(UserWarning, match=r"is utf-8, but 1 line \(line 11\) have other bytes") as said:
        rows = rows_of(path)
    assert [row["message"] for row in rows] == ["reçu et payé"] * 9 + ["déjà payé 5 € \x81"]
    assert len(said) == 1


def test_empty_lines_of_one_column_are_rows_but_for_the_last_ones(tmp_path: Path) -> None:
    assert [row["m"] for row in rows_of(put(tmp_path, "m\na\n\n\nb\n\n\n"))] == ["a", "", "", "b"]
    assert [row["m"] for row in rows_of(put(tmp_path, "m;n\na;b\n\nc;d\n"))] == ["a", "c"]


@pytest.mark.parametrize(("end", "inside"), [("\n", "\r"), ("\r\n", "\r"), ("\n", "\r\r")])
def test_a_carriage_return_inside_a_cell_is_kept(tmp_path: Path, end: str, inside: str) -> None:
    path = put(tmp_path, f"id,m,x{end}1,a{inside}b,c{end}2,d,e{end}")
    assert rows_of(path) == [{"id": "1", "m": f"a{inside}b", "x": "c"}, {"id": "2", "m": "d", "x": "e"}]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["", "m"], ("column_1", "m")),
        (["a", "a", "a"], ("a", "a_2", "a_3")),
        (["a", "a_2", "a"], ("a", "a_2", "a_2_")),
        (["column_2", " "], ("column_2", "column_2_")),
    ],
)
def test_each_column_has_a_name_of_its_own(tmp_path: Path, cells: list[str], names: tuple[str, ...]) -> None:
    path = put(tmp_path, ";".join(cells) + "\n" + ";".join("1" * len(cells)) + "\n")
    assert tuple(rows_of(path, delimiter=";")[0]) == names
    header = read_header(path, detect(path, delimiter=";"))
    assert header.names == names
    assert len(header.notes) == sum(cell != name for cell, name in zip(cells, names, strict=True))


def test_the_header_may_stand_below_other_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "Export du 3 mars;;\n;;\nid;message;n\n1;a;2\n")
    assert rows_of(path, header=3) == [{"id": "1", "message": "a", "n": "2"}]
    with pytest.raises(ConfigurationError, match="counted from 1"):
        detect(path, header=0)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip"])
def test_packed_files_are_read_as_they_are(tmp_path: Path, ending: str) -> None:
    content = b"id;message\n1;a\n2;b\n"
    path = tmp_path / f"in.csv{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("in.csv", content)
            for name in ("folder/", "__MACOSX/._in.csv", ".DS_Store", "folder/Thumbs.db"):
                archive.writestr(name, b"")
    else:
        path.write_bytes({".gz": gzip, ".bz2": bz2, ".xz": lzma}[ending].compress(content))
    assert [row["message"] for row in read_rows(path)] == ["a", "b"]
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(ConfigurationError, match="can't unpack"):
        read_rows(path)


@pytest.mark.parametrize(
    ("content", "given"),
    [(b"id;t\n1;a\n2;\xe9\n3;d\n", {"encoding": "utf-8"}), (b"\xef\xbb\xbfid;t\n1;a\n2;\xe9\n3;d\n", {})],
)
def test_bytes_outside_the_given_encoding_cost_their_row_only(
    tmp_path: Path, content: bytes, given: dict[str, Any]
) -> None:
    path = put(tmp_path, content)
    if given.get("encoding"):
        with pytest.warns(UserWarning, match="is not all utf-8.* looks like cp1252: omit the encoding"):
            found = reasons(rows_of(path, **given))
    else:
        found = reasons(rows_of(path, **given))
    assert [reason is None for reason in found] == [True, False, True]
    assert "line 3 is not utf-8" in (found[1] or "")


@pytest.mark.parametrize(
    ("content", "given", "says"),
    [
        (b"a\0;\0b\0\n\0", {"encoding": "utf-8", "delimiter": ";"}, "UTF-16"),
        (b'"a;b\n1;2\n', {}, "header"),
        (b"PK\x03\x04rest", {}, "Excel or zip"),
        (b"PAR1rest", {}, "Parquet"),
        (b"a;b\n", {"encoding": "klingon"}, "unknown encoding 'klingon'"),
        (b"a;b\n", {"encoding": "zip"}, "unknown encoding 'zip'"),
        (b"a;b\nbon+3A0-jour;c\n", {"encoding": "utf-7"}, "half characters"),
        (b"a;b\nbon\\udc0djour;c\n", {"encoding": "unicode_escape"}, "half characters"),
        (b"a;b\n", {"delimiter": ";;"}, "one character"),
        (b"a;b\n", {"decimal": "·"}, "decimal mark"),
        (b"a;b\n", {"kind": "xml"}, "unknown kind of file 'xml'"),
        (b"a;b\n", {"kind": "excel"}, "not an Excel file"),
    ],
)
def test_a_mistake_in_the_set_up_is_reported_clearly(
    tmp_path: Path, content: bytes, given: dict[str, Any], says: str
) -> None:
    path = put(tmp_path, content)
    with pytest.raises(ConfigurationError, match=says):
        rows_of(path, **given)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.csv", "can't read"),
        ("old.xls", "old format"),
        ("rows.doc", "does not show its kind"),
        ("folder.csv", "folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_before_the_first_row(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=says):
        read_rows(tmp_path / name)


def test_a_given_format_does_not_hide_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        read_rows(tmp_path / "missing.csv", Format(delimiter=";"))


def test_json_lines_keep_types_and_cost_only_bad_lines(tmp_path: Path) -> None:
    lines = [
        '{"id": "01", "n": 123456789012345678901234567890, "t": "a\\u2028b\u2028\\ud800"}',
        "{torn",
        '{"x": NaN}',
        '{"x": 1, "x": 2}',
        '["no", "object"]',
        "",
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"x": ' + "1" * 5_000 + "}",
        '{"x": null, "y": [1.5, true]}',
    ]
    rows = rows_of(put(tmp_path, "\ufeff" + "\n".join(lines), "in.jsonl"))
    assert rows[0] == {"id": "01", "n": 123456789012345678901234567890, "t": "a\u2028b\u2028\ud800"}
    assert rows[-1] == {"x": None, "y": [1.5, True]}
    found = reasons(rows)
    assert found[0] is None
    assert found[-1] is None
    for reason, says in zip(
        found[1:-1], ["line 2", "NaN", "twice", "is a list, not an object", "nested too deeply", "digits"], strict=True
    ):
        assert says in (reason or "")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('{"id": 7, "x": 1, "x": 2}', {"id": 7, "x": 2, "line": '{"id": 7, "x": 1, "x": 2}'}),
        ('{"line": 7, "x": 1, "x": 2}', {"line": '{"line": 7, "x": 1, "x": 2}'}),
        ('{"id": 7, "x": 1e400, "y": NaN}', {"id": 7, "x": "1e400", "y": "NaN"}),
    ],
)
def test_a_refused_line_keeps_all_it_had(tmp_path: Path, line: str, kept: dict[str, Any]) -> None:
    assert rows_of(put(tmp_path, line + "\n", "in.jsonl")) == [kept]


def test_bytes_outside_utf_8_cost_one_line(tmp_path: Path) -> None:
    path = put(tmp_path, b'{"a": "\xe9"}\n{"a": "b"}\n', "in.jsonl")
    assert rows_of(path) == [{"a": "é"}, {"a": "b"}]
    with pytest.warns(UserWarning, match="is not all utf-8.* looks like cp1252"):
        assert reasons(rows_of(path, encoding="utf-8")) == ["line 1 is not utf-8", None]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.json", '[{"a": 1}, {"a": 2}]', "json"),
        ("a.json", '[\n{"a": 1},\n{"a": 2}\n]', "json"),
        ("a.json", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("a.json", '{\n"a": 1\n}\n', "json"),
        ("a.json", '{"a": 1}', "json"),
        ("a.jsonl", '[\n{"a": 1},\n{"a": 2}\n]', "json"),
        ("a.jsonl", '[{"a": 1}, {"a": 2}]', "json"),
        ("a.jsonl", '{\n  "a": 1\n}\n', "json"),
        ("a.jsonl", '{"a": 1}', "jsonl"),
        ("a.ndjson", "", "jsonl"),
    ],
)
def test_the_kind_of_json_is_seen(tmp_path: Path, name: str, text: str, kind: str) -> None:
    path = put(tmp_path, text, name)
    assert detect(path).kind == kind
    assert [row["a"] for row in read_rows(path)] == [1, 2][: text.count("a")]


def test_an_array_with_an_odd_element_keeps_the_others(tmp_path: Path) -> None:
    rows = rows_of(put(tmp_path, '[{"a": 1}, 7, {"a": 2}]', "in.json"))
    assert reasons(rows) == [None, 'element 2 is a int, not an object such as {"message": …}', None]


def test_a_broken_array_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not valid JSON"):
        rows_of(put(tmp_path, '[{"a": 1}', "in.json"))


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b\n" + "1,2\n" * 50_000 + "3\n")
    rows = read_rows(path)
    assert next(rows) == {"a": "1", "b": "2"}
    path.write_bytes(b"")  # Sheets that are not read yet are not known.
    assert 0 < sum(1 for _ in rows) < 50_000


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("o.csv", {}, Format(delimiter=";", encoding="cp1252", decimal=",", newline="\r\n")),
        ("o.csv", {"encoding": "utf-8", "delimiter": "tab"}, Format(delimiter="\t", decimal=",", newline="\r\n")),
        ("o.tsv", {}, Format(delimiter="\t", encoding="cp1252", decimal=",", newline="\r\n")),
        ("o.jsonl", {}, Format(kind="jsonl")),
        ("o.XLSX", {}, Format(kind="excel")),
        ("o.dat", {"kind": "csv"}, Format(delimiter=";", encoding="cp1252", decimal=",", newline="\r\n")),
    ],
)
def test_the_output_looks_like_the_input(name: str, given: dict[str, Any], expected: Format) -> None:
    like = Format(delimiter=";", encoding="cp1252", decimal=",", newline="\r\n")
    expected_encoding = given.get("encoding", expected.encoding)
    assert output_format(name, like, **given) == expected
    assert output_format(name, like, **given).encoding == expected_encoding


@pytest.mark.parametrize(
    ("name", "content", "given"),
    [
        ("in.jsonl", '{"a": 1}\n', {"header": 3}),
        ("in.json", '[{"a": 1}]\n', {"sheet": "1"}),
        ("in.jsonl", '{"a": 1}\n', {"delimiter": ";"}),
        ("in.csv", "a\n1\n", {"sheet": "1"}),
        ("in.parquet", "PAR1", {"encoding": "utf-8"}),
        ("in.parquet", "PAR1", {"header": 2}),
        ("in.xlsx", "PK\x03\x04", {"delimiter": ";"}),
        ("in.xlsx", "PK\x03\x04", {"encoding": "utf-8"}),
    ],
)
def test_an_option_that_means_nothing_for_a_file_is_refused(
    tmp_path: Path, name: str, content: str, given: dict[str, Any]
) -> None:
    path = put(tmp_path, content, name)
    (option,) = given
    with pytest.raises(ConfigurationError, match=f"for which {option} means nothing: leave it out"):
        detect(path, **given)
    if option in {"delimiter", "encoding"}:
        with pytest.raises(ConfigurationError, match=f"for which {option} means nothing"):
            output_format(path, **given)
    detect(path, **{option: 1 if option == "header" else None})


def test_an_output_without_a_known_ending_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="does not show its kind"):
        output_format("out")


def test_macros_are_not_written() -> None:
    with pytest.raises(ConfigurationError, match=r"choose \.xlsx"):
        output_format("out.xlsm")


def test_an_output_is_not_packed_in_name_only() -> None:
    with pytest.raises(ConfigurationError, match=r"outputs are not compressed; leave out \.gz"):
        output_format("out.csv.gz")


def test_json_numbers_are_not_rounded(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps({"n": 2**70, "f": 0.1}) + "\n", "in.jsonl")
    assert rows_of(path) == [{"n": 2**70, "f": 0.1}]


def test_only_the_head_of_a_file_of_huge_lines_is_sampled(tmp_path: Path) -> None:
    path = put(tmp_path, "a;b\n1;2\n" + f"3;{'x' * 400_000}\n" * 3 + "4;5,5\n")
    assert detect(path) == Format(delimiter=";")
    assert len(rows_of(path)) == 5
    path = put(tmp_path, f"{'x' * 400_000};b\n1;2\n")
    assert rows_of(path, delimiter=";") == [{"x" * 400_000: "1", "b": "2"}]


@pytest.mark.parametrize(("written", "named"), [("utf-8-sig", "utf-8"), ("utf-8-sig", "UTF8"), ("utf-16", "utf-16-le")])
@pytest.mark.parametrize("text", ['"id";t\n1;2\n', "id;t\n1;2\n"])
def test_a_byte_order_mark_is_not_text(tmp_path: Path, written: str, named: str, text: str) -> None:
    path = put(tmp_path, text.encode(written))
    assert rows_of(path, encoding=named) == [{"id": "1", "t": "2"}]
    assert rows_of(path, format=Format(delimiter=";", encoding=named)) == [{"id": "1", "t": "2"}]
    lines = put(tmp_path, '{"a": 1}\n'.encode(written), "in.jsonl")
    assert rows_of(lines, encoding=named) == [{"a": 1}]


def test_single_words_overrule_a_format(tmp_path: Path) -> None:
    path = put(tmp_path, "a|b\n'=1|2\n")
    assert rows_of(path, format=Format(delimiter=";"), delimiter="|", neutralised=True) == [{"a": "=1", "b": "2"}]


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_a_delimiter_at_the_end_of_each_row_is_not_a_cell(tmp_path: Path, delimiter: str) -> None:
    text = "id;message\n1;a;\n2;b;;\n3;;\n4;d;x\n".replace(";", delimiter)
    rows = rows_of(put(tmp_path, text))
    assert [row["message"] for row in rows] == ["a", "b", "", f"d{delimiter}x"]
    assert [reason is None for reason in reasons(rows)] == [True, True, True, False]


def test_no_character_of_a_text_is_taken_for_a_carriage_return(tmp_path: Path) -> None:
    path = put(tmp_path, "id,message\n1,a\ufdd0b\n2,a\rb\ufdd0\n")
    assert [row["message"] for row in rows_of(path)] == ["a\ufdd0b", "a\rb\ufdd0"]
