"""How much work something is, in calls of functions: a time would depend on the machine and on what else it does.

What a pattern does inside one call is not counted. Where one could try every place of a hostile text up to its end,
the text is long enough that this does not end within `SOON`, while it takes a second at most as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

SOON = pytest.mark.timeout(30)


def calls_of(action: Callable[[], object]) -> list[str]:
    """Return the names of the functions that an action calls in this thread, of Python and of C."""
    names: list[str] = []

    def profile(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)
        elif event == "c_call":
            names.append(getattr(function, "__name__", ""))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return names
