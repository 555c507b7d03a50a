"""What serving a task costs: beside `acall`, under many clients, over many rows. FaultyServer is the LLM.

    python benchmarks/serve.py [--rows 100000]

Times are of this process and of the server's thread in it, so the figures are upper bounds; compare ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import uvicorn

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.testing import Delay, FaultyServer

KEY = {"X-API-Key": "a-key-of-the-benchmark"}


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


@contextmanager
def served(task: Task[Any], folder: str) -> Iterator[str]:
    """Serve a task on a free port; gives the URL."""
    settings = ServerSettings(jobs=Path(folder) / "jobs.db", keys={"bench": KEY["X-API-Key"]})
    server = uvicorn.Server(uvicorn.Config(create_app({"triage": task}, settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def cpu(action: Callable[[], object]) -> float:
    """Return the seconds of CPU that an action takes, in all threads."""
    before = time.process_time()
    action()
    return time.process_time() - before


async def one_by_one(task: Task[Any], url: str, calls: int = 300) -> None:
    """Compare one input through HTTP with `acall`, in turn."""
    async with httpx2.AsyncClient(base_url=url, headers=KEY) as client:
        alone, through = list[float](), list[float]()
        for number in range(calls):
            before = time.process_time()
            await task.acall(f"alone {number}")
            middle = time.process_time()
            response = await client.post("/tasks/triage", json={"message": f"through {number}"})
            assert response.status_code == 200, response.text
            alone.append(middle - before)
            through.append(time.process_time() - middle)
    ratio = statistics.median(through) / statistics.median(alone)
    print(f"one input through HTTP: {ratio:.1f} × the CPU of acall, client included (at most 2 for the server)")


async def clients(url: str, rows: int = 10_000, count: int = 200) -> None:
    """Let many clients ask while a job runs; compare the 95th percentile with that of one client alone."""
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=url, headers=KEY, timeout=60, limits=limits) as client:

        async def ask(number: int) -> float:
            started = time.perf_counter()
            response = await client.post("/tasks/triage", json={"message": f"client {number} {started}"})
            assert response.status_code == 200, response.text
            return time.perf_counter() - started

        async def wave(first: int) -> list[float]:
            return list(await asyncio.gather(*(ask(first + number) for number in range(count))))

        alone = [seconds for part in range(3) for seconds in await wave(part * count)]
        created = await client.post("/tasks/triage/jobs", json={"rows": [f"row {number}" for number in range(rows)]})
        during = [seconds for part in range(3) for seconds in await wave(10_000 + part * count)]
        job = (await client.get(created.headers["location"])).json()
    p95 = [statistics.quantiles(part, n=20)[-1] for part in (alone, during)]
    print(
        f"{count} clients: p95 {p95[0]:.2f} s alone, {p95[1]:.2f} s while a job of {rows:,} rows runs "
        f"({p95[1] / p95[0]:.1f} ×, at most 3); the job has {job['done']:,} rows so far"
    )


def many_rows(url: str, rows: int) -> None:
    """Read pages of a large job, and download it."""
    with httpx2.Client(base_url=url, headers=KEY, timeout=600) as client:
        content = "id;message\n" + "".join(f"{number:06d};message number {number}\n" for number in range(rows))
        job = client.post("/tasks/triage/jobs", files={"file": ("rows.csv", content.encode())}).json()
        client.post(f"/jobs/{job['id']}/pause")
        time.sleep(3)  # until the rows in flight have been given up
        for what, query in (("a page", ""), ("a search", "?search=99"), ("a search for nothing", "?search=zzz")):
            place = f"/jobs/{job['id']}/items{query}"
            seconds = statistics.median(cpu(lambda place=place: client.get(place)) for _ in range(5))
            print(f"{what} over {rows:,} rows: {1000 * seconds:.0f} ms of CPU, client included (at most 50)")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, first, spent = time.perf_counter(), 0.0, time.process_time()
        with client.stream("GET", f"/jobs/{job['id']}/results") as response:
            for part in response.iter_bytes():
                first = first or (time.perf_counter() - started if part else 0.0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        print(
            f"export of {rows:,} rows: {time.process_time() - spent:.1f} s of CPU (at most 5 for 50,000), "
            f"first byte after {first:.2f} s (0.5), + {grown:.0f} MB (30)"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with FaultyServer(faults=[Delay(0.05, when="client")]) as llm, tempfile.TemporaryDirectory() as folder:
        task = Task(Triage, llm=LLM(f"{llm.base_url}#m", api_key="none", cache=False))
        with served(task, folder) as url:
            asyncio.run(one_by_one(task, url))
            asyncio.run(clients(url))
            many_rows(url, arguments.rows)


if __name__ == "__main__":
    main()
