"""error_trace: where an error came from, for a log that must not contain private texts."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from llmtasker.errors import ConfigurationError, SignatureError

_OURS = frozenset({"llmtasker", "anyio", "fastapi", "starlette", *sys.stdlib_module_names})


def error_trace(error: BaseException) -> str:
    """Return the type of an error and the lines that it passed, innermost last, without its message.

    The messages of SQLite, Pydantic and codecs quote the values that caused them. The message of an error in the set-up
    quotes only settings, unless code of the user passed them; without such code it is included.
    """
    passed = list(traceback.walk_tb(error.__traceback__))
    lines = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in passed]
    modules = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in passed}
    told = isinstance(error, ConfigurationError | SignatureError) and modules <= _OURS
    message = f": {' '.join(str(error).split())}" if told else ""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())  # of a group
    return " | ".join([f"{type(error).__name__}{message} at {' > '.join(lines)}", *map(error_trace, inner)])
