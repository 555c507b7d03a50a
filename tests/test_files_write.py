"""Writing rows: the values read back, the files on disk during and after writing, and the view of a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import signal
import stat
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llmtasker.errors import ConfigurationError
from llmtasker.files import BrokenRow, Format, detect, output_format, read_rows, write_rows
from llmtasker.files.cells import cell_json, neutralise, restore
from llmtasker.files.csv_output import csv_blocks, encoding_for
from llmtasker.files.excel_output import excel_blocks
from llmtasker.files.json_file import jsonl_blocks
from llmtasker.files.parquet_file import parquet_blocks

OFFICE = Format(delimiter=";", encoding="cp1252", decimal=",", newline="\r\n")
NAMES = ["id", "text", "note"]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "NA", "01234", "a\rb", "\n", '"', '""', "'=1", " x ", "a;b,c\td|e", "\0", "\u2028", "\ufeff", "sep=;", "é€"]
)
ROW = st.fixed_dictionaries(dict.fromkeys(NAMES, TEXT))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(ROW, max_size=4),
    delimiter=st.sampled_from(";,\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    neutralised=st.booleans(),
)
def test_csv_gives_back_every_text(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, str]],
    delimiter: str,
    encoding: str,
    newline: str,
    neutralised: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    form = Format(delimiter=delimiter, encoding=encoding, newline=newline, neutralised=neutralised)
    assert write_rows(path, rows, format=form, columns=NAMES) == len(rows)
    assert list(read_rows(path, form)) == rows


BLOCKS = {"csv": csv_blocks, "jsonl": jsonl_blocks, "excel": excel_blocks, "parquet": parquet_blocks}


def kind_of(kind: Any) -> Format:
    return Format(kind=kind)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, TEXT)), max_size=4),
    form=st.sampled_from([OFFICE, Format(encoding="utf-16", neutralised=True), Format(), *map(kind_of, BLOCKS)]),
)
def test_blocks_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], form: Format
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks"
    texts = [text for row in rows for text in row.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_rows(path, rows, format=form, columns=NAMES)
    form = replace(form, encoding=encoding_for(texts, form.encoding))
    assert b"".join(BLOCKS[form.kind](rows, form, NAMES)) == path.read_bytes()


@pytest.mark.parametrize("form", [OFFICE, Format(encoding="utf-16"), Format(kind="jsonl"), Format(kind="excel")])
def test_blocks_come_while_rows_come(form: Format) -> None:
    texts = random.Random(0).choices("abcdefgh", k=1_000_000)
    content = [{"t": "".join(texts[1000 * number : 1000 * (number + 1)])} for number in range(1_000)]
    expected = b"".join(BLOCKS[form.kind](content, form, ["t"]))
    taken = list[int]()
    rows = (taken.append(number) or row for number, row in enumerate(content))
    blocks = BLOCKS[form.kind](rows, form, ["t"])
    first = next(blocks) + next(blocks)
    assert len(taken) < 500
    assert first + b"".join(blocks) == expected


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_csv_of_one_column_gives_back_every_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "one.csv"
    write_rows(path, [{"t": text} for text in texts])
    assert [row["t"] for row in read_rows(path, Format())] == texts


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4), name=st.sampled_from(["r.jsonl", "r.json"])
)
def test_json_gives_back_every_value(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    write_rows(path, rows)
    # Two adjacent halves of a pair are one character in JSON.
    expected = json.loads(json.dumps(rows))
    assert list(read_rows(path, output_format(path))) == expected
    path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("text", ["\ud800", "a\udc80b", "\ud83d!"])
def test_a_lone_surrogate_survives_json_and_is_escaped_in_csv(tmp_path: Path, text: str) -> None:
    write_rows(tmp_path / "s.jsonl", [{"t": text}, {"t": "é"}])
    assert list(read_rows(tmp_path / "s.jsonl")) == [{"t": text}, {"t": "é"}]
    assert "é" in (tmp_path / "s.jsonl").read_text("utf-8")  # Only the odd row is written in escapes.
    for form in (Format(), OFFICE):
        with pytest.warns(UserWarning, match="lone surrogate"):
            write_rows(tmp_path / "s.csv", [{"t": text}, {"t": "é"}], format=form)
        escaped = text.encode(errors="backslashreplace").decode()
        assert detect(tmp_path / "s.csv").encoding == form.encoding
        assert list(read_rows(tmp_path / "s.csv", form)) == [{"t": escaped}, {"t": "é"}]


def test_an_office_file_comes_back_as_it_was(tmp_path: Path) -> None:
    content = 'id;montant;message\r\n01234;3,50;"Où ?\r\nLà ; ici"\r\nNA;;€\r\n'.encode("cp1252")
    (tmp_path / "in.csv").write_bytes(content)
    form = output_format("out.csv", detect(tmp_path / "in.csv"))
    assert write_rows(tmp_path / "out.csv", read_rows(tmp_path / "in.csv"), format=form) == 2
    assert (tmp_path / "out.csv").read_bytes() == content


def test_what_the_encoding_does_not_hold_widens_the_file(tmp_path: Path) -> None:
    rows = [{"t": "déjà"}, {"t": "日本"}, {"t": "😀"}]
    with pytest.warns(UserWarning, match="row 2 has '日', which is not in cp1252") as caught:
        write_rows(tmp_path / "out.csv", rows, format=OFFICE)
    assert len(caught) == 1
    assert detect(tmp_path / "out.csv").encoding == "utf-8-sig"
    assert list(read_rows(tmp_path / "out.csv")) == rows


def test_columns_are_those_of_any_row_or_those_chosen(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": "x", "a": None}, {"c": [1, {"é": None}]}]
    path = tmp_path / "o.csv"
    write_rows(path, iter(rows))
    assert path.read_text("utf-8") == 'a,b,c\n1,,\n,x,\n,,"[1, {""é"": null}]"\n'
    write_rows(path, iter(rows), columns=["b", "a"])
    assert path.read_text("utf-8") == "b,a\n,1\nx,\n,\n"
    write_rows(tmp_path / "o.jsonl", iter(rows), columns=["b", "a"])
    assert (tmp_path / "o.jsonl").read_text("utf-8") == '{"a": 1}\n{"b": "x", "a": null}\n{}\n'


@pytest.mark.parametrize(
    ("name", "columns", "content"),
    [("o.csv", None, ""), ("o.csv", ["a", "b"], "a,b\n"), ("o.jsonl", None, ""), ("o.json", None, "[]\n")],
)
def test_no_rows_make_a_file_too(tmp_path: Path, name: str, columns: list[str] | None, content: str) -> None:
    assert write_rows(tmp_path / name, [], columns=columns) == 0
    assert (tmp_path / name).read_text() == content
    assert list(read_rows(tmp_path / name)) == []


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    n: int
    when: date
    text: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    n: int
    when: date


class Array:
    def tolist(self) -> list[int]:
        return [1, 2]


class Named(str):
    __slots__ = ()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: Any = []
for _ in range(10_000):
    DEEP = [DEEP]

VALUES = [
    (None, None, ""),
    (True, True, "true"),
    (0.5, 0.5, "0,5"),
    (float("nan"), "NaN", "nan"),
    (float("-inf"), "-Infinity", "-inf"),
    ([float("nan"), None, True, 1], ["NaN", None, True, 1], '["NaN", null, true, 1]'),
    (2**64, 2**64, str(2**64)),
    (10**5_000, "1" + "0" * 5_000, "1" + "0" * 5_000),
    (Decimal("1.50"), "1.50", "1,50"),
    (date(2025, 3, 1), "2025-03-01", "2025-03-01"),
    (datetime(2025, 3, 1, 12, tzinfo=UTC), "2025-03-01T12:00:00+00:00", "2025-03-01T12:00:00+00:00"),
    (Colour.RED, "red", "red"),
    (b"\xff", "/w==", "/w=="),
    ({"b", "a"}, ["a", "b"], '["a", "b"]'),
    ((1, "é"), [1, "é"], '[1, "é"]'),
    (
        Part(n=1, when=date(2025, 1, 2), text="\ud800"),
        {"n": 1, "when": "2025-01-02", "text": "\ud800"},
        '{"n": 1, "when": "2025-01-02", "text": "\\ud800"}',
    ),
    (Kept(n=1, when=date(2025, 1, 2)), {"n": 1, "when": "2025-01-02"}, '{"n": 1, "when": "2025-01-02"}'),
    ([Kept], [str(Kept)], f'["{Kept}"]'),
    (Array(), [1, 2], "[1, 2]"),
    (Array, str(Array), str(Array)),
    (Named("é"), "é", "é"),
    ([Named("é"), float("nan")], ["é", "NaN"], '["é", "NaN"]'),
    (MappingProxyType({"a": 1}), {"a": 1}, '{"a": 1}'),
    ({(1, 2): 3, 4: float("inf")}, {"[1, 2]": 3, "4": "Infinity"}, '{"[1, 2]": 3, "4": "Infinity"}'),
    (uuid.UUID(int=7), str(uuid.UUID(int=7)), str(uuid.UUID(int=7))),
    (Hostile(), "<Hostile>", "<Hostile>"),
    (LOOP, ["<list: nested too deeply>"], '["<list: nested too deeply>"]'),
]


@pytest.mark.parametrize(("value", "in_json", "in_csv"), VALUES, ids=[type(value).__name__ for value, _, _ in VALUES])
def test_any_value_is_written_as_valid_text(tmp_path: Path, value: Any, in_json: Any, in_csv: str) -> None:
    write_rows(tmp_path / "o.jsonl", [{"v": value}])
    assert list(read_rows(tmp_path / "o.jsonl")) == [{"v": in_json}]
    write_rows(tmp_path / "o.csv", [{"v": value}], format=OFFICE)
    assert list(read_rows(tmp_path / "o.csv", OFFICE)) == [{"v": in_csv}]


def test_bottomless_nesting_is_written_as_far_as_it_is_readable() -> None:
    text = cell_json({"v": DEEP, "w": 1})
    assert "nested too deeply" in text
    assert json.loads(text)["w"] == 1


FORMULAS = [
    "=1+1",
    "+33 6",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'=1",
    "''@x",
    "'-3",
    "-3-5",
    "-3,5\n",
    "-3;=1",
    "+3",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_neutralised_on_request_and_come_back(tmp_path: Path, text: str) -> None:
    rows = [{"=h": text, "n": "-"}, {"=h": "a=1", "n": "'quoted'"}]
    path = tmp_path / "o.csv"
    write_rows(path, rows)
    assert list(read_rows(path, Format())) == rows
    write_rows(path, rows, neutralise_formulas=True)
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for record in csv.reader(file) for cell in record]
    assert cells == ["'=h", "n", "'" + text, "'-", "a=1", "'quoted'"]
    assert list(read_rows(path, neutralised=True, delimiter=",")) == rows


@pytest.mark.parametrize("mark", [".", ","])
@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (-3, "-3"), (-3.5, "-3.5"), (-1e-7, "-1e-07"), (Decimal("-0.50"), "-0.50"), ("-3,5", "-3,5")],
)
def test_numbers_are_not_formulas(tmp_path: Path, value: Any, text: str, mark: str) -> None:
    path, text = tmp_path / "o.csv", text.replace(".", mark)
    form = Format(delimiter=";", decimal=mark)
    write_rows(path, [{"n": "x", "v": value}], format=form, neutralise_formulas=True)
    assert path.read_text() == f"n;v\nx;{text}\n"
    assert list(read_rows(path, neutralised=True, delimiter=";")) == [{"n": "x", "v": text}]


@given(st.text(st.sampled_from("'=+-@\t\r\nab＝")))
def test_neutralising_is_undone_exactly(text: str) -> None:
    assert restore(neutralise(text)) == text
    assert neutralise(text)[:1] not in tuple("=+-@\t\r\n＝")


def test_damaged_rows_keep_their_error_when_restored(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("a,b\n'=1\n'=2,3\n")
    rows = list(read_rows(tmp_path / "i.csv", neutralised=True, delimiter=","))
    assert rows == [{"a": "=1"}, {"a": "=2", "b": "3"}]
    assert isinstance(rows[0], BrokenRow)
    assert "1 cell" in rows[0].error.message


def failing(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"n": number}
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.json", "o.parquet", "o.xlsx"])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, failing(3))
    assert names_in(tmp_path) == []
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, failing(3), columns=["n"])
    assert names_in(tmp_path) == [name]
    assert path.read_bytes() == b"before"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stops the writing as a full disk does."""
    path = tmp_path / "o.jsonl"
    path.write_text('{"n": 0}\n')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(OSError, match="too large"):
            write_rows(path, ({"t": "x" * 1_000} for _ in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names_in(tmp_path) == ["o.jsonl"]
    assert path.read_text() == '{"n": 0}\n'


def test_nothing_is_at_the_name_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"

    def rows() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        assert not path.exists()
        assert len(names_in(tmp_path)) == 1
        yield {"n": 2}

    assert write_rows(path, rows()) == 2
    assert names_in(tmp_path) == ["o.jsonl"]


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_rows(tmp_path / "new.csv", [{"a": 1}])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640
    (tmp_path / "new.csv").chmod(0o600)
    (tmp_path / "link.csv").symlink_to("new.csv")
    write_rows(tmp_path / "link.csv", [{"a": 2}])
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "new.csv").read_text() == "a\n2\n"
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o600


def test_a_device_is_written_directly() -> None:
    assert write_rows(os.devnull, [{"a": 1}], format=Format()) == 1
    assert not Path(os.devnull).is_file()


def test_a_place_that_is_not_one_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        write_rows(tmp_path / "folder.csv", [])
    with pytest.raises(ConfigurationError, match="can't write in the folder"):
        write_rows(tmp_path / "missing" / "o.csv", [])


def test_clean_text_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_rows(tmp_path / "o.csv", [{"a": "é"}], format=OFFICE)
