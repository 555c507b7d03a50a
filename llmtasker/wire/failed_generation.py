"""The answer inside a refusal: an endpoint that can't read the call or the JSON of its own LLM returns it in a 400."""

from __future__ import annotations

import json

from llmtasker.values.json_values import is_object
from llmtasker.wire.completion import Completion


def failed_generation(status: int, payload: bytes | str) -> Completion | None:
    """Return the completion in a refusal (Groq's `failed_generation`), or None if there is none.

    It has no finish reason, because it is not known whether the LLM had finished.

    >>> failed_generation(400, '{"error": {"failed_generation": "<function=Sort>{}</function>"}}').text
    '<function=Sort>{}</function>'
    """
    name = "failed_generation"
    if status != 400 or (name if isinstance(payload, str) else name.encode()) not in payload:  # type: ignore[operator]
        return None
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    error = body.get("error", body) if is_object(body) else None
    text = error.get(name) if is_object(error) else None
    return Completion(text=text) if isinstance(text, str) and text.strip() else None
