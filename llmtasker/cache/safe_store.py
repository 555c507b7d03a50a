"""SafeStore: adds batches and leases to a store with `get` and `put`; it neither raises errors nor hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait
from typing import Any, NamedTuple, NoReturn, TypeVar

from llmtasker.cache.backoff import Backoff
from llmtasker.cache.store import LEASE, Store
from llmtasker.errors import snippet
from llmtasker.threads import call_in_thread

T = TypeVar("T")

_TOLERATED = 2  # failures in a row: the fault may lie in one key
_TRIAL = 3.0  # seconds for the first call after a pause, which the rows behind it wait for
_LONGEST = 45.0  # seconds of a pause: a store that is back is used again within a minute


def _as_is(value: Any) -> Any:
    return value


class SafeStore:
    """A user's store, as the runner uses it.

    An error of the store counts as a miss, a text that is not stored, or a free lease, and is reported once as a
    CacheWarning. A store that fails three times in a row, or does not answer within `patience` seconds, is not used
    for a while, which doubles; then one call tries whether it is back.

    Each call has its own thread, because only a caller in another thread can stop waiting.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str | None = None,
        patience: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store: Any = store
        self.patience = patience
        name = name or type(store).__name__
        self._backoff = Backoff(f"The cache {name}", tolerated=_TOLERATED, longest=_LONGEST, clock=clock)
        self._methods: dict[str, bool] = {}
        self._leased: set[str] = set()
        self._left: set[str] = set()  # leases that may still be in the store, because ending them failed
        self._failing = ""  # the method that failed last: a success of another method does not clear it

    def __repr__(self) -> str:
        return f"SafeStore({type(self.store).__name__})"

    def get(self, key: str) -> str | None:
        """Return the text, or None if there is none."""
        return self._text(self._try("get", None, key))

    def get_at_once(self, key: str) -> NoReturn:
        """Refuse, because the duration of the call is unknown.

        Raises:
            BlockingIOError: always.
        """
        raise BlockingIOError

    def put(self, key: str, text: str) -> None:
        """Store a text."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None if there is none."""
        if not self._has("get_many"):
            return [self.get(key) for key in keys]
        found = self._try("get_many", [None] * len(keys), keys, read=list)
        return [self._text(value) for value in self._counted("get_many", found, keys, None)]

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Store texts by key."""
        if self._has("put_many"):
            done = self._try("put_many", False, entries, read=_true)
            self._end([key for key, _ in entries], done)
        else:
            for key, text in entries:
                self._end([key], self._try("put", False, key, text, read=_true))

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask."""
        if self._has("lease_many"):
            asked = not self._backoff.lasts
            taken = self._try("lease_many", None, keys, read=_truths, seconds=seconds)
            if taken is not None:
                taken = self._counted("lease_many", taken, keys, True)
                self._leased.update(key for key, is_mine in zip(keys, taken, strict=True) if is_mine)
                self._left.difference_update(self._leased)
                return taken
            if asked:
                self._leased.update(keys)  # it failed, but the store may have got the call
        elif self._has("lease"):
            return [self._try("lease", True, key, read=bool, seconds=seconds) for key in keys]
        return [True] * len(keys)

    def release_many(self, keys: Sequence[str]) -> None:
        """End leases."""
        done = False
        if self._has("release_many"):
            done = self._try("release_many", False, keys, read=_true)
        elif self._has("release"):
            for key in keys:
                self._try("release", None, key)
        self._end(keys, done)

    def _end(self, keys: Sequence[str], done: bool) -> None:
        """Record whether the leases on keys were ended; if they were, end those that were left behind too."""
        if not done:
            self._left |= self._leased.intersection(keys)
        self._leased.difference_update(keys)
        if done and self._left and self._has("release_many"):
            left = list(self._left)
            if self._try("release_many", False, left, read=_true):
                self._left.difference_update(left)

    def _has(self, name: str) -> bool:
        if name not in self._methods:
            # Looking up a method may fail or hang like a call.
            found = self._run(name, lambda: callable(getattr(self.store, name, None)))
            if isinstance(found, _Failure):
                return False
            self._methods[name] = found
        return self._methods[name]

    def _try(self, name: str, otherwise: Any, *arguments: Any, read: Callable[[Any], Any] = _as_is, **more: Any) -> Any:
        """Return the result of a method of the store, converted by `read`, or else `otherwise`."""
        done = self._run(name, lambda: read(getattr(self.store, name)(*arguments, **more)))
        if isinstance(done, _Failure):
            return otherwise
        if name == self._failing:
            self._backoff.worked()
        return done

    def _run(self, name: str, action: Callable[[], T]) -> T | _Failure:
        if self._backoff.lasts:
            return _Failure("left alone")
        patience = min(self.patience, _TRIAL) if self._backoff.over else self.patience
        try:
            called = call_in_thread(action, "llmtasker-store")
        except RuntimeError as error:  # there can't be more threads
            failure = _Failure.of(error)
        else:
            if not wait([called], patience).done:
                failure = _Failure(f"{name} has not answered for {patience:g} s", hangs=True)
            elif (raised := called.exception()) is not None:
                failure = _Failure.of(raised)
            else:
                return called.result()
        self._failing = name
        self._fail(failure)
        return failure

    def _counted(self, name: str, found: list[T], keys: Sequence[str], otherwise: T) -> list[T]:
        if len(found) == len(keys):
            return found
        self._fail(_Failure(f"{name} returned {len(found)} answers for {len(keys)} keys"))
        return [otherwise] * len(keys)

    def _text(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._fail(_Failure(f"it returned a {type(value).__name__} instead of the stored text"))
        return None

    def _fail(self, failure: _Failure) -> None:
        self._backoff.failed(tolerable=not failure.hangs)
        self._backoff.report(
            "failed",
            f"failed: {snippet(failure.reason)}. The run continues; answers may not be stored until it works again.",
        )


class _Failure(NamedTuple):
    """Why a call to the store failed."""

    reason: str
    hangs: bool = False

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        name = type(error).__name__
        try:
            return cls(f"{name}: {error}", hangs=isinstance(error, TimeoutError))
        except Exception:  # noqa: BLE001  the error class is foreign code too
            return cls(f"{name}: it can't be shown")


def _true(_: object) -> bool:
    return True


def _truths(answers: Iterable[object]) -> list[bool]:
    return [bool(each) for each in answers]
