"""in_time: wait with a time limit, without a timer if there is nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def in_time(awaitable: Awaitable[T], due: float) -> T:
    """Await something until a time of the event loop's clock, and return the result.

    Most messages of a server arrive or are taken at once; this is then as cheap as `await`.

    Raises:
        TimeoutError: it took longer.
    """
    begun = _Begun(awaitable)
    if begun.result is not None:
        return begun.result[0]
    async with asyncio.timeout_at(due):
        return await begun


class _Begun(Generic[T]):
    """An awaitable after its first step: its result, or what it waits for. It continues when it is awaited."""

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self.result: tuple[T] | None = None
        self._steps = awaitable.__await__()
        try:
            self._waits_for: Any = next(self._steps)
        except StopIteration as end:
            self.result = (end.value,)

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            yield self._waits_for
        except BaseException as error:  # noqa: BLE001 - the awaitable decides, such as on a cancellation
            try:
                self._waits_for = self._steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            return (yield from self.__await__())
        return (yield from self._steps)
