"""What serving a task costs: beside `acall`, under many clients, over many rows. FaultyServer is the LLM.

    python benchmarks/serve.py [--rows 100000]

The server runs in its own process, so CPU and memory are only its own (Linux). Compare ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
import uvicorn

from llmtasker import LLM, InputField, OutputField, Prices, Signature, Task
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.http_protocol import HTTPProtocol
from llmtasker.testing import Delay, FaultyServer

KEY = {"X-API-Key": "a-key-of-the-benchmark"}


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app on a free port; gives the URL."""
    options: dict[str, Any] = {"http": HTTPProtocol, "loop": "asyncio", "timeout_keep_alive": 75}  # as for `acall`
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@dataclass(frozen=True)
class Served:
    """A part of a comparison in its own process: the line that it printed, its CPU and its memory."""

    process: subprocess.Popen[str]
    line: str

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far, of all threads."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def call(self, calls: int) -> None:
        """Let the process make calls, and wait for them."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    @contextmanager
    def growth(self) -> Iterator[list[float]]:
        """Give a list that has, after the block, by how many MB the process grew at its peak."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak begins again
        grown, before = list[float](), self._peak
        yield grown
        grown.append(self._peak - before)

    @property
    def _peak(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def started(*arguments: str) -> Iterator[Served]:
    """Start this file as a part of a comparison, and wait for its line."""
    command = [sys.executable, __file__, "--part", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Served(process, process.stdout.readline().strip())
        finally:
            process.terminate()


WAYS = ("acall", "acall in company", "empty", "only acall", "serve")


def one_input(llm: str, at_once: int, rounds: int = 40, batch: int = 64) -> None:
    """Compare the CPU of a server for one input with that of `acall`, each in its own process, in turn.

    In turn means in small batches, because the speed of a shared machine drifts. "empty" is uvicorn with an app that
    answers at once, "only acall" one that does no more than await `acall`: no server costs less. "acall in company"
    is `acall` while clients ask the empty server: a process whose neighbours work finds its caches cold, and a server
    always has neighbours, its clients. Clients write a request at once, as curl does; their own CPU is not counted.
    """
    taken = {way: list[float]() for way in WAYS}
    with ExitStack() as stack:
        alone = stack.enter_context(started("acall", llm, str(at_once)))
        servers = {way: stack.enter_context(started(way, llm)) for way in ("empty", "only acall", "serve")}
        for number in range(-5, rounds):
            for way, figures in taken.items():
                with company(servers["empty"].line, at_once) if way == "acall in company" else nullcontext():
                    server = servers.get(way, alone)
                    spent = server.cpu
                    if server is alone:
                        alone.call(batch * at_once)
                    else:
                        asyncio.run(ask(server.line, at_once, range(batch)))
                    if number >= 0:  # the first rounds warm up
                        figures.append((server.cpu - spent) / batch / at_once)
    for way, figures in taken.items():
        ratios = [
            statistics.median(one / other for one, other in zip(figures, taken[base], strict=True)) for base in WAYS[:2]
        ]
        print(
            f"one input, {at_once} at a time, {way}: {1e6 * statistics.median(figures):.0f} µs of CPU, "
            f"{ratios[0]:.2f} × acall, {ratios[1]:.2f} × acall in company"
        )


async def ask(url: str, clients: int, numbers: Iterable[int]) -> None:
    """Let clients ask for one input after the other, each over its own connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST /tasks/triage HTTP/1.1\r\nhost: {host}\r\nx-api-key: {KEY['X-API-Key']}\r\n"

    async def client(name: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            body = json.dumps({"message": f"of {name}: {number} {time.time()}"})
            writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.close()

    await asyncio.gather(*(client(name) for name in range(clients)))


@contextmanager
def company(url: str, clients: int) -> Iterator[None]:
    """Let clients ask a server during the block, from another process."""
    code = f"import asyncio, itertools, serve; asyncio.run(serve.ask({url!r}, {clients}, itertools.count()))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent) as process:
        time.sleep(0.5)  # until it asks
        yield
        process.kill()


async def acalls(task: Task[Any], at_once: int) -> None:
    """Make as many calls as a line of the standard input says, again and again; answer each with a line."""

    async def worker(numbers: range) -> None:
        for number in numbers:
            await task.acall(f"alone {number} {time.time()}")

    while line := await asyncio.to_thread(sys.stdin.readline):
        await asyncio.gather(*(worker(range(place, int(line), at_once)) for place in range(at_once)))
        print(flush=True)


def bare_app(task: Task[Any] | None) -> Any:
    """Return an app that reads a body and answers, or only awaits `acall` between the two."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
        body = (await receive())["body"]
        if task is not None:
            item = await task.acall(json.loads(body))
            body = json.dumps({"team": item.output.team if item.ok else None}).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    return app


def part(name: str, llm: str, at_once: str = "1") -> None:
    """Do a part of a comparison in this process."""
    if name == "acall":
        print("ready", flush=True)
        asyncio.run(acalls(task_of(llm), int(at_once)))
        return
    with tempfile.TemporaryDirectory() as folder, served(app_of(name, llm, folder)) as url:
        print(url, flush=True)
        threading.Event().wait()


def app_of(name: str, llm: str, folder: str) -> Any:
    """Return an app: ours, or one that does less."""
    if name != "serve":
        return bare_app(task_of(llm) if name == "only acall" else None)
    settings = ServerSettings(jobs=Path(folder) / "jobs.db", keys={"bench": KEY["X-API-Key"]})
    return create_app({"triage": task_of(llm)}, settings)


def task_of(llm: str) -> Task[Any]:
    """Return the task that asks the LLM at a URL; what it costs is known, so that it is counted."""
    return Task(Triage, llm=LLM(f"{llm}#m", api_key="none", cache=False, prices=Prices(input=1.0, output=1.0)))


async def clients(url: str, rows: int = 10_000, count: int = 200) -> None:
    """Let many clients ask while a job runs; compare the 95th percentile with that of one client alone."""
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=url, headers=KEY, timeout=60, limits=limits) as client:

        async def ask_one(number: int) -> float:
            started = time.perf_counter()
            response = await client.post("/tasks/triage", json={"message": f"client {number} {started}"})
            assert response.status_code == 200, response.text
            return time.perf_counter() - started

        async def wave(first: int) -> list[float]:
            return list(await asyncio.gather(*(ask_one(first + number) for number in range(count))))

        alone = [seconds for part in range(3) for seconds in await wave(part * count)]
        created = await client.post("/tasks/triage/jobs", json={"rows": [f"row {number}" for number in range(rows)]})
        during = [seconds for part in range(3) for seconds in await wave(10_000 + part * count)]
        job = (await client.get(created.headers["location"])).json()
    p95 = [statistics.quantiles(part, n=20)[-1] for part in (alone, during)]
    print(
        f"{count} clients: p95 {p95[0]:.2f} s alone, {p95[1]:.2f} s while a job of {rows:,} rows runs "
        f"({p95[1] / p95[0]:.1f} ×, at most 3); the job has {job['done']:,} rows so far"
    )


def upload(llm: str, size: int = 98_000_000) -> None:
    """Upload a large CSV to a server that has done nothing yet."""
    line = b"0123456;" + b"a text of a customer " * 50 + b"\n"
    content = b"id;message\n" + line * (size // len(line))
    with started("serve", llm) as server, httpx2.Client(base_url=server.line, headers=KEY, timeout=600) as client:
        assert client.get("/healthz").status_code == 200
        for again in ("", ", another"):
            spent = server.cpu
            with server.growth() as grown:
                job = client.post("/tasks/triage/jobs", files={"file": ("rows.csv", content)})
                assert job.status_code == 202, job.text
                client.post(f"/jobs/{job.json()['id']}/cancel")
            spent = server.cpu - spent
            print(f"upload of {size / 1e6:.0f} MB{again}: + {grown[0]:.0f} MB (at most 50), {spent:.1f} s of CPU")


def many_rows(llm: str, rows: int) -> None:
    """Read pages of a large job, and download it in each form."""
    with started("serve", llm) as server, httpx2.Client(base_url=server.line, headers=KEY, timeout=600) as client:
        content = "id;message\n" + "".join(f"{number:06d};message number {number}\n" for number in range(rows))
        job = client.post("/tasks/triage/jobs", files={"file": ("rows.csv", content.encode())}).json()
        client.post(f"/jobs/{job['id']}/pause")
        time.sleep(3)  # until the rows in flight have been abandoned
        for what, query in (("a page", ""), ("a search", "?search=99"), ("a search for nothing", "?search=zzz")):
            spent = server.cpu
            for _ in range(20):
                client.get(f"/jobs/{job['id']}/items{query}")
            print(f"{what} over {rows:,} rows: {(server.cpu - spent) / 20 * 1000:.0f} ms of CPU (at most 50)")
        for kind in ("csv", "jsonl", "xlsx", "parquet", "parquet"):
            began, first, size, spent = time.perf_counter(), 0.0, 0, server.cpu
            with (
                server.growth() as grown,
                client.stream("GET", f"/jobs/{job['id']}/results?format={kind}") as response,
            ):
                for part in response.iter_bytes():
                    first = first or (time.perf_counter() - began if part else 0.0)
                    size += len(part)
            print(
                f"export of {rows:,} rows, {kind}, {size / 1e6:.1f} MB: {server.cpu - spent:.1f} s of CPU "
                f"(at most 5 for 50,000 of CSV), first byte after {first:.2f} s (0.5), + {grown[0]:.0f} MB (30)"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part(*arguments.part)
        return
    with FaultyServer(faults=[Delay(0.05, when="client")]) as llm:
        for at_once in (1, 16):
            one_input(llm.base_url, at_once, batch=64 // at_once)
        upload(llm.base_url)
        many_rows(llm.base_url, arguments.rows)
        with started("serve", llm.base_url) as server:
            asyncio.run(clients(server.line))


if __name__ == "__main__":
    main()
