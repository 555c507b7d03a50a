"""JobQueue: the jobs of a server, in one SQLite file with their rows and whole items; several processes share it."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from llmtasker.errors import ConfigurationError
from llmtasker.item import cost_of
from llmtasker.jobs.job_file import JobFile
from llmtasker.jobs.job_rows import DoneRow, JobRows, NewRow, ask_again, count_rows, store_item
from llmtasker.jobs.job_state import AFTER, MOVES, Job, State

LEASE = 15.0
"""Seconds after which the job of a silent worker goes to another one."""

_BROKEN_OFF = 900.0  # seconds after which a job that is still being created counts as abandoned
_STARTED_OVER = (
    "the pipeline has no version, so after the restart of the server all rows run again; steps without a cached answer "
    "cost again"
)
_ABOUT = ("task", "definition", "name", "identity", "columns", "header", "outputs", "format", "budget")
_COLUMNS = tuple(field.name for field in fields(Job) if field.name not in _ABOUT)
_SELECT = f"SELECT about, {', '.join(_COLUMNS)} FROM jobs"
_SPEND = "INSERT INTO spending VALUES (?, ?, ?) ON CONFLICT (owner, day) DO UPDATE SET cost = cost + excluded.cost"
_PACE = "INSERT INTO pace VALUES (?, ?, ?) ON CONFLICT (job, minute) DO UPDATE SET rows = rows + excluded.rows"


class JobQueue(JobRows):
    """The file of a server's jobs. It is private (mode 0600), because it contains texts and answers.

    Each item is on disk when `put` returns, so a killed process loses none. All methods may be called from any
    thread. `clock` returns seconds since 1970.

    Raises:
        ConfigurationError: the path is another kind of file, or can't be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(JobFile(path), clock=clock)
        self._writing, self._read = self._file.writing, self._file.read

    @property
    def file(self) -> JobFile:
        """The file, in which other classes store data that belongs to the jobs."""
        return self._file

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
        rows: Iterable[NewRow],
        *,
        keep: float,
        repeated: str | None = None,
        upload: Path | None = None,
    ) -> Job:
        """Store a job with its rows and return it; if this owner has used `repeated` before, return that earlier job.

        The job exists with all its rows or, if the process dies or `rows` raises an error, not at all; a repeated
        request then creates it.

        `job` has the fields of `Job` that describe the work. `keep` is the number of seconds until it expires.
        `upload` is the file with the rows.
        """
        if (found := self._repeated(job["owner"], repeated)) is not None:
            return found
        now, id_ = self._clock(), secrets.token_hex(16)
        about = {name: job[name] for name in _ABOUT if name in job}
        with self._writing() as database:
            database.execute(
                "INSERT INTO jobs (id, owner, about, state, cost, created, updated, expires) "
                "VALUES (?, ?, ?, 'new', 0, ?, ?, ?)",
                (id_, job["owner"], json.dumps(about), now, now, now + keep),
            )
        try:
            self.add_rows(id_, rows)
            if upload is not None:
                self._file.store_upload(id_, upload)
            return self._begin(id_, job["owner"], repeated)
        except BaseException:
            self.delete(id_)
            raise

    def _begin(self, id_: str, owner: str, repeated: str | None) -> Job:
        """Publish a job once all its rows are stored; if the same request was faster elsewhere, return that job."""
        with self._writing() as database:
            found = self._repeated(owner, repeated)
            if found is None:
                query = "UPDATE jobs SET state = 'queued', repeated = ? WHERE id = ?"
                if not database.execute(query, (repeated, id_)).rowcount:
                    raise ConfigurationError(
                        f"the rows took more than {_BROKEN_OFF:g} s to arrive: send fewer at once."
                    )
                count_rows(database, id_)
        if found is not None:
            self.delete(id_)
        made = found or self.get(id_)
        assert made is not None  # noqa: S101 - it was committed a moment ago
        return made

    def _repeated(self, owner: str, repeated: str | None) -> Job | None:
        return None if repeated is None else self._find("owner = ? AND repeated = ?", owner, repeated)

    def _find(self, where: str, *values: Any) -> Job | None:
        found = self._read(f"{_SELECT} WHERE {where}", *values)
        return _job(found[0]) if found else None

    def get(self, id_: str, owner: str | None = None) -> Job | None:
        """Return a job; None if there is none, or if it belongs to another owner."""
        job = self._find("id = ? AND state != 'new'", id_)
        return None if job is None or (owner is not None and job.owner != owner) else job

    def jobs(self, owner: str, *, limit: int = 50, before: float | None = None) -> list[Job]:
        """Return the jobs of an owner, newest first; with `before`, only those created before that time."""
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
                ask_again(database, id_, only)
        return bool(moved)

    def delete(self, id_: str) -> None:
        """Remove a job with everything that belongs to it."""
        with self._writing() as database:
            for table in ("rows", "uploads", "pace"):
                database.execute(f"DELETE FROM {table} WHERE job = ?", (id_,))
            database.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def expire(self) -> int:
        """Remove expired jobs, and those whose creation was abandoned; return their number."""
        now = self._clock()
        query = "SELECT id FROM jobs WHERE expires < ? OR (state = 'new' AND created < ?)"
        expired = self._read(query, now, now - _BROKEN_OFF)
        for (id_,) in expired:
            self.delete(id_)
        with self._writing() as database:
            old = "SELECT id FROM projects WHERE expires < ?"
            database.execute(f"DELETE FROM uploads WHERE job IN ({old})", (now,))
            database.execute("DELETE FROM projects WHERE expires < ?", (now,))
        return len(expired)

    # ── work ──

    def claim(self, worker: str) -> Job | None:
        """Lease a job that waits for a worker, or whose worker has died, to this worker; None: there is none."""
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

    def start_over(self, job: Job, worker: str, identity: str) -> Job:
        """Ask the finished rows of a job again under another identity, and return the job.

        A worker that has lost the lease changes nothing.
        """
        query = (
            "UPDATE jobs SET about = json_set(about, '$.identity', ?), cached = 0, reason = ? "
            "WHERE id = ? AND worker = ? AND state = 'running'"
        )
        with self._writing() as database:
            if database.execute(query, (identity, _STARTED_OVER, job.id, worker)).rowcount:
                ask_again(database, job.id, "answered")
        return self.get(job.id) or job

    def beat(self, id_: str, worker: str) -> bool:
        """Return whether this worker still has the lease on a job, and renew it."""
        with self._writing() as database:
            values = (self._clock(), id_, worker)
            query = "UPDATE jobs SET beat = ? WHERE id = ? AND worker = ? AND state = 'running'"
            return bool(database.execute(query, values).rowcount)

    def leave(self, id_: str, worker: str, *, done: bool) -> None:
        """End the work on a job if this worker still has it: the job is done, or waits for another worker."""
        self._end(id_, worker, "done" if done else "queued")

    def fail(self, id_: str, worker: str, reason: str) -> None:
        """End a job whose set-up is wrong, if this worker still has it."""
        self._end(id_, worker, "failed", reason)

    def _end(self, id_: str, worker: str, state: State, reason: str | None = None) -> None:
        with self._writing() as database:
            database.execute(
                "UPDATE jobs SET state = ?, reason = coalesce(?, reason), updated = ?, worker = NULL "
                "WHERE id = ? AND worker = ? AND state = 'running'",
                (state, reason, self._clock(), id_, worker),
            )

    def put(self, job: Job, rows: Sequence[DoneRow]) -> None:
        """Store the items of rows and count them.

        A row keeps the first item that arrives, because for a while after a pause two workers may ask the same row. The
        cost is counted in any case, even for a deleted job.
        """
        items = [row.item for row in rows]
        cost = sum(item.cost or 0.0 for item in items)
        with self._writing() as database:
            stored = [row.item for row in rows if store_item(database, job.id, row)]
            counts = (
                sum(item.ok for item in stored),
                sum(not item.ok for item in stored),
                sum(item.cached for item in stored),
                sum(item.repaired for item in stored),
                sum(item.requests for item in items),
                cost_of(items),
            )
            database.execute(
                "UPDATE jobs SET ok = ok + ?, failed = failed + ?, cached = cached + ?, repaired = repaired + ?, "
                "calls = calls + ?, cost = cost + ?, updated = ? WHERE id = ?",
                (*counts, self._clock(), job.id),
            )
            if stored:
                database.execute(_PACE, (job.id, int(self._clock() // 60), len(stored)))
            if cost:
                database.execute(_SPEND, (job.owner, _day(self._clock()), cost))

    def pace(self, id_: str, minutes: int = 10) -> list[int]:
        """Return how many rows a job finished in each of the last minutes, oldest first, the current one last."""
        now = int(self._clock() // 60)
        query = "SELECT minute, rows FROM pace WHERE job = ? AND minute > ?"
        done = dict(self._read(query, id_, now - minutes))
        return [int(done.get(minute, 0)) for minute in range(now - minutes + 1, now + 1)]

    def spend(self, amounts: Mapping[str, float]) -> None:
        """Add the costs of calls outside jobs to the day's spending of their owners."""
        day = _day(self._clock())
        with self._writing() as database:
            database.executemany(_SPEND, [(owner, day, cost) for owner, cost in amounts.items()])

    def spent(self, owner: str) -> float:
        """Return what an owner has spent today (UTC), in US dollars."""
        found = self._read("SELECT cost FROM spending WHERE owner = ? AND day = ?", owner, _day(self._clock()))
        return float(found[0][0]) if found else 0.0

    def upload(self, id_: str) -> Iterator[bytes]:
        """Yield the file with the rows of a job, in parts; nothing if there is none."""
        return self._file.upload(id_)


def _job(found: tuple[Any, ...]) -> Job:
    about = json.loads(found[0])
    about["header"] = tuple(about.get("header", ()))
    return Job(**about, **dict(zip(_COLUMNS, found[1:], strict=True)))


def _day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
