"""open_cache: the store for a value of `cache=`, complete and safe."""

from __future__ import annotations

import os
import re
import sys
import warnings
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmtasker.cache.disk_cache import DiskCache
from llmtasker.cache.safe_store import SafeStore
from llmtasker.cache.shared import Shared
from llmtasker.cache.store import CacheWarning, CompleteStore, MemoryCache, Store, check_folder
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.threads import call_in_thread
from llmtasker.values.lazy_pattern import lazy_pattern

if TYPE_CHECKING:
    from llmtasker.cache.redis_cache import RedisCache

C = TypeVar("C")

_REDIS = lazy_pattern(r"\s*rediss?://", re.IGNORECASE)


def accepted(cache: C) -> C | RedisCache:
    """Check the value of `cache=`, and return what to keep of it: of a URL its store, which does not show a password.

    Nothing is opened.

    Raises:
        ConfigurationError: it is not True, False, None, a folder, the URL of a Redis, or a store with `get` and `put`.
    """
    value: Any = cache
    if isinstance(value, str) and _REDIS.match(value):
        from llmtasker.cache.redis_cache import RedisCache

        return RedisCache(value.strip())
    if isinstance(value, str | os.PathLike):
        check_folder(cast("str | os.PathLike[str]", value))
    elif not (value is None or isinstance(value, bool) or _is_store(value)):
        raise ConfigurationError(
            f"cache={snippet(repr(value), 40)} is not a cache: give a folder, redis://host:6379/0, a store with get "
            "and put, True or False."
        )
    return cache


def open_cache(value: bool | str | os.PathLike[str] | Store | None = None) -> CompleteStore | None:
    """Return the cache for a value of `cache=`: the default folder (True, None), none (False), or as in `accepted`.

    The same folder gives the same DiskCache, no matter how often and in which thread it is opened; so does the same
    URL of a Redis, which is checked at the first time. A store with `get` and `put` is wrapped in a SafeStore, once.

    Raises:
        ConfigurationError: the value is something else, or the Redis answers but can't be used.
    """
    if value is False:
        return None
    if value is None or value is True:
        try:
            return _shared(DiskCache())
        except RuntimeError as error:
            warnings.warn(f"No cache: {error} Set LLMTASKER_CACHE_DIR to a folder.", CacheWarning, stacklevel=2)
            return None
    store: Any = accepted(value)
    if isinstance(store, str | os.PathLike):
        return _shared(DiskCache(cast("str | os.PathLike[str]", store)))
    if isinstance(store, DiskCache | MemoryCache | SafeStore):
        return store
    redis_cache = sys.modules.get("llmtasker.cache.redis_cache")  # loaded if this is one
    if redis_cache is not None and isinstance(store, redis_cache.RedisCache):
        return _of_redis(store)
    return _by_store.get(id(store), lambda: SafeStore(store))


_by_folder: Shared[DiskCache] = Shared()
_by_store: Shared[SafeStore] = Shared()


def _is_store(value: object) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("get", "put")) and not isinstance(value, type)


def _shared(cache: DiskCache) -> DiskCache:
    """Return the cache that this process already has for the folder, or else this one."""
    return _by_folder.get(os.path.realpath(cache.directory), lambda: cache)


def _of_redis(store: RedisCache) -> SafeStore:
    """Return the SafeStore that this process already has for a Redis, or else one for this store, checked."""
    safe = _by_store.get(store.url, lambda: SafeStore(store, name=store.url.name, patience=store.patience))
    if safe.store is store:
        # In a thread, because even looking up the name of its host may take too long.
        checked = call_in_thread(store.check, "llmtasker-store")
        if wait([checked], store.patience).done:
            checked.result()
    return safe
