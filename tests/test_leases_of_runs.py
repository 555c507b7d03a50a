"""Leases of runs: the rows of a run that was left in the middle can be asked again at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.cache import DiskCache
from llmtasker.testing import FaultyServer


class Mood(Signature):
    """Say how the customer feels."""

    review: str = InputField()
    mood: Literal["glad", "angry"] = OutputField()


@pytest.mark.parametrize("left_after", [1, 7, 20, 33])
@pytest.mark.parametrize("group_size", [1, 4])
def test_a_stream_that_was_left_keeps_no_lease(tmp_path: Path, left_after: int, group_size: int) -> None:
    rows = [f"review {number}" for number in range(40)]
    # Waiting for a lease that is never released would take ten minutes: the clock of this cache does not move.
    store = DiskCache(tmp_path / "cache", clock=lambda: 1_700_000_000.0)
    with FaultyServer() as server, LLM("m", base_url=server.base_url, api_key="x", cache=store, timeout=20) as llm:
        mood = Task(Mood, llm=llm, group_size=group_size)
        for count, _ in enumerate(mood.stream(rows, concurrency=8), start=1):
            if count == left_after:
                break
        assert mood.run(rows).counts["ok"] == 40
        assert server.counters.requests <= 40 + 8
    store.close()
