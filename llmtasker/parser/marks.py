"""Reasoning and control marks around an answer: removed first, from plain texts and JSON alike.

| family               | reasoning                                      | marks at the ends                         |
|----------------------|------------------------------------------------|-------------------------------------------|
| tags (R1, Qwen, …)   | `<think>…</think>` and similar                 | `<answer>…</answer>`                      |
| Magistral, Kimi, Seed| `[THINK]…[/THINK]`, `◁think▷…`, `<seed:think>` | `</s>`                                    |
| Gemma                | `<|channel>thought…<channel|>`                 | `<start_of_turn>model…<end_of_turn>`      |
| Harmony (gpt-oss)    | `<|channel|>analysis<|message|>…<|end|>`       | `<|channel|>final<|message|>…<|return|>`  |
| Cohere, Sky          | `<|START_THINKING|>…`, `<|begin_of_thought|>…` | `<|START_RESPONSE|>…<|END_RESPONSE|>`     |
| chat templates       |                                                | `<|im_end|>`, `<|eot_id|>`, `<end_of_turn>` |

Marks that also occur in the input are text. An unknown mark at an end is an error, because it may be reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from llmtasker.errors import InvalidOutputError, TruncatedError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern

_TAGS = (
    r"(?:\w+[_:])?think|thinking|thoughts?|reason|reasoning|reflection|scratchpad|analysis|inner_(?:monologue|thoughts)"
)
_WORDS = "THINK|THINKING|REASONING"
_OPENS = lazy_pattern(
    rf"\s*(?:<(?i:{_TAGS})>|\[(?:{_WORDS})\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>|<\|inner_prefix\|>"
    r"|<unused94>(?:thought\b)?|<\|channel>(?:thought|analysis)?)"
)
_CLOSES = lazy_pattern(
    rf"</(?:{_TAGS})>|\[/(?:{_WORDS})\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>|<\|inner_suffix\|>"
    r"|<unused95>|<channel\|>",
    re.IGNORECASE,
)
_OPENING_BRACKET, _CLOSING_BRACKET = lazy_pattern(r"[{\[]"), lazy_pattern(r"[}\]]")

_ROLE = r"(?:[ \t]*(?:assistant|model)\b)?"
_STARTS = lazy_pattern(
    rf"\s*(?:<\|im_start\|>{_ROLE}(?:<\|im_sep\|>)?|<\|(?:start|turn)\|?>{_ROLE}|<start_of_turn>{_ROLE}"
    rf"|<\|(?:start_header_id|header_start|start_of_role)\|>{_ROLE}<\|(?:end_header_id|header_end|end_of_role)\|>"
    r"|<[|｜](?:hy_)?[Aa]ssistant[|｜]>|<\|(?:assistant_start|begin_of_text|python_tag|begin_of_box|begin_of_solution)\|>"
    r"|<\|START_(?:RESPONSE|TEXT|ACTION|OF_TURN_TOKEN)\|>|<\|CHATBOT_TOKEN\|>|<s>|<bos>|<seed:bos>|\[\|assistant\|\]"
    r"|\[gMASK\](?:<sop>)?|<hy_place_holder>|<(?:final_)?answer>)\s*"
)
_END = (
    r"(?:<\|(?:im_end|eot_id|eot|eom_id|end|return|call|endoftext|end_of_text|end_of_turn|endofturn|eos|assistant_end"
    r"|end_of_box|end_of_solution|END_RESPONSE|END_TEXT|END_ACTION|END_OF_TURN_TOKEN|user|observation)\|>|<end_of_turn>"
    r"|<turn\|>|</s>|<eos>|<seed:eos>|\[EOS\]|\[\|endofturn\|\]|</(?:final_)?answer>|<｜end▁of▁sentence｜>"
    r"|\[/(?:TOOL_CALLS|INST)\])"
)
_ENDS = lazy_pattern(rf"{_END}\s*(?:{_END}\s*)*$")  # the text before it is not examined: that would take long
_NEXT_TURN = lazy_pattern(
    rf"{_END}\s*(?:<\|im_start\|>|<\|start\|>|<start_of_turn>|<\|start_header_id\|>)|<\|user\|>|\[INST\]"
    r"|(?:<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>)\s*user\b"
)
_MARK = r"\[\|\w{1,40}\|\]|<unused\d+>|<[|｜][^|｜<>\n]{1,40}[|｜]?>|<[^|｜<>\n]{1,40}[|｜]>"
_LIKE = r"\w*(?:think|thought|reason|reflect|ponder|scratch|monolog|deliberat|analys)\w*"
_UNKNOWN_START = lazy_pattern(rf"\s*({_MARK}|<{_LIKE}[^<>\n]{{0,40}}>|\[([A-Z][A-Z_]{{2,}})\](?=.*\[/\2\]))", re.DOTALL)
_UNKNOWN_END = lazy_pattern(rf"({_MARK}|</{_LIKE}>|\[/[A-Z][A-Z_]{{2,}}\])\s*$")
_CALL = lazy_pattern(r"\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>|<[|｜]?tool[_▁]?calls?|<function(?:=|_calls?>))")

_MESSAGE = lazy_pattern(
    r"(?:<\|start\|>(?P<role>(?:(?!<\|).){0,100}))?<\|channel\|>\s*(?P<channel>\w+)(?P<head>(?:(?!<\|message\|>).){0,200})<\|message\|>"
    r"(?P<body>.*?)(?P<end><\|(?:end|return|call)\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
_CHANNEL = lazy_pattern(r"<\|channel\|>\s*\w")
_TO_FUNCTION = lazy_pattern(r"\bto=([\w.\-]+)")
_BARE_CHANNELS = lazy_pattern(r"\s*analysis(?P<reasoning>.+?)assistant\s*final(?P<text>.+)", re.DOTALL)

_MOST_STARTS = 5
BEHIND_REASONING = "taken from the text after the reasoning"


class Front(NamedTuple):
    """An answer without the marks around it, the reasoning that preceded it, and the repairs."""

    text: str
    reasoning: str | None = None
    repairs: tuple[str, ...] = ()


def after_reasoning(text: str) -> str | None:
    """Return what follows the reasoning (`<think>` and similar), or None if the reasoning never ends."""
    start = 0
    while opening := _OPENS.match(text, start):
        closing = _CLOSES.search(text, opening.end())
        if closing is None:
            return None
        start = closing.end()
    # Some chat templates drop the opening tag. If brackets that open before the tag close after it, it is in a string.
    *_, last = [None, *_CLOSES.finditer(text, start)]
    if last is not None and (
        _OPENING_BRACKET.search(text, last.end()) or not _CLOSING_BRACKET.search(text, last.end())
    ):
        start = last.end()
    return text[start:]


def begins_with_call(text: str) -> bool:
    """Return whether a text begins with the mark of a function call."""
    return _CALL.match(text) is not None


def without_marks(text: str, given: Callable[[], str] = str) -> Front:
    """Return an answer without reasoning and control marks; `given` returns the text of the input.

    Raises:
        TruncatedError: the reasoning never ends.
        InvalidOutputError: there is an unknown mark at an end.

    >>> without_marks("<think>hm</think>Bonjour<|im_end|>").text
    'Bonjour'
    """
    text = text.removeprefix("\ufeff")
    if not any(char in text for char in "<[◁") and not text.lstrip().startswith("analysis"):
        return Front(text)
    shown = given()
    if _CHANNEL.search(text) and "<|channel|>" not in shown:
        front = _channels(text)
    else:
        bare = _BARE_CHANNELS.fullmatch(text)
        front = Front(bare["text"], bare["reasoning"], (BEHIND_REASONING,)) if bare else _reasoned(text, shown)
    text, repairs = _stripped(front.text, shown)
    _check_ends(text, shown)
    return Front(text, front.reasoning, (*front.repairs, *repairs))


def _reasoned(text: str, shown: str) -> Front:
    start = _STARTS.match(text)
    if start is not None and start[0].strip() not in shown:
        front = _behind_marks(text[start.end() :], shown)
        return front._replace(repairs=(f"removed the mark {start[0].strip()!r}", *front.repairs))
    return _behind_marks(text, shown)


def _behind_marks(text: str, shown: str) -> Front:
    opening = _OPENS.match(text)
    if opening is not None and (tag := opening[0].strip()) in shown:
        raise InvalidOutputError(f"the answer begins with {tag!r}, which also occurs in the input")
    closing = _CLOSES.search(text)
    if closing is not None and closing[0] in shown:
        return Front(text)
    rest = after_reasoning(text)
    if rest is None:
        raise TruncatedError(f"the answer stops inside its reasoning: {snippet(text[-60:])!r}")
    if len(rest) == len(text):
        return Front(text)
    return Front(rest, text[: len(text) - len(rest)].strip(), (BEHIND_REASONING,))


def _channels(text: str) -> Front:
    messages = list(_MESSAGE.finditer(text))
    reasoning = "\n".join(one["body"].strip() for one in messages if one["channel"] == "analysis") or None
    repairs = (BEHIND_REASONING,) if reasoning else ("taken from its channel",)
    calls = [
        (to[1], one["body"]) for one in messages if (to := _TO_FUNCTION.search(f"{one['role'] or ''} {one['head']}"))
    ]
    if calls:
        return Front("".join(f"<function={name}>{body}</function>" for name, body in calls), reasoning, repairs)
    finals = {one["body"].strip() for one in messages if one["channel"] == "final"}
    if len(finals) > 1:
        raise InvalidOutputError(f"there are several different answers: {snippet(text)!r}")
    if not finals:
        raise TruncatedError(f"the answer stops inside its reasoning: {snippet(text[-60:])!r}")
    return Front(finals.pop(), reasoning, repairs)


def _stripped(text: str, shown: str) -> tuple[str, tuple[str, ...]]:
    """Return the text without the known marks at its ends, and without another turn that the LLM made up after it."""
    repairs: list[str] = []
    if (turn := _NEXT_TURN.search(text)) and turn.start() and turn[0].strip() not in shown:
        text = text[: turn.start()].rstrip()
        repairs.append(f"cut before the next turn ({turn[0].strip()!r})")
    for _ in range(_MOST_STARTS):
        start = _STARTS.match(text)
        if start is None or (mark := start[0].strip()) in shown:
            break
        text = text[start.end() :]
        repairs.append(f"removed the mark {mark!r}")
    if (end := _ENDS.search(text)) and (mark := end[0].strip()) not in shown:
        text = text[: end.start()].rstrip()
        repairs.append(f"removed the mark {snippet(mark, 40)!r}")
    return text, tuple(repairs)


def _check_ends(text: str, shown: str) -> None:
    for place, found in (("begins", _UNKNOWN_START.match(text)), ("ends", _UNKNOWN_END.search(text))):
        if found is not None and found[1] not in shown and not begins_with_call(text):
            raise InvalidOutputError(f"the answer {place} with the unknown mark {snippet(found[1], 40)!r}")
