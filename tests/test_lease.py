"""Leases: one process asks and the others wait, until it has finished or ended, or its lease has expired."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import programs
import pytest
from clock import Clock

from llmtasker.cache import DiskCache, MemoryCache
from llmtasker.cache.process import ProcessId, _started, this_process
from llmtasker.cache.text_cache import LONGEST_LEASE

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock):
    made = DiskCache(tmp_path / "cache", clock=clock) if request.param == "disk" else MemoryCache(clock=clock)
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path, clock: Clock):
    made = DiskCache(tmp_path / "cache", clock=clock)
    yield made
    made.close()


def test_a_lease_is_given_once_until_it_is_released(cache: DiskCache | MemoryCache) -> None:
    assert cache.lease(KEY)
    assert not cache.lease(KEY)
    assert cache.lease(OTHER)
    cache.release(KEY)
    cache.release(KEY)
    assert cache.lease(KEY)


def test_a_lease_ends_with_its_time(cache: DiskCache | MemoryCache, clock: Clock) -> None:
    assert cache.lease(KEY, seconds=10)
    clock.now += 9
    assert not cache.lease(KEY)
    clock.now += 2
    assert cache.lease(KEY)


def test_an_answer_ends_the_lease_and_nobody_needs_to_ask(cache: DiskCache | MemoryCache) -> None:
    assert cache.lease(KEY)
    cache.put(KEY, "{}")
    assert not cache.lease(KEY)
    cache.discard(KEY)
    assert cache.lease(KEY)


def test_clear_ends_leases(cache: DiskCache | MemoryCache) -> None:
    cache.put(OTHER, "{}")
    cache.lease(KEY)
    assert cache.clear() == 1
    assert cache.lease(KEY)


def test_leases_are_not_entries(disk: DiskCache) -> None:
    disk.lease(KEY)
    assert disk.info().entries == 0
    assert disk.get(KEY) is None


def test_a_batch_gives_each_lease_once(disk: DiskCache) -> None:
    disk.put("c" * 64, "{}")
    assert disk.lease_many([KEY, KEY, OTHER, "c" * 64, KEY]) == [True, False, True, False, False]
    assert disk.lease_many([KEY, OTHER]) == [False, False]
    disk.release_many([KEY, OTHER])
    assert disk.lease_many([OTHER, KEY]) == [True, True]


def test_no_lease_is_longer_than_an_hour(disk: DiskCache, clock: Clock) -> None:
    assert disk.lease(KEY, seconds=float("inf"))
    clock.now += LONGEST_LEASE + 1
    assert disk.lease(KEY)
    clock.now -= 2 * LONGEST_LEASE + 10  # the clock was wrong, and was set
    assert disk.lease(KEY)


def test_another_object_does_not_release_what_it_does_not_hold(disk: DiskCache) -> None:
    other = DiskCache(disk.directory, clock=disk._clock)
    assert disk.lease(KEY)
    other.release(KEY)
    assert not other.lease(KEY)
    other.close()


HOLD = """
import sys
from llmtasker.cache import DiskCache
cache = DiskCache(sys.argv[1])
print([cache.lease(key) for key in sys.argv[2:]], flush=True)
sys.stdin.read()
"""


def test_the_lease_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    with programs.started("-c", HOLD, cache.directory, KEY, stdin=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[True]\n"
        assert not cache.lease(KEY)
        cache.release(KEY)
        assert not cache.lease(KEY)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert cache.lease(KEY)
    cache.close()


RACE = """
import sys
from llmtasker.cache import DiskCache
cache = DiskCache(sys.argv[1])
cache.get("0" * 64)
sys.stdin.readline()
keys = [f"{number:064x}" for number in range(150)]
mine = [key for key in keys if cache.lease(key)]
cache.put_many([(key, "{}") for key in mine[::2]])
print(*mine)
sys.stdin.readline()
"""


def test_of_several_processes_one_gets_each_lease(tmp_path: Path) -> None:
    taken: list[str] = []
    with ExitStack() as stack:
        race = [programs.started("-c", RACE, tmp_path / "cache", stdin=PIPE, bufsize=1) for _ in range(4)]
        processes = [stack.enter_context(process) for process in race]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
        for process in processes:
            assert process.stdout is not None
            taken += process.stdout.readline().split()
        for process in processes:
            process.communicate("end\n", timeout=60)
    assert sorted(taken) == [f"{number:064x}" for number in range(150)]


def test_this_process_is_not_gone_and_its_number_alone_does_not_count() -> None:
    me = this_process()
    assert me.pid == os.getpid()
    assert not me.gone
    if me.started is not None:
        assert ProcessId(machine=me.machine, pid=me.pid, started=me.started + 1).gone
        assert ProcessId(machine=me.machine, pid=1, started=-1).gone
    assert not ProcessId(machine=me.machine, pid=1, started=None).gone
    assert not ProcessId(machine="elsewhere", pid=me.pid, started=-1).gone
    assert ProcessId(machine=me.machine, pid=2**80, started=None).gone
    assert _started(2**30) is None


def test_a_process_that_ended_and_was_not_waited_for_is_gone() -> None:
    with programs.started("-c", "") as process:
        assert process.stdout is not None
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        me = this_process()
        zombie = ProcessId(machine=me.machine, pid=process.pid, started=1)
        assert zombie.gone
    assert ProcessId(machine=me.machine, pid=process.pid, started=None).gone


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "7", "[1]", '["a",0,1]', '["a",-1,null]', '["a",true,1]', '["a",1,"x"]', "[1,1,1]", "[" * 90000],
)
def test_what_is_not_an_owner_is_none(text: str) -> None:
    assert ProcessId.from_json(text) is None
    assert ProcessId.from_json(b"\xff") is None


def test_an_owner_can_be_written_and_read() -> None:
    assert ProcessId.from_json(this_process().to_json()) == this_process()
