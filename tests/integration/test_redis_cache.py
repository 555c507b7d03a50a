"""A Redis as cache: shared by processes, safe against foreign data, and never the reason why a run fails."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import programs
import pytest
from redis_server import RedisServer

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.cache import CacheWarning, open_cache, redis_cache
from llmtasker.cache.redis_cache import RedisCache
from llmtasker.cache.safe_store import SafeStore
from llmtasker.runner.steps import LEASE
from llmtasker.testing import FakeTransport, FaultyServer

KEYS = [f"{number:064x}" for number in range(20)]
TEXT = '{"text": "a"}'
PEM = str(Path(__file__).parents[1] / "localhost.pem")


class Triage(Signature):
    """Route a message to the team that can solve it."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.client().flushall()
    return running


@pytest.fixture
def cache(server: RedisServer) -> Iterator[RedisCache]:
    cache = RedisCache(server.url)
    yield cache
    cache.close()


def other(cache: RedisCache) -> RedisCache:
    """Return the cache as another process has it."""
    return pickle.loads(pickle.dumps(cache))


# The methods of a store.


def test_answers_are_kept_for_all(cache: RedisCache) -> None:
    assert cache.get(KEYS[0]) is None
    cache.put(KEYS[0], TEXT)
    cache.put_many([(key, key) for key in KEYS[1:3]])
    assert other(cache).get_many(KEYS[:4]) == [TEXT, KEYS[1], KEYS[2], None]
    assert (cache.get_many([]), cache.put_many([]), cache.lease_many([])) == ([], None, [])


def test_one_of_all_gets_each_lease(cache: RedisCache) -> None:
    second = other(cache)
    assert cache.lease_many([*KEYS[:3], KEYS[0]]) == [True, True, True, False]
    assert cache.lease_many(KEYS[:1]) == second.lease_many(KEYS[:1]) == [False]
    second.release_many(KEYS[:1])  # not its own
    assert second.lease_many(KEYS[:1]) == [False]
    cache.release_many(KEYS[:1])
    assert second.lease_many(KEYS[:1]) == [True]
    cache.put(KEYS[1], TEXT)
    assert second.lease_many(KEYS[1:3]) == [False, False]  # the answer is there; the other is being asked for
    assert second.get_many(KEYS[1:3]) == [TEXT, None]


def test_a_lease_ends_when_its_time_is_over(cache: RedisCache, server: RedisServer) -> None:
    assert cache.lease_many(KEYS[:2], seconds=600) == [True, True]
    left = [server.client().pttl(f"llmtasker:lease:{key}") for key in KEYS[:2]]
    assert all(590_000 < each <= 600_000 for each in left)


def test_the_leases_of_a_process_that_was_killed_are_free(cache: RedisCache, server: RedisServer) -> None:
    assert cache.lease_many(KEYS[:2]) == [True, True]
    (owner,) = server.client().keys("llmtasker:owner:*")
    assert 0 < server.client().pttl(owner) <= 30_000
    server.client().delete(owner)  # as after half a minute without a renewal
    assert other(cache).lease_many(KEYS[:1]) == [True]


def test_who_holds_leases_gives_signs_of_life(
    cache: RedisCache, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_until(happened: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not happened():
            assert time.monotonic() < end
            time.sleep(0.005)

    monkeypatch.setattr(redis_cache, "_RENEWED", 0.01)
    assert cache.lease_many(KEYS[:1]) == [True]
    server.client().delete(*server.client().keys("llmtasker:owner:*"))
    wait_until(lambda: server.client().keys("llmtasker:owner:*"))
    assert other(cache).lease_many(KEYS[:1]) == [False]
    cache.put(KEYS[0], TEXT)
    wait_until(lambda: not cache._renewing)


def test_the_url_has_namespace_and_ttl(server: RedisServer) -> None:
    cache = RedisCache(f"{server.url}?namespace=team-a&ttl=3600")
    cache.put(KEYS[0], TEXT)
    assert server.client().keys() == [f"team-a:answer:{KEYS[0]}".encode()]
    assert 3590 < server.client().ttl(f"team-a:answer:{KEYS[0]}") <= 3600
    assert RedisCache(server.url).get(KEYS[0]) is None
    assert other(cache).get(KEYS[0]) == TEXT
    cache.close()


def test_the_same_url_is_one_store(server: RedisServer) -> None:
    store = open_cache(server.url)
    assert isinstance(store, SafeStore)
    assert open_cache(server.url) is store
    assert open_cache(f"{server.url}?namespace=b") is not store
    assert open_cache(copy.deepcopy(store.store)) is store


def test_tls() -> None:
    with RedisServer(pem=PEM) as server:
        url = f"rediss://localhost:{server.port}/0"
        store = open_cache(f"{url}?ssl_ca_certs={PEM}")
        assert store is not None
        store.put(KEYS[0], TEXT)
        assert store.get(KEYS[0]) == TEXT
        with pytest.raises(ConfigurationError, match="check the certificates"):
            open_cache(url)  # an authority that this machine does not know


# Data of others is a miss, for look-up and lease alike.

HOSTILE: dict[str, Callable[[Any, str], object]] = {
    "a pickle": lambda client, name: client.set(name, pickle.dumps(os.system)),
    "no checksum": lambda client, name: client.set(name, TEXT),
    "a wrong checksum": lambda client, name: client.set(name, "0" * 16 + TEXT),
    "one byte more": lambda client, name: client.append(name, " "),
    "one byte less": lambda client, name: client.set(name, client.get(name)[:-1]),
    "another answer": lambda client, name: client.copy(f"llmtasker:answer:{KEYS[1]}", name, replace=True),
    "nothing": lambda client, name: client.set(name, ""),
    "bytes that are not text": lambda client, name: client.set(name, b"\xff\xfe" * 100),
    "a number": lambda client, name: client.set(name, 7),
    "a list": lambda client, name: (client.delete(name), client.rpush(name, TEXT)),
    "a hash": lambda client, name: (client.delete(name), client.hset(name, "text", TEXT)),
    "a stream": lambda client, name: (client.delete(name), client.xadd(name, {"text": TEXT})),
    "a bitmap of 100 MB": lambda client, name: client.setbit(name, 800_000_000, 1),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_value_is_a_miss(cache: RedisCache, server: RedisServer, what: str) -> None:
    cache.put_many([(key, key) for key in KEYS[:2]])
    HOSTILE[what](server.client(), f"llmtasker:answer:{KEYS[0]}")
    assert cache.get_many(KEYS[:2]) == [None, KEYS[1]]
    assert other(cache).lease_many(KEYS[:2]) == [True, False]
    cache.put(KEYS[0], TEXT)
    assert cache.get(KEYS[0]) == TEXT


@pytest.mark.parametrize("what", ["a pickle", "nothing", "a number", "a list", "a stream", "bytes that are not text"])
def test_a_hostile_lease_is_free(cache: RedisCache, server: RedisServer, what: str) -> None:
    HOSTILE[what](server.client(), f"llmtasker:lease:{KEYS[0]}")
    cache.release_many(KEYS[:1])
    assert cache.lease_many(KEYS[:1]) == [True]
    assert other(cache).lease_many(KEYS[:1]) == [False]


# Runs.

WORKER = """
import sys
import loopback; loopback.guard()
from llmtasker import LLM, InputField, OutputField, Signature, Task
from typing import Literal
class Triage(Signature):
    "Route a message to the team that can solve it."
    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
task = Task(Triage, llm=LLM("m", base_url=sys.argv[1], api_key="none", cache=sys.argv[2]))
print("ready")
sys.stdin.readline()
print(task.run([f"message {number}" for number in range(300)]).counts["ok"])
"""


def test_three_processes_ask_for_the_same_rows_once(server: RedisServer) -> None:
    from contextlib import ExitStack

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with FaultyServer(latency=0.01) as endpoint, ExitStack() as stack:
        arguments = ("-c", WORKER, endpoint.base_url, server.url)
        workers = [stack.enter_context(programs.started(*arguments, stdin=-1, env=environment)) for _ in range(3)]
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        assert [worker.stdout.readline() for worker in workers] == ["300\n"] * 3
        assert endpoint.counters.requests == 300


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cache, "TIMEOUT", 0.3)


def at_300(endpoint: FaultyServer, action: Callable[[], None]) -> threading.Thread:
    """Perform an action after 300 calls."""

    def work() -> None:
        end = time.monotonic() + 30
        while endpoint.counters.requests < 300 and time.monotonic() < end:
            time.sleep(0.001)
        action()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.usefixtures("impatient")
def test_a_redis_that_goes_away_in_a_run_loses_no_row_and_is_used_when_it_is_back(fault: str) -> None:
    rows = [f"message {number}" for number in range(1000)]
    with RedisServer() as server, FaultyServer(latency=0.01) as endpoint:
        url = f"redis://127.0.0.1:{server.port}"
        llm = LLM("m", base_url=endpoint.base_url, api_key="none", cache=url)
        task = Task(Triage, llm=llm)
        thread = at_300(endpoint, getattr(server, fault))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = task.run(rows)
        thread.join()
        assert results.counts["ok"] == 1000
        assert endpoint.counters.requests == 1000
        assert [str(each.message).split(": ")[0] for each in caught] == [f"The cache {url}/0 failed"]
        store = llm.store
        assert isinstance(store, SafeStore)
        server.thaw()
        if fault == "kill":
            server.start()
        clock = time.monotonic
        store._backoff._clock = lambda: clock() + 60.0  # a minute later
        assert task.run(rows).counts["ok"] == 1000
        asked = endpoint.counters.requests
        assert asked == 2000 if fault == "kill" else asked < 1800
        assert task.run(rows).counts["cached"] == 1000
        assert endpoint.counters.requests == asked
        assert server.client().keys("llmtasker:lease:*") == []
        llm.close()


@pytest.mark.usefixtures("impatient")
def test_leases_that_an_outage_left_behind_end_with_the_next_answer(server: RedisServer) -> None:
    now = [0.0]
    cache = RedisCache(server.url)
    safe = SafeStore(cache, clock=lambda: now[0])
    try:
        assert safe.lease_many(KEYS[:3], seconds=LEASE) == [True] * 3
        server.freeze()
        with pytest.warns(CacheWarning, match="TimeoutError: no answer within 0.3 s"):
            safe.put(KEYS[0], TEXT)
        safe.release_many(KEYS[1:2])  # while the store is left alone
        assert safe.lease_many(KEYS[5:6]) == [True]
    finally:
        server.thaw()
    now[0] += 60
    safe.put(KEYS[7], TEXT)
    left = {name.decode()[-64:] for name in server.client().keys("llmtasker:lease:*")}
    assert left <= {KEYS[2]}
    assert other(cache).lease_many(KEYS[1:3]) == [True, False]
    cache.close()


# Set-up, and secrets that are not shown.

SECRET = "s3cr/t word"


@pytest.fixture
def locked() -> Iterator[RedisServer]:
    with RedisServer(requirepass=SECRET) as server:
        yield server


def test_the_password_is_nowhere(locked: RedisServer, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"redis://:s3cr%2Ft%20word@127.0.0.1:{locked.port}/0?namespace=a"
    fake = FakeTransport({"team": "billing"})
    llm = LLM(transport=fake, cache=url)
    task = Task(Triage, llm=llm, cache=url)
    assert task("a").ok
    assert task("a").cached
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        locked.kill()
        assert task("b").ok
        assert task("c").ok
    assert caught
    task.save(tmp_path / "task.json")
    store = RedisCache(url)
    with pytest.raises(ConnectionError) as raised:
        store.get(KEYS[0])
    shown = [caplog.text, str(caught[0].message), repr(task.plan), repr(llm.store), repr(store), repr(store.url)]
    shown += [(tmp_path / "task.json").read_text(), "".join(traceback.format_exception(raised.value))]
    shown += [pickle.dumps(each).decode("latin-1") for each in (store, task.plan)]
    for text in shown:
        assert "s3cr" not in text


def test_the_password_may_come_from_the_environment(locked: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTASKER_REDIS_PASSWORD", SECRET)
    store = open_cache(f"redis://127.0.0.1:{locked.port}/0")
    assert store is not None
    store.put(KEYS[0], TEXT)
    assert pickle.loads(pickle.dumps(store.store)).get(KEYS[0]) == TEXT  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("user", "place", "expected"),
    [
        ("", "/0", "AuthenticationError.*check user and password"),
        (":wrong-Passw0rd@", "/0", "AuthenticationError.*check user and password"),
        (":s3cr%2Ft%20word@", "/99", "DB index is out of range"),
    ],
)
def test_a_redis_that_refuses_is_an_error_before_the_first_call(
    locked: RedisServer, user: str, place: str, expected: str
) -> None:
    fake = FakeTransport({"team": "billing"})
    task = Task(Triage, llm=LLM(transport=fake, cache=f"redis://{user}127.0.0.1:{locked.port}{place}"))
    with pytest.raises(ConfigurationError, match=expected) as raised:
        task.run(["a"])
    assert fake.calls == 0
    assert "Passw0rd" not in str(raised.value)


def answering(reply: bytes) -> Iterator[int]:
    """Yield the port of a server that is not a Redis, and that echoes what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    sent = connection.recv(10_000)
                    connection.sendall(reply.replace(b"{sent}", sent.replace(b"\r\n", b" ")))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n{sent}\r\n", "InvalidResponse.*is not a Redis"),
        (b"-ERR unknown command, with args beginning with: {sent}\r\n", r"ResponseError.*\*\*\*"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "not a cluster"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", "not a cluster"),
        (b"-ERR SELECT is not allowed in cluster mode\r\n", "not a cluster"),
        (b"-ERR This instance has cluster support enabled\r\n", "not a cluster"),
        (b"-NOPERM User slotbot has no permissions to run the 'mget' command\r\n", "give the user the commands mget,"),
        (b"-NOPERM User MOVED has no permissions to run the 'mget' command\r\n", "give the user the commands mget,"),
        (b"-NOPERM cluster-reader can't run this command or subcommand\r\n", "give the user the commands mget,"),
        (b"-ERR the slots of clustered are all taken\r\n", "of version 5 or later"),
    ],
)
def test_another_kind_of_server_is_an_error_that_shows_no_password(reply: bytes, expected: str) -> None:
    for port in answering(reply):
        url = f"redis://:s3cr{'et'}@127.0.0.1:{port}/0"
        with pytest.raises(ConfigurationError, match=expected) as raised:
            open_cache(url)
        assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_a_replica_is_refused(server: RedisServer) -> None:
    with RedisServer(replicaof=f"127.0.0.1 {server.port}") as replica:
        end = time.monotonic() + 20
        while replica.client().info("replication")["master_link_status"] != "up":
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.raises(ConfigurationError, match="the primary, not of a replica"):
            open_cache(replica.url)


def test_a_redis_that_is_full_keeps_what_it_has(server: RedisServer) -> None:
    with RedisServer(maxmemory="4mb") as full:
        store = open_cache(full.url)
        assert store is not None
        store.put(KEYS[0], TEXT)
        with pytest.warns(CacheWarning, match="OutOfMemoryError"):
            store.put_many([(key, "x" * 1_000_000) for key in KEYS[1:]])
        assert store.get(KEYS[0]) == TEXT


def test_a_forked_child_has_connections_and_leases_of_its_own(cache: RedisCache) -> None:
    cache.put(KEYS[0], TEXT)
    assert cache.lease_many(KEYS[1:2]) == [True]
    cache._lock.acquire()  # held by a thread that the child does not have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        good = cache.get(KEYS[0]) == TEXT and cache.lease_many(KEYS[1:3]) == [False, True]
        os._exit(0 if good else 1)
    cache._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get(KEYS[0]) == TEXT


# Copies.


def filled(place: str | Path, numbers: range) -> None:
    store = open_cache(place)
    assert store is not None
    for first in range(numbers.start, numbers.stop, 1000):
        part = [f"{number:064x}" for number in range(first, min(first + 1000, numbers.stop))]
        store.put_many([(key, key) for key in part])


def copied(*arguments: object) -> str:
    done = programs.run("-m", "llmtasker", "cache", "copy", *arguments)
    return str(done.stdout + done.stderr)


def test_a_cache_is_copied_between_folders_and_redis(server: RedisServer, tmp_path: Path) -> None:
    filled(tmp_path / "a", range(1700))
    cache = RedisCache(server.url)
    cache.put(KEYS[3], KEYS[3])
    assert cache.lease_many([f"{1000:064x}"]) == [True]
    assert copied(tmp_path / "a", server.url) == "1,699 entries copied, 1 were there\n"
    assert copied(tmp_path / "a", server.url) == "0 entries copied, 1,700 were there\n"
    assert copied(server.url, f"{server.url}?namespace=other&ttl=1000") == "1,700 entries copied, 0 were there\n"
    server.client().set(f"other:answer:{KEYS[5]}", "forged")
    assert "1,699 entries copied, 0 were there" in copied(f"{server.url}?namespace=other", tmp_path / "b")
    back = open_cache(tmp_path / "b")
    assert back is not None
    assert back.get_many(KEYS) == [*KEYS[:5], None, *KEYS[6:]]
    cache.close()


def test_a_copy_that_was_stopped_continues(tmp_path: Path) -> None:
    filled(tmp_path / "a", range(6000))
    with RedisServer() as server:
        # It is full after some batches; then there is room again.
        server.client().config_set("maxmemory", server.client().info("memory")["used_memory"] + 800_000)
        said = copied(tmp_path / "a", server.url)
        assert "the copy stopped after" in said
        assert "OutOfMemoryError" in said
        there = len(server.client().keys("llmtasker:answer:*"))
        assert 0 < there < 6000
        server.client().config_set("maxmemory", 0)
        assert copied(tmp_path / "a", server.url) == f"{6000 - there:,} entries copied, {there:,} were there\n"


@pytest.mark.parametrize("first", ["acall", "arun"])
@pytest.mark.usefixtures("impatient")
def test_a_redis_that_hangs_at_the_first_use_does_not_stop_the_event_loop(
    server: RedisServer, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    meanwhile: list[int] = []
    check = RedisCache.check

    def counted(cache: RedisCache) -> None:
        before = turns
        check(cache)
        meanwhile.append(turns - before)

    async def work() -> None:
        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.005)
                turns += 1

        counting = asyncio.create_task(count())
        if first == "acall":
            assert (await task.acall("a")).ok
        else:
            assert (await task.arun(["a"])).counts["ok"] == 1
        counting.cancel()

    task = Task(Triage, llm=LLM(transport=FakeTransport({"team": "billing"})), cache=f"{server.url}?namespace={first}")
    monkeypatch.setattr(RedisCache, "check", counted)
    server.freeze()
    try:
        with pytest.warns(CacheWarning, match="TimeoutError"):
            asyncio.run(work())
    finally:
        server.thaw()
    assert len(meanwhile) == 1
    assert meanwhile[0] > 5
