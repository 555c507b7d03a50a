"""The task of the tests, and ways to count its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from llama_server import LlamaServer

from llmtasker import InputField, Item, OutputField, Results, Signature
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request, Transport

HELD = ("tools", "json_schema")
"""The modes in which a grammar holds the model to the schema."""

# Texts that a template, a tokenizer or a JSON writer could handle wrongly.
ODD = 'Où est mon colis ? "ça" \\ {message} {{7*7}} {% if x %} </message> 日本 😀\u00a0\u2028\tfin'


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "réclamation"] = OutputField(description="who takes it")
    urgency: int = OutputField(ge=1, le=5)


EXAMPLES = [
    Triage(message="J'ai été débité deux fois 😀 {x}", team="billing", urgency=2),
    Triage(message="My parcel is lost", team="delivery", urgency=4),
]


def asking(count: int) -> list[str]:
    """Return messages, each one token longer than the one before."""
    return [f"Where is it? {'x' * number}" for number in range(count)]


def spent(items: Results[Any] | list[Item[Any]]) -> tuple[int, int]:
    """Return the input and output tokens that these items report."""
    return sum(item.usage.input for item in items), sum(item.usage.output for item in items)


def counting(server: LlamaServer) -> Callable[[], tuple[int, int]]:
    """Return a function that returns the tokens that the server has counted since now."""
    before = server.counted()

    def since() -> tuple[int, int]:
        read, written = server.counted()
        return read - before[0], written - before[1]

    return since


def check_order(items: Results[Triage], rows: list[str]) -> None:
    """Each row has one token more than the one before, so the count identifies the request of an answer."""
    assert [item.input for item in items] == rows
    assert all(item.ok for item in items)
    first = items[0].usage.input
    assert [item.usage.input for item in items] == [first + number for number in range(len(rows))]


class Counted:
    """A transport that keeps the requests which another one sends."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.endpoint = inner.endpoint
        self.requests: list[Request] = []

    def send(self, request: Request) -> Completion:
        self.requests.append(request)
        return self.inner.send(request)

    async def asend(self, request: Request) -> Completion:
        self.requests.append(request)
        return await self.inner.asend(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()
