"""Checks of the arguments of a call; what is wrong raises a ConfigurationError that names the argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar

from llmtasker.errors import ConfigurationError, nearest, snippet

_Class = TypeVar("_Class", bound=type)


def check_names(
    owner: str, given: Iterable[str], known: Sequence[str], places: Callable[[], Mapping[str, str]] | None = None
) -> None:
    """Check that all given keyword arguments are known; `places` returns, by name, where others belong.

    Raises:
        ConfigurationError: an argument is unknown.
    """
    for name in given:
        if name not in known:
            if places is not None and (place := places().get(name)):
                raise ConfigurationError(f"{owner} has no argument {name!r}: {place}.")
            raise ConfigurationError(
                f"{owner} has no argument {name!r}.{nearest(name, known)} Its arguments are {', '.join(known)}."
            )


def by_name(
    places: Callable[[], Mapping[str, str]] | None = None, more: Sequence[str] = ()
) -> Callable[[_Class], _Class]:
    """Return a decorator for a class whose arguments are all given by name; wrong ones raise a ConfigurationError.

    `places` is that of `check_names`; `more` are the names that `**options` of its `__init__` takes.
    """

    def decorate(cls: _Class) -> _Class:
        made: Any = vars(cls)["__init__"]
        names: tuple[str, ...] = made.__code__.co_varnames[1 : 1 + made.__code__.co_kwonlyargcount]
        needed = [name for name in names if name not in (made.__kwdefaults__ or {})]

        @wraps(made)
        def init(self: object, *unnamed: object, **given: object) -> None:
            owner = type(self).__name__
            check_names(owner, given, (*names, *more), places)
            if unnamed or any(name not in given for name in needed):
                wanted = ", ".join(f"{name}=…" for name in needed or names)
                raise ConfigurationError(f"{owner} takes its arguments by name: {owner}({wanted}).")
            made(self, **given)

        cls.__init__ = init  # type: ignore[misc]
        return cls

    return decorate


def check_choice(name: str, given: object, choices: Sequence[object]) -> None:
    """Check that an argument has one of the values that it can have.

    Raises:
        ConfigurationError: it has another value.
    """
    if given not in choices:
        raise ConfigurationError(f"{name} is one of {', '.join(map(repr, choices))}, not {snippet(repr(given), 60)}.")


def check_count(name: str, given: object, what: str) -> None:
    """Check that an argument is a whole number from 1 on; `what` is what it counts.

    Raises:
        ConfigurationError: it is something else.
    """
    if not is_count(given):
        raise ConfigurationError(
            f"{name} ({what}) must be a whole number of at least 1, not {snippet(repr(given), 60)}."
        )


def check_share(name: str, given: object) -> None:
    """Check that an argument is a share between 0 and 1.

    Raises:
        ConfigurationError: it is something else.
    """
    if not is_number(given) or not 0 < given < 1:
        raise ConfigurationError(f"{name} is a share between 0 and 1, such as 0.05, not {snippet(repr(given), 40)}.")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number that can be compared: neither a bool nor NaN, but perhaps one of numpy."""
    return not isinstance(value, bool) and isinstance(value, Real) and not math.isnan(value)


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number from 1 on, perhaps one of numpy."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 1
