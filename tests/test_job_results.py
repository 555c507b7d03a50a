"""The results of a job as a download: sent while they are read, whole or visibly broken off."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from llmtasker import Item
from llmtasker.api.job_results import RESULT_KINDS, ResultKind, results_response
from llmtasker.errors import InputError
from llmtasker.files import detect, read_rows
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_rows import DoneRow
from llmtasker.jobs.job_state import Job

OFFICE = {"kind": "csv", "delimiter": ";", "encoding": "cp1252", "newline": "\r\n"}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    with JobQueue(tmp_path / "jobs.db") as opened:
        yield opened


def created(queue: JobQueue, texts: list[str], **more: Any) -> Job:
    about = {
        "owner": "ann",
        "task": "t",
        "identity": "",
        "columns": {"message": "text"},
        "header": ("text",),
        "outputs": {"team": "team", "quote": "quote"},
        "format": OFFICE,
        **more,
    }
    return queue.create(about, (({"text": text}, {"message": text}, None) for text in texts), keep=1000)


def answered(queue: JobQueue, job: Job, number: int, **output: str) -> None:
    kept = json.dumps({"output": output, "error": None, "raw": "…"}, ensure_ascii=False)
    queue.put(job, [DoneRow(number, Item(input={}, output=output), kept)])


def blocks(queue: JobQueue, job: Job, kind: ResultKind) -> AsyncIterator[bytes]:
    async def sent() -> AsyncIterator[bytes]:
        response = await results_response(queue, job, kind)
        async for block in response.body_iterator:
            yield cast(bytes, block)

    return sent()


def downloaded(queue: JobQueue, job: Job, kind: ResultKind = "csv") -> bytes:
    async def run() -> bytes:
        return b"".join([block async for block in blocks(queue, job, kind)])

    return asyncio.run(run())


@pytest.mark.parametrize("kind", RESULT_KINDS)
def test_each_row_has_its_answer_or_its_error(queue: JobQueue, tmp_path: Path, kind: ResultKind) -> None:
    job = created(queue, ["a", "b", "c"])
    answered(queue, job, 1, team="billing", quote="a")
    queue.put(
        job,
        [
            DoneRow(
                2,
                Item(input={}, error=InputError("no")),
                json.dumps({"output": None, "error": {"code": "input", "message": "no"}}),
            )
        ],
    )
    path = tmp_path / f"results.{kind}"
    path.write_bytes(downloaded(queue, job, kind))
    rows = [(row["text"], row["team"] or None, row["error"] or None) for row in read_rows(path)]
    assert rows == [("a", "billing", None), ("b", None, "input: no"), ("c", None, "not_run: the row was not asked")]


@pytest.mark.parametrize(
    ("answer", "correction", "encoding"),
    [
        ("déjà € “oui”", None, "cp1252"),
        ("日本", None, "utf-8-sig"),
        ("\ud800 日本", None, "utf-8-sig"),
        ("\ud800", None, "cp1252"),
        ("a", {"quote": "😀"}, "utf-8-sig"),
    ],
)
def test_an_answer_that_the_encoding_lacks_widens_the_file(
    queue: JobQueue, tmp_path: Path, answer: str, correction: dict[str, str] | None, encoding: str
) -> None:
    from llmtasker.files.cells import cell_json

    job = created(queue, ["été", "b"])
    kept = cell_json({"output": {"team": "billing", "quote": answer}, "error": None, "raw": "→"})
    queue.put(job, [DoneRow(2, Item(input={}, output={}), kept)])
    queue.correct(job.id, 2, correction)
    path = tmp_path / "results.csv"
    path.write_bytes(downloaded(queue, job))
    assert detect(path).encoding == encoding
    shown = (correction or {}).get("quote", answer).encode(errors="backslashreplace").decode()
    assert [(row["text"], row["quote"]) for row in read_rows(path)] == [("été", ""), ("b", shown)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_download_begins_at_once_and_is_broken_off_with_its_job(queue: JobQueue, kind: ResultKind) -> None:
    job = created(queue, ["é" * 200] * 3_000)

    async def run() -> int:
        size, sent = 0, blocks(queue, job, kind)
        async for block in sent:
            size += len(block)
            queue.delete(job.id)  # most of it was not read yet
        return size

    with pytest.raises(LookupError, match="deleted"):
        asyncio.run(run())


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_download_takes_no_memory(queue: JobQueue, kind: ResultKind) -> None:
    job = created(queue, ["x" * 1_000] * 10_000)

    async def run() -> int:
        return sum([len(block) async for block in blocks(queue, job, kind)])

    tracemalloc.start()
    try:
        size = asyncio.run(run())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 10_000_000
    assert peak < 5_000_000
