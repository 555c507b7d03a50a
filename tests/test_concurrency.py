"""How many rows are in flight, for every way of asking many: it is the same default everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow as pa
import pytest
from served import Served

from llmtasker import LLM, CallSettings, InputField, OutputField, Signature, Task, pipeline
from llmtasker.api import ServerSettings, create_app
from llmtasker.cli.app import main
from llmtasker.evaluation import evaluate, judge
from llmtasker.integrations.langchain import as_runnable
from llmtasker.integrations.partitions import PartitionTask
from llmtasker.integrations.ray import TaskWorker
from llmtasker.integrations.sklearn import LLMClassifier
from llmtasker.optimizers import LabeledFewShot, optimize
from llmtasker.testing import FakeTransport, answer_for
from llmtasker.wire.request import Request

TEXTS = [f"message {number}" for number in range(60)]
GOLD = [{"message": text, "team": "billing"} for text in TEXTS]


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


class Checked(Signature):
    """Say whether the team is right."""

    message: str = InputField()
    team: str = InputField()
    fine: bool = OutputField()


class Patient(FakeTransport):
    """Answers when as many calls are in flight as are expected, and those had time that should not be."""

    def __init__(self, expected: int) -> None:
        super().__init__(self._answer, keep_requests=False)
        self._expected, self._full = expected, asyncio.Event()

    async def _answer(self, request: Request) -> Any:
        if self.in_flight >= self._expected:
            self._full.set()
        with contextlib.suppress(TimeoutError):  # too few: the test says so
            await asyncio.wait_for(self._full.wait(), 10)
        for _ in range(20):
            await asyncio.sleep(0)
        return answer_for(request)


Asked: TypeAlias = dict[str, Any]
"""The arguments that say how many: `concurrency`, or none."""


def triage(llm: LLM) -> Task[Triage]:
    return Task(Triage, llm=llm)


async def streamed(task: Any, asked: Asked) -> None:
    async for _ in task.astream(TEXTS, **asked):
        pass


def of_two(llm: LLM, asked: Asked) -> None:
    """Run a pipeline over tasks with two LLMs, of which one is in another pipeline, and one has no limit."""
    first, second = triage(llm), {"checked": Task(Checked, llm=LLM(transport=FakeTransport(), cache=False))}

    @pipeline
    async def inner(message: str) -> str:
        return (await first.acall(message)).value.team

    @pipeline
    async def outer(message: str) -> bool:
        team = (await inner.acall(message)).value
        return (await second["checked"].acall(message=message, team=team)).value.fine

    outer.run(TEXTS, progress=False, **asked)


def optimized(llm: LLM, asked: Asked) -> None:
    train = [{"message": f"train {number}", "team": "billing"} for number in range(60)]
    optimize(triage(llm), LabeledFewShot(), train=train, val=GOLD, test=[{**GOLD[0], "message": "test"}], **asked)


def judged(llm: LLM, asked: Asked) -> None:
    offline = triage(LLM("offline"))
    evaluate(offline, GOLD, metrics={"fine": judge(Task(Checked, llm=llm))}, progress=False, **asked)


def on_a_worker_of_ray(llm: LLM, asked: Asked) -> None:
    part = PartitionTask(triage(llm), **asked)
    worker = TaskWorker(part, "row", None, 1.0, None)
    asyncio.run(worker(pa.table({"row": list(range(len(TEXTS))), "message": TEXTS})))


def classified(llm: LLM, asked: Asked) -> None:
    LLMClassifier(llm=llm, examples=1, **asked).fit(TEXTS, ["cat", "dog"] * 30).predict(TEXTS)


def tagged(llm: LLM, asked: Asked) -> None:
    """Run a batch whose inputs have different tags, so that each is a run of its own."""
    configs: list[Any] = [{"tags": [text]} for text in TEXTS]
    as_runnable(triage(llm), **asked).batch(TEXTS, configs)


def served(llm: LLM, asked: Asked, ask: Callable[[Served], object]) -> None:
    tasks: dict[str, Any] = {"triage": triage(llm)}
    with TemporaryDirectory() as folder:
        running = Served(create_app(tasks, ServerSettings(open=True, jobs=f"{folder}/jobs.db", llm=llm, **asked)))
        try:
            ask(running)
        finally:
            running.close()


def as_job(running: Served) -> None:
    job = running.client.post("/tasks/triage/jobs", json={"rows": GOLD}).raise_for_status().json()
    assert running.done(job["id"])["ok"] == len(GOLD)


def described(running: Served) -> None:
    about = {"labels": ["cat", "dog"], "inputs": TEXTS}
    running.client.post("/v1/classification", json=about).raise_for_status()


def typed(llm: LLM, asked: Asked, command: Sequence[str]) -> None:
    """Type a command over a file whose task has the LLM."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder, "in.csv").write_text("message,gold\n" + "".join(f"{text},billing\n" for text in TEXTS), "utf-8")
        module = ModuleType("tasks_of_this_test")
        module.__dict__["triage"] = triage(llm)
        patch.setitem(sys.modules, module.__name__, module)
        options = [f"--{name}={value}" for name, value in asked.items()]
        patch.setattr(sys, "argv", ["llmtasker", command[0], "tasks_of_this_test:triage", *command[1:], *options])
        patch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code


WAYS: dict[str, Callable[[LLM, Asked], object]] = {
    "run": lambda llm, asked: triage(llm).run(TEXTS, progress=False, **asked),
    "arun": lambda llm, asked: asyncio.run(triage(llm).arun(TEXTS, progress=False, **asked)),
    "stream": lambda llm, asked: list(triage(llm).stream(iter(TEXTS), **asked)),
    "astream": lambda llm, asked: asyncio.run(streamed(triage(llm), asked)),
    "run, the LLM in its settings": lambda llm, asked: triage(LLM("offline")).run(
        TEXTS, settings=CallSettings(llm=llm), progress=False, **asked
    ),
    "pipeline": of_two,
    "evaluate": lambda llm, asked: evaluate(triage(llm), GOLD, progress=False, **asked),
    "judge": judged,
    "optimize": optimized,
    "PartitionTask": lambda llm, asked: PartitionTask(triage(llm), **asked)(pd.DataFrame({"message": TEXTS})),
    "Ray": on_a_worker_of_ray,
    "scikit-learn": classified,
    "LangChain": lambda llm, asked: as_runnable(triage(llm), **asked).batch(TEXTS),
    "LangChain, with tags": tagged,
    "job": lambda llm, asked: served(llm, asked, as_job),
    "POST /tasks/…/stream": lambda llm, asked: served(
        llm, asked, lambda running: running.client.post("/tasks/triage/stream", json=TEXTS).raise_for_status()
    ),
    "POST /v1/classification": lambda llm, asked: served(llm, asked, described),
    "llmtasker run": lambda llm, asked: typed(llm, asked, ["run", "in.csv", "-o", "out.csv"]),
}


@pytest.mark.parametrize(
    ("most", "concurrency", "in_flight"),
    [(48, None, 48), (4, None, 4), (None, None, 32), (48, 7, 7)],
    ids=["a larger limit", "a smaller limit", "no limit", "given"],
)
@pytest.mark.parametrize("way", WAYS)
def test_as_many_are_in_flight_as_the_llm_may_have(
    way: str, most: int | None, concurrency: int | None, in_flight: int
) -> None:
    transport = Patient(in_flight)
    WAYS[way](
        LLM(transport=transport, cache=False, max_concurrency=most),
        {} if concurrency is None else {"concurrency": concurrency},
    )
    assert transport.max_in_flight == in_flight
