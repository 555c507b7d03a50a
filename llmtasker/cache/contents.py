"""What is in a cache file: how much, how old, and the removal of old answers. Nothing is removed unasked."""

from __future__ import annotations

from pathlib import Path

from llmtasker.cache.fault import faults
from llmtasker.cache.open_file import FILE
from llmtasker.cache.text_cache import TextCache

_STEP = 5_000  # rows deleted in one transaction: other processes get their turn in between
_ANSWERS = "WHERE expire_time IS NULL"  # leases expire, answers do not


def span(cache: TextCache) -> tuple[int, float | None, float | None]:
    """Return how many answers there are, and when the oldest and the newest were written."""
    with faults():
        count, oldest, newest = cache.connection.execute(
            f"SELECT COUNT(*), MIN(CAST(store_time AS REAL)), MAX(CAST(store_time AS REAL)) FROM Cache {_ANSWERS}"  # noqa: S608
        ).fetchone()
    return count, oldest, newest


def bytes_used(cache: TextCache) -> int:
    """Return the bytes that the rows take in the file."""
    with faults():
        pages, free, size = (
            cache.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def prune(cache: TextCache, before: float, patience: float) -> int:
    """Delete the answers that were written before a time; return how many."""
    return _sweep(cache, f"{_ANSWERS} AND store_time < ?", (before,), -1, patience)


def shrink(cache: TextCache, size: int, patience: float) -> int:
    """Delete the oldest answers until the file takes at most `size` bytes; return how many."""
    removed = 0
    while (used := bytes_used(cache)) > size and (entries := span(cache)[0]):
        # Rows differ in size: a part of the estimate each time, so that little more is deleted than has to be.
        share = int(0.8 * entries * (used - size) / used)
        removed += _sweep(cache, f"{_ANSWERS} ORDER BY store_time, rowid", (), max(share, 1), patience)
    return removed


def clear(cache: TextCache, folder: Path, patience: float) -> int:
    """Delete every row, and the databases in quarantine; return how many answers there were."""
    entries = span(cache)[0]
    _sweep(cache, "", (), -1, patience)
    with faults():
        for path in folder.glob(FILE + ".damaged-*"):
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
    return entries


def _sweep(cache: TextCache, which: str, arguments: tuple[float, ...], most: int, patience: float) -> int:
    removed = 0
    while most:
        step = _STEP if most < 0 else min(most, _STEP)
        statement = f"DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache {which} LIMIT {step})"  # noqa: S608  ours
        with faults(), cache.transaction(patience):
            count = cache.connection.execute(statement, arguments).rowcount
        removed += count
        most = 0 if count < step else most - count if most > 0 else most
    settle(cache)
    return removed


def settle(cache: TextCache) -> None:
    """Bring the log into the file: deleted texts are gone from the disk, and the file alone is a whole copy."""
    with faults():
        cache.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
