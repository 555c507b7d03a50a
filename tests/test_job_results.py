"""The results of a job as a download: sent while they are read, complete or visibly aborted."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from pyarrow import parquet

from llmtasker import Item
from llmtasker.api.job_results import RESULT_KINDS, ResultKind, results_response
from llmtasker.errors import InputError
from llmtasker.files import Format, detect, read_rows
from llmtasker.files.cells import cell_json
from llmtasker.files.parquet_file import parquet_blocks
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
    job = created(queue, ["été", "b"])
    kept = cell_json({"output": {"team": "billing", "quote": answer}, "error": None, "raw": "→"})
    queue.put(job, [DoneRow(2, Item(input={}, output={}), kept)])
    queue.correct(job.id, 2, correction)
    path = tmp_path / "results.csv"
    path.write_bytes(downloaded(queue, job))
    assert detect(path).encoding == encoding
    shown = (correction or {}).get("quote", answer).encode(errors="backslashreplace").decode()
    assert [(row["text"], row["quote"]) for row in read_rows(path)] == [("été", ""), ("b", shown)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
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


@pytest.mark.parametrize(
    ("name", "values", "begins_at_once"),
    [
        ("v", ["a", None], True),
        ("été $.b[0]", ["\ud800", "b"], True),
        ("v", [None], True),
        ("v", [1, None, -(2**63)], True),
        ("v", [1.5, 2.0, None], True),
        ("v", [True, None, False], True),
        ("v", [2**63, 1], False),
        ("v", [1, 1.5], False),
        ("v", [1, "1"], False),
        ("v", [True, 1], False),
        ("v", [[1]], False),
        ("v", [{"a": 1}], False),
        ("v", [None] * 700 + ["a"] * 700, True),
        ('a "name"', ["a"], False),
        ("a\\name", [1], False),
    ],
)
@pytest.mark.parametrize("of", ["row", "answer", "correction"])
def test_parquet_begins_at_once_where_types_are_known(
    queue: JobQueue, name: str, values: list[Any], begins_at_once: bool, of: str
) -> None:
    more = {"header": (name,), "outputs": {}} if of == "row" else {"header": (), "outputs": {name: name}}
    about = {"owner": "ann", "task": "t", "identity": "", "columns": {}, "format": None, **more}
    cells = [{name: value} if of == "row" else {} for value in values]
    job = queue.create(about, ((row, {"message": "x"}, None) for row in cells), keep=1000)
    answers: list[Any] = [{name: value if of == "answer" else None} for value in values]
    kept = [cell_json({"output": answer, "error": None}) for answer in answers]
    queue.put(job, [DoneRow(at, Item(input={}, output={}), one) for at, one in enumerate(kept, 1)])
    for number, value in enumerate(values if of == "correction" else (), 1):
        queue.correct(job.id, number, {name: value})
    marks = {"corrected": True} if of == "correction" else {}
    rows: list[dict[str, Any]] = [{name: value, "error": None, **marks} for value in values]
    as_written = b"".join(parquet_blocks(rows, Format(kind="parquet"), list(rows[0])))
    found = parquet.read_table(BytesIO(downloaded(queue, job, "parquet")))
    assert found.equals(parquet.read_table(BytesIO(as_written)))

    async def begun() -> bool:
        sent = blocks(queue, job, "parquet")
        await anext(sent)
        queue.delete(job.id)
        try:
            return not [block async for block in sent]
        except LookupError:
            return True

    assert asyncio.run(begun()) == begins_at_once


def test_the_types_of_parquet_are_those_of_the_last_rows_too(queue: JobQueue) -> None:
    about = {"owner": "ann", "task": "t", "identity": "", "header": ("v",), "outputs": {}, "format": None}
    values = [*range(25_000), "a"]
    job = queue.create(about, (({"v": value}, {}, None) for value in values), keep=1000)
    found = parquet.read_table(BytesIO(downloaded(queue, job, "parquet")))
    assert found["v"].to_pylist() == [*map(str, values)]


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
