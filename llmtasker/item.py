"""Item: the result of one input."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from llmtasker.errors import ItemError, snippet
from llmtasker.values.html_table import html_table
from llmtasker.values.json_values import is_array, is_mapping, is_object, json_number
from llmtasker.wire.completion import NO_USAGE, Usage
from llmtasker.wire.request import Message, Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Item(Generic[T]):
    """The result of one input: either an `output` or an `error`.

    `raw` is the text of the last answer, `repairs` lists what was changed to read it. `usage` counts the tokens of
    all `attempts` (calls made for this item); `cost` is in US dollars, None when the price is unknown. `calls` is the
    item's share of calls that were made for several items at once; None: all were for this one.
    `latency` is the time in seconds from the first call to the end. A `cached` item did not need a call; `answer_usage`
    counts the tokens of the answer that is used, also of a cached one. `confidence` is a number from 0 to 1 for each
    label, if the task asks for it; `confidence_source` is how it was determined, and whether it was calibrated.
    `steps` are the items of the tasks that a pipeline called for this one, whose tokens, costs and calls are counted
    here too.
    """

    input: Any
    output: T | None = None
    raw: str | None = None
    error: ItemError | None = None
    reasoning: str | None = None
    repairs: tuple[str, ...] = ()
    usage: Usage = NO_USAGE
    cost: float | None = None
    latency: float = 0.0
    attempts: int = 0
    calls: float | None = None
    cached: bool = False
    answer_usage: Usage = NO_USAGE
    confidence: Mapping[str, float] | None = None
    confidence_source: str | None = None
    steps: tuple[Item[Any], ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request: Request | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is an output."""
        return self.error is None

    @property
    def value(self) -> T:
        """The output; if there is none, its error is raised.

        Raises:
            ItemError: the error of the item.
        """
        if self.error is not None:
            raise self.error.with_traceback(None)  # several items may share one error
        return cast("T", self.output)

    @property
    def requests(self) -> float:
        """The calls for this item, with its share of calls for several items: these add up to the calls of a run."""
        return self.attempts if self.calls is None else self.calls

    @property
    def repaired(self) -> bool:
        """Whether the answer was repaired; `repairs` lists the changes."""
        return bool(self.repairs)

    @property
    def messages(self) -> list[Message]:
        """The messages that were sent first for this item; empty if nothing had to be sent."""
        return self.request.messages if self.request else []

    def raise_for_error(self) -> Item[T]:
        """Raise the error, if there is one; else return the item.

        Raises:
            ItemError: the error of the item.
        """
        if self.error is not None:
            raise self.error
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the item as JSON values, without its messages; `from_dict` reads them."""
        return {
            "input": jsonable(self.input),
            "output": jsonable(self.output),
            "raw": self.raw,
            "error": self.error.to_dict() if self.error else None,
            "reasoning": self.reasoning,
            "repairs": list(self.repairs),
            "usage": self.usage.to_dict(),
            "cost": self.cost,
            "latency": self.latency,
            "attempts": self.attempts,
            **({} if self.calls is None else {"calls": self.calls}),
            "cached": self.cached,
            **({"answer_usage": self.answer_usage.to_dict()} if self.cached and self.answer_usage.total else {}),
            **({name: value for name in _SURE if (value := getattr(self, name)) is not None}),
            **({"steps": [step.to_dict() for step in self.steps]} if self.steps else {}),
            **({"tags": jsonable(self.tags)} if self.tags else {}),
        }

    def to_json(self) -> str:
        """Return the item as one line of JSON text."""
        data = self.to_dict()
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, which no file can store as it is
            return json.dumps(data, allow_nan=False)
        return text

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], output_type: Any = None) -> Item[T]:
        """Return the item that `to_dict` described.

        With `output_type` (a signature, `str` …) the output is validated; without it, it stays JSON values.

        Raises:
            pydantic.ValidationError: the output does not fit `output_type`.
        """
        output = data.get("output")
        if output is not None and output_type is not None:
            output = TypeAdapter(output_type).validate_python(output)
        error = data.get("error")
        return cls(
            **{name: data[name] for name in _PLAIN if name in data},
            output=output,
            error=ItemError.from_dict(error) if error else None,
            repairs=tuple(data.get("repairs", ())),
            usage=Usage(**data.get("usage", {})),
            answer_usage=Usage(**data.get("answer_usage", {})),
            steps=tuple(Item[Any].from_dict(step) for step in data.get("steps", ())),
        )

    @classmethod
    def from_json(cls, text: str | bytes, output_type: Any = None) -> Item[T]:
        """Return the item that `to_json` wrote; see `from_dict`."""
        return cls.from_dict(json.loads(text), output_type)

    def __repr__(self) -> str:
        came = f"error={self.error.code}: {snippet(self.error)}" if self.error else f"output={shown(self.output, 80)}"
        notes = [name for name in ("cached", "repaired") if getattr(self, name)]
        return f"Item({', '.join([f'input={_short(self.input)}', came, *notes])})"

    def _repr_html_(self) -> str:
        parts = {
            "input": shown(self.input, 400),
            "output": None if self.error else shown(self.output, 400),
            "error": self.error and error_line(self.to_dict()),
            "raw": self.raw,
            "reasoning": self.reasoning,
            "confidence": self.confidence and f"{dict(self.confidence)} ({self.confidence_source})",
            "repairs": "\n".join(self.repairs) or None,
            "steps": "\n".join(map(repr, self.steps)) or None,
            "tokens": f"{self.usage.input:,} in, {self.usage.output:,} out" if self.usage.total else None,
            "cost": self.cost or None,
            "tags": self.tags or None,
        }
        return html_table([(name, value) for name, value in parts.items() if value is not None])


_SURE = ("confidence", "confidence_source")
_PLAIN = ("input", "raw", "reasoning", "cost", "latency", "attempts", "calls", "cached", "tags", *_SURE)


def together(item: Item[T], items: Sequence[Item[Any]]) -> Item[T]:
    """Return an item with the totals of all calls for its input: tokens, cost, time."""
    return replace(
        item,
        usage=sum((one.usage for one in items), NO_USAGE),
        answer_usage=sum((one.answer_usage for one in items), NO_USAGE),
        cost=sum_of(one.cost for one in items),
        latency=sum(one.latency for one in items),
        attempts=sum(one.attempts for one in items),
        calls=None if all(one.calls is None for one in items) else sum(one.requests for one in items),
        cached=all(one.cached for one in items),
    )


def cost_of(items: Iterable[Item[Any]]) -> float | None:
    """Return the cost of items together in US dollars; None if the price of any call is unknown.

    Items that were never asked cost nothing.
    """
    return sum_of(item.cost for item in items if item.attempts or item.cost)


def sum_of(costs: Iterable[float | None]) -> float | None:
    """Return the sum of costs; None if one of them is unknown."""
    total: float = 0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def error_line(item: Mapping[str, Any]) -> str | None:
    """Return the error of an item as a line: its code, the step of a pipeline that failed, and what was wrong.

    The item is what `to_dict` returns.
    """
    error = item.get("error")
    return None if error is None else f"{error['code']}: {ItemError.from_dict(error)}"


def jsonable(value: Any) -> Any:
    """Return any value as JSON values; bytes that are not UTF-8 become Base64, a value without a form a short text."""
    if type(value) is dict:  # a subclass may override items()
        columns = cast("Mapping[Any, Any]", value)
        # Column by column, so that one without a JSON form does not affect the others.
        return {name if isinstance(name, str) else str(_plain(name)): _plain(part) for name, part in columns.items()}
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, bool):
        return value
    try:
        if isinstance(value, BaseModel):
            return _finite(value.model_dump(mode="json", fallback=_short))
        return _finite(to_jsonable_python(value, fallback=_short))
    except UnicodeDecodeError:
        return _encoded(value)
    except Exception:  # noqa: BLE001 - circles, foreign serializers: an export must not fail
        return _short(value)


def _encoded(value: Any) -> Any:
    """Return a value with bytes that are not UTF-8 as JSON values: these become Base64, so that none is lost."""
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode("ascii")
    if isinstance(value, BaseModel):
        return {name: _plain(part) for name, part in value}
    if is_mapping(value):
        return {str(_plain(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in cast("Iterable[object]", value)]
    return _short(value)


def _finite(value: Any) -> Any:
    """Return JSON values whose numbers JSON can represent."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return json_number(value)
    if is_object(value):
        return {name: _finite(part) for name, part in value.items()}
    if is_array(value):
        return [_finite(part) for part in value]
    return value


def _short(value: Any) -> str:
    return shown(value, 60, repr)


def shown(value: object, length: int, form: Callable[[object], str] = str) -> str:
    """Return the beginning of a value's text; if it has none, its type."""
    try:
        return snippet(form(value), length)
    except Exception:  # noqa: BLE001 - __str__ and __repr__ of a foreign object may raise anything
        return f"a {type(value).__name__}"
