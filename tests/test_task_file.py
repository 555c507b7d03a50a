"""Task files: a task is restored from readable JSON, and a file that can't be trusted is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, create_model, model_validator

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.runner.grouping import AutoGroup
from llmtasker.signature.type_schema import NotHeldError, schema_type, type_schema
from llmtasker.tasks import load_task
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport


class Line(BaseModel):
    price: float


class Mood(Enum):
    GLAD = "glad"
    ANGRY = "angry"


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField(description="what the customer wrote")
    due: dt.date | None = InputField(default=None)
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "money"})
    lines: list[Line] = OutputField(default_factory=list)

    @model_validator(mode="after")
    def billing_is_about_money(self) -> Self:
        if self.team == "billing" and "money" not in self.message:
            raise ValueError("billing is about money")
        return self


EXAMPLE = Triage(message="my money", due=dt.date(2026, 3, 2), team="billing", lines=[Line(price=2.5)])
NESTED = create_model("Nested", price=(float, Field(ge=0)), tags=(list[str], Field(default_factory=list)))


def triage(**options: Any) -> Task[Triage]:
    return Task(Triage, **{"llm": LLM("offline", cache=False), **options})


def made(**outputs: Any) -> Task[Any]:
    signature = Signature.make("Sort", instructions="Sort it.", outputs=outputs)
    return Task(signature, llm=LLM("offline", cache=False))


TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a class": (lambda: triage(examples=[EXAMPLE]), {"signature": Triage}),
    "other instructions": (lambda: triage().with_(instructions="Anders."), {"signature": Triage}),
    "all options": (
        lambda: triage(
            examples=[EXAMPLE],
            variables={"tone": "kind", "number": 3},
            examples_role="system",
            input_role="system",
            mode="json",
            reasoning=True,
            attempts=1,
            group_size=5,
        ),
        {"signature": Triage},
    ),
    "an AutoGroup": (lambda: triage(group_size=AutoGroup(epsilon=0.1, sizes=(5, 2))), {"signature": Triage}),
    "with_fields": (
        lambda: Task(Triage.with_fields(more=(int, OutputField(default=1))), llm="offline"),
        {"signature": Triage.with_fields(more=(int, OutputField(default=1)))},
    ),
    "made of plain types": (
        lambda: made(
            words=str,
            number=(int, OutputField(ge=1, le=5, description="from 1 to 5")),
            label=(Literal["a", "b"], OutputField(labels={"a": "first"})),
            optional=(str | None, OutputField(default=None)),
            many=list[Literal["x", "y"]],
            day=dt.date,
            amount=Decimal,
            pair=tuple[int, str],
            shares=dict[str, float],
            anything=Any,
            nested=list[NESTED],
            code=(Annotated[str, StringConstraints(strip_whitespace=True, pattern="^[A-Z]+$")], OutputField(alias="c")),
        ),
        {},
    ),
    "an input that may be empty": (
        lambda: Task(
            Signature.make(
                "Sort", instructions="Sort.", inputs={"text": (str, InputField(min_length=0))}, outputs={"label": str}
            ),
            llm="offline",
        ),
        {},
    ),
    "labels": (lambda: Classification(llm="offline", labels={"cat": "meows", "dog": ""}, examples={"wuff": "dog"}), {}),
    "labels of all kinds": (
        lambda: Classification(
            llm="offline",
            labels=["cat", "dog"],
            language="fr",
            multi_label=True,
            open_set=True,
            allow_none=True,
            examples=[("wuff", ["dog", "wolf"]), ("…", [])],
        ),
        {},
    ),
    "an Enum": (lambda: Classification(llm="offline", labels=Mood, examples={"hurra": Mood.GLAD}), {"labels": Mood}),
    "a text": (lambda: Instruction(llm="offline", instructions="Summarise.", examples={"a b": "a"}), {}),
    "an object": (lambda: Instruction(llm="offline", instructions="Read.", output=dict, examples={"a": {"b": 1}}), {}),
    "a mapping": (
        lambda: Instruction(
            llm="offline",
            instructions="Read.",
            output={"n": int, "w": (list[str], OutputField(description="words"))},
            examples={"a": {"n": 1, "w": ["a"]}},
        ),
        {},
    ),
    "a made model": (lambda: Instruction(llm="offline", instructions="Read.", output=NESTED), {}),
    "a written model": (
        lambda: Instruction(llm="offline", instructions="Read.", output=Line, examples={"2": Line(price=2)}),
        {"output": Line},
    ),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_saved_task_asks_the_same(kind: str, tmp_path: Path) -> None:
    make, handed_in = TASKS[kind]
    task, path = make(), tmp_path / "task.json"
    task.save(path)
    for twin in (type(task).load(path, **handed_in, llm=task.llm), load_task(path, **handed_in, llm=task.llm)):
        assert type(twin) is type(task)
        assert twin.diff(task) == ""
        assert twin.preview("a").body == task.preview("a").body
        assert twin.program.head("json_schema").schema == task.program.head("json_schema").schema
        twin.save(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
        assert pickle.loads(pickle.dumps(twin)).diff(task) == ""


def test_the_file_is_readable(tmp_path: Path) -> None:
    triage(examples=[EXAMPLE], variables={"tone": "freundlich für"}).save(tmp_path / "triage.json")
    document = json.loads((tmp_path / "triage.json").read_text(encoding="utf-8"))
    assert (document["kind"], document["version"], document["signature"]) == ("Task", 1, "Triage")
    assert document["instructions"] == "Route a customer message."
    assert document["fields"]["message"] == {
        "side": "input",
        "type": "string",
        "description": "what the customer wrote",
    }
    assert document["labels"] == {"team": {"billing": "money"}}
    assert document["examples"] == [
        {"message": "my money", "due": "2026-03-02", "team": "billing", "lines": [{"price": 2.5}]}
    ]
    assert document["settings"]["attempts"] == 3
    assert "freundlich für" in (tmp_path / "triage.json").read_text(encoding="utf-8")


def test_a_loaded_task_works(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    Classification(llm="offline", labels=Mood, examples={"hurra": Mood.GLAD}).save(path)
    fake = LLM(transport=FakeTransport({"label": "angry"}), cache=False)
    assert Classification.load(path, labels=Mood, llm=fake)("bah").output is Mood.ANGRY
    made(day=dt.date, nested=NESTED).save(path)
    fake = LLM(transport=FakeTransport({"day": "2026-03-02", "nested": {"price": 1}}), cache=False)
    record = Task.load(path, llm=fake)("a").output
    assert record is not None
    assert record.outputs()["day"] == dt.date(2026, 3, 2)
    assert record.outputs()["nested"].tags == []


class Teams(Task[Any]):
    def _present(self, record: Any) -> Any:
        return record.team


def test_a_subclass_keeps_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "teams.json"
    fake = LLM(transport=FakeTransport({"team": "delivery"}), cache=False)
    Teams(Triage, llm=fake).save(path)
    assert Teams.load(path, signature=Triage, llm=fake)("a").output == "delivery"
    for load in (Task.load, load_task):
        with pytest.raises(ConfigurationError, match=r"kind is Teams.*load it with Teams\.load"):
            load(path, signature=Triage, llm=fake)


def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    llm = LLM("http://user:sentinel@localhost:1/v1#m", api_key="sentinel", cache=False)
    task = triage(llm=llm)
    task.save(tmp_path / "task.json")
    assert "sentinel" not in (tmp_path / "task.json").read_text(encoding="utf-8")
    assert "sentinel" not in task.diff(triage())


def test_a_diff_names_what_differs() -> None:
    task = triage(examples=[EXAMPLE])
    other = task.with_(instructions="Anders.", attempts=1, llm=LLM("ollama/qwen3", cache=False))
    lines = {line for line in task.diff(other).splitlines() if line[0] in "+-"}
    assert '+  "instructions": "Anders.",' in lines
    assert '-    "attempts": 3,' in lines
    assert '+  "llm": "LLM(\'qwen3\')"' in lines
    assert len(lines) == 8
    assert task.diff(task.with_()) == ""


# ── another signature ──


def changed(**fields: Any) -> type[Signature]:
    return Triage.with_fields(**fields)


OTHERS: dict[str, tuple[Any, str]] = {
    "a further field": (changed(more=(int, OutputField())), "has the additional field 'more'"),
    "another type": (changed(team=(Literal["billing", "sales"], OutputField())), "'team' differs in enum, labels"),
    "another side": (changed(due=(dt.date | None, OutputField(default=None))), "'due' differs in side"),
    "other words": (changed(message=(str, InputField(description="text"))), "'message' differs in description"),
    "a field less": (
        Signature.make("Triage", instructions="R", inputs={"message": str}, outputs={"team": str}),
        "'due' is not a field of Triage",
    ),
    "not given": (None, "give signature=…, because Triage was written as a class"),
    "not a signature": (Line, "Signature class"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_signature_is_refused_with_what_differs(case: str, tmp_path: Path) -> None:
    signature, words = OTHERS[case]
    triage().save(tmp_path / "triage.json")
    with pytest.raises(ConfigurationError) as raised:
        Task.load(tmp_path / "triage.json", signature=signature, llm="offline")
    assert words in str(raised.value)
    assert "triage.json" in str(raised.value)


def test_what_is_handed_in_belongs_to_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    Classification(llm="offline", labels=Mood).save(path)
    with pytest.raises(ConfigurationError, match="give labels=…, because the labels are the Enum Mood"):
        Classification.load(path, llm="offline")
    with pytest.raises(ConfigurationError, match="another signature: 'label' differs"):
        Classification.load(path, labels=Enum("Mood", {"A": "a", "B": "b"}), llm="offline")
    with pytest.raises(ConfigurationError, match="no argument 'signature'"):
        load_task(path, signature=Triage, llm="offline")
    Instruction(llm="offline", instructions="Read.", output=Line).save(path)
    with pytest.raises(ConfigurationError, match="give output=…"):
        Instruction.load(path, llm="offline")
    with pytest.raises(ConfigurationError, match=r"kind is Instruction, not Classification"):
        Classification.load(path, llm="offline")


# ── files that can't be trusted ──


def saved(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "forged.json"
    task = made(label=(Literal["a", "b"], OutputField(labels={"a": "first"})), nested=list[NESTED])
    task.with_(examples=[{"text": "t", "label": "a", "nested": []}]).save(path)
    return path, json.loads(path.read_text(encoding="utf-8"))


def put(*keys: Any, value: Any) -> Any:
    def change(document: dict[str, Any]) -> Any:
        node: Any = document
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        return document

    return change


FORGED: dict[str, Any] = {
    "a later version": put("version", value=2),
    "no version": put("version", value="1"),
    "a truth as version": put("version", value=True),
    "another kind": put("kind", value="Other"),
    "kind is a list": put("kind", value=["Task"]),
    "an unknown part": put("run", value="import os"),
    "a list": lambda document: [document],
    "null": lambda document: None,
    "no fields": put("fields", value={}),
    "no examples": lambda document: {name: part for name, part in document.items() if name != "examples"},
    "a field is a text": put("fields", "label", value="str"),
    "a type that is not known": put("fields", "label", value={"side": "output", "type": "os.system"}),
    "a keyword that is not known": put("fields", "label", "python", value="__import__('os')"),
    "a side that is not known": put("fields", "label", "side", value="both"),
    "another label": put("fields", "label", "enum", value=["a", "c"]),
    "a label that is an object": put("fields", "label", "enum", value=[{}]),
    "another hash": put("hash", value="0" * 64),
    "another meaning": put("labels", "label", "a", value="second"),
    "meanings are a list": put("labels", "label", value=["a"]),
    "a default of another field": put("fields", "label", "default", value=[[]]),
    "a field that is a method": put("fields", "model_dump", value={"side": "output", "type": "string"}),
    "a field with underscores": put("fields", "__class__", value={"side": "output", "type": "string"}),
    "a nested field with underscores": put(
        "fields", "nested", "items", "properties", "__init__", value={"type": "string"}
    ),
    "required is a text": put("fields", "nested", "items", "required", value="price"),
    "a wrong bound": put("fields", "nested", "items", "properties", "price", "minimum", value="a"),
    "a wrong pattern": put("fields", "text", "pattern", value="("),
    "an example that does not fit": put("examples", 0, "label", value="z"),
    "an example that is a text": put("examples", value=["t"]),
    "an option that is not known": put("settings", "mode", value="xml"),
    "attempts that are a text": put("settings", "attempts", value="3"),
    "a group size that is an object": put("settings", "group_size", value={"same": 1, "evil": 2}),
    "a needed argument": put("needs", "signature", value="it says so"),
    "instructions with an unknown variable": put("instructions", value="{customer}"),
    "empty instructions": put("instructions", value=" "),
    "a type that is nested too deep": put(
        "fields", "label", value={"side": "output", **json.loads('{"type": "array", "items": ' * 60 + "{}" + "}" * 60)}
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_an_error_that_names_it(case: str, tmp_path: Path) -> None:
    path, document = saved(tmp_path)
    assert Task.load(path, llm="offline").program
    path.write_text(json.dumps(FORGED[case](document)), encoding="utf-8")
    for load in (Task.load, load_task):
        with pytest.raises(ConfigurationError, match=r"forged\.json"):
            load(path, llm="offline")


BYTES: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "not UTF-8": b'{"kind": "\xff"}',
    "NaN": b'{"kind": NaN}',
    "a key twice": b'{"kind": "Task", "kind": "Instruction"}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "a pickle": pickle.dumps(Triage),
    "a huge number": b'{"kind": "Task", "version": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("case", BYTES)
def test_what_is_not_json_is_an_error_that_names_it(case: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.json"
    path.write_bytes(BYTES[case])
    with pytest.raises(ConfigurationError, match=r"forged\.json"):
        load_task(path, llm="offline")


def test_a_file_that_was_cut_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError, match=r"forged\.json"):
            load_task(path, llm="offline")


def test_a_file_of_100_megabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "forged.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ConfigurationError, match=r"forged\.json is not a task file: it is larger"):
        load_task(path, llm="offline")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "no" / "none.json"):
        with pytest.raises(ConfigurationError, match=str(path)):
            load_task(path, llm="offline")
    with pytest.raises(ConfigurationError):
        triage().save(tmp_path / "no" / "none.json")
    with pytest.raises(ConfigurationError):
        triage().save(tmp_path)


# ── what can't be saved ──


class Locked(Signature):
    """Read."""

    secret: SecretStr = InputField()
    label: str = OutputField()


UNHELD: dict[str, tuple[Any, str]] = {
    "a variable": (lambda: triage(variables={"tone": {1: float("nan")}}), "'tone' can't be"),
    "a hidden value": (
        lambda: Task(Locked, llm="offline", examples=[Locked(secret=SecretStr("a"), label="b")]),
        "example 1 can't be stored in a file",
    ),
    "a function": (lambda: triage(group_size=AutoGroup(same=lambda one, other: True)), "AutoGroup(same=…)"),
}


@pytest.mark.parametrize("case", UNHELD)
def test_what_a_file_cannot_hold_is_refused_at_once(case: str, tmp_path: Path) -> None:
    make, words = UNHELD[case]
    with pytest.raises(ConfigurationError) as raised:
        make().save(tmp_path / "task.json")
    assert words in str(raised.value)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no draft stays either


@pytest.mark.parametrize(
    "kind", [Line, Mood, bytes, complex, Annotated[str, AfterValidator(str.strip)], list[Line], Literal[Mood.GLAD]]
)
def test_a_made_signature_with_such_a_type_is_handed_in(kind: Any, tmp_path: Path) -> None:
    task, path = made(value=kind), tmp_path / "task.json"
    task.save(path)
    with pytest.raises(ConfigurationError, match="give signature=…, because the field 'value'"):
        Task.load(path, llm="offline")
    assert Task.load(path, signature=task.signature, llm="offline").diff(task.with_(llm="offline")) == ""


SCALARS = st.sampled_from([str, int, float, bool, Any, dt.date, dt.datetime, Decimal, Literal["a", 1, True, None]])
TYPES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: kind | None),
        st.tuples(inner, inner).map(lambda kinds: tuple[kinds]),  # type: ignore[valid-type]
        inner.map(lambda kind: create_model("Made", part=(kind, Field(description="a part")))),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(TYPES)
def test_types_come_back(kind: Any) -> None:
    schema = type_schema(kind)
    assert type_schema(schema_type(json.loads(json.dumps(schema)))) == schema


def test_a_type_that_is_not_held_is_named() -> None:
    with pytest.raises(NotHeldError, match="the class Line"):
        type_schema(dict[str, list[Line]])
