"""used_values: the names in the code of a function or a pipeline, as far as they can be seen without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from inspect import getattr_static
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

from llmtasker.llm.llm import LLM
from llmtasker.values.json_values import is_object

_MOST = 1_000  # members of a list or mapping: more are data, not tasks


def used_values(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names in the code of a function with their values, also of functions of its module that it calls.

    These are global names, names of the functions around it, `module.name`, and the members of lists and mappings
    among them. Values that are created while the function runs, or that are attributes of an object, are not found.
    """
    waiting, seen = [function], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        names = sorted(set(_names(current.__code__)))
        known = {name: current.__globals__[name] for name in names if name in current.__globals__}
        for name, value in [*known.items(), *_around(current)]:
            for part_name, part in _parts(name, value, names):
                yield part_name, part
                if isinstance(part, FunctionType) and part.__module__ == function.__module__:
                    waiting.append(part)


def used_within(pipeline: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the used values of the function of a pipeline; in place of another pipeline, those of its function, unless
    its id was `seen`."""
    seen.add(id(pipeline))
    for name, value in used_values(pipeline.__wrapped__):
        if not isinstance(value, type(pipeline)):
            yield name, value
        elif id(value) not in seen:
            yield from ((f"{name}: {inner}", one) for inner, one in used_within(value, seen))


def llms_in(used: Iterable[tuple[str, Any]]) -> list[LLM]:
    """Return the LLMs of the tasks among used values."""
    found = (getattr_static(value, "llm", None) for _, value in used)
    return list(dict.fromkeys(llm for llm in found if isinstance(llm, LLM)))


def used_name(function: FunctionType, of: object) -> str:
    """Return the name in the code of the task with a signature, or its own name if no task or several have it."""
    if isinstance(of, str):
        return of  # a pipeline
    names = {name for name, value in used_values(function) if _signature(value) is of}
    return names.pop() if len(names) == 1 else str(getattr(of, "__name__", of))


def _signature(value: object) -> object:
    try:
        return getattr(value, "signature", None)
    except Exception:  # noqa: BLE001 - a value in the code may be anything
        return None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a lambda, a comprehension, a function inside
            yield from _names(constant)


def _around(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it has no value yet
            continue


def _parts(name: str, value: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    yield name, value
    if isinstance(value, ModuleType):
        yield from ((f"{name}.{one}", vars(value)[one]) for one in names if one in vars(value))
    elif isinstance(value, dict | list | tuple) and 0 < len(cast("Sequence[Any]", value)) <= _MOST:
        members = value if is_object(value) else enumerate(cast("Sequence[Any]", value))
        yield from ((f"{name}[{key!r}]", part) for key, part in dict[Any, Any](members).items())
