"""The ways to ask one classification in bulk that the benchmarks compare: llmtasker, and what else is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import openai
from pydantic import BaseModel

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.llm.rate_limiter import RateLimiter

MODEL = "some-model"


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "technical", "returns", "account", "other"] = OutputField()


class Answer(BaseModel):
    """The team that can solve it."""

    team: Literal["billing", "delivery", "technical", "returns", "account", "other"]


EXAMPLES = [
    Triage(message="I was charged twice for the same order.", team="billing"),
    Triage(message="Mon colis devait arriver lundi, et nous sommes jeudi.", team="delivery"),
    Triage(message="The app stops as soon as I open it.", team="technical"),
    Triage(message="How do I send the lamp back?", team="returns"),
]

Ask = Callable[[Sequence[str], int], Awaitable[int]]
"""Asks for all texts with so many in flight, and returns how many were answered."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to ask in bulk; `open(base_url)` gives the function that does it."""

    name: str
    open: Callable[[str], Any]


def messages(text: str) -> list[dict[str, Any]]:
    """Return the messages of the task, as llmtasker sends them, for one text."""
    request = Task(Triage, llm=LLM("offline", cache=False), examples=EXAMPLES, mode="tools").preview(text).request
    return request.messages


_HEAD = messages("x")[:-1]
_SCHEMA = Task(Triage, llm=LLM("offline", cache=False), mode="tools").preview("x").schema


def body(text: str) -> dict[str, Any]:
    """Return the whole request body for one text."""
    return {"model": MODEL, **_SCHEMA, "messages": [*_HEAD, {"role": "user", "content": text}]}


async def bounded(texts: Sequence[str], concurrency: int, one: Callable[[str], Awaitable[bool]]) -> int:
    """Ask one by one with so many in flight; what raises counts as not answered."""
    answered = 0
    rest = iter(texts)

    async def worker() -> None:
        nonlocal answered
        for text in rest:
            try:
                fine = await one(text)
            except Exception:  # noqa: BLE001 - each library has errors of its own, and a lost row is what is counted
                continue
            answered += fine

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answered


@asynccontextmanager
async def raw_aiohttp(base_url: str) -> AsyncIterator[Ask]:
    """Bare aiohttp and json, which no client can beat. It retries nothing."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(text: str) -> bool:
            async with session.post(f"{base_url}/chat/completions", json=body(text)) as response:
                found = json.loads(await response.read())
                return bool(
                    json.loads(found["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])["team"]
                )

        yield lambda texts, concurrency: bounded(texts, concurrency, one)


@asynccontextmanager
async def openai_create(base_url: str) -> AsyncIterator[Ask]:
    """A loop around `create` of the openai package, with its own two retries."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:

        async def one(text: str) -> bool:
            answer = await client.chat.completions.create(**body(text))
            return bool(json.loads(answer.choices[0].message.tool_calls[0].function.arguments)["team"])

        yield lambda texts, concurrency: bounded(texts, concurrency, one)


@asynccontextmanager
async def instructor_create(base_url: str) -> AsyncIterator[Ask]:
    """A loop around instructor's `create`, with its defaults."""
    import instructor

    logging.getLogger("instructor").setLevel(logging.CRITICAL)  # it logs every failure, which are counted here

    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as inner:
        client = instructor.from_openai(inner)

        async def one(text: str) -> bool:
            asked = [*_HEAD, {"role": "user", "content": text}]
            found = await client.chat.completions.create(model=MODEL, messages=asked, response_model=Answer)
            return bool(found.team)

        yield lambda texts, concurrency: bounded(texts, concurrency, one)


@asynccontextmanager
async def langchain_batch(base_url: str) -> AsyncIterator[Ask]:
    """LangChain's `abatch` of a chat model with structured output, with its defaults."""
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=base_url, api_key="none").with_structured_output(Answer)

    async def ask(texts: Sequence[str], concurrency: int) -> int:
        asked = [[("system", Triage.instructions), ("user", text)] for text in texts]
        found = await chat.abatch(asked, config={"max_concurrency": concurrency}, return_exceptions=True)
        return sum(isinstance(one, Answer) for one in found)

    yield ask


@asynccontextmanager
async def dspy_calls(base_url: str) -> AsyncIterator[Ask]:
    """DSPy's `Predict.acall` in a loop, with its defaults."""
    import dspy

    lm = dspy.LM(f"openai/{MODEL}", api_base=base_url, api_key="none", cache=False)
    predict = dspy.Predict(dspy.Signature("message -> team", Triage.instructions))

    async def one(text: str) -> bool:
        with dspy.context(lm=lm):
            return bool((await predict.acall(message=text)).team)

    yield lambda texts, concurrency: bounded(texts, concurrency, one)


def ours(*, limited: bool = False, **settings: Any) -> Any:
    """Return a contender's `open` for llmtasker with some settings of the task.

    `limited` gives the number in flight as the `max_concurrency` of the LLM, and not to the run.
    """

    @asynccontextmanager
    async def opened(base_url: str) -> AsyncIterator[Ask]:
        async with LLM(MODEL, base_url=base_url, api_key="none", cache=False) as llm:
            task = Task(Triage, llm=llm, examples=EXAMPLES, **settings)

            async def ask(texts: Sequence[str], concurrency: int) -> int:
                if limited:
                    llm.rate_limiter = RateLimiter(max_concurrency=concurrency)
                results = await task.arun(texts, concurrency=None if limited else concurrency, progress=False)
                return sum(item.ok for item in results)

            yield ask

    return opened


def contenders() -> list[Contender]:
    """Return all that can take part here."""
    found = [
        Contender(name="raw aiohttp", open=raw_aiohttp),
        Contender(name="llmtasker", open=ours()),
        Contender(name="openai create", open=openai_create),
        Contender(name="instructor", open=instructor_create),
    ]
    if importlib.util.find_spec("langchain_openai"):
        found.append(Contender(name="langchain abatch", open=langchain_batch))
    if importlib.util.find_spec("dspy"):
        found.append(Contender(name="dspy", open=dspy_calls))
    return found


@contextmanager
def served(*flags: str) -> Iterator[str]:
    """Run the test server in its own process, and give its base URL."""
    command = [sys.executable, "-m", "llmtasker.testing.server", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.terminate()
