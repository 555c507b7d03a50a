"""Searches for a better step of a pipeline: the whole decides, and the result is a pipeline that runs with the step."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import obedient
import pytest
from test_optimizers import by_example, hash_of, right, sets, task_of

from llmtasker import LLM, Budget, Classification, ConfigurationError, Instruction, pipeline
from llmtasker.cli.app import main
from llmtasker.jobs.pipeline_work import PipelineWork
from llmtasker.optimizers import (
    GEPA,
    BootstrapFewShot,
    InstructionSearch,
    LabelDescriptions,
    LabeledFewShot,
    Optimizer,
    estimate_search,
    optimize,
)
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.testing import FakeTransport
from llmtasker.wire.request_reader import last_user_text

PARCEL = "message about the parcel"


def whole_rows(**sizes: int) -> dict[str, Any]:
    """Rows with the right result of the whole pipeline, and none of a step."""
    return {
        name: [{"text": row["text"], "output": row["label"]} for row in rows] for name, rows in sets(**sizes).items()
    }


def sorting(answers: Any = obedient.both, **options: Any) -> tuple[Pipeline[Any, Any], Classification, FakeTransport]:
    topic, fake = task_of(answers, **options)

    @pipeline(version="1")
    async def sort(text: str) -> str:
        return str((await topic.acall(text)).value)

    return sort, topic, fake


def obeying(topic: Classification) -> Classification:
    return topic.with_(instructions="{classes}\nparcel -> delivery")


@pytest.mark.parametrize("optimizer", [InstructionSearch(), GEPA(calls=150)], ids=["InstructionSearch", "GEPA"])
def test_a_step_gets_better_instructions(optimizer: Optimizer, tmp_path: Path) -> None:
    sort, topic, fake = sorting()
    found = optimize(sort, optimizer, **whole_rows())
    assert found.better
    assert fake.calls - 80 <= 150
    assert found.task(PARCEL).output == "delivery"
    assert sort(PARCEL).output == topic(PARCEL).output == "other"
    found.step.save(tmp_path / "topic.json")
    loaded = Classification.load(tmp_path / "topic.json", llm=topic.llm)
    assert sort.with_tasks(topic=loaded)(PARCEL).output == "delivery"


def test_answers_of_a_step_in_rows_that_came_out_right_become_its_examples() -> None:
    sort, _, _ = sorting(by_example)
    teacher = LLM(transport=FakeTransport(lambda request: {"label": right(request)}), cache=False)
    found = optimize(sort, BootstrapFewShot(k=4, sets=3, teacher=teacher), **whole_rows())
    assert found.better
    assert {example["label"] for example in found.step.plan.examples} == set(obedient.LABELS)
    itself = optimize(sort, BootstrapFewShot(k=4, sets=3), **whole_rows())
    assert not itself.better
    assert itself.task is sort


def test_one_step_of_several_in_a_pipeline_within_a_pipeline() -> None:
    inner, topic, _ = sorting()
    cleaned = FakeTransport(last_user_text)
    clean = Instruction(llm=LLM(transport=cleaned, cache=False), instructions="Clean the text.")

    @pipeline
    async def answer(text: str) -> str:
        return str((await inner.acall((await clean.acall(text)).value)).value)

    with pytest.raises(ConfigurationError, match="step is not given: give one of its tasks: clean, inner: topic"):
        optimize(answer, InstructionSearch(), **whole_rows())
    found = optimize(answer, InstructionSearch(), step="inner: topic", **whole_rows())
    assert found.better
    item = found.task(PARCEL)
    assert item.output == "delivery"
    assert [len(step.steps) for step in item.steps] == [0, 1]
    assert answer(PARCEL).output == inner(PARCEL).output == topic(PARCEL).output == "other"


def test_rows_of_both_pipelines_can_run_at_the_same_time() -> None:
    sort, topic, _ = sorting()
    other = sort.with_tasks(topic=obeying(topic))

    async def both() -> list[Any]:
        return await asyncio.gather(*(one.arun([PARCEL] * 5) for one in (sort, other, sort, other)))

    assert [{item.output for item in items} for items in asyncio.run(both())] == [{"other"}, {"delivery"}] * 2


def test_the_other_task_runs_in_every_kind_of_call_and_travels_in_a_pickle() -> None:
    topic = Classification(llm="offline", labels={"cat": "meows", "dog": "howls"})

    @pipeline
    async def sound(text: str) -> list[str]:
        rows = await topic.arun([text])
        called = await asyncio.to_thread(topic, text)
        return [str(rows[0].value), str((await topic.acall(text)).value), str(called.value)]

    other = sound.with_tasks(topic=topic.with_(labels={"cat": "meows", "wolf": "howls"}))
    for one in (other, cloudpickle.loads(cloudpickle.dumps(other))):
        assert one("it howls").output == ["wolf"] * 3
    assert sound("it howls").output == ["dog"] * 3


def test_finished_rows_of_another_step_are_not_reused() -> None:
    sort, topic, _ = sorting()
    before, after = PipelineWork(sort), PipelineWork(sort.with_tasks(topic=obeying(topic)))
    assert before.identity({"text": "a"}) != after.identity({"text": "a"})
    assert before.whole == PipelineWork(sort.with_tasks(topic=topic)).whole


def test_searches_with_nothing_to_find_claim_nothing() -> None:
    def by_chance(request: Any) -> dict[str, str]:
        return {"label": right(request) if hash_of(str(request.messages)) % 10 < 7 else "nothing"}

    claimed = 0
    for seed in range(8):
        sort, _, _ = sorting(by_chance, labels=[*obedient.LABELS, "nothing"], attempts=1)
        rows = whole_rows(seed=seed, train=12, val=12, test=40)
        claimed += optimize(sort, BootstrapFewShot(k=3, sets=4), **rows, seed=seed).better
    assert claimed <= 1


@pytest.mark.parametrize("optimizer", [InstructionSearch(), GEPA(), BootstrapFewShot()])
@pytest.mark.parametrize("limit", [{"calls": 81}, {"calls": 130}, {"calls": 160, "tokens": 24_000}])
def test_the_budget_is_a_hard_limit_and_the_test_is_paid_for(optimizer: Optimizer, limit: dict[str, int]) -> None:
    sort, _, fake = sorting()
    budget = Budget(**limit)
    found = optimize(sort, optimizer, **whole_rows(), budget=budget)
    assert fake.calls == budget.spent["calls"] <= limit["calls"]
    assert budget.spent["tokens"] <= limit.get("tokens", budget.spent["tokens"])
    assert found.report.spent["calls"] == fake.calls
    if found.report.before is not None and found.report.after is not None:
        assert not {**found.report.before.failures, **found.report.after.failures}


def test_the_estimate_counts_each_task_in_the_code() -> None:
    sort, _, fake = sorting()
    lines = list[str]()
    estimate = estimate_search(sort, BootstrapFewShot(k=2, sets=2), **whole_rows())
    optimize(sort, BootstrapFewShot(k=2, sets=2), **whole_rows(), progress=lines.append)
    assert lines[0] == str(estimate) == "at most 170 calls (90 to search, 80 to test), tokens unknown, cost unknown"
    assert fake.calls <= estimate.calls


def test_a_search_continues_where_it_was_stopped(tmp_path: Path) -> None:
    def search(**options: Any) -> tuple[Any, int]:
        sort, _, fake = sorting(cache=tmp_path / "cache")
        return optimize(sort, InstructionSearch(), **whole_rows(), **options), fake.calls

    stopped, _ = search(budget=Budget(calls=130))
    assert stopped.report.ended == "the budget is used up"
    resumed, calls = search()
    again, none = search()
    assert resumed.better
    assert again.step.signature.instructions == resumed.step.signature.instructions
    assert calls > none == 0


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (LabeledFewShot(), {}, "LabeledFewShot needs right answers of topic.*use BootstrapFewShot"),
        (LabelDescriptions(), {}, "LabelDescriptions needs right answers of topic"),
        (InstructionSearch(), {"step": "topics"}, r"step 'topics' is not in the code of pipeline\(.*: topic\."),
        (InstructionSearch(), {"metric": "label"}, "metric: 'label' is not measured; choose output"),
        (InstructionSearch(), {"budget": Budget(calls=60)}, "60 calls left, and the test alone may take 80"),
    ],
)
def test_mistakes_are_named_before_any_call(optimizer: Optimizer, options: Any, message: str) -> None:
    sort, _, fake = sorting()
    with pytest.raises(ConfigurationError, match=message):
        optimize(sort, optimizer, **whole_rows(), **options)
    assert fake.calls == 0


def test_a_step_is_named_for_pipelines_that_have_tasks_only() -> None:
    _, topic, _ = sorting()
    with pytest.raises(ConfigurationError, match="step is for pipelines"):
        optimize(topic, InstructionSearch(), step="topic", **sets())

    @pipeline
    async def alone(text: str) -> str:
        return text

    with pytest.raises(ConfigurationError, match=r"step is not given.*it has none"):
        optimize(alone, InstructionSearch(), **whole_rows())


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"topics": "topic"}, "has no task 'topics' in its code; it has topic"),
        ({"topic": "billing"}, "topic takes a task, not 'billing'"),
        (
            {"topic": Instruction(llm="offline", instructions="Sum up.")},
            "the output fields of topic are label, and those of the other task result",
        ),
    ],
)
def test_a_task_that_can_not_be_put_in_place_is_refused(tasks: dict[str, Any], message: str) -> None:
    sort, _, _ = sorting()
    with pytest.raises(ConfigurationError, match=message):
        sort.with_tasks(**tasks)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    files = [*obedient.write_sets(whole_rows(train=20, val=20, test=40)), "--out", "topic.json"]
    Path("sort.py").write_text(
        "from llmtasker import Classification, LLM, pipeline\n"
        f"topic = Classification(llm=LLM('offline', cache=False), labels={obedient.LABELS!r},\n"
        "    examples={'an invoice': 'billing', 'a parcel': 'delivery', 'my password': 'access'})\n"
        "@pipeline\n"
        "async def sort(text: str) -> str:\n"
        "    return (await topic.acall(text)).value\n"
    )

    def run(*options: str) -> tuple[Any, Any]:
        monkeypatch.setattr("sys.argv", ["llmtasker", "optimize", "sort.py:sort", *files, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    code, shown = run("--with", "bootstrap", "--step", "topic", "--calls", "1000")
    assert (code, Path("topic.json").exists()) in ((0, True), (1, False)), shown
    assert "at most" in shown.err
    assert "the original task" in shown.err
    code, shown = run("--with", "examples")
    assert code == 2
    assert "LabeledFewShot needs right answers of topic" in shown.err
