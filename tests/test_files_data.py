"""Parquet and Excel, which need the extra `[data]`."""

from __future__ import annotations

import sys
import tracemalloc
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import programs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.worksheet.formula import ArrayFormula
from pyarrow import parquet

from llmtasker.errors import ConfigurationError
from llmtasker.files import BrokenRow, Format, detect, excel_output, output_format, read_header, read_rows, write_rows
from llmtasker.files.cells import cell_text
from llmtasker.files.excel_output import MAX_CELL

TEXT = st.text() | st.sampled_from(
    ["=1+1", "01234", "NA", "_x0041_", "__x005F_x000D_", "\r", " x ", "#N/A", "1.5", "\0"]
)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(TEXT.filter(bool), min_size=1, max_size=4))
def test_excel_gives_back_every_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.xlsx"
    write_rows(path, [{"t": text} for text in texts])
    assert [row["t"] for row in read_rows(path)] == texts


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (7, 7),
        (-(2**53), -(2**53)),
        (2**53 + 1, str(2**53 + 1)),
        (0.1, 0.1),
        (True, True),
        (float("nan"), "nan"),
        (Decimal("0.10"), "0.10"),
        ("01234", "01234"),
        ("=HYPERLINK(1)", "=HYPERLINK(1)"),
        (date(2025, 3, 1), date(2025, 3, 1)),
        (datetime(2025, 3, 1, 12, 30, 5), datetime(2025, 3, 1, 12, 30, 5)),
        (time(12, 30, 5), time(12, 30, 5)),
        (timedelta(hours=30, seconds=1), timedelta(hours=30, seconds=1)),
        (timedelta(seconds=-1), "-1 day, 23:59:59"),
        (date(1899, 12, 31), "1899-12-31"),
        (datetime(2025, 3, 1, tzinfo=UTC), "2025-03-01T00:00:00+00:00"),
        (time(1, 2, 3, 4), "01:02:03.000004"),
        ({"é": [None]}, '{"é": [null]}'),
    ],
)
def test_excel_cells_keep_what_excel_can_hold(tmp_path: Path, value: Any, back: Any) -> None:
    path = tmp_path / "o.xlsx"
    assert write_rows(path, [{"id": "x", "v": value}, {"id": "y"}]) == 2
    assert list(read_rows(path)) == [{"id": "x", "v": back}, {"id": "y", "v": ""}]


def test_excel_stores_text_never_formulas(tmp_path: Path) -> None:
    write_rows(tmp_path / "o.xlsx", [{"=h()": "=1+1"}], columns=["=h()"])
    sheet = openpyxl.load_workbook(tmp_path / "o.xlsx").worksheets[0]
    assert [cell.data_type for row in sheet.iter_rows() for cell in row] == ["s", "s"]


def test_a_workbook_of_an_office_is_read_as_it_is_shown(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["code postal", "jour", "n", "erreur", None])
    sheet.append([1234, datetime(2025, 3, 1), 12, "#N/A", None])
    sheet["F1"].number_format = "0.0"  # An empty cell that exists in the file.
    sheet["A2"].number_format = "00000"
    sheet["B2"].number_format = "dd/mm/yyyy"
    sheet.append([None, None, None, None, None])
    sheet.append([75001, None, "=1+1", "a_x000D_b", "stray"])
    book.save(tmp_path / "i.xlsx")
    with pytest.warns(UserWarning, match="formulas without a stored value"):
        rows = list(read_rows(tmp_path / "i.xlsx"))
    assert rows[0] == {"code postal": "01234", "jour": date(2025, 3, 1), "n": 12, "erreur": "#N/A"}
    # A formula that was never calculated has no value; it is not calculated here.
    assert rows[1] == {"code postal": 75001, "jour": "", "n": "=1+1", "erreur": "a\rb", "column_5": "stray"}
    assert isinstance(rows[1], BrokenRow)
    assert rows[1].error.message == "row 4 has a value in a column without a name"
    assert len(rows) == 2


def test_a_text_too_long_for_excel_is_cut_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="40,000 characters is cut"):
        write_rows(tmp_path / "o.xlsx", [{"t": "x" * 40_000}])
    (row,) = read_rows(tmp_path / "o.xlsx")
    assert row["t"] == "x" * (MAX_CELL - 1) + "…"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * MAX_CELL, "x" * MAX_CELL),
        ("\r" * MAX_CELL, "\r" * MAX_CELL),
        ("é" * 40_000, "é" * (MAX_CELL - 1) + "…"),
        ("😀" * 20_000, "😀" * (MAX_CELL // 2) + "…"),
        ("x" + "😀" * 20_000, "x" + "😀" * (MAX_CELL // 2 - 1) + "…"),
    ],
)
@pytest.mark.filterwarnings("ignore:a text of")
def test_characters_of_a_cell_are_counted_as_excel_does(tmp_path: Path, text: str, kept: str) -> None:
    write_rows(tmp_path / "o.xlsx", [{"t": text}])
    (row,) = read_rows(tmp_path / "o.xlsx")
    assert row["t"] == kept


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        (({"a": 1} for _ in range(11)), ["a"], "has at most 10 rows"),
        ([], [str(number) for number in range(16_385)], "has at most 16,384 columns"),
        (({"a": "x" * 30_000} for _ in range(10)), ["a"], "can't exceed 2 GB"),
    ],
)
def test_what_a_sheet_does_not_hold_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any, columns: list[str], words: str
) -> None:
    monkeypatch.setattr(excel_output, "MAX_ROWS", 10)
    monkeypatch.setattr(excel_output, "MAX_SHEET", 200_000)
    with pytest.raises(ConfigurationError, match=words):
        write_rows(tmp_path / "o.xlsx", rows, columns=columns)
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_has_the_cells_of_many_columns(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(1_500)]
    write_rows(tmp_path / "o.xlsx", [dict.fromkeys(names, 1), {names[-1]: "<&>"}], columns=names)
    sheet = openpyxl.load_workbook(tmp_path / "o.xlsx").worksheets[0]
    assert [sheet["A1"].value, sheet["ZZ1"].value, sheet["BER1"].value, sheet["BER3"].value] == [
        *("c0", "c701", "c1499", "<&>")
    ]


@pytest.mark.parametrize(
    ("header", "names"),
    [(["a", "a"], ["a", "a_2"]), (["a", None, "b"], ["a", "column_2", "b"]), ([" "], ["column_1"])],
)
def test_excel_columns_without_a_name_are_named(tmp_path: Path, header: list[str | None], names: list[str]) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(header)
    book.worksheets[0].append(["1"] * len(header))
    book.save(tmp_path / "i.xlsx")
    assert [list(row) for row in read_rows(tmp_path / "i.xlsx")] == [names]


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_sheet_and_a_header_can_be_chosen(tmp_path: Path) -> None:
    path = workbook(tmp_path / "i.xlsx", cover=[["Rapport"]], data=[["Mars"], [], ["id", "m"], [1, "a"]])
    for sheet in ("data", "2"):
        assert list(read_rows(path, sheet=sheet, header=3)) == [{"id": 1, "m": "a"}]
    form = detect(path)
    assert read_header(path, form).notes == ("the sheet 'cover' is read, not 'data'",)
    assert read_header(path, form).sheets == ("data",)
    with pytest.raises(ConfigurationError, match="no sheet '3'; it has 'cover', 'data'"):
        list(read_rows(path, sheet="3"))


def test_empty_rows_above_the_names_are_passed_over(tmp_path: Path) -> None:
    path = workbook(tmp_path / "i.xlsx", data=[[None, None], [None], [None, "m"], [None, "a"], [None, "=1+1"]])
    with pytest.warns(UserWarning, match="formulas without a stored value"):
        assert [row["m"] for row in read_rows(path)] == ["a", "=1+1"]


def test_the_first_sheet_that_is_shown_is_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "i.xlsx", old=[["m"], ["secret"]], data=[["m"], ["a"]])
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "hidden"
    book.save(path)
    assert list(read_rows(path)) == [{"m": "a"}]
    assert list(read_rows(path, sheet="old")) == [{"m": "secret"}]


def test_formulas_without_a_value_are_read_as_text(tmp_path: Path) -> None:
    path = workbook(tmp_path / "i.xlsx", data=[["id", "m"], [1, "=1+1"], [2, "a"]])
    with pytest.warns(UserWarning, match="formulas without a stored value"):
        assert [row["m"] for row in read_rows(path)] == ["=1+1", "a"]


def test_a_workbook_is_easy_to_read(tmp_path: Path) -> None:
    path = tmp_path / "o.xlsx"
    write_rows(path, [{"id": 1, "message": "x" * 500}, {"id": 2, "message": ""}])
    sheet = openpyxl.load_workbook(path).worksheets[0]
    assert sheet.freeze_panes == "A2"
    assert [sheet.column_dimensions[column].width for column in "AB"] == [8, 60]
    assert sheet["B3"].value is None


def test_an_empty_workbook_has_no_rows(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "o.xlsx", []) == 0
    assert list(read_rows(tmp_path / "o.xlsx")) == []


def test_parquet_keeps_types(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "01", "n": 2**60, "f": 0.5, "d": date(2025, 3, 1), "l": ["é"], "none": None, "b": b"\xff"},
        {"id": "NA", "n": None, "f": None, "d": None, "l": [], "none": None, "b": None},
    ]
    assert write_rows(tmp_path / "o.parquet", iter(rows)) == 2
    assert detect(tmp_path / "o.parquet").kind == "parquet"
    assert list(read_rows(tmp_path / "o.parquet")) == rows


PARQUET = {
    "price": pa.array([Decimal("1.10"), None], pa.decimal128(12, 2)),
    "large": pa.array([Decimal("1.10"), None], pa.decimal256(50, 2)),
    "at": pa.array([1_700_000_000_123_456, None], pa.timestamp("us", "Europe/Paris")),
    "second": pa.array([1_700_000_000, None], pa.timestamp("s")),
    "day": pa.array([date(2025, 3, 1), None], pa.date64()),
    "hour": pa.array([time(1, 2, 3), None], pa.time32("s")),
    "lasts": pa.array([timedelta(hours=30), None], pa.duration("ms")),
    "team": pa.array(["x", None]).dictionary_encode(),
    "text": pa.array(["x", None], pa.large_string()),
    "small": pa.array([1, None], pa.int8()),
    "big": pa.array([2**64 - 1, None], pa.uint64()),
    "share": pa.array([0.5, None], pa.float32()),
    "code": pa.array([b"ab", None], pa.binary(2)),
    "nothing": pa.array([None, None], pa.int64()),
    "places": pa.array([[1, 2], None], pa.list_(pa.int32())),
    "line": pa.array([{"n": 1, "d": Decimal("0.5")}, None], pa.struct([("n", pa.int16()), ("d", pa.decimal128(5, 1))])),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
}


@pytest.mark.parametrize("name", PARQUET)
def test_a_column_of_a_parquet_file_comes_out_of_its_type(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    parquet.write_table(pa.table({"m": ["a", "b"], name: PARQUET[name]}), source)
    rows = [row | {"mood": None} for row in read_rows(source)]
    write_rows(target, rows, format=output_format(target, like=detect(source)))
    before, after = parquet.read_table(source), parquet.read_table(target)
    assert after.select(["m", name]).equals(before)
    assert after.schema.field("mood").type == pa.string()


def test_a_value_that_no_longer_fits_the_type_of_its_column_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    parquet.write_table(pa.table({"n": pa.array([1], pa.int8())}), source)
    write_rows(target, [{"n": 1_000}, {"n": "many"}], format=output_format(target, like=detect(source)))
    assert [row["n"] for row in read_rows(target)] == ["1000", "many"]


@pytest.mark.parametrize(
    ("values", "back"),
    [
        ([1, "x", None], ["1", "x", None]),
        ([2**70, 1], [str(2**70), "1"]),
        (["\ud800", "é"], ["\\ud800", "é"]),
        ([{}, {}], ["{}", "{}"]),
        ([[{}], []], ["[{}]", "[]"]),
        ([{"a": 1}, "x"], ['{"a": 1}', "x"]),
        ([object, 1], ["<class 'object'>", "1"]),
    ],
)
def test_a_parquet_column_of_no_one_type_is_text(tmp_path: Path, values: list[Any], back: list[Any]) -> None:
    write_rows(tmp_path / "o.parquet", [{"v": value} for value in values], columns=["v"])
    assert [row["v"] for row in read_rows(tmp_path / "o.parquet")] == back


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        (None, "é", "string"),
        (None, 7, "int64"),
        (7, None, "int64"),
        (7, 0.5, "double"),
        (2**60, 0.5, "string"),
        (Decimal("1.5"), 0.5, "string"),
        (Decimal("1.5"), Decimal("10.25"), "decimal128(4, 2)"),
        (date(2025, 3, 1), datetime(2025, 3, 1, 12), "string"),
        ([], ["é"], "list<element: string>"),
        ({"a": 1}, {"b": 2}, "struct<a: int64, b: int64>"),
        ({"a": 1}, {"a": "é"}, "string"),
        (7, (lambda: 0), "string"),
    ],
)
def test_the_types_of_parquet_are_those_of_all_rows(tmp_path: Path, first: Any, last: Any, kind: str) -> None:
    """Also if they occur after thousands of rows, and in one part or in two."""
    for between in (0, 2_000):
        rows = [{"v": first}, *[{"v": None}] * between, {"v": last}]
        assert write_rows(tmp_path / "o.parquet", rows) == len(rows)
        assert str(parquet.read_schema(tmp_path / "o.parquet").field("v").type) == kind
        back = [row["v"] for row in read_rows(tmp_path / "o.parquet")]
        assert len(back) == len(rows)
        if kind == "string":
            assert back[0] == (None if first is None else cell_text(first))
            assert back[-1] == cell_text(last)
        elif not isinstance(first, dict):
            assert (back[0], back[-1]) == (first, last)


def test_a_table_is_written_without_being_in_memory(tmp_path: Path) -> None:
    """For Excel and Parquet; 20 MB of texts are written part by part."""
    for name in ("o.xlsx", "o.parquet"):
        write_rows(tmp_path / name, [{"t": "warm"}], columns=["t"])
        tracemalloc.start()
        try:
            write_rows(tmp_path / name, ({"t": f"{number:05d}" * 200} for number in range(20_000)), columns=["t"])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 6_000_000
        assert sum(1 for _ in read_rows(tmp_path / name)) == 20_000


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"n": list(range(5_000))}), tmp_path / "i.parquet")
    assert [row["n"] for row in read_rows(tmp_path / "i.parquet")] == list(range(5_000))


def test_parquet_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "i.parquet")
    assert list(read_rows(tmp_path / "i.parquet")) == [{"a": 1, "a_2": 2}]


@pytest.mark.parametrize(
    ("name", "content"), [("i.parquet", b"PAR1 and nothing"), ("i.xlsx", b"PK\x03\x04 and nothing")]
)
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match="can't read"):
        list(read_rows(tmp_path / name))


def test_the_packages_of_the_extra_are_loaded_for_their_files_only() -> None:
    code = "import sys, llmtasker.files; print({'pyarrow', 'openpyxl', 'narwhals'} & set(sys.modules))"
    assert programs.run("-c", code, check=True).stdout == "set()\n"


def test_a_missing_package_is_reported_with_the_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Excel files are written without a package."""
    for module in ("pyarrow", "openpyxl"):
        monkeypatch.setitem(sys.modules, module, None)
    write_rows(tmp_path / "o.xlsx", [{"a": 1}])
    for do in (
        lambda: write_rows(tmp_path / "o.parquet", [{"a": 1}]),
        lambda: list(read_rows(tmp_path / "o.xlsx")),
    ):
        with pytest.raises(ConfigurationError, match=r'pip install "llmtasker\[data\]"'):
            do()
    assert [path.name for path in tmp_path.iterdir()] == ["o.xlsx"]


FORMATTED = {
    "a time that is not shown": (datetime(2026, 3, 1, 14, 30), "yyyy-mm-dd", datetime(2026, 3, 1, 14, 30)),
    "a day": (datetime(2026, 3, 1), "dd/mm/yy", date(2026, 3, 1)),
    "a postal code": (1234, "00000", "01234"),
    "below nought": (-5, "000", "-005"),
}


@pytest.mark.parametrize("name", FORMATTED)
def test_the_format_of_a_cell_hides_nothing(tmp_path: Path, name: str) -> None:
    value, number_format, read = FORMATTED[name]
    book = openpyxl.Workbook()
    book.worksheets[0].append(["v"])
    book.worksheets[0].append([value])
    book.worksheets[0]["A2"].number_format = number_format
    book.save(tmp_path / "in.xlsx")
    ((back,),) = [row.values() for row in read_rows(tmp_path / "in.xlsx")]
    assert (back, type(back)) == (read, type(read))


def test_a_cell_past_the_header_hides_no_column(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["column_3", "message"])
    book.worksheets[0].append(["kept", "a", "stray"])
    book.save(tmp_path / "in.xlsx")
    (row,) = read_rows(tmp_path / "in.xlsx")
    assert isinstance(row, BrokenRow)
    assert row == {"column_3": "kept", "message": "a", "column_3_": "stray"}


def test_a_last_column_without_a_name_is_a_column(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for cells in (["message"], ["a", "note"], ["b", None], ["c", "note"], ["d", "note", "stray"]):
        book.worksheets[0].append(cells)
    book.save(tmp_path / "in.xlsx")
    assert read_header(tmp_path / "in.xlsx", Format(kind="excel")).names == ("message", "column_2")
    rows = list(read_rows(tmp_path / "in.xlsx"))
    assert [row["column_2"] for row in rows] == ["note", "", "note", "note"]
    assert [row for row in rows if isinstance(row, BrokenRow)] == [
        {"message": "d", "column_2": "note", "column_3": "stray"}
    ]


def test_the_formula_of_several_cells_is_read_as_its_text(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["n"])
    book.worksheets[0]["A2"] = ArrayFormula("A2:A2", "=SUM(1,2)")
    book.save(tmp_path / "in.xlsx")
    with pytest.warns(UserWarning, match="formulas without a stored value"):
        assert list(read_rows(tmp_path / "in.xlsx")) == [{"n": "=SUM(1,2)"}]


def test_the_unicode_form_of_the_name_of_a_sheet_does_not_matter(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("Données").append(["v"])
    book["Données"].append([1])
    book.save(tmp_path / "in.xlsx")
    assert list(read_rows(tmp_path / "in.xlsx", sheet="Donne\u0301es")) == [{"v": 1}]


LATE, MOMENT = 2**58, pa.timestamp("us")  # microseconds until a day of the year 11103
LATE_TEXT = "11103-08-29 17:22:31.711744"
NOON = datetime(2026, 3, 1, 12)
NOON_AT = int(NOON.replace(tzinfo=UTC).timestamp()) * 1_000_000


def moments(*values: Any, type_: Any = MOMENT) -> Any:
    return pa.array(values, pa.int64()).cast(type_)


AMONG_OTHERS: dict[str, tuple[Any, list[Any]]] = {
    "moments": (moments(NOON_AT, None, LATE), [NOON, None, LATE_TEXT]),
    "days": (pa.array([20_513, 3_000_000], pa.int32()).cast(pa.date32()), [date(2026, 3, 1), "10183-09-21"]),
    "times": (moments(1_000, 1_001, type_=pa.time64("ns")), [time(0, 0, 0, 1), "00:00:00.000001001"]),
    "lists": (pa.ListArray.from_arrays([0, 2, 3], moments(NOON_AT, LATE, NOON_AT)), [[NOON, LATE_TEXT], [NOON]]),
    "large lists": (
        pa.LargeListArray.from_arrays([0, 2, 3], moments(NOON_AT, LATE, NOON_AT)),
        [[NOON, LATE_TEXT], [NOON]],
    ),
    "pairs": (
        pa.FixedSizeListArray.from_arrays(moments(NOON_AT, LATE, None, NOON_AT), 2),
        [[NOON, LATE_TEXT], [None, NOON]],
    ),
    "values of maps": (
        pa.MapArray.from_arrays([0, 2, 3], ["a", "b", "c"], moments(NOON_AT, LATE, NOON_AT)),
        [[("a", NOON), ("b", LATE_TEXT)], [("c", NOON)]],
    ),
    "keys of maps": (
        pa.MapArray.from_arrays([0, 1, 2], moments(LATE, NOON_AT), [1, 2]),
        [[(LATE_TEXT, 1)], [(NOON, 2)]],
    ),
    "objects": (
        pa.StructArray.from_arrays([pa.array([1, 2]), moments(NOON_AT, LATE)], ["n", "at"]),
        [{"n": 1, "at": NOON}, {"n": 2, "at": LATE_TEXT}],
    ),
    "lists of objects": (
        pa.LargeListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([moments(LATE, NOON_AT)], ["at"])),
        [[{"at": LATE_TEXT}], [{"at": NOON}]],
    ),
}


@pytest.mark.parametrize("name", AMONG_OTHERS)
def test_what_python_cannot_hold_does_not_change_its_neighbours(tmp_path: Path, name: str) -> None:
    column, expected = AMONG_OTHERS[name]
    parquet.write_table(pa.table({"v": column}), tmp_path / "in.parquet")
    assert [row["v"] for row in read_rows(tmp_path / "in.parquet")] == expected


BEYOND_PYTHON = {
    "days": (pa.array([3_000_000]).cast(pa.int32()).cast(pa.date32()), "10183-09-21"),
    "moments": (pa.array([2**58], pa.timestamp("us")), "11103-08-29"),
    "times": (pa.array([123_456_789], pa.time64("ns")), "00:00:00.123456789"),
    "in lists": (pa.array([[2**58]], pa.list_(pa.timestamp("us"))), "11103-08-29"),
    "in objects": (pa.array([{"t": 123_456_789}], pa.struct([("t", pa.time64("ns"))])), "00:00:00.123456789"),
}


@pytest.mark.parametrize("name", BEYOND_PYTHON)
def test_days_and_times_that_python_cannot_hold_are_texts(tmp_path: Path, name: str) -> None:
    column, text = BEYOND_PYTHON[name]
    parquet.write_table(pa.table({"v": column}), tmp_path / "in.parquet")
    (row,) = read_rows(tmp_path / "in.parquet")
    assert text in str(row["v"])


def test_a_column_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    parquet.write_table(pa.table({"v": twice}), tmp_path / "in.parquet")
    with pytest.raises(ConfigurationError, match="can't read the column 'v'"):
        list(read_rows(tmp_path / "in.parquet"))
