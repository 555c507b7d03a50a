"""Items a second in bulk: llmtasker beside others, against one local server, in turn in one run.

    python benchmarks/throughput.py [--rows 2000] [--latency 0.05] [--rounds 3] [--concurrency 128 512] [--check]
    python benchmarks/throughput.py --rows 4000 --latency 1 --concurrency 1000 --only "raw aiohttp" "llmtasker, limited"

The server runs in its own process; client and server share the cores, so figures are comparable within one run
only. It prints the median over the rounds, and its ratio to a loop around `create` of the openai package. Without
that one (`--only`), the ratio is that to the first. "llmtasker, limited" has the number in flight as the
`max_concurrency` of its LLM, and as nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from contenders import Contender, contenders, ours, served

REFERENCE = "openai create"
GROUPED = "llmtasker, 10 in a message"
LIMITED = "llmtasker, limited"
TARGETS = {("llmtasker", 128): 2.0, ("llmtasker", 512): 3.0, (GROUPED, 128): 8.0}


async def rate(contender: Contender, base_url: str, rows: int, concurrency: int, mark: str) -> float:
    """Return the items a second of one round; every text is new."""
    async with contender.open(base_url) as ask:
        await ask([f"warm-up {mark} {number}" for number in range(min(concurrency, 64))], concurrency)
        texts = [f"Message {number} of round {mark}: where is my parcel, it is late" for number in range(rows)]
        started = time.perf_counter()
        answered = await ask(texts, concurrency)
        seconds = time.perf_counter() - started
    if answered != rows:
        print(f"  ! {contender.name} answered {answered} of {rows}")
    return rows / seconds


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--only", nargs="*", help="names to take part")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    arguments = parser.parse_args()
    everybody = [
        *contenders(),
        Contender(name=LIMITED, open=ours(limited=True)),
        Contender(name=GROUPED, open=ours(group_size=10)),
    ]
    chosen = [one for one in everybody if not arguments.only or one.name in arguments.only]
    missed = False
    with served("--latency", str(arguments.latency)) as base_url:
        for concurrency in arguments.concurrency:
            rates: dict[str, list[float]] = {one.name: [] for one in chosen}
            for number in range(arguments.rounds):
                for one in chosen:
                    mark = f"{concurrency}-{number}-{one.name}"
                    rates[one.name].append(asyncio.run(rate(one, base_url, arguments.rows, concurrency, mark)))
            print(f"\n{arguments.rows} rows, {arguments.latency * 1e3:g} ms latency, {concurrency} in flight")
            reference = statistics.median(rates.get(REFERENCE) or rates[chosen[0].name])
            for name, found in sorted(rates.items(), key=lambda one: -statistics.median(one[1])):
                ratio = statistics.median(found) / reference
                target = TARGETS.get((name, concurrency))
                verdict = "" if target is None else f"   target {target:g}: {'met' if ratio >= target else 'MISSED'}"
                missed = missed or (target is not None and ratio < target)
                median = statistics.median(found)
                print(f"  {name:28} {median:7.0f} items/s {arguments.rows / median:7.2f} s   x {ratio:5.2f}{verdict}")
    if arguments.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
