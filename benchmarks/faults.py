"""Rows lost, seconds and refused calls against an endpoint that throttles: llmtasker beside others, in one run.

    python benchmarks/faults.py [--rows 300] [--concurrency 32] [--check]

The server allows 20 requests a second, with and without Retry-After, as a bucket and in bursts, or so many tokens.
The ideal time is that of the limit alone: (rows - burst) / rate. Each contender has its defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass

from contenders import Contender, contenders, served

RATE, BURST = 20, 20


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An endpoint and the seconds that its limit alone costs."""

    name: str
    flags: tuple[str, ...]
    ideal: float


def scenes(rows: int) -> list[Scene]:
    """Return the endpoints that are tried."""
    bucket = ("--requests", str(RATE), "--burst", str(BURST))
    tokens = ("--tokens", "4000", "--token-burst", "4000")
    return [
        Scene(name="20/s, Retry-After", flags=(*bucket, "--retry-after", "seconds"), ideal=(rows - BURST) / RATE),
        Scene(name="20/s, no hint", flags=(*bucket, "--retry-after", "none"), ideal=(rows - BURST) / RATE),
        Scene(
            name="20 each second",
            flags=("--requests", "20", "--window", "1", "--retry-after", "none"),
            ideal=rows / RATE - 1,
        ),
        Scene(name="4000 tokens/s", flags=(*tokens, "--retry-after", "none"), ideal=0),
    ]


async def one_run(contender: Contender, base_url: str, rows: int, concurrency: int) -> tuple[int, float]:
    """Return the rows that were answered, and the seconds that it took."""
    async with contender.open(base_url) as ask:
        started = time.perf_counter()
        answered = await ask([f"Message {number}: where is my parcel?" for number in range(rows)], concurrency)
        return answered, time.perf_counter() - started


def main() -> None:
    """Try everybody on every endpoint and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--only", nargs="*", help="names to take part")
    parser.add_argument("--check", action="store_true", help="exit 1 if llmtasker misses its targets")
    arguments = parser.parse_args()
    missed = False
    for scene in scenes(arguments.rows):
        print(f"\n{scene.name}: {arguments.rows} rows, {arguments.concurrency} in flight")
        for contender in contenders():
            if arguments.only and contender.name not in arguments.only:
                continue
            with served("--latency", "0.05", *scene.flags) as base_url:
                answered, seconds = asyncio.run(one_run(contender, base_url, arguments.rows, arguments.concurrency))
                with urllib.request.urlopen(base_url.removesuffix("/v1") + "/counters") as response:
                    counted = json.load(response)
            ideal = scene.ideal or max(0.0, (counted["input_tokens"] + counted["output_tokens"]) / 4000 - 1)
            lost, refused = arguments.rows - answered, counted["refused"]
            print(f"  {contender.name:18} lost {lost:4}   {seconds:6.1f} s (ideal {ideal:5.1f})   refused {refused:4}")
            if contender.name == "llmtasker":
                missed = missed or lost > 0 or seconds > 1.15 * ideal + 0.1 or refused > arguments.rows / 10
    if arguments.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
