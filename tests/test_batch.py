"""The provider's batch API, against a strict stand-in on loopback; every call and every requested line is counted."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import openai
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import http, peer
from pydantic import model_validator

from llmtasker import LLM, ConfigurationError, DiskCache, InputField, OutputField, Prices, Retry, Signature, Task
from llmtasker.cache import CacheWarning, MemoryCache
from llmtasker.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    FilteredError,
    InputError,
    InvalidOutputError,
    NetworkError,
    NotFoundError,
    NotRunError,
    ServerError,
)
from llmtasker.files import BrokenRow
from llmtasker.runner.batch.job import BatchStatus
from llmtasker.runner.batch.job_store import JobStore, StoredJob
from llmtasker.testing import Body, FakeTransport, FaultyServer, Rejects, Status, last_user_text
from llmtasker.wire.batch_file import key_of, read_batch, read_line, request_line
from llmtasker.wire.completion import Completion, Usage

KEY = "sk-sentinel-0123456789"
SECRET = "Zanzibar"
NO_WAIT = Retry(attempts=3, backoff=0.0, cap=0.0)


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField()
    quote: str = OutputField()
    team: Literal["billing", "delivery"] = OutputField()

    @model_validator(mode="after")
    def quote_is_verbatim(self) -> Self:
        if self.quote not in self.message:
            raise ValueError("quote must be copied from the message")
        return self


def answer(body: dict[str, Any]) -> Any:
    """The first word as quote; for odd rows a team that does not exist, unless the answer is asked again."""
    text = last_user_text(body)
    first = next(m["content"] for m in body["messages"] if m["role"] == "user")
    if "odd" in text:
        return {"quote": "odd", "team": "nobody"}
    if "forged" in text:
        return {"quote": "never said", "team": "billing"}
    return {"quote": first.split()[0], "team": "billing" if "bill" in first else "delivery"}


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(answer) as running:
        yield running


def task_at(server: FaultyServer, *, cache: Any = True, **settings: Any) -> Task[Triage]:
    settings = {"base_url": server.base_url, "api_key": KEY, "retry": NO_WAIT, "cache": cache, **settings}
    return Task(Triage, llm=LLM("m", **settings))


def rows(count: int) -> list[str]:
    return [f"row{number} bill" if number % 2 else f"row{number} input_file" for number in range(count)]


def seen(items: Any) -> list[tuple[Any, str | None]]:
    return [(item.output, item.error.code if item.error else None) for item in items]


def records(task: Task[Any]) -> Path:
    assert isinstance(task.store, DiskCache)
    return task.store.directory / "batches"


# ── the way of a job ──


def test_the_items_are_those_of_a_run(server: FaultyServer, tmp_path: Path) -> None:
    task, inputs = task_at(server), [*rows(5), "forged"]
    job = task.submit(inputs)
    items = job.results(inputs)
    assert server.counters.requests == 0
    assert server.batches.asked_lines == 6
    assert [item.attempts for item in items] == [1] * 6
    assert all(item.usage.total and not item.cached and item.cost is None for item in items)
    plain = Task(Triage, llm=LLM("m", base_url=server.base_url, cache=tmp_path, retry=NO_WAIT), attempts=1)
    live = plain.run(inputs)
    assert seen(items) == seen(live)
    assert [(item.raw, item.usage, item.repairs) for item in items] == [
        (item.raw, item.usage, item.repairs) for item in live
    ]
    assert items[5].error is not None
    assert "copied from the message" in items[5].error.message


def test_what_is_fetched_costs_no_call_in_a_run(server: FaultyServer) -> None:
    task, inputs = task_at(server), rows(4)
    first = task.submit(inputs).results(inputs)
    again = task.run(inputs)
    assert again.outputs == first.outputs
    assert again.counts == {"ok": 4, "cached": 4}
    assert server.counters.requests == 0


def test_the_wire_is_that_of_a_call(server: FaultyServer, tmp_path: Path) -> None:
    task = task_at(server, temperature=0.0, max_tokens=99)
    task.submit(["row1 bill"]).results(["row1 bill"])
    task_at(server, temperature=0.0, max_tokens=99, cache=tmp_path).run(["row1 bill"])
    in_batch, in_call = server.bodies
    assert in_batch == in_call
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_equal_rows_are_asked_once(server: FaultyServer) -> None:
    task, inputs = task_at(server), rows(3) * 4
    items = task.submit(inputs).results(inputs)
    assert server.batches.asked_lines == 3
    assert [item.cached for item in items] == [False] * 3 + [True] * 9
    assert items[9].output == items[0].output
    assert items.attempts == 3
    assert items.usage == task_at(server, cache=MemoryCache()).run(rows(3)).usage


def test_cached_rows_and_inputs_that_do_not_fit_are_not_sent(server: FaultyServer) -> None:
    task = task_at(server)
    task.run(rows(2))
    broken = BrokenRow({"message": "row9"}, error=InputError("line 7 has 3 cells"))
    inputs = [*rows(4), {"message": 5}, broken]
    items = task.submit(inputs).results(inputs)
    assert server.batches.asked_lines == 2
    assert [item.cached for item in items] == [True, True, False, False, False, False]
    assert isinstance(items[4].error, InputError)
    assert items[5].error == broken.error


def test_nothing_is_sent_when_everything_is_cached(server: FaultyServer) -> None:
    task = task_at(server)
    task.run(rows(2))
    job = task.submit(rows(2))
    assert job.status() == BatchStatus(rows=0, done=0, failed=0, batches={})
    assert job.status().ended
    assert str(job.status()) == "0 rows: 0 done, 0 failed; batches: none needed"
    assert job.results(rows(2)).counts == {"ok": 2, "cached": 2}
    assert server.batches.uploads == 0


@pytest.mark.parametrize(
    ("limits", "batches"), [({"max_rows": 3}, 3), ({"max_bytes": 2_100}, 3), ({"max_bytes": 10}, 7), ({}, 1)]
)
def test_large_jobs_become_several_batches(server: FaultyServer, limits: dict[str, int], batches: int) -> None:
    task, inputs = task_at(server), rows(7)
    server.batches.most = limits.get("max_rows", 50_000)
    job = task.submit(inputs, **limits)
    assert (server.batches.uploads, server.batches.batches) == (batches, batches)
    assert job.status().rows == job.status().done == 7
    assert job.results(inputs).counts == {"ok": 7}
    assert server.batches.asked_lines == 7
    sizes = [len(file) for file in server.batches.files.values() if b'"method"' in file]
    assert all(size <= 2_100 for size in sizes) is (limits != {})


def test_a_generator_is_read_once_and_not_held(server: FaultyServer) -> None:
    task = task_at(server)
    job = task.submit(row for row in rows(600))
    stream = job.stream(row for row in rows(600))
    assert next(stream).ok
    assert len(list(stream)) == 599


def test_it_works_inside_a_running_event_loop(server: FaultyServer) -> None:
    async def notebook() -> Any:
        return task_at(server).submit(rows(2)).results(rows(2))

    assert asyncio.run(notebook()).counts == {"ok": 2}


# ── waiting ──


class Time:
    """A clock that moves only in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_waiting_asks_until_the_job_has_ended(server: FaultyServer) -> None:
    server.batches.polls = 3
    job, time, told = task_at(server).submit(rows(2)), Time(), list[str]()
    status = job.wait(poll=20, sleep=time.sleep, clock=time.clock, on_status=lambda s: told.append(str(s)))
    assert status.ended
    assert time.slept == [20, 20, 20]
    assert told[0] == "2 rows: 0 done, 0 failed; batches: 1 in_progress"
    assert told[-1] == "2 rows: 2 done, 0 failed; batches: 1 completed"


def test_waiting_has_an_end(server: FaultyServer) -> None:
    server.batches.polls = 1000
    job, time = task_at(server).submit(rows(2)), Time()
    assert not job.wait(poll=20, timeout=50, sleep=time.sleep, clock=time.clock).ended
    assert time.slept == [20, 20]


def test_waiting_survives_a_provider_that_is_away_for_a_while(server: FaultyServer) -> None:
    task, time = task_at(server, retry=Retry(attempts=1)), Time()
    job = task.submit(rows(2))
    server.batches.fails = [("GET batches/id", 503)] * 9
    assert job.wait(poll=5, sleep=time.sleep, clock=time.clock).ended
    assert time.slept == [5] * 9


@pytest.mark.parametrize(("timeout", "polls"), [(None, 10), (12, 3)])
def test_waiting_for_a_provider_that_stays_away_is_given_up(
    server: FaultyServer, timeout: float | None, polls: int
) -> None:
    task, time = task_at(server, retry=Retry(attempts=1)), Time()
    job = task.submit(rows(2))
    server.batches.fails = [("GET batches/id", 503)] * 20
    with pytest.raises(ServerError):
        job.wait(poll=5, timeout=timeout, sleep=time.sleep, clock=time.clock)
    assert len(time.slept) == polls - 1


def test_a_batch_that_has_ended_is_not_asked_for_again(server: FaultyServer) -> None:
    task = task_at(server)
    assert task.submit(rows(2)).status().ended
    server.batches.fails = [("GET batches/id", 500)] * 9
    assert task.batch().status().done == 2
    assert len(server.batches.fails) == 9


# ── found again ──

SUBMIT = """
import loopback, sys
loopback.guard()
from test_batch import *
server = type("At", (), {"base_url": sys.argv[1]})
print(task_at(server).submit(rows(5)).id)
"""


def test_a_job_of_another_process_is_found_again(server: FaultyServer) -> None:
    server.batches.polls = 1
    done = programs.run("-c", SUBMIT, server.base_url, cwd=Path(__file__).parent, check=True)
    task = task_at(server)
    job = task.batch(done.stdout.strip())
    assert job.id == task.batch().id == task.submit(rows(5)).id
    assert repr(job) == f"BatchJob({job.id!r}, 5 rows in 1 batch)"
    assert job.results(rows(5)).counts == {"ok": 5}
    assert (server.batches.batches, server.batches.asked_lines, server.counters.requests) == (1, 5, 0)


def test_submitting_again_gives_the_same_job(server: FaultyServer) -> None:
    server.batches.polls = 1000
    job = task_at(server).submit(rows(6))
    assert task_at(server).submit(rows(6)).id == job.id
    assert task_at(server).submit(list(reversed(rows(4)))).id == job.id
    assert server.batches.batches == 1


def test_what_has_ended_but_was_not_fetched_is_not_asked_again(server: FaultyServer) -> None:
    job = task_at(server).submit(rows(6))
    assert job.status().ended
    assert task_at(server).submit(rows(6)).id == job.id
    assert server.batches.asked_lines == 6


def test_only_new_rows_are_sent_beside_a_job_under_way(server: FaultyServer) -> None:
    task, inputs = task_at(server), rows(6)
    server.batches.polls = 2
    first = task.submit(inputs[:4])
    second = task.submit(inputs)
    assert second.id != first.id
    assert server.batches.batches == 2
    status = second.wait(sleep=lambda _: None)
    assert (status.rows, status.done, status.batches) == (6, 6, {"completed": 2})
    assert second.results(inputs).counts == {"ok": 6}
    assert server.batches.asked_lines == 6
    # Rows that the second job fetched are no longer in progress in the first.
    assert task.submit(inputs).status().rows == 0


def test_a_batch_whose_start_was_not_confirmed_is_not_started_twice(server: FaultyServer) -> None:
    task = task_at(server)
    server.batches.fails = [("POST batches", 503)]
    job = task.submit(rows(3))
    assert server.batches.batches == 1
    assert job.results(rows(3)).counts == {"ok": 3}


def test_a_submit_that_broke_off_is_resumed(server: FaultyServer) -> None:
    task = task_at(server, retry=Retry(attempts=1))
    server.batches.fails = [("POST batches", 0)]
    with pytest.raises(NetworkError):
        task.submit(rows(3))
    job = task_at(server).submit(rows(3))
    assert server.batches.batches == 1
    assert job.results(rows(3)).counts == {"ok": 3}


def test_a_file_that_was_uploaded_but_never_started_is_sent_again(server: FaultyServer) -> None:
    task = task_at(server, retry=Retry(attempts=1))
    server.batches.fails = [("GET batches", 500)]
    with pytest.raises(ServerError):
        task.submit(rows(3))
    left = task.batch()
    assert left.status().batches == {"not started": 1}
    assert left.status().ended
    assert {code for _, code in seen(left.results(rows(3)))} == {"not_run"}
    job = task.submit(rows(3))
    assert (server.batches.uploads, server.batches.batches) == (2, 1)
    assert job.results(rows(3)).counts == {"ok": 3}


def test_an_endpoint_without_a_list_of_batches_will_do(server: FaultyServer) -> None:
    server.batches.fails = [("GET batches", 404)]
    assert task_at(server).submit(rows(1)).results(rows(1)).counts == {"ok": 1}


def test_a_batch_that_the_provider_does_not_know_is_sent_again(server: FaultyServer) -> None:
    task = task_at(server)
    job = task.submit(rows(2))
    server.batches.reset()
    with pytest.raises(NotFoundError):
        job.status()
    assert task.submit(rows(2)).results(rows(2)).counts == {"ok": 2}
    assert server.batches.asked_lines == 2


def test_jobs_of_other_tasks_and_models_are_not_mixed_up(server: FaultyServer) -> None:
    task = task_at(server)
    job = task.submit(rows(1))
    other = Task(Triage, llm=LLM("another", base_url=server.base_url, retry=NO_WAIT))
    with pytest.raises(ConfigurationError, match="no batch job of Triage"):
        other.batch()
    assert other.submit(rows(1)).id != job.id
    renamed = Task(Triage.with_instructions("Route it, of another team."), llm=task.llm)
    with pytest.raises(ConfigurationError, match=f"no batch job of Triage.*; {job.id} is of a Triage with another"):
        renamed.batch()
    assert renamed.submit(rows(1)).id == renamed.batch().id != job.id
    assert task.batch().id == job.id
    store = JobStore(records(task))
    for record in store.all():
        store.save(replace(record, asks=""))  # as an earlier version wrote it
    assert task.batch().id == renamed.batch().id
    with FaultyServer() as elsewhere, pytest.raises(ConfigurationError, match="is at http"):
        task_at(elsewhere).batch(job.id)


# ── what goes wrong ──


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_what_was_answered_before_the_end_is_kept(server: FaultyServer, ending: Any) -> None:
    task, inputs = task_at(server), rows(6)
    server.batches.ending, server.batches.share = ending, 0.5
    job = task.submit(inputs)
    items = job.results(inputs)
    assert [item.ok for item in items] == [True] * 3 + [False] * 3
    assert all(isinstance(item.error, NotRunError) and item.attempts == 0 for item in items[3:])
    assert f"batch_{ending}" in str(items[3].error)
    status = job.status()
    assert (status.done, status.failed, status.batches) == (3, 3, {ending: 1})
    server.batches.ending = "completed"
    rest = task.submit(inputs)
    assert rest.id != job.id
    assert rest.results(inputs).counts == {"ok": 6, "cached": 3}
    assert server.batches.asked_lines == 6


def test_a_batch_that_is_refused_as_a_whole_says_why_and_is_sent_again(server: FaultyServer) -> None:
    task = task_at(server)
    server.batches.ending = "failed"
    job = task.submit(rows(2))
    assert "token_limit_exceeded: too many tokens are enqueued" in str(job.status())
    error = job.results(rows(2))[0].error
    assert isinstance(error, NotRunError)
    assert "is failed (token_limit_exceeded" in error.message
    server.batches.ending = "completed"
    assert task.submit(rows(2)).results(rows(2)).counts == {"ok": 2}
    assert server.batches.asked_lines == 2


def test_rows_of_a_batch_that_answered_nothing_are_sent_again_beside_the_others(server: FaultyServer) -> None:
    task, inputs = task_at(server), rows(4)
    first = task.submit(inputs, max_rows=2)
    server.batches.ending = "failed"
    with openai.OpenAI(base_url=server.base_url, api_key=KEY) as client:
        assert client.batches.retrieve("batch_1").status == "failed"
    server.batches.ending, server.batches.polls = "completed", 2
    second = task.submit(inputs)
    assert second.id != first.id
    assert server.batches.batches == 3
    assert {str(item.error).split(":")[0] for item in second.results(inputs)} == {"not answered yet"}
    second.wait(sleep=lambda _: None)
    assert second.results(inputs).counts == {"ok": 4}
    assert server.batches.asked_lines == 4


def test_a_job_is_cancelled(server: FaultyServer) -> None:
    server.batches.polls, server.batches.share = 1000, 0.5
    job = task_at(server).submit(rows(4), max_rows=2)
    status = job.cancel()
    assert status.ended
    assert status.batches == {"cancelled": 2}
    assert job.cancel() == status
    assert job.results(rows(4)).counts == {"ok": 2, "not_run": 2}


def test_a_batch_that_ends_while_it_is_cancelled_is_not_an_error(server: FaultyServer) -> None:
    server.batches.polls = 1
    job = task_at(server).submit(rows(2))
    server.batches.fails = [("POST batches/id/cancel", 400)]
    assert job.cancel().ended


def test_a_row_that_is_not_answered_yet_reports_it(server: FaultyServer) -> None:
    server.batches.polls = 2
    task = task_at(server)
    job = task.submit(rows(2))
    items = job.results(rows(2))
    assert items.counts == {"not_run": 2}
    assert "is in_progress" in str(items[0].error)
    assert job.wait(sleep=lambda _: None).ended
    assert job.results(rows(2)).counts == {"ok": 2}


def test_a_row_of_no_batch_reports_it(server: FaultyServer) -> None:
    job = task_at(server).submit(rows(2))
    items = job.results([*rows(2), "another"])
    assert items.counts == {"ok": 2, "not_run": 1}
    assert "in no batch of the job" in str(items[2].error)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, None, ServerError),
        (400, None, BadRequestError),
        (400, "content_filter", FilteredError),
        (401, None, AuthenticationError),
        (200, "not json", BadResponseError),
    ],
)
def test_an_error_belongs_to_its_row(server: FaultyServer, status: int, code: str | None, kind: type) -> None:
    fault = Body("no JSON", when="row1 ") if code == "not json" else Status(status, code=code, when="row1 ")
    server.faults = [fault]
    task = task_at(server)
    job = task.submit(rows(3))
    items = job.results(rows(3) + rows(2)[1:])
    assert items.counts == {"ok": 3 - 1, kind.code: 2}
    assert type(items[1].error) is kind
    assert [item.attempts for item in items] == [1, 1, 1, 0]
    assert (job.status().done, job.status().failed) == ((3, 0) if status == 200 else (2, 1))
    server.faults = []
    assert task.submit(rows(3)).results(rows(3)).counts == {"ok": 3, "cached": 2}
    assert server.batches.asked_lines == 4


def test_what_the_endpoint_does_not_take_is_left_out_next_time(server: FaultyServer) -> None:
    server.faults = [Rejects({"max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."})]
    task = task_at(server, max_tokens=50)
    assert task.submit(rows(2)).results(rows(2)).counts == {"bad_request": 2}
    assert task.submit(rows(2)).results(rows(2)).counts == {"ok": 2}
    assert "max_completion_tokens" in server.bodies[-1]


def spoilt(content: bytes) -> bytes:
    """The first line twice, the second unreadable, strangers and blanks between, the last one cut."""
    lines = content.splitlines(keepends=True)
    stranger = request_line("0" * 64, "/v1", b"{}")
    return lines[0] * 2 + b"{oops\n\n[]\n" + stranger + b"".join(lines[2:])[:-40]


def test_broken_lines_cost_their_own_rows_only(server: FaultyServer) -> None:
    server.batches.spoil = spoilt
    task, inputs = task_at(server), rows(6)
    items = task.submit(inputs).results(inputs)
    assert items.counts == {"ok": 4, "bad_response": 2}
    assert [item.ok for item in items] == [False, True, True, True, False, True]  # the file is in reverse
    assert "no readable line for this row (3 lines can't be read)" in str(items[0].error)
    assert SECRET not in str(items[0].error)
    server.batches.spoil = bytes
    assert task.submit(inputs).results(inputs).counts == {"ok": 6, "cached": 4}
    assert server.batches.asked_lines == 8


@pytest.mark.parametrize(
    "spoil", [lambda content: content.rstrip(b"\n"), lambda content: content.replace(b"\n", b"\r\n")]
)
def test_line_ends_are_of_no_importance(server: FaultyServer, spoil: Callable[[bytes], bytes]) -> None:
    server.batches.spoil = spoil
    server.faults = [Status(500, when="row0 ")]
    items = task_at(server).submit(rows(3)).results(rows(3))
    assert items.counts == {"ok": 2, "server": 1}


@pytest.mark.parametrize("count", [1, 4])
def test_a_download_that_breaks_is_made_again_from_the_start(server: FaultyServer, count: int) -> None:
    server.batches.fails = [("GET files/id/content", 0), ("GET files/id/content", 503)]
    assert task_at(server).submit(rows(count)).results(rows(count)).counts == {"ok": count}


def test_a_download_that_stays_broken_is_raised(server: FaultyServer) -> None:
    job = task_at(server).submit(rows(4))
    server.batches.fails = [("GET files/id/content", 503)] * 3
    with pytest.raises(ServerError):
        job.results(rows(4))
    assert job.results(rows(4)).counts == {"ok": 4}


def test_files_that_are_gone_are_reported(server: FaultyServer) -> None:
    job = task_at(server).submit(rows(2))
    assert job.status().ended
    server.batches.files.clear()
    items = job.results(rows(2))
    assert items.counts == {"not_run": 2}
    assert "no longer has the answers" in str(items[0].error)


# ── answers that do not fit ──


def test_an_answer_that_does_not_fit_is_an_error_and_not_kept(server: FaultyServer) -> None:
    task, inputs = task_at(server), ["odd row", *rows(2), "odd row"]
    items = task.submit(inputs).results(inputs)
    assert items.counts == {"invalid": 2, "ok": 2, "cached": 1}
    assert isinstance(items[0].error, InvalidOutputError)
    assert items[0].raw == items[3].raw == '{"quote": "odd", "team": "nobody"}'
    assert [item.attempts for item in items] == [1, 1, 1, 0]
    assert server.counters.requests == 0
    task.submit(inputs)
    assert server.batches.batches == 2


def second_thought(body: dict[str, Any]) -> Any:
    """Wrong in the batch; right when asked again."""
    if len([m for m in body["messages"] if m["role"] == "user"]) > 1 or body["messages"][-1]["role"] != "user":
        return {"quote": "odd", "team": "billing"}
    return answer(body)


@pytest.mark.parametrize("prices", [None, Prices(input=1.0, output=1.0)])
def test_an_answer_that_does_not_fit_is_asked_again_where_that_is_wanted(prices: Prices | None) -> None:
    live = Prices(input=1_000.0, output=1_000.0)
    with FaultyServer(second_thought) as server:
        task, inputs = task_at(server, prices=live), ["odd row", *rows(2), "odd row"]
        items = task.submit(inputs).results(inputs, reask=True, prices=prices)
        assert server.counters.requests == 1
    assert items.counts == {"ok": 3, "invalid": 1, "cached": 1}
    assert (items[0].output.team, items[0].attempts, items[0].cached) == ("billing", 2, False)
    call = Usage(input=0, output=0)
    for body in (server.bodies[0], server.bodies[-1]):
        assert body["messages"]
    assert items[0].usage.total > items[1].usage.total + call.total
    if prices is None:
        assert items[0].cost is items[1].cost is None
    else:
        assert items[1].cost == prices.cost(items[1].usage)
        assert prices.cost(items[0].usage) < items[0].cost < live.cost(items[0].usage)  # one part at each price


def test_an_answer_that_never_fits_stays_an_error(server: FaultyServer) -> None:
    task = task_at(server)
    (item,) = task.submit(["odd row"]).results(["odd row"], reask=True)
    assert isinstance(item.error, InvalidOutputError)
    assert item.attempts == 3
    assert server.counters.requests == 2


def test_a_call_that_fails_leaves_the_answer_of_the_batch(server: FaultyServer) -> None:
    task = task_at(server)
    job = task.submit(["odd row"])
    job.status()
    server.faults = [Status(400)]
    (item,) = job.results(["odd row"], reask=True)
    assert isinstance(item.error, BadRequestError)
    assert item.raw == '{"quote": "odd", "team": "nobody"}'


# ── clients and endpoints ──


def client_of(kind: str, url: str) -> Any:
    root = url.removesuffix("/v1")
    azure: dict[str, Any] = {"azure_endpoint": root, "api_key": KEY, "api_version": "2024-10-21"}
    return {
        "OpenAI": lambda: openai.OpenAI(base_url=url, api_key=KEY),
        "AsyncOpenAI": lambda: openai.AsyncOpenAI(base_url=url, api_key=KEY),
        "OpenAI with its own http client": lambda: openai.OpenAI(
            base_url=url, api_key=KEY, http_client=openai.DefaultHttpxClient(trust_env=False)
        ),
        "AsyncOpenAI with its own http client": lambda: openai.AsyncOpenAI(
            base_url=url, api_key=KEY, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
        ),
        "AzureOpenAI": lambda: openai.AzureOpenAI(**azure),
        "AsyncAzureOpenAI of one deployment": lambda: openai.AsyncAzureOpenAI(**azure, azure_deployment="m"),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "OpenAI",
        "AsyncOpenAI",
        "OpenAI with its own http client",
        "AsyncOpenAI with its own http client",
        "AzureOpenAI",
        "AsyncAzureOpenAI of one deployment",
    ],
)
def test_the_clients_that_users_have(server: FaultyServer, kind: str) -> None:
    if "Azure" in kind:
        server.batches.url = "/chat/completions"
    client = client_of(kind, server.base_url)
    with LLM.of(client, model="m", retry=NO_WAIT) as llm:
        task = Task(Triage, llm=llm)
        job = task.submit(rows(3))
        server.batches.fails = [("GET files/id/content", 0)]
        assert job.results(rows(3)).counts == {"ok": 3}
        server.batches.fails = [("GET batches/id", 401)]
        with pytest.raises(AuthenticationError):
            task.submit(rows(4)[3:]).status()
        assert {body["model"] for body in server.bodies} == {"m"}
    if isinstance(client, openai.OpenAI):
        client.close()
    elif "own" in kind:
        from llmtasker.portal import portal

        portal().call(client.close())


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ("offline", "OfflineTransport has no batch API"),
        (LLM(transport=FakeTransport({}), cache=MemoryCache()), "FakeTransport has no batch API"),
    ],
)
def test_an_llm_without_a_batch_api_is_refused(llm: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Task(Triage, llm=llm).submit(rows(1))


def test_an_endpoint_without_a_batch_api_is_reported(server: FaultyServer) -> None:
    server.batches.fails = [("POST files", 404)]
    with pytest.raises(ConfigurationError, match=r"has no batch API: .* `run` works"):
        task_at(server).submit(rows(1))


@pytest.mark.parametrize("said", [b"<html>Welcome</html>", b"[]", b'{"status": "completed"}'])
def test_an_endpoint_that_answers_something_else_is_reported(said: bytes) -> None:
    with peer(lambda _: http(said)) as other:
        task = Task(Triage, llm=LLM("m", base_url=other.url, retry=Retry(attempts=1)))
        with pytest.raises(BadResponseError, match="has no batch API like OpenAI's"):
            task.submit(rows(1))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [("one text", "run takes many inputs"), ({"message": "m"}, "run takes many inputs"), (5, "not a int")],
)
def test_inputs_that_are_not_many_are_refused(server: FaultyServer, inputs: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        task_at(server).submit(inputs)


def test_async_inputs_are_refused(server: FaultyServer) -> None:
    async def inputs() -> Any:
        yield "row"

    with pytest.raises(ConfigurationError, match="not an async one"):
        task_at(server).submit(inputs())


def test_without_a_cache_there_is_no_place_for_answers(server: FaultyServer) -> None:
    with pytest.raises(ConfigurationError, match="needs a cache"):
        task_at(server, cache=False).submit(rows(1))


def test_another_store_keeps_the_answers_as_well(server: FaultyServer) -> None:
    store = MemoryCache()
    task = task_at(server, cache=store)
    assert task.submit(rows(2)).results(rows(2)).counts == {"ok": 2}
    assert task_at(server, cache=store).run(rows(2)).counts == {"ok": 2, "cached": 2}


def test_a_store_with_garbage_in_it_is_asked_again(server: FaultyServer) -> None:
    store = MemoryCache()
    task = task_at(server, cache=store)
    store.put(task.preview(rows(1)[0]).request.key, "garbage")
    assert task.submit(rows(1)).results(rows(1)).counts == {"ok": 1}


# ── what is noted ──


def test_no_text_and_no_key_is_recorded(server: FaultyServer) -> None:
    task = task_at(server)
    job = task.submit([f"{SECRET} bill", f"{SECRET} odd"])
    job.results([f"{SECRET} bill", f"{SECRET} odd"])
    folder = records(task)
    (path,) = folder.iterdir()
    noted = path.read_text(encoding="ascii")
    uploaded = b"".join(server.batches.files.values())
    assert SECRET.encode() in uploaded
    assert SECRET not in noted + repr(job) + str(job.status())
    assert KEY not in noted + repr(job) + uploaded.decode()
    assert json.loads(noted)["endpoint"] == server.base_url
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_files_of_a_job_are_deleted_at_the_provider(server: FaultyServer) -> None:
    task = task_at(server)
    server.faults = [Status(500, when="row1 ")]
    server.batches.polls = 1
    job = task.submit(rows(3), max_rows=2)
    job.results(rows(3))
    with pytest.raises(ConfigurationError, match="has not ended"):
        task.submit([*rows(3), "new"]).delete()
    job.wait(sleep=lambda _: None)
    job.results(rows(3))
    server.batches.files.pop(next(iter(server.batches.files)))  # one was deleted by hand
    job.delete()
    assert len(server.batches.files) == 1  # that of the other job
    assert task.batch().results([*rows(1), "new"]).counts == {"ok": 2, "cached": 1}
    assert task.run(rows(1)).counts == {"ok": 1, "cached": 1}
    with pytest.raises(ConfigurationError, match="there is no batch job"):
        task.batch(job.id)


def test_a_job_that_cannot_be_noted_is_not_started(server: FaultyServer, tmp_path: Path) -> None:
    task = task_at(server, cache=tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "batches").write_text("in the way")
    with pytest.raises(ConfigurationError, match="can't be recorded"):
        task.submit(rows(1))
    assert server.batches.batches == 0


def test_damaged_records_are_reported_and_left_alone(server: FaultyServer) -> None:
    task = task_at(server)
    task.submit(rows(1))
    for name, text in {"1": "{", "2": '{"version": 2}', "3": '{"version": 1}', "4": "[]"}.items():
        (records(task) / f"20200101-000000-0000000{name}.json").write_text(text)
    (records(task) / "notes.json").write_text("{}")
    with pytest.warns(CacheWarning, match="can't be read") as told:
        assert len(JobStore(records(task)).all()) == 1
    assert len(told) == 4
    with pytest.raises(ConfigurationError, match="another version"):
        task.batch("20200101-000000-00000002")


@pytest.mark.parametrize("job", ["../../etc/passwd", "x" * 500, "20200101-000000-0000000g"])
def test_only_ids_are_looked_up(server: FaultyServer, job: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the id of a batch job"):
        task_at(server).batch(job)


def test_an_unknown_id_lists_the_last_ones(server: FaultyServer) -> None:
    task = task_at(server)
    with pytest.raises(ConfigurationError, match="the last are: none"):
        task.batch("20200101-000000-00000000")
    job = task.submit(rows(1))
    with pytest.raises(ConfigurationError, match=job.id):
        task.batch("20200101-000000-00000000")


def test_records_come_in_order_of_time(tmp_path: Path) -> None:
    jobs = JobStore(tmp_path)
    times = [1e9 + number / 100 for number in range(20)]
    for now in reversed(times):
        jobs.save(StoredJob(id=jobs.new_id(now), created=now, task="T", endpoint="e", model="m"))
    found = jobs.all()
    assert [record.created for record in found] == times
    assert {record.id[:15] for record in found} == {"20010909-014640"}


# ── lines ──


def line_of(**fields: Any) -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": "k", **fields}).encode()


def message(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (line_of(response={"status_code": 200, "body": message("oui")}, error=None), "oui"),
        (line_of(response={"status_code": 200, "body": json.dumps(message("oui"))}), "oui"),
        (line_of(response={"body": message("oui")}), "oui"),
        (line_of(response={"status_code": 200, "body": {"error": {"message": "rate limit"}}}), "rate_limit"),
        (
            line_of(response={"status_code": 429, "body": {"error": {"message": "slow"}}}, error={"code": "x"}),
            "rate_limit",
        ),
        (line_of(response={"status_code": 200, "body": "<html>"}), "bad_response"),
        (line_of(response=None, error={"code": "batch_expired", "message": "late"}), "not_run"),
        (line_of(response=None, error={"code": "batch_cancelled", "message": ""}), "not_run"),
        (line_of(response=None, error={"code": "server_error", "message": "oh"}), "server"),
        (line_of(response=None, error="not found"), "not_found"),
        (line_of(response=None, error=None), "bad_response"),
        (line_of(response={"status_code": 200, "body": None}), "bad_response"),
        (b"", "bad_response"),
        (b"[" * 100_000, "bad_response"),
        (b"\xff\xfe", "bad_response"),
    ],
)
def test_a_line_is_read(line: bytes, wanted: str) -> None:
    found = read_line(line)
    assert (found.text if isinstance(found, Completion) else found.code) == wanted


def test_a_line_without_an_answer_shows_no_key() -> None:
    error = read_line(line_of(response=None, note=f"key {KEY}"))
    assert isinstance(error, BadResponseError)
    assert KEY not in error.message


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: st.dictionaries(
            st.sampled_from(["custom_id", "response", "error", "body", "status_code", "code"]), x
        ),
    ).map(lambda v: json.dumps(v).encode())
)
def test_no_line_raises(line: bytes) -> None:
    read_line(line)
    key = key_of(line)
    assert key is None or isinstance(key, str)


@given(st.text(max_size=20))
def test_a_request_line_is_one_line_of_json(text: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    line = request_line("f" * 64, "/v1/chat/completions", json.dumps(body).encode())
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"custom_id": "f" * 64, "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert key_of(line) == "f" * 64


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"id": "b"}, ("", 0, None, ())),
        ({"id": "b", "status": "COMPLETED", "request_counts": {"completed": 3}}, ("completed", 3, None, ())),
        ({"id": "b", "request_counts": None, "output_file_id": ""}, ("", 0, None, ())),
        ({"id": "b", "output_file_id": "f", "errors": {"data": None}}, ("", 0, "f", ())),
        ({"id": "b", "errors": {"data": [{"code": "c", "message": f"m {KEY}"}]}}, ("", 0, None, ("c: m sk-***",))),
        ({"id": "b", "errors": ["words"]}, ("", 0, None, ())),
    ],
)
def test_what_a_provider_says_of_a_batch_is_read(data: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    info = read_batch(data)
    assert (info.status, info.completed, info.output, info.reasons) == wanted


# ── the stand-in ──

GOOD = request_line("a", "/v1/chat/completions", b'{"messages": []}')


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (GOOD * 2, "duplicate_custom_id"),
        (GOOD + request_line("x" * 65, "/v1/chat/completions", b"{}"), "invalid_custom_id"),
        (request_line("a", "/chat/completions", b"{}"), "mismatched_url"),
        (b"", "empty_file"),
        (b"".join(request_line(name, "/v1/chat/completions", b"{}") for name in "abc"), "too_many_lines"),
    ],
)
def test_the_stand_in_is_as_strict_as_a_provider(server: FaultyServer, content: bytes, problem: str) -> None:
    server.batches.most = 2
    with openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        assert client.files.content(file.id).read() == content
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        batch = client.batches.retrieve(made.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [found.code for found in batch.errors.data] == [problem]
    assert server.batches.asked_lines == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.files.create(file=("in.jsonl", GOOD), purpose="assistants"),
        lambda client: client.post("/files", cast_to=object, body={}),
        lambda client: client.batches.create(
            input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="24h"
        ),
        lambda client: client.batches.create(
            input_file_id=client.files.create(file=("in.jsonl", GOOD), purpose="batch").id,
            endpoint="/v1/embeddings",
            completion_window="24h",
        ),
    ],
)
def test_the_stand_in_refuses_what_a_provider_refuses(server: FaultyServer, call: Callable[[Any], Any]) -> None:
    with (
        openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.BadRequestError),
    ):
        call(client)
    assert server.batches.batches == 0


def test_the_stand_in_knows_when_it_is_too_late_to_cancel(server: FaultyServer) -> None:
    task_at(server).submit(rows(1)).status()
    with (
        openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.ConflictError),
    ):
        client.batches.cancel("batch_1")
    server.reset()
    assert server.batches.batches == 0


# ── the shell ──


@pytest.fixture
def shell(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from typer.testing import CliRunner

    from llmtasker.cli.app import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    Path("shop.py").write_text(
        "from test_batch import NO_WAIT, Triage\nfrom llmtasker import LLM, Task\n"
        f"triage = Task(Triage, llm=LLM('m', base_url={server.base_url!r}, retry=NO_WAIT))\n"
    )
    lines = ["nr,message", *(f"{number},{text}" for number, text in enumerate(rows(4)))]
    Path("in.csv").write_text("\n".join([*lines, "4,odd row"]) + "\n")
    return lambda *words: CliRunner().invoke(app, ["batch", *words])


def test_the_shell_sends_and_fetches(server: FaultyServer, shell: Callable[..., Any]) -> None:
    server.batches.polls = 2
    assert "no batch jobs" in shell("list").output
    sent = shell("submit", "shop.py:triage", "in.csv")
    job = sent.stdout.strip()
    assert sent.exit_code == 0
    assert f"{job}  5 rows: 0 done, 0 failed; batches: 1 in_progress" in shell("status", "shop.py:triage").output
    early = shell("fetch", "shop.py:triage", "in.csv", "-o", "out.csv", "--job", job)
    assert early.exit_code == 1
    assert "5 not_run" in early.output
    done = shell("fetch", "shop.py:triage", "in.csv", "-o", "out.csv", "--wait", "--poll", "0.1")
    assert done.exit_code == 1
    assert "5 rows: 4 ok, 1 invalid. out.csv" in done.output
    written = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "nr,message,quote,team,error"
    assert written[1:3] == ["0,row0 input_file,row0,delivery,", "1,row1 bill,row1,billing,"]
    assert "invalid: " in written[5]
    assert f"{job}  " in shell("list").output
    assert "5 rows in 1 batch, fetched" in shell("list").output
    assert (server.batches.asked_lines, server.counters.requests) == (5, 0)


def test_the_shell_tries_first_and_cancels(server: FaultyServer, shell: Callable[..., Any]) -> None:
    server.batches.polls = 1000
    sent = shell("submit", "shop.py:triage", "in.csv", "--trial", "1", "--limit", "3")
    assert sent.exit_code == 0
    assert server.counters.requests == 1
    stopped = shell("cancel", "shop.py:triage")
    assert "2 rows: 2 done, 0 failed; batches: 1 cancelled" in stopped.output
    assert "1 to fetch" in shell("list").output


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["submit", "shop.py:triage", "empty.csv"], 200, "has no rows"),
        (["submit", "shop.py:triage", "in.csv", "--trial", "1"], 400, "nothing was sent"),
        (["status", "shop.py:triage"], 200, "there is no batch job"),
    ],
)
def test_the_shell_says_what_is_wrong(
    server: FaultyServer, shell: Callable[..., Any], words: list[str], status: int, said: str
) -> None:
    Path("empty.csv").write_text("message\n")
    server.faults = [Status(status)] if status != 200 else []
    failed = shell(*words)
    assert failed.exit_code == 2
    assert said in failed.output
    assert server.batches.uploads == 0
