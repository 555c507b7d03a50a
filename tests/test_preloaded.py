"""An app that was created before a fork, as with `gunicorn --preload`: each process has its own connections."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import programs
import pytest

from llmtasker.api.spending import Spending
from llmtasker.jobs.job_queue import JobQueue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

WRITERS = """
import os, sqlite3, sys, threading, warnings
from pathlib import Path
from llmtasker.jobs.job_queue import JobQueue
warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
path, counted, stopping = Path(sys.argv[1]), [0], threading.Event()
queue = JobQueue(path)

def write():
    while not stopping.is_set():
        queue.spend({"thread": 1})
        counted[0] += 1

thread = threading.Thread(target=write)
thread.start()
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for _ in range(50):
                queue.spend({"child": 1})
                assert queue.spent("child") > 0
            queue.close()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
    for _ in range(50):
        queue.spend({"parent": 1})
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stopping.set()
thread.join()
assert queue.spent("thread") == counted[0]
print(codes, queue.spent("child"), queue.spent("parent"))
queue.close()
print(sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone())
"""

APP = """
import os, sys
from pathlib import Path
from served import ANN, KEYS, Served
from llmtasker import LLM, Classification, Prices
from llmtasker.api import ServerSettings, create_app
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.testing import FakeTransport
from llmtasker.ui import add_pages
from llmtasker.ui.sessions import Sessions

llm = LLM(transport=FakeTransport(lambda _: {"label": "a"}), cache=False, prices=Prices(input=1.0, output=1.0))
task = Classification(llm=llm, labels=["a", "b"])
app = create_app({"triage": task}, ServerSettings(jobs=Path(sys.argv[1]), keys=KEYS))
add_pages(app)
queue = app.state.server.queue
sessions = Sessions(queue.file)
queue.spend({"ann": 1.0})  # the parent has its connections open

def serve():
    served = Served(app)
    for number in range(5):
        job = served.client.post("/tasks/triage/jobs", json={"rows": [f"text {number}"] * 10}, headers=ANN).json()
        assert served.client.post("/tasks/triage", json={"text": "text 0"}, headers=ANN).json()["cost"] > 0
        assert served.done(job["id"])["ok"] == 10
    assert sessions.key_of(sessions.begin("hash")) == "hash"
    served.close()

children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            serve()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
serve()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
with JobQueue(sys.argv[1]) as queue:
    jobs = queue.jobs("ann", limit=1000)
    one = jobs[0].cost / 10
    print(len(jobs), sum(job.ok for job in jobs), round((queue.spent("ann") - 1.0) / one, 6))
"""


def printed(code: str, file: Path) -> str:
    ended = programs.run("-c", code, file, cwd=Path(__file__).parent)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return str(ended.stdout)


def test_nothing_is_lost_where_processes_write_after_a_fork(tmp_path: Path) -> None:
    assert printed(WRITERS, tmp_path / "jobs.db") == "[0, 0, 0, 0, 0] 250.0 250.0\n('ok',)\n"


def test_an_app_that_was_made_before_a_fork(tmp_path: Path) -> None:
    assert printed(APP, tmp_path / "jobs.db") == "[0, 0, 0]\n20 200 220.0\n"


def test_what_a_parent_has_counted_is_written_by_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JobQueue(tmp_path / "jobs.db") as queue:
        spending = Spending(queue, delay=60)

        async def count(cost: float) -> None:
            spending.add("ann", cost)

        async def count_and_close(cost: float) -> None:
            await count(cost)
            await spending.close()

        asyncio.run(count(1.0))
        monkeypatch.setattr(os, "getpid", lambda: 4_000_001)
        asyncio.run(count_and_close(2.0))
        assert queue.spent("ann") == 2.0
