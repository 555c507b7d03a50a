"""Extract a nested record, with a rule that the answer must follow; a wrong answer is asked again with the reason.

A stand-in replaces the LLM, so that this runs without one: use `llm="openai/gpt-4.1-mini"` instead.
"""

from datetime import date
from typing import Literal, Self

from pydantic import BaseModel, model_validator

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FakeTransport


class Part(BaseModel):
    name: str
    quantity: int = 1


class Repair(Signature):
    """Take down what a technician has to know from a call note."""

    note: str = InputField(description="what the call centre wrote down")
    quote: str = OutputField(description="the words of the note, verbatim, that say what is broken")
    urgency: Literal["today", "this week", "whenever"] = OutputField()
    visit: date | None = OutputField(default=None, description="the day that was agreed, if there is one")
    parts: list[Part] = OutputField(default_factory=list, description="what to bring along")

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.note:
            raise ValueError("quote must be copied from the note, word for word")
        return self


# The first answer paraphrases the note, so the LLM is asked again.
first: dict[str, object] = {"quote": "the boiler leaks", "urgency": "today", "visit": None, "parts": []}
# The second one quotes the note. Its JSON has an extra comma, and a label in capitals.
second = """
{"quote": "water under the boiler", "urgency": "TODAY", "visit": "2026-03-02",
 "parts": [{"name": "seal", "quantity": 2}],}
"""
llm = LLM.of(FakeTransport([first, second]), cache=False)
repair = Task(Repair, llm=llm)

if __name__ == "__main__":
    item = repair("Tenant found water under the boiler, we said 2 March. Bring two seals.")
    if item.output:
        print(item.output.urgency, item.output.visit, item.output.parts)
    print("calls:", item.attempts)
    for repaired in item.repairs:
        print("repaired:", repaired)
