"""A pattern that is compiled at its first use works wherever a compiled one does."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable

import pytest

from llmtasker.values.lazy_pattern import lazy_pattern


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_is_the_pattern(copied: Callable[[re.Pattern[str]], re.Pattern[str]], is_used: bool) -> None:
    pattern = lazy_pattern("(A+)", re.IGNORECASE)
    if is_used:
        assert pattern.match("a") is not None
    assert copied(pattern).sub(r"<\1>", "baa") == "b<aa>"
