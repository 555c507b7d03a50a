"""RedisCache: answers in a Redis that machines share. The only file that imports redis (extra `[redis]`).

    <namespace>:answer:<key>     a checksum of 16 hexadecimal digits, then the text; with a TTL if there is one
    <namespace>:lease:<key>      the owner that asks for the answer
    <namespace>:owner:<owner>    exists as long as the owner lives, which renews it: a killed one leaves no lease behind

Whatever else is found there is a miss. Its methods raise ConnectionError, TimeoutError and RuntimeError, without the
password: SafeStore handles them, as those of any other store.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Self

from llmtasker.cache.process import reset_in_child
from llmtasker.cache.redis_url import RedisURL
from llmtasker.cache.store import LEASE, checksum
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern

try:
    import redis
    from redis import exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError:
    raise ConfigurationError('a Redis as cache needs redis: pip install "llmtasker[redis]"') from None

TIMEOUT = 2.0  # seconds for a connection, and for an answer
_ALIVE = 30.0  # seconds after which an owner that is not renewed has ended
_RENEWED = 10.0  # seconds between two renewals
_LARGEST = 64_000_000  # bytes of an answer
_SCANNED = 500  # keys per batch
_KEY = lazy_pattern(r"[0-9a-f]{64}")

# Errors of a server that will not serve as a cache in a minute either; and how a TLS error begins.
_UNUSABLE = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.InvalidResponse,
    exceptions.ResponseError,
    exceptions.RedisClusterException,
)
_PASSING = (exceptions.OutOfMemoryError, exceptions.ClusterDownError, exceptions.TryAgainError)
_PASSING_CODES = lazy_pattern(r"(?:BUSY|MASTERDOWN|MISCONF|NOREPLICAS|UNKILLABLE)\b")
_TLS_ERROR = lazy_pattern(r"\bSSL|certificate")

# KEYS: an answer and its lease, for each key. ARGV: the owner, milliseconds of a lease, the owner's key without its
# name, milliseconds of the owner. Returns 1 for each lease taken. A value of another type is nobody's answer or lease.
_TAKE = """
local taken = {}
for i = 1, #KEYS, 2 do
  local kind, free = redis.call('TYPE', KEYS[i])['ok'], 0
  if kind ~= 'string' then
    if kind ~= 'none' then redis.call('DEL', KEYS[i]) end
    local owner = redis.call('TYPE', KEYS[i + 1])['ok'] == 'string' and redis.call('GET', KEYS[i + 1])
    if not owner or owner == ARGV[1] or redis.call('EXISTS', ARGV[3] .. owner) == 0 then
      redis.call('SET', KEYS[i + 1], ARGV[1], 'PX', ARGV[2])
      free = 1
    end
  end
  taken[#taken + 1] = free
end
redis.call('SET', ARGV[3] .. ARGV[1], '', 'PX', ARGV[4])
return taken
"""
# KEYS: leases. ARGV: the owner.
_END = """
for _, lease in ipairs(KEYS) do
  if redis.call('TYPE', lease)['ok'] == 'string' and redis.call('GET', lease) == ARGV[1] then
    redis.call('DEL', lease)
  end
end
"""


class RedisCache:
    """A cache at `redis://[user:password@]host[:port][/database]`, or `rediss://` with TLS.

    The query of the URL may have `ttl` (seconds that an answer is kept; default: for ever), `namespace` (the
    beginning of all keys; default: "llmtasker"), `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` (paths). A password
    that is not in the URL is taken from LLMTASKER_REDIS_PASSWORD, also by a process that gets the cache in a pickle,
    which never contains the password.

    Raises:
        ConfigurationError: the URL is not one of these; its password is not shown.
    """

    patience = 3.0
    """The most seconds to wait for a call of a method."""

    def __init__(self, url: str) -> None:
        self.url = RedisURL.parse(url)
        self.after_fork()
        reset_in_child(self)

    def after_fork(self) -> None:
        """Reset in a forked child: connections and leases belong to the parent."""
        # A connection that was closed since is opened again, once; a missing answer is not waited for.
        again = Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,))
        url = self.url
        tls: dict[str, Any] = {} if url.tls is None else {"ssl": True, "ssl_check_hostname": True, **dict(url.tls)}
        self._redis: Any = redis.Redis(
            host=url.host,
            port=url.port,
            db=url.database,
            username=url.user,
            password=url.password,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            socket_keepalive=True,
            retry=again,
            protocol=2,
            **tls,
        )
        self._take_script = self._redis.register_script(_TAKE)
        self._end_script = self._redis.register_script(_END)
        self._owner = secrets.token_hex(16)
        self._leased: set[str] = set()
        self._lock = threading.Lock()
        self._renewing = False

    def __repr__(self) -> str:
        return f"RedisCache({self.url.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisCache, (self.url.portable,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self  # it has locks and connections

    def check(self) -> None:
        """Check that a server that answers can be used: that it is a Redis, lets us in, and is not a cluster.

        Raises:
            ConfigurationError: it can't. One that does not answer is left to those who use it.
        """
        keys = [secrets.token_hex(32) for _ in range(2)]
        try:
            self._read(keys)
            self._take(keys)
            self._end(keys)
        except (*_UNUSABLE, exceptions.ConnectionError) as error:
            text = self._shown(error)
            lasting = isinstance(error, _UNUSABLE) and not _PASSING_CODES.match(str(error))
            if (isinstance(error, _PASSING) or not lasting) and not _TLS_ERROR.search(text):
                return
            hint = next(hint for words, hint in _HINTS.items() if re.search(words, text))
            to_do = hint.format(namespace=self.url.namespace)
            raise ConfigurationError(f"{self.url.name} can't be used as a cache: {text}. To do: {to_do}.") from None
        except exceptions.RedisError:
            return

    def get(self, key: str) -> str | None:
        """Return the text, or None if there is none or it is damaged."""
        return self.get_many([key])[0]

    def put(self, key: str, text: str) -> None:
        """Store an ASCII text, and end the lease on its key."""
        self.put_many([(key, text)])

    def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """Return the text of each key, None if there is none; what is damaged is removed."""
        if not keys:
            return []
        with self._talking():
            values = self._read(keys)
            texts = [_text(key, value) for key, value in zip(keys, values, strict=True)]
            found = zip(keys, values, texts, strict=True)
            if damaged := [self._answer(key) for key, value, text in found if value is not None and text is None]:
                self._redis.delete(*damaged)
        return texts

    def put_many(self, entries: Sequence[tuple[str, str]]) -> None:
        """Store ASCII texts by key, and end the leases on those keys."""
        if not entries:
            return
        keys = [key for key, _ in entries]
        try:
            with self._talking(), self._redis.pipeline(transaction=False) as pipeline:
                for key, text in entries:
                    pipeline.set(self._answer(key), checksum(key, text) + text, ex=self.url.ttl)
                pipeline.delete(*map(self._lease, keys))
                pipeline.execute()
        finally:
            self._forget(keys)

    def lease_many(self, keys: Sequence[str], *, seconds: float = LEASE) -> list[bool]:
        """Return for each key whether the caller may ask; False: another caller does, or `get` has the answer.

        A key is leased until `put`, `release_many`, `seconds` later, or 30 s after this process has ended.
        """
        with self._lock:  # before the call: no other thread of this process may take them in between
            wanted = [key for key in dict.fromkeys(keys) if key not in self._leased]
            self._leased.update(wanted)
        taken = set[str]()
        try:
            if wanted:
                with self._talking():
                    answers = self._take(wanted, seconds)
                taken = {key for key, answer in zip(wanted, answers, strict=True) if answer == 1}
        finally:
            self._forget([key for key in wanted if key not in taken])
        self._renew_if_leased()
        granted: list[bool] = []
        for key in keys:
            granted.append(key in taken)
            taken.discard(key)  # of equal keys, only the first is leased
        return granted

    def release_many(self, keys: Sequence[str]) -> None:
        """End this process's leases."""
        self._forget(keys)
        if keys:
            with self._talking():
                self._end(keys)

    def key_batches(self) -> Iterator[list[str]]:
        """Yield the keys of all answers, in batches; a key may come twice."""
        begin, batch = self._answer(""), list[str]()
        with self._talking():
            for name in self._redis.scan_iter(match=f"{begin}*", count=_SCANNED):
                key = name.decode("ascii", "replace").removeprefix(begin)
                if _KEY.fullmatch(key):
                    batch.append(key)
                if len(batch) >= _SCANNED:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._redis.close()

    def _answer(self, key: str) -> str:
        return f"{self.url.namespace}:answer:{key}"

    def _lease(self, key: str) -> str:
        return f"{self.url.namespace}:lease:{key}"

    def _read(self, keys: Sequence[str]) -> list[object]:
        values: list[object] = self._redis.mget([self._answer(key) for key in keys])
        return values

    def _take(self, keys: Sequence[str], seconds: float = 1.0) -> list[object]:
        names = [name for key in keys for name in (self._answer(key), self._lease(key))]
        times = [max(int(1000 * each), 1) for each in (seconds, _ALIVE)]
        arguments: list[str | int] = [self._owner, times[0], f"{self.url.namespace}:owner:", times[1]]
        taken: list[object] = self._take_script(keys=names, args=arguments)
        return taken

    def _end(self, keys: Sequence[str]) -> None:
        self._end_script(keys=[self._lease(key) for key in keys], args=[self._owner])

    def _forget(self, keys: Sequence[str]) -> None:
        with self._lock:
            self._leased.difference_update(keys)

    def _renew_if_leased(self) -> None:
        with self._lock:
            if self._leased and not self._renewing:
                threading.Thread(target=self._renew, name="llmtasker-leases", daemon=True).start()
                self._renewing = True

    def _renew(self) -> None:
        """Show that this process lives as long as it has leases: its thread ends with the last of them."""
        pause = threading.Event()
        while True:
            pause.wait(_RENEWED)
            with self._lock:
                if not self._leased:
                    self._renewing = False
                    return
            with contextlib.suppress(exceptions.RedisError):
                self._redis.set(f"{self.url.namespace}:owner:{self._owner}", "", px=int(1000 * _ALIVE))

    @contextlib.contextmanager
    def _talking(self) -> Generator[None]:
        """Raise the errors of redis as built-in ones, without the password."""
        try:
            yield
        except exceptions.TimeoutError:
            raise TimeoutError(f"no answer within {TIMEOUT:g} s") from None
        except exceptions.ConnectionError as error:
            raise ConnectionError(self._text_of(error)) from None
        except exceptions.RedisError as error:
            raise RuntimeError(self._shown(error)) from None

    def _shown(self, error: Exception) -> str:
        return f"{type(error).__name__}: {self._text_of(error)}"

    def _text_of(self, error: Exception) -> str:
        return snippet(self.url.without_password(str(error))).rstrip(".?")


_HINTS = {
    "^AuthenticationError": "check user and password (in the URL, or LLMTASKER_REDIS_PASSWORD)",
    "^InvalidResponse": "check host and port: the server there is not a Redis",
    "^ReadOnlyError": "give the URL of the primary, not of a replica",
    "^ConnectionError": "check the certificates, and whether the server uses TLS (rediss://)",
    # Before the others, as it has the name of a user, which may be any word.
    "^NoPermissionError|(?i:permission)|can't run this command": "give the user the commands mget, get, set, del, "
    "type, exists, evalsha, script, select and scan, on all keys that begin with {namespace}:",
    r"^(?:Moved|Ask|ClusterCrossSlot)Error|\b(?:CROSSSLOT|MOVED|cluster (?:mode|node|support)|same slot)\b": "give the "
    "URL of a Redis that is not a cluster",
    "DB index": "give the number of a database that the server has, such as /0",
    "": "give the URL of a Redis of version 5 or later, with a user that may write",
}
"""What to do, by words of the error, the first that fit."""


def _text(key: str, value: object) -> str | None:
    """Return the text in a value, None if it is not one that was stored for its key."""
    if not isinstance(value, bytes) or len(value) > _LARGEST or not value.isascii():
        return None
    found = value.decode("ascii")
    return found[16:] if found[:16] == checksum(key, found[16:]) else None
