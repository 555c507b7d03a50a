"""JobRows: the rows of jobs in their file: cells, items, corrections; read page by page."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from llmtasker.files.cells import cell_json
from llmtasker.item import Item
from llmtasker.jobs.job_file import JobFile
from llmtasker.jobs.job_state import JobRow, OpenRow, label_of
from llmtasker.jobs.row_work import without_input
from llmtasker.values.folding import encodable, without_accents
from llmtasker.values.json_values import parse_json

T = TypeVar("T")

NewRow = tuple[Mapping[str, Any], Mapping[str, Any], Item[Any] | None]
"""A row before it is stored: its cells, its input, and the item of a row that could not be read."""

UNSURE = 0.6
"""Confidence below which a row is called unsure."""

_CHUNK = 500  # rows that are read or written at a time
_LOOKED_AT = 10_000  # rows whose types are read at a time
_MOST_NAMES = 100  # columns whose types are read
_LONGEST_LABEL = 100
_BEGINNING = 200  # characters of a text
_INSERT = "INSERT INTO rows (job, number, row, given, words, state, item) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ANSWER = (
    "UPDATE rows SET state = ?, item = ?, label = CASE WHEN correction IS NULL THEN ? ELSE label END, "
    "repaired = ?, sure = ? WHERE job = ? AND number = ? AND state = 'waiting'"
)
_ASK_AGAIN = (
    "UPDATE rows SET state = 'waiting', item = NULL, label = CASE WHEN correction IS NULL THEN NULL ELSE label END, "
    "repaired = 0, sure = NULL "
    "WHERE job = ? AND given != 'null' AND "
)
_COUNT = (
    "UPDATE jobs SET (rows, ok, failed, repaired) = (SELECT count(*), coalesce(sum(state = 'ok'), 0), "
    "coalesce(sum(state = 'failed'), 0), coalesce(sum(repaired), 0) FROM rows WHERE job = jobs.id) WHERE id = ?"
)
_FILTERS = {
    "ok": "state = 'ok'",
    "failed": "state = 'failed'",
    "waiting": "state = 'waiting'",
    "answered": "state != 'waiting'",
    "repaired": "repaired = 1",
    "corrected": "correction IS NOT NULL",
    "unsure": f"sure < {UNSURE}",
    "abstained": "state = 'failed' AND sure IS NOT NULL AND correction IS NULL",
}
_INDEXED = {
    name: f"INDEXED BY {index}"
    for name, index in {"repaired": "by_repair", "corrected": "by_correction", "abstained": "by_abstention"}.items()
}
"""Indexes of a few rows; without the hint SQLite would read all rows, because these are in the same order."""

_OPEN = (
    "SELECT number, row, substr(words, 1, ?), label, sure, json_extract(item, '$.error.code') FROM rows {indexed} "
    "WHERE job = ? AND {where} AND correction IS NULL ORDER BY {order} LIMIT ?"
)


class JobRows:
    """The rows of all jobs in a file. All methods may be called from any thread."""

    def __init__(self, file: JobFile, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self.on_correction: Callable[[str, JobRow, Mapping[str, Any] | None], None] | None = None
        """Called for each correction that was stored, with the job's id and the row as it was before."""

    # ── read ──

    def rows(
        self,
        id_: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 50,
        only: str | None = None,
        label: str | None = None,
        search: str | None = None,
    ) -> list[JobRow]:
        """Return a page of rows, in order: those after a number, or the last ones before another.

        `only` is one of ok, failed, waiting, repaired, corrected, unsure, abstained; `label` is that of the answer;
        `search` is part of the input, regardless of case and accents. An abstained row waits for a person until it is
        corrected.
        """
        wheres, values = list[str](), list[Any]()
        if only is not None:
            wheres.append(_FILTERS[only])
        if label is not None:
            wheres.append("label = ?")
            values.append(label)
        if search:
            folded = encodable(without_accents(search))
            wheres.append("instr(words, ?)" if folded else "0")  # only accents: the empty text would match every row
            values += [folded] if folded else []
        where, by = " AND ".join(wheres) or "1", "" if label is not None else _INDEXED.get(only or "", "")
        if before is not None:
            return self._page(id_, where, "number < ? ORDER BY number DESC", before, limit, *values, by=by)[::-1]
        return self._page(id_, where, "number > ? ORDER BY number", after, limit, *values, by=by)

    def _page(
        self, id_: str, where: str, part: str, number: int, limit: int, *values: Any, by: str = ""
    ) -> list[JobRow]:
        columns = "number, sure, row, given, item, correction"
        query = f"SELECT {columns} FROM rows {by} WHERE job = ? AND {where} AND {part} LIMIT ?"
        return [_row(found) for found in self._file.read(query, id_, *values, number, limit)]

    def row(self, id_: str, number: int) -> JobRow | None:
        """Return one row."""
        found = self._page(id_, "1", "number = ?", number, 1)
        return found[0] if found else None

    def all_rows(self, id_: str) -> Iterator[JobRow]:
        """Yield all rows in order, read lazily."""
        return self._every(id_, "1")

    def waiting(self, id_: str) -> Iterator[JobRow]:
        """Yield the rows without an item, in order, read lazily."""
        return self._every(id_, _FILTERS["waiting"])

    def _every(self, id_: str, where: str) -> Iterator[JobRow]:
        number = 0
        while rows := self._page(id_, where, "number > ? ORDER BY number", number, _CHUNK):
            yield from rows
            number = rows[-1].number

    def odd_answers(self, id_: str, encoding: str) -> Iterator[str]:
        """Yield the answers, errors and corrections of rows that may have characters which an encoding lacks."""
        query = "SELECT number, item, correction FROM rows WHERE job = ? AND number > ? ORDER BY number LIMIT ?"
        after = 0
        while found := self._file.read(query, id_, after, _CHUNK):
            after = found[-1][0]
            for _, *texts in found:
                kept = "".join(filter(None, texts))
                if "\\u" in kept or not _encodes(kept, encoding):
                    item, correction = (parse_json(text or "null") for text in texts)
                    shown = [item and [item["output"], item["error"]], correction]
                    yield json.dumps(shown, ensure_ascii=False)

    def json_types(self, id_: str, cells: Sequence[str], outputs: Sequence[str]) -> list[set[str]] | None:
        """Return the types of each column with a value; None: reading them would take too long.

        A type is JSON's name and SQLite's storage: an integer of more than 64 bits is "integer real".
        """
        names = [*cells, *outputs]
        if len(names) > _MOST_NAMES or not all(map(_in_path, names)):
            return None
        paths = [
            *(f'$."{name}"' for name in cells),
            *(f'$.{part}"{name}"' for name in outputs for part in ("output.", "")),
        ]
        places = ["row"] * len(cells) + ["item", "correction"] * len(outputs)
        types = ", ".join(
            f"group_concat(DISTINCT json_type({place}, ?{at}) || ' ' || typeof(json_extract({place}, ?{at})))"
            for at, place in enumerate(places, start=4)
        )
        part = "SELECT * FROM rows WHERE job = ?1 AND number > ?2 ORDER BY number LIMIT ?3"
        query = f"SELECT max(number), {types} FROM ({part})"
        found = [set[str]() for _ in paths]
        last: int | None = 0
        while last is not None:
            ((last, *seen),) = self._file.read(query, id_, last, _LOOKED_AT, *paths)
            for kinds, more in zip(found, seen, strict=True):
                kinds.update((more or "null null").split(","))
        of_outputs = found[len(cells) :]
        joined = [one | other for one, other in zip(of_outputs[::2], of_outputs[1::2], strict=True)]
        return [kinds - {"null null"} for kinds in (*found[: len(cells)], *joined)]

    def labels(self, id_: str) -> dict[str, int]:
        """Return how many rows have each label, the most frequent first."""
        query = "SELECT label, count(*) FROM rows WHERE job = ? AND label IS NOT NULL GROUP BY label ORDER BY 2 DESC, 1"
        return {str(label): int(count) for label, count in self._file.read(query, id_)}

    def corrected(self, id_: str) -> int:
        """Return how many rows were corrected."""
        query = "SELECT count(*) FROM rows INDEXED BY by_correction WHERE job = ? AND correction IS NOT NULL"
        return int(self._file.read(query, id_)[0][0])

    def abstained(self, id_: str) -> tuple[int, int]:
        """Return on how many rows the task abstained, and how many of these are not corrected."""
        rows = "SELECT count(*) FROM rows INDEXED BY {} WHERE job = ? AND state = 'failed' AND sure IS NOT NULL"
        ((every,),) = self._file.read(rows.format("by_abstention"), id_)
        query = rows.format("by_correction") + " AND correction IS NOT NULL"
        ((decided,),) = self._file.read(query, id_) if every else ((0,),)
        return int(every), int(every) - int(decided)

    def open_rows(
        self, id_: str, only: str, limit: int, *, label: str | None = None, among: Sequence[int] | None = None
    ) -> list[OpenRow]:
        """Return the first uncorrected rows, with the beginning of their texts.

        `only` is as in `rows`, or "measured": those with a confidence, the least sure ones first. `among` are numbers.
        """
        where, order, values = _FILTERS.get(only, "sure IS NOT NULL"), "number", list[Any]()
        if only == "measured":
            order = "sure, number"
        if label is not None:
            where += " AND label = ?"
            values.append(label)
        if among is not None:
            where += " AND number IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(list(among)))
        by = "" if label is not None or among is not None else _INDEXED.get(only, "")
        found = self._file.read(_OPEN.format(indexed=by, where=where, order=order), _BEGINNING, id_, *values, limit)
        return [OpenRow(number, parse_json(row), *rest) for number, row, *rest in found]

    def failures(self, id_: str) -> dict[str, int]:
        """Return how many rows failed by the code of their error, the most frequent first."""
        query = (
            "SELECT coalesce(json_extract(item, '$.error.code'), ''), count(*) FROM rows "
            "WHERE job = ? AND state = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        return {str(code): int(count) for code, count in self._file.read(query, id_)}

    def unsure(self, id_: str) -> int | None:
        """Return how many rows are unsure; None: no row has a confidence."""
        query = f"SELECT count(*), coalesce(sum(sure < {UNSURE}), 0) FROM rows WHERE job = ? AND sure IS NOT NULL"
        ((measured, unsure),) = self._file.read(query, id_)
        return int(unsure) if measured else None

    # ── write ──

    def correct(self, id_: str, number: int, correction: Mapping[str, Any] | None) -> bool:
        """Store a person's correction of a row (None withdraws it); return whether the row exists.

        The row is then filtered by its corrected label.
        """
        text = None if correction is None else cell_json(dict(correction))
        with self._file.writing() as database:
            row = self.row(id_, number)  # here, so that no answer and no other correction can come in between
            if row is None:
                return False
            output: dict[str, Any] = (row.item or {}).get("output") or {}
            label = _short(label_of({**output, **(correction or {})}))
            database.execute("UPDATE jobs SET updated = ? WHERE id = ?", (self._clock(), id_))
            query = "UPDATE rows SET correction = ?, label = ? WHERE job = ? AND number = ?"
            database.execute(query, (text, label, id_, number))
        if self.on_correction is not None:
            self.on_correction(id_, row, correction)
        return True

    def add_rows(self, id_: str, rows: Iterable[NewRow]) -> None:
        """Store the rows of a new job, in parts, so that others can write in between."""
        for part in _parts(enumerate(rows, start=1)):
            with self._file.writing() as database:
                database.executemany(_INSERT, [_new_row(id_, number, *row) for number, row in part])


class DoneRow(NamedTuple):
    """The item of a row before it is stored: the item, also as JSON, its filter values, and its confidence."""

    number: int
    item: Item[Any]
    kept: str
    label: str | None = None
    sure: float | None = None


def store_item(database: sqlite3.Connection, id_: str, row: DoneRow) -> bool:
    """Store the item of a row that has none, and return whether it had none, because the first item is kept."""
    item = row.item
    state, repaired = "ok" if item.ok else "failed", int(item.repaired)
    values = (state, row.kept, _short(row.label), repaired, row.sure, id_, row.number)
    return bool(database.execute(_ANSWER, values).rowcount)


def ask_again(database: sqlite3.Connection, id_: str, only: str) -> None:
    """Remove the items of some rows (`only` as in `rows`), so that they wait again; an unreadable row never does."""
    database.execute(_ASK_AGAIN + _FILTERS[only], (id_,))
    count_rows(database, id_)


def count_rows(database: sqlite3.Connection, id_: str) -> None:
    """Recount the rows of a job."""
    database.execute(_COUNT, (id_,))


def _parts(rows: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(rows, _CHUNK)):
        yield part


def _row(found: tuple[Any, ...]) -> JobRow:
    number, sure, *texts = found
    row, given, item, correction = (parse_json(text or "null") for text in texts)
    return JobRow(number=number, row=row, given=given or {}, item=item, correction=correction, sure=sure)


def _new_row(
    id_: str, number: int, row: Mapping[str, Any], given: Mapping[str, Any], item: Item[Any] | None
) -> tuple[Any, ...]:
    cells = cell_json(dict(row))
    if item is not None:  # a row that could not be read: no input is stored, so that it is never asked
        return id_, number, cells, "null", _words(row), "failed", without_input(item)
    return id_, number, cells, cell_json(dict(given)), _words(given), "waiting", None


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _words(values: Mapping[str, Any]) -> str:
    return encodable(without_accents(" ".join(str(value) for value in values.values())))


def _short(label: str | None) -> str | None:
    return None if label is None or len(label) > _LONGEST_LABEL else encodable(label)


def _in_path(name: str) -> bool:
    """Return whether a name needs no escapes in JSON and in a JSON path of SQLite."""
    return name.isprintable() and name != "" and not {'"', "\\"} & {*name}
