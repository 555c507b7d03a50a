"""CPU of whole processes: imports, a task that is only declared, an answer that the cache has."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

_TRIAGE = """
from typing import Literal
from llmtasker import LLM, InputField, OutputField, Signature, Task

class Triage(Signature):
    "Route a customer message to the team that can solve it."
    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = OutputField(description="who takes it")

examples = [Triage(message="I was charged twice.", team="billing")]
"""
_DSPY = """
import dspy
from typing import Literal

class Triage(dspy.Signature):
    "Route a customer message to the team that can solve it."
    message: str = dspy.InputField(desc="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = dspy.OutputField(desc="who takes it")

predict = dspy.Predict(Triage)
predict.demos = [dspy.Example(message="I was charged twice.", team="billing")]
"""

# What any process with a model of Pydantic costs, so no process with a signature can be cheaper.
_FLOOR = """
from typing import Literal
from pydantic import BaseModel, Field

class Triage(BaseModel):
    "Route a customer message to the team that can solve it."
    message: str = Field(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = Field(description="who takes it")

examples = [Triage(message="I was charged twice.", team="billing")]
"""

PROGRAMS = {
    "import pydantic": "import pydantic",
    "floor: a class of Pydantic": _FLOOR,
    "import llmtasker": "import llmtasker",
    "import Task, Signature": "from llmtasker import Task, Signature",
    "process: offline task declared": f"{_TRIAGE}\nTask(Triage, llm='offline', examples=examples)",
    "process: answered from cache": f"""{_TRIAGE}
import sys
llm = LLM("some-model", base_url=sys.argv[1], api_key="none")
item = Task(Triage, llm=llm, examples=examples, mode="tools")("Where is my parcel?").raise_for_error()
""",
    "import dspy": "import dspy",
    "process: dspy declared": _DSPY,
    "process: dspy from cache": f"""{_DSPY}
import sys
dspy.configure(lm=dspy.LM("openai/gpt-4.1-mini", api_base=sys.argv[1], api_key="none"), adapter=dspy.JSONAdapter())
predict(message="Where is my parcel?")
""",
}


def process_costs(base_url: str, folder: str, dspy_python: str, rounds: int = 5) -> dict[str, list[float]]:
    """Return the CPU of each program beyond that of an empty interpreter, in µs; those that can't run are left out.

    All take turns. The first round, which may write bytecode and fills the caches, is not counted.
    """
    environment = {**os.environ, "LLMTASKER_CACHE_DIR": f"{folder}/cache", "DSPY_CACHEDIR": f"{folder}/dspy"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles all that it imports
    environment["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
    counts: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        empty = _cpu([sys.executable, "-c", "pass"], environment)
        for name in [*counts]:
            python = dspy_python if "dspy" in name else sys.executable
            used = _cpu([python, "-c", PROGRAMS[name], base_url], environment)
            if used is None:
                del counts[name]
            elif number:
                counts[name].append(max(used - (empty or 0.0), 1.0))
    return counts


def _cpu(command: list[str], environment: dict[str, str]) -> float | None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if subprocess.run(command, capture_output=True, check=False, env=environment).returncode:
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e6


def process_table(counts: dict[str, list[float]]) -> str:
    """Return the median of each program, in ms."""
    return "\n".join(f"{name:32}{statistics.median(values) / 1e3:12,.0f} ms" for name, values in counts.items())
