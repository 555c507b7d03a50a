"""What type checkers must know of a task; checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from llmtasker import InputField, Item, OutputField, Results, Signature, Task
from llmtasker.compiler.program import Program, compile_program
from llmtasker.errors import ItemError
from llmtasker.testing import FakeTransport


class Place(BaseModel):
    city: str


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField(description="what the customer wrote")
    channel: str = InputField(default="mail")
    quote: str = OutputField()
    team: Literal["billing", "delivery", "other"] = OutputField(labels={"billing": "money"})
    place: Place | None = OutputField(default=None)


class Urgent(Triage):
    urgent: bool = OutputField()


record = Triage(message="I was charged twice", quote="charged twice", team="billing")
assert_type(record.team, Literal["billing", "delivery", "other"])
assert_type(record.inputs(), dict[str, Any])
Urgent(message="a", quote="a", team="other", urgent=True, channel="phone", place=Place(city="Lyon"))

task = Task(Triage, llm=FakeTransport(), examples=[record, {"message": "a", "quote": "a", "team": "other"}])
assert_type(task, Task[Triage])

item = task("Where is my parcel?")
assert_type(item, Item[Triage])
assert_type(item.output, Triage | None)
assert_type(item.error, ItemError | None)
assert_type(item.raise_for_error(), Item[Triage])
if item.output:
    assert_type(item.output.team, Literal["billing", "delivery", "other"])
    assert_type(item.output.place, Place | None)
task(message="Where is my parcel?", channel="phone")

results = task.run(["a", {"message": "b"}, record], concurrency=4, progress=False)
assert_type(results, Results[Triage])
assert_type(results[0], Item[Triage])
assert_type(results[1:], Results[Triage])
assert_type(results.outputs, list[Triage | None])
for one in results:
    assert_type(one, Item[Triage])
assert_type(task.stream(["a"]), Iterator[Item[Triage]])

renamed = Triage.with_instructions("Oriente le message.")
assert_type(renamed, type[Triage])
assert_type(Urgent.with_fields(more=(str, OutputField())), type[Urgent])
assert_type(Task(Urgent, llm="offline")("a"), Item[Urgent])
assert_type(Task(renamed, llm="offline")("a"), Item[Triage])
assert_type(Signature.make("Sort", instructions="Sort.", outputs={"label": str}), type[Signature])

program = compile_program(Triage, examples=[record])
assert_type(program, Program[Triage])
assert_type(Item[Triage].from_json("{}", Triage), Item[Triage])


async def awaiting() -> None:
    assert_type(await task.acall("a"), Item[Triage])
    assert_type(await task.arun(["a"]), Results[Triage])
    assert_type(task.astream(["a"]), AsyncIterator[Item[Triage]])
    async for one in task.astream(["a"]):
        assert_type(one, Item[Triage])
