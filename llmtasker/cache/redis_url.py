"""RedisURL: the parts of `redis://user:password@host:6379/0?ttl=…`, checked; the password is kept out of everything."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern

PASSWORD = "LLMTASKER_REDIS_PASSWORD"  # noqa: S105  the name of a variable
_OptionRule = tuple[Callable[[str], object], str]
_VALID: dict[str, _OptionRule] = {
    "namespace": (partial(re.fullmatch, r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"), "up to 64 letters, digits and _ . : -"),
    "ttl": (partial(re.fullmatch, r"[1-9]\d{0,9}"), "a whole number of seconds, from 1"),
}
_TLS: dict[str, _OptionRule] = dict.fromkeys(
    ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), (os.path.isfile, "the path of a file")
)

_FILES = lazy_pattern(r"ssl_\w+=[^&]*")  # a path may contain "@"; elsewhere it follows a password


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisURL:
    """Where a Redis is, and how it is used as a cache.

    `ttl` is in seconds; None: answers do not expire. All keys begin with the `namespace`. `tls` is None without TLS.
    The password, if there is none in the URL, is that of LLMTASKER_REDIS_PASSWORD.
    """

    host: str
    port: int
    database: int
    user: str | None
    password: str | None = field(repr=False)
    namespace: str
    ttl: int | None
    tls: tuple[tuple[str, str], ...] | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of a URL.

        Raises:
            ConfigurationError: it is not the URL of a Redis, or has an unknown option; nothing secret is shown.
        """
        parts, port = _split(url)
        if (
            parts is None
            or not parts.hostname
            or parts.fragment
            or "@" in _FILES.sub("", parts.query)
            or not re.fullmatch(r"/?\d{0,5}", parts.path)
        ):
            # A "#", "/" or "?" in a password that is not quoted makes it part of anything: the URL is not shown.
            raise ConfigurationError(
                "the URL of the cache is not valid: give redis://host:6379/0, with rediss:// for TLS, and "
                "user:password@ before the host if they are needed (special characters as %XX)."
            )
        secure = parts.scheme == "rediss"
        options = _options(parts, _VALID | _TLS if secure else _VALID)
        return cls(
            host=parts.hostname,
            port=port,
            database=int(parts.path.strip("/") or 0),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else os.environ.get(PASSWORD),
            namespace=options.pop("namespace", "llmtasker"),
            ttl=int(options.pop("ttl")) if "ttl" in options else None,
            tls=tuple(options.items()) if secure else None,
        )

    @property
    def name(self) -> str:
        """The place as a URL, without user, password and options."""
        return self._url("", {})

    @property
    def portable(self) -> str:
        """The URL without its password: another process takes that from its environment."""
        options: dict[str, Any] = {"namespace": self.namespace, "ttl": self.ttl, **dict(self.tls or ())}
        return self._url(f"{quote(self.user, safe='')}@" if self.user else "", options)

    def _url(self, user: str, options: dict[str, Any]) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "&".join(f"{name}={quote(str(value))}" for name, value in options.items() if value is not None)
        scheme = "redis" if self.tls is None else "rediss"
        return f"{scheme}://{user}{host}:{self.port}/{self.database}{f'?{query}' if query else ''}"

    def without_password(self, text: str) -> str:
        """Return a text without the password, which a server may repeat in an error."""
        if self.password:
            for secret in {self.password, quote(self.password, safe=""), repr(self.password)[1:-1]}:
                text = text.replace(secret, "***")
        return text


def _split(url: str) -> tuple[SplitResult | None, int]:
    try:
        parts = urlsplit(url)
        port = 6379 if parts.port is None else parts.port
    except ValueError:
        return None, 0
    return parts if port else None, port


def _options(parts: SplitResult, valid: dict[str, _OptionRule]) -> dict[str, str]:
    """Return the options in the query of a URL."""
    options = dict[str, str]()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in valid:
            raise ConfigurationError(
                f"the URL of a cache has no option {snippet(name, 20)!r}: it takes {', '.join(valid)}."
            )
        is_valid, meaning = valid[name]
        if not is_valid(value):
            raise ConfigurationError(f"{name} in the URL of the cache is {meaning}, not {snippet(repr(value), 60)}.")
        if options.setdefault(name, value) != value:
            raise ConfigurationError(f"the URL of the cache has two values for {name}: give one.")
    return options
