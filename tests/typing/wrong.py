"""Mistakes that type checkers must report: each line that ends with `# error`, and no other."""

from __future__ import annotations

from typing import Literal

from llmtasker import InputField, OutputField, Signature, Task


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


Triage(message="a", team="sales")  # error
Triage(message=7, team="billing")  # error
Triage(message="a")  # error
Triage(message="a", team="billing", more=1)  # error
Triage("a", "billing")  # error

item = Task(Triage, llm="offline")("a")
print(item.output.team)  # error
if item.output:
    print(item.output.label)  # error
    wrong: Literal["delivery"] = item.output.team  # error

Task(str, llm="offline")  # error
Task(Triage, llm="offline", examples=["a"])  # error
Task(Triage, llm="offline", mode="xml")  # error
Task(Triage, llm="offline", examples_role="assistant")  # error
Task(Triage, llm="offline", attempts="3")  # error
Task(Triage, llm="offline").run(7)  # error
Triage.with_instructions(7)  # error
