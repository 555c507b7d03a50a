"""Count the moves between files of one call, which a reader follows and Python pays for, for one row.

    python benchmarks/moves.py [--where] [--no-cache] [--json]

A move is two consecutive calls of functions of the package, of all threads in one sequence, that are in different
files; a generator or coroutine that goes on counts as called again. Comprehensions are left out, and so is
`llmtasker/testing` with all that it calls, because that is the server. Each case is measured warm, with an input that
is new, against a local server. `--where` lists the pairs of files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

CODE = dict[CodeType, str | None]
_calls: list[str] = []
_counting = False
_known: CODE = {}


def _profile(frame: FrameType, event: str, _: Any) -> None:
    if not _counting or event != "call":
        return
    code = frame.f_code
    place = _known[code] if code in _known else _known.setdefault(code, _place(code))
    if place is not None and not _is_of_server(frame):
        _calls.append(place)


def _is_of_server(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_TESTING):
            return True
        frame = frame.f_back
    return False


sys.setprofile(_profile)
threading.setprofile(_profile)  # before any thread of the package begins

import llmtasker  # noqa: E402
from llmtasker import LLM, InputField, OutputField, Signature, Task  # noqa: E402
from llmtasker.testing import FaultyServer  # noqa: E402

PACKAGE = Path(llmtasker.__file__).parent
_TESTING = str(PACKAGE / "testing") + os.sep
LIMITS = {"a call": 90, "run of 1 row": 120, "group of 3 rows": 300}
ROUNDS = 5


def _place(code: CodeType) -> str | None:
    path = Path(code.co_filename)
    if code.co_name in {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"} or not path.is_relative_to(PACKAGE):
        return None
    return path.relative_to(PACKAGE).as_posix()


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = OutputField(description="who takes it")


def moves(action: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the moves that an action takes, as pairs of files."""
    global _counting  # noqa: PLW0603 - the profiler runs in every thread
    _calls.clear()
    _counting = True
    try:
        action()
    finally:
        _counting = False
    return [(one, other) for one, other in pairwise(_calls) if one != other]


def measure(*, cached: bool = True, rounds: int = ROUNDS) -> dict[str, list[tuple[str, str]]]:
    """Return the moves of each case: of its rounds, the one with the median number."""
    numbers = count()

    def text() -> str:
        return f"{next(numbers)} is the number of my order, which has not come"

    with FaultyServer() as server:
        llm = LLM(f"{server.base_url}#some-model", api_key="none", cache=cached, max_concurrency=64)
        task, grouped = Task(Triage, llm=llm), Task(Triage, llm=llm, group_size=3)
        cases: dict[str, Callable[[], Any]] = {
            "a call": lambda: [task(text())],
            "run of 1 row": lambda: task.run([text()]),
            "group of 3 rows": lambda: grouped.run([text(), text(), text()]),
        }
        found: dict[str, list[tuple[str, str]]] = {}
        for name, action in cases.items():
            for _ in range(3):
                assert all(item.ok for item in action()), name
            taken = sorted((moves(action) for _ in range(rounds)), key=len)
            found[name] = taken[len(taken) // 2]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", action="store_true", help="list the pairs of files")
    parser.add_argument("--no-cache", action="store_true", help="without a cache; else nothing is found in it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(cached=not arguments.no_cache)
    if arguments.json:
        print(json.dumps({name: len(pairs) for name, pairs in found.items()}))
        return
    for name, pairs in found.items():
        files = {place for pair in pairs for place in pair}
        print(f"{name:16} {len(pairs):4} moves between {len(files)} files (at most {LIMITS[name]})")
        if arguments.where:
            for (one, other), times in Counter(pairs).most_common():
                print(f"    {times:3}  {one} → {other}")


if __name__ == "__main__":
    main()
