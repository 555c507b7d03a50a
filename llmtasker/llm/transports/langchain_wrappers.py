"""LangChain's wrappers around a chat model: `bind`, `with_config`, `with_retry`, `with_fallbacks`, in any order.

The wrappers are recognised by their fields. Options such as tools are bound to the chat model inside of them, so the
wrappers still apply to each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llmtasker.errors import ConfigurationError


def chats_in(runnable: Any) -> Iterator[Any]:
    """Yield the chat models inside wrappers, in order.

    Raises:
        ConfigurationError: there is something else inside, such as a prompt or a parser.
    """
    if _is_binding(runnable):
        if taken := {"tools", "functions", "response_format"} & runnable.kwargs.keys():
            raise ConfigurationError(f"this chat model has {min(taken)} bound already, which the task sets: remove it.")
        yield from chats_in(runnable.bound)
    elif _is_fallback(runnable):
        for each in (runnable.runnable, *runnable.fallbacks):
            yield from chats_in(each)
    elif hasattr(runnable, "bind_tools") and hasattr(runnable, "_generate"):
        yield runnable
    else:
        raise ConfigurationError(
            f"a {type(runnable).__name__} is not a chat model: give the chat model alone, without prompt or parser."
        )


def rewrapped(runnable: Any, change: Callable[[Any], Any]) -> Any:
    """Return the same wrappers around changed chat models."""
    if _is_binding(runnable):
        return runnable.model_copy(update={"bound": rewrapped(runnable.bound, change)})
    if _is_fallback(runnable):
        update = {
            "runnable": rewrapped(runnable.runnable, change),
            "fallbacks": [rewrapped(each, change) for each in runnable.fallbacks],
        }
        return runnable.model_copy(update=update)
    return change(runnable)


def arguments_in(runnable: Any) -> list[Any]:
    """Return the arguments that the wrappers add to each call."""
    if _is_binding(runnable):
        return [dict(runnable.kwargs), *arguments_in(runnable.bound)]
    if _is_fallback(runnable):
        return [arguments_in(each) for each in (runnable.runnable, *runnable.fallbacks)]
    return []


def _is_binding(runnable: object) -> bool:
    return {"bound", "kwargs"} <= getattr(type(runnable), "model_fields", {}).keys()


def _is_fallback(runnable: object) -> bool:
    return {"runnable", "fallbacks"} <= getattr(type(runnable), "model_fields", {}).keys()
