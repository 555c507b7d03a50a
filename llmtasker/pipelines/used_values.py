"""used_values: the names in the code of a function or a pipeline, as far as they can be seen without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import getattr_static
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

from llmtasker.errors import ConfigurationError, snippet
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
    """Yield the used values of the function of a pipeline; in place of another pipeline, those that it has, unless its
    id was `seen`."""
    seen.add(id(pipeline))
    for name, value in used_values(pipeline.__wrapped__):
        if not isinstance(value, type(pipeline)):
            yield name, value
        elif id(value) not in seen:
            for inner, one in used_within(value, seen):
                yield f"{name}: {inner}", value.replaced.get(inner, one)


def llms_in(used: Iterable[tuple[str, Any]]) -> list[LLM]:
    """Return the LLMs of the tasks among used values."""
    return list(dict.fromkeys(task.llm for task in tasks_in(used).values()))


def tasks_in(used: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the tasks among used values, by name."""
    return {name: value for name, value in used if isinstance(getattr_static(value, "llm", None), LLM)}


def replaced_pairs(pipeline: Any) -> list[tuple[Any, Any]]:
    """Return each task in the code of a pipeline that is not called, with the one in its place.

    They are known by name until a run begins, because in another process the code has tasks of its own.
    """
    replaced = pipeline.replaced
    used = used_within(pipeline, set()) if replaced else ()
    return [(value, replaced[name]) for name, value in used if name in replaced]


def check_replacements(owner: str, tasks: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Check that the other tasks can be called in place of those with the same names.

    Raises:
        ConfigurationError: one is not a task, its fields have other names, or there is no task with its name.
    """
    for name, other in others.items():
        if name not in tasks:
            names = ", ".join(tasks) or "none"
            raise ConfigurationError(f"with_tasks: {owner} has no task {name!r} in its code; it has {names}.")
        _check_replacement(name, tasks[name], other)


def _check_replacement(name: str, task: Any, other: Any) -> None:
    if not tasks_in([(name, other)]):
        raise ConfigurationError(f"with_tasks: {name} takes a task, not {snippet(repr(other), 60)}.")
    for kind, old, new in zip(("input", "output"), _fields(task), _fields(other), strict=True):
        if old != new:
            raise ConfigurationError(
                f"with_tasks: the {kind} fields of {name} are {', '.join(old)}, and those of the other task "
                f"{', '.join(new)}: the code of the pipeline would not find its own."
            )


def _fields(task: Any) -> tuple[list[str], list[str]]:
    return sorted(task.signature.input_fields), sorted(task.signature.output_fields)


def used_name(function: FunctionType, replaced: Mapping[str, Any], of: object) -> str:
    """Return the name in the code of the task with a signature, or its own name if no task or several have it."""
    if isinstance(of, str):
        return of  # a pipeline
    names = {name for name, value in used_values(function) if _signature(replaced.get(name, value)) is of}
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
