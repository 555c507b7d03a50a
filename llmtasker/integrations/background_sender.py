"""BackgroundSender: posts a queue from its own thread; a receiver that fails or hangs costs nothing.

::

    add ──▶ Outbox ── take ──▶ post ──▶ taken
               ▲                 │
               └── give_back ────┘ not taken: sent again after a growing pause, or (refused for good) counted as dropped
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from math import inf
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")  # the type that is added
T_contra = TypeVar("T_contra", contravariant=True)
B = TypeVar("B")  # the type of a post
B_contra = TypeVar("B_contra", contravariant=True)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds without posts after a failure
_HURRIED_PAUSE = 0.2  # the same while a caller waits for the end
_IDLE = 60.0  # seconds with nothing to send after which the thread ends
_LOG = logging.getLogger("llmtasker")


class PostResult(NamedTuple):
    """The result of a post: accepted, except for `lost`; or not, and then whether and when it may be sent again."""

    taken: bool
    again: bool = False
    reason: str = ""
    wait: float | None = None
    lost: int = 0


class Outbox(Protocol[T_contra, B]):
    """A bounded queue of what is to be sent. Its sender calls it under a lock; the child of a fork gets a new one."""

    def __len__(self) -> int:
        """Return the number of waiting things."""
        ...

    def add(self, thing: T_contra, /) -> int:
        """Add a thing; return how many were dropped to make room."""
        ...

    def take(self) -> B:
        """Take out the next post."""
        ...

    def give_back(self, batch: B, /, *, again: bool) -> int:
        """Take back what was not accepted, if it may be sent again; return how many things were dropped.

        If a refused post is kept for a later one all the same, nobody waits for it.
        """
        ...


class Receiver(Protocol[B_contra]):
    """The target of posts. `http` is a client to use instead of one that `client` makes."""

    @property
    def http(self) -> Any: ...

    @property
    def place(self) -> str:
        """Its name in the log."""
        ...

    def client(self) -> Any:
        """Return a client whose connection is kept between posts."""
        ...

    def post(self, client: Any, batch: B_contra, /) -> PostResult:
        """Post what was taken out of the outbox; any exception is a failure."""
        ...


class BackgroundSender(Generic[T, B]):
    """A bounded queue and the thread that posts it. Only `flush` waits, for at most the given time.

    The child of a fork begins with an empty queue, because its parent sends what was waiting.

    Args:
        name: the name in the log of what is sent.
        outbox: a function that makes the empty queue.
        receiver: the target; None: nothing is accepted.
        interval: seconds that a small number of things waits for more.
        enough: the number of things that is posted at once.
    """

    def __init__(
        self,
        name: str,
        outbox: Callable[[], Outbox[T, B]],
        receiver: Receiver[B] | None,
        *,
        interval: float = 0.0,
        enough: int = 1,
    ) -> None:
        self._name, self._new_outbox, self._receiver = name, outbox, receiver
        self._interval, self._enough = interval, enough
        self.closed = receiver is None
        self.begin()
        _senders.add(self)

    def begin(self) -> None:
        """Begin with an empty queue; so does the child of a fork, because thread, lock and queue are its parent's."""
        self._changed = threading.Condition()
        self._outbox = self._new_outbox()
        self._running = self._posting = False
        self._awaited = inf  # the number of things that wakes the thread
        self._hurried = self._dropped = self._reported = 0
        self._kept = 0  # posts that were refused for good, and kept for a later one
        self._pause = 0.0
        self._reason: str = ""  # why the latest post failed
        self._client: Any = None

    @property
    def dropped(self) -> int:
        """Things that could not be sent."""
        with self._changed:
            return self._dropped

    def count_dropped(self, count: int) -> None:
        """Count things that were dropped before they reached the queue."""
        with self._changed:
            self._dropped += count

    def put(self, thing: T) -> None:
        """Queue a thing; never waits for a post."""
        with self._changed:
            if not self.closed:
                self._dropped += self._outbox.add(thing)
                self._wake()

    def flush(self, seconds: float) -> bool:
        """Wait until the queue is empty; return whether it is. Things that were dropped or still wait are logged."""
        with self._changed:
            self._hurried += 1
            self._wake()
            self._changed.notify_all()
            kept = self._kept
            self._changed.wait_for(lambda: self._is_done() or self._kept > kept, seconds)
            done = self._is_done()
            self._hurried -= 1
            self._report("not sent yet", 0 if done else max(1, len(self._outbox)))
        return done

    def _is_done(self) -> bool:
        return not self._outbox and (self.closed or not self._posting)

    def close(self) -> None:
        """Drop the queue, and end the thread as soon as its post has ended, without waiting for it."""
        with self._changed:
            self.closed = True
            self._give_up()
            self._changed.notify_all()

    def _give_up(self) -> None:
        self._report("abandoned", len(self._outbox))
        self._dropped += len(self._outbox)
        self._reported = self._dropped
        self._outbox = self._new_outbox()

    def _report(self, what: str, left: int) -> None:
        if self._receiver is not None and (left or self._dropped > self._reported):
            reason = f" ({self._reason})" if self._reason else ""
            counts = (self._name, self._receiver.place, self._dropped, left, what, reason)
            _LOG.warning("%s for %s: %d dropped, %d %s%s", *counts)
            self._reported = self._dropped

    def _wake(self) -> None:
        if len(self._outbox) >= self._awaited:
            self._awaited = inf
            self._changed.notify_all()
        if not self._running and self._outbox and not self.closed:
            with contextlib.suppress(RuntimeError):  # no thread can start now; the next call tries again
                threading.Thread(target=self._work, name=f"llmtasker-{self._name}", daemon=True).start()
                self._running = True

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._take_result(batch, self._post(batch))
        finally:
            with self._changed:
                client, self._client = self._client, None
                self._running = self._posting = False
                self._wake()  # something may have arrived since
                self._changed.notify_all()
            if client is not None:
                client.close()

    def _next(self) -> B | None:
        """Wait for the next post; None: the sender was closed, or nothing came for long."""
        with self._changed:
            while self._wait(1, _IDLE):
                self._wait(self._enough, self._interval)
                if self._outbox and not self.closed:
                    self._posting = True
                    return self._outbox.take()
        return None

    def _wait(self, count: int, seconds: float) -> bool:
        """Wait until the queue has this many things, or any in a hurry; return whether there are some."""

        def ended() -> bool:
            return self.closed or len(self._outbox) >= (1 if self._hurried else count)

        self._awaited = count
        self._changed.wait_for(ended, seconds)
        self._awaited = inf
        return len(self._outbox) > 0 and not self.closed

    def _post(self, batch: B) -> PostResult:
        receiver = self._receiver
        assert receiver is not None  # noqa: S101 - without one, nothing is taken
        try:
            if receiver.http is None and self._client is None:
                self._client = receiver.client()
            return receiver.post(receiver.http or self._client, batch)
        except BaseException as error:  # noqa: BLE001 - whatever a receiver, or a client that was given, does
            return PostResult(taken=False, again=True, reason=type(error).__name__)

    def _take_result(self, batch: B, result: PostResult) -> None:
        with self._changed:
            self._posting = False
            if result.reason and result.reason != self._reason and self._receiver is not None:
                _LOG.warning("%s: %s does not take them: %s", self._name, self._receiver.place, result.reason)
            self._reason = result.reason
            if result.taken:
                self._pause = 0.0
                self._dropped += result.lost
            else:
                self._take_back(batch, again=result.again)
            self._changed.notify_all()
            if not result.taken and (self._outbox or not self._hurried):
                self._leave_alone(result.wait)

    def _take_back(self, batch: B, *, again: bool) -> None:
        dropped = self._outbox.give_back(batch, again=again and not self.closed)
        self._dropped += dropped
        if self.closed:
            self._give_up()
        elif not again and not dropped:
            self._kept += 1

    def _leave_alone(self, wait: float | None) -> None:
        """Pause after a failure, for a growing time, or as long as the receiver asks for; `flush` ends the pause."""
        if self._hurried:
            self._changed.wait_for(lambda: self.closed, _HURRIED_PAUSE)
            return
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        pause = self._pause if wait is None else min(wait, _LONGEST_PAUSE)
        self._changed.wait_for(lambda: self.closed or self._hurried, pause)


_senders: weakref.WeakSet[BackgroundSender[Any, Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """Reset before the child has a second thread, because two threads would each make a lock."""
    for sender in list(_senders):
        sender.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
