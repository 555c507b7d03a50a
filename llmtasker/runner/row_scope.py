"""RowScope: what the tasks called in one row of a pipeline share, and the list of their items."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from llmtasker.errors import ConfigurationError
from llmtasker.item import Item
from llmtasker.llm.llm import LLM
from llmtasker.runner.budget import Budget
from llmtasker.runner.circuit_breaker import CircuitBreaker
from llmtasker.runner.policy import Fresh, Policy

if TYPE_CHECKING:  # loaded only if there are observers, or in a pipeline
    from llmtasker.runner.events import Event, Publisher, RunEvents

P = TypeVar("P", bound=Policy[Any, Any])
K = TypeVar("K")

Replaced = Sequence[tuple[Any, Any]]
"""Pairs of a task and the one that is called in its place."""

current_row: ContextVar[RowScope | None] = ContextVar("the row of a pipeline", default=None)
"""The row of a pipeline in which this code runs; None: it runs outside a pipeline."""


def in_scope(policy: P) -> P:
    """Return a policy with what it shares with other calls of the same pipeline run, if there is one."""
    scope = current_row.get()
    return policy if scope is None else scope.run.policy(policy)


def in_place_of(task: K) -> K:
    """Return the task that is called in place of another one in the current row of a pipeline, mostly that one."""
    scope = current_row.get()
    return task if scope is None else scope.run.in_place_of(task)


def check_awaited() -> None:
    """Check that a blocking call does not stop the other rows of a pipeline.

    Raises:
        ConfigurationError: it is made by the function of a pipeline, in its event loop.
    """
    if current_row.get() is not None:
        from asyncio import get_running_loop

        try:
            get_running_loop()
        except RuntimeError:
            return  # in its own thread
        raise ConfigurationError(
            "a blocking call in a pipeline would stop all its other rows: write await task.acall(…) for task(…)."
        )


@dataclass(slots=True, kw_only=True)
class RunScope:
    """What the rows of a pipeline's run share: budget, circuit breakers, observers, tasks in place of others.

    `llms` are those that the steps have used so far. A single call has no circuit breakers, because it stops nothing.
    """

    fresh: Fresh = False
    sample: int = 0
    budget: Budget | None = None
    events: RunEvents | None = None
    breakers: dict[tuple[LLM, str], CircuitBreaker] | None = None
    llms: dict[LLM, None] = field(default_factory=dict[LLM, None])
    replaced: Replaced = ()

    def policy(self, policy: P) -> P:
        """Return the policy of a step with what the run shares.

        Raises:
            ConfigurationError: the step has a budget, and so has the run.
        """
        self.llms[policy.llm] = None
        self._check(policy.budget)
        breaker = policy.breaker
        if self.breakers is not None:
            # By the name of the signature, because a row may make its own tasks.
            key = policy.llm, policy.program.signature.__name__
            breaker = self.breakers.setdefault(key, CircuitBreaker())
        return replace(
            policy,
            fresh=policy.fresh or self.fresh,
            sample=policy.sample or self.sample,
            budget=policy.budget or self.budget,
            breaker=breaker,
        )

    def in_place_of(self, task: K) -> K:
        """Return the task that is called in place of another one, mostly that one."""
        return next((other for one, other in self.replaced if one is task), task)

    def inner(self, fresh: Fresh, budget: Budget | None, sample: int, replaced: Replaced) -> RunScope:
        """Return the scope of a pipeline that is a step of this one.

        Raises:
            ConfigurationError: it has a budget, and so has this one.
        """
        self._check(budget)
        return RunScope(
            fresh=fresh or self.fresh,
            sample=sample or self.sample,
            budget=budget or self.budget,
            breakers=self.breakers,
            llms=self.llms,
            replaced=[*((one, self.in_place_of(other)) for one, other in replaced), *self.replaced],
        )

    def _check(self, budget: Budget | None) -> None:
        if budget is not None and self.budget is not None and budget is not self.budget:
            raise ConfigurationError("this run of a pipeline has a budget: its steps can't have others.")

    @contextmanager
    def row(self, number: int) -> Generator[RowScope]:
        """Run the code in the block as the row with this number."""
        scope = RowScope(self, number)
        token = current_row.set(scope)
        try:
            yield scope
        finally:
            current_row.reset(token)


class RowScope:
    """One row of a pipeline's run: the tasks that it calls leave their items here, in the order of their calls."""

    def __init__(self, run: RunScope, number: int) -> None:
        self.run = run
        self.number = number
        self._steps: list[tuple[object, dict[int, Item[Any]]]] = []

    @property
    def items(self) -> tuple[Item[Any], ...]:
        """The items so far: of each call, and of each row of a run."""
        return tuple(item for _, item in self.steps)

    @property
    def steps(self) -> list[tuple[object, Item[Any]]]:
        """The items so far, each after what it is of: a signature, or the name of a pipeline."""
        return [(of, items[row]) for of, items in self._steps for row in sorted(items)]

    def begin(self, own: Publisher | None, tags: Mapping[str, Any] | None, of: object) -> RunEvents:
        """Return the events of a call or run of a step, whose items are kept; `own` takes them too."""
        from llmtasker.runner.events import RunEvents

        items = dict[int, Item[Any]]()
        self._steps.append((of, items))
        return RunEvents(_StepPublisher(self, items, own), tags=tags)


class _StepPublisher:
    """Takes the events of a step: for its own observers, for those of the pipeline, and the items for the row."""

    def __init__(self, scope: RowScope, items: dict[int, Item[Any]], own: Publisher | None) -> None:
        self._scope, self._items, self._own = scope, items, own
        self._numbers = dict[int, int]()

    def publish(self, event: Event) -> None:
        """Pass an event on; never raises and never blocks."""
        if self._own is not None:
            self._own.publish(event)
        if event.what == "item_done" and event.item is not None:
            self._items[event.row or 0] = event.item
        if (outer := self._scope.run.events) is not None:
            outer.pass_on(event, self._scope.number, self._numbers)
