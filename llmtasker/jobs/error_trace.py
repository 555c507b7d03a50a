"""error_trace: where an error came from, for a log that must not contain private texts."""

from __future__ import annotations

import traceback
from pathlib import Path


def error_trace(error: BaseException) -> str:
    """Return the type of an error and the lines that it passed, innermost last, without its message.

    The messages of SQLite, Pydantic and codecs quote the values that caused them.
    """
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())  # of a group
    return " | ".join([f"{type(error).__name__} at {' > '.join(lines)}", *map(error_trace, inner)])
