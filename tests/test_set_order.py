"""Sets have the same order in every process, so requests and cache keys do not depend on PYTHONHASHSEED."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_json

from llmtasker.values.set_order import in_order, in_order_of_text

KEYS = """
from collections import namedtuple
from dataclasses import dataclass
from typing import Any
from pydantic import BaseModel
from llmtasker import InputField, OutputField, Signature
from llmtasker.compiler.program import compile_program
from llmtasker.tasks.classification import Classification
from llmtasker.wire.request import Settings

words = {"billing", "delivery", "returns", "account"}

class Inner(BaseModel):
    tags: frozenset[str] = frozenset(words)

@dataclass
class Plain:
    tags: set[str]

class Sort(Signature):
    "Sort {shelf}."
    a: set[str] = InputField()
    b: list[Inner] = InputField()
    c: dict[str, set[int]] = InputField()
    d: Any = InputField()
    e: Plain = InputField()
    f: set[str] = OutputField(default=words)
    g: set[str] | None = OutputField(default=words)
    h: Inner = OutputField()

values = {
    "a": words, "b": [Inner(tags=words)], "c": {"k": {1, 30, 99_999, -4}}, "d": (words, [{"x": frozenset(words)}]),
    "e": Plain(words),
}
example = Sort(**values, f=words, g=words, h=Inner(tags=words))
for mode in ("tools", "json_schema", "json", "text"):
    from llmtasker.compiler.prompt import Prompt
    program = compile_program(Sort, Prompt(variables={"shelf": words}), examples=[example], mode=mode)
    print(program.render(program.validate(values), Settings(endpoint="x", body={"model": "m"})).key)
print(Classification(llm="offline", labels=words).preview("a parcel").request.key)
"""


def test_the_key_is_the_same_whatever_the_hash_seed() -> None:
    import os

    found = [programs.run("-c", KEYS, check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in "012"]
    assert len(found[0].split()) == 5
    assert found == [found[0]] * 3


Pair = namedtuple("Pair", "first second")


class Typed(NamedTuple):
    tags: set[str]


@dataclass(frozen=True)
class Frozen:
    tags: frozenset[str]
    other: int = 1


class Model(BaseModel, extra="allow"):
    tags: set[str]


WORDS = {"b", "a", "c", "e", "d"}
LIST = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (WORDS, LIST),
        (frozenset(WORDS), LIST),
        ([1, WORDS], [1, LIST]),
        ((WORDS,), [LIST]),
        ({"k": {"l": WORDS}}, {"k": {"l": LIST}}),
        (Pair(WORDS, 1), [LIST, 1]),
        (Typed(WORDS), [LIST]),
        (Frozen(frozenset(WORDS)), {"tags": LIST, "other": 1}),
        (Model(tags=WORDS), {"tags": LIST}),
        (Model(tags=set(), more=[WORDS]), {"tags": [], "more": [LIST]}),
        ({10, 9, "9", 2.5}, [2.5, 9, 10, "9"]),
        ({(2, "b"), (1, "a")}, [[1, "a"], [2, "b"]]),
        ({frozenset(WORDS), frozenset("a")}, [LIST, ["a"]]),
    ],
)
def test_sets_at_every_depth_have_an_order(value: Any, shown: Any) -> None:
    ordered = in_order(value)
    assert to_json(ordered) == to_json(shown)
    assert type(ordered) is type(value) or isinstance(ordered, type(value))
    assert ordered == value


@pytest.mark.parametrize("value", ["text", 1, None, [1, [2]], {"a": (1,)}, Pair(1, 2), Frozen(1), Model, object()])
def test_what_has_no_set_is_returned_as_it_is(value: Any) -> None:
    assert in_order(value) is value


@given(st.sets(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))))
def test_the_order_does_not_depend_on_the_set(elements: set[Any]) -> None:
    assert [*map(repr, in_order_of_text(elements))] == [*map(repr, in_order_of_text(reversed([*elements])))]
