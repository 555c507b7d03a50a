"""group_size="auto": the size is found with a sample, stored, and monitored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from llmtasker import LLM, InputField, OutputField, Retry, Signature, Task
from llmtasker.cache import MemoryCache
from llmtasker.errors import AuthenticationError, BadRequestError, ConfigurationError
from llmtasker.runner.grouping import AutoGroup, Choice, Measured
from llmtasker.runner.grouping.auto_group import same_output, upper_bound
from llmtasker.runner.grouping.auto_size import Watch, choose
from llmtasker.testing import FakeTransport
from llmtasker.wire.group_format import read_blocks
from llmtasker.wire.request import Request


class Mood(Signature):
    """Say how the customer feels."""

    review: str = InputField()
    why: str = OutputField()
    mood: Literal["glad", "angry"] = OutputField()


class Model:
    """An LLM that guesses if a group is larger than its `limit`; it counts calls."""

    def __init__(self, limit: Callable[[int], float] = lambda calls: 10, *, fickle: int = 0) -> None:
        self.limit = limit
        self.fickle = fickle
        self.groups: list[int] = []
        self.alone: list[str] = []

    @property
    def calls(self) -> int:
        return len(self.groups) + len(self.alone)

    def __call__(self, request: Request) -> Any:
        text = str(request.tail[0]["content"])
        inputs = list(read_blocks(text).items())
        if not inputs:
            self.alone.append(text)
            again = self.alone.count(text) > 1
            return self.mood(text, guess=again and self.fickle > 0 and self.number(text) % self.fickle == 0)
        self.groups.append(len(inputs))
        guess = len(inputs) > self.limit(self.calls)
        return {
            "answers": [
                {"id": id_, "anchor": one[:40], **self.mood(one, guess=guess and self.number(one) % 4 == 0)}
                for id_, one in inputs
            ]
        }

    def number(self, text: str) -> int:
        return int(text.split(maxsplit=1)[0])

    def mood(self, text: str, *, guess: bool) -> dict[str, str]:
        glad = self.number(text) % 3 == 0
        return {"why": f"because of {len(self.groups)}", "mood": "glad" if glad != guess else "angry"}


def reviews(count: int, start: int = 0) -> list[str]:
    return [f"{number} stars would be too many for what I got" for number in range(start, start + count)]


def task_of(model: Any, *, group_size: Any = "auto", cache: Any = False, **llm: Any) -> Task[Mood]:
    endpoint = LLM.of(FakeTransport(model), cache=cache, retry=Retry(attempts=1), **{"temperature": 0, **llm})
    return Task(Mood, llm=endpoint, group_size=group_size)


def wrong(items: Any) -> int:
    """How many items differ from the answers to rows asked alone."""
    return sum((item.output.mood == "glad") != (int(item.input.split()[0]) % 3 == 0) for item in items)


def test_the_largest_size_that_answers_as_one_call_a_row_does_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    model, rows = Model(), reviews(600)
    task = task_of(model)
    with caplog.at_level(logging.INFO, "llmtasker"):
        items = task.run(rows)
    assert wrong(items) == 0
    assert [item.input for item in items] == rows
    # The sample alone, then in groups of 20 (some differ) and of 10 (none do); the rest by 10, with two checks.
    checks = 54 // 20
    assert len(model.alone) == 60 + checks
    assert model.groups == [20] * 3 + [10] * (6 + 54)
    report = task.group_report
    assert report is not None
    assert report.choice is not None
    assert (report.size, report.choice.size, report.checked, report.differing) == (10, 10, checks, 0)
    assert (report.rows, report.calls, report.calls_saved) == (600, model.calls, 600 - model.calls)
    assert [one.size for one in report.choice.measured] == [20, 10]
    assert report.choice.measured[0].differing == 15
    assert "groups of 10: 20: 15 of 60 differ" in str(report)
    assert "groups of 10: 20: 15 of 60 differ, at most 35.1%" in caplog.text
    # The cost of the sample is part of the cost of its rows.
    assert items.usage == report.usage
    assert all(item.attempts >= 3 for item in items[:60])


def test_a_second_run_of_a_task_and_another_process_pay_for_no_second_sample() -> None:
    model, store = Model(), MemoryCache()
    task = task_of(model, cache=store)
    task.run(reviews(300))
    for again in (task, task_of(model, cache=store)):
        model.groups.clear()
        model.alone.clear()
        calls = len(again.run(reviews(300)))
        assert (model.calls, calls) == (0, 300)
    again = task_of(model, cache=store)
    again.run(reviews(100, start=300))
    assert (model.groups, model.alone) == ([10] * 10, [])
    assert again.group_report is not None
    assert again.group_report.choice is not None
    assert again.group_report.choice.size == 10
    # Another prompt has another size, and so has a run with `fresh`.
    task_of(model, cache=store, group_size=AutoGroup(epsilon=0.2)).run(reviews(150, start=400))
    assert len(model.alone) == 60
    task_of(model, cache=store).run(reviews(150), fresh=True)
    assert len(model.alone) == 120


def test_a_choice_that_cannot_be_read_is_made_again() -> None:
    model, store = Model(), MemoryCache()
    task_of(model, cache=store).run(reviews(150))
    for key in list(store._texts):
        if "measured" in store._texts[key]:
            store._texts[key] = json.dumps({"text": "{}"})
    task_of(model, cache=store).run(reviews(150, start=200))
    assert len(model.alone) == 120


def test_of_a_stream_of_unknown_length_the_first_rows_are_the_sample() -> None:
    model = Model()
    for ordered in (True, False):
        model.groups.clear()
        items = list(task_of(model).stream(iter(reviews(300)), concurrency=3, ordered=ordered))
        assert wrong(items) == 0
        assert sorted(int(item.input.split()[0]) for item in items) == list(range(300))
        if ordered:
            assert [item.input for item in items] == reviews(300)
        assert 10 in model.groups


def test_a_source_that_fails_gives_what_came_before_it() -> None:
    def source(count: int) -> Any:
        yield from reviews(count)
        raise OSError("the disk is gone")

    for count in (30, 100):
        items = task_of(Model()).run(source(count))
        assert len(items) == count + 1
        assert f"after {count} rows" in str(items[-1].error)


def test_a_stream_that_is_left_in_the_sample_closes_its_source() -> None:
    closed = []

    async def source() -> Any:
        try:
            for row in reviews(300):
                yield row
        finally:
            closed.append(True)

    async def leave() -> None:
        stream = task_of(Model()).astream(source(), ordered=True)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert closed


def test_an_estimate_knows_the_size_once_it_is_chosen() -> None:
    task, fixed = task_of(Model()), task_of(Model(), group_size=4)
    assert fixed.estimate(reviews(100)).calls == 25
    assert task.estimate(reviews(100)).calls == 100
    task.run(reviews(150))
    assert task.estimate(reviews(100)).calls == 10


def test_few_rows_are_not_worth_a_sample() -> None:
    model = Model()
    task = task_of(model)
    assert wrong(task.run(reviews(100))) == 0
    assert (len(model.alone), model.groups) == (100, [])
    assert "does not pay" in str(task.group_report)
    list(task.stream(iter(reviews(20))))
    assert "20 answered rows is too small" in str(task.group_report)
    # … which must not affect a longer run.
    task.run(reviews(200))
    assert 10 in model.groups


def test_cached_rows_are_not_a_sample() -> None:
    model, store = Model(), MemoryCache()
    task_of(model, cache=store, group_size=2).run(reviews(200))
    model.groups.clear()
    task = task_of(model, cache=store)
    items = list(task.stream(iter(reviews(500)), ordered=True))
    assert [item.input for item in items] == reviews(500)
    assert [item.cached for item in items] == [True] * 200 + [False] * 300
    assert len(model.alone) == 60 + (240 // 10) // 20
    assert set(model.groups) == {20, 10}


def test_rows_that_do_not_fit_and_equal_ones_do_not_disturb_a_sample() -> None:
    model = Model()
    rows = [row for one in reviews(200) for row in (one, one, None)]
    items = task_of(model, cache=MemoryCache()).run(rows)
    assert [item.error is not None for item in items] == [row is None for row in rows]
    assert len(set(model.alone)) >= 60
    assert 10 in model.groups


def test_a_sample_that_fails_ends_the_search() -> None:
    fake = FakeTransport(AuthenticationError("wrong key", status=401))
    task = Task(Mood, llm=LLM.of(fake, cache=False), group_size="auto")
    items = task.run(reviews(500), concurrency=4)
    assert {item.error.code for item in items if item.error} == {"authentication", "not_run"}
    assert fake.calls <= 20


def test_answers_of_a_group_that_do_not_fit_are_missing_in_a_trial() -> None:
    model = Model(lambda calls: 99)

    def handler(request: Request) -> Any:
        answer = model(request)
        for entry in answer.get("answers", [])[:2]:
            entry["mood"] = "puzzled"
        return answer

    task = task_of(handler)
    task.run(reviews(150))
    assert task.group_report is not None
    assert task.group_report.choice is not None
    measured = task.group_report.choice.measured
    assert [(one.size, one.rows, one.missed) for one in measured] == [(20, 54, 6), (10, 48, 12)]
    assert task.group_report.choice.size == 20


def test_groups_that_fail_are_no_better_than_none() -> None:
    def handler(request: Request) -> Any:
        return BadRequestError("no lists") if "<input id=" in str(request.tail) else {"why": "so", "mood": "glad"}

    fake = FakeTransport(handler)
    task = Task(Mood, llm=LLM.of(fake, cache=False, temperature=0), group_size="auto")
    assert task.run(reviews(150)).counts["ok"] == 150
    assert fake.calls == 150 + 3 + 6 + 12 + 30
    assert "no groups: 20: nothing could be compared" in str(task.group_report)


def test_sizes_that_do_not_fit_the_token_limit_are_not_tried() -> None:
    model = Model(lambda calls: 99)
    task_of(model, max_tokens=1500).run(reviews(150))
    assert set(model.groups) <= {10, 5, 2}


def test_what_the_llm_itself_is_not_sure_of_is_not_a_fault_of_groups() -> None:
    # One in four differs in groups of more than 10; one in five also when it is asked again alone.
    model = Model(lambda calls: 99 if calls > 400 else 2, fickle=5)
    task = task_of(model, temperature=1, group_size=AutoGroup(epsilon=0.2))
    task.run(reviews(150))
    report = task.group_report
    assert report is not None
    assert report.choice is not None
    assert report.choice.noise == pytest.approx(0.2)
    assert report.choice.size == 20
    assert "20.0% for the LLM's own variation" in str(report)
    sure = task_of(Model(lambda calls: 2, fickle=5), temperature=0, group_size=AutoGroup(epsilon=0.2))
    sure.run(reviews(150))
    assert sure.group_report is not None
    assert sure.group_report.choice is not None
    assert (sure.group_report.choice.noise, sure.group_report.choice.size) == (0, 2)


def test_a_repetition_that_fails_is_not_compared() -> None:
    model = Model(lambda calls: 2)

    def handler(request: Request) -> Any:
        answer = model(request)
        again = "answers" not in answer and model.alone[-1] in model.alone[:60] and len(model.alone) > 60
        return BadRequestError("no") if again else answer

    task = task_of(handler, temperature=None)
    task.run(reviews(150))
    assert task.group_report is not None
    assert task.group_report.choice is not None
    assert (task.group_report.choice.noise, task.group_report.choice.size) == (0, 2)


def test_when_groups_get_worse_later_they_are_halved(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(lambda calls: 20 if calls < 90 else 6)
    auto = AutoGroup(check_every=2)
    task = task_of(model, group_size=auto)
    with caplog.at_level(logging.INFO, "llmtasker"):
        task.run(reviews(3000), concurrency=2)
    report = task.group_report
    assert report is not None
    assert report.choice is not None
    assert report.choice.size == 20
    assert report.size == 5
    assert report.differing >= 2
    assert "groups of 5 from here on" in caplog.text
    assert set(model.groups[-20:]) <= {5, 4}


def test_a_check_that_fails_leaves_the_answer_of_the_group() -> None:
    model = Model(lambda calls: 99)

    def handler(request: Request) -> Any:
        answer = model(request)
        return BadRequestError("no") if len(model.alone) > 60 and "answers" not in answer else answer

    task = task_of(handler, group_size=AutoGroup(check_every=1))
    items = task.run(reviews(200), concurrency=1)
    assert items.counts["ok"] == 200
    assert wrong(items) == 0
    assert task.group_report is not None
    assert task.group_report.checked == 0


@pytest.mark.parametrize(
    ("found", "size", "asked"),
    [
        ({}, 20, [20]),
        ({20: (1, 0)}, 10, [20, 10]),
        ({20: (9, 0), 10: (9, 0), 5: (9, 0), 2: (9, 0)}, 1, [20, 10, 5, 2]),
        # The answers are good, but so many are missing that a smaller size makes fewer calls.
        ({20: (0, 10)}, 10, [20, 10]),
        ({20: (0, 2)}, 20, [20]),
        ({20: (0, 60), 10: (0, 30), 5: (0, 60)}, 10, [20, 10, 5]),
    ],
)
def test_the_size_that_takes_the_fewest_calls_is_chosen(
    found: dict[int, tuple[int, int]], size: int, asked: list[int]
) -> None:
    sizes = []

    async def measure(size: int) -> Measured:
        sizes.append(size)
        differing, missed = found.get(size, (0, 0))
        return Measured(size=size, rows=60, differing=differing, missed=missed)

    choice = asyncio.run(choose(AutoGroup(), measure, None))
    assert (choice.size, sizes) == (size, asked)
    assert Choice.from_json(choice.to_json()) == choice


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"measured": 1}', '{"measured": [], "what": 1}'])
def test_what_is_not_a_choice_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"stored choice|Expecting value"):
        Choice.from_json(text)


def test_the_bound_is_that_of_wilson() -> None:
    # 10 of 100: the upper end of the 90 % interval, as R's prop.test(10, 100, conf.level=.9, correct=FALSE) gives it.
    assert upper_bound(10, 100) == pytest.approx(0.1604, abs=5e-4)
    assert upper_bound(0, 0) == 1.0
    assert upper_bound(60, 60) == pytest.approx(1.0)


def test_a_watch_starts_from_the_sample() -> None:
    choice = Choice(size=10, reason="", measured=(Measured(size=10, rows=60, differing=0),))
    watch = Watch(AutoGroup(check_every=3), choice)
    assert [watch.due() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert not any(watch.saw(agrees=True, size=10) for _ in range(40))
    assert not watch.saw(agrees=False, size=10)  # one of a hundred
    assert watch.saw(agrees=False, size=10)
    assert not watch.saw(agrees=True, size=5)  # which was never measured


def test_free_texts_are_compared_only_where_there_is_nothing_else() -> None:
    one = Mood(review="a", why="this", mood="glad")
    assert same_output(one, Mood(review="a", why="that", mood="glad"))
    assert not same_output(one, Mood(review="a", why="this", mood="angry"))

    class Plain(BaseModel):
        text: str

    assert same_output(Plain(text="Oh, yes!"), Plain(text="oh yes"))
    assert not same_output(Plain(text="yes"), Plain(text="no"))
    assert same_output("Chat", "chat")
    assert not same_output(["a"], ["b"])
    assert AutoGroup(same=lambda one, other: True).agrees(1, 2)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0}, {"epsilon": 1.5}, {"sample": 20}, {"sizes": ()}, {"sizes": (1,)}, {"check_every": 0}]
)
def test_an_auto_group_that_cannot_work_reports_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="AutoGroup"):
        AutoGroup(**wrong)
