"""The results of many inputs."""

import csv
import datetime as dt
import sys
from decimal import Decimal
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from pydantic import BaseModel

from llmtasker import LLM, ConfigurationError, InputField, Item, OutputField, Results, Signature, Task
from llmtasker.errors import InputError, RateLimitError
from llmtasker.wire.completion import Usage

OK = Item(input="a", output="x", usage=Usage(input=5, output=1), cost=0.5, attempts=1)
MENDED = Item(input="b", output="y", usage=Usage(input=7), cost=0.25, attempts=2, repairs=("case",))
CACHED = Item(input="c", output="z", cached=True)
LIMITED = Item(input="d", error=RateLimitError("too many"), attempts=3, cost=0.0)
WRONG = Item(input=None, error=InputError("no text"))
ALL = Results([OK, MENDED, CACHED, LIMITED, WRONG])


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_results_are_a_sequence():
    assert len(ALL) == 5
    assert ALL[0] is OK
    assert ALL[-1] is WRONG
    assert list(ALL[1:3]) == [MENDED, CACHED]
    assert isinstance(ALL[1:3], Results)
    assert OK in ALL
    assert ALL.index(CACHED) == 2
    assert next(reversed(ALL)) is WRONG
    with pytest.raises(IndexError):
        ALL[5]


def test_results_are_equal_where_their_items_are():
    assert Results([OK]) == Results(iter([OK]))
    assert Results([OK]) != Results([MENDED])
    assert Results() != []
    with pytest.raises(TypeError, match="unhashable"):
        hash(ALL)


def test_results_are_summed_up():
    assert ALL.outputs == ["x", "y", "z", None, None]
    assert [error.code for error in ALL.errors] == ["rate_limit", "input"]
    assert ALL.counts == {"ok": 3, "rate_limit": 1, "input": 1, "cached": 1, "repaired": 1}
    assert ALL.usage == Usage(input=12, output=1)
    assert ALL.attempts == 6


@pytest.mark.parametrize(
    ("items", "cost"),
    [
        ([], 0.0),
        ([OK, MENDED], 0.75),
        ([OK, CACHED, WRONG], 0.5),
        ([CACHED], 0.0),
        ([OK, Item(input="e", output="x", attempts=1)], None),
        ([OK, Item(input="e", error=RateLimitError("no"), attempts=1)], None),
    ],
)
def test_the_cost_is_unknown_where_that_of_a_call_is(items, cost):
    assert Results(items).cost == cost


def test_results_show_their_beginning():
    assert repr(Results()) == "Results(0 items)"
    assert repr(Results([OK, WRONG])) == (
        "Results(2 items: 1 ok, 1 input)\n  0: Item(input='a', output=x)\n  1: Item(input=None, error=input: no text)"
    )
    long = repr(Results([OK] * 12))
    assert long.count("\n") == 11
    assert long.endswith("  … 2 more")


def test_a_notebook_shows_a_table_and_no_tags_from_the_data():
    page = Results([Item(input="<b>", output="&"), LIMITED])._repr_html_()
    assert page.startswith("<p>Results(2 items: 1 ok, 1 rate_limit)</p><table>")
    page = page.replace(' style="text-align:left"', "")
    assert "<td>0</td><td>&lt;b&gt;</td><td>&amp;</td><td></td>" in page
    assert "<td>1</td><td>d</td><td></td><td>too many</td>" in page
    assert "<b>" not in page
    assert Results()._repr_html_().startswith("<p>Results(0 items)</p>")


def test_nothing_that_is_in_the_data_keeps_results_from_being_shown():
    results = Results([Item(input=Rude(), output=Rude())])
    assert "input=a Rude, output=a Rude" in repr(results)
    assert results._repr_html_().count(">a Rude</td>") == 2
    assert repr(Results([Item(input="x" * 10**6, output="y" * 10**6)])).count("x") < 100


# ── tables ──


class Team(Enum):
    BILLING = "billing"


class Place(BaseModel):
    city: str
    seen: dt.date | None = None


class Sort(Signature):
    """Sort."""

    text: str = InputField()
    when: dt.date = InputField(dt.date(2026, 5, 1))
    team: Team = OutputField()
    places: list[Place] = OutputField(default_factory=list)


RECORD = Sort(text="a", team="billing", places=[Place(city="Lyon", seen=dt.date(2026, 5, 2))])
PLACES = [{"city": "Lyon", "seen": "2026-05-02"}]
FAILED = InputError("no text")


@pytest.mark.parametrize(
    ("item", "row"),
    [
        (Item(input="a", output="x"), {"input": "a", "output": "x", "error": None}),
        (Item(input="a", error=FAILED), {"input": "a", "error": "no text"}),
        (
            Item(input={"id": 7, "text": "a"}, output=RECORD),
            {"id": 7, "text": "a", "team": "billing", "places": PLACES, "error": None},
        ),
        (
            Item(input=RECORD, output=RECORD),
            {"text": "a", "when": dt.date(2026, 5, 1), "team": "billing", "places": PLACES, "error": None},
        ),
        (
            Item(input={"team": "gold", "error": "e"}, output=RECORD),
            {"team": "gold", "error": "e", "llm_team": "billing", "places": PLACES, "llm_error": None},
        ),
        (Item(input="a", output=Place(city="Lyon")), {"input": "a", "city": "Lyon", "seen": None, "error": None}),
        (Item(input="a", output={"city": "Lyon"}), {"input": "a", "city": "Lyon", "error": None}),
        (Item(input="a", output=Team.BILLING), {"input": "a", "output": "billing", "error": None}),
        (Item(input="a", output=["x", Team.BILLING]), {"input": "a", "output": ["x", "billing"], "error": None}),
        (Item(input=Rude(), output=b"\xff"), {"input": "a Rude", "output": b"\xff", "error": None}),
    ],
)
def test_an_item_is_a_flat_row(item, row):
    (found,) = Results([item]).to_dicts()
    assert found == row
    assert list(found) == list(row)


ROWS: Results[Any] = Results(
    [Item(input={"id": 1, "text": "é"}, output="=1+1"), Item(input={"id": 2, "text": None}, error=FAILED)]
)


def test_rows_are_a_table_of_arrow():
    table = ROWS.to_arrow()
    assert table.column_names == ["id", "text", "output", "error"]
    assert table.to_pylist() == ROWS.to_dicts()


@pytest.mark.parametrize("library", ["pandas", pytest.param("polars", marks=pytest.mark.needs("polars"))])
def test_rows_are_a_frame_where_the_library_is_there(library):
    if find_spec(library) is None:
        with pytest.raises(ConfigurationError, match=f"pip install {library}"):
            getattr(ROWS, f"to_{library}")()
    else:
        frame = getattr(ROWS, f"to_{library}")()
        assert list(frame.columns) == ["id", "text", "output", "error"]
        assert list(frame["id"]) == [1, 2]


@pytest.mark.parametrize(("library", "name"), [("pandas", "pandas"), ("polars", "polars"), ("pyarrow", "arrow")])
def test_a_library_that_is_not_there_is_named(monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=f"this needs {library}: pip install {library}"):
        getattr(ROWS, f"to_{name}")()


def test_rows_are_written_to_a_file(tmp_path):
    assert ROWS.write(tmp_path / "out.csv", neutralise_formulas=True) == 2
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {"id": "1", "text": "é", "output": "'=1+1", "error": ""}
    assert (second["text"], second["error"]) == ("", "no text")


def test_a_row_without_an_output_has_its_columns_too() -> None:
    rows = Results([OK, Item(input="c", error=FAILED)]).to_dicts()
    assert rows[0].keys() == rows[1].keys()
    assert rows[1]["error"] == "no text"


def test_columns_have_the_names_of_the_fields_even_where_nothing_succeeded() -> None:
    assert Results([OK], fields=["label"]).to_dicts() == [{"input": "a", "label": "x", "error": None}]
    failed = Results([Item(input={"id": 1}, error=FAILED)], fields=["team", "score"])
    assert failed.to_dicts() == [{"id": 1, "team": None, "score": None, "error": "no text"}]
    assert failed.to_arrow().column_names == ["id", "team", "score", "error"]
    assert list(Results(fields=["team"]).to_pandas().columns) == ["team", "error"]


def test_a_column_of_the_output_has_one_name_in_all_rows() -> None:
    rows = Results(
        [Item(input={"id": 1}, output={"team": "a"}), Item(input={"team": "x"}, output={"team": "b"})]
    ).to_dicts()
    assert [row["llm_team"] for row in rows] == ["a", "b"]
    assert "team" not in rows[0]


def test_a_frame_that_was_run_keeps_its_index_and_types() -> None:
    frame = pandas.DataFrame(
        {
            "n": pandas.array([1, None, 3], dtype="Int64"),
            "kind": pandas.Categorical(["x", "y", "x"]),
            "when": pandas.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "team": ["by hand"] * 3,
        },
        index=[7, 7, 3],
    )
    items = [Item(input=row, output={"team": "a"}) for row in frame.to_dict("records")]
    results = Results(items, fields=["team"], given=frame)
    made = results.to_pandas()
    assert made[list(frame.columns)].equals(frame)
    assert list(made["llm_team"]) == ["a"] * 3
    assert list(results[1:].to_pandas().index) == [7, 3]
    series = pandas.Series(["a", "b"], index=["p", "q"], name="text")
    made = Results([OK, MENDED], fields=["label"], given=series).to_pandas()
    assert (list(made.columns), list(made.index)) == (["text", "label", "error"], ["p", "q"])
    series, frame.attrs = series.rename(0), {"source": "crm"}
    assert list(Results([OK, MENDED], fields=["label"], given=series).to_pandas().columns) == [0, "label", "error"]
    assert results.to_pandas().attrs == {"source": "crm"}


PARTS: dict[tuple[int | None, ...], list[int]] = {
    (None, None, -1): [1, 0],
    (1, None): [1],
    (-1, None): [1],
    (0, 9, 2): [0],
    (2, 2): [],
    (2, 1): [],
    (5, 9): [],
    (0, 1, -1): [],
}


def test_a_table_of_arrow_that_was_run_keeps_its_types() -> None:
    table = pyarrow.table(
        {
            "n": pyarrow.array([1, None], pyarrow.int8()),
            "price": pyarrow.array([Decimal("1.10"), None], pyarrow.decimal128(9, 2)),
            "team": pyarrow.array(["x", "y"]).dictionary_encode(),
        }
    )
    items = [Item(input=row, error=FAILED) for row in table.to_pylist()]
    for given in (table, table.to_batches()[0]):
        made = Results(items, fields=["team"], given=given).to_arrow()
        assert made.select(table.column_names).equals(table)
        assert made.schema.field("llm_team").type == pyarrow.string()
        assert made.column_names == ["n", "price", "team", "llm_team", "error"]
        for rows, places in PARTS.items():
            part = Results(items, fields=["team"], given=given)[slice(*rows)].to_arrow()
            assert part.select(table.column_names).equals(table.take(pyarrow.array(places, pyarrow.int64())))


@pytest.mark.needs("polars")
def test_a_frame_of_polars_that_was_run_keeps_its_types() -> None:
    polars = import_module("polars")
    frame = polars.DataFrame({"n": [1, None], "kind": ["x", "y"]}).with_columns(
        polars.col("n").cast(polars.Int8), polars.col("kind").cast(polars.Categorical)
    )
    results = Results([Item(input=row, error=FAILED) for row in frame.to_dicts()], fields=["team"], given=frame)
    made = results.to_polars()
    assert made.select(frame.columns).equals(frame)
    assert made.schema["team"] == polars.String
    assert results[1:].to_polars().select(frame.columns).equals(frame[1:])


def test_a_frame_without_rows_has_the_columns_of_the_output() -> None:
    frame = pandas.DataFrame({"text": pandas.Series([], dtype=str)})
    assert list(Results(fields=["team"], given=frame).to_pandas().columns) == ["text", "team", "error"]


MIXED = [1, "a", None, 2**70, ["x"], {"a": dt.date(2026, 1, 2)}, "\ud800", b"\xff", Decimal("1.50"), object()]


@pytest.mark.parametrize("library", ["pandas", pytest.param("polars", marks=pytest.mark.needs("polars")), "arrow"])
def test_a_table_can_be_made_whatever_a_column_holds(library: str) -> None:
    results = Results([Item(input={"value": value}, output=value) for value in MIXED])
    table = getattr(results, f"to_{library}")()
    assert len(table) == len(MIXED)


def test_a_file_is_written_as_an_office_reads_it(tmp_path: Path) -> None:
    (tmp_path / "like.csv").write_bytes("nom;prix\r\né;1,5\r\n".encode("cp1252"))
    results = Results([Item(input={"nom": "é"}, output={"prix": 2.5})])
    results.write(tmp_path / "a.csv", like=tmp_path / "like.csv")
    assert (tmp_path / "a.csv").read_bytes() == "nom;prix;error\r\né;2,5;\r\n".encode("cp1252")
    results.write(tmp_path / "b.csv", delimiter=";", encoding="utf-8-sig")
    assert (tmp_path / "b.csv").read_bytes() == b"\xef\xbb\xbfnom;prix;error\n\xc3\xa9;2.5;\n"


def test_a_notebook_shows_what_print_shows() -> None:
    task = Task(Sort, llm=LLM("offline", cache=False))
    shown = {
        "preview": task.preview(text="<b>")._repr_html_(),
        "estimate": task.estimate(["a"])._repr_html_(),
        "item": Item(input="<b>", error=FAILED, raw="x", repairs=("one", "two"))._repr_html_(),
        "task": task._repr_html_(),
        "record": RECORD._repr_html_(),
    }
    for name, wanted in {
        "preview": ["system", "&lt;b&gt;", "schema"],
        "estimate": ["1, 1 distinct", "$0.0000"],
        "item": ["&lt;b&gt;", "input: no text", "one<br>two"],
        "task": ["LLM", "built-in baseline", "team"],
        "record": ["BILLING"],
    }.items():
        assert all(text in shown[name] for text in wanted), shown[name]
        assert shown[name].startswith("<table>")
        assert "<b>" not in shown[name]
