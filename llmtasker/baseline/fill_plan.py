"""How the baseline fills an answer: a plan made once from the schema and the examples that were sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from llmtasker.errors import BadRequestError
from llmtasker.similarity.nearest import Nearest, name_words, words
from llmtasker.values.folding import caseless
from llmtasker.values.json_schema import JsonSchema, expand
from llmtasker.values.json_values import canonical_json
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.group_format import anchor_of, grouped_answers, read_blocks
from llmtasker.wire.offered_labels import offered_schema
from llmtasker.wire.request import Message, Request
from llmtasker.wire.request_reader import BULLET, ExampleTurn, conversation, declared_schema, offered_tools, schema_in

_LINE = 2_000  # characters that are read of a line about a label
_DEPTH = 16  # of nested objects in a schema; a recursive schema ends here
_CATCH_ALL = frozenset({"other", "others", "autre", "autres", "misc", "none", "unknown", "divers", "aucun", "aucune"})
_ABSENT = object()
_DESCRIBED = lazy_pattern(r"[:=–—-]\s")

_KINDS = {
    "string": "free text",
    "integer": "a number",
    "number": "a number",
    "boolean": "true or false, and the examples do not show both",
    "array": "a list of values that are not labels",
    "object": "an object with values that are not labels",
}


def _refusal(why: str) -> BadRequestError:
    return BadRequestError(
        "the built-in baseline, which is not a language model, can fill label fields only; "
        f"{why}: choose a real LLM, such as openai/… or ollama/…"
    )


@dataclass(frozen=True, kw_only=True)
class _LabelFill:
    """A field that gets one label, or several of them. None among the labels means "no label"."""

    labels: tuple[Any, ...]
    nearest: Nearest
    otherwise: Any
    at_least: int = 0
    at_most: int | None = None

    def pick(self, given: Sequence[str]) -> Any:
        scores = self.nearest.scores(given)
        best = max(scores)
        if best <= 0:
            return self.otherwise
        label = self.labels[scores.index(best)]
        if self.at_most is None:
            return label
        if label is None and not self.at_least:
            return []
        # Words that all labels share don't distinguish them: only what is above the mean counts.
        mean = sum(scores) / len(scores)
        order = sorted((at for at in range(len(scores)) if self.labels[at] is not None), key=lambda at: -scores[at])
        near = [at for at in order[: self.at_most] if scores[at] - mean >= 0.6 * (best - mean)]
        return [self.labels[at] for at in order[: max(len(near), self.at_least)]]


Fill = Callable[[Sequence[str]], Any]
"""Gives a field its value from the words of the input."""


@dataclass(frozen=True, kw_only=True)
class FillPlan:
    """The fill plan of one task's requests. `group` names the list of a grouped request."""

    fill: Fill
    function: str | None
    group: str | None

    def answer(self, text: str) -> dict[str, Any]:
        if self.group is None:
            return cast("dict[str, Any]", self.fill(words(text)))
        answers: list[dict[str, Any]] = []
        for id_, given in read_blocks(text).items():
            filled = {"id": id_, **self.fill(words(given))}
            if "anchor" in filled:
                filled["anchor"] = anchor_of(given)
            answers.append(filled)
        return {self.group: answers}


def _object_of(fields: Mapping[str, Fill]) -> Fill:
    return lambda given: {name: fill(given) for name, fill in fields.items()}


def _always(value: Any) -> Fill:
    return lambda _: value


def prepare(request: Request, before: Sequence[Message], offer: Sequence[str] = ()) -> FillPlan | BadRequestError:
    """Return the plan for a task, or the refusal, which is also remembered.

    `offer` are the lines with labels that come before the input.
    """
    declared = declared_schema(request.head.schema)
    outputs = [*(declared or {}).get("properties", ())]
    examples, texts = conversation([*request.head.messages, *before], outputs[0] if len(outputs) == 1 else None)
    try:
        schema = offered_schema(declared or schema_in(texts) or {}, offer)
        if not schema.get("properties"):
            raise _refusal("this request has no schema with fields")
        reader = _SchemaReader(schema, examples, [*texts, str(schema.get("description", ""))])
        return FillPlan(
            fill=reader.fill, function=next(iter(offered_tools(request.head.schema)), None), group=reader.group
        )
    except BadRequestError as refusal:
        return refusal


class _SchemaReader:
    """Turns the schema of an answer into what fills its fields."""

    def __init__(self, schema: dict[str, Any], examples: Sequence[ExampleTurn], texts: Iterable[str]) -> None:
        self._root = schema
        self._lines = [line for text in texts for line in text.splitlines()]
        self.group, item = self._grouped(schema)
        self._examples = list(self._one_by_one(examples))
        self.fill = self._object(item, ())

    def _expanded(self, node: Any) -> JsonSchema:
        return expand(node, self._root)

    def _kinds(self, node: JsonSchema) -> list[JsonSchema]:
        """Return the alternatives of a field, and the field itself."""
        node = self._expanded(node)
        return [*map(self._expanded, node.get("anyOf") or node.get("oneOf") or ()), node]

    def _grouped(self, schema: JsonSchema) -> tuple[str | None, JsonSchema]:
        """Return the list that a grouped request asks for and the schema of one answer, or the schema as it is."""
        grouped = grouped_answers(schema)
        if grouped is None or len(schema.get("properties", {})) > 1:
            return None, schema
        name, item = grouped
        return name, {**item, "properties": {name: node for name, node in item["properties"].items() if name != "id"}}

    def _one_by_one(self, examples: Iterable[ExampleTurn]) -> Iterator[ExampleTurn]:
        for text, outputs in examples:
            answers = outputs.get(self.group) if self.group else None
            if isinstance(answers, list):
                inputs = read_blocks(text)
                for answer in cast("list[dict[str, Any]]", answers):
                    yield inputs.get(str(answer.get("id")), ""), answer
            else:
                yield text, outputs

    def _object(self, node: JsonSchema, path: tuple[str, ...]) -> Fill:
        required = set(node.get("required", ()))
        parts = (
            (name, self._field(part, (*path, name), name in required)) for name, part in node["properties"].items()
        )
        return _object_of({name: part for name, part in parts if part is not None})

    def _field(self, node: JsonSchema, path: tuple[str, ...], required: bool) -> Fill | None:
        node = self._expanded(node)
        if self.group and path == ("anchor",):
            return _always("")
        kinds = self._kinds(node)
        types = [name for kind in kinds for name in _types(kind)]
        nullable = "null" in types or any(None in kind.get("enum", ()) for kind in kinds)
        choice = self._choice(kinds, path, nullable=nullable)
        if choice is not None or not required:
            return choice
        if "default" in node or nullable:
            return _always(node.get("default"))
        if "properties" in node and len(path) < _DEPTH:
            return self._object(node, path)
        kind = "a date" if "date" in node.get("format", "") else _KINDS.get("".join(types), "no label")
        raise _refusal(f'field "{".".join(path)}" is {kind}')

    def _choice(self, kinds: Sequence[JsonSchema], path: tuple[str, ...], *, nullable: bool) -> Fill | None:
        shown = [(text, value) for text, outputs in self._examples if (value := _at(outputs, path)) is not _ABSENT]
        for kind in kinds:
            items = self._expanded(kind.get("items") or {})
            if items and (labels := self._labels([*self._kinds(items), *kinds])):
                lists: list[tuple[str, list[Any]]] = [(text, value) for text, value in shown if isinstance(value, list)]
                return _several(labels, lists, kind).pick
        labels = self._labels(kinds)
        both = {value for _, value in shown if isinstance(value, bool)} == {True, False}
        if not labels and both and any("boolean" in _types(kind) for kind in kinds):
            labels = {True: "", False: ""}
        return _one(labels, shown, nullable=nullable).pick if labels else None

    def _labels(self, kinds: Iterable[JsonSchema]) -> dict[Any, str]:
        """Return the labels that a field offers, each with its name and description."""
        labels: dict[Any, str] = {}
        for kind in kinds:
            for value in kind.get("enum", [kind["const"]] if "const" in kind else []):
                labels[value] = f"{name_words(str(value))} {kind.get('description', '') if 'const' in kind else ''}"
        labels.pop(None, None)
        described = [line.strip() for kind in kinds for line in re.split("[;\n]", kind.get("description", ""))]
        name: Any = None
        for line in [*self._lines, *described] if labels else ():
            if name is not None and line[:1].isspace() and not BULLET.match(line):
                labels[name] += f" {line}"  # the description of a label continues in the next line
                continue
            name, words = _described(line, labels)
            if name is not None:
                labels[name] += f" {words}"
        return labels


def _types(kind: JsonSchema) -> list[str]:
    named: str | list[str] = kind.get("type", [])
    return [named] if isinstance(named, str) else named


def _described(line: str, labels: Mapping[Any, str]) -> tuple[str | None, str]:
    """Return the label that a line names, and its description: `- billing: invoices and refunds`."""
    line = line.strip()[:_LINE]
    if bullet := BULLET.match(line):
        line = line[bullet.end() :]
    for match in _DESCRIBED.finditer(line):
        name = line[: match.start()].strip(" \"'`*")
        if name in labels:
            return name, line[match.end() :].strip()
    return None, ""


def _at(outputs: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(outputs, dict) or name not in outputs:
            return _ABSENT
        outputs = cast("dict[str, Any]", outputs)[name]
    return outputs


def _one(labels: Mapping[Any, str], shown: Sequence[tuple[str, Any]], *, nullable: bool) -> _LabelFill:
    examples = [(text, [value]) for text, value in shown]
    names, nearest, often = _compared(labels, examples)
    otherwise = None if nullable else next((name for name in names if caseless(str(name)) in _CATCH_ALL), often[0])
    return _LabelFill(labels=names, nearest=nearest, otherwise=otherwise)


def _several(labels: Mapping[Any, str], shown: Sequence[tuple[str, list[Any]]], node: JsonSchema) -> _LabelFill:
    names, nearest, often = _compared(labels, [(text, values or [None]) for text, values in shown])
    at_least = min(node.get("minItems", 0), len(labels))
    most = max((len(values) for _, values in shown if values), default=len(labels))
    at_most = max(at_least, min(node.get("maxItems", len(labels)), most))
    return _LabelFill(labels=names, nearest=nearest, otherwise=often[:at_least], at_least=at_least, at_most=at_most)


def _compared(
    labels: Mapping[Any, str], examples: Sequence[tuple[str, list[Any]]]
) -> tuple[tuple[Any, ...], Nearest, list[Any]]:
    """Return the labels, their index, and the labels by how often they were shown.

    If examples show that no label may apply, None is one of the labels.
    """
    nothing = [None] if any(None in values for _, values in examples) else []
    names = (*labels, *nothing)
    places = {canonical_json(name): at for at, name in enumerate(names)}
    placed = [
        (text, [at for value in values if (at := places.get(canonical_json(value))) is not None])
        for text, values in examples
    ]
    counts = Counter(at for _, ats in placed for at in ats)
    often = sorted(range(len(labels)), key=lambda at: -counts[at])
    nearest = Nearest([*labels.values(), *("" for _ in nothing)], placed)
    return names, nearest, [names[at] for at in often]
