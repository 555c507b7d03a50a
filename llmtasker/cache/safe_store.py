"""SafeStore: a store with `get` and `put`, completed with batches and leases; it neither raises errors nor hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NoReturn, TypeVar

from llmtasker.cache.outage import Outage
from llmtasker.cache.process import reset_in_child
from llmtasker.cache.store import LEASE, Store
from llmtasker.cache.worker import Worker
from llmtasker.errors import snippet

T = TypeVar("T")

_TOLERATED = 2  # failures in a row: one key may have a fault of its own


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
        self.after_fork()
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"SafeStore({type(self.store).__name__})"

    def after_fork(self) -> None:
        """Begin again in a forked child: the threads stay with its parent."""
        self._idle: list[Worker] = []

    def get(self, key: str) -> str | None:
        """Return the text, or None where there is none."""
        return self._text(self._try(None, lambda: self.store.get(key)))

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
        nothing: list[object] = [None] * len(keys)
        if not self._has("get_many"):
            return [self.get(key) for key in keys]
        found = self._try(nothing, lambda: list(self.store.get_many(keys)))
        if len(found) != len(keys):
            self._fail(f"get_many returned {len(found)} texts for {len(keys)} keys")
            found = nothing
        return [self._text(value) for value in found]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep texts by key."""
        if self._has("put_many"):
            self._try(None, lambda: self.store.put_many(entries))
            return
        for key, text in entries:
            self._try(None, partial(self._call, "put", key, text))

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask."""
        free = [True] * len(keys)
        if self._has("lease_many"):
            taken = self._try(free, lambda: [bool(mine) for mine in self.store.lease_many(keys, seconds=seconds)])
            if len(taken) == len(keys):
                return taken
            self._fail(f"lease_many returned {len(taken)} answers for {len(keys)} keys")
        elif self._has("lease"):
            return [self._try(True, partial(self._lease, key, seconds)) for key in keys]
        return free

    def release_many(self, keys: Sequence[str]) -> None:
        """End leases."""
        if self._has("release_many"):
            self._try(None, lambda: self.store.release_many(keys))
        elif self._has("release"):
            for key in keys:
                self._try(None, partial(self._call, "release", key))

    def _has(self, name: str) -> bool:
        if name not in self._methods:
            # To look for a method may fail or hang like a call.
            found = self._try(None, lambda: callable(getattr(self.store, name, None)))
            if found is None:
                return False
            self._methods[name] = found
        return self._methods[name]

    def _lease(self, key: str, seconds: float) -> bool:
        return bool(self.store.lease(key, seconds=seconds))

    def _call(self, name: str, *arguments: object) -> object:
        return getattr(self.store, name)(*arguments)

    def _try(self, otherwise: T, action: Callable[[], T]) -> T:
        if self._outage.lasts:
            return otherwise
        outcome: Future[T | _Failure] = Future()
        workers = self._idle  # the list of this process: a forked child has another

        def job() -> None:
            done: T | _Failure
            try:
                done = action()
            except BaseException as error:  # noqa: BLE001  without a result, the caller would lose its patience
                done = _Failure(error)
            workers.append(worker)  # before the result: who has that may come back at once
            outcome.set_result(done)

        try:
            worker = workers.pop()
        except IndexError:
            worker = Worker("llmtasker-store")
        worker.submit(job)
        try:
            done = outcome.result(self.patience)
        except TimeoutError:
            self._fail(f"it has not answered for {self.patience:g} s", tolerable=False)
            return otherwise
        if isinstance(done, _Failure):
            self._fail(str(done))
            return otherwise
        self._outage.worked()
        return done

    def _text(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._fail(f"it returned a {type(value).__name__} where a text was kept")
        return None

    def _fail(self, reason: str, *, tolerable: bool = True) -> None:
        self._outage.failed(tolerable=tolerable)
        what = f"failed: {snippet(reason)}. The run goes on, answers may not be kept; it is tried again after a while."
        self._outage.report("failed", what)


class _Failure:
    """What the store raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        name = type(self.error).__name__
        try:
            return f"{name}: {self.error}"
        except Exception:  # noqa: BLE001  an error is anybody's code too
            return f"{name}: it can't be shown"
