"""Estimate: the calls, tokens and cost of a run, before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmtasker.cache.store import CompleteStore
from llmtasker.runner.policy import Policy
from llmtasker.values.html_table import html_table
from llmtasker.wire.completion import Usage

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The size and cost of a run: all rows, those that are invalid, distinct ones, those already cached.

    `calls`, `usage` and `cost` (US dollars, None if the price is unknown) are for the rest, without re-asks and
    retries. `method` describes how the tokens were estimated.
    """

    rows: int
    unfit: int
    distinct: int
    cached: int
    calls: int
    usage: Usage
    cost: float | None
    method: str

    def _parts(self) -> dict[str, str]:
        unfit = f", {self.unfit:,} do not fit the signature" if self.unfit else ""
        return {
            "rows": f"{self.rows:,}, {self.distinct:,} distinct, {self.cached:,} cached{unfit}",
            "calls": f"{self.calls:,}",
            "tokens": f"{self.usage.input:,} in, {self.usage.output:,} out ({self.method})",
            "cost": "unknown" if self.cost is None else f"${self.cost:,.4f}",
        }

    def __str__(self) -> str:
        return "\n".join(f"{name:<8}{value}" for name, value in self._parts().items())

    def _repr_html_(self) -> str:
        return html_table(self._parts().items())


def estimate(policy: Policy[Any, Any], store: CompleteStore | None, inputs: Iterable[Any], group_size: int) -> Estimate:
    """Return the estimate of a run over these inputs; nothing is sent."""
    program, llm = policy.program, policy.llm
    seen: set[bytes] = set()
    rows = unfit = cached = characters = missing = 0
    source = iter(inputs)
    while batch := list(islice(source, _BATCH)):
        rows += len(batch)
        asked = [policy.rows(given) for given in batch]
        unfit += asked.count([])
        fitting = [(row.key, len(row.request.content)) for found in asked for row in found]
        new = {key: length for key, length in fitting if bytes.fromhex(key) not in seen}
        seen.update(map(bytes.fromhex, new))
        found = store.get_many(list(new)) if store is not None else [None] * len(new)
        for length, text in zip(new.values(), found, strict=True):
            if text is None:
                missing += 1
                characters += length
            else:
                cached += 1
    # The head is sent once per call: with groups, once for several rows.
    calls = math.ceil(missing / group_size)
    head = len(program.head(program.first_mode).start(llm.settings)[0])
    one = llm.tokens.expected(0)
    usage = Usage(input=llm.tokens.expected(characters - head * (missing - calls)).input, output=one.output * missing)
    return Estimate(
        rows=rows,
        unfit=unfit,
        distinct=len(seen),
        cached=cached,
        calls=calls,
        usage=usage,
        cost=llm.cost(usage),
        method=str(llm.tokens),
    )
