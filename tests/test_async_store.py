"""AsyncStore: awaitable access to any store, in batches, which no fault of the store and no waiter can break."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cache_warnings import one_warning

from llmtasker.cache import CacheWarning, DiskCache, MemoryCache, Store, open_cache
from llmtasker.cache.async_store import AsyncStore, async_store
from llmtasker.cache.safe_store import SafeStore

KEYS = [f"{number:064x}" for number in range(300)]


class OneByOne:
    """An AsyncStore whose methods take one key, as the steps of one row do."""

    def __init__(self, store: Any, idle: float = 0.01) -> None:
        self.many = AsyncStore(store, idle=idle)
        self.close = self.many.close

    async def get(self, key: str) -> str | None:
        return (await self.many.get_many([key]))[0]

    async def put(self, key: str, text: str) -> None:
        await self.many.put_many([(key, text)])

    async def lease(self, key: str, *, seconds: float = 60.0) -> bool:
        return (await self.many.lease_many([key], seconds=seconds))[0]

    async def release(self, key: str) -> None:
        await self.many.release_many([key])


def complete(store: Store) -> Any:
    """Return a store as `LLM(cache=…)` would use it."""
    return open_cache(store)


class Plain:
    """A store with only get and put."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.texts.get(key)

    def put(self, key: str, text: str) -> None:
        self.texts[key] = text


class Counting(Plain):
    """A store that counts batches, and blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.go = threading.Event()

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        assert self.go.wait(10)
        self.sizes.append(len(keys))
        return [self.texts.get(key) for key in keys]


class Leasing(Plain):
    """A store with its own leases, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def lease(self, key: str, *, seconds: float) -> bool:
        self.seen.append(f"lease {seconds}")
        return False

    def release(self, key: str) -> None:
        self.seen.append("release")


def wait_for_end(name: str = "llmtasker-cache") -> None:
    end = time.monotonic() + 10
    while any(thread.name == name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(params=["disk", "memory", "plain"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param != "disk":
        yield MemoryCache() if request.param == "memory" else Plain()
        return
    disk = DiskCache(tmp_path / "cache")
    yield disk
    disk.close()


def test_what_is_put_is_written_when_put_returns(store: DiskCache) -> None:
    async def work() -> None:
        way = OneByOne(complete(store))
        assert await way.get(KEYS[0]) is None
        await way.put(KEYS[0], "{}")
        assert store.get(KEYS[0]) == "{}"
        await asyncio.gather(*(way.put(key, key) for key in KEYS))
        assert await asyncio.gather(*(way.get(key) for key in KEYS)) == KEYS
        way.close()

    asyncio.run(work())
    wait_for_end()


def test_leases_go_through(tmp_path: Path) -> None:
    async def work() -> None:
        way = OneByOne(disk)
        assert sorted(await asyncio.gather(*(way.lease(KEYS[0]) for _ in range(5)))) == [False] * 4 + [True]
        assert not await way.lease(KEYS[0])
        await way.release(KEYS[0])
        assert await way.lease(KEYS[0], seconds=5)

    disk = DiskCache(tmp_path / "cache")
    asyncio.run(work())
    disk.close()


def test_a_store_without_leases_lets_everybody_ask() -> None:
    async def work() -> None:
        way = OneByOne(complete(Plain()))
        assert await way.lease(KEYS[0])
        assert await way.lease(KEYS[0])
        await way.release(KEYS[0])

    asyncio.run(work())


def test_leases_one_by_one() -> None:
    async def work() -> None:
        way = OneByOne(complete(store))
        assert not await way.lease(KEYS[0], seconds=3)
        await way.release(KEYS[0])

    store = Leasing()
    asyncio.run(work())
    assert store.seen == ["lease 3", "release"]


def test_what_is_asked_meanwhile_is_one_batch() -> None:
    async def work() -> None:
        way = OneByOne(complete(store))
        waiting = [asyncio.ensure_future(way.get(key)) for key in KEYS[:50]]
        await asyncio.sleep(0.02)
        waiting += [asyncio.ensure_future(way.get(key)) for key in KEYS]
        await asyncio.sleep(0)
        store.go.set()
        await asyncio.gather(*waiting)

    store = Counting()
    asyncio.run(work())
    assert sum(store.sizes) == 350
    assert len(store.sizes) <= 3


def test_the_loop_continues_while_the_disk_is_busy() -> None:
    async def work() -> None:
        way = OneByOne(complete(store))
        waiting = asyncio.ensure_future(way.get(KEYS[0]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        store.go.set()
        assert await waiting is None

    store = Counting()
    asyncio.run(work())


def test_who_is_cancelled_does_not_disturb_the_others() -> None:
    async def work() -> None:
        way = OneByOne(complete(store))
        waiting = [asyncio.ensure_future(way.get(key)) for key in KEYS[:10]]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.sleep(0)
        store.go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False] * 5

    store = Counting()
    asyncio.run(work())


def test_a_loop_that_was_closed_does_not_disturb_another() -> None:
    store = Counting()
    way = OneByOne(complete(store), idle=0.05)
    first = asyncio.new_event_loop()

    async def leave() -> None:
        asyncio.ensure_future(way.get(KEYS[0])).cancel()
        way.many._ask("get", KEYS[0])

    first.run_until_complete(leave())
    first.close()
    threading.Timer(0.02, store.go.set).start()
    assert asyncio.run(way.get(KEYS[1])) is None


def test_loops_in_several_threads_share_an_async_store() -> None:
    found: list[str | None] = []

    def work(first: int) -> None:
        async def ask() -> None:
            for key in KEYS[first : first + 50]:
                await way.put(key, key)
                found.append(await way.get(key))

        asyncio.run(ask())

    way = OneByOne(MemoryCache())
    threads = [threading.Thread(target=work, args=(number * 50,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == KEYS


def test_the_thread_ends_when_idle_and_starts_again() -> None:
    way = OneByOne(complete(MemoryCache()), idle=0.005)
    for _ in range(20):
        asyncio.run(way.put(KEYS[0], "{}"))
        wait_for_end()
        assert asyncio.run(way.get(KEYS[0])) == "{}"
    way.close()
    wait_for_end()
    way.close()


def test_closing_does_what_was_asked_before() -> None:
    async def work() -> None:
        way = OneByOne(complete(store), idle=60)
        waiting = [asyncio.ensure_future(way.get(key)) for key in KEYS[:5]]
        await asyncio.sleep(0.01)
        more = [asyncio.ensure_future(way.get(key)) for key in KEYS[:5]]
        await asyncio.sleep(0)
        way.close()
        late = asyncio.ensure_future(way.get(KEYS[0]))
        await asyncio.sleep(0)
        store.go.set()
        assert await asyncio.gather(*waiting, *more, late) == [None] * 11

    store = Counting()
    asyncio.run(work())
    wait_for_end()


class Failing(Plain):
    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def __getattribute__(self, name: str) -> object:
        if name in {"get_many", "put_many", "lease_many", "release_many", "lease", "release"}:
            if name not in object.__getattribute__(self, "names"):
                raise AttributeError(name)
        elif name not in {"get", "put"} or name not in object.__getattribute__(self, "names"):
            return object.__getattribute__(self, name)

        def fail(*arguments: object, **options: object) -> object:
            raise RuntimeError("the server of the cache is down")

        return fail


@pytest.mark.parametrize(
    "names",
    [
        ("get", "put"),
        ("get_many", "put_many"),
        ("get", "put", "lease", "release"),
        ("get_many", "put_many", "lease_many", "release_many"),
    ],
)
def test_what_a_store_raises_is_reported_once(names: tuple[str, ...]) -> None:
    async def work() -> None:
        way = OneByOne(complete(Failing(*names)))
        for _ in range(2):
            assert await way.get(KEYS[0]) is None
            await way.put(KEYS[0], "{}")
            assert await way.lease(KEYS[0])
            await way.release(KEYS[0])

    with one_warning("Failing failed: RuntimeError: the server of the cache is down"):
        asyncio.run(work())


class Odd(Plain):
    def __init__(self, found: object) -> None:
        super().__init__()
        self.found = found

    def get_many(self, keys: Sequence[str]) -> object:
        return self.found


@pytest.mark.parametrize("found", [[], [None, None, None], None, 7, [b"{}", "{}"]])
def test_what_a_store_gives_is_checked(found: object) -> None:
    with one_warning("Odd failed"):
        assert SafeStore(Odd(found)).get_many(KEYS[:2])[0] is None  # type: ignore[arg-type]


class OddLeases(Plain):
    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def lease_many(self, keys: Sequence[str], *, seconds: float) -> object:
        return self.given


class NoTruth:
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


@pytest.mark.parametrize("given", [None, 7, [], [False] * 3, [NoTruth()] * 2])
def test_odd_answers_for_leases_let_everybody_ask(given: object) -> None:
    async def work() -> None:
        way = OneByOne(complete(OddLeases(given)))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            assert await asyncio.gather(way.lease(KEYS[0]), way.lease(KEYS[1])) == [True, True]
            await way.put(KEYS[0], "{}")
            assert await way.get(KEYS[0]) == "{}"

    with one_warning("OddLeases failed"):
        asyncio.run(work())


class Ending(Plain):
    """A store that ends the thread, if it can, and whose errors can't be shown."""

    class Left(BaseException):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self.Left


def test_whatever_happens_to_a_batch_all_who_wait_are_answered() -> None:
    async def work() -> None:
        way = OneByOne(complete(Ending()), idle=60)  # type: ignore[arg-type]
        for _ in range(2):
            async with asyncio.timeout(10):
                found = await asyncio.gather(*(way.get(key) for key in KEYS[:3]), *map(way.lease, KEYS[:3]))
                assert found == [None] * 3 + [True] * 3
                await way.put(KEYS[0], "{}")
                await way.release(KEYS[0])
        assert sum(thread.name == "llmtasker-cache" for thread in threading.enumerate()) == 1
        way.close()

    wait_for_end()
    with one_warning("Ending failed: Left: it can't be shown"):
        asyncio.run(work())
    wait_for_end()


def test_a_store_whose_methods_cannot_even_be_looked_for() -> None:
    class Locked:
        def __getattr__(self, name: str) -> object:
            raise PermissionError(name)

    safe = SafeStore(Locked())  # type: ignore[arg-type]
    with one_warning("Locked failed: PermissionError"):
        assert safe.get(KEYS[0]) is None
        assert safe.get_many(KEYS[:2]) == [None, None]
        safe.put(KEYS[0], "{}")
        assert safe.lease_many(KEYS[:2]) == [True, True]
        safe.release_many(KEYS[:2])


def test_a_failure_for_one_key_is_not_one_for_others() -> None:
    class Picky(Plain):
        def get(self, key: str) -> str | None:
            if key == KEYS[1]:
                raise KeyError(key)
            return super().get(key)

    safe = SafeStore(Picky())  # type: ignore[arg-type]
    for key in KEYS[:3]:
        safe.put(key, "{}")
    with pytest.warns(CacheWarning):
        assert safe.get_many(KEYS[:3]) == ["{}", None, "{}"]
    assert safe.get(KEYS[0]) == "{}"


def test_a_warning_made_an_error_reaches_those_who_wait_and_nobody_else() -> None:
    async def work() -> None:
        way = OneByOne(complete(Failing("get")))  # type: ignore[arg-type]
        with pytest.raises(CacheWarning):  # filterwarnings = error, as here
            await way.get(KEYS[0])
        assert await way.get(KEYS[0]) is None

    asyncio.run(work())


def test_a_store_has_one_async_store_and_can_be_let_go() -> None:
    store = MemoryCache()
    way = async_store(store)
    assert async_store(store) is way
    assert async_store(MemoryCache()) is not way
    assert way.store is store
    del way
    gc.collect()
    assert async_store(store).store is store


def test_after_a_fork_an_async_store_has_no_thread_yet() -> None:
    way = OneByOne(complete(MemoryCache()))
    asyncio.run(way.put(KEYS[0], "{}"))
    way.many._lock.acquire()  # held by a thread that does not exist in the child
    way.many.after_fork()
    assert asyncio.run(way.get(KEYS[0])) == "{}"
    assert repr(way.many.store) == "MemoryCache(1 entry)"


def test_look_ups_in_the_loop_let_others_take_turns(tmp_path: Path) -> None:
    """A run over rows that are all cached must not stop a server's event loop until its end."""
    disk = DiskCache(tmp_path / "cache")
    disk.put_many([(key, key) for key in KEYS])

    async def work() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        way = OneByOne(disk)
        assert [await way.get(key) for key in KEYS] == KEYS
        task.cancel()
        return turns

    assert asyncio.run(work()) >= len(KEYS) // 50
    disk.close()


def test_a_look_up_needs_no_thread_where_nothing_is_waited_for(tmp_path: Path) -> None:
    wait_for_end()
    disk = DiskCache(tmp_path / "cache")
    disk.put(KEYS[0], "{}")
    assert asyncio.run(OneByOne(disk).get(KEYS[0])) == "{}"
    assert not [thread for thread in threading.enumerate() if thread.name == "llmtasker-cache"]
    disk.close()
