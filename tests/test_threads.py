from __future__ import annotations

import asyncio
import os
import subprocess
import threading

import programs
import pytest

from llmtasker.portal import portal

INTERRUPTED = """
import asyncio, os, signal, threading, time
import logging; logging.getLogger("asyncio").setLevel(logging.ERROR)  # not how slow this machine is
from llmtasker.portal import portal

began = threading.Event()
told = []

async def long():
    began.set()
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        told.append("cleaned up")

def interrupt():
    began.wait()
    time.sleep(0.3)  # until the caller waits for the answer
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    portal().call(long())
except KeyboardInterrupt:
    told.append("interrupted")
print(told)
"""

LEFT_OPEN = """
import asyncio
import logging; logging.getLogger("asyncio").setLevel(logging.ERROR)  # not how slow this machine is
from llmtasker.portal import portal

async def closes_late():
    try:
        yield 1
    finally:
        print("closed")

numbers = closes_late()

async def begin():
    return await anext(numbers)

print(portal().call(begin()))
"""


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def run(program: str) -> subprocess.CompletedProcess[str]:
    return programs.run("-X", "dev", "-W", "error", "-c", program)


def test_all_threads_share_one_loop() -> None:
    loops = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: portal().call(note())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loops == [portal().loop] * 4
    assert portal().pid == os.getpid()


def test_what_the_coroutine_raises_reaches_the_caller() -> None:
    async def fails() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        portal().call(fails())
    assert portal().call(double(21)) == 42


def test_it_works_beside_a_running_loop() -> None:
    async def notebook() -> int:
        return portal().call(double(4))

    assert asyncio.run(notebook()) == 8


def test_a_blocking_call_inside_the_loop_itself_is_refused() -> None:
    """It would wait for itself forever."""

    async def inside() -> int:
        return portal().call(double(1))

    with pytest.raises(RuntimeError, match="await the async form"):
        portal().call(inside())


def test_an_interrupt_cancels_the_call_first() -> None:
    done = run(INTERRUPTED)
    assert done.stderr == ""
    assert done.stdout == "['cleaned up', 'interrupted']\n"


def test_what_is_open_in_the_loop_is_closed_at_exit() -> None:
    done = run(LEFT_OPEN)
    assert done.stderr == ""
    assert done.stdout == "1\nclosed\n"
