"""load_task: the task that FILE.py:TASK, package.module:TASK or a task file names; load_runnable: also a pipeline."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from llmtasker.cli.saved_task import named_file, saved_like, saved_task
from llmtasker.cli.tracing import observers, traced
from llmtasker.errors import ConfigurationError, LLMTaskerError, snippet

if TYPE_CHECKING:
    from llmtasker.evaluation.measured_task import Measurable
    from llmtasker.jobs.pipeline_work import TaskLike
    from llmtasker.task import Task


def load_task(name: str, llm: str | None) -> Task[Any]:
    """Return the task of a Python file, a module or a task file, with another LLM if one is named.

    Raises:
        ConfigurationError: there is no such file, module or task, or the code raises.
    """
    from llmtasker.task import Task

    found = load_measurable(name, llm)
    if isinstance(found, Task):
        return found
    raise _refused(name, found, "this command takes a task")


def load_runnable(name: str, llm: str | None) -> TaskLike:
    """Return the task that a name means, like `load_task`, or its pipeline.

    Raises:
        ConfigurationError: what `load_measurable` raises, or it is a cascade.
    """
    from llmtasker.evaluation.cascade_run import Cascade

    found = load_measurable(name, llm)
    if isinstance(found, Cascade):
        raise _refused(name, found, "the command line runs and serves tasks and pipelines")
    return found


def load_measurable(name: str, llm: str | None) -> Measurable:
    """Return the task that a name means, or its pipeline or cascade.

    Raises:
        ConfigurationError: there is no such file, module or task, the code raises, or an LLM is named for several
            tasks.
    """
    from llmtasker.evaluation.cascade_run import Cascade
    from llmtasker.pipelines.pipeline import Pipeline
    from llmtasker.task import Task

    if (named_in := named_file(name)) is not None:
        declared, file = named_in
        return traced(saved_task(file, llm)) if declared is None else saved_like(load_task(declared, llm), file)
    place, attribute, module = _module_named(name, llm)
    found: dict[str, Measurable] = {
        known: value for known, value in vars(module).items() if isinstance(value, Task | Pipeline | Cascade)
    }
    named = found.get(attribute)
    if named is None:
        known, hint = ", ".join(found) or "none", ""
        if inspect.iscoroutinefunction(vars(module).get(attribute)):
            hint = f" Is it meant to be a pipeline? Write @pipeline above async def {attribute}."
        raise ConfigurationError(f"{place} has no task or pipeline {attribute!r}; it has {known}.{hint}")
    if isinstance(named, Task):
        return _asked_with(named, llm)
    if llm is not None:
        raise ConfigurationError(
            f"--llm {llm}: the tasks of a {type(named).__name__.lower()} have their own LLMs: set them in {place}, "
            "or set LLMTASKER_LLM for tasks that name none."
        )
    more = observers()
    if isinstance(named, Pipeline):
        return named.observed(*more)
    return Cascade([traced(task, more) for task in named.tasks], named.report)


def _refused(name: str, found: Measurable, takes: str) -> ConfigurationError:
    kind, attribute = type(found).__name__.lower(), name.rpartition(":")[2]
    commands = "llmtasker evaluate" if kind == "cascade" else "llmtasker run, serve and evaluate"
    return ConfigurationError(
        f"{name} is a {kind}, and {takes}; {commands} take{'s' if kind == 'cascade' else ''} it. In Python: "
        f"{attribute}.run(rows)."
    )


def _module_named(name: str, llm: str | None) -> tuple[str, str, ModuleType]:
    """Return the place and the attribute of a name, and the module at that place."""
    from llmtasker.llm.llm import default_llm

    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise ConfigurationError(_no_task(name))
    with default_llm(llm):
        is_file = place.endswith(".py") or os.sep in place or Path(place).is_file()
        return place, attribute, _module_of_file(Path(place)) if is_file else _module(place)


def _asked_with(task: Task[Any], llm: str | None) -> Task[Any]:
    """Return a task with the observers of the environment, and with the LLM of the command line if there is one."""
    task = traced(task)
    # This replaces an LLM that the file names, but keeps its settings.
    return task if llm is None else task.with_(llm=task.llm.at(llm))


def _no_task(name: str) -> str:
    """Return what is wrong with a name that does not name a task."""
    path = Path(name)
    if path.suffix == ".py":
        return f"{name} is a Python file; name the task in it: {name}:TASK, such as triage.py:triage."
    if path.exists():
        return f"{name} is not a task: the task comes first, then the file, such as triage.py:triage {name}"
    return f"{name!r} does not name a task: write FILE.py:TASK or package.module:TASK, such as triage.py:triage."


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    with _errors_at(name, name):
        try:
            return cast(ModuleType, pkgutil.resolve_name(name))
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ConfigurationError(f"there is no module {name}; a file is named with its ending, .py.") from None


def _module_of_file(path: Path) -> ModuleType:
    """Run a user's file and return its module."""
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}.")
    full = path.resolve()
    # A file may have the name of a module that is loaded already.
    name = path.stem if path.stem not in sys.modules else f"{path.stem} of {full.parent}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(full.parent))
    with _errors_at(str(path), str(full)):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _errors_at(name: str, file: str) -> Generator[None]:
    """Turn an error in the user's code into one line that names the place."""
    try:
        yield
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{name}, line {line}" if line else name
        if isinstance(error, ConfigurationError):
            raise ConfigurationError(f"{where}: {error.args[0]}", give=error.give) from error
        if isinstance(error, LLMTaskerError):
            raise ConfigurationError(f"{where}: {error}") from error
        raise ConfigurationError(f"{where}: {type(error).__name__}: {snippet(error)}") from error
