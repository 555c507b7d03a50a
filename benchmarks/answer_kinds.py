"""Answers of three kinds, made here: an unasked key beside broken JSON, labels that are JSON or one letter, several.

Each row is {id, mutation, target_schema, raw_text, expected} or has "expect_error" in place of the value.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

UNASKED, SHORT_LABELS, SEVERAL = "unasked key, broken JSON", "short or JSON label", "several answers"
_ROWS = 200  # of each kind

_WORDS = (
    "late parcel",
    "it's broken",
    "le colis est arrivé ouvert",
    "paid twice, he says",
    "no {brackets} here",
    "50 % off",
)
_TICKET = {
    "type": "object",
    "properties": {
        "team": {"enum": ["billing", "delivery", "other"]},
        "urgency": {"type": "integer"},
        "note": {"type": "string"},
    },
    "required": ["team", "urgency", "note"],
}


def rows(seed: int = 7) -> Iterator[dict[str, Any]]:
    """Yield the rows of all kinds, the same for the same seed."""
    draw = random.Random(seed)
    for make in (_unasked, _short_label, _several):
        for number in range(_ROWS):
            yield {"id": f"{make.__name__}/{number}", **make(draw)}


def _ticket(draw: random.Random) -> dict[str, Any]:
    team = draw.choice(["billing", "delivery", "other"])
    return {"team": team, "urgency": draw.randrange(1, 6), "note": draw.choice(_WORDS)}


def _unasked(draw: random.Random) -> dict[str, Any]:
    asked = _ticket(draw)
    extra = {draw.choice(["reason", "why", "confidence", "thoughts"]): draw.choice([*_WORDS, 0.8, None, ["a", "b"]])}
    value = {**extra, **asked} if draw.random() < 0.4 else {**asked, **extra}
    text = json.dumps(value, ensure_ascii=False)
    (key,) = extra
    slips = {
        "comma": lambda: text[:-1] + ",}",
        "single": lambda: repr(value),
        "keys": lambda: text.replace('"team":', "team:").replace('"urgency":', "urgency:"),
        "comment": lambda: "{ // the ticket\n" + text[1:],
        "no comma": lambda: text.replace(', "urgency"', ' "urgency"'),
        "stray quote": lambda: text.replace(f'"{key}": ', f'"{key}": "so " late", "more": '),
        "left out": lambda: text.replace(f'"{key}": ', f'"{key}": , "more": '),
        "prose": lambda: f"Here you are:\n```json\n{text[:-1]},\n}}\n```\nAnything else?",
    }
    return {
        "mutation": UNASKED,
        "target_schema": _TICKET,
        "raw_text": slips[draw.choice(list(slips))](),
        "expected": asked,
    }


def _short_label(draw: random.Random) -> dict[str, Any]:
    labels: list[Any] = draw.choice(
        [list("ABCDE"), ["1", "2", "3"], [1, 2, 3, 4], ["true", "false"], ["True", "False"]]
    )
    label = draw.choice(labels)
    other = draw.choice([one for one in labels if one != label])
    schema = {"type": "object", "properties": {"choice": {"enum": labels}}, "required": ["choice"]}
    said = str(label)
    forms = [
        said, f"{said}.", f"**{said}**", f"({said})", f"Answer: {said}", f"The answer is {said}.",
        f"The answer is ({said}).",
        f'{{"choice": {json.dumps(label)}}}', f'{{"choice": "{said}"}}',
        f"It is a bank, as I see it. The answer is {said}.",
        f"A loan costs money, so the correct answer is **{said}**.", f"Réponse : {said}", f"Final answer: {said}",
        f'["{said}"]', f"I'd choose {said}, because it fits.", f"Option {said} is correct.",
    ]  # fmt: skip
    if said.lower() in ("true", "false") or said.isdigit():
        forms += [said.lower(), f'{{"choice": {said.lower()}}}']
    undecided = [
        f"{said} or {other}", f"The answer is {said} or {other}.", f"({said}) and ({other})", f"It is not {said}.",
        f"The answer is {said}. No, it is {other}.", "A loan is a debt.", f"Answer: not {said}",
    ]  # fmt: skip
    row = {"mutation": SHORT_LABELS, "target_schema": schema}
    if draw.random() < 0.2:
        return {**row, "raw_text": draw.choice(undecided), "expect_error": True}
    return {**row, "raw_text": draw.choice(forms), "expected": {"choice": label}}


def _several(draw: random.Random) -> dict[str, Any]:
    one = _ticket(draw)
    other = {**one, "team": draw.choice([team for team in ("billing", "delivery", "other") if team != one["team"]])}
    first, second = json.dumps(one), json.dumps(other)
    again = json.dumps(dict(reversed(one.items())))
    right = [
        (f"{first}\n{again}", one), (f"[{first}, {again}]", one), (f"{first} {{}}", one), (f"{{}}\n{first}", one),
        (f"{second}\nNo, wait, that is wrong. Correction: {first}", one),
        (f"Draft:\n```json\n{second}\n```\nFinal:\n```json\n{first}\n```", one),
        (f'<tool_call>{{"name": "Ticket", "arguments": {first}}}</tool_call>', one),
    ]  # fmt: skip
    wrong = [f"{first}\n{second}", f"{first} or {second}", f"[{first}, {second}]", f"One: {first} Two: {second}"]
    row = {"mutation": SEVERAL, "target_schema": _TICKET}
    if draw.random() < 0.5:
        return {**row, "raw_text": draw.choice(wrong), "expect_error": True}
    text, value = draw.choice(right)
    return {**row, "raw_text": text, "expected": value}
