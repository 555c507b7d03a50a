"""JobQueue: the jobs of a server, their rows and whole items, in one SQLite file that several processes share."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from llmtasker.files.cells import cell_json
from llmtasker.item import Item
from llmtasker.jobs.job_file import JobFile
from llmtasker.jobs.job_state import AFTER, MOVES, Job, JobRow, State
from llmtasker.jobs.row_work import without_input
from llmtasker.values.folding import caseless
from llmtasker.values.json_values import parse_json

T = TypeVar("T")

LEASE = 15.0
"""Seconds after which the job of a worker that has not been heard of goes to another one."""

_PART = 1 << 20  # bytes of an uploaded file in a row of the database
_BROKEN_OFF = 3600.0  # seconds after which a job that is still being created will never be
_CHUNK = 500  # rows that are read at a time
_LONGEST_LABEL = 100
_ABOUT = ("task", "definition", "name", "identity", "columns", "header", "outputs", "format", "budget")
_COLUMNS = tuple(field.name for field in fields(Job) if field.name not in _ABOUT)
_SELECT = f"SELECT about, {', '.join(_COLUMNS)} FROM jobs"
_INSERT = "INSERT INTO rows (job, number, row, given, words, state, item) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ANSWER = (
    "UPDATE rows SET state = ?, item = ?, label = ?, repaired = ? WHERE job = ? AND number = ? AND state = 'waiting'"
)
_SPEND = "INSERT INTO spending VALUES (?, ?, ?) ON CONFLICT (owner, day) DO UPDATE SET cost = cost + excluded.cost"
_FILTERS = {
    "ok": "state = 'ok'",
    "failed": "state = 'failed'",
    "waiting": "state = 'waiting'",
    "repaired": "repaired = 1",
    "corrected": "correction IS NOT NULL",
}


class JobQueue:
    """The file of a server's jobs. It is private (mode 0600), because it holds texts and answers.

    Each item is on disk when `put` returns; a process that is killed loses none. All methods may be called from any
    thread. `clock` returns seconds since 1970.

    Raises:
        ConfigurationError: the path is another kind of file, or can't be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._file = JobFile(path)
        self._clock = clock
        self._writing, self._read = self._file.writing, self._file.read

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── jobs ──

    def create(
        self,
        job: Mapping[str, Any],
        rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Any], Item[Any] | None]],
        *,
        keep: float,
        repeated: str | None = None,
        upload: Path | None = None,
    ) -> Job:
        """Store a job with its rows and return it; if `repeated` was used by this owner before, that earlier job.

        `job` has the fields of `Job` that describe the work. A row has its cells, its input, and the item of a row that
        could not be read. `keep` is the number of seconds until it expires. `upload` is the file that the rows come
        from.
        """
        now, id_ = self._clock(), secrets.token_hex(16)
        about = {name: job[name] for name in _ABOUT if name in job}
        with self._writing() as database:
            if repeated is not None and (found := self._find("owner = ? AND repeated = ?", job["owner"], repeated)):
                return found
            database.execute(
                "INSERT INTO jobs (id, owner, repeated, about, state, cost, created, updated, expires) "
                "VALUES (?, ?, ?, ?, 'new', 0, ?, ?, ?)",
                (id_, job["owner"], repeated, json.dumps(about), now, now, now + keep),
            )
        try:
            # In parts, so that others can write in between.
            for part in _parts(enumerate(rows, start=1)):
                with self._writing() as database:
                    database.executemany(_INSERT, [_new_row(id_, number, *row) for number, row in part])
            if upload is not None:
                with upload.open("rb") as file:
                    for number, content in enumerate(iter(lambda: file.read(_PART), b"")):
                        with self._writing() as database:
                            database.execute("INSERT INTO uploads VALUES (?, ?, ?)", (id_, number, content))
        except BaseException:
            self.delete(id_)
            raise
        with self._writing() as database:
            count = "rows = (SELECT count(*) FROM rows WHERE job = jobs.id)"
            database.execute(f"UPDATE jobs SET state = 'queued', {count} WHERE id = ?", (id_,))
            self._count(database, id_)
            (made,) = database.execute(f"{_SELECT} WHERE id = ?", (id_,)).fetchall()
        return _job(made)

    def _find(self, where: str, *values: Any) -> Job | None:
        found = self._read(f"{_SELECT} WHERE {where}", *values)
        return _job(found[0]) if found else None

    def get(self, id_: str, owner: str | None = None) -> Job | None:
        """Return a job; None if there is none, or if it is not of the owner that is given."""
        job = self._find("id = ? AND state != 'new'", id_)
        return None if job is None or (owner is not None and job.owner != owner) else job

    def jobs(self, owner: str, *, limit: int = 50, before: float | None = None) -> list[Job]:
        """Return the jobs of an owner, newest first, perhaps only those created before a time."""
        until = self._clock() + 1 if before is None else before
        query = f"{_SELECT} WHERE owner = ? AND created < ? AND state != 'new' ORDER BY created DESC, id LIMIT ?"
        return [_job(found) for found in self._read(query, owner, until, limit)]

    def states(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        return {
            str(state): int(count) for state, count in self._read("SELECT state, count(*) FROM jobs GROUP BY state")
        }

    def outcomes(self) -> dict[str, int]:
        """Return how many rows of all jobs succeeded and failed."""
        ((ok, failed),) = self._read("SELECT coalesce(sum(ok), 0), coalesce(sum(failed), 0) FROM jobs")
        return {"ok": int(ok), "failed": int(failed)}

    def move(self, id_: str, action: str, *, only: str = "failed") -> bool:
        """Pause, resume, cancel or retry a job; return whether its state allows that.

        A retry asks the failed rows again (`only="failed"`), or those that were corrected (`only="corrected"`).
        """
        allowed = MOVES[action]
        marks = ", ".join("?" * len(allowed))
        with self._writing() as database:
            moved = database.execute(
                "UPDATE jobs SET state = ?, reason = NULL, updated = ?, worker = NULL "
                f"WHERE id = ? AND state IN ({marks})",
                (AFTER[action], self._clock(), id_, *allowed),
            ).rowcount
            if moved and action == "retry":
                database.execute(
                    f"UPDATE rows SET state = 'waiting', item = NULL, label = NULL, repaired = 0 "
                    f"WHERE job = ? AND given != 'null' AND {_FILTERS[only]}",
                    (id_,),
                )
                self._count(database, id_)
        return bool(moved)

    def delete(self, id_: str) -> None:
        """Remove a job with all that it holds."""
        with self._writing() as database:
            for table in ("rows", "uploads"):
                database.execute(f"DELETE FROM {table} WHERE job = ?", (id_,))
            database.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def expire(self) -> int:
        """Remove the jobs whose time is over, or whose creation was broken off, and return their number."""
        now = self._clock()
        query = "SELECT id FROM jobs WHERE expires < ? OR (state = 'new' AND created < ?)"
        expired = self._read(query, now, now - _BROKEN_OFF)
        for (id_,) in expired:
            self.delete(id_)
        return len(expired)

    # ── work ──

    def claim(self, worker: str) -> Job | None:
        """Return a job that waits for a worker, or whose worker has died, as this worker's own; None: there is none."""
        now = self._clock()
        with self._writing() as database:
            found = database.execute(
                "SELECT id FROM jobs WHERE state = 'queued' OR (state = 'running' AND beat < ?) "
                "ORDER BY created LIMIT 1",
                (now - LEASE,),
            ).fetchone()
            if found is None:
                return None
            values = (worker, now, now, found[0])
            database.execute(
                "UPDATE jobs SET state = 'running', worker = ?, beat = ?, updated = ? WHERE id = ?", values
            )
        return self.get(found[0])

    def beat(self, id_: str, worker: str) -> bool:
        """Return whether a job is still this worker's to do, and say that the worker is alive."""
        with self._writing() as database:
            values = (self._clock(), id_, worker)
            query = "UPDATE jobs SET beat = ? WHERE id = ? AND worker = ? AND state = 'running'"
            return bool(database.execute(query, values).rowcount)

    def leave(self, id_: str, worker: str, *, done: bool) -> None:
        """End the work on a job, if it is still this worker's: it is done, or waits for another worker."""
        self._end(id_, worker, "done" if done else "queued")

    def fail(self, id_: str, worker: str, reason: str) -> None:
        """End a job whose set-up is wrong, if it is still this worker's."""
        self._end(id_, worker, "failed", reason)

    def _end(self, id_: str, worker: str, state: State, reason: str | None = None) -> None:
        with self._writing() as database:
            database.execute(
                "UPDATE jobs SET state = ?, reason = ?, updated = ?, worker = NULL "
                "WHERE id = ? AND worker = ? AND state = 'running'",
                (state, reason, self._clock(), id_, worker),
            )

    def waiting(self, id_: str) -> Iterator[JobRow]:
        """Yield the rows without an item, in order, read as they are asked for."""
        return self._every(id_, _FILTERS["waiting"])

    def put(self, job: Job, items: Sequence[tuple[int, Item[Any], str, str | None]]) -> None:
        """Store the items of rows and count them: number, item, the item as JSON, its label.

        A row keeps the first item that comes: for a while after a pause two workers may ask the same row. What was
        spent is counted in any case, also for a job that was deleted.
        """
        cost = sum(item.cost or 0.0 for _, item, _, _ in items)
        with self._writing() as database:
            stored = [
                item for number, item, kept, label in items if _store(database, job.id, number, item, kept, label)
            ]
            counts = (
                sum(item.ok for item in stored),
                sum(not item.ok for item in stored),
                sum(item.cached for item in stored),
                sum(item.repaired for item in stored),
                sum(item.requests for _, item, _, _ in items),
                None if any(item.cost is None for _, item, _, _ in items) else cost,
            )
            database.execute(
                "UPDATE jobs SET ok = ok + ?, failed = failed + ?, cached = cached + ?, repaired = repaired + ?, "
                "calls = calls + ?, cost = cost + ?, updated = ? WHERE id = ?",
                (*counts, self._clock(), job.id),
            )
            if cost:
                database.execute(_SPEND, (job.owner, _day(self._clock()), cost))

    def spend(self, owner: str, cost: float | None) -> None:
        """Add the cost of a call that is not of a job to what its owner has spent today."""
        if cost:
            with self._writing() as database:
                database.execute(_SPEND, (owner, _day(self._clock()), cost))

    def spent(self, owner: str) -> float:
        """Return what an owner has spent today (UTC), in US dollars."""
        found = self._read("SELECT cost FROM spending WHERE owner = ? AND day = ?", owner, _day(self._clock()))
        return float(found[0][0]) if found else 0.0

    def _count(self, database: sqlite3.Connection, id_: str) -> None:
        database.execute(
            "UPDATE jobs SET (ok, failed, repaired) = (SELECT coalesce(sum(state = 'ok'), 0), "
            "coalesce(sum(state = 'failed'), 0), coalesce(sum(repaired), 0) FROM rows WHERE job = jobs.id) "
            "WHERE id = ?",
            (id_,),
        )

    # ── rows ──

    def rows(
        self,
        id_: str,
        *,
        after: int = 0,
        limit: int = 50,
        only: str | None = None,
        label: str | None = None,
        search: str | None = None,
    ) -> list[JobRow]:
        """Return a page of rows, in order: those after a number.

        `only` is one of ok, failed, waiting, repaired, corrected; `label` that of the answer; `search` a part of the
        input, whose case and accents' form don't matter.
        """
        wheres, values = list[str](), list[Any]()
        if only is not None:
            wheres.append(_FILTERS[only])
        if label is not None:
            wheres.append("label = ?")
            values.append(label)
        if search:
            wheres.append("instr(words, ?)")
            values.append(_storable(caseless(search)))
        return self._rows(id_, " AND ".join(wheres) or "1", after, limit, *values)

    def _rows(self, id_: str, where: str, after: int, limit: int, *values: Any) -> list[JobRow]:
        query = (
            f"SELECT number, row, given, item, correction FROM rows WHERE job = ? AND {where} AND number > ? "
            "ORDER BY number LIMIT ?"
        )
        return [_row(found) for found in self._read(query, id_, *values, after, limit)]

    def row(self, id_: str, number: int) -> JobRow | None:
        """Return one row."""
        found = self._rows(id_, "number = ?", number - 1, 1, number)
        return found[0] if found else None

    def all_rows(self, id_: str) -> Iterator[JobRow]:
        """Yield all rows in order, read as they are asked for."""
        return self._every(id_, "1")

    def _every(self, id_: str, where: str) -> Iterator[JobRow]:
        number = 0
        while rows := self._rows(id_, where, number, _CHUNK):
            yield from rows
            number = rows[-1].number

    def labels(self, id_: str) -> dict[str, int]:
        """Return how many rows have each label, the most frequent first."""
        query = "SELECT label, count(*) FROM rows WHERE job = ? AND label IS NOT NULL GROUP BY label ORDER BY 2 DESC, 1"
        return {str(label): int(count) for label, count in self._read(query, id_)}

    def correct(self, id_: str, number: int, correction: Mapping[str, Any] | None) -> bool:
        """Store what a person says is right for a row, None: nothing; return whether there is such a row."""
        text = None if correction is None else cell_json(dict(correction))
        with self._writing() as database:
            query = "UPDATE rows SET correction = ? WHERE job = ? AND number = ?"
            return bool(database.execute(query, (text, id_, number)).rowcount)

    def upload(self, id_: str) -> Iterator[bytes]:
        """Yield the file that the rows of a job come from, in parts; nothing if they came without one."""
        part = 0
        while found := self._read("SELECT bytes FROM uploads WHERE job = ? AND part = ?", id_, part):
            yield found[0][0]
            part += 1


def _parts(rows: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(rows, _CHUNK)):
        yield part


def _job(found: tuple[Any, ...]) -> Job:
    about = json.loads(found[0])
    about["header"] = tuple(about.get("header", ()))
    return Job(**about, **dict(zip(_COLUMNS, found[1:], strict=True)))


def _row(found: tuple[Any, ...]) -> JobRow:
    number, *texts = found
    row, given, item, correction = (parse_json(text or "null") for text in texts)
    return JobRow(number=number, row=row, given=given or {}, item=item, correction=correction)


def _new_row(
    id_: str, number: int, row: Mapping[str, Any], given: Mapping[str, Any], item: Item[Any] | None
) -> tuple[Any, ...]:
    cells = cell_json(dict(row))
    if item is not None:  # a row that could not be read: no input is kept, so that it is never asked
        return id_, number, cells, "null", _words(row), "failed", without_input(item)
    return id_, number, cells, cell_json(dict(given)), _words(given), "waiting", None


def _store(database: sqlite3.Connection, id_: str, number: int, item: Item[Any], kept: str, label: str | None) -> bool:
    values = ("ok" if item.ok else "failed", kept, _short(label), int(item.repaired), id_, number)
    return bool(database.execute(_ANSWER, values).rowcount)


def _words(values: Mapping[str, Any]) -> str:
    return _storable(caseless(" ".join(str(value) for value in values.values())))


def _short(label: str | None) -> str | None:
    return None if label is None or len(label) > _LONGEST_LABEL else _storable(label)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
