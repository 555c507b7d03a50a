"""`python -m llmtasker.testing.server`: a FaultyServer in a separate process, for benchmarks and other languages."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast, get_args

from llmtasker.testing.bad_answers import BadGroup, Cut, Malformed
from llmtasker.testing.faults import ContextLimit, Drip, Fault, Hang, Limit, Rejects, Reset, RetryAfter, Status, Storm
from llmtasker.testing.faulty_server import FaultyServer


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m llmtasker.testing.server",
        description="An OpenAI-compatible server on the loopback device that fails on request. It prints "
        '{"base_url": …} as its first line, sends its counters at GET /counters, resets them at POST /reset.',
    )
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--latency", default="0", metavar="S|LOW:HIGH", help="seconds before each answer")
    parser.add_argument("--seed", type=int, default=0)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--requests", type=float, metavar="N", help="requests allowed per second")
    limits.add_argument("--burst", type=float, metavar="N", help="requests allowed at once (default: one second's)")
    limits.add_argument("--tokens", type=float, metavar="N", help="tokens allowed per second")
    limits.add_argument("--token-burst", type=float, metavar="N", help="tokens allowed at once")
    limits.add_argument("--window", type=float, metavar="S", help="fixed windows of S seconds instead of a bucket")
    limits.add_argument("--retry-after", choices=[*get_args(RetryAfter), "none"], default="seconds")
    limits.add_argument("--tell", action="store_true", help="send x-ratelimit-* headers")
    limits.add_argument("--storm", metavar="EVERY:LASTS", help="only 429s for LASTS of each EVERY seconds")
    limits.add_argument("--context-limit", type=int, metavar="TOKENS")
    faults = parser.add_argument_group("faults", "SHARE is a probability; all but --rejects default to none")
    faults.add_argument("--status", action="append", default=[], metavar="CODE:SHARE", help="can be repeated")
    faults.add_argument("--rejects", action="append", default=[], metavar="FIELD=MESSAGE", help="can be repeated")
    for name in ("reset", "hang", "cut"):
        faults.add_argument(f"--{name}", type=float, default=0.0, metavar="SHARE")
    faults.add_argument("--drip", metavar="BYTES_PER_SECOND:SHARE")
    faults.add_argument("--malformed", action="append", default=[], metavar="HOW:SHARE", help="can be repeated")
    faults.add_argument("--group", action="append", default=[], metavar="HOW:SHARE", help="can be repeated")
    return parser


def faults_of(options: argparse.Namespace) -> list[Fault]:
    """Return the faults that the command line asks for, those of the endpoint before those of the LLM."""
    retry_after = None if options.retry_after == "none" else cast("RetryAfter", options.retry_after)
    faults: list[Fault] = []
    if options.rejects:
        faults.append(Rejects(dict(_pair(text, "=") for text in options.rejects)))
    if options.context_limit:
        faults.append(ContextLimit(options.context_limit))
    if options.storm:
        every, lasts = _pair(options.storm)
        faults.append(Storm(float(every), float(lasts), retry_after=retry_after))
    rate: dict[str, Any] = {"window": options.window, "retry_after": retry_after, "tell": options.tell}
    if options.requests:
        faults.append(Limit(requests=options.requests, burst=options.burst, **rate))
    if options.tokens:
        faults.append(Limit(tokens=options.tokens, burst=options.token_burst, **rate))
    faults += _each(options.status, lambda code, share: Status(int(code), share=share))
    faults += [
        kind(share=share)
        for kind, share in ((Reset, options.reset), (Hang, options.hang), (Cut, options.cut))
        if share > 0
    ]
    faults += _each(options.malformed, lambda how, share: Malformed(how, share=share))
    faults += _each(options.group, lambda how, share: BadGroup(how, share=share))
    faults += _each([options.drip] if options.drip else [], lambda speed, share: Drip(float(speed), share=share))
    return faults


def _each(texts: Sequence[str], make: Callable[[str, float], Fault]) -> list[Fault]:
    return [make(what, float(share)) for what, share in map(_pair, texts)]


def _pair(text: str, separator: str = ":") -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found:
        raise ValueError(f"{text!r} has no {separator!r}: two values are needed")
    return left, right


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    low, _, high = options.latency.partition(":")
    try:
        latency = (float(low), float(high)) if high else float(low)
        server = FaultyServer(
            faults=faults_of(options), latency=latency, seed=options.seed, port=options.port, keep=False
        )
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, suppress(KeyboardInterrupt):
        sys.stdout.write(json.dumps({"base_url": server.base_url}) + "\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
