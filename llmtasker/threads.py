"""call_in_thread: a call in a thread of its own. It is not in the file of the event loop, which loads asyncio."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def call_in_thread(call: Callable[[], T], name: str) -> Future[T]:
    """Start a call that can't be interrupted in its own daemon thread, with the context of the caller.

    In a pool, abandoned calls would take the place of others, and the process would wait for them at exit.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on it can't be cancelled: a waiter may only stop waiting
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:  # noqa: BLE001 - raised for the waiter, as a pool does
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
