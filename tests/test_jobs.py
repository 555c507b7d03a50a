"""Jobs: rows and their items in one file, processed by runners that may die."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import programs
import pytest
from clock import Clock

from llmtasker import LLM, Classification, InputField, Item, OutputField, Signature, Task
from llmtasker.errors import ConfigurationError, InputError
from llmtasker.jobs.error_trace import error_trace
from llmtasker.jobs.job_file import JobFile
from llmtasker.jobs.job_queue import LEASE, JobQueue
from llmtasker.jobs.job_rows import DoneRow
from llmtasker.jobs.job_runner import JobRunner, NumberedInput
from llmtasker.jobs.job_state import AFTER, MOVES, Job
from llmtasker.jobs.pipeline_work import work_on
from llmtasker.jobs.row_work import RowWork
from llmtasker.testing import FakeTransport
from llmtasker.wire.request import Request
from llmtasker.wire.request_reader import last_user_text

DAY = 86_400.0


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    team: Literal["billing", "delivery", "other"] = OutputField()


def answering(request: Request) -> dict[str, str]:
    return {"team": "billing" if "charged" in last_user_text(request) else "delivery"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobQueue]:
    with JobQueue(tmp_path / "jobs.db", clock=clock) as opened:
        yield opened


@pytest.fixture
def task() -> Task[Triage]:
    return Task(Triage, llm=LLM(transport=FakeTransport(answering), cache=False))


def created(store: JobQueue, task: Task[Any], texts: list[str], **more: Any) -> Job:
    about = {"owner": "ann", "task": "triage", "identity": work_on(task).whole, **more}
    rows = [({"id": str(number), "text": text}, {"message": text}, None) for number, text in enumerate(texts)]
    return store.create(about, rows, keep=DAY)


def ran(store: JobQueue, task: Task[Any], *, until: Callable[[], bool], **options: Any) -> None:
    """Let a runner work until a condition holds."""

    async def run() -> None:
        runner = JobRunner(store, lambda _: task, **options)
        working = asyncio.create_task(runner.run())
        async with asyncio.timeout(30):
            while not until():  # noqa: ASYNC110 - a database sends no events
                await asyncio.sleep(0.005)
        runner.stop()
        await asyncio.wait_for(working, 30)

    asyncio.run(run())


def state(store: JobQueue, job: Job) -> str:
    found = store.get(job.id)
    return "gone" if found is None else found.state


# ── a job ──


def test_a_job_is_done_row_by_row(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["I was charged twice", "Where is it?", "charged again"])
    assert (job.state, job.rows, job.done) == ("queued", 3, 0)
    ran(store, task, until=lambda: state(store, job) == "done")
    done = store.get(job.id)
    assert done is not None
    assert (done.rows, done.ok, done.failed, done.calls) == (3, 3, 0, 3)
    assert store.labels(job.id) == {"billing": 2, "delivery": 1}
    first = store.row(job.id, 1)
    assert first is not None
    assert first.row == {"id": "0", "text": "I was charged twice"}
    assert first.item is not None
    assert (first.item["output"], first.item["attempts"]) == ({"team": "billing"}, 1)


def test_a_row_that_could_not_be_read_is_never_asked(store: JobQueue, task: Task[Triage]) -> None:
    broken: Item[Any] = Item(input={}, error=InputError("line 3 has 1 cell"))
    about = {"owner": "ann", "task": "triage", "identity": work_on(task).whole}
    job = store.create(about, [({"text": "a"}, {"message": "a"}, None), ({"text": "x"}, {}, broken)], keep=DAY)
    ran(store, task, until=lambda: state(store, job) == "done")
    assert store.move(job.id, "retry")
    ran(store, task, until=lambda: state(store, job) == "done")
    done = store.get(job.id)
    assert done is not None
    assert (done.ok, done.failed, done.calls) == (1, 1, 1)
    (failed,) = store.rows(job.id, only="failed")
    assert failed.item is not None
    assert failed.item["error"]["message"] == "line 3 has 1 cell"


def test_failed_rows_are_asked_again(store: JobQueue) -> None:
    broken = [True]

    def answer(request: Request) -> Any:
        return "nonsense" if broken[0] and "x" in last_user_text(request) else {"team": "other"}

    task = Task(Triage, llm=LLM(transport=FakeTransport(answer), cache=False), attempts=1)
    job = created(store, task, ["a", "x", "b"])
    ran(store, task, until=lambda: state(store, job) == "done")
    assert [row.number for row in store.rows(job.id, only="failed")] == [2]
    broken[0] = False
    assert store.move(job.id, "retry")
    assert [row.number for row in store.rows(job.id, only="waiting")] == [2]
    ran(store, task, until=lambda: state(store, job) == "done")
    done = store.get(job.id)
    assert done is not None
    assert (done.ok, done.failed) == (3, 0)


@pytest.mark.parametrize("action", MOVES)
@pytest.mark.parametrize("before", ["queued", "running", "paused", "done", "cancelled", "failed"])
def test_what_may_be_done_in_which_state(
    store: JobQueue, task: Task[Triage], tmp_path: Path, action: str, before: Any
) -> None:
    job = created(store, task, ["a"])
    with sqlite3.connect(tmp_path / "jobs.db") as database:
        database.execute("UPDATE jobs SET state = ?", (before,))
    database.close()
    assert store.move(job.id, action) is (before in MOVES[action])
    assert state(store, job) == (AFTER[action] if before in MOVES[action] else before)


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_job_that_is_stopped_keeps_its_finished_rows(store: JobQueue, task: Task[Triage], action: str) -> None:
    job = created(store, task, [f"row {number}" for number in range(400)])

    def stopped() -> bool:
        found = store.get(job.id)
        assert found is not None
        if found.done >= 20 and found.state == "running":
            store.move(job.id, action)
        return found.state == AFTER[action]

    slow = Task(Triage, llm=LLM(transport=FakeTransport(answering, latency=0.01), cache=False))
    ran(store, slow, until=stopped, concurrency=2)
    kept = len(store.rows(job.id, only="ok", limit=1000))
    assert 20 <= kept < 400
    if action == "pause":
        assert store.move(job.id, "resume")
        ran(store, task, until=lambda: state(store, job) == "done")
        done = store.get(job.id)
        assert done is not None
        assert done.ok == 400


def test_a_job_of_a_dead_worker_is_resumed(store: JobQueue, task: Task[Triage], clock: Clock) -> None:
    job = created(store, task, ["a", "b"])
    assert store.claim("dead") is not None
    assert store.claim("other") is None
    clock.now += LEASE + 1
    ran(store, task, until=lambda: state(store, job) == "done")
    assert not store.beat(job.id, "dead")


def test_a_stopped_runner_leaves_the_job_to_others(store: JobQueue, task: Task[Triage]) -> None:
    slow = Task(Triage, llm=LLM(transport=FakeTransport(answering, latency=0.01), cache=False))
    job = created(store, slow, [f"row {number}" for number in range(300)])

    def some() -> bool:
        found = store.get(job.id)
        return found is not None and found.done > 5

    ran(store, slow, until=some, concurrency=2)
    assert state(store, job) == "queued"


def test_a_changed_task_does_not_continue(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["a"])
    other = task.with_(instructions="Something else.")
    ran(store, other, until=lambda: state(store, job) == "failed")
    found = store.get(job.id)
    assert found is not None
    assert found.reason is not None
    assert "the task was changed" in found.reason


def test_a_budget_stops_a_job(store: JobQueue) -> None:
    from llmtasker import Prices

    llm = LLM(transport=FakeTransport(answering), cache=False, prices=Prices(input=1000, output=1000), max_tokens=10)
    task = Task(Triage, llm=llm)
    job = created(store, task, [f"row {number}" for number in range(50)], budget=0.5)
    ran(store, task, until=lambda: state(store, job) == "done")
    done = store.get(job.id)
    assert done is not None
    assert done.failed > 0
    assert done.cost is not None
    assert done.cost <= 0.5
    assert store.spent("ann") == pytest.approx(done.cost)


# ── the store ──


def test_a_repeated_request_is_the_same_job(store: JobQueue, task: Task[Triage]) -> None:
    about = {"owner": "ann", "task": "triage", "identity": "i"}
    first = store.create(about, [({}, {}, None)], keep=DAY, repeated="k1")
    assert store.create(about, [({}, {}, None)] * 2, keep=DAY, repeated="k1") == first
    other = store.create({**about, "owner": "bob"}, [({}, {}, None)], keep=DAY, repeated="k1")
    assert other.id != first.id


def test_a_job_belongs_to_its_owner(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["a"])
    assert store.get(job.id, "ann") == job
    assert store.get(job.id, "bob") is None
    assert store.jobs("bob") == []
    assert store.jobs("ann") == [job]


def test_jobs_expire(store: JobQueue, task: Task[Triage], clock: Clock) -> None:
    job = created(store, task, ["a"])
    assert store.expire() == 0
    clock.now += DAY + 1
    assert store.expire() == 1
    assert (store.get(job.id), store.rows(job.id)) == (None, [])


def test_a_creation_that_fails_leaves_nothing(store: JobQueue) -> None:
    def rows() -> Iterator[Any]:
        yield {"a": 1}, {}, None
        raise ConfigurationError("the file is cut")

    with pytest.raises(ConfigurationError, match="the file is cut"):
        store.create({"owner": "ann", "task": "t", "identity": ""}, rows(), keep=DAY)
    assert store.jobs("ann") == []
    assert store.states() == {}


def test_a_creation_that_was_killed_does_not_hold_its_key(tmp_path: Path, store: JobQueue, clock: Clock) -> None:
    """The rows of a process that died are removed; the same request creates the job."""
    about = {"owner": "ann", "task": "t", "identity": ""}
    script = f"""
import os, signal
from llmtasker.jobs.job_file import JobFile
from llmtasker.jobs.job_queue import JobQueue
def rows():
    for number in range(1_200):
        yield {{"a": number}}, {{"a": number}}, None
    os.kill(os.getpid(), signal.SIGKILL)
JobQueue({str(tmp_path / "jobs.db")!r}, clock=lambda: {clock.now}).create({about!r}, rows(), keep=1e6, repeated="k")
"""
    assert programs.run("-c", script).returncode == -signal.SIGKILL
    assert store.states() == {"new": 1}
    job = store.create(about, [({}, {}, None)], keep=DAY, repeated="k")
    assert (job.state, job.rows) == ("queued", 1)
    clock.now += 1_000
    assert store.expire() == 1
    assert store.states() == {"queued": 1}
    with sqlite3.connect(tmp_path / "jobs.db") as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (1,)
    database.close()


def test_of_two_equal_requests_at_once_one_job_is_made(store: JobQueue) -> None:
    about = {"owner": "ann", "task": "t", "identity": ""}
    faster = list[Job]()

    def rows() -> Iterator[Any]:
        yield {"a": 1}, {}, None
        faster.append(store.create(about, [({}, {}, None)], keep=DAY, repeated="k"))

    assert store.create(about, rows(), keep=DAY, repeated="k") == faster[0]
    assert [job.rows for job in store.jobs("ann")] == [1]


def test_a_job_that_is_deleted_while_it_is_created_is_an_error(store: JobQueue, clock: Clock) -> None:
    def rows() -> Iterator[Any]:
        yield {"a": 1}, {}, None
        clock.now += 1_000
        store.expire()
        yield {"a": 2}, {}, None

    with pytest.raises(ConfigurationError, match="send fewer at once"):
        store.create({"owner": "ann", "task": "t", "identity": ""}, rows(), keep=DAY)
    assert store.states() == {}


def test_who_reads_does_not_wait_for_one_that_writes(tmp_path: Path) -> None:
    found = list[Any]()
    file = JobFile(tmp_path / "jobs.db")
    reading = threading.Thread(target=lambda: found.extend(file.read("SELECT count(*) FROM jobs")))
    with file.writing():
        reading.start()
        reading.join(10)
        assert found == [(0,)]
    file.close()


def test_the_uploaded_file_comes_out_as_it_went_in(store: JobQueue, tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "a.csv").write_bytes(content)
    about = {"owner": "ann", "task": "t", "identity": ""}
    job = store.create(about, [({}, {}, None)], keep=DAY, upload=tmp_path / "a.csv")
    assert b"".join(store.upload(job.id)) == content


@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        *(("ÉTÉ", [1, 3, 4, 5]), ("ete", [1, 3, 4, 5]), ("été chaud", [1]), ("ETE CHAUD", [1]), ("l'ete", [3, 4])),
        *(("L’été", [3, 4]), ("e\u0301te\u0301", [1, 3, 4, 5]), ("e", [1, 3, 4, 5, 6]), ("100%", [2]), ("SUR", [2])),
        *(("strasse", [6]), ("Straße", [6]), ("cœur", [7]), ("日本", [8]), ("_", []), ("\ud800", [])),
        *(("\u0301", []), ("\u0300\u0327", []), ("", [1, 2, 3, 4, 5, 6, 7, 8])),
    ],
)
def test_rows_are_found_by_their_words(store: JobQueue, task: Task[Triage], search: str, numbers: list[int]) -> None:
    """Regardless of case and accents, in the text and in the search."""
    texts = ["un été chaud", "100% sûr", "L'ÉTÉ", "l’e\u0301te\u0301", "ETE", "STRASSE", "Cœur", "日本"]
    job = created(store, task, texts)
    assert [row.number for row in store.rows(job.id, search=search)] == numbers


def test_a_file_of_an_earlier_version_is_searched_without_accents_too(tmp_path: Path, task: Task[Triage]) -> None:
    path = tmp_path / "old.db"
    with JobQueue(path) as before:
        job = created(before, task, ["un été chaud", "rien"])
        with before.file.writing() as database:
            database.execute("UPDATE rows SET words = 'un été chaud' WHERE number = 1")
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 1")
    database.close()
    for _ in range(2):
        with JobQueue(path) as now:
            assert [row.number for row in now.rows(job.id, search="Ete")] == [1]


def test_the_indexes_of_an_earlier_version_are_made_again(tmp_path: Path) -> None:
    """Whichever of them has another definition, or is missing."""
    query, path = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name", tmp_path / "old.db"
    JobFile(path).close()
    database = sqlite3.connect(path)
    fresh = database.execute(query).fetchall()
    names = [name for name, sql in fresh if sql]
    assert len(names) > 4
    for name in names[1:]:
        database.execute(f"DROP INDEX {name}")
        database.execute(f"CREATE INDEX {name} ON rows (job, number)")
    database.execute(f"DROP INDEX {names[0]}")
    database.commit()
    for _ in range(2):
        JobFile(path).close()
        assert database.execute(query).fetchall() == fresh
    database.close()


def test_an_earlier_version_is_renewed_while_others_write(
    tmp_path: Path, task: Task[Triage], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.db"
    with JobQueue(path) as before:
        job = created(before, task, ["été"] * 1_200)
        with before.file.writing() as database:
            database.execute("UPDATE rows SET words = 'été'")
            database.execute("PRAGMA user_version = 1")
        parts, begin = list[int](), JobFile.writing

        def writing(self: JobFile) -> Any:
            if self is not before.file:
                with begin(before.file) as database:  # it would wait forever if the other had not ended its part
                    query = "SELECT count(*) FROM rows WHERE words = 'ete'"
                    parts.append(database.execute(query).fetchone()[0])
            return begin(self)

        monkeypatch.setattr(JobFile, "writing", writing)
        with JobQueue(path) as now:
            assert parts == [0, 0, 500, 1_000]
            assert len(now.rows(job.id, search="ete", limit=2_000)) == 1_200


def test_a_correction_is_of_the_row_as_it_is_then(
    tmp_path: Path, task: Task[Triage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer, or another correction, that arrives just before it is written is not lost."""
    with JobQueue(tmp_path / "jobs.db") as store, JobQueue(tmp_path / "jobs.db") as other:
        job = created(store, task, ["a"])
        before, begin = list[Any](), JobFile.writing
        store.on_correction = lambda _, row, correction: before.append((row.item is not None, row.correction))
        query = "UPDATE rows SET state = 'ok', item = ?, correction = ? WHERE job = ?"
        kept = '{"output": {"team": "billing", "quote": "b"}}'

        def writing(self: JobFile) -> Any:
            with begin(other.file) as database:
                database.execute(query, (kept, '{"quote": "c"}', job.id))
            return begin(self)

        monkeypatch.setattr(JobFile, "writing", writing)
        store.correct(job.id, 1, {"quote": "a"})
        assert before == [(True, {"quote": "c"})]
        assert store.labels(job.id) == {"billing": 1}


def test_how_sure_a_row_is_follows_from_its_whole_answer(tmp_path: Path) -> None:
    """With several labels: that these are right and the others are not, because the surest label alone shows little."""
    voted = [["a", "b"], ["a"], ["a", "b"], ["a", "c"], ["a", "b"]]
    calls = iter(voted * 9)
    llm = LLM(transport=FakeTransport(lambda _: {"labels": next(calls)}), cache=False, max_concurrency=1)
    several: Any = Classification(llm=llm, labels=["a", "b", "c"], multi_label=True, confidence="votes")
    with JobQueue(tmp_path / "jobs.db") as store:
        about = {"owner": "ann", "task": "several", "identity": work_on(several).whole}
        job = store.create(about, [({"text": "x"}, {"text": "x"}, None)], keep=DAY)
        ran(store, several, until=lambda: state(store, job) == "done")
        (row,) = store.rows(job.id)
        assert (row.item or {})["confidence"] == pytest.approx({"a": 1.0, "b": 0.6, "c": 0.2})
        assert row.sure == pytest.approx(1.0 * 0.6 * (1 - 0.2))
        assert [one.sure for one in store.open_rows(job.id, "measured", 9)] == [row.sure]
        assert store.unsure(job.id) == len(store.rows(job.id, only="unsure")) == 1


def test_pages_continue_after_a_number(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, list("abcde"))
    assert [row.number for row in store.rows(job.id, limit=2)] == [1, 2]
    assert [row.number for row in store.rows(job.id, after=2, limit=2)] == [3, 4]
    assert [row.number for row in store.all_rows(job.id)] == [1, 2, 3, 4, 5]
    assert [row.number for row in store.rows(job.id, before=5, limit=2)] == [3, 4]
    assert [row.number for row in store.rows(job.id, before=3, limit=5)] == [1, 2]


def test_a_corrected_row_is_found_by_its_new_label(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["I was charged twice", "Where is it?"])
    ran(store, task, until=lambda: state(store, job) == "done")
    assert store.correct(job.id, 1, {"team": "other"})
    assert store.labels(job.id) == {"delivery": 1, "other": 1}
    assert (store.corrected(job.id), [row.number for row in store.rows(job.id, label="other")]) == (1, [1])
    assert store.correct(job.id, 1, None)
    assert (store.corrected(job.id), store.labels(job.id)) == (0, {"billing": 1, "delivery": 1})


def test_a_correction_made_before_the_answer_stays_the_label(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["I was charged twice", "Where is it?"])
    assert store.correct(job.id, 1, {"team": "other"})
    ran(store, task, until=lambda: state(store, job) == "done")
    assert store.labels(job.id) == {"delivery": 1, "other": 1}
    assert store.move(job.id, "retry", only="corrected")
    assert store.labels(job.id) == {"delivery": 1, "other": 1}


def test_the_pace_of_a_job_is_counted_by_the_minute(store: JobQueue, task: Task[Triage], clock: Clock) -> None:
    job = created(store, task, ["a", "b", "c"])
    for number, minutes in ((1, 0), (2, 2), (3, 0)):
        clock.now += 60 * minutes
        store.put(job, [DoneRow(number, Item(input={}, error=InputError("no")), '{"error": null}')])
    assert store.pace(job.id, minutes=4) == [0, 1, 0, 2]
    store.delete(job.id)
    assert store.pace(job.id) == [0] * 10


def test_a_row_that_was_not_asked_costs_nothing(store: JobQueue) -> None:
    """One empty text does not make the price of a job unknown; a call whose price is not known does."""
    unasked: Item[Any] = Item(input={}, error=InputError("empty"))
    unknown: Item[Any] = Item(input={}, attempts=1)
    for last, cost in ((unasked, 0.5), (unknown, None)):
        job = store.create({"owner": "ann", "task": "t"}, [({}, {"text": "a"}, None)] * 2, keep=DAY)
        store.put(job, [DoneRow(1, Item(input={}, cost=0.5, attempts=1), "{}"), DoneRow(2, last, "{}")])
        done = store.get(job.id)
        assert done is not None
        assert done.cost == cost


def test_a_correction_is_kept_and_taken_back(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["a", "b"])
    assert store.correct(job.id, 2, {"team": "other"})
    assert not store.correct(job.id, 7, {"team": "other"})
    assert [row.correction for row in store.rows(job.id, only="corrected")] == [{"team": "other"}]
    assert store.correct(job.id, 2, None)
    assert store.rows(job.id, only="corrected") == []


def test_other_files_are_refused_untouched(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE mine (a)")
    database.close()
    text = tmp_path / "a.txt"
    text.write_text("not a database, but long enough to look at " * 20, encoding="utf-8")
    for path in (foreign, text, tmp_path):
        before = None if path.is_dir() else path.read_bytes()
        with pytest.raises(ConfigurationError):
            JobQueue(path)
        assert before is None or path.read_bytes() == before


def test_the_file_is_private(store: JobQueue, tmp_path: Path) -> None:
    assert (tmp_path / "jobs.db").stat().st_mode & 0o777 == 0o600


# ── the work on a row ──


def test_a_kept_answer_is_judged_again(task: Task[Triage]) -> None:
    work = RowWork(task)
    text = work.kept(task("I was charged"))
    read = work.read(text, {"message": "I was charged"})
    assert read is not None
    assert read.output == Triage(message="I was charged", team="billing")
    assert work.read(text.replace("billing", "sales"), {"message": "x"}) is None


def test_the_identity_is_of_input_and_request(task: Task[Triage]) -> None:
    work, same = RowWork(task), RowWork(task.with_())
    assert work.identity({"message": "a"}) == same.identity({"message": "a"})
    assert work.identity({"message": "a"}) != work.identity({"message": "b"})
    other = RowWork(task.with_(instructions="Another."))
    assert work.identity({"message": "a"}) != other.identity({"message": "a"})
    assert NumberedInput({"message": "a"}, 3).number == 3


def test_a_row_that_two_workers_answered_counts_once(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["a"])
    store.claim("one")
    for _ in range(2):
        store.put(job, [DoneRow(1, Item(input={}, error=InputError("no"), cost=0.5), '{"error": null}')])
    found = store.get(job.id)
    assert found is not None
    assert (found.done, found.cost, store.spent(job.owner)) == (1, 1.0, 1.0)


def test_a_worker_ends_only_its_own_job(store: JobQueue, task: Task[Triage]) -> None:
    job = created(store, task, ["a"])
    store.claim("one")
    store.move(job.id, "cancel")
    store.fail(job.id, "one", "too late")
    assert state(store, job) == "cancelled"


def test_a_trace_names_places_and_no_values() -> None:
    try:
        int("a private text")
    except ValueError as error:
        trace = error_trace(ExceptionGroup("private", [error]))
    assert "ValueError at test_jobs.py:" in trace
    assert "private" not in trace


def test_a_trace_has_the_message_of_a_wrong_setting_but_not_what_the_code_of_a_user_passed() -> None:
    with pytest.raises(ConfigurationError) as raised:
        LLM("a private text")
    assert "private" not in error_trace(raised.value)
    within = raised.tb.tb_next
    assert "ConfigurationError: it is not clear where the model" in error_trace(raised.value.with_traceback(within))
