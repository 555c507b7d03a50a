"""sent_function: the function of a pipeline in a pickle: by its name, and with cloudpickle by its code.

In its module, the name of the function means the pipeline, so pickle does not find the function itself. A function of
`__main__`, as in a notebook, can't be found by name in another process at all, so cloudpickle (which Ray, Dask, Spark
and joblib use) sends its code. A pipeline therefore keeps a copy of its function that works in both cases: the name of
the copy is that of an attribute of the pipeline.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from types import FunctionType
from typing import Any

_ATTRIBUTE = ".sent"


def held(function: FunctionType) -> Any:
    """Return the object that the module of a function has under its name; None: there is none."""
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
