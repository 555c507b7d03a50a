"""Tasks, signatures, items and results can be sent to other processes, even if their class is in no module."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from typing import Any, Literal, Self

import cloudpickle
import programs
import pytest
from pydantic import BaseModel, model_validator

from llmtasker import LLM, InputField, Item, OutputField, Results, Signature, Task
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport

WAYS = {"pickle": pickle.dumps, "cloudpickle": cloudpickle.dumps}


class Line(BaseModel):
    price: float


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "money"})
    line: Line | None = OutputField(default=None)

    @model_validator(mode="after")
    def billing_is_about_money(self) -> Self:
        if self.team == "billing" and "money" not in self.message:
            raise ValueError("billing is about money")
        return self


SIGNATURES: dict[str, type[Signature]] = {
    "written": Triage,
    "make": Signature.make("Sort", instructions="Sort.", inputs={"message": str}, outputs={"team": Literal["a", "b"]}),
    "with_fields": Triage.with_fields(team=(Literal["billing", "delivery", "sales"], OutputField())),
    "with_instructions": Triage.with_instructions("Oriente le message."),
    "constraints": Triage.with_fields(
        code=(str, OutputField(default="A", pattern="^[A-Z]$", max_length=3, strict=True))
    ),
    "several": Triage.with_fields(more=(int, OutputField(default=1))).with_instructions("Again."),
}


def example(signature: type[Signature]) -> Signature:
    return signature(message="my money", team="a" if signature.__name__ == "Sort" else "billing")


def fake(record: Signature) -> LLM:
    return LLM(transport=FakeTransport({**record.outputs(), "team": "delivery"}), cache=False)


def local() -> type[Signature]:
    class Local(Signature):
        """Sort."""

        message: str = InputField()
        team: Literal["a", "b"] = OutputField()

    return Local


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_signature_stays_one_class(kind: str, way: str) -> None:
    signature = SIGNATURES[kind]
    for half in (signature, signature.input_model, signature.output_model):
        assert pickle.loads(WAYS[way](half)) is half
        assert copy.deepcopy(half) is half


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_items_and_results_come_back_equal(kind: str, way: str) -> None:
    record = example(SIGNATURES[kind])
    given = type(record).input_model(message="my money")
    items: list[Item[Any]] = [Item(input=given, output=record), Item(input=record), Item(input="a", output=record)]
    results = Results([*items, *Task(type(record), llm=fake(record), examples=[record]).run(["a"])])
    again = pickle.loads(WAYS[way](results))
    assert again == results
    assert again[3].messages == results[3].messages
    assert copy.deepcopy(results) == results


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_a_task_asks_the_same_where_it_arrives(kind: str, way: str) -> None:
    signature = SIGNATURES[kind]
    task = Task(signature, llm=LLM("http://localhost:1/v1#m", temperature=0.3, cache=False), mode="json", attempts=2)
    twin = pickle.loads(WAYS[way](task.with_(examples=[example(signature)])))
    assert twin.preview("my money").body == task.with_(examples=[example(signature)]).preview("my money").body
    assert (twin.plan.attempts, twin.plan.mode) == (2, "json")
    assert twin.llm is not task.llm


TASKS: dict[str, Any] = {
    "labels": lambda: Classification(llm="offline", labels={"cat": "meows", "dog": "barks"}, examples={"miaow": "cat"}),
    "an open set": lambda: Classification(llm="offline", labels=["cat", "dog"], open_set=True, multi_label=True),
    "a text": lambda: Instruction(llm="offline", instructions="Summarise."),
    "a mapping": lambda: Instruction(llm="offline", instructions="Count.", output={"words": int, "lines": list[Line]}),
    "a model": lambda: Instruction(llm="offline", instructions="Read.", output=Line),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", TASKS)
def test_ready_made_tasks(kind: str, way: str) -> None:
    task = TASKS[kind]()
    twin = pickle.loads(WAYS[way](task))
    assert type(twin) is type(task)
    assert twin.preview("a").body == task.preview("a").body


def test_a_class_of_a_function_needs_cloudpickle() -> None:
    signature = local()
    with pytest.raises((pickle.PicklingError, AttributeError), match="Local"):
        pickle.dumps(signature)
    assert pickle.loads(cloudpickle.dumps(signature)) is signature
    record = signature(message="a", team="b")
    assert pickle.loads(cloudpickle.dumps(Item(input="a", output=record))).output == record


# A notebook: all classes are in `__main__`, which no other process can import.
NOTEBOOK = """
import sys, cloudpickle
from typing import Literal, Self
from pydantic import BaseModel, field_validator, model_validator
from llmtasker import LLM, InputField, OutputField, Signature, Task, pipeline
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction

class Line(BaseModel):
    price: float

class Triage(Signature):
    "Route a customer message."
    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "money"})
    line: Line | None = OutputField(default=None)

    @field_validator("message")
    @classmethod
    def not_blank(cls, message):
        if message == "-":
            raise ValueError("write something")
        return message

    @model_validator(mode="after")
    def billing_is_about_money(self) -> Self:
        if self.team == "billing" and "money" not in self.message:
            raise ValueError("billing is about money")
        return self

class Teams(Task):
    def _present(self, record):
        return record.team

LLM_ = LLM("offline", cache=False)
EXAMPLES = [Triage(message="money please", team="billing"), Triage(message="where is it", team="delivery")]
FRENCH = Triage.with_instructions("Oriente le message.").with_fields(sure=(bool, OutputField(default=True)))
things = {
    "signature": Triage,
    "french": FRENCH,
    "made": Signature.make("Sort", instructions="Sort.", outputs={"label": Literal["a", "b"]}),
    "task": Task(Triage, llm=LLM_, examples=EXAMPLES),
    "teams": Teams(Triage, llm=LLM_, examples=EXAMPLES),
    "french task": Task(Triage.with_instructions("Oriente le message."), llm=LLM_, examples=EXAMPLES),
    "classification": Classification(llm=LLM_, labels=["cat", "dog"], examples={"miaow": "cat", "wuff": "dog"}),
    "instruction": Instruction(llm=LLM_, instructions="Read.", output=Line),
}
class Mail(BaseModel):
    text: str
    again: bool = False

@pipeline(version="3")
async def route(mail: Mail) -> Literal["billing", "delivery"]:
    "Route a mail, twice if it asks for that."
    if mail.again:
        return (await route.acall(Mail(text=mail.text))).value
    return (await things["task"].acall(mail.text)).value.team

def routed(texts):
    return [item.output for item in route.run([Mail(text=text, again=True) for text in texts])]

things |= {"pipeline": route, "explodes": pipeline(explode=True, timeout=9)(route.__wrapped__), "function": routed}
things["results"] = things["task"].run(["my money", "-", Triage.input_model(message="where")])
with open(sys.argv[1], "wb") as file:
    file.write(cloudpickle.dumps(things))
print(things["results"].to_dicts())
"""

FRESH = """
import copy, pickle, sys
from pydantic import ValidationError

with open(sys.argv[1], "rb") as file:
    things = pickle.load(file)
Triage = things["signature"]
print(things["results"].to_dicts())
assert type(things["results"][0].output) is Triage
assert things["task"]("my money").output == Triage(message="my money", team="billing")
assert things["task"].run(["-", "my money"]).counts == {"input": 1, "ok": 1}
assert things["teams"]("where").output == "delivery"
assert things["french task"].preview("a").messages[0]["content"].startswith("Oriente")
assert things["french task"]("where").output.team == "delivery"
assert things["french"](message="money", team="billing").sure is True
assert things["made"](text="a", label="b").outputs() == {"label": "b"}
assert things["classification"]("wuff").output == "dog"
assert things["function"](["where", "my money"]) == ["delivery", "billing"]
assert things["pipeline"]({"text": "my money", "again": True}).output == "billing"
assert (things["pipeline"].version, things["pipeline"].code, things["explodes"].explodes) == ("3", "3", True)
assert list(things["pipeline"].signature.input_fields) == ["text", "again"]
assert things["pipeline"].signature.instructions == "Route a mail, twice if it asks for that."
assert "price" in str(things["instruction"].preview("a").body)
assert copy.deepcopy(things["task"]).with_(attempts=1)("where").output.team == "delivery"
for wrong in ({"message": "where"}, {"message": "-"}):
    try:
        things["french"](**wrong, team="billing")
    except ValidationError:
        continue
    raise AssertionError(wrong)
"""


def python(program: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LLMTASKER", "OPENAI"))}
    done = programs.run("-W", "error", "-c", program, *arguments, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_notebook_reaches_a_fresh_process(tmp_path: Path) -> None:
    path = str(tmp_path / "things.pickle")
    sent = python(NOTEBOOK, path)
    assert "'team': 'delivery'" in sent
    assert python(FRESH, path) == sent


# A script, whose classes are in `__main__` too: processes made by "spawn" run the script again, under another name.
SCRIPT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Literal
from llmtasker import InputField, OutputField, Signature, Task, pipeline

class Triage(Signature):
    "Route a customer message."
    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "charged", "delivery": "parcel"})

triage = Task(Triage, llm="offline", cache=False)

@pipeline
async def route(message: str) -> str:
    return (await triage.acall(message)).value.team

watched = route.observed(print)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        item = pool.submit(triage, "my parcel").result(60)
        (kept,) = pool.submit(triage.run, ["charged"]).result(60)
        (piped,) = pool.submit(route.run, ["charged"]).result(60)
        assert (piped.output, len(piped.steps)) == ("billing", 1)
        assert pool.submit(getattr, watched, "code").result(60) == route.code
        assert pool.submit(getattr, watched, "observers").result(60) == [print]
    assert type(item.output) is Triage, type(item.output)
    print(item.output.team, kept.output.team)
"""


def test_a_pipeline_is_found_by_cloudpickle_of_any_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of joblib stores methods in its own way."""
    from joblib.externals.loky import get_reusable_executor

    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(PIPELINE, "notebook", "exec", dont_inherit=True), namespace)  # noqa: S102 - as a notebook does
    monkeypatch.setattr(sys.modules["__main__"], "half", namespace["half"], raising=False)
    executor = get_reusable_executor(max_workers=1)
    try:
        assert executor.submit(namespace["halves"], [4, 10]).result(60) == [2, 5]
    finally:
        executor.shutdown(wait=True, kill_workers=True)


PIPELINE = """
from llmtasker import pipeline

@pipeline(version="1")
async def half(number: int) -> int:
    return number // 2

def halves(numbers):
    return [item.output for item in half.run(numbers, progress=False)]
"""


def test_a_script_reaches_the_processes_that_it_spawns(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = programs.run("-W", "error", tmp_path / "script.py")
    assert done.stdout == "delivery billing\n", done.stderr


# ── secrets ──

KEY = "sk-sentinel-7f3a"


def llms() -> dict[str, LLM]:
    return {
        "a key": LLM("openai/gpt-4.1-mini", api_key=KEY, cache=False),
        "a password": LLM(f"http://user:{KEY}@localhost:1/v1#m", cache=False),
        "a header": LLM("http://localhost:1/v1#m", headers={"Authorization": f"Bearer {KEY}"}, cache=False),
    }


@pytest.mark.parametrize("kind", ["a key", "a password", "a header"])
@pytest.mark.parametrize("way", WAYS)
def test_no_credential_is_written_down(kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    task = Task(Triage, llm=llms()[kind], examples=[example(Triage)])
    task.preview("a")
    written = WAYS[way](task)
    assert KEY.encode() not in written
    assert b"sk-of-the-worker" not in written
    assert pickle.loads(written).plan == task.plan


@pytest.mark.parametrize("way", WAYS)
def test_a_client_leaves_its_key_behind(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    task = Task(Triage, llm=LLM(client=openai.OpenAI(api_key=KEY, base_url="http://localhost:1/v1"), model="m"))
    assert copy.deepcopy(task).llm is task.llm
    written = WAYS[way](task)
    assert KEY.encode() not in written
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    assert pickle.loads(written).preview("a").body == task.preview("a").body


@pytest.mark.parametrize("answers", [None, "text", {"team": "billing"}, [{"team": "billing"}, {"team": "delivery"}]])
def test_a_pickled_fake_has_all_its_answers_again(answers: Any) -> None:
    fake = FakeTransport(answers, endpoint="test", keep_requests=False)
    task = Task(Triage, llm=LLM(transport=fake), attempts=1)
    before = [task(text).output for text in ("a", "b")]
    again = pickle.loads(pickle.dumps(task))
    assert [again(text).output for text in ("a", "b")] == before
    assert (fake.calls, again.llm.transport.calls, again.llm.transport.endpoint) == (2, 2, "test")
