"""What a shared Redis does to runs: processes with the same rows, a Redis that is killed, and one that is frozen.

    python benchmarks/redis_cache.py [--rows 1000] [--latency 0.1] [--processes 3] [--store redis|disk]

Needs redis-server (`apt-get install redis-server`). Seconds of wall time, so run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.testing import FaultyServer

SHARED = 300


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "other"] = OutputField(description="who takes it")


def task(endpoint: str, cache: Any) -> Task[Triage]:
    """Return the task with a cache."""
    return Task(Triage, llm=LLM("m", base_url=endpoint, api_key="none", cache=cache))


@contextmanager
def redis(port: int) -> Generator[subprocess.Popen[bytes]]:
    """Run a redis-server without files."""
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/") as process:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                time.sleep(0.02)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def worker(endpoint: str, cache: str) -> None:
    """Run the shared rows once the parent signals it, and print the seconds that they took."""
    one = task(endpoint, cache)
    one.run(["to warm up"])
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    assert one.run([f"message {number}" for number in range(SHARED)]).counts["ok"] == SHARED
    print(time.perf_counter() - began, flush=True)


def together(cache: str, processes: int, latency: float) -> str:
    """Return what processes with the same rows take."""
    with FaultyServer(latency=latency, keep=False) as endpoint, ExitStack() as stack:
        command = [sys.executable, __file__, "--worker", endpoint.base_url, cache]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        workers = [stack.enter_context(subprocess.Popen(command, text=True, **pipes)) for _ in range(processes)]
        for each in workers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        before = endpoint.counters.requests
        for each in workers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        seconds = [float(each.stdout.readline()) for each in workers if each.stdout is not None]
        return f"{endpoint.counters.requests - before} calls, {max(seconds):.2f} s"


def interrupted(rows: int, latency: float, at: int, action: Callable[[subprocess.Popen[bytes]], object]) -> str:
    """Return the cost of a run during which something happens to Redis, and when Redis is used again."""
    port = free_port()
    texts = [f"message {number}" for number in range(rows)]
    with redis(port) as process, FaultyServer(latency=latency, keep=False) as endpoint:
        one = task(endpoint.base_url, f"redis://127.0.0.1:{port}")
        one.run(["to warm up"])

        def watch() -> None:
            while endpoint.counters.requests < at:
                time.sleep(0.001)
            action(process)

        threading.Thread(target=watch, daemon=True).start()
        began = time.perf_counter()
        ok = one.run(texts).counts["ok"]
        return f"{time.perf_counter() - began:.2f} s, {rows - ok} lost, {endpoint.counters.requests - 1} calls"


def used_again(latency: float) -> str:
    """Return after how many seconds a Redis that was frozen for five is used again."""
    port = free_port()
    with redis(port) as process, FaultyServer(latency=latency, keep=False) as endpoint:
        one = task(endpoint.base_url, f"redis://127.0.0.1:{port}")
        one("to warm up")
        process.send_signal(signal.SIGSTOP)
        one("while it is frozen")
        time.sleep(5)
        process.send_signal(signal.SIGCONT)
        began = time.perf_counter()
        number = 0
        while not one(f"after it {number // 2}").cached and time.perf_counter() - began < 100:
            number += 1
            time.sleep(0.1)
        return f"{time.perf_counter() - began:.1f} s"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds before each answer")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return
    warnings.simplefilter("ignore")
    os.environ["LLMTASKER_CACHE_DIR"] = tempfile.mkdtemp()
    port = free_port()
    shown = {"processes, a folder": lambda: together(tempfile.mkdtemp(), arguments.processes, arguments.latency)}
    with redis(port):
        url = f"redis://127.0.0.1:{port}"
        for name, action in shown.items():
            print(f"{arguments.processes} {name:28} {action()}")
        print(f"{arguments.processes} processes, a Redis {together(url, arguments.processes, arguments.latency):>34}")
    cases: dict[str, Callable[[subprocess.Popen[bytes]], object]] = {
        "Redis works": lambda _: None,
        "Redis killed at 300": lambda process: process.kill(),
        "Redis frozen at 300": lambda process: process.send_signal(signal.SIGSTOP),
    }
    for name, action in cases.items():
        print(f"{name:30} {interrupted(arguments.rows, arguments.latency, 300, action)}")
    print(f"frozen for 5 s: used again after {used_again(arguments.latency)}")


if __name__ == "__main__":
    main()
