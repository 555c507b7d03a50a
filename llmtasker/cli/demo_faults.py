"""The second part of the demo: the same messages over a failing server, stopped halfway and resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from llmtasker.cache import MemoryCache
from llmtasker.cli.demo_task import EXAMPLES, Triage
from llmtasker.llm.limits import Retry
from llmtasker.llm.llm import LLM
from llmtasker.results import Results
from llmtasker.task import Task
from llmtasker.testing import FaultyServer, Malformed, Status

REFUSED, BROKEN = 0.1, 0.2  # the share of calls that get a 503, and of answers that are not valid JSON


class Healed(NamedTuple):
    """The outcome of a run over a failing server."""

    results: Results[Triage]
    stopped_after: int
    refused: int
    asked_again: int


def run_over_faults(rows: list[dict[str, Any]], answers: Mapping[str, str]) -> Healed:
    """Run the messages over a loopback server that gives `answers` (message → team), and stop once halfway."""
    faults = [Status(status=503, share=REFUSED), Malformed(share=BROKEN)]

    def answer(body: dict[str, Any]) -> dict[str, str]:
        asked = (answers.get(message["content"]) for message in reversed(body["messages"]))
        return {"team": next(team for team in asked if team)}

    with FaultyServer(answer, faults=faults, seed=7) as server:
        llm = LLM("demo", base_url=server.base_url, api_key="none", cache=MemoryCache(), retry=Retry(backoff=0.01))
        with llm:
            task = Task(Triage, llm=llm, examples=EXAMPLES)
            stopped_after = len(rows) // 2
            for count, _ in enumerate(task.stream(rows, concurrency=8), start=1):
                if count == stopped_after:
                    break
            results = task.run(rows, progress=False)
        refused = faults[0].hits
        return Healed(results, stopped_after, refused, server.counters.requests - refused - len(rows))
