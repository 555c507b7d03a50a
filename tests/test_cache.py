"""DiskCache: kept answers, forged databases, failing disks, killed processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import random
import signal
import sqlite3
import stat
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import programs
import pytest
from cache_warnings import one_warning
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.cache import CacheWarning, DiskCache, MemoryCache, Store, default_directory, open_cache
from llmtasker.cache.open_file import quarantine
from llmtasker.cache.recovery import DatabaseHandle
from llmtasker.cache.text_cache import TextCache, place_of
from llmtasker.errors import ConfigurationError
from llmtasker.runner.steps import read_stored
from llmtasker.testing import FakeTransport
from llmtasker.wire.completion import Completion

KEYS = [f"{number:064x}" for number in range(2000)]
TEXT = '{"text":"Bonjour"}'


@pytest.fixture
def cache(tmp_path: Path):
    with_clock = DiskCache(tmp_path / "cache", patience=0.3, clock=Clock())
    yield with_clock
    with_clock.close()


def python(code: str, *arguments: object) -> str:
    """Run code in a separate process, and return its output."""
    done = programs.run("-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sql(cache: DiskCache, statement: str, *arguments: object) -> list[tuple]:
    connection = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    try:
        return connection.execute(statement, arguments).fetchall()
    finally:
        connection.close()


def leases(cache: DiskCache) -> list[str]:
    """Return the keys that are leased in the database, by any process."""
    return [key.removeprefix("lease:") for (key,) in sql(cache, "SELECT key FROM Cache WHERE key LIKE 'lease:%'")]


# Stored texts are found again.


def test_an_answer_comes_back_also_to_another_process(cache: DiskCache) -> None:
    assert cache.get(KEYS[0]) is None
    cache.put(KEYS[0], TEXT)
    cache.put(KEYS[0], TEXT + " ")
    assert cache.get(KEYS[0]) == TEXT + " "
    code = "import sys; from llmtasker.cache import DiskCache; print(DiskCache(sys.argv[1]).get(sys.argv[2]))"
    assert python(code, cache.directory, KEYS[0]) == TEXT + " \n"


def test_batches_keep_the_order_and_take_twice_the_same(cache: DiskCache) -> None:
    cache.put_many([(key, f"{number}") for number, key in enumerate(KEYS)])
    assert cache.get_many([KEYS[3], "f" * 64, *KEYS, KEYS[3]]) == ["3", None, *map(str, range(len(KEYS))), "3"]
    assert cache.get_many([]) == []


def test_discarded_is_forgotten(cache: DiskCache) -> None:
    cache.put_many([(KEYS[0], "1"), (KEYS[1], "2")])
    cache.discard(KEYS[0])
    assert cache.get_many(KEYS[:2]) == [None, "2"]


@given(text=st.text(st.characters(max_codepoint=127)))
def test_any_ascii_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    cache = open_cache(tmp_path_factory.getbasetemp() / "any-text")
    assert cache is not None
    cache.put(KEYS[0], text)
    assert cache.get(KEYS[0]) == text


@pytest.mark.parametrize("key", ["", "short", "G" * 64, "é" * 64, "\ud800" * 64, "A" * 64, KEYS[0] + "\n", None, 7])
def test_a_key_that_is_not_one_is_left_out(cache: DiskCache, key: str) -> None:
    with one_warning("64 hexadecimal digits"):
        cache.put_many([(key, "1"), (KEYS[0], "2")])
        assert cache.get_many([key, KEYS[0], key]) == [None, "2", None]
        assert cache.lease_many([key, KEYS[0], key, KEYS[1]]) == [True, False, True, True]


@pytest.mark.parametrize("text", ["é", "\ud800", b"{}", None, {"a": 1}])
def test_a_text_that_is_not_ascii_is_left_out(cache: DiskCache, text: str) -> None:
    with pytest.warns(CacheWarning, match="ASCII"):
        cache.put_many([(KEYS[0], text), (KEYS[1], "{}")])
    assert cache.get_many(KEYS[:2]) == [None, "{}"]


def test_loading_the_module_loads_neither_diskcache_nor_sqlite() -> None:
    code = (
        "import sys; before = set(sys.modules); import llmtasker.cache, llmtasker.cache.async_store; "
        "print(sorted({'diskcache', 'sqlite3'} & (set(sys.modules) - before)))"
    )
    assert python(code) == "[]\n"


def test_a_cache_can_be_sent_to_another_process(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.get(KEYS[0]), copy.patience, repr(copy)) == (TEXT, 0.3, repr(cache))
    copy.close()


# The folder, and its permissions.


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"LLMTASKER_CACHE_DIR": "/a/$HOME/~", "HOME": "/h"}, "/a/$HOME/~"),
        ("linux", {"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/llmtasker"),
        ("linux", {"XDG_CACHE_HOME": "x", "HOME": "/h"}, "/h/.cache/llmtasker"),
        ("darwin", {"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/Library/Caches/llmtasker"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/llmtasker/Cache"),
        ("win32", {"USERPROFILE": "/u"}, "/u/AppData/Local/llmtasker/Cache"),
        ("linux", {}, f"{Path.home()}/.cache/llmtasker"),
    ],
)
def test_default_directory(platform: str, environ: dict[str, str], expected: str) -> None:
    assert default_directory(environ, platform).as_posix() == expected


def test_a_name_is_taken_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "$HOME" / "~" / "${PATH}%TEMP%?mode=ro#"
    cache = DiskCache(place)
    cache.put(KEYS[0], TEXT)
    assert (place / "cache.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["$HOME"]
    cache.close()


@pytest.mark.parametrize("umask", [0, 0o022, 0o277])
def test_folder_and_files_are_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache = DiskCache(tmp_path / "cache")
        cache.put(KEYS[0], TEXT)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [cache.directory, *cache.directory.iterdir()]}
    assert modes == {"cache": 0o700, "cache.db": 0o600, "cache.db-wal": 0o600, "cache.db-shm": 0o600}
    cache.close()


def test_an_open_folder_is_closed_to_others_but_not_one_with_other_things(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache.put(KEYS[0], TEXT)
    cache.close()
    cache.directory.chmod(0o777)
    (cache.directory / "cache.db").chmod(0o666)
    assert cache.get(KEYS[0]) == TEXT
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache.directory / "cache.db").stat().st_mode) == 0o600
    cache.close()
    (cache.directory / "results.csv").touch()
    cache.directory.chmod(0o755)
    assert cache.get(KEYS[0]) == TEXT
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o755
    cache.close()


def test_open_cache_shares_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTASKER_CACHE_DIR", str(tmp_path / "a"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    first = open_cache(True)
    found: list[Store | None] = []
    threads = [threading.Thread(target=lambda: found.append(open_cache(tmp_path / "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [open_cache(None), open_cache(str(tmp_path / "link")), open_cache(tmp_path / "b" / ".." / "a")]
    assert all(other is first for other in found)
    assert open_cache(tmp_path / "b") is not first


def test_open_cache_takes_stores_and_nothing_else() -> None:
    memory = MemoryCache()
    assert open_cache(memory) is memory
    assert open_cache(False) is None
    for wrong in ("", "a\0b", 7, {}, object()):
        with pytest.raises(ConfigurationError):
            open_cache(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["redis://ada:s3cret@host/0", "rediss://:s3cret@host", "s3://s3cret", "file:///s3cret"])
def test_a_url_is_refused_before_it_becomes_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMTASKER_CACHE_DIR", url)
    tries: list[Callable[[], object]] = [
        lambda: open_cache(Path(url)),
        lambda: open_cache(True),
        lambda: DiskCache(url),
        DiskCache,
    ]
    if "redis" not in url:  # as a text, the URL of a Redis is a cache
        tries += [lambda: LLM("offline", cache=url), lambda: Task(Thanks, llm="offline", cache=url)]
        tries += [lambda: open_cache(url)]
    for attempt in tries:
        with pytest.raises(ConfigurationError, match=url.partition(":")[0] + "://") as caught:
            attempt()
        assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["C:/cache", "a:b", "./redis:/cache", "cache"])
def test_a_folder_may_have_a_colon(name: str) -> None:
    assert str(DiskCache(name).directory).endswith(name.removeprefix("./"))


def test_without_a_home_there_is_no_cache() -> None:
    code = """
import os, sys, warnings
from llmtasker.cache import open_cache
for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LLMTASKER_CACHE_DIR"):
    os.environ.pop(name, None)
if os.getuid() == 0:
    os.setuid(54321)
else:
    os.getuid = lambda: 54321
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(open_cache(), [str(each.message)[:9] for each in caught])
"""
    assert python(code) == "None ['No cache:']\n"


# The content of a database is not trusted.


class Bomb:
    """A pickle that leaves a trace if it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


INSERT = (
    "INSERT OR REPLACE INTO Cache(key, raw, store_time, expire_time, access_time, tag, size, mode, filename, value)"
    " VALUES (?, ?, 1, ?, 1, ?, 0, ?, ?, ?)"
)


@pytest.fixture
def forged(cache: DiskCache, tmp_path: Path) -> DiskCache:
    """A cache with one good row and one of each bad kind; the trace is `tmp_path/ran`, the victims `…/victim*`."""
    cache.put(KEYS[0], TEXT)
    (tag,) = sql(cache, "SELECT tag FROM Cache")[0]
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    (tmp_path / "bomb").write_bytes(bomb)
    victims = [tmp_path / f"victim{number}" for number in range(3)]
    for victim in victims:
        victim.write_text(TEXT)
    rows: list[tuple[object, ...]] = [
        (KEYS[1], 1, None, tag, 4, None, bomb),
        (KEYS[2], 1, None, tag, 4, "../bomb", None),
        (KEYS[3], 1, None, tag, 3, "../victim0", None),
        (KEYS[4], 1, None, tag, 2, str(victims[1]), None),
        (KEYS[5], 1, None, tag, 1, "../victim2", TEXT),
        (KEYS[6], 1, None, tag, 1, None, TEXT.encode()),
        (KEYS[7], 1, None, tag, 1, None, TEXT),
        (KEYS[8], 1, None, None, 1, None, None),
        (KEYS[9], 1, None, tag, 1, None, 7),
        (KEYS[10], 1, 5.0, tag, 4, "../victim0", bomb),
        (bomb, 0, None, tag, 4, None, bomb),
        (bomb, 1, None, tag, 1, "../victim1", bomb),
        (KEYS[11], 0, 5.0, b"x", "text", "../victim1", TEXT),
        ("lease:" + KEYS[12], 1, "never", "lease", 4, "../victim2", bomb),
    ]
    for row in rows:
        sql(cache, INSERT, *row)
    return cache


def assert_harmless(tmp_path: Path) -> None:
    assert not (tmp_path / "ran").exists()
    assert all((tmp_path / f"victim{number}").read_text() == TEXT for number in range(3))


def test_a_forged_row_is_a_miss_and_is_dropped(forged: DiskCache, tmp_path: Path) -> None:
    assert forged.get_many(KEYS[:13]) == [TEXT, *[None] * 12]
    assert forged.lease(KEYS[12])
    forged.info()
    assert [key for (key,) in sql(forged, "SELECT key FROM Cache WHERE raw = 1 AND key IN (?, ?, ?)", *KEYS[:3])] == [
        KEYS[0]
    ]
    forged.put_many([(key, TEXT) for key in KEYS[:13]])
    assert forged.get_many(KEYS[:13]) == [TEXT] * 13
    assert_harmless(tmp_path)


@pytest.mark.parametrize(
    "remove",
    [
        DiskCache.clear,
        lambda cache: cache.prune(older_than=0),
        lambda cache: cache.prune(max_bytes=0),
        lambda cache: [cache.discard(key) for key in KEYS[:20]],
        lambda cache: [cache.put(key, TEXT) for key in KEYS[:20]],
    ],
)
def test_removing_forged_rows_touches_nothing_else(
    forged: DiskCache, tmp_path: Path, remove: Callable[[DiskCache], object]
) -> None:
    remove(forged)
    assert_harmless(tmp_path)


def test_diskcache_itself_is_harmless_over_our_disk(forged: DiskCache, tmp_path: Path) -> None:
    connection = sqlite3.connect(forged.directory / "cache.db", isolation_level=None)
    raw = TextCache(forged.directory, connection)
    assert raw.get(KEYS[0]) == raw[KEYS[0]] == TEXT
    assert raw.set(KEYS[20], TEXT)
    assert raw.add(KEYS[21], TEXT)
    assert raw.directory == str(forged.directory)
    for key in KEYS[1:12]:
        for action in (raw.get, raw.pop, raw.read):
            try:
                value = action(key)
            except (ValueError, KeyError):
                continue
            assert value in (None, TEXT)  # the checksum is ours
    for read in (lambda: list(raw), lambda: list(raw.iterkeys()), lambda: list(reversed(raw))):
        with pytest.raises(ValueError, match="refused"):
            read()
    for write in (lambda: raw.set(KEYS[0], {}), lambda: raw.set(7, TEXT), raw.disk.filename):
        with pytest.raises(TypeError):
            write()
    with contextlib.suppress(ValueError):
        raw.peekitem()
    raw.cull()
    raw.expire()
    raw.evict("x")
    raw.delete(KEYS[3])
    assert raw.clear() > 0
    connection.close()
    assert_harmless(tmp_path)


@pytest.mark.parametrize(
    "forge",
    [
        "INSERT INTO Settings VALUES ('_directory', '/tmp')",
        "INSERT INTO Settings VALUES ('connection', 'x')",
        "INSERT INTO Settings VALUES ('disk_path', '/tmp')",
        "INSERT INTO Settings VALUES ('sqlite_temp_store_directory', '/tmp')",
        "CREATE TABLE other(x)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
        "ALTER TABLE Cache DROP COLUMN tag",
        "DROP TABLE Cache; CREATE VIRTUAL TABLE Cache USING fts5(x)",
    ],
)
def test_a_database_of_another_kind_is_left_alone(cache: DiskCache, forge: str) -> None:
    cache.put(KEYS[0], TEXT)
    cache.close()
    for statement in forge.split("; C"):
        sql(cache, statement if statement == forge or "DROP" in statement else "C" + statement)
    before = (cache.directory / "cache.db").read_bytes()
    with one_warning("not one of llmtasker"):
        assert cache.get(KEYS[0]) is None
        cache.put(KEYS[1], TEXT)
        assert cache.get(KEYS[1]) is None
        assert cache.lease(KEYS[1])
    assert (cache.directory / "cache.db").read_bytes() == before
    with pytest.raises(ConfigurationError, match="can't be opened"):
        cache.clear()


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal"])
def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o644)
    cache = DiskCache(tmp_path / "cache")
    cache.directory.mkdir()
    (cache.directory / name).symlink_to(victim)
    with pytest.warns(CacheWarning, match="damaged"):
        cache.put(KEYS[0], TEXT)
    assert cache.get(KEYS[0]) == TEXT
    assert victim.read_text() == "mine"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644
    cache.clear()
    cache.close()
    assert victim.read_text() == "mine"


def test_a_flipped_byte_is_a_miss_and_its_row_is_dropped(cache: DiskCache) -> None:
    cache.put_many([(key, TEXT) for key in KEYS[:4]])
    sql(cache, "UPDATE Cache SET value = replace(value, 'jour', 'soir') WHERE key = ?", KEYS[0])
    sql(cache, "UPDATE Cache SET tag = 'x' WHERE key = ?", KEYS[1])
    sql(cache, "UPDATE Cache SET value = CAST(x'ff' || value AS TEXT) WHERE key = ?", KEYS[2])
    assert cache.get_many(KEYS[:4]) == [None, None, None, TEXT]
    assert sql(cache, "SELECT key FROM Cache") == [(KEYS[3],)]


def test_an_answer_under_the_key_of_another_is_a_miss(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    sql(cache, "UPDATE Cache SET key = ?", KEYS[1])
    assert cache.get(KEYS[1]) is None


def test_bytes_flipped_anywhere_give_no_wrong_answer(tmp_path: Path) -> None:
    source = DiskCache(tmp_path / "source")
    texts = {key: f'{{"text":"{key}"}}' * 20 for key in KEYS[:60]}
    source.put_many(list(texts.items()))
    source.close()
    whole = (source.directory / "cache.db").read_bytes()
    chance = random.Random(7)
    hits = 0
    for number in range(60):
        spoilt = bytearray(whole)
        for _ in range(1 if number % 2 else 40):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        cache = DiskCache(tmp_path / f"{number}")
        cache.directory.mkdir()
        (cache.directory / "cache.db").write_bytes(spoilt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            for key, text in zip(texts, cache.get_many(list(texts)), strict=True):
                assert text in (None, texts[key])
                hits += text is not None
            cache.put(KEYS[100], TEXT)
            cache.close()
    assert hits > 1000


def test_answers_of_version_0_1_0_are_read_and_its_leases_taken_over(cache: DiskCache) -> None:
    cache.get(KEYS[0])
    written = (
        "INSERT INTO Cache(key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename,"
        " value) VALUES (?, 1, 1700000000.0, ?, 1700000000.0, 0, ?, 0, 1, NULL, ?)"
    )
    sql(cache, written, KEYS[0], None, "97c6923a63834493", TEXT)
    sql(cache, written, "lease:" + KEYS[1], 4e9, "lease", '["vm", 1, 1]')
    assert cache.get_many(KEYS[:2]) == [TEXT, None]
    assert cache.lease_many(KEYS[:2]) == [False, True]
    assert cache.info().entries == 1


# Look-ups that don't wait are done in the event loop itself.


def test_a_look_up_at_once_gives_what_get_gives(cache: DiskCache) -> None:
    with pytest.raises(BlockingIOError):
        cache.get_at_once(KEYS[0])  # it has to be opened
    cache.put(KEYS[0], TEXT)
    assert (cache.get_at_once(KEYS[0]), cache.get_at_once(KEYS[1])) == (TEXT, None)


def test_a_look_up_at_once_waits_for_nothing(cache: DiskCache) -> None:
    cache.put_many([(key, TEXT) for key in KEYS[:3]])

    def busy() -> None:
        with cache._database._lock:
            ready.set()
            done.wait(10)

    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=busy)
    thread.start()
    ready.wait(10)
    with pytest.raises(BlockingIOError):  # a thread of this process
        cache.get_at_once(KEYS[0])
    done.set()
    thread.join()
    assert cache.get_at_once(KEYS[0]) == TEXT
    sql(cache, "UPDATE Cache SET tag = 'x' WHERE key = ?", KEYS[1])
    with pytest.raises(BlockingIOError):  # the repair of a damaged row
        cache.get_at_once(KEYS[1])
    assert cache.get(KEYS[1]) is None
    cache.close()
    with pytest.raises(BlockingIOError):
        cache.get_at_once(KEYS[0])


def test_a_look_up_at_once_does_not_wait_for_another_process(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    cache.close()
    lock = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    cache.patience = 60
    assert cache.get(KEYS[0]) == TEXT
    lock.execute("BEGIN IMMEDIATE")
    assert cache.get_at_once(KEYS[0]) == TEXT  # a writer does not block readers
    lock.execute("ROLLBACK")
    lock.close()
    assert cache._database._cache is not None
    assert cache._database._cache.connection.execute("PRAGMA busy_timeout").fetchone() == (0,)


# The disk fails, and the run continues.


def without_disk(cache: DiskCache, match: str) -> None:
    """Use a cache in every way; expect one warning and no exception."""
    with one_warning(match):
        for _ in range(2):
            assert cache.get(KEYS[0]) is None
            cache.put(KEYS[0], TEXT)
            assert cache.get_many(KEYS[:2]) == [None, None]
            cache.put_many([(KEYS[1], TEXT)])
            assert cache.lease(KEYS[0])
            cache.release(KEYS[0])
            cache.discard(KEYS[0])
            assert not cache.info().readable
    cache.close()


def test_the_directory_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    without_disk(DiskCache(tmp_path / "cache"), "not available")
    without_disk(DiskCache(tmp_path / "cache" / "below"), "not available")


@pytest.mark.parametrize("spoil", [b"no database at all" * 100, b"\0" * 4096, "directory"])
def test_a_file_that_is_not_a_database_is_quarantine(tmp_path: Path, spoil: bytes | str) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache.directory.mkdir()
    path = cache.directory / "cache.db"
    path.mkdir() if isinstance(spoil, str) else path.write_bytes(spoil)
    with one_warning(r"damaged.*renamed to cache\.db\.damaged-1"):
        assert cache.get(KEYS[0]) is None
        cache.put(KEYS[0], TEXT)
        assert cache.get(KEYS[0]) == TEXT
    aside = cache.directory / "cache.db.damaged-1"
    assert aside.is_dir() if isinstance(spoil, str) else aside.read_bytes() == spoil
    cache.clear()
    assert aside.exists() == isinstance(spoil, str)
    cache.close()


def test_a_database_damaged_while_open_is_set_aside_once(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    for _ in range(2):
        cache.put_many([(key, TEXT * 30) for key in KEYS[:500]])
        cache.close()
        path = cache.directory / "cache.db"
        whole = path.read_bytes()
        cache.get(KEYS[0])
        path.write_bytes(whole[:8192] + random.Random(1).randbytes(len(whole) - 8192))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert cache.get_many(KEYS[:500])[1:] == [None] * 499
            cache.put(KEYS[0], TEXT)
        if not caught:  # the second time, it is not used for a minute
            assert cache.get(KEYS[0]) is None
            break
        assert len(caught) == 1
        assert cache.get(KEYS[0]) == TEXT
    assert len(list(cache.directory.glob("*.damaged-?"))) == 1


@pytest.mark.parametrize("again", ["same", "other"])
def test_a_folder_deleted_while_open_is_made_again(cache: DiskCache, again: str) -> None:
    cache.put(KEYS[0], TEXT)
    for path in list(cache.directory.iterdir()):
        path.unlink()
    cache.directory.rmdir()
    if again == "other":
        other = DiskCache(cache.directory)
        other.put(KEYS[1], TEXT)
    with one_warning("deleted or replaced"):
        cache.put(KEYS[2], TEXT)
    expected = [None, TEXT if again == "other" else None, TEXT]
    assert cache.get_many(KEYS[:3]) == expected
    assert len(sql(cache, "SELECT 1 FROM Cache")) == len([text for text in expected if text])
    if again == "other":
        assert other.get_many(KEYS[:3]) == expected
        other.close()


def test_a_locked_database_is_still_read(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    cache.close()
    lock = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with one_warning("locked"):
        assert cache.get(KEYS[0]) == TEXT
        cache.put(KEYS[1], TEXT)
        assert cache.lease(KEYS[1])
        assert cache.get_many(KEYS[:2]) == [TEXT, None]
        with pytest.raises(ConfigurationError, match="locked"):
            cache.clear()
    assert cache.info().readable
    assert not cache.info().writable
    lock.close()


def test_a_lock_taken_while_open_stops_writing_only(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    lock = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with one_warning("locked"):
        for _ in range(20):
            cache.put(KEYS[1], TEXT)
        assert cache.get_many(KEYS[:2]) == [TEXT, None]
    lock.close()


def test_a_database_kept_by_another_process_alone_is_left_out(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    cache.close()
    lock = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    lock.execute("PRAGMA locking_mode = EXCLUSIVE")
    lock.execute("BEGIN EXCLUSIVE")
    without_disk(cache, "locked")
    lock.close()


FULL = """
import resource, sys, warnings
from llmtasker.cache import DiskCache
cache = DiskCache(sys.argv[1])
keys = [f"{number:064x}" for number in range(1000)]
if sys.argv[2] == "later":
    cache.put_many([(key, "1") for key in keys[:10]])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for key in keys[10:]:
        cache.put(key, "x" * 1000)
        assert cache.lease(key) in (True, False)
    kept = cache.get_many(keys)
    print(len(caught), *[str(each.message) for each in caught])
    print(sum(text == "1" for text in kept[:10]), 0 < sum(text == "x" * 1000 for text in kept[10:]) < 500)
"""


@pytest.mark.parametrize(("when", "limit", "kept"), [("later", 400_000, "10 True"), ("before", 20_000, "0 False")])
def test_a_full_disk_ends_the_writing_only(tmp_path: Path, when: str, limit: int, kept: str) -> None:
    said, counted = python(FULL, tmp_path / "cache", when, limit).splitlines()
    assert said.startswith("1 The cache in")
    assert "not writable" in said
    assert "free space" in said
    assert counted == kept
    later = DiskCache(tmp_path / "cache")
    later.put(KEYS[0], TEXT)
    assert later.get(KEYS[0]) == TEXT
    later.close()


READ_ONLY = """
import os, sys, warnings
import llmtasker.cache.recovery
from llmtasker.cache import DiskCache
if os.getuid() == 0:
    os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cache = DiskCache(sys.argv[1])
    print(cache.get("0" * 64))
    cache.put("1" * 64, "{}")
    print(cache.get("1" * 64), cache.lease("1" * 64), cache.info().readable, cache.info().writable)
    print(len(caught), caught[0].category.__name__, "read-only" in str(caught[0].message))
"""


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "expected"),
    [
        (0o555, 0o444, [TEXT, "None True True False", "1 CacheWarning True"]),
        (0o555, 0o000, ["None", "None True False False", "1 CacheWarning False"]),
        (0o000, 0o600, ["None", "None True False False", "1 CacheWarning True"]),
    ],
)
def test_a_read_only_folder_is_read_where_it_can_be(folder_mode: int, file_mode: int, expected: list[str]) -> None:
    import shutil
    import tempfile

    # Not under tmp_path, which only its owner may enter.
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    cache = DiskCache(top / "cache")
    try:
        cache.put("0" * 64, TEXT)
        cache.close()
        (cache.directory / "cache.db").chmod(file_mode)
        cache.directory.chmod(folder_mode)
        assert python(READ_ONLY, cache.directory).splitlines() == expected
        assert python(READ_ONLY, top / "none").splitlines()[0] == "None"
        cache.directory.chmod(0o755)
        (cache.directory / "cache.db").chmod(0o644)
        (cache.directory / "cache.db").write_bytes(b"garbage" * 100)
        cache.directory.chmod(0o555)
        assert python(READ_ONLY, cache.directory).splitlines() == [
            "None",
            "None True False False",
            "1 CacheWarning False",
        ]
    finally:
        cache.directory.chmod(0o755)
        shutil.rmtree(top)


def test_a_warning_made_an_error_leaves_the_cache_usable(cache: DiskCache) -> None:
    with pytest.raises(CacheWarning):  # filterwarnings = error, as here
        cache.get("short")
    cache.put(KEYS[0], TEXT)
    assert cache.get(KEYS[0]) == TEXT


# Processes are killed, forked, and write at once.

WRITE = """
import sys
from llmtasker.cache import DiskCache
cache = DiskCache(sys.argv[1])
first, count, size = map(int, sys.argv[2:])
for number in range(first, first + count, size):
    cache.put_many([(f"{n:064x}", f"{n}") for n in range(number, number + size)])
    print(number, flush=True)
"""


def test_eight_processes_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    commands = [("-W", "error", "-c", WRITE, folder, n * 150, 150, 1) for n in range(8)]
    with ExitStack() as stack:
        processes = [stack.enter_context(programs.started(*command)) for command in commands]
        assert [process.wait(60) for process in processes] == [0] * 8
    cache = DiskCache(folder)
    assert cache.get_many(KEYS[:1200]) == [str(number) for number in range(1200)]
    assert cache.info().entries == 1200
    cache.close()


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    kept: set[int] = set()
    for number in range(4):
        first = number * 400
        with programs.started("-c", WRITE, tmp_path / "cache", first, 4000000, 5) as process:
            assert process.stdout is not None
            for line in process.stdout:
                kept.update(range(int(line), int(line) + 5))
                if int(line) >= first + 50 + 35 * number:
                    process.send_signal(signal.SIGKILL)
                    break
            kept.update(n for line in process.stdout for n in range(int(line), int(line) + 5))
    cache = DiskCache(tmp_path / "cache")
    assert len(kept) > 300
    assert cache.get_many([f"{number:064x}" for number in kept]) == [str(number) for number in kept]
    assert sql(cache, "PRAGMA integrity_check") == [("ok",)]
    cache.close()


def test_threads_share_a_cache(cache: DiskCache) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 50):
            cache.put(KEYS[number], str(number))
            assert cache.get(KEYS[number]) == str(number)

    threads = [threading.Thread(target=work, args=(number * 50,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get_many(KEYS[:400]) == [str(number) for number in range(400)]


FORK = """
import asyncio, os, sys
from llmtasker.cache import DiskCache, open_cache
from llmtasker.cache.async_store import async_store
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
cache = open_cache(sys.argv[1])
keys = [f"{number:064x}" for number in range(4)]
way = async_store(cache)
async def put(key, text):
    await way.put_many([(key, text)])
asyncio.run(put(keys[0], "parent"))
assert cache.lease(keys[3])
pid = os.fork()
if pid == 0:
    assert open_cache(sys.argv[1]) is cache and async_store(cache) is way
    assert cache.get(keys[0]) == asyncio.run(way.get_many(keys[:1]))[0] == "parent"
    asyncio.run(put(keys[1], "child"))
    assert not cache.lease(keys[3])
    cache.release(keys[3])
    assert not cache.lease(keys[3])
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
cache.put(keys[2], "after")
print(cache.get_many(keys))
"""


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    assert python(FORK, tmp_path / "cache") == "['parent', 'child', 'after', None]\n"


# Its content, and its removal.


def test_info_prune_and_clear(cache: DiskCache) -> None:
    clock = cache._clock
    assert isinstance(clock, Clock)
    empty = cache.info()
    assert (empty.entries, empty.oldest, empty.newest, empty.writable) == (0, None, None, True)
    for number in range(4):
        cache.put_many([(key, TEXT) for key in KEYS[number * 10 : number * 10 + 10]])
        clock.now += 3600
    cache.lease(KEYS[50])
    info = cache.info()
    assert (info.entries, info.directory, info.readable, info.writable) == (40, cache.directory, True, True)
    assert info.oldest == datetime.fromtimestamp(clock.now - 4 * 3600, UTC)
    assert info.newest == datetime.fromtimestamp(clock.now - 3600, UTC)
    assert info.bytes >= (cache.directory / "cache.db").stat().st_size
    assert cache.prune() == 0
    assert cache.prune(older_than=3.5 * 3600) == 10
    assert cache.prune(older_than=3600, now=clock.now - 3600) == 10
    assert cache.get_many(KEYS[15:25]) == [None] * 5 + [TEXT] * 5
    assert cache.clear() == 20
    assert cache.info().entries == 0
    assert cache.lease(KEYS[50])


def test_prune_by_size_removes_the_oldest(cache: DiskCache) -> None:
    for start in range(0, 2000, 500):
        cache.put_many([(key, "x" * 900) for key in KEYS[start : start + 500]])
        assert isinstance(cache._clock, Clock)
        cache._clock.now += 1
    before = cache.info().bytes
    removed = cache.prune(max_bytes=1_000_000)
    assert 900 < removed < 1400
    assert (cache.directory / "cache.db").stat().st_size <= 1_000_000 < before
    assert cache.get_many(KEYS) == [None] * removed + ["x" * 900] * (2000 - removed)
    assert cache.prune(max_bytes=0) == 2000 - removed


def test_a_size_limit_stops_new_answers_and_removes_none(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", size_limit=200_000)
    with one_warning("limit of 200,000 bytes"):
        for key in KEYS[:400]:
            cache.put(key, "x" * 1000)
    kept = [text is not None for text in cache.get_many(KEYS[:400])]
    assert 80 < sum(kept) < 200
    assert kept == sorted(kept, reverse=True)
    cache.close()


def test_at_the_limit_a_lease_ends_with_the_answer_that_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", size_limit=1)
    assert cache.lease(KEYS[0])
    with one_warning("limit of 1 bytes"):
        cache.put(KEYS[0], TEXT)
        cache.put(KEYS[1], TEXT)
    assert leases(cache) == []
    assert cache.lease(KEYS[0])
    cache.close()


class Thanks(Signature):
    """Say whether a note is a thank-you."""

    note: str = InputField(description="a note")
    thanks: bool = OutputField(description="whether it thanks somebody")


@pytest.mark.parametrize("awaited", [False, True])
def test_a_row_that_was_not_kept_is_asked_for_again_at_once(tmp_path: Path, awaited: bool) -> None:
    cache = DiskCache(tmp_path / "cache", size_limit=1)
    transport = FakeTransport({"thanks": True})
    task = Task(Thanks, llm=LLM(transport=transport, cache=cache))
    with one_warning("limit of 1 bytes"):
        for _ in range(2):
            found = asyncio.run(asyncio.wait_for(task.acall("Merci !"), 10)) if awaited else task("Merci !")
            assert found.output is not None
            assert found.output.thanks is True
    assert len(transport.requests) == 2
    cache.close()


def test_only_short_answers_stay_in_memory() -> None:
    short, long = (json.dumps({"text": "x" * length}) for length in (3_000, 4_000))
    assert read_stored(short) is read_stored(short)
    assert read_stored(long) is not read_stored(long)
    assert read_stored(long) == read_stored(long) == Completion(text="x" * 4_000)
    for text in ('{"text": 5}', '{"text": 5}' + " " * 4_000):
        assert read_stored(text) is None


def test_an_answer_left_out_ends_its_lease(cache: DiskCache) -> None:
    assert cache.lease(KEYS[0])
    with one_warning("only ASCII text"):
        cache.put(KEYS[0], "é")
    assert leases(cache) == []


@pytest.mark.parametrize("end", ["put", "release"])
@pytest.mark.parametrize("then", ["put", "release", "lease"])
def test_a_lease_that_the_disk_kept_is_free_for_this_process_and_ends_with_the_next_write(
    tmp_path: Path, end: str, then: str
) -> None:
    clock = Clock()
    cache = DiskCache(tmp_path / "cache", patience=0.05)
    cache._database._clock = cache._database._writes._clock = clock
    assert cache.lease_many(KEYS[:3]) == [True, True, True]
    lock = sqlite3.connect(cache.directory / "cache.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with one_warning("locked"):
        for key in KEYS[:2]:  # the second while the disk is not used
            cache.put(key, TEXT) if end == "put" else cache.release(key)
        assert cache.lease_many(KEYS[:2]) == [True, True]
    lock.execute("ROLLBACK")
    lock.close()
    assert sorted(leases(cache)) == KEYS[:3]
    clock.now += 61
    assert cache.lease(KEYS[0])
    if then == "put":
        cache.put(KEYS[5], TEXT)
    elif then == "release":
        cache.release(KEYS[2])
    else:
        assert not cache.lease(KEYS[2])
    left = [KEYS[0]] if then == "release" else [KEYS[0], KEYS[2]]
    assert sorted(leases(cache)) == left
    cache.close()


def test_removed_texts_are_not_left_on_the_disk(cache: DiskCache) -> None:
    cache.put_many([(key, '"private words"') for key in KEYS[:100]])
    cache.clear()
    assert not any(b"private words" in path.read_bytes() for path in cache.directory.iterdir())


def test_a_closed_cache_is_one_file_that_can_be_copied(cache: DiskCache, tmp_path: Path) -> None:
    cache.put_many([(key, TEXT) for key in KEYS[:500]])
    cache.close()
    assert [path.name for path in cache.directory.iterdir()] == ["cache.db"]
    copy = DiskCache(tmp_path / "copy")
    copy.directory.mkdir()
    (copy.directory / "cache.db").write_bytes((cache.directory / "cache.db").read_bytes())
    assert copy.get_many(KEYS[:500]) == [TEXT] * 500
    assert cache.get(KEYS[0]) == TEXT
    copy.close()


def test_a_forged_time_does_not_stop_info(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    sql(cache, "UPDATE Cache SET store_time = 1e300")
    assert (cache.info().entries, cache.info().newest) == (1, None)


# Internals: the minute in which a failed disk is not used, and the state of a forked child.


def test_a_disk_that_failed_is_tried_again_after_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    handle = DatabaseHandle(tmp_path / "cache", 0.05, clock=clock)
    assert handle.write(lambda database: database.write_many([(KEYS[0], TEXT)]), "failed") is None
    lock = sqlite3.connect(tmp_path / "cache" / "cache.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with one_warning("locked"):
        assert handle.write(lambda database: database.remove_many(KEYS[:1]), "failed") == "failed"
        handle.close()
        assert handle.read(lambda database: database.read_many(KEYS[:1])[0], []) == [TEXT]
    lock.execute("ROLLBACK")
    assert handle.readable
    assert not handle.writable
    assert handle.write(lambda database: database.remove_many(KEYS[:1]), "failed") == "failed"
    clock.now += 61
    assert handle.write(lambda database: database.remove_many(KEYS[:1]), "failed") is None
    assert handle.writable
    lock.execute("DROP TABLE Cache")
    with one_warning("not one of llmtasker"):
        assert handle.read(lambda database: database.read_many(KEYS[:1]), "failed") == "failed"
        assert handle.read(lambda database: database.read_many(KEYS[:1]), "failed") == "failed"
    assert not handle.readable
    clock.now += 61
    assert handle.read(lambda database: database.read_many(KEYS[:1]), "failed") == ([None], [])
    lock.close()
    handle.close()


def test_after_a_fork_everything_is_opened_again(cache: DiskCache) -> None:
    cache.put(KEYS[0], TEXT)
    assert cache.lease(KEYS[1])
    cache._database._lock.acquire()  # held by a thread that the child does not have
    cache.after_fork()
    assert cache.get(KEYS[0]) == TEXT
    cache.release(KEYS[1])
    assert leases(cache) == [KEYS[1]]


def test_settings_that_diskcache_stumbles_over_are_damage(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache.directory.mkdir()
    sql(cache, "CREATE TABLE Settings(key, value)")
    for _ in range(2):
        sql(cache, "INSERT INTO Settings VALUES ('count', 1)")
    with one_warning("damaged"):
        cache.put(KEYS[0], TEXT)
    assert cache.get(KEYS[0]) == TEXT
    cache.close()


def test_what_another_process_has_put_aside_is_left(tmp_path: Path) -> None:
    (tmp_path / "cache.db").touch()
    assert quarantine(tmp_path, (0, 0)) is None
    assert quarantine(tmp_path, place_of(tmp_path)) == tmp_path / "cache.db.damaged-1"
    assert place_of(tmp_path) is None
