"""TaskData: a task as data: made from a plan and an LLM, and changed, copied and pickled as these."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, Unpack, cast

from pydantic.fields import FieldInfo

from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError, LLMTaskerError, snippet
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, TaskChanges, compiles_alike
from llmtasker.runner.grouping.group_plan import GroupPlan
from llmtasker.runner.observers import Observers
from llmtasker.runner.policy import Policy
from llmtasker.signature.signature import Signature
from llmtasker.task_file import document_text, read_document, write_document
from llmtasker.values.html_table import html_table

if TYPE_CHECKING:  # loaded only for tasks that have one
    from llmtasker.confidence.calibration import Calibration

T = TypeVar("T")

_BUILT = frozenset({"_plan", "llm", "program", "store", "_async_store", "_groups", "_observers", "_usual"})
"""The attributes that `build` and the properties of Task set; any other attribute was added by a subclass."""


class TaskData(Generic[T]):
    """What a task is made from, and everything that follows from it."""

    _plan_class: ClassVar[type[Plan]]
    _plan: Plan
    llm: LLM
    program: Program[Any]
    _groups: GroupPlan[Any]
    _observers: Observers
    _usual: Policy[Any, T] | None

    def _build(self, plan: Plan, llm: LLM, program: Program[Any] | None = None) -> None:
        self._plan = plan
        self.llm = llm
        self.program = program or plan.compile()
        self._groups = GroupPlan(self.program, plan.group_size)
        self._observers = Observers(plan.observers)
        self._usual = None  # made once, because most calls have no settings

    @property
    def plan(self) -> Plan:
        """What the task was made from, except its LLM."""
        return self._plan

    @property
    def signature(self) -> type[Signature]:
        """The inputs and outputs of the task."""
        return self.plan.signature

    @property
    def calibration(self) -> Calibration | None:
        """The result of `calibrate`, with its promise; None: the task is not calibrated."""
        sure = self.plan.confidence_settings
        return None if sure is None else sure.calibration

    def with_(self, **changes: Unpack[TaskChanges]) -> Self:
        """Return a new task with other arguments, such as `examples` or `llm`; nothing else changes.

        The new task shares what does not change: the LLM, with its cache, connections and limits, and the compiled
        program.

        >>> from llmtasker.tasks.instruction import Instruction
        >>> short = Instruction(llm="offline", instructions="Summarise.").with_(attempts=1)
        >>> short.with_(instructions="Résume.").plan.attempts
        1

        Raises:
            ConfigurationError: there is no such argument, or it has a value that it can't have.
        """
        given: dict[str, Any] = dict(changes)
        llm = LLM.of(given.pop("llm", self.llm))
        plan = self.plan.changed(type(self).__name__, given)
        program = self.program if compiles_alike(given) else None
        return self._twin({**self._added(), "_plan": plan, "llm": llm, "program": program})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the task to a readable JSON file, which `load` reads.

        It contains instructions, fields, labels, examples, variables and settings, but no LLM, cache or observers: pass
        these when you load it, and also classes written in code, such as the signature.

        Raises:
            ConfigurationError: something can't be stored in a file, or the file can't be written.
        """
        write_document(path, self.plan.document(type(self).__name__))

    @classmethod
    def _load(cls, path: str | os.PathLike[str], llm: Any, given: Mapping[str, Any]) -> Self:
        document = read_document(path)
        task = object.__new__(cls)
        try:
            plan = cls._plan_class.from_document(cls.__name__, document, given)
            task.__setstate__({"_plan": plan, "llm": LLM.of(llm)})
        except LLMTaskerError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        except Exception as error:  # noqa: BLE001 - a forged file may make anything fail
            raise ConfigurationError(f"{path} can't be loaded: {type(error).__name__}: {snippet(error)}") from None
        return task

    def diff(self, other: TaskData[Any]) -> str:
        """Return the differences from another task, as the lines of a unified diff; empty: there are none.

        >>> from llmtasker.tasks.instruction import Instruction
        >>> short = Instruction(llm="offline", instructions="Summarise.")
        >>> print(short.diff(short.with_(attempts=1)))
        --- this
        +++ other
        @@ ... @@
             "reasoning": false,
             "language": "en",
        -    "attempts": 3,
        +    "attempts": 1,
             "group_size": 1,
             "output": "text"
        """
        if not isinstance(cast("object", other), TaskData):
            raise ConfigurationError(f"diff compares a task with another task, not with {snippet(repr(other), 60)}.")
        from difflib import unified_diff

        mine, its = self._text().splitlines(), other._text().splitlines()
        return "\n".join(unified_diff(mine, its, "this", "other", lineterm="", n=2))

    def _text(self) -> str:
        return document_text(self.plan.document(type(self).__name__) | {"llm": repr(self.llm)})

    def _added(self) -> dict[str, Any]:
        """Return the attributes added by a subclass."""
        return {name: value for name, value in vars(self).items() if name not in _BUILT}

    def _twin(self, state: Mapping[str, Any]) -> Self:
        twin = object.__new__(type(self))
        twin.__setstate__(state)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**self._added(), "_plan": self._plan, "llm": self.llm}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: value for name, value in state.items() if name not in _BUILT})
        self._build(state["_plan"], state["llm"], state.get("program"))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A plan and a program never change, so the copy shares them, and the LLM.
        shared = {"_plan": self._plan, "llm": self.llm, "program": self.program}
        return self._twin({**deepcopy(self._added(), memo), **shared})

    def __copy__(self) -> Self:
        return self._twin({**self._added(), "_plan": self._plan, "llm": self.llm, "program": self.program})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signature.__name__}, llm={self.llm!r})"

    def _repr_html_(self) -> str:
        fields = {**self.signature.input_fields, **self.signature.output_fields}
        parts = [
            ("task", f"{type(self).__name__} of {self.signature.__name__}"),
            ("LLM", self.llm),
            ("instructions", self.signature.instructions),
            *((name, _described(info)) for name, info in fields.items()),
            ("examples", len(self.plan.examples)),
        ]
        return html_table(parts, longest=4_000)


def _described(info: FieldInfo) -> str:
    kind = getattr(info.annotation, "__name__", None) if isinstance(info.annotation, type) else None
    return " · ".join(filter(None, [kind or str(info.annotation).replace("typing.", ""), info.description]))
