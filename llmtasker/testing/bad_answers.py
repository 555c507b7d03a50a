"""Faults of an LLM: answers that are cut, malformed, refused, or assigned to the wrong input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias, cast

from llmtasker.testing.exchange import Call, Reply
from llmtasker.testing.faults import Fault

Rows: TypeAlias = list[dict[str, Any]]


@dataclass
class Cut(Fault):
    """Only the first `keep` (a share) of the answer's characters, reported as `length`, or unreported as `stop`."""

    finish_reason: Literal["length", "stop"] = "length"
    keep: float = 0.5

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.text = reply.text[: int(len(reply.text) * self.keep)]
        reply.choice["finish_reason"] = self.finish_reason
        return True


MALFORMATIONS: dict[str, Callable[[str], str]] = {
    "trailing_comma": lambda text: text[:-1] + "," + text[-1:],
    "single_quotes": lambda text: repr(json.loads(text)),
    "unquoted_keys": lambda text: re.sub(r'"(\w+)":', r"\1:", text),
    "comment": lambda text: text[:-1] + " // that is all\n" + text[-1:],
    "prose": lambda text: f"Sure, here is the answer:\n\n{text}\n\nLet me know if you need anything else.",
    "fences": lambda text: f"```json\n{text}\n```",
    "think": lambda text: f'<think>First I thought of {{"draft": true}}, then not.</think>\n{text}',
    "doubled": lambda text: f"{text}\n{text}",
    "not_json": lambda text: "I would rather describe it: it depends.",
}
"""Ways to break JSON; each takes valid JSON text."""


@dataclass
class Malformed(Fault):
    """JSON with a flaw: one of the MALFORMATIONS, or `any` for a random one. Plain text stays unchanged."""

    how: str = "any"

    def __post_init__(self) -> None:
        if self.how not in {"any", *MALFORMATIONS}:
            raise ValueError(f"unknown malformation {self.how!r}; one of: any, {', '.join(MALFORMATIONS)}")

    def apply(self, call: Call, reply: Reply) -> bool:
        try:
            json.loads(reply.text)
        except ValueError:
            return False
        how = call.random.choice(list(MALFORMATIONS)) if self.how == "any" else self.how
        reply.text = MALFORMATIONS[how](reply.text)
        return True


def _missing(rows: Rows, random: Random) -> None:
    del rows[random.randrange(len(rows))]


def _doubled(rows: Rows, random: Random) -> None:
    rows.insert(random.randrange(len(rows)), deepcopy(random.choice(rows)))


def _conflicting(rows: Rows, random: Random) -> None:
    row, other = random.sample(rows, 2)
    rows.append({**other, "id": row["id"]})


def _unknown_id(rows: Rows, random: Random) -> None:
    random.choice(rows)["id"] = "no-such-input"


def _no_id(rows: Rows, random: Random) -> None:
    del random.choice(rows)["id"]


def _swapped_ids(rows: Rows, random: Random) -> None:
    row, other = random.sample(rows, 2)
    row["id"], other["id"] = other["id"], row["id"]


def _shuffled(rows: Rows, random: Random) -> None:
    before = list(rows)
    random.shuffle(rows)
    if rows == before:
        rows.reverse()


def _shifted(rows: Rows, random: Random) -> None:
    ids = [row["id"] for row in rows]
    rows.append(rows.pop(0))
    for row, id_ in zip(rows, ids, strict=True):
        row["id"] = id_


def _wrong_anchor(rows: Rows, random: Random) -> None:
    random.choice(rows)["anchor"] = "words of no input here"


def _invalid(rows: Rows, random: Random) -> None:
    row = random.choice(rows)
    row.update({name: [["invalid"]] for name in row if name not in {"id", "anchor"}})


GROUP_FAULTS: dict[str, Callable[[Rows, Random], None]] = {
    "missing": _missing,
    "doubled": _doubled,
    "conflicting": _conflicting,
    "unknown_id": _unknown_id,
    "no_id": _no_id,
    "swapped_ids": _swapped_ids,
    "shuffled": _shuffled,
    "shifted": _shifted,
    "wrong_anchor": _wrong_anchor,
    "invalid": _invalid,
}
"""Ways to confuse the answers of a group; each changes at least two rows' list in place."""


@dataclass
class BadGroup(Fault):
    """A grouped answer with one of the GROUP_FAULTS, or `any` for a random one.

    The group is the first list of objects with an `id`; answers with fewer than two of them stay unchanged. `shifted`
    keeps the ids in order and moves all the rest (the anchors too) up by one; `conflicting` answers one id twice,
    differently; `invalid` spoils the values of one answer.
    """

    how: str = "any"

    def __post_init__(self) -> None:
        if self.how not in {"any", *GROUP_FAULTS}:
            raise ValueError(f"unknown group fault {self.how!r}; one of: any, {', '.join(GROUP_FAULTS)}")

    def apply(self, call: Call, reply: Reply) -> bool:
        try:
            answer: Any = json.loads(reply.text)
        except ValueError:
            return False
        rows = _rows_of(answer)
        if len(rows) < 2:
            return False
        how = call.random.choice(list(GROUP_FAULTS)) if self.how == "any" else self.how
        GROUP_FAULTS[how](rows, call.random)
        reply.text = json.dumps(answer, ensure_ascii=False)
        return True


def _rows_of(answer: Any) -> Rows:
    """Return the list of the answers of a group; it is part of `answer` and may be changed."""
    members: list[Any] = list(cast("dict[str, Any]", answer).values()) if isinstance(answer, dict) else [answer]
    for member in members:
        if isinstance(member, list) and member:
            rows = cast("list[object]", member)
            if all(isinstance(row, dict) and "id" in row for row in rows):
                return cast("Rows", rows)
    return []


@dataclass
class Refusal(Fault):
    """The LLM declines in the `refusal` field."""

    text: str = "I'm sorry, I can't help with that."

    def apply(self, call: Call, reply: Reply) -> bool:
        reply.choice["message"] = {"role": "assistant", "content": None, "refusal": self.text}
        reply.choice["finish_reason"] = "stop"
        return True


@dataclass
class ContentFilter(Fault):
    """A content filter intervenes: on the answer (200, `content_filter`) or on the request (400, as Azure does)."""

    on: Literal["answer", "request"] = "answer"

    def apply(self, call: Call, reply: Reply) -> bool:
        if self.on == "request":
            message = "The response was filtered due to the prompt triggering the content management policy."
            reply.fail(400, message, code="content_filter")
        else:
            reply.choice["message"] = {"role": "assistant", "content": "", "refusal": None}
            reply.choice["finish_reason"] = "content_filter"
        return True


@dataclass
class WrongTool(Fault):
    """The answer calls a function that was not offered."""

    name: str = "no_such_function"

    def apply(self, call: Call, reply: Reply) -> bool:
        calls: list[dict[str, Any]] = reply.message.get("tool_calls") or []
        for tool_call in calls:
            tool_call["function"]["name"] = self.name
        return bool(calls)


@dataclass
class TwoCalls(Fault):
    """A second call of the same function with other arguments (empty by default)."""

    arguments: str = "{}"

    def apply(self, call: Call, reply: Reply) -> bool:
        calls: list[dict[str, Any]] = reply.message.get("tool_calls") or []
        if calls:
            second = deepcopy(calls[0])
            second["id"] += "_b"
            second["function"]["arguments"] = self.arguments
            calls.append(second)
        return bool(calls)
