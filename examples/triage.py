# triage.py
from typing import Literal

from llmtasker import InputField, OutputField, Signature, Task


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = OutputField(description="who takes it")


triage = Task(
    Triage,
    llm="offline",  # or "openai/gpt-4.1-mini", "azure/…", "ollama/…", a client, a LangChain chat model
    examples=[
        Triage(message="I was charged twice for one order", team="billing"),
        Triage(message="Mon colis n'est toujours pas arrivé", team="delivery"),
        Triage(message="Do you have a shop in Lyon?", team="other"),
    ],
)

if __name__ == "__main__":
    for item in triage.run(["Why was I charged again?", "Où est mon colis ?", None]):
        print(item.output.team if item.output else item.error)
