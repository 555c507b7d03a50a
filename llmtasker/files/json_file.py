"""Read and write JSON lines and JSON arrays."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from llmtasker.errors import ConfigurationError, InputError, snippet
from llmtasker.files.cells import cell_json
from llmtasker.files.encoding import decodes, open_text
from llmtasker.files.format import Format
from llmtasker.files.header import Header
from llmtasker.values.broken_row import BrokenRow
from llmtasker.values.json_values import is_array, is_object, parse_json, parse_json_loosely

_BLOCK = 1 << 16  # bytes
LINE = "line"
"""The column for a line that is not JSON, so that nothing of it is lost."""


def json_header(path: Path, form: Format) -> Header:
    """Return the names in all rows, in order of appearance."""
    names: dict[str, None] = {}
    for row in (read_jsonl if form.kind == "jsonl" else read_json)(path, form):
        names.update(dict.fromkeys(row))
    return Header(tuple(names), in_line=False)


def read_jsonl(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the object of each line; an empty line is skipped, and so is a comma after an object.

    A line that is not one JSON object is a BrokenRow with the part that can be read, else with the line itself.
    """
    damaged = not form.odd_bytes and not decodes(path, form.encoding)
    # Only \n ends a line: inside a text, JSON allows U+2028 and similar characters.
    with open_text(path, form.encoding, newline="\n", odd_bytes=form.odd_bytes) as file:
        for number, line in enumerate(file, start=1):
            if damaged and "\ufffd" in line:
                yield BrokenRow(_kept(line), error=InputError(f"line {number} is not {form.encoding}"))
            elif not line.isspace():
                yield _row(line.strip().removesuffix(","), f"line {number}")


def read_json(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON array, which is read as a whole. A single object is one row."""
    try:
        content = parse_json(path.read_text(encoding=form.encoding).lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not valid JSON: {_reason(error)}") from error
    rows = content if is_array(content) else [content]
    for number, row in enumerate(rows, start=1):
        yield _object(row, f"element {number}")


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        return _object(parse_json(line), place)
    except (ValueError, RecursionError) as error:
        return BrokenRow(_kept(line), error=InputError(f"{place} is not valid JSON: {_reason(error)}"))


def _kept(line: str) -> dict[str, Any]:
    """Return the content of a line that is almost JSON, such as NaN, which becomes a text; else the line itself.

    If it has a duplicate key, the line is kept as well, because an object can have only one of the values.
    """
    whole = {LINE: line.rstrip("\r\n")}
    try:
        value, doubled = parse_json_loosely(line)
    except (ValueError, RecursionError):
        return whole
    if not is_object(value) or (doubled and LINE in value):
        return whole
    return value | whole if doubled else value


def _object(value: Any, place: str) -> dict[str, Any]:
    if is_object(value):
        return value
    kind = type(value).__name__
    error = InputError(f'{place} is a {kind}, not an object such as {{"message": …}}')
    return BrokenRow({LINE: cell_json(value)}, error=error)


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else snippet(error, 120)


def write_jsonl(file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None) -> int:
    """Write one JSON object per line and return their number."""
    count = 0
    for row in rows:
        file.write(json_line(row, columns))
        count += 1
    return count


def jsonl_blocks(rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str]) -> Generator[bytes]:
    """Yield what `write_jsonl` writes while the rows come."""
    lines, size = list[bytes](), 0
    for row in rows:
        lines.append(json_line(row, columns))
        size += len(lines[-1])
        if size >= _BLOCK:
            yield b"".join(lines)
            lines, size = [], 0
    yield b"".join(lines)


def write_json(file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None) -> int:
    """Write a JSON array with one row per line, and return their number."""
    count = 0
    for row in rows:
        file.write((b",\n" if count else b"[\n") + json_line(row, columns).rstrip(b"\n"))
        count += 1
    file.write(b"\n]\n" if count else b"[]\n")
    return count


def json_line(row: Mapping[str, Any], columns: Sequence[str] | None = None) -> bytes:
    """Return a row as one line of JSON in UTF-8, with its line end."""
    values = dict(row) if columns is None else {name: row[name] for name in columns if name in row}
    return (cell_json(values) + "\n").encode()
