"""sent_function: the function of a pipeline as a pickle holds it: by its name, and with cloudpickle by its code.

Under the name of the function, a module has the pipeline, so pickle does not find the function itself. And what stands
in `__main__`, as in a notebook, has no name in another process: cloudpickle, with which Ray, Dask, Spark and joblib
send what they call, sends the code of functions from there. Both store a method by its object, but pickle beside it
stores the name of the function, and cloudpickle the function. So this is a method of an object that finds the name.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from pkgutil import resolve_name
from types import FunctionType, MethodType
from typing import Any


class _Name:
    """Finds what has a name, `module:name`, whatever attribute is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _Name, (self.name,)

    def __getattr__(self, _: str) -> Any:
        return resolve_name(self.name)


def held(function: FunctionType) -> Any:
    """Return what the module of a function has under its name; None if that is nothing."""
    try:
        return attrgetter(function.__qualname__)(sys.modules[function.__module__])
    except (AttributeError, KeyError):
        return None


def sent_function(function: FunctionType) -> Any:
    """Return what stands for a function in a pickle."""
    if held(function) in (None, function):
        return function
    return MethodType(function, _Name(f"{function.__module__}:{function.__qualname__}"))


def arrived_function(sent: Any) -> FunctionType:
    """Return the function of what a pickle held for it."""
    function: FunctionType = getattr(sent, "__func__", None) or getattr(sent, "__wrapped__", sent)
    return function
