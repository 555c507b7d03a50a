"""group_size="auto": the largest size whose answers equal, within a bound, those of one call per row."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

from llmtasker.runner.grouping.auto_group import AutoGroup, upper_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The measurement of one size: of `rows` compared, how many differ; `missed` rows got no answer in groups."""

    size: int
    rows: int
    differing: int
    missed: int = 0

    @property
    def bound(self) -> float:
        """The upper bound of the share of rows that differ."""
        return upper_bound(self.differing, self.rows)

    @property
    def calls(self) -> float:
        """Calls per row, including those for rows that are asked again alone."""
        return 1 / self.size + self.missed / max(1, self.rows + self.missed)

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.size}: nothing could be compared"
        missed = f", {self.missed} to be asked again" if self.missed else ""
        return f"{self.size}: {self.differing} of {self.rows} differ, at most {self.bound:.1%}{missed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen size, and why. `noise`: the share of rows that the LLM answers differently when asked twice alone."""

    size: int
    reason: str
    measured: Sequence[Measured] = ()
    noise: float = 0.0

    def to_json(self) -> str:
        """Return the choice as JSON text; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Choice:
        """Return the choice that `to_json` wrote.

        Raises:
            ValueError: the text is not such a choice.
        """
        try:
            data = json.loads(text)
            measured = tuple(Measured(**each) for each in data.pop("measured"))
            return cls(measured=measured, **data)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a stored choice: {error}") from error

    def of(self, size: int) -> Measured:
        """Return the measurement of a size, empty if there is none."""
        return next((one for one in self.measured if one.size == size), Measured(size=size, rows=0, differing=0))

    def __str__(self) -> str:
        return f"groups of {self.size}: {self.reason}" if self.size > 1 else f"no groups: {self.reason}"


async def choose(
    auto: AutoGroup,
    measure: Callable[[int], Awaitable[Measured]],
    repeat: Callable[[], Awaitable[Measured]] | None,
) -> Choice:
    """Return the best size; `measure` asks the sample in groups of a size, `repeat` asks it alone again."""
    tried: list[Measured] = []
    best: Measured | None = None
    noise: float | None = None
    for size in sorted(set(auto.sizes), reverse=True):
        if best is not None and best.calls <= 1 / size:
            break  # no smaller size can save as many calls
        found = await measure(size)
        tried.append(found)
        if noise is None and repeat is not None and found.differing and found.bound >= auto.epsilon:
            again = await repeat()
            noise = again.differing / max(1, again.rows)
        if found.bound < auto.epsilon + (noise or 0) and found.calls < (1 if best is None else best.calls):
            best = found
    measured = "; ".join(map(str, tried))
    allowed = f"{auto.epsilon:.1%} allowed" + (f", and {noise:.1%} for the LLM's own variation" if noise else "")
    return Choice(
        size=best.size if best else 1, reason=f"{measured} ({allowed})", measured=tuple(tried), noise=noise or 0.0
    )


class Watch:
    """Whether a size is still good enough: adds rows asked both in a group and alone to those of the sample."""

    def __init__(self, auto: AutoGroup, choice: Choice) -> None:
        self.auto = auto
        self.choice = choice
        self.checked = self.differing = 0
        self._groups = 0
        self._start(choice.size)

    def _start(self, size: int) -> None:
        known = self.choice.of(size)
        # A size that was not tried is assumed to be perfect.
        self._rows, self._differing = (known.rows, known.differing) if known.rows else (self.auto.sample, 0)

    def due(self) -> bool:
        """Count a group; return whether one of its rows must be asked alone."""
        self._groups += 1
        return self._groups % self.auto.check_every == 0

    def saw(self, *, agrees: bool, size: int) -> bool:
        """Record a row that was asked both ways; return whether the size must be halved."""
        self.checked += 1
        self.differing += not agrees
        self._rows += 1
        self._differing += not agrees
        if upper_bound(self._differing, self._rows) < self.auto.epsilon + self.choice.noise:
            return False
        self._start(size // 2)
        return True
