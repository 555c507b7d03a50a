"""Put ten inputs in each message: fewer calls, and each answer still goes to its own input."""

from typing import Literal

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import BadGroup, FaultyServer


class Mood(Signature):
    """Say how the customer feels."""

    review: str = InputField()
    mood: Literal["glad", "angry", "neither"] = OutputField()


reviews = [f"review {number}: it was {['good', 'bad', 'so so'][number % 3]}, and so on" for number in range(100)]

if __name__ == "__main__":
    with FaultyServer() as server:
        llm = LLM("some-model", base_url=server.base_url, cache=False)
        one_by_one = Task(Mood, llm=llm).run(reviews)
        moods = [item.output and item.output.mood for item in one_by_one]
        calls = server.counters.requests
        grouped = Task(Mood, llm=llm, group_size=10).run(reviews)
        print("one by one:", calls, "calls; in groups:", server.counters.requests - calls)
        print("the same answers:", [item.output and item.output.mood for item in grouped] == moods)

    # The answers of the first group are at the wrong inputs: this is detected, and they are asked again.
    with FaultyServer(faults=[BadGroup("shifted", first=1)]) as server:
        llm = LLM("some-model", base_url=server.base_url, cache=False)
        grouped = Task(Mood, llm=llm, group_size=10).run(reviews)
        print("with one group shifted:", server.counters.requests, "calls")
        print("the same answers:", [item.output and item.output.mood for item in grouped] == moods)
