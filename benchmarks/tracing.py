"""What tracing costs: CPU of a row, and the time, memory and losses beside receivers that are slow, down or hang.

    python benchmarks/tracing.py [--rows 5000] [--rounds 5] [--many 20000] [--check]

Rows are answered in the process, so that nothing else is measured. The receiver runs in its own process, whose CPU is
not counted; that of our own threads is, encoding and posting included. All take turns in each round.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal

from llmtasker import LLM, InputField, OutputField, Prices, Signature, Task
from llmtasker.integrations import langfuse, opentelemetry
from llmtasker.runner.events import Event
from llmtasker.testing import FakeTransport

TARGETS = {"opentelemetry.traces": 60.0}  # µs a row beside an observer that does nothing

LATENCY = 0.02  # seconds of an answer where time is measured: an LLM that is faster than most

RECEIVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
delay, taken = float(sys.argv[1]), 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        time.sleep(delay)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


@contextmanager
def receiver(delay: float) -> Generator[str]:
    """Run an OTLP receiver that takes `delay` seconds for each post; gives its URL."""
    process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(delay)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()


@contextmanager
def nobody() -> Generator[str]:
    """Give the URL of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def nothing(_: Event) -> None:
    """Take an event, as the cheapest observer does."""


def run(rows: int, *observers: Any, latency: float = 0.0) -> float:
    """Run a task over rows; return the seconds that the run took, without those of the last posts."""
    transport = FakeTransport({"team": "billing"}, latency=latency, keep_requests=False)
    llm = LLM(transport=transport, cache=False, prices=Prices(input=1.0, output=1.0))
    task = Task(Triage, llm=llm, observers=observers)
    started = time.perf_counter()
    results = task.run([f"message {number}" for number in range(rows)], progress=False, concurrency=32)
    seconds = time.perf_counter() - started
    assert all(item.ok for item in results)
    return seconds


def end(observers: tuple[Any, ...], seconds: float = 60.0) -> None:
    """Wait for what observers still send, and end them."""
    for observer in observers:
        if hasattr(observer, "flush"):
            observer.flush(seconds)
            observer.close()


def cpu(rows: int, *observers: Any) -> float:
    """Return the µs of CPU that a row takes, in all threads, with the last posts."""
    before = time.process_time()
    run(rows, *observers)
    end(observers)
    return (time.process_time() - before) / rows * 1e6


def costs(rows: int, rounds: int, url: str) -> dict[str, float]:
    """Return the µs of CPU that each observer takes for a row beside one that does nothing."""
    ways: dict[str, Callable[[], tuple[Any, ...]]] = {
        "no observer": lambda: (),
        "an observer that does nothing": lambda: (nothing,),
        "opentelemetry.traces": lambda: (opentelemetry.traces(url),),
        "opentelemetry.traces, sample=0.05": lambda: (opentelemetry.traces(url, sample=0.05),),
        "langfuse.traces, content='text'": lambda: (
            langfuse.traces(url, public_key="pk", secret_key="sk", content="text"),
        ),
    }
    if hasattr(opentelemetry, "metrics"):
        ways["opentelemetry.metrics"] = lambda: (opentelemetry.metrics(url),)
    for make in ways.values():
        cpu(500, *make())  # what is loaded and compiled once
    taken = {way: list[float]() for way in ways}
    for _ in range(rounds):
        for way, make in ways.items():
            taken[way].append(cpu(rows, *make()))
    beside = taken["an observer that does nothing"]
    print(f"{'CPU of a row, µs':36} median   beside one that does nothing: median (least … most)")
    found: dict[str, float] = {}
    for way, figures in taken.items():
        more = [one - other for one, other in zip(figures, beside, strict=True)]
        found[way] = statistics.median(more)
        print(f"{way:36} {statistics.median(figures):6.0f}   {found[way]:6.0f} ({min(more):.0f} … {max(more):.0f})")
    return found


def main() -> None:
    """Measure, print, and fail if a target is missed and `--check` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    given = parser.parse_args()
    with receiver(0.0) as url:
        found = costs(given.rows, given.rounds, url)
    with receiver(0.05) as url:
        run(500)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(given.many, nothing)
        alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracer = opentelemetry.traces(url)
        run(given.many, tracer)
        tracer.flush(60)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - alone) / 1024
        print(f"\n{given.many:,} rows, 50 ms a post: {tracer.dropped} spans lost, {more:.0f} MB more", end=" ")
        print(f"than the {(alone - before) / 1024:.0f} MB of the run alone")
        tracer.close()
    for way, place in (("down", nobody()), ("hangs", receiver(3600.0))):
        with place as url:
            ratios, ends = list[float](), list[float]()
            for _ in range(given.rounds):
                alone = run(2_000, nothing, latency=LATENCY)
                tracer = opentelemetry.traces(url)
                ratios.append(run(2_000, tracer, latency=LATENCY) / alone)
                started = time.perf_counter()
                tracer.flush()
                ends.append(time.perf_counter() - started)
                tracer.close()
            ratio = statistics.median(ratios)
            print(f"receiver {way}: 2,000 rows in {ratio:.2f} of the time, {max(ends):.1f} s at the end")
    missed = [f"{way}: {found[way]:.0f} µs, at most {most:.0f}" for way, most in TARGETS.items() if found[way] > most]
    if missed and given.check:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
