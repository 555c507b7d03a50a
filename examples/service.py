"""Use a task inside a program that runs an event loop, such as a web service: `acall`, and `astream` for many."""

import asyncio
from collections.abc import AsyncIterator

from llmtasker.tasks.classification import Classification

topic = Classification(
    llm="offline",
    labels={"price": "money, cost, expensive, cheap", "speed": "fast, slow, quick, late", "other": "anything else"},
)


async def inbox() -> AsyncIterator[str]:
    for text in ("far too expensive", "a very slow delivery", "cheap, but good"):
        yield text


async def main() -> None:
    item = await topic.acall("what a quick reply")
    print(item.output)
    async for item in topic.astream(inbox(), ordered=True):
        print(item.input, "->", item.output)


if __name__ == "__main__":
    asyncio.run(main())
