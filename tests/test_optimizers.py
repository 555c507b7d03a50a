"""Searches: their results, the limits on their claims and costs, and that they resume where they stopped."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import sys
import threading
from collections.abc import Mapping
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import obedient
import pytest
from gepa.core.state import GEPAState

from llmtasker import (
    LLM,
    Budget,
    Classification,
    ConfigurationError,
    InputField,
    Instruction,
    OutputField,
    Signature,
    Task,
)
from llmtasker.cli.app import main
from llmtasker.errors import NetworkError
from llmtasker.optimizers import (
    GEPA,
    BootstrapFewShot,
    InstructionSearch,
    LabelDescriptions,
    LabeledFewShot,
    Optimizer,
    aoptimize,
    estimate_search,
    optimize,
)
from llmtasker.optimizers.few_shot import draws
from llmtasker.optimizers.instruction_search import reworded
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

WORDS = "Sort into:\n{classes}"


def sets(train: int = 30, val: int = 20, test: int = 40, seed: int = 1) -> dict[str, Any]:
    sizes = {"train": train, "val": val, "test": test}
    return {name: obedient.rows(count, 10 * seed + at) for at, (name, count) in enumerate(sizes.items())}


def task_of(answers: Any = obedient.both, cache: Any = False, **options: Any) -> tuple[Classification, FakeTransport]:
    fake = FakeTransport(answers)
    if cache is not False:
        fake.cacheable = True
    llm = LLM(transport=fake, cache=cache)
    options = {"labels": obedient.LABELS, "instructions": WORDS, **options}
    return Classification(llm=llm, **options), fake


# ── results ──


@pytest.mark.parametrize("optimizer", [InstructionSearch(), GEPA(calls=150)], ids=["InstructionSearch", "GEPA"])
def test_three_missing_rules_are_found_in_150_calls(optimizer: Optimizer) -> None:
    task, fake = task_of()
    found = optimize(task, optimizer, **sets())
    assert all(f"{word} -> {label}" in found.task.signature.instructions for word, label in obedient.RULES.items())
    assert fake.calls - 80 <= 150
    assert found.better
    assert found.report.comparison is not None
    assert found.report.comparison.better
    assert "B is better by" in str(found.report)
    assert "{classes}" in found.task.signature.instructions


def by_example(request: Request) -> dict[str, str]:
    """An LLM that knows the label of a word only from an example in the prompt."""
    *before, last = request.messages
    word = str(last["content"]).rpartition(" ")[2]
    asked = [str(one["content"]) for one in before]
    known = {text.rpartition(" ")[2]: answer for text, answer in pairwise(asked)}
    label = known.get(word, "other")
    return {"label": label if label in obedient.LABELS else "other"}


def test_examples_are_found() -> None:
    task, _ = task_of(by_example)
    found = optimize(task, LabeledFewShot(k=4, sets=3), **sets())
    assert found.better
    assert len(found.task.plan.examples) == 4


def test_answers_of_a_teacher_become_examples() -> None:
    teacher = LLM(transport=FakeTransport(lambda request: {"label": right(request)}), cache=False)
    task, _ = task_of(by_example)
    found = optimize(task, BootstrapFewShot(k=4, sets=3, teacher=teacher), **sets())
    assert found.better
    # Without a teacher, only rows that the task itself answers correctly can be shown.
    itself = optimize(task, BootstrapFewShot(k=4, sets=3), **sets())
    assert not itself.better
    assert itself.task is task


def right(request: Request) -> str:
    return obedient.RULES.get(last_user_text(request).rpartition(" ")[2], "other")


class Ticket(Signature):
    """Sort."""

    text: str = InputField()
    label: Literal["billing", "delivery", "access", "other"] = OutputField()
    why: str = OutputField(default="")


def test_answers_become_examples_with_their_reasoning() -> None:
    fake = FakeTransport(lambda request: {"reasoning": "so", "label": right(request), "why": "it says so"})
    task = Task(Ticket, llm=LLM(transport=fake, cache=False), reasoning=True)
    report = optimize(task, BootstrapFewShot(k=2, sets=1), **sets()).report
    example = report.trials[1].task.plan.examples[0]
    assert (example["reasoning"], example["why"]) == ("so", "it says so")


def describes(request: Request) -> dict[str, Any]:
    """An LLM that confuses two labels until one is described, and that describes it."""
    text = last_user_text(request)
    if "<mistakes>" in text:
        labels = re.findall(r"- (\w+):", text)
        return {"meanings": [{"label": label, "meaning": f"is for {label}"} for label in labels]}
    label = right(request)
    confused = label == "delivery" and "is for delivery" not in json.dumps(request.messages)
    return {"label": "billing" if confused else label}


@pytest.mark.parametrize("kind", ["classification", "signature"])
def test_labels_that_are_confused_get_descriptions(kind: str, tmp_path: Path) -> None:
    task: Task[Any] = task_of(describes)[0]
    if kind == "signature":
        task = Task(Ticket, llm=task.llm)
    found = optimize(task, LabelDescriptions(), **sets())
    assert found.better
    found.task.save(tmp_path / "task.json")
    load: Any = Classification.load if kind == "classification" else Task.load
    options = {} if kind == "classification" else {"signature": Ticket}
    again = load(tmp_path / "task.json", llm=task.llm, **options)
    text = "message 1 about the parcel"
    assert again.preview(text).request.key == found.task.preview(text).request.key


# ── false claims ──


def test_without_proof_the_task_that_came_in_is_kept() -> None:
    """A candidate that is better on the rows of the search by chance alone is not taken."""
    rows = sets(test=40)
    lucky = {row["text"] for row in rows["val"]}

    def answer(request: Request) -> dict[str, str]:
        examples = len(request.messages) > 2
        text = last_user_text(request)
        return {"label": right(request) if examples and text in lucky else "other"}

    task, _ = task_of(answer)
    found = optimize(task, LabeledFewShot(k=2, sets=2), **rows)
    assert found.task is task
    assert not found.better
    assert found.report.candidate is not task
    assert "no difference is shown" in found.report.reason
    assert "is kept" in found.report.reason


def test_searches_with_nothing_to_find_claim_nothing() -> None:
    def by_chance(request: Request) -> dict[str, str]:
        drawn = hash_of(str(request.messages))
        return {"label": right(request) if drawn % 10 < 7 else "nothing"}

    claimed = 0
    for seed in range(12):
        task, _ = task_of(by_chance, labels=[*obedient.LABELS, "nothing"], attempts=1)
        claimed += optimize(
            task, LabeledFewShot(k=3, sets=4), **sets(seed=seed, train=12, val=12, test=40), seed=seed
        ).better
    assert claimed <= 1


def hash_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def test_the_search_does_not_see_the_test_rows() -> None:
    task, fake = task_of()
    rows = sets()
    found = optimize(task, InstructionSearch(), **rows)
    test = {row["text"] for row in rows["test"]}
    asked = [last_user_text(request) for request in fake.requests]
    first = next(at for at, text in enumerate(asked) if text in test)
    assert set(asked[first:]) == test
    assert len(asked[first:]) == 2 * len(test)
    assert not any(text in found.task.signature.instructions for text in test)


def test_nothing_better_on_the_rows_of_the_search_costs_no_test() -> None:
    task, fake = task_of({"label": "other"})
    found = optimize(task, LabeledFewShot(k=2, sets=2), **sets())
    assert found.task is task
    assert found.report.comparison is None
    assert fake.calls == 3 * 20
    assert "No candidate was better" in str(found.report)


# ── failed calls ──


def test_failed_calls_are_not_zeros() -> None:
    """A fifth of the calls fail for the candidate only: it is still better on the rows that were judged."""

    def answer(request: Request) -> Any:
        text = last_user_text(request)
        if len(request.messages) > 2 and hash_of(text) % 8 == 0:
            return NetworkError("the connection was reset")
        return by_example(request)

    task, _ = task_of(answer)
    task.llm.retry = type(task.llm.retry)(attempts=1)
    found = optimize(task, LabeledFewShot(k=4, sets=2), **sets(test=60))
    best = max(found.report.trials, key=lambda trial: trial.score)
    assert best.score == 1.0
    assert best.rows < 20


def test_an_endpoint_that_fails_ends_the_search() -> None:
    task, _ = task_of(NetworkError("the connection was reset"))
    task.llm.retry = type(task.llm.retry)(attempts=1)
    found = optimize(task, LabeledFewShot(k=2, sets=2), **sets(train=4, val=4, test=4))
    assert found.task is task
    assert "calls fail" in str(found.report)


# ── budget, estimate, resume ──


@pytest.mark.parametrize(
    "optimizer", [InstructionSearch(), GEPA(), LabeledFewShot(), BootstrapFewShot(), LabelDescriptions()]
)
@pytest.mark.parametrize("calls", [81, 110, 160])
def test_the_budget_is_a_hard_limit_and_the_test_is_paid_for(optimizer: Optimizer, calls: int) -> None:
    def answer(request: Request) -> Any:
        text = last_user_text(request)
        if "<confused" in text or "<labels>" in text:
            return {"meanings": []}
        return obedient.both(request)

    task, fake = task_of(answer)
    budget = Budget(calls=calls)
    found = optimize(task, optimizer, **sets(), budget=budget)
    assert fake.calls == budget.spent["calls"] <= calls
    assert found.report.spent["calls"] == fake.calls
    if found.report.before is not None and found.report.after is not None:
        assert not {**found.report.before.failures, **found.report.after.failures}


def test_a_budget_that_does_not_cover_the_test_is_refused_before_any_call() -> None:
    task, fake = task_of()
    with pytest.raises(ConfigurationError, match="60 calls left, and the test alone may take 80"):
        optimize(task, InstructionSearch(), **sets(), budget=Budget(calls=60))
    assert fake.calls == 0


def test_the_estimate_comes_before_the_first_call() -> None:
    task, fake = task_of()
    lines = list[tuple[int, str]]()
    estimate = estimate_search(task, LabeledFewShot(k=2, sets=2), **sets())
    optimize(task, LabeledFewShot(k=2, sets=2), **sets(), progress=lambda line: lines.append((fake.calls, line)))
    assert lines[0] == (0, str(estimate))
    assert estimate.calls == 20 + 2 * 20 + 2 * 40
    assert fake.calls <= estimate.calls
    assert [line.partition(":")[0] for _, line in lines[1:]] == [
        "the original task",
        "set 1, 2 labelled rows",
        "set 2, 2 labelled rows",
    ]


@pytest.mark.parametrize("optimizer", [InstructionSearch(), GEPA(calls=150)], ids=["InstructionSearch", "GEPA"])
def test_a_search_continues_where_it_was_stopped(optimizer: Optimizer, tmp_path: Path) -> None:
    whole, fake = task_of(cache=tmp_path / "whole")
    found = optimize(whole, optimizer, **sets())
    calls = fake.calls
    stopped, first = task_of(cache=tmp_path / "cache")
    short = optimize(stopped, optimizer, **sets(), budget=Budget(calls=130))
    assert short.report.ended == "the budget is used up"
    again, second = task_of(cache=tmp_path / "cache")
    resumed = optimize(again, optimizer, **sets())
    assert resumed.task.signature.instructions == found.task.signature.instructions
    assert first.calls + second.calls <= calls + 80  # the short one had a test of its own
    third, none = task_of(cache=tmp_path / "cache")
    assert optimize(third, optimizer, **sets()).better
    assert none.calls == 0


def test_no_file_is_written_or_read_by_gepa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("gepa used a file")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GEPAState, "load", refuse)
    for name in ("load", "loads", "dump"):
        monkeypatch.setattr(pickle, name, refuse)
    assert optimize(task_of()[0], GEPA(calls=150), **sets()).better
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(ConfigurationError, match=r"llmtasker\[gepa\]"):
        optimize(task_of()[0], GEPA(), **sets())


# ── mistakes ──


def test_rows_of_train_in_test_are_refused_with_their_number() -> None:
    task, fake = task_of()
    rows = sets()
    for one, other in (("train", "test"), ("val", "test"), ("train", "val")):
        mixed = {**rows, other: [*rows[other], *rows[one][:3]]}
        with pytest.raises(ConfigurationError, match=f"3 of .* rows of {other} are in {one} too, the first with '"):
            optimize(task, LabeledFewShot(), **mixed)
    assert fake.calls == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": [{"text": "a", "label": "tiger"}]}, "train: gold row 1.*tiger"),
        ({"test": []}, "test: there are no gold rows"),
        ({"train": [{"text": "a", "label": "other"}], "val": None}, "at least two"),
        ({"metric": "labl"}, "labl"),
        ({"metrc": "label"}, "metrc"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_mistakes_are_named_before_any_call(change: Mapping[str, Any], message: str) -> None:
    task, fake = task_of()
    with pytest.raises(ConfigurationError, match=message):
        optimize(task, LabeledFewShot(), **{**sets(), **change})
    assert fake.calls == 0


def test_what_an_optimizer_cannot_improve_is_named() -> None:
    summary = Instruction(llm="offline", instructions="Sum up.")
    rows = {name: [{"text": f"{name} {at}", "result": "a"} for at in range(3)] for name in ("train", "test")}
    with pytest.raises(ConfigurationError, match="labels"):
        optimize(summary, LabelDescriptions(), **rows)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="at least 1"):
        LabeledFewShot(k=0)
    task, fake = task_of()
    whole = Task(Ticket.with_fields(note=(str, OutputField())), llm=task.llm)
    with pytest.raises(ConfigurationError, match=r"no column for note.*BootstrapFewShot"):
        optimize(whole, LabeledFewShot(), **sets())
    notes = {name: [{"text": row["text"], "note": "a"} for row in part] for name, part in sets().items()}
    with pytest.raises(ConfigurationError, match="no column for label"):
        optimize(whole, LabelDescriptions(), **notes)  # type: ignore[arg-type]
    assert fake.calls == 0

    wrong: Any = "triage"
    with pytest.raises(ConfigurationError, match="a task or a pipeline can be optimized, not 'triage'"):
        optimize(wrong, LabeledFewShot(), **rows)


def test_val_is_half_of_train_if_it_is_not_given() -> None:
    task, _ = task_of()
    rows = sets()
    found = optimize(task, LabeledFewShot(k=2, sets=1), train=rows["train"], test=rows["test"])
    assert found.report.trials[0].rows == 15


def test_instructions_that_lose_a_variable_are_dropped() -> None:
    task, _ = task_of()
    assert reworded(task, "Sort.") is None
    assert reworded(task, "Sort into {classes} and {tiger}.") is None
    assert reworded(task, 'Sort into {classes}, as {"label": "…"}.') is not None


def test_sets_differ_are_the_same_in_every_run_and_show_each_label_first() -> None:
    shown = [({"text": str(number)}, str(number % 3)) for number in range(30)]
    first = list(draws(shown, 6, 5, seed=0))
    assert first == list(draws(shown, 6, 5, seed=0)) != list(draws(shown, 6, 5, seed=1))
    assert len({str(one) for one in first}) == 5
    for one in first:
        assert sorted(int(example["text"]) % 3 for example in one) == [0, 0, 1, 1, 2, 2]


def test_own_metrics_count() -> None:
    task, _ = task_of(by_example)
    metrics = {"strict": lambda gold, item: item.output == gold.label}
    found = optimize(task, LabeledFewShot(k=4, sets=2), **sets(), metrics=metrics, metric="strict")
    assert found.report.comparison is not None
    assert found.report.comparison.name == "strict"


# ── the command line ──


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    files = [*obedient.write_sets(sets(train=20, val=20, test=40)), "--out", "better.json"]
    Path("sort.py").write_text(
        "from llmtasker import Classification, LLM\n"
        f"task = Classification(llm=LLM('offline', cache=False), labels={obedient.LABELS!r})\n"
    )
    monkeypatch.setattr(
        "sys.argv", ["llmtasker", "optimize", "sort.py:task", *files, "--with", "examples", "--calls", "1000"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown
    assert "at most" in shown.err
    assert "B is better by" in shown.out
    assert Classification.load("better.json", llm="offline")("about the parcel").output == "delivery"


def test_the_async_form_finds_the_same() -> None:
    task, _ = task_of()
    search, rows = LabeledFewShot(k=2, sets=2), sets()
    found = asyncio.run(aoptimize(task, search, **rows))
    assert [trial.score for trial in found.report.trials] == [
        trial.score for trial in optimize(task, search, **rows).report.trials
    ]


def test_a_cancelled_search_asks_nothing_more() -> None:
    task, fake = task_of()

    async def cancelled() -> None:
        loop, ended = asyncio.get_running_loop(), threading.Event()

        def cancel(_line: str) -> None:
            loop.call_soon_threadsafe(searching.cancel)
            assert ended.wait(10)

        searching = asyncio.ensure_future(aoptimize(task, LabeledFewShot(), progress=cancel, **sets()))
        with pytest.raises(asyncio.CancelledError):
            await searching
        ended.set()

    asyncio.run(cancelled())
    assert fake.calls == 0, "it was cancelled where the estimate is told, before the first call"
