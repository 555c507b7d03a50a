"""TraceScore, a score for Langfuse's API; the queue of waiting scores, and their target."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.integrations.background_sender import PostResult
from llmtasker.integrations.langfuse_client import LangfuseProject
from llmtasker.integrations.otlp_receiver import host_of

_SECONDS = 5.0  # seconds that a call may take
_MOST = 10_000  # scores that wait to be sent; more are dropped, the oldest first
_LATER = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which the same may be sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceScore:
    """A score of a trace, or of a session; the value None withdraws it. A score with the same name replaces it."""

    trace: str
    name: str
    value: float | str | None
    session: str | None = None
    comment: str | None = None

    @property
    def id(self) -> str:
        """The id: the same for the same trace and name."""
        return blake2b(f"{self.trace}\0{self.name}".encode("utf-8", "replace"), digest_size=16).hexdigest()

    def withdrawn(self) -> TraceScore:
        """Return the score that withdraws this one."""
        return replace(self, value=None)

    def body(self, environment: str | None) -> dict[str, Any]:
        """Return the score in the form of the API."""
        place = {"traceId": self.trace} if self.session is None else {"sessionId": self.session}
        kind = "CATEGORICAL" if isinstance(self.value, str) else "NUMERIC"
        body = {"id": self.id, **place, "name": self.name, "value": self.value, "dataType": kind}
        more = {"comment": self.comment, "environment": environment}
        return body | {name: value for name, value in more.items() if value is not None}


class ScoreQueue:
    """A bounded queue of scores; they are sent one by one, in order."""

    def __init__(self) -> None:
        self._scores: deque[TraceScore] = deque()

    def __len__(self) -> int:
        return len(self._scores)

    def add(self, thing: Sequence[TraceScore]) -> int:
        """Add scores; return how many others were dropped to make room."""
        self._scores.extend(thing)
        dropped = max(0, len(self._scores) - _MOST)
        for _ in range(dropped):
            self._scores.popleft()
        return dropped

    def take(self) -> TraceScore:
        """Take out the next score."""
        return self._scores.popleft()

    def give_back(self, batch: TraceScore, *, again: bool) -> int:
        """Put a score back that may be sent again; return how many were dropped."""
        if again:
            self._scores.appendleft(batch)
        return 0 if again else 1


class ScoreReceiver:
    """The API of a project of Langfuse that takes scores."""

    def __init__(self, project: LangfuseProject, environment: str | None) -> None:
        self._project, self._environment = project, environment
        self.http = project.http
        self.place = host_of(project.base_url)

    def client(self) -> Any:
        """Return a client whose connection is kept between calls."""
        import httpx2

        return httpx2.Client()

    def post(self, client: Any, batch: TraceScore) -> PostResult:
        """Send a score with a client; raises what the client raises."""
        place, headers = f"{self._project.base_url}/api/public/scores", self._project.api_headers
        if batch.value is None:
            response = client.delete(f"{place}/{batch.id}", headers=headers, timeout=_SECONDS)
        else:
            body = json.dumps(batch.body(self._environment)).encode()
            response = client.post(place, content=body, headers=headers, timeout=_SECONDS)
        status = int(response.status_code)
        taken = 200 <= status < 300 or (batch.value is None and status == 404)
        return PostResult(taken=taken, again=status in _LATER, reason="" if taken else f"status {status}")

    def send(self, score: TraceScore) -> None:
        """Send a score now.

        Raises:
            ConfigurationError: Langfuse refuses it, or can't be reached within 5 seconds.
        """
        client: Any = None
        try:
            client = self.http or self.client()  # a wrong proxy in the environment raises here
            reason = self.post(client, score).reason
        except Exception as error:  # noqa: BLE001 - whatever Langfuse does
            reason = type(error).__name__
        finally:
            if client is not None and client is not self.http:
                client.close()
        if reason:
            raise ConfigurationError(f"Langfuse refused the score: {reason}.")
