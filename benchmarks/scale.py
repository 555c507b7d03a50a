"""CPU and memory a row as runs grow, through a transport in the process: what llmtasker itself costs.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--check]

Each length runs in its own process: `stream` over a generator, without a cache and, for up to 100,000 rows, with
one: first filled, then answered from it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from contenders import EXAMPLES, Triage

from llmtasker import LLM, Task
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import Request

CACHED_ROWS = 100_000
MOST_CPU, MOST_GROWTH, LEAST_CACHED, FLAT = 150.0, 50.0, 5000, 1.10


class Instant:
    """Answers every request at once with the same call, after writing the body as a real transport would."""

    endpoint = "instant"
    model = "instant"

    def __init__(self) -> None:
        call = ToolCall(name="Triage", arguments='{"team":"billing"}', id="call00001")
        self.answer = Completion(tool_calls=(call,), finish_reason="tool_calls", usage=Usage(input=300, output=8))

    def send(self, request: Request) -> Completion:
        """Answer."""
        assert request.content
        return self.answer

    async def asend(self, request: Request) -> Completion:
        """Answer."""
        assert request.content
        return self.answer

    def close(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


def texts(rows: int) -> Iterator[str]:
    """Yield distinct messages."""
    for number in range(rows):
        yield f"Message {number}: my parcel is late again and nobody answers the phone"


def one(rows: int, cache: str) -> dict[str, float]:
    """Return µs of CPU a row and MB of growth for one stream."""
    task = Task(Triage, llm=LLM(transport=Instant(), cache=cache or False), examples=EXAMPLES)
    assert sum(item.ok for item in task.stream(texts(1000), concurrency=32)) == 1000
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert sum(item.ok for item in task.stream(texts(rows), concurrency=32)) == rows
    seconds = time.process_time() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"microseconds": seconds / rows * 1e6, "megabytes": grown / 1024}


def measured(rows: int, cache: str = "") -> dict[str, float]:
    """Return the line that `one` prints in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(rows), "--cache", cache], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.cache)))
        return
    missed = False
    costs = []
    for rows in arguments.rows:
        found = measured(rows)
        costs.append(found["microseconds"])
        print(f"{rows:9,} rows, no cache     {found['microseconds']:6.1f} µs a row   + {found['megabytes']:5.1f} MB")
        missed = missed or found["microseconds"] > MOST_CPU or found["megabytes"] > MOST_GROWTH
        if rows <= CACHED_ROWS:
            with tempfile.TemporaryDirectory() as folder:
                for state in ("filling", "cached"):
                    found = measured(rows, folder)
                    rate = 1e6 / found["microseconds"]
                    print(
                        f"{rows:9,} rows, {state:12} {found['microseconds']:6.1f} µs a row   {rate:6,.0f} rows/s a core"
                    )
                missed = missed or rate < LEAST_CACHED
    missed = missed or costs[-1] > costs[0] * FLAT
    if arguments.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
