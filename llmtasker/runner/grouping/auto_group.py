"""AutoGroup: how `group_size="auto"` finds its size, and the bound that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, cast

from pydantic import BaseModel

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.runner.call_settings import places_beside_calls
from llmtasker.values.argument_checks import by_name, check_count, is_number

_Z = 1.6449  # 95 %, one-sided


@by_name(places_beside_calls)
@dataclass(frozen=True, slots=True, kw_only=True)
class AutoGroup:
    """How `group_size="auto"` finds its size.

    The first `sample` rows are asked alone, and in groups of each of `sizes`, largest first. The largest size is
    chosen for which the share of rows that a group answers differently is below `epsilon`, at a confidence of 95 %
    (upper Wilson bound). Differences between two answers to the same row asked alone are not caused by groups: unless
    the temperature is 0, their share is measured if the largest size does not pass, and added to `epsilon`.
    Afterwards, one row of every `check_every` groups is asked alone too; when the bound is exceeded, the size is
    halved. `same` compares two outputs; None: all fields except free texts must be equal (or, if there are only
    texts, these, ignoring case and punctuation).

    Raises:
        ConfigurationError: a number is out of range, or the sample is too small for any size to pass.
    """

    epsilon: float = 0.05
    sample: int = 60
    sizes: Sequence[int] = (20, 10, 5, 2)
    check_every: int = 20
    same: Callable[[Any, Any], bool] | None = None

    def __post_init__(self) -> None:
        check_count("AutoGroup: sample", self.sample, "rows")
        check_count("AutoGroup: check_every", self.check_every, "groups")
        sizes = cast("Any", self.sizes)  # at run time it may be anything
        if not (isinstance(sizes, list | tuple | range) and sizes and all(map(_is_size, cast("list[Any]", sizes)))):
            raise ConfigurationError(
                f"AutoGroup: sizes counts inputs, such as (10, 5, 2), not {snippet(repr(self.sizes), 60)}."
            )
        if not is_number(self.epsilon):
            raise ConfigurationError(
                f"AutoGroup: epsilon is a share, such as 0.05, not {snippet(repr(self.epsilon), 60)}."
            )
        if not (0 < self.epsilon < 1 and upper_bound(0, self.sample) < self.epsilon):
            raise ConfigurationError(
                f"AutoGroup: {self.sample} rows can't show that less than {self.epsilon:g} differ: take "
                f"{math.ceil(_Z**2 / self.epsilon) if self.epsilon > 0 else 'a larger epsilon and'} or more."
            )

    @property
    def largest(self) -> int:
        """The largest size to try."""
        return max(self.sizes)

    def document(self) -> dict[str, Any]:
        """Return the settings as JSON values.

        Raises:
            ConfigurationError: `same` is one of them.
        """
        if self.same is not None:
            raise ConfigurationError(
                "AutoGroup(same=…) is a function, which can't be stored in a file: use with_(group_size=…)."
            )
        return {name: value for name, value in asdict(self).items() if name != "same"}

    def key(self) -> str:
        """Return a text that is equal for objects that choose in the same way."""
        return f"{self.epsilon:g} {self.sample} {sorted(self.sizes)}"

    def agrees(self, one: Any, other: Any) -> bool:
        """Return whether two outputs count as equal."""
        return (self.same or same_output)(one, other)


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 2


def upper_bound(differing: int, rows: int) -> float:
    """Return the highest plausible share, at a confidence of 95 %: the upper bound of Wilson's score interval.

    E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, one-sided.

    >>> round(upper_bound(0, 60), 3), round(upper_bound(3, 60), 3)
    (0.043, 0.119)
    """
    if rows == 0:
        return 1.0
    share, square = differing / rows, _Z**2
    centre = share + square / (2 * rows)
    spread = _Z * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return (centre + spread) / (1 + square / rows)


def same_output(one: Any, other: Any) -> bool:
    """Return whether two outputs are equal, ignoring free texts."""
    if not (isinstance(one, BaseModel) and isinstance(other, BaseModel)):
        return _same(one, other)
    fields = getattr(type(one), "output_fields", None) or type(one).model_fields
    closed = [name for name, info in fields.items() if info.annotation is not str]
    return all(_same(getattr(one, name), getattr(other, name)) for name in closed or fields)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        from llmtasker.wire.group_format import folded  # loaded only for tasks that group

        return folded(one) == folded(other)
    return bool(one == other)
