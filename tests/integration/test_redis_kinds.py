"""Kinds of Redis: one that can't be a cache is an error before the first call; one that fails is not used."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest
from redis import exceptions
from redis_server import RedisServer

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.cache import CacheWarning
from llmtasker.cache.redis_cache import RedisCache
from llmtasker.testing import FakeTransport

PEM = str(Path(__file__).parents[1] / "localhost.pem")
SECRET = "s3cr%20et%2Fx"
ROWS = [f"message {number}" for number in range(20)]
COMMANDS = "+mget +get +set +del +type +exists +evalsha +script|load +select +scan"


class Triage(Signature):
    """Route a message to the team that can solve it."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def run_twice(url: str) -> tuple[int, int, str]:
    """Return how many rows of two runs succeeded, the number of calls, and the warnings."""
    fake = FakeTransport({"team": "billing"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = Task(Triage, llm=LLM(transport=fake, cache=url))
        done = [task.run(ROWS, progress=False).counts["ok"] for _ in range(2)]
    assert all(issubclass(each.category, CacheWarning) for each in caught)
    return sum(done), fake.calls, "\n".join(str(each.message) for each in caught)


def refused(url: str) -> str:
    """Return the error of a run before its first call; it does not show a password."""
    fake = FakeTransport({"team": "billing"})
    with pytest.raises(ConfigurationError) as raised:
        Task(Triage, llm=LLM(transport=fake, cache=url)).run(ROWS, progress=False)
    assert fake.calls == 0
    assert "s3cr" not in "".join(traceback.format_exception(raised.value))
    return str(raised.value)


# Users.


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("~* &* +@all", ""),
        (f"~llmtasker:* {COMMANDS}", ""),
        (f"~other:* {COMMANDS}", "permission.*on all keys that begin with llmtasker:"),
        ("~* +@read +@connection", "permission.*give the user the commands mget,"),
        (f"~llmtasker:* {COMMANDS} -select", "permission.*give the user the commands mget,"),
        (f"~llmtasker:* {COMMANDS} -evalsha", "permission.*give the user the commands mget,"),
        (f"~llmtasker:* {COMMANDS} -mget", "permission.*give the user the commands mget,"),
        (f"~llmtasker:* {COMMANDS} -set", "script.*give the user the commands mget,"),
        ("~* +@all off", "AuthenticationError.*check user and password"),
        ("~* +@all resetpass", "AuthenticationError.*check user and password"),
    ],
)
def test_a_user_may_do_what_a_cache_needs_or_is_refused(rules: str, expected: str) -> None:
    with RedisServer() as server:
        server.client().execute_command("ACL", "SETUSER", "ada", "on", ">s3cr et/x", *rules.split())
        url = f"redis://ada:{SECRET}@127.0.0.1:{server.port}/1"
        if expected:
            assert re.search(expected, refused(url))
        else:
            assert run_twice(url) == (40, 20, "")
            assert sum(map(len, RedisCache(url).key_batches())) == 20


# Servers.


def cluster(folder: Path) -> RedisServer:
    return RedisServer(cluster_enabled="yes", cluster_config_file=str(folder / "nodes.conf"))


def with_all_slots(server: RedisServer) -> None:
    ranges = [(0, 16383)]
    while ranges:
        first, last = ranges.pop()
        try:
            server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        except exceptions.ResponseError as error:  # some versions begin with a slot already assigned
            busy = int(re.findall(r"Slot (\d+) is already busy", str(error))[0])
            ranges += [pair for pair in ((first, busy - 1), (busy + 1, last)) if pair[0] <= pair[1]]
    end = time.monotonic() + 20
    while "cluster_state:ok" not in str(server.client().execute_command("CLUSTER", "INFO")):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("make", "place", "expected"),
    [
        (lambda _: RedisServer(), "redis://{host}/16", "DB index is out of range.*a database that the server has"),
        (lambda _: RedisServer(), f"redis://:{SECRET}@{{host}}/0", "AuthenticationError.*check user and password"),
        (lambda _: RedisServer(), f"redis://bob:{SECRET}@{{host}}/0", "AuthenticationError.*check user and password"),
        (lambda _: RedisServer(requirepass="x"), "redis://{host}/0", "AuthenticationError.*check user and password"),
        (cluster, "redis://{host}/0", "a Redis that is not a cluster"),
        (cluster, "redis://{host}/1", "a Redis that is not a cluster"),
        (lambda _: RedisServer(pem=PEM), "rediss://localhost:{port}/0", "self-signed certificate.*check the certific"),
        (
            lambda _: RedisServer(pem=PEM),
            "rediss://localhost:{port}/0?ssl_ca_certs=/etc/hostname",
            "check the certificates",
        ),
    ],
)
def test_a_server_that_is_not_a_cache_is_refused(
    make: Callable[[Path], RedisServer], place: str, expected: str, tmp_path: Path
) -> None:
    with make(tmp_path) as server:
        if make is cluster:
            with_all_slots(server)
        url = place.format(host=f"127.0.0.1:{server.port}", port=server.port)
        assert re.search(expected, refused(url))


@contextlib.contextmanager
def full(_: Path) -> Iterator[RedisServer]:
    with RedisServer(maxmemory="1") as server:  # bytes: no version can start with so little
        yield server


@contextlib.contextmanager
def busy(_: Path) -> Iterator[RedisServer]:
    with RedisServer(busy_reply_threshold="10") as server:

        def work() -> None:
            with contextlib.suppress(exceptions.RedisError):  # it is ended
                server.client().eval("while true do end", 0)

        thread = threading.Thread(target=work)
        thread.start()
        end = time.monotonic() + 20
        with contextlib.suppress(exceptions.ResponseError):
            while server.client().ping():
                assert time.monotonic() < end
        yield server
        server.client().script_kill()
        thread.join()


@contextlib.contextmanager
def frozen(_: Path) -> Iterator[RedisServer]:
    with RedisServer() as server:
        server.freeze()
        yield server


@contextlib.contextmanager
def killed(_: Path) -> Iterator[RedisServer]:
    with RedisServer() as server:
        server.kill()
        yield server


@contextlib.contextmanager
def not_yet_loaded(folder: Path) -> Iterator[RedisServer]:
    with cluster(folder) as server:  # a cluster without slots
        yield server


@pytest.mark.parametrize(
    ("make", "scheme", "expected"),
    [
        (full, "redis", "OutOfMemoryError"),
        (busy, "redis", "ResponseError: BUSY "),
        (frozen, "redis", "TimeoutError: no answer within"),
        (killed, "redis", "failed: ConnectionError: Error 111"),
        (not_yet_loaded, "redis", "ClusterDownError"),
        (lambda _: RedisServer(min_replicas_to_write="1"), "redis", "NOREPLICAS"),
        (lambda _: RedisServer(maxclients="1"), "redis", "max number of clients"),
        (lambda _: RedisServer(pem=PEM), "redis", "ConnectionError"),
        (lambda _: RedisServer(), "rediss", "TimeoutError: no answer within"),
    ],
)
def test_a_server_that_does_not_work_now_is_left_alone_and_no_row_is_lost(
    make: Callable[[Path], AbstractContextManager[RedisServer]],
    scheme: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llmtasker.cache.redis_cache.TIMEOUT", 0.3)
    with make(tmp_path) as server, contextlib.ExitStack() as stack:
        if expected.startswith("max"):
            taken = server.client()
            assert taken.ping()
            stack.callback(taken.close)
        user = f":{SECRET}@" if make is killed else ""
        ok, calls, said = run_twice(f"{scheme}://{user}127.0.0.1:{server.port}/0")
    assert (ok, calls) == (40, 40)
    assert expected in said
    assert "s3cr" not in said
    assert said.count("\n") == 0, "it is reported once"
