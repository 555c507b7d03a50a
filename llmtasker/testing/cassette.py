"""Recorder and Cassette: record the answers of a real endpoint in a file, and replay them without it."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import IO, Any, cast

from llmtasker.errors import CallError, ConfigurationError, FilteredError, ItemError, UnexpectedCallError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request, Transport
from llmtasker.wire.request_reader import last_user_text

_SECRET_NAME = lazy_pattern(r"api[-_]?key|authorization|password|secret|credential|access[-_]?token", re.IGNORECASE)
_SECRET_TEXT = lazy_pattern(r"\b(?:sk|pk|rk|gsk|hf|xai)[-_][A-Za-z0-9_\-*.]{8,}|\bBearer\s+[^\s\"',]+", re.IGNORECASE)
_HIDDEN = "[hidden]"


class Recorder:
    """A Transport that forwards requests to another one and writes the answer or error of each to a file.

    One JSON line per request: `key`, `endpoint`, the request's `body`, and `completion` or `error`.
    The file is overwritten, is readable only by its owner, and contains whole texts: record only public ones.
    Credentials are not written: the body has none, and anything that looks like one, there or in an error, is masked.
    Only CallError and FilteredError are recorded; other exceptions are not.
    """

    def __init__(self, transport: Transport, path: str | os.PathLike[str]) -> None:
        self.endpoint = transport.endpoint
        self.path = Path(path)
        self._transport = transport
        self._lock = threading.Lock()
        self._file: IO[str] | None = None

    def send(self, request: Request) -> Completion:
        """Send the request on, and record the answer or error."""
        try:
            completion = self._transport.send(request)
        except (CallError, FilteredError) as error:
            self._write(request, error=error.to_dict())
            raise
        self._write(request, completion=json.loads(completion.to_json()))
        return completion

    async def asend(self, request: Request) -> Completion:
        """Send the request on, and record the answer or error."""
        try:
            completion = await self._transport.asend(request)
        except (CallError, FilteredError) as error:
            self._write(request, error=error.to_dict())
            raise
        self._write(request, completion=json.loads(completion.to_json()))
        return completion

    def close(self) -> None:
        """Close the file and the other transport; a request after that adds to the file."""
        self._close_file()
        self._transport.close()

    async def aclose(self) -> None:
        """Close the file and the other transport; a request after that adds to the file."""
        self._close_file()
        await self._transport.aclose()

    def _close_file(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _write(self, request: Request, **outcome: Any) -> None:
        line = {"key": request.key, "endpoint": self.endpoint, "body": request.body, **outcome}
        text = json.dumps(_without_secrets(line)) + "\n"
        with self._lock:
            if self._file is None or self._file.closed:
                self._file = self._open(overwrite=self._file is None)
            self._file.write(text)
            # So that a killed run keeps the answers that it has paid for.
            self._file.flush()

    def _open(self, *, overwrite: bool) -> IO[str]:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_APPEND)
        return os.fdopen(os.open(self.path, flags, 0o600), "w", encoding="ascii")


class Cassette:
    """A Transport that replays what a Recorder wrote: by request key, and in order if a key repeats.

    Each recorded answer is given once. `endpoint` and `model` are those of the last recorded request:
    both are part of its key. Temperature and other settings must be the same as in the recording.

    Raises:
        ConfigurationError: the file is missing, empty or not a cassette.
        UnexpectedCallError (from `send` and `asend`): the request was never recorded, or its answers are used up.
    """

    cacheable = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.calls = 0
        self._lock = threading.Lock()
        self._answers: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._bodies: dict[str, dict[str, Any]] = {}
        self.endpoint = ""
        self.model: str | None = None
        try:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry: dict[str, Any] = json.loads(line)
                self._bodies[_text_of(entry["body"])] = entry["body"]
                self._answers[entry["key"]].append(entry)
                self.endpoint = entry["endpoint"]
                self.model = entry["body"].get("model")
        except OSError as error:
            raise ConfigurationError(f"no cassette at {self.path}: {error.strerror}; make it with Recorder") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self.path} is not a cassette ({error}); record it again with Recorder"
            ) from error
        if not self._answers:
            raise ConfigurationError(f"the cassette {self.path} is empty; record it again with Recorder")

    def send(self, request: Request) -> Completion:
        """Return the recorded answer, or raise the recorded error."""
        key = request.key
        with self._lock:
            self.calls += 1
            if not self._answers.get(key):
                raise UnexpectedCallError(self._why_not(request, key))
            entry = self._answers[key].popleft()
        if "error" in entry:
            raise ItemError.from_dict(entry["error"])
        return Completion.from_json(json.dumps(entry["completion"]))

    async def asend(self, request: Request) -> Completion:
        """Return the recorded answer, or raise the recorded error."""
        return self.send(request)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    def _why_not(self, request: Request, key: str) -> str:
        asked = f"the request {key[:12]}… for {snippet(last_user_text(request), 60)!r}"
        if key in self._answers:
            return f"no answer left: {asked} is in {self.path.name}, but was asked more often than it was recorded"
        similar = self._bodies.get(_text_of(request.body))
        if similar is None:
            return f"{asked} is not in {self.path.name}; record it with Recorder"
        body = _without_secrets(request.body)
        names = {name for name in {*body, *similar} if body.get(name) != similar.get(name)}
        changed = ", ".join(sorted(names)) or "endpoint"
        return (
            f"{asked} is in {self.path.name} with another {changed}; undo the change or record it again with Recorder"
        )


def _text_of(body: dict[str, Any]) -> str:
    return last_user_text(cast("dict[str, Any]", _without_secrets(body)))


def _without_secrets(value: Any) -> Any:
    """Return a JSON value with everything masked that is named or looks like a credential."""
    if isinstance(value, str):
        return _SECRET_TEXT.sub(_HIDDEN, value)
    if isinstance(value, list):
        return [_without_secrets(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {
            name: _HIDDEN if isinstance(inner, str) and _SECRET_NAME.search(name) else _without_secrets(inner)
            for name, inner in cast("dict[str, Any]", value).items()
        }
    return value
