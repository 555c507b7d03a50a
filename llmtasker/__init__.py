"""llmtasker: declare LLM text tasks as Pydantic signatures and run them in bulk on private data.

These are the names that most programs need; errors are in `llmtasker.errors`, test doubles in
`llmtasker.testing`. A name is loaded when it is first used: importing the package does not load any vendor SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The table of names, and the same for type checkers; a test keeps them equal.
_HOMES = {
    "LLM": "llm.llm",
    "AutoGroup": "runner.grouping",
    "BatchJob": "runner.batch.job",
    "Budget": "runner.budget",
    "CallSettings": "runner.call_settings",
    "Classification": "tasks.classification",
    "ConfigurationError": "errors",
    "DiskCache": "cache",
    "Estimate": "runner.estimate",
    "History": "signature.history",
    "InputField": "signature.fields",
    "Instruction": "tasks.instruction",
    "Item": "item",
    "LLMTaskerError": "errors",
    "OutputField": "signature.fields",
    "Preview": "wire.request",
    "Prices": "llm.costs",
    "Progress": "runner.progress",
    "RateLimit": "llm.limits",
    "Results": "results",
    "Retry": "llm.limits",
    "Signature": "signature.signature",
    "Task": "task",
    "pipeline": "pipelines.pipeline",
}
if TYPE_CHECKING:
    from llmtasker.cache import DiskCache as DiskCache
    from llmtasker.errors import ConfigurationError as ConfigurationError
    from llmtasker.errors import LLMTaskerError as LLMTaskerError
    from llmtasker.item import Item as Item
    from llmtasker.llm.costs import Prices as Prices
    from llmtasker.llm.limits import RateLimit as RateLimit
    from llmtasker.llm.limits import Retry as Retry
    from llmtasker.llm.llm import LLM as LLM
    from llmtasker.pipelines.pipeline import pipeline as pipeline
    from llmtasker.results import Results as Results
    from llmtasker.runner.batch.job import BatchJob as BatchJob
    from llmtasker.runner.budget import Budget as Budget
    from llmtasker.runner.call_settings import CallSettings as CallSettings
    from llmtasker.runner.estimate import Estimate as Estimate
    from llmtasker.runner.grouping import AutoGroup as AutoGroup
    from llmtasker.runner.progress import Progress as Progress
    from llmtasker.signature.fields import InputField as InputField
    from llmtasker.signature.fields import OutputField as OutputField
    from llmtasker.signature.history import History as History
    from llmtasker.signature.signature import Signature as Signature
    from llmtasker.task import Task as Task
    from llmtasker.tasks.classification import Classification as Classification
    from llmtasker.tasks.instruction import Instruction as Instruction
    from llmtasker.wire.request import Preview as Preview

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
