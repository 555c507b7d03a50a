"""saved_task: the task of a task file, alone or with the classes of the Python task that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtasker.errors import ConfigurationError
from llmtasker.values.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    from llmtasker.task import Task

_JOINED = lazy_pattern(r"(?P<task>.+:\w+)\+(?P<file>.+)")
_CLASSES = ("signature", "labels", "output")
"""Arguments of tasks that may be classes, which a file can't store."""


def named_file(name: str) -> tuple[str | None, Path] | None:
    """Split FILE.py:TASK+better.json into the Python task and the task file; for better.json alone, the first is None.

    None: the name does not name a task file.
    """
    if not name.lower().endswith(".json"):
        return None
    joined = None if Path(name).is_file() else _JOINED.fullmatch(name)
    return (None, Path(name)) if joined is None else (joined["task"], Path(joined["file"]))


def saved_task(path: Path, llm: str | None) -> Task[Any]:
    """Return the task of a file that needs no class.

    Raises:
        ConfigurationError: the file is not a task file, or it needs a class of the Python task.
    """
    from llmtasker.llm.llm import LLM
    from llmtasker.tasks import load_task

    if (reason := next(iter(_needs(path).values()), None)) is not None:
        raise ConfigurationError(
            f"{path} is not complete, because {reason}: put the Python task that it was made from "
            f"before it, as in FILE.py:TASK+{path}"
        )
    return load_task(path, llm=LLM.of(llm))  # type: ignore[no-any-return]


def saved_like(task: Task[Any], path: Path) -> Task[Any]:
    """Return the task of a file, with the classes, LLM, cache and observers of a Python task.

    Raises:
        ConfigurationError: the file is not a task file, or its task was made from another one.
    """
    needs = _needs(path)
    given = {name: getattr(task.plan, name) for name in _CLASSES if name in needs and name in task.plan.names()}
    saved = type(task).load(path, llm=task.llm, **given)
    return saved.with_(cache=task.plan.cache, observers=task.plan.observers)


def _needs(path: Path) -> Mapping[str, str]:
    from llmtasker.tasks import classes_needed

    try:
        return classes_needed(path)
    except ConfigurationError as error:
        hint = " `optimize --out` and `task.save` write task files; the task comes first, then the file of rows."
        raise ConfigurationError(f"{error}{hint if path.is_file() else ''}") from None
