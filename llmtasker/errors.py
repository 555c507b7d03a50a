"""The errors of llmtasker: one class for each decision that a caller can make.

Mistakes in code or set-up are raised at once. A failure of an endpoint or an input
becomes `item.error`; `item.raise_for_error()` raises it.

    LLMTaskerError
    ├── SignatureError              a task is declared wrongly                   raised
    ├── ConfigurationError          the set-up is wrong or incomplete            raised
    ├── UnexpectedCallError         a test double has no answer to a call        raised
    └── ItemError                   one input has no valid output                item.error
        ├── InputError              the input does not fit the signature         correct the row
        ├── BudgetError             the budget is used up                        raise it, run again
        ├── NotRunError             the run was stopped before this row          run again
        ├── AbstainedError          the answer is not sure enough                ask a person
        ├── PipelineError           the function of a pipeline raised            correct it, run again
        ├── CallError               the call failed
        │   ├── TransientError      it may work later; retried already
        │   │   ├── RateLimitError
        │   │   ├── CallTimeoutError
        │   │   ├── NetworkError
        │   │   ├── ServerError
        │   │   └── BadResponseError   a success (2xx) without a chat completion
        │   └── RejectedError       it will not work as it is; never retried
        │       ├── AuthenticationError
        │       ├── NotFoundError
        │       ├── ContextLengthError
        │       └── BadRequestError
        └── OutputError             the answer of the LLM is not usable
            ├── InvalidOutputError  it does not fit the signature
            ├── TruncatedError      it was cut
            ├── RefusedError        the LLM declined
            └── FilteredError       a content filter intervened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

SNIPPET_LENGTH = 160
_MOST = 5  # problems that one message names


def snippet(text: object, length: int = SNIPPET_LENGTH) -> str:
    """Return at most `length` characters of a text on one line, for an error message.

    >>> snippet("a long\\n  answer", length=8)
    'a long …'
    """
    # Only the beginning is examined, because the text may be megabytes long.
    line = " ".join(str(text)[: length * 4].split())
    return line if len(line) <= length else line[: length - 1] + "…"


def counted(count: float, one: str, many: str | None = None) -> str:
    """Return a count with its noun, for a message; `many` is the plural where it is not `one` with an s.

    >>> counted(1, "row"), counted(2000, "row"), counted(0, "entry", "entries")
    ('1 row', '2,000 rows', '0 entries')
    """
    number = f"{count:,}" if isinstance(count, int) else f"{count:,.10g}"
    return f"{number} {one if count == 1 else many or one + 's'}"


def describe(error: BaseException) -> str:
    """Return why a value does not fit, a field at a time, with a short piece of each value and never a whole record."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {snippet(error)}"
    parts: list[str] = []
    for found in error.errors(include_url=False, include_context=False)[:_MOST]:
        where = f"{'.'.join(map(str, found['loc']))}: " if found["loc"] else ""
        given = found["input"]
        # The value of a failing model validator is the whole record: too long and too private to show.
        value = "" if isinstance(given, Mapping | BaseModel) else f" (got {_short_form(given)})"
        if isinstance(given, BaseModel) and found["loc"] and found["type"].endswith("_type"):
            value = f" (got a {type(given).__name__})"
        parts.append(f"{where}{snippet(found['msg'].removeprefix('Value error, '))}{value}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _short_form(value: object) -> str:
    try:
        return snippet(repr(value), 60)
    except Exception:  # noqa: BLE001 - __repr__ of a foreign object may raise anything
        return f"a {type(value).__name__}"


class LLMTaskerError(Exception):
    """Everything that llmtasker raises."""


class SignatureError(LLMTaskerError, TypeError):
    """A signature is declared wrongly; raised when the class is created."""


class ConfigurationError(LLMTaskerError, ValueError):
    """The set-up is wrong or incomplete: an LLM, a setting, a template, a missing extra.

    `give` names arguments, each of which may help, with their values. The message ends with them as Python writes
    them; the command line writes them as options.
    """

    def __init__(self, message: str = "", *, give: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.give = dict(give or {})

    def __str__(self) -> str:
        return self.worded(lambda name, value: f"{name}={value!r}")

    def worded(self, argument: Callable[[str, Any], str | None]) -> str:
        """Return the message, with each argument of `give` as `argument` writes it; None leaves it out."""
        given = [text for name, value in self.give.items() if (text := argument(name, value))]
        return f"{self.args[0]} Give {' or '.join(given)}." if given else str(self.args[0])


class UnexpectedCallError(LLMTaskerError, AssertionError):
    """A test double has no answer for a call: the test is wrong, not the row."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the part of an error message that suggests the known name closest to a wrong one, if there is one.

    >>> nearest("temprature", ["temperature", "top_p"])
    " Did you mean 'temperature'?"
    """
    near = closest(name, known)
    return "" if near is None else f" Did you mean {near!r}?"


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like a wrong one, if its likeness (from 0 to 1) reaches `cutoff`."""
    from difflib import get_close_matches  # few processes make such a mistake

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


_OWN = {"self", "message"}  # arguments of an error itself, which a stored detail can't be


class ItemError(LLMTaskerError):
    """The failure of one input.

    `code` names the kind of error in results and logs. `details` has only JSON values
    (`status`, `retry_after` in seconds, `provider_code`; of a pipeline the `step` that failed, from 1, and its `task`).
    """

    code: ClassVar[str] = "error"
    _kinds: ClassVar[dict[str, type[ItemError]]] = {}

    def __init_subclass__(cls) -> None:
        ItemError._kinds[cls.code] = cls

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {name: value for name, value in details.items() if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)

    def __eq__(self, other: object) -> bool:
        # By value, so that a pickled and loaded item equals the original.
        if type(self) is not type(other) or not isinstance(other, ItemError):
            return NotImplemented
        return (self.message, self.details) == (other.message, other.details)

    def __hash__(self) -> int:
        return hash((type(self), self.message))

    def __str__(self) -> str:
        step, task = self.details.get("step"), self.details.get("task")
        return self.message if step is None else f"step {step} ({task}): {self.message}"

    def at_step(self, step: int, task: str) -> ItemError:
        """Return this error as that of a step of a pipeline, whose own step is named too."""
        found: ItemError = copy(self)
        found.details |= {"step": step, "task": ": ".join([task, *filter(None, [self.details.get("task")])])}
        return found

    @property
    def status(self) -> int | None:
        """The HTTP status, if there was one."""
        return self.details.get("status")

    def to_dict(self) -> dict[str, Any]:
        """Return code, message and details as JSON values; `from_dict` reads them."""
        return {"code": self.code, "message": self.message, **({"details": self.details} if self.details else {})}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ItemError:
        """Return the error that `to_dict` described; a plain ItemError for an unknown code."""
        kind = ItemError._kinds.get(data.get("code", ""), ItemError)
        details: Mapping[str, Any] = data.get("details") or {}
        return kind(str(data.get("message", "")), **{name: details[name] for name in details if name not in _OWN})


def _rebuild(kind: type[ItemError], message: str, details: dict[str, Any]) -> ItemError:
    return kind(message, **details)


class InputError(ItemError):
    """The input does not fit the signature; nothing was sent."""

    code = "input"


class BudgetError(ItemError):
    """The budget of the run is used up; nothing was sent for this row."""

    code = "budget"


class NotRunError(ItemError):
    """The run was stopped before this row was asked."""

    code = "not_run"


class AbstainedError(ItemError):
    """The answer's confidence is below the threshold that keeps a promised risk; `guess` is the answer anyway."""

    code = "abstained"

    @property
    def guess(self) -> Any:
        """The best guess: the output as JSON values."""
        return self.details.get("guess")


class PipelineError(ItemError):
    """The function of a pipeline raised, took too long, or returned a value of another type than declared."""

    code = "pipeline"


class CallError(ItemError):
    """The call to the LLM failed."""

    code = "call"


class TransientError(CallError):
    """The call failed, and may work later; it was retried as the LLM's `Retry` allows."""

    code = "transient"

    @property
    def retry_after(self) -> float | None:
        """The seconds that the endpoint asked to wait, if it named any."""
        return self.details.get("retry_after")


class RateLimitError(TransientError):
    """The endpoint reports too many requests or tokens (429)."""

    code = "rate_limit"


class CallTimeoutError(TransientError):
    """No whole answer came within the timeout."""

    code = "timeout"


class NetworkError(TransientError):
    """The connection could not be made, or broke."""

    code = "network"


class ServerError(TransientError):
    """The endpoint failed (5xx, or its own error inside a success)."""

    code = "server"


class BadResponseError(TransientError):
    """The endpoint reports a success (2xx), but the body is not a chat completion."""

    code = "bad_response"


class RejectedError(CallError):
    """The endpoint refuses the call as it is; it is never retried."""

    code = "rejected"


class AuthenticationError(RejectedError):
    """The key is missing, wrong or not allowed to do this (401, 403)."""

    code = "authentication"


class NotFoundError(RejectedError):
    """The model, deployment or path does not exist (404)."""

    code = "not_found"


class ContextLengthError(RejectedError):
    """The input is longer than the context of the LLM."""

    code = "context_length"


class BadRequestError(RejectedError):
    """The endpoint does not accept the request (other 4xx)."""

    code = "bad_request"


class OutputError(ItemError):
    """The LLM answered, but the answer can't be used."""

    code = "output"


class InvalidOutputError(OutputError):
    """The answer does not fit the signature."""

    code = "invalid"


class TruncatedError(OutputError):
    """The answer was cut, by the token limit or without a notice."""

    code = "truncated"


class RefusedError(OutputError):
    """The LLM declined to answer."""

    code = "refusal"


class FilteredError(OutputError):
    """A content filter of the endpoint stopped the request or the answer."""

    code = "filtered"
