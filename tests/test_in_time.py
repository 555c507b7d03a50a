"""A wait with a time limit: for results that are there, that come later or never, and that are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmtasker.api.in_time import in_time


async def at_once() -> str:
    return "here"


async def fails() -> str:
    raise ValueError("no")


async def later(steps: int = 3) -> str:
    for _ in range(steps):
        await asyncio.get_running_loop().run_in_executor(None, int)
    return "here"


async def fails_later() -> str:
    await later()
    raise ValueError("no")


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def goes_on() -> str:
    """A cancelled task may have to clean up first."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await later()
        raise
    return ""


@pytest.mark.parametrize(
    ("make", "seconds", "expected"),
    [
        (at_once, 20, "here"),
        (at_once, -1, "here"),
        (later, 20, "here"),
        (fails, 20, ValueError),
        (fails_later, 20, ValueError),
        (never, 0.02, TimeoutError),
        (goes_on, 0.02, TimeoutError),
        (never, -1, TimeoutError),
    ],
)
def test_a_wait_has_an_end(make: Any, seconds: float, expected: Any) -> None:
    async def run() -> str:
        return await in_time(make(), asyncio.get_running_loop().time() + seconds)

    if isinstance(expected, str):
        assert asyncio.run(run()) == expected
    else:
        with pytest.raises(expected):
            asyncio.run(run())


@pytest.mark.parametrize("make", [never, goes_on])
def test_a_cancelled_wait_ends(make: Any) -> None:
    async def run() -> bool:
        waiting = asyncio.create_task(in_time(make(), asyncio.get_running_loop().time() + 20))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled()

    assert asyncio.run(run())
