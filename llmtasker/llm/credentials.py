"""Headers that contain a credential: they are sent, but kept out of cache keys, pickles, messages and logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llmtasker.errors import ConfigurationError, ItemError
from llmtasker.values.lazy_pattern import lazy_pattern

_NAMES = lazy_pattern(
    r"(?:proxy-|x-|cf-aig-)?authorization|(?:set-)?cookie"
    r"|(?:x-)?(?:goog-|litellm-|portkey-|helicone-)?api[-_]?key|helicone-auth|x-litellm-key|x-functions-key"
    r"|(?:ocp-apim-|x-)?subscription-key|(?:x-)?(?:auth|access|secret)-key"
    r"|(?:x-)?(?:(?:auth|access|id|session|private|vault|csrf|gateway|amz-security)-)?token"
    r"|(?:x-)?(?:(?:client|api)-)?secret|(?:x-)?password|x-auth",
    re.IGNORECASE,
)
_SOUNDS_LIKE_ONE = lazy_pattern(
    r"(?:^|[-_])(?:auth\w*|credentials?|passw\w*|pass|secrets?|tokens?|cookies?)(?:[-_]|$)", re.IGNORECASE
)
_MAY_BE_ONE = lazy_pattern(r"keys?(?:[-_]|$)", re.IGNORECASE)
_LONG = 16  # characters; a shorter word is not a key


def check_key(key: str, source: str) -> str:
    """Return a key that can be sent; `source` names the argument or variable that it comes from.

    Raises:
        ConfigurationError: it has a line break, as at the end of a file, or another character that a header can't have.
    """
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigurationError(
            f"{source} can't be sent: it has a space or line break around it, or a character other than printable "
            "ASCII. A key that was read from a file may end with a line break: read it with .strip()."
        )
    return key


def is_credential(name: str) -> bool:
    """Return whether a header of this name is a credential, by its exact name.

    A header that only resembles one may select the model, so its value is part of the cache key (as a hash).

    >>> is_credential("Authorization"), is_credential("X-Routing-Key"), is_credential("X-Author")
    (True, False, False)
    """
    return _NAMES.fullmatch(name) is not None


def may_be_credential(name: str, value: str) -> bool:
    """Return whether a header must not be stored or shown: its name is, or resembles, that of a credential.

    >>> may_be_credential("X-My-Token", "abc"), may_be_credential("X-Routing-Key", "large")
    (True, False)
    """
    long = len(value) >= _LONG and " " not in value
    return is_credential(name) or bool(_SOUNDS_LIKE_ONE.search(name)) or (long and bool(_MAY_BE_ONE.search(name)))


_PARAMETERS = lazy_pattern(
    r"(?:x-|x_)?(?:api[-_]?)?key|(?:access[-_]|auth[-_])?token|sig|signature|code|secret|password|subscription-key",
    re.IGNORECASE,
)


def is_credential_parameter(name: str) -> bool:
    """Return whether a parameter of a URL is a credential, by its exact name.

    >>> is_credential_parameter("access_token"), is_credential_parameter("api-version")
    (True, False)
    """
    return _PARAMETERS.fullmatch(name) is not None


_SHORTEST = 6  # characters; a shorter value is a placeholder, and may be part of any word


def hide_values(error: ItemError, secrets: Iterable[str]) -> ItemError:
    """Return an error whose message and details have these values redacted.

    >>> hide_values(ItemError("bad key zq7-4711!", text="zq7-4711!"), ["zq7-4711!"])
    ItemError('bad key ***')
    """
    details: dict[str, Any] = error.details
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            error.message = error.message.replace(secret, "***")
            details = {
                name: value.replace(secret, "***") if isinstance(value, str) else value
                for name, value in details.items()
            }
    error.details, error.args = details, (error.message,)
    return error
