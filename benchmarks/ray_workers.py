"""Rows on two workers of Ray under one rate limit, while one is killed: time beside the ideal, refusals, repeats.

    .ci/namespace .venv-scale/bin/python benchmarks/ray_workers.py [--rows 2000] [--rate 20] [--concurrency 16]

`make test-scale` installs what it needs. Ray listens on all interfaces, so this runs in its own namespace. The time
is that from the first call to the last: the start of the cluster and of the workers does not count.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from llmtasker import LLM, Classification, RateLimit
from llmtasker.integrations.ray import ask
from llmtasker.testing import FaultyServer
from llmtasker.testing.faults import Limit

STORE = 150 * 2**20


def workers() -> list[int]:
    """The processes of Ray that answer rows, by their titles."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = place.read_text(encoding="utf-8")
        except OSError:
            continue  # ended since
        if title.startswith("ray::") and "TaskWorker" in title:
            found.append(int(place.parent.name))
    return found


def measure(rows: int, rate: float, concurrency: int) -> None:
    """Answer the rows, kill a worker after a fifth of the calls, and print what happened."""
    times: list[float] = []
    killed: list[int] = []

    def answer(_: dict[str, Any]) -> dict[str, str]:
        times.append(time.monotonic())
        if not killed and len(times) >= rows // 5 and len(pids := workers()) == 2:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])
        return {"label": "billing"}

    limited = FaultyServer(answer=answer, latency=0.2, faults=[Limit(requests=rate, burst=2)])
    with limited as server, tempfile.TemporaryDirectory() as folder:
        task = Classification(
            llm=LLM(f"{server.base_url}#m", cache=folder), labels=["billing", "delivery"], mode="json"
        )
        dataset = ray.data.from_items([{"id": n, "text": f"message {n}"} for n in range(rows)], override_num_blocks=2)
        limit = RateLimit(requests=60 * rate)
        answers = ask(
            task, dataset, workers=2, rate_limit=limit, concurrency=concurrency, columns={"text": "text"}
        ).take_all()
        found = sorted(answers, key=lambda row: row["row"])
        lost = rows - len([row for row in found if row["error"] is None])
        in_order = [row["id"] for row in found] == list(range(rows))
        counters = server.counters
    took = times[-1] - times[0]
    print(
        f"{rows} rows at {rate:g}/s, {len(killed)} worker killed: {took:.1f} s, {took * rate / rows:.2f} × the ideal, "
        f"{counters.refused / rows:.1%} refused, {counters.ok - rows} asked twice, {lost} lost, in order: {in_order}"
    )


def main() -> None:
    """Start a cluster of two machines in this one, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second that the endpoint allows")
    parser.add_argument("--concurrency", type=int, default=16, help="calls in flight of one worker")
    given = parser.parse_args()
    if socket.if_nameindex() != [(1, "lo")]:
        parser.error("run this in its own network namespace: .ci/namespace")
    head = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=2, object_store_memory=STORE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        measure(given.rows, given.rate, given.concurrency)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
