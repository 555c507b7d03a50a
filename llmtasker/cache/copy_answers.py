"""copy_answers: copy the answers of one cache into another, of any type; started again, it resumes where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmtasker.cache.disk_cache import DiskCache
from llmtasker.cache.open_cache import accepted
from llmtasker.cache.text_cache import place_of
from llmtasker.errors import ConfigurationError, counted, snippet


@dataclass(slots=True, kw_only=True)
class CopyCount:
    """How many answers were copied, how many already existed, and how many were damaged and left out."""

    copied: int = 0
    present: int = 0
    damaged: int = 0


class _Listed(Protocol):
    """A cache whose answers can be listed."""

    def key_batches(self) -> Iterator[list[str]]: ...
    def get_many(self, keys: Sequence[str]) -> list[str | None]: ...
    def put_many(self, entries: Sequence[tuple[str, str]]) -> None: ...
    def close(self) -> None: ...


def copy_answers(source: str, target: str, on_batch: Callable[[CopyCount], object] = lambda _: None) -> CopyCount:
    """Copy the answers that another cache lacks; each cache is a folder or the URL of a Redis.

    Answers written during the copy may be missed; copy again to get them. `on_batch` is called after each batch.

    Raises:
        ConfigurationError: there is no cache at the source, both are the same, or one of them failed.
    """
    count = CopyCount()
    begin, end = _opened(source, must_exist=True), _opened(target)
    try:
        if repr(begin) == repr(end) and getattr(begin, "url", None) == getattr(end, "url", None):
            raise ConfigurationError(f"{begin!r} is both the source and the target: name two caches.")
        for keys in begin.key_batches():
            _copy_batch(begin, end, keys, count)
            on_batch(count)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise ConfigurationError(_stopped(count, snippet(f"{type(error).__name__}: {error}"))) from None
    finally:
        begin.close()
        end.close()
    return count


def _copy_batch(source: _Listed, target: _Listed, keys: Sequence[str], count: CopyCount) -> None:
    held = target.get_many(keys)
    missing = [key for key, text in zip(keys, held, strict=True) if text is None]
    texts = source.get_many(missing)
    entries = [(key, text) for key, text in zip(missing, texts, strict=True) if text is not None]
    target.put_many(entries)
    # With a full or read-only folder, a run warns and continues; a copy must not.
    if target.get_many([key for key, _ in entries]) != [text for _, text in entries]:
        raise ConfigurationError(_stopped(count, "the target does not keep them"))
    count.copied += len(entries)
    count.present += len(keys) - len(missing)
    count.damaged += len(missing) - len(entries)


def _stopped(count: CopyCount, reason: str) -> str:
    return (
        f"the copy stopped after {counted(count.copied, 'answer')}: {reason}. "
        "Start it again once this is fixed: it continues with the missing answers."
    )


def _opened(place: str, *, must_exist: bool = False) -> _Listed:
    cache: Any = accepted(place)
    if not isinstance(cache, str):
        cache.check()
        return cache  # type: ignore[no-any-return]
    folder = DiskCache(cache)
    if must_exist and place_of(folder.directory) is None:
        raise ConfigurationError(f"there is no cache in {folder.directory}: name the folder that contains cache.db.")
    return folder
