"""ProjectStore: the projects of the web page (a file, its task, its runs) in the job file."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from llmtasker.files.cells import cell_json
from llmtasker.jobs.job_file import JobFile
from llmtasker.values.json_values import parse_json

_OWN_COLUMNS = ("id", "owner", "created", "updated", "expires")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """A column of a file: its filled cells, those with words, their mean length in characters, its values if few."""

    name: str
    filled: int
    mean_length: int
    words: int = 0
    values: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A file, its task, and its runs.

    `lines` are the beginnings of the first lines of the file, one of which has the names of the columns.
    `kind` is "classification", "instruction", or the name of a task of the server; `definition` is the form as it was
    sent. `columns` has the column of each input field, `gold` the column of right answers. `trial`, `run` and `earlier`
    are ids of jobs, `jobs` has all of them. Times are seconds since 1970, `size` is in bytes.
    """

    id: str
    owner: str
    name: str
    file: str | None = None
    size: int = 0
    format: Mapping[str, Any] | None = None
    header: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    facts: tuple[ColumnFacts, ...] = ()
    rows: int = 0
    broken: tuple[tuple[int, str], ...] = ()
    broken_rows: int = 0
    kind: str = "classification"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    gold: str | None = None
    definition: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trial: str | None = None
    run: str | None = None
    earlier: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    created: float = 0.0
    updated: float = 0.0
    expires: float = 0.0

    @property
    def job(self) -> str | None:
        """The job whose answers are shown: the run, or else the trial."""
        return self.run or self.trial


_ABOUT = tuple(one.name for one in fields(Project) if one.name not in _OWN_COLUMNS)


class ProjectStore:
    """The projects of a server, each with its file, in the file of its jobs. Any thread may call it."""

    def __init__(self, file: JobFile, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def create(
        self, owner: str, name: str, source: Path, *, keep: float, sample: Sequence[Mapping[str, Any]], **about: Any
    ) -> Project:
        """Store a project with its file and some rows of it. `keep` is the number of seconds until it expires."""
        now, id_ = self._clock(), secrets.token_hex(8)
        project = Project(id=id_, owner=owner, name=name, created=now, updated=now, expires=now + keep, **about)
        self._file.store_upload(id_, source)
        with self._file.writing() as database:
            database.execute(
                "INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id_, owner, _about(project), cell_json(list(sample)), now, now, now + keep),
            )
        return project

    def get(self, id_: str, owner: str) -> Project | None:
        """Return a project; None if there is none, or if it belongs to another owner."""
        query = f"SELECT about, {', '.join(_OWN_COLUMNS)} FROM projects WHERE id = ? AND owner = ?"  # noqa: S608
        found = self._file.read(query, id_, owner)
        return _project(found[0]) if found else None

    def projects(self, owner: str, limit: int = 500) -> list[Project]:
        """Return the projects of an owner, last changed first."""
        query = (
            f"SELECT about, {', '.join(_OWN_COLUMNS)} FROM projects WHERE owner = ? "  # noqa: S608
            "ORDER BY updated DESC, id LIMIT ?"
        )
        return [_project(found) for found in self._file.read(query, owner, limit)]

    def sample(self, id_: str) -> list[dict[str, Any]]:
        """Return the rows that are shown while a project is described."""
        found = self._file.read("SELECT sample FROM projects WHERE id = ?", id_)
        return parse_json(found[0][0]) if found else []

    def upload(self, id_: str) -> Iterator[bytes]:
        """Yield the file of a project, in parts."""
        return self._file.upload(id_)

    def change(self, project: Project, *, sample: Sequence[Mapping[str, Any]] | None = None, **about: Any) -> Project:
        """Store other values of a project, perhaps with other rows to show, and return its new state.

        Other values stay as they are, even if someone else has changed them in the meantime.

        Raises:
            LookupError: it was deleted.
        """
        with self._file.writing() as database:
            now = self.get(project.id, project.owner)
            if now is None:
                raise LookupError(project.id)
            changed = replace(now, **about, updated=self._clock())
            values = (_about(changed), changed.updated, changed.id)
            database.execute("UPDATE projects SET about = ?, updated = ? WHERE id = ?", values)
            if sample is not None:
                database.execute("UPDATE projects SET sample = ? WHERE id = ?", (cell_json(list(sample)), changed.id))
        return changed

    def delete(self, id_: str) -> None:
        """Remove a project with its file; its jobs are not touched."""
        with self._file.writing() as database:
            database.execute("DELETE FROM uploads WHERE job = ?", (id_,))
            database.execute("DELETE FROM projects WHERE id = ?", (id_,))


def _about(project: Project) -> str:
    values = asdict(project)
    return cell_json({name: values[name] for name in _ABOUT})


def _project(found: tuple[Any, ...]) -> Project:
    about = parse_json(found[0])
    about["header"], about["lines"] = tuple(about["header"]), tuple(about.get("lines", ()))
    about["earlier"], about["jobs"] = tuple(about["earlier"]), tuple(about["jobs"])
    about["broken"] = tuple((number, text) for number, text in about["broken"])
    about["facts"] = tuple(ColumnFacts(**facts) for facts in about["facts"])
    return Project(**about, **dict(zip(_OWN_COLUMNS, found[1:], strict=True)))
