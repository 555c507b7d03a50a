"""Planned: a task as data: it is made from a plan and an LLM, and can be changed, copied and pickled as these."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Generic, Self, TypeVar, Unpack

from llmtasker.compiler.program import Program
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, TaskChanges, compiles_alike
from llmtasker.runner.grouping.group_plan import GroupPlan
from llmtasker.runner.observers import Observers
from llmtasker.runner.policy import Policy
from llmtasker.signature import Signature

T = TypeVar("T")

_BUILT = frozenset({"_plan", "llm", "program", "store", "_async_store", "_groups", "_observers", "_usual"})
"""The attributes that `build` and the properties of Task set; whatever else a task holds, a subclass has added."""


class Planned(Generic[T]):
    """What a task is made from, and what follows from that."""

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
        self._usual = None  # made once: most calls have nothing of their own

    @property
    def plan(self) -> Plan:
        """What the task was made from, apart from its LLM."""
        return self._plan

    @property
    def signature(self) -> type[Signature]:
        """What goes in and what comes out."""
        return self.plan.signature

    def with_(self, **changes: Unpack[TaskChanges]) -> Self:
        """Return a new task with other arguments, such as `examples` or `llm`; nothing else changes.

        The new task shares what the change leaves as it was: the LLM, with its cache, connections and limits, and what
        was compiled.

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

    def _added(self) -> dict[str, Any]:
        """Return the attributes that a subclass has added."""
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
        # Nothing changes a plan or a program: the copy shares them, and the LLM.
        shared = {"_plan": self._plan, "llm": self.llm, "program": self.program}
        return self._twin({**deepcopy(self._added(), memo), **shared})

    def __copy__(self) -> Self:
        return self._twin({**self._added(), "_plan": self._plan, "llm": self.llm, "program": self.program})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signature.__name__}, llm={self.llm!r})"
