"""open_cache: the store for a value of `cache=`, complete and safe."""

from __future__ import annotations

import os
import threading
import warnings
import weakref

from llmtasker.cache.disk_cache import DiskCache
from llmtasker.cache.safe_store import SafeStore
from llmtasker.cache.store import CacheWarning, CompleteStore, MemoryCache, Store
from llmtasker.errors import ConfigurationError, snippet


def open_cache(value: bool | str | os.PathLike[str] | Store | None = None) -> CompleteStore | None:
    """Return the cache for a value of `cache=`: the default folder (True, None), none (False), a path, or a store.

    The same folder gives the same DiskCache, no matter how often and in which thread it is opened. A store with `get`
    and `put` is wrapped in a SafeStore, once.

    Raises:
        ConfigurationError: the value is none of these.
    """
    if value is False:
        return None
    if isinstance(value, str | os.PathLike):
        return _shared(DiskCache(value))
    if value is None or value is True:
        try:
            return _shared(DiskCache())
        except RuntimeError as error:
            warnings.warn(f"No cache: {error} Set LLMTASKER_CACHE_DIR to a folder.", CacheWarning, stacklevel=2)
            return None
    if isinstance(value, DiskCache | MemoryCache | SafeStore):
        return value
    if callable(getattr(value, "get", None)) and callable(getattr(value, "put", None)):
        return _safe(value)
    raise ConfigurationError(
        f"cache={snippet(repr(value), 40)} is not a cache: give a path, a store with get and put, True or False"
    )


_by_folder: weakref.WeakValueDictionary[str, DiskCache] = weakref.WeakValueDictionary()
# By id, because a store need not be hashable. A SafeStore keeps its store alive, so the id is not reused.
_by_store: weakref.WeakValueDictionary[int, SafeStore] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _shared(cache: DiskCache) -> DiskCache:
    """Return the cache that this process already has for the folder, or else this one."""
    with _lock:
        return _by_folder.setdefault(os.path.realpath(cache.directory), cache)


def _safe(store: Store) -> SafeStore:
    with _lock:
        found = _by_store.get(id(store))
        if found is None:
            found = _by_store[id(store)] = SafeStore(store)
        return found


def _after_fork() -> None:
    global _lock  # noqa: PLW0603  a thread that does not exist in the child may hold the old lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
