"""A task on Ray, Dask, Spark and joblib: real ones, on this machine. `make test-scale` installs them and runs this.

Ray and Spark listen on all interfaces without a password, so this runs in a network of its own (.ci/namespace).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer

from llmtasker import LLM, Classification, RateLimit, Task, pipeline
from llmtasker.errors import ConfigurationError
from llmtasker.integrations.partitions import PartitionTask
from llmtasker.integrations.ray import ask
from llmtasker.testing import FakeTransport, FaultyServer
from llmtasker.testing.faults import Limit

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # warnings of Ray, Dask and Spark
    pytest.mark.filterwarnings("error:::llmtasker"),
]
KEY = "sk-sentinel-41d7"
STORE = 150 * 2**20  # bytes; Ray would take a third of the memory

# A class as in a notebook: in `__main__`, which no other process can import.
NOTEBOOK = """
from typing import Literal
from llmtasker import InputField, OutputField, Signature

class Triage(Signature):
    "Route a customer message."
    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "charged", "delivery": "parcel"})
    priority: int = OutputField(default=1)
"""


def notebook() -> Any:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(NOTEBOOK, "notebook", "exec", dont_inherit=True), namespace)  # noqa: S102 - as a notebook does
    return namespace["Triage"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    def answer(body: dict[str, Any]) -> Any:
        number = int(body["messages"][-1]["content"].split()[-1])
        return {"team": "billing" if number % 2 else "delivery", "priority": number}

    with FaultyServer(answer=answer, keep=False) as server:
        yield server.base_url


@pytest.fixture
def triage(endpoint: str) -> Task[Any]:
    return Task(notebook(), llm=LLM(f"{endpoint}#m", cache=False), mode="json")


def messages(count: int) -> list[dict[str, Any]]:
    """Rows; number 7 lacks its text."""
    return [{"id": n, "message": None if n == 7 else f"message {n}"} for n in range(count)]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    assert socket.if_nameindex() == [(1, "lo")], "run this in a network of its own: .ci/namespace, make test-scale"
    import ray
    from ray.cluster_utils import Cluster
    from ray.data import DataContext

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=2, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    yield ray
    ray.shutdown()
    cluster.shutdown()


def dataset_of(ray: Any, rows: list[dict[str, Any]]) -> Any:
    return ray.data.from_items(rows, override_num_blocks=2)  # by default a block, and so a task, for each row


def in_order(dataset: Any) -> list[dict[str, Any]]:
    return sorted(dataset.take_all(), key=lambda row: row["row"])


def check(found: list[dict[str, Any]]) -> None:
    """Check the answers to `messages`, of which number 7 lacks its text."""
    assert [row["id"] for row in found] == list(range(len(found)))
    assert [row["id"] for row in found if row["error"]] == [7]
    assert found[7]["team"] is None
    good = [row for row in found if row["id"] != 7]
    assert all(row["team"] == ("billing" if row["id"] % 2 else "delivery") for row in good)
    assert all(row["priority"] == row["id"] for row in good)


COLUMNS = ["id", "message", "team", "priority", "error"]


def test_a_class_of_a_notebook_on_ray(ray: Any, triage: Task[Any]) -> None:
    found = in_order(ask(triage, dataset_of(ray, messages(300)), workers=2))
    assert list(found[0]) == [*COLUMNS[:2], "row", *COLUMNS[2:]]
    check(found)


def test_a_worker_without_the_key_reports_it_in_its_rows(ray: Any) -> None:
    task = Classification(llm=LLM("openai/gpt-4.1-mini", api_key=KEY, cache=False), labels=["billing", "delivery"])
    found = in_order(ask(task, dataset_of(ray, messages(5)), workers=1, columns={"text": "message"}))
    assert len(found) == 5
    assert all("OPENAI_API_KEY" in row["error"] and row["label"] is None for row in found)
    assert KEY not in str(found)


def test_a_wrong_set_up_raises_before_a_worker_starts(ray: Any, triage: Task[Any]) -> None:
    dataset = dataset_of(ray, messages(2))
    lock = threading.Lock()
    here = triage.with_(llm=LLM(transport=FakeTransport(lambda _: str(lock)), cache=False))
    other = dataset.rename_columns({"message": "body"})

    @pipeline
    async def forward(message: str) -> Any:
        return (await triage.acall(message)).value

    for words, make in {
        "no row has a column for the input 'message'; the columns are: body, id": lambda: ask(triage, other),
        "workers counts": lambda: ask(triage, dataset, workers=0),
        "no argument 'budget'": lambda: ask(triage, dataset, budget=1),  # type: ignore[call-arg]
        "can't be sent to workers": lambda: ask(here, dataset),
        "Send them a function that runs a pipeline": lambda: ask(forward, dataset),  # type: ignore[arg-type]
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            make()


def test_a_class_of_a_notebook_on_dask(triage: Task[Any]) -> None:
    import pandas
    from dask.dataframe import from_pandas
    from distributed import Client

    answer = PartitionTask(triage)
    frame = from_pandas(pandas.DataFrame(messages(60)), npartitions=4)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        answers = frame.map_partitions(answer, meta=answer(frame.head(0)))
        assert list(answers.columns) == COLUMNS
        found = answers.compute()
    assert str(found["priority"].dtype) == "Int64"
    check(found.astype(object).where(found.notna(), None).to_dict("records"))


def test_a_class_of_a_notebook_on_spark(triage: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    answer = PartitionTask(triage)
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.createDataFrame(pandas.DataFrame(messages(60)))
        answers = frame.mapInPandas(answer, answer.spark_schema(frame.schema))
        assert answers.columns == COLUMNS
        assert dict(answers.dtypes)["priority"] == "bigint"
        check([row.asDict() for row in answers.orderBy("id").collect()])
    finally:
        spark.stop()


def test_a_class_of_a_notebook_in_processes_of_joblib(triage: Task[Any]) -> None:
    from joblib import Parallel, delayed

    rows = messages(20)
    parts = Parallel(n_jobs=2)(delayed(triage.run)(rows[at : at + 5], progress=False) for at in range(0, 20, 5))
    found = [item for part in parts for item in part]
    outputs = [item.output.outputs() if item.output else {"team": None, "priority": None} for item in found]
    check([{**item.input, "error": item.error, **output} for item, output in zip(found, outputs, strict=True)])


def test_a_worker_is_killed(ray: Any) -> None:
    """No row is lost, only calls in flight are made twice (with a common cache), and all share the rate limit."""
    rows, rate, concurrency = 2_000, 20.0, 16
    times: list[float] = []
    killed: list[int] = []

    def answer(body: dict[str, Any]) -> Any:
        times.append(time.monotonic())
        if not killed and len(times) >= rows // 5 and len(pids := worker_processes()) == 2:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])
        return {"label": "billing"}

    limited = FaultyServer(answer=answer, latency=0.2, faults=[Limit(requests=rate, burst=2)])
    with limited as server, RedisServer() as redis:
        task = Classification(
            llm=LLM(f"{server.base_url}#m", cache=redis.url), labels=["billing", "delivery"], mode="json"
        )
        limit = RateLimit(requests=60 * rate)
        dataset = dataset_of(ray, [{"id": n, "message": f"message {n}"} for n in range(rows)])
        found = in_order(
            ask(task, dataset, workers=2, rate_limit=limit, concurrency=concurrency, columns={"text": "message"})
        )
        counters = server.counters
        assert len(killed) == 1
        assert [row["id"] for row in found] == list(range(rows))
        assert [row["error"] for row in found] == [None] * rows
        assert counters.refused <= 0.1 * rows
        assert rows <= counters.ok <= rows + concurrency
        # 3 % are left unused, and the share of the dead worker for 3 s. While it starts again, which takes as long
        # as the machine needs, the other has its share: so there must be rows enough for that time.
        took = times[-1] - times[0]
        assert took <= 1.1 * rows / rate, f"{took * rate / rows:.2f} × the ideal; {counters}"

        # Asking again resumes: everything is in the cache.
        again = ask(task, dataset, workers=1, columns={"text": "message"})
        assert {row["label"] for row in again.take_all()} == {"billing"}
        assert server.counters.ok == counters.ok


def worker_processes() -> list[int]:
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
