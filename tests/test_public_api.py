"""The public interface as text, so that every change of it is seen.

`tests/public_api.txt` lists every public name with its signature. After a change that is meant: `make snapshot`.
"""

from __future__ import annotations

import difflib
import enum
import importlib
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

LONGEST = 90
"""Characters; a longer list of parameters is shown one a line, so that a difference is small."""
SNAPSHOT = Path(__file__).with_name("public_api.txt")
TOLD = {"__call__", "__aenter__", "__aexit__", "__enter__", "__exit__", "__iter__", "__len__", "__getitem__"}


def public_modules() -> list[str]:
    """The modules for users: the package, the folders that it doesn't re-export, the ready-made tasks."""
    tasks = [module.name for module in pkgutil.iter_modules(importlib.import_module("llmtasker.tasks").__path__)]
    return [
        "llmtasker",
        "llmtasker.cache",
        "llmtasker.confidence",
        "llmtasker.errors",
        "llmtasker.files",
        "llmtasker.tasks",
        *(f"llmtasker.tasks.{name}" for name in sorted(tasks)),
        "llmtasker.testing",
    ]


def public_names(module: types.ModuleType) -> list[str]:
    """Its `__all__`, or else the public names that it defines."""
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == module.__name__]
    if module.__name__ == "llmtasker.errors":  # its functions are only for the package
        own = [name for name in own if inspect.isclass(getattr(module, name))]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


def annotation(value: Any) -> str:
    """As in the source, in every Python version: most of our annotations are strings already."""
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return re.sub(r"\b(typing|collections\.abc|pathlib\._local|pathlib|llmtasker(\.\w+)+)\.", "", text)


def default(value: Any) -> str:
    """Plain values as they are; for others, only that there is a default."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return repr(value) if plain or value == () else "…"


def parameters(thing: inspect.Signature) -> str:
    """`(a: int = 1, *, b: str) -> None`."""
    shown: list[str] = []
    bare_star = False
    for parameter in thing.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            bare_star = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not bare_star:
            shown.append("*")
            bare_star = True
        text = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {default(parameter.default)}"
        shown.append(text)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            shown = [*(part for part in shown if part != "/"), "/"]
    returns = "" if thing.return_annotation is thing.empty else f" -> {annotation(thing.return_annotation)}"
    line = f"({', '.join(shown)}){returns}"
    if len(line) <= LONGEST:
        return line
    return "(" + "".join(f"\n        {part}," for part in shown) + f"\n    ){returns}"


def signature(thing: Any) -> str:
    return parameters(inspect.signature(thing))


def constructor(owner: type) -> str:
    """Nothing for exceptions and protocols without their own arguments: they are created in the usual way."""
    if any(base.__module__.startswith("llmtasker") and "__init__" in vars(base) for base in owner.__mro__):
        return signature(owner).removesuffix(" -> None")
    return ""


def members(owner: type, listed: set[type]) -> Iterator[str]:
    """The members that a class adds to its listed bases, in alphabetical order; the constructor has the fields."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        if base is owner or (base.__module__.startswith("llmtasker") and base not in listed):
            found |= vars(base)
    fields = {*getattr(owner, "__dataclass_fields__", ()), *getattr(owner, "model_fields", ())}
    for name, value in sorted(found.items()):
        if (name.startswith(("_", "model_")) and name not in TOLD) or name in fields:
            continue
        if isinstance(value, property | cached_property):
            getter = value.fget if isinstance(value, property) else value.func
            yield f"{name}: {annotation(getattr(getter, '__annotations__', {}).get('return', ''))}"
        elif isinstance(value, classmethod | staticmethod):
            yield f"{type(value).__name__} {name}{signature(getattr(owner, name))}"
        elif inspect.iscoroutinefunction(value):
            yield f"async {name}{signature(value)}"
        elif inspect.isfunction(value):
            yield f"{name}{signature(value)}"
        elif isinstance(value, str | int | bool) and not issubclass(owner, enum.Enum):
            yield f"{name} = {value!r}"


def describe(name: str, thing: Any, listed: set[type]) -> Iterator[str]:
    if inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}{constructor(thing)}" + (f" : {bases}" if bases else "")
        for member in members(thing, listed):
            yield f"    {member}"
    elif inspect.isroutine(thing):
        yield f"def {name}{signature(thing)}"
    else:
        yield f"{name}: {type(thing).__name__}"


def interface() -> str:
    modules = {name: importlib.import_module(name) for name in public_modules()}
    things = {
        name: {public: getattr(module, public) for public in public_names(module)} for name, module in modules.items()
    }
    listed = {thing for group in things.values() for thing in group.values() if inspect.isclass(thing)}
    lines: list[str] = []
    for module_name, group in things.items():
        lines += ["", f"# {module_name}", ""]
        for name in sorted(group, key=str.lower):
            lines += describe(name, group[name], listed)
    return "\n".join(lines[1:]) + "\n"


def test_the_public_interface_is_as_agreed() -> None:
    agreed, now = SNAPSHOT.read_text(encoding="utf-8"), interface()
    difference = difflib.unified_diff(agreed.splitlines(), now.splitlines(), "agreed", "now", lineterm="", n=1)
    assert agreed == now, "the public interface changed; if that is meant: make snapshot\n" + "\n".join(difference)


def test_every_public_name_has_a_docstring() -> None:
    bare = [
        f"{module_name}.{name}"
        for module_name in public_modules()
        for name in public_names(importlib.import_module(module_name))
        if (inspect.isclass(thing := getattr(importlib.import_module(module_name), name)) or inspect.isroutine(thing))
        and not (thing.__doc__ or "").strip()
    ]
    assert not bare


if __name__ == "__main__":
    SNAPSHOT.write_text(interface(), encoding="utf-8")
    sys.stdout.write(f"{SNAPSHOT} is as the code is now\n")
