"""A task as data: other arguments make another task, and nothing else changes."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.cache import MemoryCache
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


EXAMPLES = [Triage(message="I was charged twice", team="billing")]


class Teams(Task[Any]):
    """Returns only the team; has its own attribute."""

    def __init__(self, *, llm: Any = None) -> None:
        super().__init__(Triage, llm=llm)
        self.log = ["made"]

    def _present(self, record: Any) -> Any:
        return record.team


class Moods(Classification):
    """A classification with its labels built in."""

    def __init__(self, llm: Any = None) -> None:
        super().__init__(llm=llm, labels=["glad", "angry"])


def fake(answer: Any = None) -> LLM:
    return LLM(transport=FakeTransport(answer or {"team": "billing"}), cache=MemoryCache())


def triage(**options: Any) -> Task[Triage]:
    return Task(Triage, **{"llm": fake(), **options})


def classification(**options: Any) -> Classification:
    return Classification(**{"llm": fake(), "labels": ["cat", "dog"], **options})


def instruction(**options: Any) -> Instruction:
    return Instruction(**{"llm": fake(), "instructions": "Summarise.", **options})


KINDS: dict[str, Any] = {
    "Task": triage,
    "Classification": classification,
    "Instruction": instruction,
    "a subclass": lambda: Teams(llm=fake()),
    "a subclass of Classification": lambda: Moods(llm=fake()),
}


def shown(task: Task[Any]) -> Any:
    return task.preview("Where is my parcel?").body


# ── with_ ──


@pytest.mark.parametrize("kind", KINDS)
def test_with_gives_another_task_of_the_same_kind(kind: str) -> None:
    task = KINDS[kind]()
    before = shown(task)
    careful = task.with_(attempts=5)
    assert type(careful) is type(task)
    assert (task.plan.attempts, careful.plan.attempts) == (3, 5)
    assert careful.llm is task.llm
    assert careful.program is task.program
    assert shown(careful) == shown(task) == before


@pytest.mark.parametrize("kind", KINDS)
def test_other_instructions_are_sent_and_nothing_else_changes(kind: str) -> None:
    task = KINDS[kind]()
    other = task.with_(instructions="Other words.")
    assert "Other words." in str(shown(other)["messages"])
    assert "Other words." not in str(shown(task)["messages"])
    assert other.with_(attempts=1).with_(instructions="Once more.").plan.attempts == 1
    assert other.plan.records_of(other.plan.examples) == task.plan.records_of(task.plan.examples)
    assert other.signature.output_model.model_json_schema() == task.signature.output_model.model_json_schema()


def test_each_argument_can_be_changed() -> None:
    task = triage()
    other = fake({"team": "delivery"})
    careful = task.with_(instructions="Route it.", examples=EXAMPLES, llm=other, mode="json", cache=False, group_size=3)
    assert "I was charged twice" in str(shown(careful))
    assert careful.plan.mode == "json"
    assert careful.store is None
    assert careful.llm is other
    assert task("a").output == Triage(message="a", team="billing")
    item = careful("a")
    assert item.output is not None
    assert isinstance(item.output, Triage)
    assert item.output.team == "delivery"
    assert triage(examples=EXAMPLES).with_(examples=[]).plan.examples == ()
    assert task.with_(llm="offline").llm.model == LLM("offline").model


def test_a_classification_takes_other_labels() -> None:
    task = classification(llm=fake({"label": "bird"}), examples={"it barks": "dog"})
    assert not task("it sings").ok
    wider = task.with_(labels=["cat", "dog", "bird"], examples={"it barks": "dog", "it sings": "bird"})
    assert (wider.labels, task.labels) == (["cat", "dog", "bird"], ["cat", "dog"])
    assert wider("it sings").output == "bird"
    with pytest.raises(ConfigurationError, match="example 1"):
        task.with_(labels=["cat"])


def test_an_instruction_takes_another_output() -> None:
    task = instruction(llm=fake("words"))
    assert task("a").output == "words"
    assert task.with_(output={"words": int}, llm=fake({"words": 2}))("a").output == {"words": 2}


def test_many_changes_of_the_instructions_make_no_tower_of_classes() -> None:
    task = triage()
    for number in range(30):
        task = task.with_(instructions=f"Try {number}.")
    assert task.signature.instructions == "Try 29."
    assert len(task.signature.__mro__) <= len(Triage.__mro__) + 1


def test_what_a_subclass_has_added_goes_along() -> None:
    task = Teams(llm=fake())
    assert task.with_(attempts=1).log is task.log
    twin = copy.deepcopy(task)
    assert twin.log == task.log
    assert twin.log is not task.log


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_llm_and_what_was_compiled(kind: str, way: Any) -> None:
    task = KINDS[kind]()
    twin = way(task)
    assert type(twin) is type(task)
    assert twin is not task
    assert twin.llm is task.llm
    assert twin.program is task.program
    assert shown(twin) == shown(task)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_task_holds_is_data_or_made_again(kind: str) -> None:
    """An attribute that a change leaves behind would belong to another task: name it in `task_data._BUILT`."""
    task = KINDS[kind]()
    task("a")
    task.run(["a", "b"])
    list(task.stream(["a"]))
    assert task._added().keys() <= {"log"}


def test_the_callers_lists_are_its_own() -> None:
    examples, variables, labels = [*EXAMPLES], {"tone": "kind"}, ["cat", "dog"]
    task = Task(Triage.with_instructions("Be {tone}."), llm=fake(), examples=examples, variables=variables)
    classes = classification(labels=labels)
    before = shown(task)
    examples.clear()
    variables["tone"] = "rude"
    labels.append("bird")
    assert shown(task) == shown(task.with_(reasoning=False)) == before
    assert classes.with_(language="fr").labels == ["cat", "dog"]


# ── errors ──

WRONG: dict[str, tuple[Any, str]] = {
    "Task(exmaples=)": (lambda: triage(exmaples=[]), "Task has no argument 'exmaples'. Did you mean 'examples'"),
    "Classification(lables=)": (lambda: classification(lables=[]), "Classification has no argument 'lables'. Did you"),
    "Classification(signature=)": (lambda: classification(signature=Triage), "no argument 'signature'"),
    "Instruction(ouput=)": (lambda: instruction(ouput=str), "Did you mean 'output'"),
    "a subclass": (lambda: Teams(llm=fake()).with_(atempts=2), "Teams.with_ has no argument 'atempts'. Did you mean"),
    "with_(labels=) of a Task": (
        lambda: triage().with_(labels=["a"]),
        "Task.with_ has no argument 'labels': they are the Literal of an output field",
    ),
    "Task(instructions=)": (lambda: triage(instructions="Sort."), "signature.with_instructions(…) changes them"),
    "Task(temperature=)": (lambda: triage(temperature=0.1), 'it belongs in llm=LLM("…", temperature=…)'),
    "Classification(model=)": (lambda: classification(model="gpt-4.1"), 'it belongs in llm=LLM("…", model=…)'),
    "with_(budget=)": (lambda: triage().with_(budget=None), "it belongs in run(inputs, budget=…)"),
    "run(tags=)": (lambda: triage().run(["a"], tags={}), "it belongs in settings=CallSettings(tags=…)"),
    "run(seed=)": (lambda: triage().run(["a"], seed=3), 'it belongs in llm=LLM("…", seed=…)'),
    "attempts=0": (lambda: triage(attempts=0), "the answers to ask for"),
    "attempts='3'": (lambda: triage(attempts="3"), "not '3'"),
    "attempts=True": (lambda: triage(attempts=True), "not True"),
    "with_(attempts=0)": (lambda: triage().with_(attempts=0), "the answers to ask for"),
    "cache=5": (lambda: triage(cache=5), "cache=5 is not a cache"),
    "cache=MemoryCache": (lambda: triage(cache=MemoryCache), "is not a cache"),
    "mode='xml'": (lambda: triage(mode="xml"), "mode is one of 'auto'"),
    "reasoning='yes'": (lambda: triage(reasoning="yes"), "reasoning is one of True, False"),
    "variables=['a']": (lambda: triage(variables=["a"]), "variables is a mapping"),
    "examples='a'": (lambda: triage(examples="a"), "examples is a list, not 'a'"),
    "examples=None": (lambda: triage(examples=None), "examples is a list, not None"),
    "group_size=0": (lambda: triage(group_size=0), "group_size"),
    "language='de'": (lambda: classification(language="de"), "language is one of 'en', 'fr'"),
    "run(concurency=)": (lambda: triage().run(["a"], concurency=3), "Did you mean 'concurrency'"),
    "run(ordered=)": (lambda: triage().run(["a"], ordered=True), "run has no argument 'ordered'"),
    "stream(odered=)": (lambda: triage().stream(["a"], odered=True), "Did you mean 'ordered'"),
    "astream(budgt=)": (lambda: triage().astream(["a"], budgt=None), "Did you mean 'budget'"),
    "run(concurrency='3')": (lambda: triage().run(["a"], concurrency="3"), "the inputs to process at once"),
    "run(progress=3)": (lambda: triage().run(["a"], progress=3), "progress is True, False, None or a function"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_refused_at_once(case: str) -> None:
    make, words = WRONG[case]
    with pytest.raises(ConfigurationError) as raised:
        make()
    assert words in str(raised.value)
