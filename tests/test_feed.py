"""The inputs that a run accepts."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pytest

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.runner.inputs import rows_of
from llmtasker.testing import FakeTransport

ROWS = [{"id": 1, "message": "où est mon colis ?"}, {"id": 2, "message": "charged twice"}]


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def polars() -> Any:
    return import_module("polars").DataFrame(ROWS)


needs_polars = pytest.mark.needs("polars")

TABLES = [
    lambda: pd.DataFrame(ROWS),
    pytest.param(polars, marks=needs_polars),
    pytest.param(lambda: polars().lazy(), marks=needs_polars),
    lambda: pa.Table.from_pylist(ROWS),
]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_gives_its_rows_with_all_columns(table: Callable[[], Any]) -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(table())
    assert [item.input for item in results] == ROWS
    assert results.counts == {"ok": 2}


@pytest.mark.parametrize(
    "column",
    [
        lambda: pd.DataFrame(ROWS)["message"],
        lambda: pd.DataFrame(ROWS)[["message"]],
        pytest.param(lambda: polars()["message"], marks=needs_polars),
        pytest.param(lambda: polars().select("message"), marks=needs_polars),
        lambda: pa.Table.from_pylist(ROWS)["message"],
        lambda: pa.Table.from_pylist(ROWS).select(["message"]),
    ],
)
def test_a_column_gives_bare_values(column: Callable[[], Any]) -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(column())
    assert [item.input for item in results] == [row["message"] for row in ROWS]


def test_a_missing_value_of_a_table_is_an_error_of_its_row() -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(pd.DataFrame({"message": ["a", None], "id": [1, 2]}))
    assert results.counts == {"ok": 1, "input": 1}


@pytest.mark.parametrize(
    "table",
    [
        lambda frame: frame,
        lambda frame: iter([frame[:2], frame[2:]]),
        lambda frame: frame.iterrows(),
        lambda frame: frame.astype({"message": "string"}),
    ],
)
def test_what_pandas_has_for_a_missing_value_is_none(table: Callable[[pd.DataFrame], Any]) -> None:
    class Note(Signature):
        """Route a message."""

        message: str | None = InputField()
        stars: float | None = InputField()
        team: Literal["billing", "delivery"] = OutputField()

    frame = pd.DataFrame({"message": ["a", None, float("nan"), pd.NA], "stars": [1.5, float("nan"), None, 2.0]})
    results = Task(Note, llm=LLM(transport=FakeTransport())).run(table(frame))
    assert [item.input["message"] for item in results] == ["a", None, None, None]
    assert [item.input["stars"] for item in results] == [1.5, None, None, 2.0]
    assert results.counts == {"ok": 4}


@pytest.mark.parametrize(
    "rows",
    [
        lambda frame: frame,
        lambda frame: [frame[:1], frame[1:]],
        lambda frame: iter([frame[:1], frame[1:]]),
        lambda frame: frame.iterrows(),
    ],
)
@pytest.mark.parametrize(
    ("frame", "columns", "inputs"),
    [
        (pd.DataFrame({0: ["a", "b"]}), None, ["a", "b"]),
        (pd.DataFrame({"text": ["a", "b"]}), {"message": "text"}, [{"text": "a"}, {"text": "b"}]),
        (
            pd.DataFrame({0: ["a", "b"], 1: ["c", "d"]}),
            {"message": "0"},
            [{"0": "a", "1": "c"}, {"0": "b", "1": "d"}],
        ),
    ],
)
def test_parts_of_a_frame_are_read_as_the_frame_is(
    rows: Callable[[pd.DataFrame], Any], frame: pd.DataFrame, columns: dict[str, str] | None, inputs: list[Any]
) -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(rows(frame), columns=columns)
    assert [item.input for item in results] == inputs
    assert results.counts == {"ok": 2}


def test_columns_of_one_name_are_an_error_that_reports_it() -> None:
    frame = pd.DataFrame([["a", 1, 2]], columns=["message", "n", "n"])
    with pytest.raises(ConfigurationError, match=r"needs a unique name.*'n'"):
        Task(Triage, llm=LLM(transport=FakeTransport())).run(frame)


def named(*names: Any) -> pd.DataFrame:
    return pd.DataFrame([["a"] * len(names)], ["row"], pd.Index(names, dtype=object, tupleize_cols=False))


@pytest.mark.parametrize("names", [(1, "1"), ("1", 1.0, 1), (("1", 1), "('1', 1)"), (None, "None")])
def test_columns_of_one_name_as_text_are_an_error(names: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="needs a unique name"):
        Task(Triage, llm=LLM(transport=FakeTransport())).run(named("message", *names))


@pytest.mark.parametrize(
    "source",
    [
        lambda: iter([named("message", 1, "1")]),
        lambda: iter([named("message", 1, "1").reset_index(drop=True)]),
        lambda: named("message", "1", "1").iterrows(),
    ],
)
def test_rows_and_chunks_with_columns_of_one_name_are_an_error(source: Callable[[], Any]) -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(source())
    assert ["needs a unique name" in str(item.error) for item in results] == [True]


def test_an_array_with_columns_is_refused() -> None:
    table = pd.DataFrame({"a": ["x"], "b": ["y"]}).to_numpy()
    with pytest.raises(ConfigurationError, match="an array of 1 dimension, not 2: give a data frame"):
        Task(Triage, llm=LLM(transport=FakeTransport())).run(table)


@pytest.mark.parametrize("one", ["one text", b"bytes", {"message": "one mapping"}])
def test_one_input_is_not_taken_for_many(one: Any) -> None:
    with pytest.raises(ConfigurationError, match="got one"):
        Task(Triage, llm=LLM(transport=FakeTransport())).run(one)


def test_what_cannot_be_iterated_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="iterable"):
        rows_of(3)


def test_other_things_of_a_table_library_are_iterated() -> None:
    assert list(rows_of(pd.Index(["a", "b"]))) == ["a", "b"]  # type: ignore[arg-type]


FRAME = pd.DataFrame(ROWS)


@pytest.mark.parametrize(
    "source",
    [
        FRAME.iterrows,
        FRAME.itertuples,
        lambda: list(FRAME.itertuples()),
        lambda: [row for _, row in FRAME.iterrows()],
        lambda: iter([FRAME[:1], FRAME[1:]]),
        lambda: [FRAME[:1], FRAME[1:]],
        lambda: FRAME.groupby("id"),
        lambda: (row for row in FRAME.to_dict("records")),
        pytest.param(lambda: polars().iter_slices(1), marks=needs_polars),
        lambda: pa.Table.from_pylist(ROWS).to_batches(max_chunksize=1),
    ],
)
def test_rows_and_chunks_of_tables_are_rows(source: Callable[[], Any]) -> None:
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(source())
    assert [item.input["message"] for item in results] == [row["message"] for row in ROWS]
    assert results.counts == {"ok": 2}


def test_chunks_of_a_file_are_read_one_by_one(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "in.csv")
    with pd.read_csv(tmp_path / "in.csv", chunksize=1) as chunks:
        results = Task(Triage, llm=LLM(transport=FakeTransport())).run(chunks)
    assert [item.input["message"] for item in results] == [row["message"] for row in ROWS]


FILLED: list[Callable[[], Any]] = [dict, OrderedDict, lambda: defaultdict(str), UserDict]


@pytest.mark.parametrize("kind", FILLED)
def test_a_dict_that_is_filled_again_and_again_is_copied(kind: Callable[[], Any]) -> None:
    def rows() -> Any:
        row = kind()
        for message in ("one", "two", "three"):
            row["message"] = message
            yield row

    task = Task(Triage, llm=LLM(transport=FakeTransport()))
    items = list(task.stream(rows(), concurrency=1, ordered=True))
    assert [item.input["message"] for item in items] == ["one", "two", "three"]


@pytest.mark.parametrize("kind", FILLED)
def test_a_list_that_is_filled_again_and_again_is_copied(kind: Callable[[], Any]) -> None:
    class Tagged(Signature):
        """Route a message."""

        tags: list[str] = InputField()
        team: Literal["billing", "delivery"] = OutputField()

    def rows(bare: bool) -> Any:
        tags, row, inner = list[Any](), kind(), kind()
        row["tags"], row["self"], row["inner"], inner["tags"] = tags, row, inner, tags
        for tag in ("one", "two"):
            tags[:] = [tag]
            yield tags if bare else row

    task = Task(Tagged, llm=LLM(transport=FakeTransport()))
    for bare in (False, True):
        items = list(task.stream(rows(bare), concurrency=1, ordered=True))
        assert [item.input if bare else item.input["tags"] for item in items] == [["one"], ["two"]]
        assert bare or [item.input["inner"]["tags"] for item in items] == [["one"], ["two"]]
        assert bare or type(items[0].input) is type(kind())


def test_columns_whose_names_are_not_texts_are_found_by_their_text() -> None:
    frame = pd.DataFrame([["où est mon colis ?", 1], ["charged twice", 2]])
    results = Task(Triage, llm=LLM(transport=FakeTransport())).run(frame, columns={"message": "0"})
    assert results.counts == {"ok": 2}
    assert list(results.to_pandas().columns) == [0, 1, "team", "error"]


@needs_polars
def test_a_lazy_frame_is_computed_once_and_keeps_its_types() -> None:
    computed: list[int] = []

    def seen(frame: Any) -> Any:
        computed.append(len(frame))
        return frame

    given = polars().with_columns(import_module("polars").col("id").cast(import_module("polars").Int8))
    lazy = given.lazy().map_batches(seen)
    made = Task(Triage, llm=LLM(transport=FakeTransport())).run(lazy).to_polars()
    assert made.select(given.columns).equals(given)
    assert computed == [2]
