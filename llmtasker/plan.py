"""Plan: what a task was made from, apart from its LLM, as one frozen value.

Each kind of task has its own plan class. `Task.with_`, `save`, `load`, pickling and `repr` follow from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypedDict, get_args

from llmtasker.cache.store import Store, check_cache
from llmtasker.compiler.program import Program, compile_program
from llmtasker.compiler.prompt import ExamplesRole, InputRole, Prompt
from llmtasker.errors import ConfigurationError, check_choice, check_count, check_names, snippet
from llmtasker.runner.events import Observer
from llmtasker.runner.grouping.group_plan import GroupSize
from llmtasker.signature import Signature
from llmtasker.values.json_values import is_mapping
from llmtasker.wire.request import AskMode


class TaskOptions(TypedDict, total=False):
    """The keyword arguments that all kinds of tasks share; `Task` describes them."""

    variables: Mapping[str, object] | None
    examples_role: ExamplesRole | None
    input_role: InputRole
    mode: AskMode
    reasoning: bool
    attempts: int
    cache: bool | str | os.PathLike[str] | Store | None
    group_size: GroupSize
    observers: Iterable[Observer]


class TaskChanges(TaskOptions, total=False):
    """The keyword arguments of `Task.with_`."""

    llm: Any
    instructions: str
    examples: Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every kind of task is made from.

    A subclass adds the arguments of its kind, and sets `signature` where that is made from them.

    Raises:
        ConfigurationError: an argument has a value that it can't have.
    """

    signature: type[Signature] = field(init=False)
    examples: Any = ()
    variables: Mapping[str, object] | None = None
    examples_role: ExamplesRole | None = None
    input_role: InputRole = "user"
    mode: AskMode | None = None
    reasoning: bool = False
    attempts: int = 3
    cache: bool | str | os.PathLike[str] | Store | None = None
    group_size: GroupSize = 1
    observers: Iterable[Observer] = ()

    def __post_init__(self) -> None:
        self._set("examples", copied("examples", self.examples))
        variables: object = {} if self.variables is None else self.variables
        if not is_mapping(variables):
            raise ConfigurationError(f"variables is a mapping from name to value, not {_shown(variables)}.")
        self._set("variables", dict(variables))
        check_choice("mode", self.mode, (*get_args(AskMode), None))
        check_choice("examples_role", self.examples_role, (*get_args(ExamplesRole), None))
        check_choice("input_role", self.input_role, get_args(InputRole))
        check_choice("reasoning", self.reasoning, (True, False))
        check_count("attempts", self.attempts, "the answers to ask for")
        check_cache(self.cache)
        self._set("observers", copied("observers", self.observers))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def records(self) -> Sequence[Any]:
        """The examples as records of the signature, or as mappings with all its fields."""
        return list(self.examples)

    @property
    def asked(self) -> AskMode:
        """The mode; where none was given, the one that suits the task."""
        return self.mode or "auto"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The arguments of this kind of task."""
        return tuple(each.name for each in fields(cls) if each.init)

    @classmethod
    def of(cls, kind: str, arguments: Mapping[str, Any]) -> Self:
        """Return the plan of a task of a kind with these arguments.

        Raises:
            ConfigurationError: there is no such argument, or one has a value that it can't have.
        """
        check_names(kind, arguments, cls.names())
        return cls(**arguments)

    def changed(self, kind: str, changes: Mapping[str, Any]) -> Self:
        """Return the plan with other arguments; see `of`."""
        check_names(f"{kind}.with_", changes, ("llm", *self.names()))
        plan = replace(self, **changes)
        if compiles_alike(changes):
            object.__setattr__(plan, "signature", self.signature)
        return plan

    def compile(self) -> Program[Any]:
        """Return the program: schema, prompt and examples, prepared once.

        Raises:
            ConfigurationError: an example does not fit, a variable is unknown, or the mode can't serve the signature.
        """
        prompt = Prompt(variables=self.variables or {}, examples_role=self.examples_role, input_role=self.input_role)
        return compile_program(self.signature, prompt, self.records, self.asked, reasoning=self.reasoning)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), {name: getattr(self, name) for name in self.names()})


def _made_again(kind: type[Plan], arguments: dict[str, Any]) -> Plan:
    return kind(**arguments)


def compiles_alike(changes: Mapping[str, Any]) -> bool:
    """Return whether a plan with these changes has the same program, so that it need not be compiled again."""
    return changes.keys() <= {"attempts", "cache", "group_size", "observers"}


@dataclass(frozen=True, kw_only=True)
class SignaturePlan(Plan):
    """What a `Task` is made from: a signature, examples and options."""

    signature: type[Signature]

    def __post_init__(self) -> None:
        if Signature not in getattr(self.signature, "__mro__", ()):
            raise ConfigurationError(f"a Task takes a Signature class first, not {_shown(self.signature)}.")
        super().__post_init__()

    def changed(self, kind: str, changes: Mapping[str, Any]) -> Self:
        """Return the plan with other arguments; other instructions make another signature."""
        changes = dict(changes)
        if (instructions := changes.pop("instructions", None)) is not None:
            changes["signature"] = changes.get("signature", self.signature).with_instructions(instructions)
        return super().changed(kind, changes)


def copied(name: str, given: Any) -> Any:
    """Return a copy of a list or mapping, so that what the caller does to its own does not change the task."""
    if is_mapping(given):
        return dict(given)
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise ConfigurationError(f"{name} is a list, not {_shown(given)}.")
    return tuple(given)


def _shown(value: object) -> str:
    return snippet(repr(value), 60)
