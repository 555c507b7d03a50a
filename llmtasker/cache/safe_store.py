"""SafeStore: a store with `get` and `put`, completed with batches and leases; it neither raises errors nor hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, NoReturn, TypeVar

from llmtasker.cache.outage import Outage
from llmtasker.cache.process import reset_in_child
from llmtasker.cache.store import LEASE, Store
from llmtasker.cache.store_thread import StoreThread
from llmtasker.errors import snippet

T = TypeVar("T")

_TOLERATED = 2  # failures in a row: one key may have a fault of its own


def _as_is(value: Any) -> Any:
    return value


class SafeStore:
    """A store of the user, as the runner uses it.

    An error of the store counts as a miss, a text that is not kept, or a lease that is free, and is reported once as a
    CacheWarning. A store that fails three times in a row, or that does not answer within `patience` seconds, is left
    alone for a while that doubles.

    The store is called in threads of this object, because only a caller that does not run the call can stop waiting.
    """

    def __init__(self, store: Store, *, patience: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.store: Any = store
        self.patience = patience
        self._outage = Outage(f"The cache {type(store).__name__}", tolerated=_TOLERATED, clock=clock)
        self._methods: dict[str, bool] = {}
        self._failing = ""  # the method that failed last: that others work does not mean that it does
        self.after_fork()
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"SafeStore({type(self.store).__name__})"

    def after_fork(self) -> None:
        """Begin again in a forked child: the threads stay with its parent."""
        self._idle: list[StoreThread] = []

    def get(self, key: str) -> str | None:
        """Return the text, or None where there is none."""
        return self._text(self._try("get", None, key))

    def get_at_once(self, key: str) -> NoReturn:
        """Refuse: nobody knows how long the store takes.

        Raises:
            BlockingIOError: always.
        """
        raise BlockingIOError

    def put(self, key: str, text: str) -> None:
        """Keep a text."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None where there is none."""
        if not self._has("get_many"):
            return [self.get(key) for key in keys]
        found = self._try("get_many", [None] * len(keys), keys, read=list)
        return [self._text(value) for value in self._counted("get_many", found, keys, None)]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key."""
        if self._has("put_many"):
            self._try("put_many", None, entries)
        else:
            for key, text in entries:
                self._try("put", None, key, text)

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask."""
        free = [True] * len(keys)
        if self._has("lease_many"):
            taken = self._try("lease_many", free, keys, read=_truths, seconds=seconds)
            return self._counted("lease_many", taken, keys, True)
        if self._has("lease"):
            return [self._try("lease", True, key, read=bool, seconds=seconds) for key in keys]
        return free

    def release_many(self, keys: Sequence[str]) -> None:
        """End leases."""
        if self._has("release_many"):
            self._try("release_many", None, keys)
        elif self._has("release"):
            for key in keys:
                self._try("release", None, key)

    def _has(self, name: str) -> bool:
        if name not in self._methods:
            # To look for a method may fail or hang like a call.
            found = self._run(name, lambda: callable(getattr(self.store, name, None)))
            if isinstance(found, _Failure):
                return False
            self._methods[name] = found
        return self._methods[name]

    def _try(self, name: str, otherwise: Any, *arguments: Any, read: Callable[[Any], Any] = _as_is, **more: Any) -> Any:
        """Return what a method of the store returns, as `read` makes it of that, or else `otherwise`."""
        done = self._run(name, lambda: read(getattr(self.store, name)(*arguments, **more)))
        if isinstance(done, _Failure):
            return otherwise
        if name == self._failing:
            self._outage.worked()
        return done

    def _run(self, name: str, action: Callable[[], T]) -> T | _Failure:
        if self._outage.lasts:
            return _Failure("left alone")
        outcome: Future[T | _Failure] = Future()
        workers = self._idle  # the list of this process: a forked child has another

        def job() -> None:
            try:
                done: T | _Failure = action()
            except BaseException as error:  # noqa: BLE001  without a result, the caller would lose its patience
                done = _Failure.of(error)
            workers.append(worker)  # before the result: who has that may come back at once
            outcome.set_result(done)

        try:
            worker = workers.pop()
        except IndexError:
            worker = StoreThread("llmtasker-store")
        worker.submit(job)
        try:
            done = outcome.result(self.patience)
        except TimeoutError:
            done = _Failure(f"{name} has not answered for {self.patience:g} s", hangs=True)
        if isinstance(done, _Failure):
            self._failing = name
            self._fail(done)
        return done

    def _counted(self, name: str, found: list[T], keys: Sequence[str], otherwise: T) -> list[T]:
        if len(found) == len(keys):
            return found
        self._fail(_Failure(f"{name} returned {len(found)} answers for {len(keys)} keys"))
        return [otherwise] * len(keys)

    def _text(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._fail(_Failure(f"it returned a {type(value).__name__} where a text was kept"))
        return None

    def _fail(self, failure: _Failure) -> None:
        self._outage.failed(tolerable=not failure.hangs)
        self._outage.report(
            "failed",
            f"failed: {snippet(failure.reason)}. The run goes on, answers may not be kept; it is tried again later.",
        )


class _Failure(NamedTuple):
    """Why the store did not do what it was asked."""

    reason: str
    hangs: bool = False

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        name = type(error).__name__
        try:
            return cls(f"{name}: {error}")
        except Exception:  # noqa: BLE001  an error is anybody's code too
            return cls(f"{name}: it can't be shown")


def _truths(answers: Iterable[object]) -> list[bool]:
    return [bool(each) for each in answers]
