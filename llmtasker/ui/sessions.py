"""Sessions: who is signed in, by a random number in a cookie; keys are not stored."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from llmtasker.jobs.job_file import JobFile

LASTS = 12 * 3600.0
"""Seconds until a user has to sign in again."""


class Sessions:
    """The sessions of a server, shared by its processes; the file has only hashes of their numbers and keys."""

    def __init__(self, file: JobFile, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def begin(self, key_hash: str) -> str:
        """Return the number of a new session of a key."""
        number, now = secrets.token_urlsafe(32), self._clock()
        with self._file.writing() as database:
            database.execute("DELETE FROM sessions WHERE expires < ?", (now,))
            database.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_hash(number), key_hash, now + LASTS))
        return number

    def key_of(self, number: str) -> str | None:
        """Return the hash of the key of a session; None: it has ended, or never existed."""
        query = "SELECT key FROM sessions WHERE hash = ? AND expires >= ?"
        found = self._file.read(query, _hash(number), self._clock())
        return str(found[0][0]) if found else None

    def end(self, number: str) -> None:
        """End a session."""
        with self._file.writing() as database:
            database.execute("DELETE FROM sessions WHERE hash = ?", (_hash(number),))


def form_token(number: str) -> str:
    """Return the token that each form of a session sends back, which another site can't know."""
    return hmac.new(number.encode(), b"form", sha256).hexdigest()[:40]


def is_form_token(number: str, sent: str) -> bool:
    """Return whether a form was sent by this session's own page."""
    return hmac.compare_digest(form_token(number).encode(), sent.encode("utf-8", "replace"))


def _hash(number: str) -> str:
    return sha256(number.encode("utf-8", "replace")).hexdigest()
