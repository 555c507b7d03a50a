"""A value that fits a JSON schema: always the same for the same text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from llmtasker.values.json_schema import JsonSchema, expand, resolve
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.group_format import anchor_of, grouped_answers, read_blocks
from llmtasker.wire.offered_labels import offered_schema, points_to_offer, read_offer
from llmtasker.wire.request_reader import last_user_text, request_schema

if TYPE_CHECKING:
    from llmtasker.wire.request import Request

_DEEPEST = 6
_WORD = lazy_pattern(r"\w+")
_FORMATS = {
    "date-time": "20{:02d}-{:02d}-{:02d}T09:30:00Z",
    "date": "20{:02d}-{:02d}-{:02d}",
    "time": "{:02d}:{:02d}:{:02d}Z",
    "duration": "P{:d}DT{:d}H{:d}M",
    "email": "person{:d}.{:d}.{:d}@example.com",
    "uri": "https://example.com/{:d}/{:d}/{:d}",
    "ipv4": "10.{:d}.{:d}.{:d}",
    "uuid": "000000{:02d}-00{:02d}-4000-8000-0000000000{:02d}",
}

_ATOM = lazy_pattern(
    r"(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<escape>\\.)|(?P<anchor>[\^$])|(?P<group>[()|])|(?P<plain>.)", re.DOTALL
)
_TIMES = lazy_pattern(r"(?P<sign>[*+?])|\{(?P<low>\d+)(?P<comma>,(?P<high>\d*))?\}")
_CANDIDATES = "a0A_- .,:/@#é" + "".join(map(chr, range(33, 127)))


def answer_for(request: Request | Mapping[str, Any], *, seed: int = 0) -> Any:
    """Return the answer of a well-behaved LLM: a value for the request's schema, or a short text.

    >>> answer_for({"messages": [{"role": "user", "content": "Where is my parcel?"}]})
    'answer: Where is my parcel?'
    """
    text = last_user_text(request)
    schema = request_schema(request)
    if schema is None:
        return "answer: " + text[:60]
    return answer_from_schema(schema, text, seed=seed)


def answer_from_schema(schema: JsonSchema, text: str, *, seed: int = 0) -> Any:
    """Return a JSON value that fits a JSON schema, chosen by a hash of `seed`, property names and `text`.

    Strings are words of the text, so that a quote is verbatim. Where the text holds grouped inputs
    (`<input id="a1">` … `</input>`) and the schema has an array of objects with an `id`, there is
    one object per input, with its id and, as `anchor`, its first words; the other values are those
    that the input alone would get. `pattern` is followed if it has no groups, alternatives or look-arounds.

    >>> answer_from_schema({"type": "object", "properties": {"team": {"enum": ["billing", "delivery"]}}}, "My parcel")
    {'team': 'delivery'}
    """
    if points_to_offer(schema):
        offer, text = read_offer(text)
        schema = offered_schema(schema, offer)
    maker = _Maker(schema, seed)
    inputs = read_blocks(text)
    if inputs and (place := grouped_answers(schema)):
        name, item = place
        rows = [maker.grouped_answer(item, id_, input_) for id_, input_ in inputs.items()]
        return {**maker.value({**maker.resolve(schema), "required": []}, text, skip=name), name: rows}
    return maker.value(schema, text)


class _Maker:
    def __init__(self, root: JsonSchema, seed: int) -> None:
        self.root = root
        self.seed = seed

    def pick(self, count: int, *what: object) -> int:
        """Return a number in 0 … count-1 that depends on the seed and on what is asked."""
        digest = blake2b(repr((self.seed, *what)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % count

    def resolve(self, schema: JsonSchema) -> JsonSchema:
        return expand(schema, self.root)

    def grouped_answer(self, item: JsonSchema, id_: str, text: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.value(item, text)
        answer["id"] = id_
        if "anchor" in answer:
            answer["anchor"] = anchor_of(text)
        return answer

    def value(self, schema: JsonSchema, text: str, name: object = "", depth: int = 0, skip: str | None = None) -> Any:
        schema = self.resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][self.pick(len(schema["enum"]), name, text)]
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self.value(self.option(options, text, name, depth), text, name, depth + 1)
        match self.type_of(schema, text, name):
            case "object":
                return dict(self.members(schema, text, depth, skip))
            case "array":
                return list(self.elements(schema, text, name, depth))
            case "integer" | "number" as kind:
                return self.number(schema, text, name, whole=kind == "integer")
            case "boolean":
                return bool(self.pick(2, name, text))
            case "null":
                return None
            case _:
                return self.string(schema, text, name)

    def option(self, options: list[JsonSchema], text: str, name: object, depth: int) -> JsonSchema:
        if depth >= _DEEPEST:
            # A recursive schema ends somewhere: here.
            flat = [option for option in options if resolve(option, self.root) is option]
            options = [option for option in flat if option.get("type") == "null"] or flat or options
        kinds = [option.get("type") for option in options]
        if "string" in kinds and "number" in kinds:  # a Decimal: not every text is one
            options = [option for option in options if option.get("type") != "string"]
        return options[self.pick(len(options), name, text)]

    def type_of(self, schema: JsonSchema, text: str, name: object) -> str:
        kind: Any = schema.get("type")
        if isinstance(kind, list):
            kinds = cast("list[str]", kind)
            return kinds[self.pick(len(kinds), name, text)]
        if kind is None:
            return "object" if "properties" in schema else "array" if "items" in schema else "string"
        return str(kind)

    def members(self, schema: JsonSchema, text: str, depth: int, skip: str | None) -> Iterator[tuple[str, Any]]:
        properties: Mapping[str, JsonSchema] = schema.get("properties", {})
        required = schema.get("required", ())
        for name, inner in properties.items():
            if name == skip or (depth >= _DEEPEST and name not in required):
                continue
            yield name, self.value(inner, text, name, depth + 1)
        extra: Any = schema.get("additionalProperties")
        if extra and extra is not True and not properties:
            for index in range(max(1, schema.get("minProperties", 1))):
                name = f"key_{index + 1}"
                yield name, self.value(extra, text, name, depth + 1)

    def elements(self, schema: JsonSchema, text: str, name: object, depth: int) -> Iterator[Any]:
        first: list[JsonSchema] = schema.get("prefixItems", [])
        for index, inner in enumerate(first):
            yield self.value(inner, text, (name, index), depth + 1)
        rest: Any = schema.get("items")
        if not rest or rest is True:
            return
        low = max(0, schema.get("minItems", 0) - len(first))
        high = max(low, min(low + 2, schema.get("maxItems", low + 2) - len(first)))
        count = low if depth >= _DEEPEST else low + self.pick(high - low + 1, name, "count", text)
        seen: set[str] = set()
        # Twice as many tries as the longest enum could need by chance; a set that can't be filled stays short.
        for index in range(count * 16 if schema.get("uniqueItems") else count):
            value = self.value(rest, text, (name, index), depth + 1)
            shape = json.dumps(value)
            if not schema.get("uniqueItems") or shape not in seen:
                seen.add(shape)
                yield value
            if schema.get("uniqueItems") and len(seen) == count:
                return

    def number(self, schema: JsonSchema, text: str, name: object, *, whole: bool) -> int | float:
        step: float = schema.get("multipleOf", 1 if whole else 0.01)
        low: float | None = schema.get("minimum", schema.get("exclusiveMinimum"))
        high: float | None = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None or high > 0 else high - 100 * step
        if high is None:
            high = low + 100 * step
        # Counted in steps, so that the value is a multiple and rounding can't leave the bounds.
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        first += schema.get("exclusiveMinimum") == first * step
        last -= schema.get("exclusiveMaximum") == last * step
        if last < first:
            return low + (high - low) / 2
        steps = first + self.pick(last - first + 1, name, text)
        return int(steps * step) if whole else round(steps * step, 10)

    def string(self, schema: JsonSchema, text: str, name: object) -> str:
        if form := _FORMATS.get(schema.get("format", "")):
            return form.format(*(1 + self.pick(12, name, index, text) for index in range(3)))
        low: int = schema.get("minLength", 0)
        high: int = schema.get("maxLength", max(low, len(text) + 4))
        if "pattern" in schema and (made := text_for_pattern(schema["pattern"], low)) is not None:
            return made
        words = list(_WORD.finditer(text[:2_000]))
        if words:
            start = self.pick(len(words), name, text)
            made = text[words[start].start() : words[min(start + 2, len(words) - 1)].end()]
        else:
            made = "word"
        made += " word" * math.ceil(max(0, low - len(made)) / 5)
        return made[:high]


def text_for_pattern(pattern: str, min_length: int = 0) -> str | None:
    """Return a text that the pattern matches, or None if the pattern is too complex.

    Sets, escapes and counts are followed; groups, alternatives and look-arounds are not.

    >>> text_for_pattern("^[A-Z]{2}-[0-9]+$")
    'AA-0'
    """
    try:
        re.compile(pattern)
    except re.error:
        # JSON schemas use another dialect, with other features.
        return None
    for repeats in (1, max(1, min_length)):
        text = _expand(pattern, repeats)
        if text is not None and len(text) >= min_length and re.search(pattern, text):
            return text
    return None


def _expand(pattern: str, repeats: int) -> str | None:
    """Repeat each atom as often as required; open-ended ones `repeats` times."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        atom = _ATOM.match(pattern, position)
        if atom is None or atom["group"]:
            return None
        position = atom.end()
        if atom["anchor"]:
            continue
        times = _TIMES.match(pattern, position)
        count = 1
        if times:
            position = times.end()
            count = _count(times, repeats)
        character = next((c for c in _CANDIDATES if re.fullmatch(atom[0], c)), None)
        if character is None:
            return None
        parts.append(character * count)
    return "".join(parts)


def _count(times: re.Match[str], repeats: int) -> int:
    if times["sign"]:
        return repeats if times["sign"] in "*+" else 1
    low = int(times["low"])
    if times["comma"] is None:
        return low
    return max(low, min(repeats, int(times["high"]))) if times["high"] else max(low, repeats)
