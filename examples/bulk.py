"""Run many rows against an endpoint that sometimes fails: each row becomes an item, even if others fail.

The endpoint is a local server that misbehaves on request: replace it with `LLM("openai/gpt-4.1-mini")`.
"""

from typing import Literal

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FaultyServer, Malformed, Refusal, Status


class Mood(Signature):
    """Say how the customer feels."""

    review: str = InputField()
    mood: Literal["glad", "angry", "neither"] = OutputField()


faults = [
    Status(503, "overloaded", share=0.05),  # retried until it succeeds
    Status(400, "we do not like this", when="poison"),  # always fails: this row becomes an error
    Refusal(when="forbidden"),  # the LLM declines: also an error
    Malformed("trailing_comma", share=0.1),  # repaired
]
reviews = [f"review number {number}" for number in range(200)]
reviews[17] = "a review with poison in it"
reviews[80] = "a forbidden review"

if __name__ == "__main__":
    with FaultyServer(faults=faults, seed=1) as server:
        llm = LLM("some-model", base_url=server.base_url, cache=False)
        results = Task(Mood, llm=llm).run(reviews, concurrency=16)

    print(len(results), "items:", results.counts)
    print("calls that failed for now:", server.counters.by_status[503])
    for item in results:
        if item.error:
            print(f"{item.input!r}: {item.error.code}: {item.error}")
