"""A task as a function of parts of a table: pandas frames, pyarrow tables, iterators of frames."""

from __future__ import annotations

import math
import pickle
import sys
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import cloudpickle
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from llmtasker import LLM, Classification, InputField, OutputField, Signature, Task, pipeline
from llmtasker.errors import ConfigurationError
from llmtasker.integrations.partitions import PartitionTask, column_type
from llmtasker.testing import FakeTransport
from llmtasker.wire.request_reader import last_user_text


class Mood(Enum):
    GLAD = "glad"
    ANGRY = "angry"


class Part(BaseModel):
    name: str


class Read(Signature):
    """Read the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
    mood: Mood | None = OutputField(default=None)
    count: int | None = OutputField(default=None)
    sure: bool = OutputField(default=True)
    score: float = OutputField(default=0.5)
    day: date | None = OutputField(default=None)
    parts: list[Part] = OutputField(default_factory=list)


ANSWERS = {
    "full": {
        "team": "billing",
        "mood": "glad",
        "count": 3,
        "sure": False,
        "score": 1,
        "day": "2026-01-31",
        "parts": [{"name": "é"}],
    },
    "few": {"team": "delivery"},
    "large": {"team": "billing", "count": 2**70},
    "wrong": {"team": "nobody"},
}
FULL = {
    "team": "billing",
    "mood": "glad",
    "count": 3,
    "sure": False,
    "score": 1.0,
    "day": "2026-01-31",
    "parts": '[{"name": "é"}]',
    "error": None,
}
FEW = {
    "team": "delivery",
    "mood": None,
    "count": None,
    "sure": True,
    "score": 0.5,
    "day": None,
    "parts": "[]",
    "error": None,
}


@pytest.fixture
def answer() -> PartitionTask:
    transport = FakeTransport(lambda request: ANSWERS[last_user_text(request)])
    return PartitionTask(Task(Read, llm=LLM(transport=transport, cache=False), attempts=1), concurrency=2)


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value
        for name, value in row.items()
    }


@pytest.mark.parametrize("kind", ["pandas", "spark", "arrow"])
def test_each_form_of_a_table(kind: str, answer: PartitionTask) -> None:
    rows = {"id": [1, 2], "message": ["full", "few"]}
    if kind == "arrow":
        found = answer.arrow(pa.table(rows)).to_pylist()
    elif kind == "spark":
        found = [row for part in answer(iter([pd.DataFrame(rows)])) for row in part.to_dict("records")]
    else:
        found = answer(pd.DataFrame(rows)).to_dict("records")
    assert [plain(row) for row in found] == [{"id": 1, "message": "full", **FULL}, {"id": 2, "message": "few", **FEW}]


def test_an_error_is_in_its_row(answer: PartitionTask) -> None:
    found = answer.arrow(pa.table({"message": ["wrong", "large", "few", None]})).to_pylist()
    assert [row["team"] for row in found] == [None, None, "delivery", None]
    assert ["team" in found[0]["error"], "64 bits" in found[1]["error"], found[2]["error"]] == [True, True, None]
    assert "message" in found[3]["error"]


def test_all_parts_have_the_same_types(answer: PartitionTask) -> None:
    """Also one whose rows all failed, and one without rows: an engine puts them into one table."""
    parts = [["full", "few"], ["wrong"], []]
    tables = [answer.arrow(pa.table({"message": pa.array(part, pa.string())})) for part in parts]
    assert len({str(table.schema) for table in tables}) == 1
    frames = [answer(pd.DataFrame({"message": pd.Series(part, dtype=object)})) for part in parts]
    assert len({str(frame.dtypes) for frame in frames}) == 1
    assert pa.concat_tables(tables).num_rows == 3


def test_a_frame_keeps_its_columns_and_index(answer: PartitionTask) -> None:
    given = pd.DataFrame({"message": ["few"], "n": pd.array([None], dtype="Int64")}, index=pd.Index(["x"], name="key"))
    found = answer(given)
    assert found.index.equals(given.index)
    assert found[["message", "n"]].equals(given)


def test_a_column_with_the_name_of_an_output_is_not_hidden(answer: PartitionTask) -> None:
    given = pa.table({"message": ["few"], "team": ["mine"], "error": ["mine"]})
    row = answer.arrow(given).to_pylist()[0]
    assert (row["team"], row["llm_team"], row["error"], row["llm_error"]) == ("mine", "delivery", "mine", None)


def test_the_only_column_is_the_input() -> None:
    task = Classification(llm="offline", labels={"cat": "meows", "dog": "barks"})
    found = PartitionTask(task).arrow(pa.table({"whatever": ["it barks"], "row": [3]}), without={"row"})
    assert found.to_pylist() == [{"whatever": "it barks", "row": 3, "label": "dog", "error": None}]
    named = PartitionTask(task, columns={"text": "b"}).arrow(pa.table({"a": ["it meows"], "b": ["it barks"]}))
    assert named.to_pylist()[0]["label"] == "dog"


@pytest.mark.parametrize("columns", [["id"], ["id", "text"]])
def test_a_missing_column_raises(columns: list[str], answer: PartitionTask) -> None:
    several = PartitionTask(answer.task, columns={"message": "body"})
    for part in (several, answer) if len(columns) > 1 else (several,):
        with pytest.raises(ConfigurationError, match=r"no row has a column .*for the input 'message'"):
            part.check(columns)
        with pytest.raises(ConfigurationError, match="no row has a column"):
            part(pd.DataFrame(columns=columns))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"budget": None}, "no argument 'budget'"), ({"concurrency": 0}, "concurrency"), ({"columns": "a"}, "columns")],
)
def test_a_wrong_option_raises(options: dict[str, Any], words: str, answer: PartitionTask) -> None:
    with pytest.raises(ConfigurationError, match=words):
        PartitionTask(answer.task, **options)


def test_what_is_not_a_task_is_refused(answer: PartitionTask) -> None:
    @pipeline
    async def sort(text: str) -> str:
        return text

    for other, words in ((sort, "not pipeline.*sort.*function that runs a pipeline"), (answer, "not .*PartitionTask")):
        with pytest.raises(ConfigurationError, match=words):
            PartitionTask(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [pickle, cloudpickle])
def test_it_travels(way: Any) -> None:
    part = PartitionTask(Classification(llm="offline", labels={"cat": "meows", "dog": "barks"}), concurrency=5)
    twin: PartitionTask = pickle.loads(way.dumps(part))
    assert twin.settings.concurrency == 5
    assert twin(pd.DataFrame({"a": ["it barks"]}))["label"].tolist() == ["dog"]


def test_the_key_stays_and_a_worker_without_one_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel")
    task = Classification(llm=LLM("openai/gpt-4.1-mini", cache=False), labels=["a", "b"])
    sent = pickle.dumps(PartitionTask(task))
    assert b"sk-sentinel" not in sent
    monkeypatch.delenv("OPENAI_API_KEY")
    rows = pickle.loads(sent).arrow(pa.table({"text": ["x", "y"]})).to_pylist()
    assert [row["label"] for row in rows] == [None, None]
    assert all("OPENAI_API_KEY" in row["error"] for row in rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Read.with_fields(team=(Literal["billing", "sales"], OutputField())), "'team' differs"),
        (lambda: Read.with_fields(more=(int, OutputField(default=1))), "the additional field 'more'"),
        (lambda: Read.with_instructions("Another."), "its instructions differ"),
    ],
)
def test_another_version_of_the_class_is_refused(change: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a module is sent by name; another machine may have another version of the module."""
    sent = pickle.dumps(PartitionTask(Task(Read, llm=LLM("http://localhost:1/v1#m", cache=False))))
    assert pickle.loads(sent).task.signature is Read
    other = change()
    other.__qualname__ = other.__name__ = "Read"
    monkeypatch.setitem(globals(), "Read", other)
    with pytest.raises(ConfigurationError, match=f"a different class on this worker.*{words}"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("annotation", "spark"),
    [
        (str, "string"),
        (int | None, "long"),
        (Annotated[float, Field(ge=0)] | None, "double"),
        (bool, "boolean"),
        (Mood, "string"),
        (Literal[1, 2], "long"),
        (Literal[1, "a"], "string"),
        (int | str, "string"),
        (date, "string"),
        (list[str], "string"),
        (Part, "string"),
        (Any, "string"),
    ],
)
def test_the_type_of_a_column(annotation: Any, spark: str) -> None:
    assert column_type(annotation).spark == spark


class Schema:
    """The part of a Spark schema that is used here."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields

    @property
    def names(self) -> list[str]:
        return [*self.fields]

    def add(self, name: str, kind: str) -> None:
        self.fields[name] = kind


def test_the_schema_for_spark(answer: PartitionTask) -> None:
    given = Schema(message="string", team="long")
    assert answer.spark_schema(given).fields == {
        **given.fields,
        "llm_team": "string",
        "mood": "string",
        "count": "long",
        "sure": "boolean",
        "score": "double",
        "day": "string",
        "parts": "string",
        "error": "string",
    }
    assert given.names == ["message", "team"]


def test_a_missing_extra_is_an_error_before_a_row_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Classification(llm="offline", labels=["a", "b"])
    sent = pickle.dumps(PartitionTask(task))
    monkeypatch.setitem(sys.modules, "narwhals", None)
    for make in (lambda: PartitionTask(task), lambda: pickle.loads(sent)):
        with pytest.raises(ConfigurationError, match=r'pip install "llmtasker\[data\]"'):
            make()
