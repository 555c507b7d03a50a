"""The results of a job as a download: each row as it came, with its answer and its error."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from fastapi.responses import StreamingResponse

from llmtasker.api.attachment import attachment
from llmtasker.api.job_files import ENDINGS, format_of
from llmtasker.files import Format, output_format, read_rows, typed_cells
from llmtasker.files.csv_output import EVERY, csv_blocks, encoding_for
from llmtasker.files.excel_output import excel_blocks
from llmtasker.files.json_file import jsonl_blocks
from llmtasker.files.parquet_file import parquet_blocks
from llmtasker.item import error_line
from llmtasker.jobs.job_queue import JobQueue
from llmtasker.jobs.job_state import Job, JobRow
from llmtasker.jobs.typed_answers import TypedAnswers
from llmtasker.result_table import free_name

ResultKind = Literal["csv", "xlsx", "jsonl", "parquet"]
RESULT_KINDS: tuple[ResultKind, ...] = get_args(ResultKind)

MEDIA: dict[ResultKind, str] = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_TYPED = frozenset({"excel", "parquet"})  # files with types that JSON does not have
_ARROW = {
    "text text": "string",
    "integer integer": "int64",
    "real real": "double",
    "true integer": "bool",
    "false integer": "bool",
}
"""Arrow types by JSON types; a column with another type, or with several, must be read completely first."""

_BLOCKS = {"csv": csv_blocks, "jsonl": jsonl_blocks, "xlsx": excel_blocks}


async def results_response(
    queue: JobQueue,
    job: Job,
    kind: ResultKind,
    typed: TypedAnswers | None = None,
    *,
    neutralise: bool = True,
    name: str | None = None,
    like: Format | None = None,
) -> StreamingResponse:
    """Return the results of a job as a file; a CSV has the format of the uploaded one.

    It is sent while the rows are read, so it begins at once and takes little memory. A Parquet file begins only after
    all rows are read if a column has lists, objects, dates or several types, or if the uploaded file was Excel or
    Parquet. With `typed`, the fields of the answers have their types in Excel and Parquet files. `neutralise`
    writes an apostrophe before cells of a CSV that a spreadsheet would run as formulas. `name` is the name of the file
    without an ending; default: the job's id. `like` is the format of a CSV if none was uploaded. If the job is deleted
    meanwhile, the connection is aborted, so a download that ends normally is complete.
    """
    results = await asyncio.to_thread(_AnsweredRows, queue, job, typed if kind in {"xlsx", "parquet"} else None)
    form = await asyncio.to_thread(results.written_format, kind, like, neutralise=neutralise)
    if kind == "parquet":
        types = await asyncio.to_thread(results.arrow_types)
        blocks = parquet_blocks(results.rows(form), form, results.columns, types)
    else:
        blocks = _BLOCKS[kind](results.rows(form), form, results.columns)
    return StreamingResponse(_sent(blocks), media_type=MEDIA[kind], headers=attachment(name or job.id, kind))


class _AnsweredRows:
    """The rows of a job with their answers: their columns, their values, and the format of the file."""

    def __init__(self, queue: JobQueue, job: Job, typed: TypedAnswers | None) -> None:
        self._queue, self._job, self._typed = queue, job, typed
        names = [*job.header, *job.outputs.values()]
        self._error = free_name("error", names)
        corrected = queue.corrected(job.id)
        self._marked = [free_name("corrected", [*names, self._error])] if corrected else []
        self.columns = [*names, self._error, *self._marked]

    def written_format(self, kind: ResultKind, like: Format | None, *, neutralise: bool) -> Format:
        """Return the format of a file: CSV like the uploaded one, if its encoding has all characters of the answers."""
        came = format_of(self._job.format)
        if kind != "csv":
            return output_format(f"results.{kind}", like=came)
        like = came if came is not None and came.kind == "csv" else like
        form = output_format("results.csv", like=like)
        texts = self._texts(form.encoding, odd=like is not None and like.odd_bytes)
        return replace(form, encoding=encoding_for(texts, form.encoding), neutralised=neutralise)

    def _texts(self, encoding: str, *, odd: bool) -> Iterator[str]:
        """Yield the texts that may not fit the encoding of the file; its own cells do."""
        yield "".join(self.columns)
        if odd:
            yield EVERY  # some bytes were not valid in the encoding, so some cells don't fit it either
        yield from self._queue.odd_answers(self._job.id, encoding)

    def arrow_types(self) -> dict[str, str] | None:
        """Return the name of the Arrow type of each column; None: the values must be read first."""
        typed = bool(self._typed) or (format_of(self._job.format) or Format()).kind in _TYPED
        found = None if typed else self._queue.json_types(self._job.id, self._job.header, list(self._job.outputs))
        types = {self._error: "string", **dict.fromkeys(self._marked, "bool")}
        for column, kinds in zip(self.columns, found or (), strict=False):
            arrow = {_ARROW.get(kind) for kind in kinds} or {"string"}  # the type of a column without values
            if len(arrow) > 1 or (name := arrow.pop()) is None:
                return None
            types[column] = name
        return None if found is None else types

    def rows(self, form: Format) -> Generator[dict[str, Any]]:
        """Yield the rows for a file of this format.

        Raises:
            LookupError: the job was deleted in the meantime.
        """
        sent, source = 0, format_of(self._job.format)
        with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
            cells = self._cells(Path(folder))
            for row in self._queue.all_rows(self._job.id):
                sent += 1
                came = row.row if cells is None else next(cells, row.row)
                answer = row.answer if self._typed is None else self._typed.typed(row.answer)
                answered = {column: answer.get(name) for name, column in self._job.outputs.items()}
                marks = dict.fromkeys(self._marked, row.correction is not None)
                yield {**typed_cells(came, source, form), **answered, self._error: error_of(row), **marks}
        if sent < self._job.rows:
            raise LookupError("the job was deleted while its results were sent")

    def _cells(self, folder: Path) -> Iterator[dict[str, Any]] | None:
        """Read the rows of the file again if it has types that JSON lacks; None: use the rows as they were stored."""
        form = format_of(self._job.format)
        if form is None or form.kind not in _TYPED:
            return None
        source = folder / f"source{ENDINGS[form.kind]}"
        with source.open("wb") as file:
            file.writelines(self._queue.upload(self._job.id))
        return read_rows(source, form)


def error_of(row: JobRow) -> str | None:
    """Return the error of a row as written to a file of results; a row without an item gets its own error."""
    if row.item is None:
        return "not_run: the row was not asked"
    return None if row.correction is not None else error_line(row.item)


class _Blocks:
    """Blocks that are made in threads, one at a time; `close` may be called while one is being made."""

    def __init__(self, blocks: Generator[bytes]) -> None:
        self._blocks, self._lock = blocks, threading.Lock()

    def next(self) -> bytes | None:
        with self._lock:
            return next(self._blocks, None)

    def close(self) -> None:
        with self._lock:
            self._blocks.close()


async def _sent(blocks: Generator[bytes]) -> AsyncGenerator[bytes]:
    made = _Blocks(blocks)
    try:
        while (block := await asyncio.to_thread(made.next)) is not None:
            yield block
    finally:
        # Not awaited, because nothing may be awaited once the client has disconnected.
        asyncio.get_running_loop().run_in_executor(None, made.close)
