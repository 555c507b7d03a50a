"""Write CSV: to a file whose columns and encoding are determined first, or in blocks for a receiver that waits."""

from __future__ import annotations

import codecs
import json
import re
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from llmtasker.files.atomic import folder_of
from llmtasker.files.cells import cell_text, neutralise
from llmtasker.files.format import Format
from llmtasker.values.lazy_pattern import lazy_pattern

WIDE = "utf-8-sig"
"""The encoding instead of one that can't represent a text: UTF-8 with the byte order mark, which Excel recognises."""

EVERY = "\U0010ffff"
"""A character that an encoding has only if it has all of Unicode."""

_SURROGATE = lazy_pattern("[\ud800-\udfff]")
_BLOCK = 1 << 16  # characters


def write_csv(file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None) -> int:
    """Write rows as CSV and return their number.

    Without `columns`, there is one for each name in any row. Text that the encoding can't represent makes the
    whole file UTF-8 with a byte order mark; a lone surrogate, which no encoding has, is written as `\\ud800`.
    Both warn, once.
    """
    names = dict.fromkeys(columns or ())
    encoding = form.encoding
    # Columns and encoding are known only after the last row, and rows come once, so they are stored as JSON lists.
    with TemporaryFile("w+", encoding="ascii", dir=folder_of(file)) as draft:
        count = 0
        for count, row in enumerate(rows, start=1):
            if columns is None:
                names.update(dict.fromkeys(row))
            cells = [cell_text(row.get(name), form.decimal) for name in names]
            encoding = _wide_enough(encoding, "".join(cells), count)
            draft.write(json.dumps(cells) + "\n")
        encoding = _wide_enough(encoding, "".join(names), 0)
        draft.seek(0)
        records = (json.loads(line) for line in draft)
        if names:
            file.writelines(_blocks(records, list(names), replace(form, encoding=encoding)))
    return count


def csv_blocks(rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str]) -> Generator[bytes]:
    """Yield what `write_csv` writes while the rows come.

    Characters that the encoding lacks are escaped, as `\\u20ac`; choose one with `encoding_for`.
    """
    records = ([cell_text(row.get(name), form.decimal) for name in columns] for row in rows)
    return _blocks(records, columns, form)


def encoding_for(texts: Iterable[str], encoding: str) -> str:
    """Return the encoding if it can represent all texts, lone surrogates aside; else that of `WIDE`."""
    if _missing(EVERY, encoding) is None:
        return encoding
    missing = (_missing(text, encoding) for text in texts)
    return encoding if all(one is None or _SURROGATE.match(one) for one in missing) else WIDE


def _wide_enough(encoding: str, text: str, row: int) -> str:
    """Return an encoding that can represent a text: the given one if it can."""
    missing = _missing(text, encoding)
    if missing is None:
        return encoding
    if _SURROGATE.match(missing):
        warnings.warn(
            "half of a character pair (a lone surrogate) is in no encoding; it is written as \\udXXX", stacklevel=2
        )
        return encoding
    message = (
        f"row {row} has {missing!r}, which is not in {encoding}: the file is written as UTF-8 with a byte order mark"
    )
    warnings.warn(message, stacklevel=2)
    return WIDE


def _missing(text: str, encoding: str) -> str | None:
    """Return a character of a text that an encoding lacks; a lone surrogate, which all lack, only if there is no
    other."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        odd = error.object[error.start]
        rest = _SURROGATE.sub("", text)
        return (_missing(rest, encoding) if len(rest) < len(text) else odd) or odd
    return None


def _blocks(records: Iterable[list[str]], names: Sequence[str], form: Format) -> Generator[bytes]:
    # Texts that csv.reader would change, and spaces at the ends, which other readers strip.
    special = re.compile(rf"[{re.escape(form.delimiter)}\"\r\n]|^[\s\ufeff]|\s$")

    def line(cells: list[str]) -> str:
        texts = [neutralise(cell) for cell in cells] if form.neutralised else cells
        if texts == [""]:
            return '""' + form.newline  # An empty line is not a record.
        quoted = ['"' + text.replace('"', '""') + '"' if special.search(text) else text for text in texts]
        return form.delimiter.join(quoted) + form.newline

    # One encoder for all blocks, so that only the first has a byte order mark.
    encode = codecs.getincrementalencoder(form.encoding)("backslashreplace").encode
    lines, size = [line(list(names))], _BLOCK  # the header is sent at once, because a client waits for the first byte
    for cells in records:
        if size >= _BLOCK:
            yield encode("".join(lines))
            lines, size = [], 0
        lines.append(line(cells + [""] * (len(names) - len(cells))))
        size += len(lines[-1])
    yield encode("".join(lines), True)
