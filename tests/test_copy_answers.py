"""copy_answers between folders: existing answers are not copied again, and a failure is an error."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from llmtasker import ConfigurationError
from llmtasker.cache import CacheWarning, DiskCache
from llmtasker.cache.copy_answers import copy_answers

KEYS = [f"{number:064x}" for number in range(1100)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    cache = DiskCache(tmp_path / "source")
    cache.put_many([(key, key) for key in KEYS])
    assert cache.lease("f" * 64)
    cache.close()
    return cache.directory


def test_all_answers_are_copied_and_no_lease(source: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    count = copy_answers(str(source), str(tmp_path / "target"), lambda count: seen.append(count.copied))
    assert (count.copied, count.present, count.damaged) == (1100, 0, 0)
    assert seen == [500, 1000, 1100]
    target = DiskCache(tmp_path / "target")
    assert target.get_many(KEYS) == KEYS
    assert target.info().entries == 1100
    assert target.lease("f" * 64)
    target.close()


def test_a_copy_continues_with_what_is_missing(source: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        copy_answers(str(source), str(tmp_path / "target"), stop)
    count = copy_answers(str(source), str(tmp_path / "target"))
    assert (count.copied, count.present) == (600, 500)


def test_damaged_answers_are_left_out(source: Path, tmp_path: Path) -> None:
    with sqlite3.connect(source / "cache.db") as connection:
        connection.execute("UPDATE Cache SET value = 'forged' WHERE key = ?", (KEYS[7],))
    connection.close()
    count = copy_answers(str(source), str(tmp_path / "target"))
    assert (count.copied, count.damaged) == (1099, 1)


def test_a_target_that_keeps_nothing_is_an_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    with (
        pytest.warns(CacheWarning, match="not available"),
        pytest.raises(ConfigurationError, match="stopped after 0 answers: the target does not keep them"),
    ):
        copy_answers(str(source), str(tmp_path / "target"))


def test_a_source_that_is_not_a_cache_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no cache in"):
        copy_answers(str(tmp_path / "none"), str(tmp_path / "target"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cache.db").touch()
    with pytest.raises(ConfigurationError, match="both the source and the target"):
        copy_answers(str(tmp_path), str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"s3://.* is not a folder"):
        copy_answers(str(tmp_path), "s3://bucket")


def test_a_source_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    connection = sqlite3.connect(tmp_path / "source" / "cache.db")
    connection.execute("CREATE TABLE Customers(name)")
    connection.close()
    with (
        pytest.warns(CacheWarning, match="not one of llmtasker"),
        pytest.raises(ConfigurationError, match="can't be read"),
    ):
        copy_answers(str(tmp_path / "source"), str(tmp_path / "target"))
