"""Budget: what runs may cost at most; a share is reserved before each call, so that the limit holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from llmtasker.errors import BudgetError, ConfigurationError
from llmtasker.wire.completion import Usage

_CHARACTERS_PER_TOKEN = 3  # of an answer that was not counted; prose has more
_WORDS = {"cost": "US dollars", "tokens": "tokens", "calls": "calls"}


class Budget:
    """What all runs that are given it may cost together: `cost` in US dollars, `tokens`, `calls`.

    Before each call the most that it may take is reserved; afterwards, what it did not take is given back. Rows for
    which nothing is left get a BudgetError, and are asked when the run is repeated with a new budget. With
    `max_tokens` set on the LLM, the most is known. Without it, it is estimated from the longest answer so far: one call
    is made first, then twice as many at once as have been answered.

    >>> Budget(tokens=1_000_000)
    Budget(tokens=1,000,000; 0 spent)
    """

    def __init__(self, *, cost: float | None = None, tokens: int | None = None, calls: int | None = None) -> None:
        self.limits = {
            name: value for name, value in {"cost": cost, "tokens": tokens, "calls": calls}.items() if value is not None
        }
        if not self.limits or not all(type(value) in (int, float) and value > 0 for value in self.limits.values()):
            raise ConfigurationError("a budget needs cost=…, tokens=… or calls=…: numbers above 0.")
        self.spent: dict[str, float] = dict.fromkeys(_WORDS, 0)
        self._reserved: dict[str, float] = dict.fromkeys(_WORDS, 0)
        self._open = self._answered = self._longest = 0
        self._waiting: list[Future[None]] = []
        self._lock = threading.Lock()

    def reserve(
        self, most: Usage, price: Callable[[Usage], float | None], *, sure: bool = True
    ) -> Reservation | Future[None]:
        """Return the reservation for one call, or a future to wait for: another call may give something back.

        `sure` tells that the call can't take more than `most`; else `most` is an estimate from the calls so far.

        Raises:
            BudgetError: this call does not fit any more.
            ConfigurationError: the budget is in money, and the price of the LLM is unknown.
        """
        if not sure and most.output < self._longest:
            most = replace(most, output=self._longest)
        cost = price(most) if "cost" in self.limits else 0.0
        if cost is None:
            raise ConfigurationError(
                "a budget in cost needs prices: this LLM's are unknown. Give LLM(prices=Prices(…))."
            )
        need = {"cost": cost, "tokens": most.total, "calls": 1}
        with self._lock:
            short = [name for name, most in self.limits.items() if self._committed(name) + need[name] > most]
            known = sure or self.limits.keys() == {"calls"} or self._open < max(1, 2 * self._answered)
            if not short and known:
                for name, amount in need.items():
                    self._reserved[name] += amount
                self._open += 1
                return Reservation(self, need, most, price)
            if self._open:
                waiting: Future[None] = Future()
                self._waiting.append(waiting)
                return waiting
            name = short[0]
            limit, spent, may_take = self.limits[name], self.spent[name], need[name]
            if may_take > limit:
                raise BudgetError(
                    f"the budget of {limit:,g} {_WORDS[name]} is too small for this call, which may take "
                    f"{may_take:,g}. Raise it, or lower max_tokens."
                )
            raise BudgetError(
                f"the budget of {limit:,g} {_WORDS[name]} is used up: {spent:,g} are spent, and this call may take "
                f"{may_take:,g}. Run again with a new budget to go on."
            )

    def _committed(self, name: str) -> float:
        return self.spent[name] + self._reserved[name]

    def settle(self, need: dict[str, float], spent: dict[str, float], output: int = 0) -> None:
        """Turn what was reserved into what was spent, by an answer of `output` tokens if there was one."""
        with self._lock:
            self._answered += output > 0
            self._longest = max(self._longest, output)
            for name in _WORDS:
                self._reserved[name] -= need[name]
                self.spent[name] += spent[name]
            self._open -= 1
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value:,}" for name, value in self.limits.items())
        spent = ", ".join(f"{self.spent[name]:,g}" for name in self.limits)
        return f"Budget({limits}; {spent} spent)"


@dataclass(slots=True)
class Reservation:
    """The share of a budget that one call may take; `settle` or `cancel` ends it, once."""

    budget: Budget
    need: dict[str, float]
    most: Usage
    price: Callable[[Usage], float | None]
    settled: bool = False

    def settle(self, usage: Usage | None, length: int = 0) -> None:
        """Give back what the call did not take.

        None: nobody counted, so all that was reserved counts as spent, and more for an answer of a `length` in
        characters that must have taken more.
        """
        if self.settled:
            return
        self.settled = True
        taken = usage or Usage(input=self.most.input, output=max(self.most.output, length // _CHARACTERS_PER_TOKEN))
        cost = self.price(taken) if "cost" in self.budget.limits else 0.0
        spent = {"cost": cost or 0.0, "tokens": taken.total, "calls": self.need["calls"]}
        self.budget.settle(self.need, spent, taken.output if length or usage else 0)

    def cancel(self) -> None:
        """Give everything back: the call was never made."""
        if not self.settled:
            self.settled = True
            self.budget.settle(self.need, dict.fromkeys(self.need, 0))
