"""llmtasker: declare LLM text tasks as Pydantic signatures and run them in bulk on private data.

The public names are loaded when they are first used: importing the package loads no vendor SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmtasker.cache import CacheWarning, DiskCache, MemoryCache
    from llmtasker.compiler.program import Program, compile_program
    from llmtasker.errors import (
        AuthenticationError,
        BadRequestError,
        BadResponseError,
        BudgetError,
        CallError,
        CallTimeoutError,
        ConfigurationError,
        ContextLengthError,
        FilteredError,
        InputError,
        InvalidOutputError,
        ItemError,
        LLMTaskerError,
        NetworkError,
        NotFoundError,
        NotRunError,
        OutputError,
        RateLimitError,
        RefusedError,
        RejectedError,
        ServerError,
        SignatureError,
        TransientError,
        TruncatedError,
    )
    from llmtasker.fields import InputField, OutputField
    from llmtasker.history import History
    from llmtasker.item import Item
    from llmtasker.llm.costs import Prices
    from llmtasker.llm.limits import RateLimit, Retry
    from llmtasker.llm.llm import LLM
    from llmtasker.results import Results
    from llmtasker.runner.batch.job import BatchJob
    from llmtasker.runner.budget import Budget
    from llmtasker.runner.call_settings import CallSettings
    from llmtasker.runner.estimate import Estimate
    from llmtasker.runner.grouping import AutoGroup, GroupReport
    from llmtasker.runner.progress import Progress
    from llmtasker.signature import Signature
    from llmtasker.task import Task
    from llmtasker.wire.completion import Completion, ToolCall, Usage
    from llmtasker.wire.request import Preview, Request, Transport

__all__ = [
    "LLM",
    "AuthenticationError",
    "AutoGroup",
    "BadRequestError",
    "BadResponseError",
    "BatchJob",
    "Budget",
    "BudgetError",
    "CacheWarning",
    "CallError",
    "CallSettings",
    "CallTimeoutError",
    "Completion",
    "ConfigurationError",
    "ContextLengthError",
    "DiskCache",
    "Estimate",
    "FilteredError",
    "GroupReport",
    "History",
    "InputError",
    "InputField",
    "InvalidOutputError",
    "Item",
    "ItemError",
    "LLMTaskerError",
    "MemoryCache",
    "NetworkError",
    "NotFoundError",
    "NotRunError",
    "OutputError",
    "OutputField",
    "Preview",
    "Prices",
    "Program",
    "Progress",
    "RateLimit",
    "RateLimitError",
    "RefusedError",
    "RejectedError",
    "Request",
    "Results",
    "Retry",
    "ServerError",
    "Signature",
    "SignatureError",
    "Task",
    "ToolCall",
    "TransientError",
    "Transport",
    "TruncatedError",
    "Usage",
    "compile_program",
]

_HOMES = {
    "runner.batch.job": ("BatchJob",),
    "runner.budget": ("Budget",),
    "runner.call_settings": ("CallSettings",),
    "runner.grouping": ("AutoGroup", "GroupReport"),
    "cache": (
        "CacheWarning",
        "DiskCache",
        "MemoryCache",
    ),
    "compiler.program": (
        "Program",
        "compile_program",
    ),
    "wire.completion": ("Completion", "ToolCall", "Usage"),
    "wire.request": ("Preview", "Request", "Transport"),
    "errors": (
        "AuthenticationError",
        "BadRequestError",
        "BadResponseError",
        "BudgetError",
        "CallError",
        "CallTimeoutError",
        "ConfigurationError",
        "ContextLengthError",
        "FilteredError",
        "InputError",
        "InvalidOutputError",
        "ItemError",
        "LLMTaskerError",
        "NetworkError",
        "NotFoundError",
        "NotRunError",
        "OutputError",
        "RateLimitError",
        "RefusedError",
        "RejectedError",
        "ServerError",
        "SignatureError",
        "TransientError",
        "TruncatedError",
    ),
    "runner.estimate": ("Estimate",),
    "history": ("History",),
    "item": ("Item",),
    "llm.llm": ("LLM",),
    "llm.limits": ("RateLimit", "Retry"),
    "llm.costs": ("Prices",),
    "runner.progress": ("Progress",),
    "results": ("Results",),
    "fields": ("InputField", "OutputField"),
    "signature": ("Signature",),
    "task": ("Task",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
