"""Ready-made tasks: each builds a signature and is a Task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["load_task"]


def load_task(path: str | os.PathLike[str], *, llm: Any = None, **handed_in: Any) -> Any:
    """Return the task that `save` wrote: a Task, a Classification or an Instruction, depending on the file.

    `handed_in` are the classes that a file can't store: `signature` of a Task, `labels` of a Classification, `output`
    of an Instruction.

    Raises:
        ConfigurationError: the file is not a complete task file, or contains a task of your own class, whose `load`
            reads it.
    """
    from llmtasker.errors import ConfigurationError
    from llmtasker.task import Task
    from llmtasker.task_file import read_document
    from llmtasker.tasks.classification import Classification
    from llmtasker.tasks.instruction import Instruction
    from llmtasker.values.argument_checks import check_names

    kinds: dict[str, tuple[type[Task[Any]], str]] = {
        "Task": (Task, "signature"),
        "Classification": (Classification, "labels"),
        "Instruction": (Instruction, "output"),
    }
    kind = read_document(path)["kind"]
    if kind not in kinds:
        raise ConfigurationError(f"{path}: its kind is {kind}, your own class: load it with {kind}.load.")
    owner, name = kinds[kind]
    check_names(f"load_task of a {kind}", handed_in, (name,))
    return owner.load(path, llm=llm, **handed_in)


def classes_needed(path: str | os.PathLike[str]) -> Mapping[str, str]:
    """Return the arguments that must be passed to load a file, each with the reason.

    Raises:
        ConfigurationError: the file is not a complete task file.
    """
    from llmtasker.task_file import read_document

    needs: Mapping[str, str] = read_document(path)["needs"]
    return needs
