"""ApiKeys: who may call, identified by the hash of a key, each with its own limits."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.json_values import is_array, is_object, parse_json

VARIABLE = "LLMTASKER_SERVER_KEYS"
PREFIX = "lt_"
_LENGTH = 40  # characters after the prefix
_SHORTEST = 16  # characters of a key that a person chose


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A caller: a name, the SHA-256 of the key in hexadecimal digits, and limits (None: no limit).

    `rows` and `bytes` are per request, `cost` is per day (UTC), in US dollars.
    """

    name: str
    sha256: str = ""
    requests_per_minute: float | None = None
    rows: int | None = None
    bytes: int | None = None
    cost: float | None = None


def new_key() -> str:
    """Return a key that nobody can guess: `lt_` and 40 letters and digits."""
    return PREFIX + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(_LENGTH))


def key_hash(key: str) -> str:
    """Return the hash that is stored of a key."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(given: str | os.PathLike[str] | Mapping[str, str] | None) -> list[ApiKey]:
    """Return the keys of a file, of a mapping from names to keys, or (None) of the environment.

    The file is JSON: a list of objects with `name`, `sha256` and the limits of `ApiKey`.

    Raises:
        ConfigurationError: the file can't be read, or a key is incomplete, too short or a duplicate.
    """
    if given is None:
        pairs = [part.strip().partition("=") for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
        given = {name.strip(): key.strip() for name, _, key in pairs}
    if isinstance(given, Mapping):
        found = [_of_text(str(name), key) for name, key in given.items()]
    else:
        found = _of_file(Path(given))
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in found]
        if len(set(values)) < len(values):
            raise ConfigurationError(f"the {what} of each key must be unique.")
    return found


def _of_text(name: str, key: str) -> ApiKey:
    if not name or len(key) < _SHORTEST:
        raise ConfigurationError(
            f"the key of {snippet(name, 40)!r} has {len(key)} characters: give name=key with at least {_SHORTEST}."
        )
    return ApiKey(name=name, sha256=key_hash(key))


def _of_file(path: Path) -> list[ApiKey]:
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = snippet(getattr(error, "strerror", None) or error, 100)
        raise ConfigurationError(f"can't read the keys in {path}: {reason}") from None
    if not is_array(data):
        raise ConfigurationError(f"{path} must be a JSON list of keys.")
    return [_of_entry(path, number, entry) for number, entry in enumerate(data, start=1)]


def _of_entry(path: Path, number: int, entry: Any) -> ApiKey:
    where = f"{path}, key {number}"
    known = {field.name for field in fields(ApiKey)}
    if not is_object(entry) or not known >= entry.keys() or not isinstance(entry.get("name"), str):
        limits = ", ".join(sorted(known - {"name", "sha256"}))
        raise ConfigurationError(f"{where}: give name, sha256 and, if you like, {limits}.")
    digest = entry.get("sha256")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ConfigurationError(
            f"{where}: sha256 must be 64 hexadecimal digits, as `llmtasker serve --new-key` shows."
        )
    for limit in known - {"name", "sha256"}:
        value = entry.get(limit)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise ConfigurationError(f"{where}: {limit} must be a number above 0.")
    return ApiKey(**entry)


def key_file_text(name: str, key: str) -> str:
    """Return the entry of a key in a file of keys."""
    return json.dumps({"name": name, "sha256": key_hash(key)})


class ApiKeys:
    """The keys of a server, and how often each was used in the last minute (in this process)."""

    def __init__(self, keys: Iterable[ApiKey], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = list(keys)
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def find(self, presented: str) -> ApiKey | None:
        """Return the key that was presented; this takes equally long for known and unknown keys."""
        return self.of_hash(key_hash(presented))

    def of_hash(self, digest: str) -> ApiKey | None:
        """Return the key with a hash; None: it was withdrawn."""
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found

    def wait(self, key: ApiKey) -> float:
        """Return the seconds until a key may be used; 0 counts this use. The bucket has the size of a minute."""
        rate = key.requests_per_minute
        if rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            left, at = self._used.get(key.name, (rate, now))
            left = min(rate, left + (now - at) * rate / 60)
            if left < 1:
                self._used[key.name] = left, now
                return (1 - left) * 60 / rate
            self._used[key.name] = left - 1, now
            return 0.0
