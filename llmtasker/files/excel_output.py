"""Write Excel workbooks while the rows come: the only sheet is written as XML, row by row, into a zip archive."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from itertools import chain, islice
from typing import Any, BinaryIO

from llmtasker.errors import ConfigurationError
from llmtasker.files.block_buffer import BlockBuffer
from llmtasker.files.cells import cell_text
from llmtasker.files.format import Format
from llmtasker.values.lazy_pattern import lazy_pattern

MAX_ROWS = 1_048_575
"""The most rows of a sheet, without the header."""
MAX_COLUMNS = 16_384
"""The most columns of a sheet."""
MAX_CELL = 32_767
"""The most characters of a cell, counted as Excel does, in UTF-16."""
EXACT = 2**53
"""Integers up to this are exact in a cell, which is a double."""
MAX_SHEET = (1 << 31) - 1
"""The most bytes of a sheet: a larger one needs a form of zip that Excel can't read from a stream."""

_SAMPLE = 200  # rows that determine the widths of the columns
_BLOCK = 1 << 16  # characters of XML, and bytes of the archive, per block
_LEVEL = 3  # of compression: the highest takes twice the time for 12 % less

# Characters not in XML (a lone \r becomes \n), and the underscore of a text that looks like such an escape.
_TO_ESCAPE = lazy_pattern("[\\x00-\\x08\\x0b-\\x1f\\ud800-\\udfff\\ufffe\\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_HALF = lazy_pattern("[\ud800-\udbff]$")

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_SHEET = "xl/worksheets/sheet1.xml"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_KIND}.styles+xml"/>'
    f'<Override PartName="/{_SHEET}" ContentType="{_KIND}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><bookViews><workbookView/></bookViews><sheets>'
    '<sheet name="rows" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    # The styles that cells name by their place: 0 anything, 1 a day, 2 a day with a time, 3 a time, 4 a duration.
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts count="4">'
    '<numFmt numFmtId="164" formatCode="yyyy-mm-dd"/><numFmt numFmtId="165" formatCode="yyyy-mm-dd h:mm:ss"/>'
    '<numFmt numFmtId="166" formatCode="h:mm:ss"/><numFmt numFmtId="167" formatCode="[h]:mm:ss"/></numFmts>'
    '<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills><borders count="1"><border/></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs><cellXfs count="5">'
    + "".join(
        f'<xf numFmtId="{number}" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
        for number in (0, 164, 165, 166, 167)
    )
    + '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}
_HEAD = (
    f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
)
_DAY_0 = datetime(1899, 12, 30)
_DAY = 86_400
_DAYS = timedelta(days=1)


def write_excel(file: BinaryIO, rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str] | None) -> int:
    """Write rows as the only sheet of a workbook and return their number.

    Text is stored as text, never as a formula. Integers over 2⁵³, which Excel would round, are text; values that
    Excel can't represent are ISO 8601 or JSON text; texts over 32,767 characters are cut, with a warning.

    Raises ConfigurationError for more than 1,048,575 rows, 16,384 columns or 2 GB.
    """
    held = rows if columns is not None else list(rows)
    names = columns if columns is not None else list(dict.fromkeys(name for row in held for name in row))
    sheet = _SheetXML(names)
    file.writelines(_archived(sheet, held))
    if sheet.longest_cut:
        cut = f"a text of {sheet.longest_cut:,} characters is cut: an Excel cell has at most {MAX_CELL:,}"
        warnings.warn(cut, stacklevel=2)
    return sheet.count


def excel_blocks(rows: Iterable[Mapping[str, Any]], form: Format, columns: Sequence[str]) -> Generator[bytes]:
    """Yield what `write_excel` writes while the rows come; a text that is cut ends in `…`."""
    return _archived(_SheetXML(columns), rows)


def _archived(sheet: _SheetXML, rows: Iterable[Mapping[str, Any]]) -> Generator[bytes]:
    # The buffer can't seek, so the sizes of a part come after it, as in every streamed archive.
    buffer = BlockBuffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, content in _PARTS.items():
            with archive.open(name, "w") as part:
                part.write((_XML + content).encode())
        yield buffer.take()  # at once, because a client waits for the first byte
        with archive.open(_SHEET, "w") as part:
            size = 0
            for text in sheet.xml(rows):
                block = text.encode()
                size += len(block)
                if size > MAX_SHEET:
                    raise ConfigurationError("an Excel sheet can't exceed 2 GB; write .csv, .jsonl, .parquet")
                part.write(block)
                if buffer.size >= _BLOCK:
                    yield buffer.take()
    yield buffer.take()


class _SheetXML:
    """The sheet as XML. `count`: rows so far; `longest_cut`: characters of the longest text that was cut."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(names) > MAX_COLUMNS:
            raise ConfigurationError(
                f"an Excel sheet has at most {MAX_COLUMNS:,} columns; write .csv, .jsonl or .parquet"
            )
        self._names = list(names)
        self._letters = [_letters(place) for place in range(len(names))]
        self.count = 0
        self.longest_cut = 0

    def xml(self, rows: Iterable[Mapping[str, Any]]) -> Generator[str]:
        """Yield the XML in pieces while rows come."""
        rest = iter(rows)
        first = list(islice(rest, _SAMPLE))  # widths are written before the rows
        pieces, size = [_HEAD, self._widths(first), "<sheetData>", self._row(1, self._names)], 0
        for self.count, row in enumerate(chain(first, rest), start=1):
            if self.count > MAX_ROWS:
                raise ConfigurationError(
                    f"an Excel sheet has at most {MAX_ROWS:,} rows; write .csv, .jsonl or .parquet"
                )
            pieces.append(self._row(self.count + 1, [row.get(name) for name in self._names]))
            size += len(pieces[-1])
            if size >= _BLOCK:
                yield "".join(pieces)
                pieces, size = [], 0
        yield "".join(pieces) + "</sheetData></worksheet>"

    def _widths(self, first: Sequence[Mapping[str, Any]]) -> str:
        widths = list[str]()
        for place, name in enumerate(self._names, start=1):
            widest = max(len(cell_text(value)) for value in [name, *(row.get(name) for row in first)])
            width = min(max(widest + 2, 8), 60)
            widths.append(f'<col min="{place}" max="{place}" width="{width}" customWidth="1"/>')
        return f"<cols>{''.join(widths)}</cols>" if widths else ""

    def _row(self, number: int, values: Sequence[Any]) -> str:
        cells = [
            f'<c r="{letters}{number}"{cell}'
            for letters, value in zip(self._letters, values, strict=True)
            if (cell := self._cell(value))
        ]
        return f'<row r="{number}">{"".join(cells)}</row>'

    def _cell(self, value: Any) -> str:
        """Return the XML of a cell after its place, or nothing for an empty one."""
        if type(value) is not str:
            if value is None:
                return ""
            if isinstance(value, bool):
                return f' t="b"><v>{value:d}</v></c>'
            if isinstance(value, int) and abs(value) <= EXACT:
                return f"><v>{int(value)}</v></c>"
            if isinstance(value, float) and math.isfinite(value):
                return f"><v>{float(value)!r}</v></c>"
            if isinstance(value, date | time) and _excel_knows(value):
                return _moment(value)
            if isinstance(value, timedelta) and value >= timedelta() and not value.microseconds:
                return f' s="4"><v>{value / _DAYS!r}</v></c>'
            value = cell_text(value)
        if not value:
            return ""
        return f' t="inlineStr"><is><t xml:space="preserve">{self._text(value)}</t></is></c>'

    def _text(self, text: str) -> str:
        if len(text) > MAX_CELL // 2:
            text = self._cut(text)
        if not text.isprintable() or "_x" in text:  # line ends are not printable either
            text = _TO_ESCAPE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
        if "&" in text or "<" in text or ">" in text:
            return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return text

    def _cut(self, text: str) -> str:
        units = text.encode("utf-16-le", "surrogatepass")
        if len(units) <= 2 * MAX_CELL:
            return text
        self.longest_cut = max(self.longest_cut, len(text))
        return _HALF.sub("", units[: 2 * (MAX_CELL - 1)].decode("utf-16-le", "surrogatepass")) + "…"


def _letters(place: int) -> str:
    """Return the letters of a column: A, B, … Z, AA, …"""
    letters, place = "", place + 1
    while place:
        place, letter = divmod(place - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def _excel_knows(value: date | time) -> bool:
    """Excel has no time zones, no days before 1900 (nor correct ones before March), and counts milliseconds."""
    if isinstance(value, time):
        return value.tzinfo is None and value.microsecond == 0
    if isinstance(value, datetime) and (value.tzinfo is not None or value.microsecond):
        return False
    return (value.year, value.month) >= (1900, 3)


def _moment(value: date | time) -> str:
    """Return the cell of a moment, which is a number of days."""
    if isinstance(value, time):
        return f' s="3"><v>{(value.hour * 3600 + value.minute * 60 + value.second) / _DAY!r}</v></c>'
    if isinstance(value, datetime):
        since = value - _DAY_0
        return f' s="2"><v>{since.days + since.seconds / _DAY!r}</v></c>'
    return f' s="1"><v>{value.toordinal() - _DAY_0.toordinal()}</v></c>'
