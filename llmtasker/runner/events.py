"""Events: the calls, waits and finished items of a run, reported to observers as they happen."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from llmtasker.errors import ItemError
from llmtasker.item import Item
from llmtasker.runner.steps import Send, Steps, Wait
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request

R = TypeVar("R")
T = TypeVar("T")

EventKind = Literal["run_started", "call_started", "call_ended", "waiting", "step_done", "item_done", "run_ended"]

_LONG = 1.0  # seconds; shorter waits are not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a run, or of a single call, which is a run of one row.

    `what` is "run_started", "call_started" (with its `request`), "call_ended" (with its `completion` or `error`;
    with neither if the run was given up before its answer),
    "waiting" (before a call, for about `seconds`: a rate limit, or a retry), "item_done" (with its `item`),
    "step_done" (the `item` of a step of a pipeline, whose own follows) or "run_ended". `when` is in seconds since
    1970; `seconds` is also the duration of a call or a run. `run` is the id of the run, `rows` are the numbers of
    its rows, from 0, and `call` is the number of the call in the run. `tags` are those of the call or run.

    The representation does not show the text of a row.
    """

    what: EventKind
    when: float
    run: str
    rows: tuple[int, ...] = ()
    call: int | None = None
    seconds: float | None = None
    request: Request | None = field(default=None, repr=False)
    completion: Completion | None = field(default=None, repr=False)
    error: ItemError | None = field(default=None, repr=False)
    item: Item[Any] | None = field(default=None, repr=False)
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def row(self) -> int | None:
        """The number of the row, if there is only one."""
        return self.rows[0] if len(self.rows) == 1 else None


Observer: TypeAlias = Callable[[Event], object]
"""A function that receives each event, in order, in its own thread."""


class Publisher(Protocol):
    """Takes events and passes them on."""

    def publish(self, event: Event) -> None:
        """Pass an event on; never raises and never blocks."""
        ...


class RunEvents:
    """Reports the events of one run: `watch` those of a generator of steps, the other methods the rest."""

    def __init__(
        self, publisher: Publisher, clock: Callable[[], float] = time.time, tags: Mapping[str, Any] | None = None
    ) -> None:
        self.run = uuid.uuid4().hex[:12]
        self.tags = tags or {}
        self._publish = publisher.publish
        self._clock = clock
        self._calls = count()
        self._started = clock()

    def started(self) -> None:
        """Report the start of the run."""
        self._publish(Event(what="run_started", when=self._started, run=self.run, tags=self.tags))

    def ended(self) -> None:
        """Report the end of the run."""
        now = self._clock()
        self._publish(Event(what="run_ended", when=now, run=self.run, tags=self.tags, seconds=now - self._started))

    def done(self, row: int, item: Item[Any]) -> None:
        """Report a finished item."""
        event = Event(
            what="item_done", when=self._clock(), run=self.run, tags=self.tags, rows=(row,), item=item, error=item.error
        )
        self._publish(event)

    def pass_on(self, event: Event, row: int, numbers: dict[int, int]) -> None:
        """Report an event of a step as one of its row; `numbers` are those that the calls of the step have here."""
        if event.what in {"run_started", "run_ended"}:
            return
        call = event.call
        if call is not None:
            if call not in numbers:
                numbers[call] = next(self._calls)
            call = numbers[call]
        what: EventKind = "step_done" if event.what == "item_done" else event.what
        self._publish(replace(event, what=what, run=self.run, tags=self.tags, rows=(row,), call=call))

    def single(self, steps: Steps[Item[T]]) -> Steps[Item[T]]:
        """Yield the steps of a single call, and report the call and its item."""
        item = yield from self.watch(steps, (0,))
        self.done(0, item)
        return item

    def watch(self, steps: Steps[R], rows: Sequence[int]) -> Steps[R]:
        """Yield the same steps, and report the calls and the long waits among them."""
        numbers = tuple(rows)
        advance: Callable[[Any], Any] = steps.send
        reply: Any = None
        try:
            while True:
                step = advance(reply)
                advance = steps.send
                if isinstance(step, Send):
                    number, began = next(self._calls), self._clock()
                    about = numbers if step.places is None else tuple(numbers[place] for place in step.places)
                    named: dict[str, Any] = {"run": self.run, "tags": self.tags, "rows": about, "call": number}
                    named["request"] = step.request
                    self._publish(Event(what="call_started", when=began, **named))
                    try:
                        reply = yield step
                        named["completion"] = reply
                    except ItemError as error:
                        named["error"] = error
                        advance, reply = steps.throw, error
                    except GeneratorExit:  # the run was cancelled, or is no longer read
                        now = self._clock()
                        self._publish(Event(what="call_ended", when=now, seconds=now - began, **named))
                        raise
                    now = self._clock()
                    self._publish(Event(what="call_ended", when=now, seconds=now - began, **named))
                else:
                    if isinstance(step, Wait) and isinstance(step.hold, float | int) and step.hold >= _LONG:
                        when = self._clock()
                        waiting = Event(
                            what="waiting", when=when, run=self.run, tags=self.tags, rows=numbers, seconds=step.hold
                        )
                        self._publish(waiting)
                    reply = yield step
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            steps.close()


class LogObserver:
    """Writes events to the logger `llmtasker`: calls and items at DEBUG; runs, failures and waits at INFO.

    No text of a row, answer or error is logged, unless `texts` is true.
    """

    def __init__(self, *, texts: bool = False, logger: logging.Logger | None = None) -> None:
        self.texts = texts
        self.logger = logger or logging.getLogger("llmtasker")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        urgent = event.error is not None or event.what in {"run_started", "run_ended", "waiting"}
        self.logger.log(logging.INFO if urgent else logging.DEBUG, "%s", self._line(event))

    def _line(self, event: Event) -> str:
        rows = f" row {', '.join(map(str, event.rows))}" if event.rows else ""
        call = "" if event.call is None else f" call {event.call}"
        seconds = "" if event.seconds is None else f" {event.seconds:.3f} s"
        parts = [f"run {event.run}{rows}{call} {event.what}{seconds}"]
        if event.completion is not None and (usage := event.completion.usage) is not None:
            parts.append(f"{usage.input} tokens in, {usage.output} out")
        if event.error is not None:
            status = f" (status {event.error.status})" if event.error.status else ""
            parts.append(f"{event.error.code}{status}")
        if event.item is not None and event.item.cached:
            parts.append("cached")
        if self.texts:
            texts = (event.error and event.error.message, event.item and event.item.raw)
            parts += [text for text in texts if text]
        return ": ".join(parts)
