"""declaration_hint: the line of code to write instead of something that is not a Signature class."""

from __future__ import annotations

from pydantic import BaseModel

from llmtasker.errors import snippet
from llmtasker.signature.signature import Signature

_CLASS = "class Triage(Signature): with message: str = InputField() and team: str = OutputField()"


def declaration_hint(given: object) -> str:
    """Return what to write instead of a thing that is not a class of Signature.

    >>> declaration_hint("text -> label")
    'write Signature.make("Task", instructions="…", inputs={"text": str}, outputs={"label": str})'
    """
    if isinstance(given, Signature):
        return f"give its class: Task({type(given).__name__}, …)"
    if isinstance(given, type) and issubclass(given, Signature):
        return f"it has no fields; write {_CLASS}"
    if isinstance(given, type) and issubclass(given, BaseModel):
        return f"write class {given.__name__}(Signature): and give each field an InputField() or OutputField()"
    if not isinstance(given, str):
        return f"write {_CLASS}"
    inputs, arrow, outputs = given.partition("->")
    if not arrow:
        return f"for an instruction alone, write Instruction(instructions={snippet(repr(given), 40)}, …)"
    return (
        f'write Signature.make("Task", instructions="…", inputs={{{_fields(inputs)}}}, outputs={{{_fields(outputs)}}})'
    )


def _fields(names: str) -> str:
    """Return names with types, as in "question, marks: list[int]", as the items of a dict."""
    pairs = (one.partition(":") for one in snippet(names, 80).split(",") if one.strip())
    return ", ".join(f'"{name.strip()}": {kind.strip() or "str"}' for name, _, kind in pairs)
