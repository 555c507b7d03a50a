"""What each error code means, in the words of pages and reports."""

from __future__ import annotations

CAUSES = {
    "error": "The row failed",
    "input": "The row does not fit the task",
    "budget": "The budget was used up",
    "not_run": "The row was not asked",
    "abstained": "The task was not sure enough to answer",
    "pipeline": "A step of the task failed",
    "call": "The call failed",
    "transient": "The LLM could not answer at the moment",
    "rate_limit": "The LLM asked to wait for too long",
    "timeout": "The LLM did not answer in time",
    "network": "The LLM could not be reached",
    "server": "The LLM had an error",
    "bad_response": "The LLM's response is not an answer",
    "rejected": "The LLM does not accept the call",
    "authentication": "The LLM rejected its key",
    "not_found": "The LLM was not found",
    "context_length": "The text is too long for the LLM",
    "bad_request": "The LLM does not accept the request",
    "output": "The answer can't be used",
    "invalid": "The answer could not be read",
    "truncated": "The answer was cut off",
    "refusal": "The LLM refused to answer",
    "filtered": "The filter of the LLM stopped the answer",
}
"""The meaning of each error code, in plain words."""
