"""Budget: the most that runs may cost; each call reserves its share first, so that the limit is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from llmtasker.errors import BudgetError, ConfigurationError, counted, snippet
from llmtasker.runner.call_settings import places_beside_calls
from llmtasker.values.argument_checks import by_name, is_number
from llmtasker.wire.completion import Usage

_CHARACTERS_PER_TOKEN = 3  # of an answer whose tokens were not counted; prose has more
_WORDS = {"cost": "US dollar", "tokens": "token", "calls": "call"}


@by_name(places_beside_calls)
class Budget:
    """The most that all runs with this budget may cost together: `cost` in US dollars, `tokens`, `calls`.

    Each call first reserves the most that it may use, and returns the unused part afterwards. Rows for which the
    budget is not enough get a BudgetError; a run repeated with a new budget asks for them. If the LLM has
    `max_tokens`, the most is known. Otherwise it is estimated from the longest answer so far: one call is made
    first, then twice as many at once as have been answered.

    >>> Budget(tokens=1_000_000)
    Budget(tokens=1,000,000; 0 spent)
    """

    def __init__(self, *, cost: float | None = None, tokens: int | None = None, calls: int | None = None) -> None:
        self.limits = {
            name: value for name, value in {"cost": cost, "tokens": tokens, "calls": calls}.items() if value is not None
        }
        if not self.limits:
            raise ConfigurationError("a budget needs cost=…, tokens=… or calls=…, such as Budget(cost=5.00).")
        for name, value in self.limits.items():
            if not is_number(value) or value <= 0:
                raise ConfigurationError(f"Budget: {name} is a number above 0, not {snippet(repr(value), 60)}.")
        self.spent: dict[str, float] = dict.fromkeys(_WORDS, 0)
        self._reserved: dict[str, float] = dict.fromkeys(_WORDS, 0)
        self._open = self._answered = self._longest = 0
        self._waiting: list[Future[None]] = []
        self._lock = threading.Lock()

    def reserve(
        self, most: Usage, price: Callable[[Usage], float | None], *, sure: bool = True
    ) -> Reservation | Future[None]:
        """Return the reservation for one call, or a future to wait for, because another call may return a share.

        `sure`: the call can't use more than `most`; otherwise `most` is an estimate from the calls so far.

        Raises:
            BudgetError: the budget is not enough for this call.
            ConfigurationError: the budget limits the cost, and the price of the LLM is unknown.
        """
        if not sure and most.output < self._longest:
            most = replace(most, output=self._longest)
        cost = price(most) if "cost" in self.limits else 0.0
        if cost is None:
            raise ConfigurationError(
                "a budget in cost needs prices, and those of this LLM are unknown: give them, as in "
                "LLM(…, prices=Prices(input=0.40, output=1.60)), or a budget in tokens or calls."
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
                    f"the budget of {counted(limit, _WORDS[name])} is too small for this call, which may take "
                    f"{may_take:,g}. Raise it, or lower max_tokens."
                )
            raise BudgetError(
                f"the budget of {counted(limit, _WORDS[name])} is used up: {spent:,g} spent, and this call may take "
                f"{may_take:,g}. Run again with a new budget to go on."
            )

    def _committed(self, name: str) -> float:
        return self.spent[name] + self._reserved[name]

    def settle(self, need: dict[str, float], spent: dict[str, float], output: int = 0) -> None:
        """Replace a reservation with what was spent, by an answer of `output` tokens if there was one."""
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
    """The share of a budget that one call may use; end it once, with `settle` or `cancel`."""

    budget: Budget
    need: dict[str, float]
    most: Usage
    price: Callable[[Usage], float | None]
    settled: bool = False

    def settle(self, usage: Usage | None, length: int = 0) -> None:
        """Return the part that the call did not use.

        None: the usage is unknown, so the whole reservation counts as spent, or more if the `length` of the
        answer, in characters, must have used more; a call that could use none has used none.
        """
        if self.settled:
            return
        self.settled = True
        if usage is None and not self.most.total:
            usage = self.most
        taken = usage or Usage(input=self.most.input, output=max(self.most.output, length // _CHARACTERS_PER_TOKEN))
        cost = self.price(taken) if "cost" in self.budget.limits else 0.0
        spent = {"cost": cost or 0.0, "tokens": taken.total, "calls": self.need["calls"]}
        self.budget.settle(self.need, spent, taken.output if length or usage else 0)

    def cancel(self) -> None:
        """Return the whole reservation: the call was never made."""
        if not self.settled:
            self.settled = True
            self.budget.settle(self.need, dict.fromkeys(self.need, 0))
