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

    Each call has a thread of its own, because only a caller in another thread can stop waiting.
    """

    def __init__(self, store: Store, *, patience: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.store: Any = store
        self.patience = patience
        name = f"The cache {type(store).__name__}"
        self._backoff = Backoff(name, tolerated=_TOLERATED, longest=_LONGEST, clock=clock)
        self._methods: dict[str, bool] = {}
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
        self._fail(_Failure(f"it returned a {type(value).__name__} where a text was kept"))
        return None

    def _fail(self, failure: _Failure) -> None:
        self._backoff.failed(tolerable=not failure.hangs)
        self._backoff.report(
            "failed",
            f"failed: {snippet(failure.reason)}. The run goes on, answers may not be kept; it is tried again later.",
        )


class _Failure(NamedTuple):
    """Why a call to the store failed."""

    reason: str
    hangs: bool = False

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        name = type(error).__name__
        try:
            return cls(f"{name}: {error}")
        except Exception:  # noqa: BLE001  the error class is foreign code too
            return cls(f"{name}: it can't be shown")


def _truths(answers: Iterable[object]) -> list[bool]:
    return [bool(each) for each in answers]
