"""sent_function: the function of a pipeline as a pickle holds it: by its name, and with cloudpickle by its code.

Under the name of the function, a module has the pipeline, so pickle does not find the function itself. And what stands
in `__main__`, as in a notebook, has no name in another process: cloudpickle, with which Ray, Dask, Spark and joblib
send what they call, sends the code of functions from there. So a pipeline keeps a copy of its function by which both
work: its name is that of an attribute of the pipeline.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from types import FunctionType
from typing import Any

_ATTRIBUTE = ".sent"


def held(function: FunctionType) -> Any:
    """Return what the module of a function has under its name; None if that is nothing."""
    try:
        return attrgetter(function.__qualname__)(sys.modules[function.__module__])
    except (AttributeError, KeyError):
        return None


def sent_function(function: FunctionType) -> FunctionType:
    """Return the copy that the pipeline has as `sent`."""
    return _renamed(function, function.__qualname__ + _ATTRIBUTE)


def arrived_function(sent: FunctionType) -> FunctionType:
    """Return the function of a copy that was sent; any other function as it is."""
    name = sent.__qualname__.removesuffix(_ATTRIBUTE)
    return sent if name == sent.__qualname__ else _renamed(sent, name)


def _renamed(function: FunctionType, name: str) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__module__, copy.__qualname__, copy.__doc__ = function.__module__, name, function.__doc__
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    return copy
