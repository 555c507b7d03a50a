"""Instruction: any instruction, text in; a dict, a Pydantic object or plain text out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from llmtasker.cache.store import Store
from llmtasker.compiler.program import AskMode
from llmtasker.compiler.prompt import ExamplesRole, InputRole
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.runner.grouping.group_plan import GroupSize
from llmtasker.signature import InputField, OutputField, Signature
from llmtasker.task import Task
from llmtasker.tasks.classification import Examples, pairs

_FIELD = "result"


class Instruction(Task[Any]):
    """Follows an instruction of your own on each text.

    Args:
        instructions: with {examples}, {text} and own variables.
        output: `str` (the answer's text, as it is), `dict` (any JSON object), a mapping from names to types
            (a dict with these keys), or a Pydantic model (an instance of it).
        examples: a mapping from text to output, or (text, output) pairs.
        mode: "auto" (function calling, or what the endpoint can), "tools", "json_schema", "json" or "text".

    The other arguments are those of `Task`.

    Raises:
        ConfigurationError: the output is none of these types, or an example does not fit it.

    >>> from llmtasker import LLM
    >>> from llmtasker.testing import FakeTransport
    >>> fake = LLM(transport=FakeTransport("A parcel is late."), cache=False)
    >>> Instruction(llm=fake, instructions="Summarise in one sentence.")("Where is my parcel? …").output
    'A parcel is late.'
    """

    def __init__(
        self,
        *,
        llm: Any = None,
        instructions: str,
        output: Any = str,
        examples: Examples = (),
        mode: AskMode | None = None,
        variables: Mapping[str, object] | None = None,
        examples_role: ExamplesRole | None = None,
        input_role: InputRole = "user",
        reasoning: bool = False,
        attempts: int = 3,
        cache: bool | str | os.PathLike[str] | Store | None = None,
        group_size: GroupSize = 1,
    ) -> None:
        self._as_dict = isinstance(output, Mapping)
        outputs = _outputs(output)
        signature = Signature.make(
            "Instruction", instructions=instructions, inputs={"text": (str, InputField())}, outputs=outputs
        )
        answered = enumerate(pairs(examples, _FIELD), start=1)
        super().__init__(
            signature,
            llm=llm,
            examples=[{"text": text, **self._answer(answer, number)} for number, (text, answer) in answered],
            variables=variables,
            examples_role=examples_role,
            input_role=input_role,
            mode=mode or ("plain" if output is str and not reasoning else "auto"),
            reasoning=reasoning,
            attempts=attempts,
            cache=cache,
            group_size=group_size,
        )

    def _answer(self, answer: Any, number: int) -> Mapping[str, Any]:
        if not self._as_dict:
            return {_FIELD: answer}
        if not isinstance(answer, Mapping):
            raise ConfigurationError(f"example {number} needs a mapping as answer, not {snippet(repr(answer), 60)}.")
        return cast("Mapping[str, Any]", answer)

    def _present(self, record: Any) -> Any:
        return record.outputs() if self._as_dict else getattr(record, _FIELD)


def _outputs(output: Any) -> dict[str, Any]:
    if issubclass(type(output), Mapping):
        if not output:
            raise ConfigurationError("output is an empty mapping: name at least one field, or give dict.")
        return {str(name): kind if isinstance(kind, tuple) else (kind, OutputField()) for name, kind in output.items()}
    if output is str:
        return {_FIELD: (str, OutputField())}
    if output is dict:
        return {_FIELD: (dict[str, Any], OutputField(description="a JSON object with the keys that are asked for"))}
    if isinstance(output, type) and issubclass(output, BaseModel):
        return {_FIELD: (output, OutputField())}
    raise ConfigurationError(
        f"output is str, dict, a mapping from names to types, or a Pydantic model, not {output!r}."
    )
