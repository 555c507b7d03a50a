"""Estimate: the calls, tokens and cost of a run, before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmtasker.cache.store import CompleteStore
from llmtasker.runner.grouping.group_plan import GroupPlan
from llmtasker.runner.policy import Policy
from llmtasker.values.html_table import html_table
from llmtasker.wire.completion import NO_USAGE, Usage
from llmtasker.wire.group_format import ROW_NAMES, ROW_TAGS
from llmtasker.wire.request import FIRST_MODE, Head, Request, Settings

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


def estimate(
    policy: Policy[Any, Any], store: CompleteStore | None, inputs: Iterable[Any], groups: GroupPlan[Any]
) -> Estimate:
    """Return the estimate of a run over these inputs, asked in such groups; nothing is sent."""
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
    calls = math.ceil(missing / groups.size)
    names = 0
    if groups.program is not None and groups.size > 1:
        # One head for several rows, different from that of a single row; and names for each row, in and out.
        alone = _empty(program.head(program.first_mode), llm.settings)
        together = _empty(groups.program.head(FIRST_MODE[groups.program.asked]), llm.settings)
        characters += together * calls + (ROW_TAGS - alone) * missing
        names = ROW_NAMES * missing
    usage, method = NO_USAGE, "the built-in baseline uses none"
    if llm.uses_tokens:
        usage = Usage(input=llm.tokens.expected(characters).input, output=llm.tokens.output_of(missing, names))
        method = str(llm.tokens)
    return Estimate(
        rows=rows,
        unfit=unfit,
        distinct=len(seen),
        cached=cached,
        calls=calls,
        usage=usage,
        cost=llm.cost(usage),
        method=method,
    )


def _empty(head: Head, settings: Settings) -> int:
    """Return the characters of a request without an input."""
    return len(Request(head, [{"role": "user", "content": ""}], settings).content)
