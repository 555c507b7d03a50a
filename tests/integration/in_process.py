"""The program of `test_llama_cpp_in_process.py`: it asks an LLM in its own process, and prints the results as JSON."""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from typing import Any

from triage import EXAMPLES, ODD, Triage, asking

from llmtasker import LLM, Task
from llmtasker.llm.transports.llama_cpp import LlamaCppTransport


def findings(path: str) -> dict[str, Any]:
    """Ask the model in every way that is tested."""
    fixed: Any = {"temperature": 0, "seed": 1, "max_tokens": 400, "cache": False}
    llm = LLM(transport=LlamaCppTransport(path, threads=1), **fixed)
    task = Task(Triage, llm=llm, examples=EXAMPLES)
    rows = asking(6)
    found: dict[str, Any] = {"alone": str(task(ODD).raise_for_error().output)}
    found["rows"] = [str(item.raise_for_error().output) for item in task.run(rows, concurrency=6, progress=False)]
    found["pickled"] = str(pickle.loads(pickle.dumps(task))(ODD).output)
    again = LLM(transport=LlamaCppTransport(path, threads=1), **fixed)
    found["again"] = str(Task(Triage, llm=again, examples=EXAMPLES)(ODD).output)
    found["loaded"] = sum(type(thing).__name__ == "_LoadedModel" for thing in gc.get_objects())
    small = LLM(transport=LlamaCppTransport(path, context=64, slots=1, threads=1), **fixed)
    error = Task(Triage, llm=small)("word " * 500).error
    found["too long"] = error.code if error else None
    found["limits"] = [llm.rate_limiter.max_concurrency, small.rate_limiter.max_concurrency]
    child = os.fork()
    if child == 0:
        os._exit(0 if str(task(ODD).output) == found["alone"] else 1)
    found["fork"] = os.waitpid(child, 0)[1]
    llm.close()
    found["closed"] = str(task(ODD).output)
    return found


if __name__ == "__main__":
    print(json.dumps(findings(sys.argv[1])), flush=True)
