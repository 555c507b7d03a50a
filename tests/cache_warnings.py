"""one_warning: that a cache warns once, however often it fails."""

import contextlib
import re
import warnings
from collections.abc import Generator

from llmtasker.cache import CacheWarning


@contextlib.contextmanager
def one_warning(match: str) -> Generator[None]:
    """Fail unless a block gives one warning of the cache, in which the pattern is found."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [each.category for each in caught] == [CacheWarning]
    assert re.search(match, str(caught[0].message))
