"""open_cache: the store for a value of `cache=`, complete and safe."""

from __future__ import annotations

import os
import warnings

from llmtasker.cache.disk_cache import DiskCache
from llmtasker.cache.safe_store import SafeStore
from llmtasker.cache.shared import Shared
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


_by_folder: Shared[DiskCache] = Shared()
_by_store: Shared[SafeStore] = Shared()


def _shared(cache: DiskCache) -> DiskCache:
    """Return the cache that this process already has for the folder, or else this one."""
    return _by_folder.get(os.path.realpath(cache.directory), lambda: cache)


def _safe(store: Store) -> SafeStore:
    return _by_store.get(id(store), lambda: SafeStore(store))
