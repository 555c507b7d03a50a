"""JobStore: the records of batch jobs at a provider, so that they survive a restart."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmtasker.cache.store import CacheWarning
from llmtasker.errors import ConfigurationError, counted, snippet
from llmtasker.values.lazy_pattern import lazy_pattern
from llmtasker.wire.batch_file import BatchInfo

VERSION = 1
_PREFIX = 16  # digits of a key that are stored: 64 bits are enough to distinguish rows
_ID = lazy_pattern(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


@dataclass(slots=True, kw_only=True)
class Part:
    """One batch of a job: its input file and its id at the provider, and its rows, by the heads of their keys.

    `batch` is None from the upload of the file until the provider has confirmed the batch. `end` is the last state
    that the provider reported. `fetched` is True once all its rows have been read since.
    """

    file: str
    keys: str
    batch: str | None = None
    end: BatchInfo | None = None
    fetched: bool = False

    @property
    def rows(self) -> int:
        """The number of requests in it."""
        return len(self.keys) // _PREFIX

    def heads(self) -> Iterator[str]:
        """Yield the head of each key."""
        return (self.keys[at : at + _PREFIX] for at in range(0, len(self.keys), _PREFIX))


def head_of(key: str) -> str:
    """Return the head of a key, which a Part stores."""
    return key[:_PREFIX]


@dataclass(slots=True, kw_only=True)
class StoredJob:
    """A job: when and for which task it was created, where it runs, its batches.

    `asks` is a hash of what its requests have in common, because signatures of other tasks may have the same name.
    `beside` names the jobs that had already submitted some of its rows. It contains no text of a row and no credential.
    """

    id: str
    created: float
    task: str
    endpoint: str
    model: str
    parts: list[Part] = field(default_factory=list[Part])
    beside: list[str] = field(default_factory=list[str])
    asks: str = ""

    @property
    def rows(self) -> int:
        """The number of requests that it has sent."""
        return sum(part.rows for part in self.parts)

    @property
    def size(self) -> str:
        """Its numbers of rows and batches, as a phrase."""
        return f"{counted(self.rows, 'row')} in {counted(len(self.parts), 'batch', 'batches')}"


class JobStore:
    """The jobs in a folder: one JSON file per job, readable by this user only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new_id(self, now: float) -> str:
        """Return the id of a new job; ids start with the time (UTC)."""
        return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"

    def save(self, record: StoredJob) -> None:
        """Write a record atomically.

        Raises:
            ConfigurationError: the folder can't be written.
        """
        path = self._path(record.id)
        draft = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, to set its mode
                json.dump({"version": VERSION, **asdict(record)}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise ConfigurationError(
                f"the batch can't be recorded in {self.folder} ({error.strerror or error}), and would be lost: "
                "make the folder writable, or choose another with cache= or LLMTASKER_CACHE_DIR"
            ) from error

    def load(self, job_id: str) -> StoredJob:
        """Return the record of a job.

        Raises:
            ConfigurationError: there is no such job, or its record can't be read.
        """
        path = self._path(job_id)
        try:
            return _stored_job(json.loads(path.read_bytes()))
        except FileNotFoundError:
            known = ", ".join(self._ids()[-3:]) or "none"
            raise ConfigurationError(
                f"there is no batch job {job_id} in {self.folder}; the last are: {known}"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{path} can't be read: {type(error).__name__}: {snippet(error, 80)}") from error

    def remove(self, job_id: str) -> None:
        """Delete the record of a job."""
        self._path(job_id).unlink(missing_ok=True)

    def all(self) -> list[StoredJob]:
        """Return all readable jobs, oldest first; report the others as a CacheWarning."""
        found: list[StoredJob] = []
        for job_id in self._ids():
            try:
                found.append(self.load(job_id))
            except ConfigurationError as error:
                warnings.warn(str(error), CacheWarning, stacklevel=2)
        return sorted(found, key=lambda record: record.created)  # an id has a resolution of one second

    def _ids(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json") if _ID.fullmatch(path.stem))

    def _path(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise ConfigurationError(
                f"{snippet(job_id, 40)!r} is not the id of a batch job: `llmtasker batch list` shows them"
            )
        return self.folder / f"{job_id}.json"


def _stored_job(data: dict[str, Any]) -> StoredJob:
    if data.pop("version") != VERSION:
        raise ValueError("written by another version of llmtasker")
    parts = [Part(end=_info(part.pop("end")), **part) for part in data.pop("parts")]
    return StoredJob(parts=parts, **data)


def _info(data: dict[str, Any] | None) -> BatchInfo | None:
    return None if data is None else BatchInfo(reasons=tuple(data.pop("reasons")), **data)
