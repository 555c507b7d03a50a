"""History: a conversation as an input, which becomes chat turns before the rest of the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, RootModel

from llmtasker.signature.conversation import Conversation


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    role: Literal["user", "assistant"]
    content: str


class History(Conversation, RootModel[tuple[Turn, ...]]):
    """The messages of a conversation so far; the type of an input field.

    It is given as a list of messages with `role` ("user" or "assistant") and `content`, and becomes chat turns between
    the examples and the rest of the input. If the instructions contain the field, or an example is shown as text, it
    becomes text.

    >>> from llmtasker import InputField, OutputField, Signature
    >>> class Reply(Signature):
    ...     "Answer the customer."
    ...     history: History = InputField()
    ...     message: str = InputField()
    ...     reply: str = OutputField()
    >>> given = {"history": [{"role": "user", "content": "Bonjour"}], "message": "Où est mon colis ?"}
    >>> print(Reply.validate_input(given).values["history"])
    user: Bonjour
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    def __iter__(self) -> Iterator[Turn]:  # type: ignore[override]
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)

    def __str__(self) -> str:
        return "\n".join(f"{turn.role}: {turn.content}" for turn in self.root)
