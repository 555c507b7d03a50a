"""Preview: what a task would send for an input, before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from llmtasker.wire.completion import Message, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A request exactly as it would be sent; `print(preview)` shows it."""

    request: Request = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The messages, with their roles."""
        return self.request.messages

    @property
    def schema(self) -> dict[str, Any]:
        """What asks for the form of the answer: tools or response format."""
        set_anyway = self.request.settings.body
        return {name: value for name, value in self.request.head.schema.items() if name not in set_anyway}

    @property
    def settings(self) -> dict[str, Any]:
        """The model and its settings."""
        return {**self.request.settings.body, **self.request.settings.limits}

    @property
    def body(self) -> dict[str, Any]:
        """The whole body of the request, as JSON values."""
        return self.request.body

    def __str__(self) -> str:
        parts = [f"to {self.request.settings.endpoint}"]
        for message in self.messages:
            said = message["content"] or ""
            for call in message.get("tool_calls", ()):
                said += f"{call['function']['name']}({call['function']['arguments']})"
            parts.append(f"── {message['role']} ──\n{said}")
        parts.append(f"── schema ──\n{_json(self.schema)}")
        parts.append(f"── settings ──\n{_json(self.settings)}")
        parts += [f"note: {note}" for note in self.notes]
        return "\n".join(parts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
