"""CPU of the cache: batches of look-ups, writes and leases, and a lone `acall` that the cache answers.

    python benchmarks/cache.py [--rounds 7] [--rows 2000]

CPU is counted for the whole process, threads included, in µs a row; the least of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable
from typing import Literal

from llmtasker import LLM, DiskCache, InputField, OutputField, Signature, Task
from llmtasker.testing import FakeTransport

TEXT = '{"text":"' + "x" * 300 + '"}'
BATCH = 250


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = OutputField(description="who takes it")


def cpu(action: Callable[[], object], rows: int, rounds: int) -> float:
    """Return µs of CPU a row: the least of the rounds, which other programs disturbed least."""
    found = []
    for _ in range(rounds):
        before = time.process_time_ns()
        action()
        found.append((time.process_time_ns() - before) / 1e3 / rows)
    return min(found)


def batches(cache: DiskCache, rows: int, rounds: int) -> dict[str, float]:
    """Return what look-ups, leases and writes of rows take, in batches."""
    numbers = itertools.count()
    keys = [f"{number:064x}" for number in range(rows)]
    cache.put_many([(key, TEXT) for key in keys])
    starts = range(0, rows, BATCH)

    def fresh() -> list[str]:
        return [f"{next(numbers):08x}{'f' * 56}" for _ in range(BATCH)]

    leased: list[list[str]] = []

    def lease() -> None:
        for _ in starts:
            leased.append(some := fresh())
            cache.lease_many(some)

    return {
        "get": cpu(lambda: [cache.get_many(keys[start : start + BATCH]) for start in starts], rows, rounds),
        "put": cpu(lambda: [cache.put_many([(key, TEXT) for key in fresh()]) for _ in starts], rows, rounds),
        "lease": cpu(lease, rows, rounds),
        "put that ends a lease": cpu(
            lambda: [cache.put_many([(key, TEXT) for key in leased.pop()]) for _ in starts], rows, rounds
        ),
    }


def lone_hit(folder: str, rounds: int) -> dict[str, float]:
    """Return what one call takes that the cache answers, awaited and blocking."""
    llm = LLM(transport=FakeTransport({"team": "other"}), cache=folder)
    task = Task(Triage, llm=llm, mode="tools")
    task("Where is my parcel?")

    async def many() -> float:
        await task.acall("Where is my parcel?")
        before = time.process_time_ns()
        for _ in range(1000):
            item = await task.acall("Where is my parcel?")
        assert item.cached
        return (time.process_time_ns() - before) / 1e6

    return {
        "lone acall hit": min(asyncio.run(many()) for _ in range(rounds)),
        "lone blocking hit": cpu(lambda: [task("Where is my parcel?") for _ in range(1000)], 1000, rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = DiskCache(f"{folder}/a")
        found = batches(cache, options.rows, options.rounds)
        cache.close()
        found |= lone_hit(f"{folder}/b", options.rounds)
    for name, value in found.items():
        print(f"{name:24}{value:8.1f} µs")


if __name__ == "__main__":
    main()
