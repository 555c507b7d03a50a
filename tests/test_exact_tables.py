"""The values of a column come back from a file or a table unchanged, or as a text with all their information."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from llmtasker import Item, Results
from llmtasker.files import Format, read_rows, write_rows
from llmtasker.files.arrow_array import exact_array
from llmtasker.files.cells import cell_text
from llmtasker.values.same_value import is_missing, same_value

PARIS = ZoneInfo("Europe/Paris")
EAST = timezone(timedelta(hours=2))


class Team(Enum):
    BILLING = "billing"


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


NOON = datetime(2026, 3, 1, 12)
COLUMNS: dict[str, list[Any]] = {
    "naive and aware": [NOON, NOON.replace(tzinfo=UTC)],
    "aware and naive": [NOON.replace(tzinfo=EAST), NOON],
    "two zones": [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=EAST)],
    "one zone": [NOON.replace(tzinfo=EAST), None],
    "summer and winter": [NOON.replace(tzinfo=PARIS), datetime(2026, 7, 1, tzinfo=PARIS)],
    "the hour that comes twice": [
        datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    ],
    "local mean time": [datetime(1850, 1, 1, tzinfo=PARIS)],
    "the ends of time": [datetime.min, datetime.max, date.min, date.max],
    "the last hour in the west": [datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))],
    "days and moments": [date(2026, 3, 1), NOON],
    "days and moments in lists": [[date(2026, 3, 1), NOON]],
    "days and moments in objects": [{"at": date(2026, 3, 1)}, {"at": NOON}],
    "zones in objects": [{"at": NOON}, {"at": NOON.replace(tzinfo=UTC)}],
    "times with a zone": [time(9, tzinfo=UTC)],
    "times with and without": [time(9), time(9, 0, 0, 1, tzinfo=UTC)],
    "durations": [timedelta(days=999_999_999), timedelta(microseconds=-1)],
    "nanoseconds": [pandas.Timestamp("2026-03-01T00:00:00.123456789"), pandas.Timestamp("2026-03-01")],
    "scales": [Decimal("1.5"), Decimal("10.25"), Decimal("1E+30"), Decimal("0.001")],
    "too wide for one scale": [Decimal("1E+70"), Decimal("1E-70")],
    "not a decimal": [Decimal("NaN"), Decimal("1.5")],
    "infinite decimals": [Decimal("Infinity"), Decimal("-Infinity")],
    "decimals and floats": [Decimal("0.1"), 0.1],
    "decimals and integers": [Decimal("0.1"), 2**70],
    "large integers": [2**63 - 1, None],
    "unsigned": [2**63, 1],
    "signed and unsigned": [2**63, -1],
    "over 64 bits": [2**70, 1],
    "over all bits": [10**5_000],
    "large integers and floats": [2**53 + 1, 0.5],
    "numbers and truths": [1, True],
    "truths and numbers": [True, 1],
    "truths in lists": [[True], [1]],
    "what is missing": [None, math.nan, 1.5],
    "what pandas misses": [pandas.NaT, pandas.NA, None],
    "a missing moment": [NOON, pandas.NaT],
    "a missing text": ["a", pandas.NA],
    "infinite": [math.inf, -math.inf, -0.0],
    "texts and bytes": ["a", b"a"],
    "bytes and texts": [b"a", "a"],
    "bytes in lists": [[b"\xff"], ["a"]],
    "bytes": [b"\xff", b""],
    "sets": [{1, 2}, {3}],
    "enums": [Team.BILLING, None],
    "objects of several keys": [{"a": 1}, {"b": 2}],
    "keys that are numbers": [{1: "a"}],
    "an empty object": [{}, None],
    "empty lists": [[], [[]], [None]],
    "lists of several types": [[1, "a"]],
    "lists and texts": [["a"], "a"],
    "a list in itself": [circle()],
    "deep lists": [deep(150)],
    "arrays": [numpy.array([1, 2]), [3]],
    "numbers of NumPy": [numpy.int64(2**60), numpy.float64(0.5), numpy.bool_(True)],
    "texts": ["", "é", "\ud800", "\x00", "a\r\nb", " ", "NaN", "null"],
}


def same_or_text(before: Any, after: Any) -> bool:
    """Return whether a value is unchanged, or is its text; a text can't contain half of a character pair."""
    if is_missing(before):
        return is_missing(after) or (isinstance(after, float) and math.isnan(after))
    text = cell_text(before).encode(errors="backslashreplace").decode()
    return same_value(before, after) or (isinstance(after, str) and after == text)


def by_file(name: str) -> Callable[[list[Any], Path], list[Any]]:
    def back(values: list[Any], folder: Path) -> list[Any]:
        write_rows(folder / name, [{"k": "x", "v": value} for value in values], columns=["k", "v"])
        return [row["v"] for row in read_rows(folder / name)]

    return back


def by_table(library: str) -> Callable[[list[Any], Path], list[Any]]:
    def back(values: list[Any], _: Path) -> list[Any]:
        results = Results([Item(input={"v": value}, output="x") for value in values])
        table = getattr(results, f"to_{library}")()
        return table["v"].to_pylist() if library == "arrow" else table["v"].to_list()

    return back


TABLES = [
    pytest.param(by_file("o.parquet"), id="parquet"),
    pytest.param(by_table("arrow"), id="arrow"),
    pytest.param(by_table("pandas"), id="pandas"),
    pytest.param(by_table("polars"), id="polars", marks=pytest.mark.needs("polars")),
]


@pytest.mark.parametrize("back", TABLES)
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_a_table_has_what_it_was_given(
    tmp_path: Path, name: str, back: Callable[[list[Any], Path], list[Any]]
) -> None:
    values = COLUMNS[name]
    for column in (values, values[::-1]):
        found = back(column, tmp_path)
        assert len(found) == len(column)
        for before, after in zip(column, found, strict=True):
            assert before is after or same_or_text(before, after), (before, after)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_has_what_it_was_given_where_its_values_stand_far_apart(tmp_path: Path, name: str) -> None:
    values = [part for value in COLUMNS[name] for part in [value, *[None] * 600]]
    found = by_file("o.parquet")(values, tmp_path)
    assert all(same_or_text(before, after) for before, after in zip(values, found, strict=True))


DECLARED = {
    "days": (pyarrow.date32(), [date(2026, 3, 1)], [NOON]),
    "milliseconds": (pyarrow.timestamp("ms"), [NOON], [NOON.replace(microsecond=1)]),
    "a zone": (pyarrow.timestamp("us", "Europe/Paris"), [NOON.replace(tzinfo=PARIS)], [NOON]),
    "no zone": (pyarrow.timestamp("us"), [NOON], [NOON.replace(tzinfo=EAST)]),
    "seconds": (pyarrow.time32("s"), [time(9)], [time(9, 0, 0, 5), time(9, tzinfo=UTC)]),
    "cents": (pyarrow.decimal128(9, 2), [Decimal("1.50")], [Decimal("1.505"), 0.1]),
    "halves": (pyarrow.float16(), [0.5], [0.1, 2**53 + 1]),
    "singles": (pyarrow.float32(), [0.5], [0.1]),
    "bytes": (pyarrow.int8(), [1], [300, 1.5, True]),
    "truths": (pyarrow.bool_(), [True], [1]),
    "days in lists": (pyarrow.list_(pyarrow.date32()), [[date(2026, 3, 1)]], [[NOON]]),
    "objects": (pyarrow.struct([("a", pyarrow.int8())]), [{"a": 1}], [{"a": 1, "b": 2}, {"b": 3}]),
    "texts": (pyarrow.string(), ["a"], [b"a", 1]),
    "binary": (pyarrow.binary(), [b"a"], ["a"]),
}


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_type_is_given_up_for_a_value_that_it_would_alter(tmp_path: Path, name: str) -> None:
    type_, fitting, others = DECLARED[name]
    parquet.write_table(pyarrow.table({"v": pyarrow.array(fitting, type_)}), tmp_path / "in.parquet")
    form = Format(kind="parquet", typed_by=str(tmp_path / "in.parquet"))
    write_rows(tmp_path / "same.parquet", [{"v": value} for value in fitting], format=form)
    assert parquet.read_schema(tmp_path / "same.parquet") == parquet.read_schema(tmp_path / "in.parquet")
    for other in others:
        values = [*fitting, *[None] * 600, other]
        write_rows(tmp_path / "o.parquet", [{"v": value} for value in values], format=form)
        back = [row["v"] for row in read_rows(tmp_path / "o.parquet")]
        assert all(same_or_text(before, after) for before, after in zip(values, back, strict=True)), back[-1]


# ── whatever comes ──

ZONES = st.sampled_from([None, UTC, EAST, PARIS])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.decimals(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(timezones=ZONES),
    st.times(timezones=st.sampled_from([None, UTC])),
    st.timedeltas(),
)


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(scalars, max_size=3)
    return scalars | lists | st.dictionaries(st.sampled_from("abc"), scalars | lists, max_size=2)


COLUMN = st.one_of(
    st.lists(nested(SCALARS), min_size=1, max_size=4),
    *(st.lists(nested(st.none() | one), min_size=1, max_size=4) for one in (st.integers(), st.decimals(), st.dates())),
    st.lists(nested(st.datetimes(timezones=ZONES) | st.none()), min_size=1, max_size=4),
)
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("back", TABLES)
@PROPERTY
@given(values=COLUMN)
def test_any_column_of_a_table_has_what_it_was_given(
    tmp_path: Path, back: Callable[[list[Any], Path], list[Any]], values: list[Any]
) -> None:
    found = back(values, tmp_path)
    assert len(found) == len(values)
    assert all(same_or_text(before, after) for before, after in zip(values, found, strict=True)), found


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.json", "o.xlsx"])
@PROPERTY
@given(values=COLUMN)
def test_any_column_of_a_file_of_texts_has_what_it_was_given(tmp_path: Path, name: str, values: list[Any]) -> None:
    if name == "o.csv":
        found = by_file(name)(values, tmp_path)
        assert found == [cell_text(value).encode(errors="backslashreplace").decode() for value in values]
        return
    found = by_file(name)(values, tmp_path)
    assert len(found) == len(values)
    for before, after in zip(values, found, strict=True):
        empty = name == "o.xlsx" and after == "" and before in (None, "")
        assert empty or same_or_text(before, after) or cell_text(before) == cell_text(after), (before, after)


PLAIN = [
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
]


@given(values=st.one_of([st.lists(st.none() | kind, max_size=20) for kind in PLAIN]))
def test_an_array_of_plain_values_is_the_one_that_arrow_makes(values: list[Any]) -> None:
    made, expected = exact_array(values), pyarrow.array(values)
    made.validate(full=True)
    assert made.equals(expected)
    assert made.type == expected.type
    assert repr(made.to_pylist()) == repr(values)


@pytest.mark.parametrize("values", [["\ud800"], [2**63], [-(2**63) - 1, None]])
def test_a_plain_value_that_arrow_does_not_have(values: list[Any]) -> None:
    assert exact_array(values, pyarrow.string() if isinstance(values[0], str) else pyarrow.int64()) is None
