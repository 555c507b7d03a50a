"""lazy_pattern: a regular expression that is compiled when it is first used.

The package has 250 of them, and a process that finds an answer in the cache uses a dozen: compiling the others took a
third of its time.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, Generic, cast


class _LazyPattern(Generic[AnyStr]):
    def __init__(self, pattern: AnyStr, flags: int) -> None:
        self.pattern: AnyStr = pattern
        self._flags = flags

    def __reduce__(self) -> tuple[Any, ...]:
        return re.compile, (self.pattern, self._flags)

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self.pattern, self._flags), name)
        setattr(self, name, found)  # from now on it is found without this method
        return found


def lazy_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what `re.compile` returns, except that a mistake in the pattern raises at its first use.

    >>> lazy_pattern(r"(\\d+) rows").sub(r"\\1 lines", "12 rows")
    '12 lines'
    """
    return cast("re.Pattern[AnyStr]", _LazyPattern(pattern, flags))
