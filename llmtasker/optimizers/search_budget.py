"""SearchBudget: the share of a budget for a search; the reserved rest pays for the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from llmtasker.errors import ConfigurationError
from llmtasker.runner.budget import Budget, Reservation
from llmtasker.wire.completion import Usage


class SearchBudget(Budget):
    """A budget within another one: each call is reserved in both, so that neither limit is ever exceeded.

    `held` is what must be left of the other one when this one is used up.

    Raises:
        ConfigurationError: no more than that is left of the other one.
    """

    def __init__(self, whole: Budget, held: Mapping[str, float]) -> None:
        limits = {name: most - whole.spent[name] - held[name] for name, most in whole.limits.items()}
        for name, left in limits.items():
            if left <= 0:
                raise ConfigurationError(
                    f"the budget has {whole.limits[name] - whole.spent[name]:,g} {name} left, and the test alone may "
                    f"take {held[name]:,g}: raise it, or give fewer test rows."
                )
        self._whole = whole
        super().__init__(
            cost=limits.get("cost"),
            tokens=None if "tokens" not in limits else int(limits["tokens"]),
            calls=None if "calls" not in limits else int(limits["calls"]),
        )

    def reserve(
        self, most: Usage, price: Callable[[Usage], float | None], *, sure: bool = True
    ) -> Reservation | Future[None]:
        """Return the reservation for one call in both budgets; see `Budget.reserve`."""
        own = super().reserve(most, price, sure=sure)
        if isinstance(own, Future):
            return own
        try:
            shared = self._whole.reserve(most, price, sure=sure)
        except BaseException:
            own.cancel()
            raise
        if isinstance(shared, Future):
            own.cancel()
            return shared
        return _InBoth(own, shared)


class _InBoth(Reservation):
    """The reservation of a call in two budgets."""

    def __init__(self, own: Reservation, shared: Reservation) -> None:
        super().__init__(budget=own.budget, need=own.need, most=own.most, price=own.price)
        self._shared = shared

    def settle(self, usage: Usage | None, length: int = 0) -> None:
        super().settle(usage, length)
        self._shared.settle(usage, length)

    def cancel(self) -> None:
        super().cancel()
        self._shared.cancel()
