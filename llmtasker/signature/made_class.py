"""MadeClass: the metaclass of Pydantic classes that are made while a program runs and can still be pickled.

Pickle finds a class by its module and name. A class that is in no module is pickled by how it was made: a function and
its arguments. Within one process it stays the same class, however often it is pickled and loaded.
"""

from __future__ import annotations

import copyreg
import sys
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import pydantic
from pydantic._internal._model_construction import ModelMetaclass  # it has no public name


class Made(NamedTuple):
    """How a class was made: `make(*arguments)` returns it."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...]


class MadeClass(ModelMetaclass):
    """A Pydantic class that knows how it was made, or None if it was written as a class."""

    __made__: ClassVar[Made | None]


_by_identity: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_identities: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def made_how(cls: type) -> Made | None:
    """Return how a class was made; None: it was written as a class."""
    made: Made | None = vars(cls).get("__made__")
    return made


def is_importable(cls: type) -> bool:
    """Return whether pickle finds a class by its module and name."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _reduced(cls: type) -> str | tuple[Any, ...]:
    made = made_how(cls)
    if made is None or is_importable(cls):
        return cls.__qualname__  # pickle looks it up, and reports a class that it does not find
    identity = _identities.setdefault(cls, uuid4().hex)
    _by_identity[identity] = cls
    return _again, (identity, *made)


def _again(identity: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> type:
    cls = _by_identity.get(identity)
    if cls is None:
        cls = _by_identity[identity] = make(*arguments)
        _identities[cls] = identity
    return cls


def pickle_by_making(metaclass: type[MadeClass]) -> None:
    """Pickle classes of this metaclass by how they were made, if no module has them."""
    copyreg.pickle(metaclass, _reduced)


pickle_by_making(MadeClass)


def _reduced_constraint(part: object) -> tuple[Any, ...]:
    return _constraint, (vars(part),)


def _constraint(arguments: dict[str, Any]) -> object:
    return pydantic.Field(**arguments).metadata[0]


# Pydantic's class of constraints such as `pattern` has no name by which pickle finds it.
copyreg.pickle(type(_constraint({"pattern": ""})), _reduced_constraint)
