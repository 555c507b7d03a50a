"""ResponseReader: parses one HTTP/1.1 response from the bytes of a connection (RFC 9112); no I/O."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from llmtasker.values.lazy_pattern import lazy_pattern

LARGEST = 64 << 20
"""The most bytes of a body that are read, counted after decompression."""
_LARGEST_HEAD = 1 << 18
_NO_BODY = frozenset({204, 304})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_NOT_ASKED_FOR = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_CHUNK_SIZE = lazy_pattern(rb"[0-9A-Fa-f]{1,15}")  # int() accepts more, such as 0x10 and 1_0
_EITHER = zlib.MAX_WBITS | 32  # zlib or gzip, by its header
_MEMBER = b"\x1f\x8b"
_CR = 13
_LINE_END = -2  # stands for the bytes that are left: only the line end of a chunk


class ResponseError(Exception):
    """The bytes are not an HTTP response."""


class TooLargeError(ResponseError):
    """The response is larger than the limit."""

    def __init__(self, largest: int) -> None:
        super().__init__(f"the endpoint sent more than {largest >> 20:,} MB")


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def has_id(self) -> bool:
        """Whether this is an answer with a unique id, so that an equal one is the same, sent twice."""
        return self.status == 200 and b'"id"' in self.body


class ResponseReader:
    """Reads one response from the bytes that it is fed.

    >>> reader = ResponseReader()
    >>> reader.feed(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{"), reader.feed(b"}")
    (False, True)
    >>> reader.response().body, reader.keeps_alive
    (b'{}', True)
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._data = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._left: int | None = None  # bytes of the body or chunk to come; None: until the connection ends
        self._chunked = False
        self._decoder: _Inflater | None = None
        self._whole = False
        self.keeps_alive = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the response is complete.

        Raises:
            ResponseError: they are not a response, or it is too large.
        """
        self._data += data
        if not self._status and not self._read_head():
            return False
        self._whole = self._whole or (self._read_chunks() if self._chunked else self._read_body())
        if self._whole and self._data:
            self.keeps_alive = False  # more than one response
        return self._whole

    def end(self) -> bool:
        """The connection has ended: return whether the response is complete."""
        if self._status and self._left is None and not self._chunked:
            self._whole = True
        return self._whole

    def response(self) -> Response:
        """Return the complete response.

        Raises:
            ResponseError: its compression is broken.
        """
        if self._decoder is not None and not self._decoder.finished:
            raise ResponseError("the compressed body is cut")
        return Response(self._status, self._headers, bytes(self._body))

    def _read_head(self) -> bool:
        while True:
            first = self._data.find(b"\n")
            line_end = (
                b"\r\n" if first > 0 and self._data[first - 1] == _CR else b"\n"
            )  # RFC 9112 section 2.2 allows both
            end = self._data.find(line_end * 2)
            if end < 0:
                if len(self._data) > _LARGEST_HEAD or (len(self._data) >= 5 and not self._data.startswith(b"HTTP/")):
                    raise ResponseError(f"not an HTTP response: {bytes(self._data[:40])!r}")
                return False
            head = self._data[:end].decode("latin-1")
            if "\n " in head or "\n\t" in head:
                head = re.sub(r"\r?\n[ \t]+", " ", head)  # a header that continues in the next line
            lines = head.split(line_end.decode())
            del self._data[: end + 2 * len(line_end)]
            version, _, rest = lines[0].partition(" ")
            if not version.startswith("HTTP/1.") or not (rest[:3].isascii() and rest[:3].isdigit()):
                raise ResponseError(f"not an HTTP response: {lines[0][:40]!r}")
            status = int(rest[:3])
            if status >= 200:
                break
            if status < 100:
                raise ResponseError(f"not an HTTP response: {lines[0][:40]!r}")
            if status == 101:
                raise ResponseError("the server switches to another protocol")
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise ResponseError(f"not an HTTP header: {line[:40]!r}")
            name, value = name.lower(), value.strip()
            self._headers[name] = f"{self._headers[name]}, {value}" if name in self._headers else value
        self._status = status
        self._plan(version)
        return True

    def _plan(self, version: str) -> None:
        """Decide how the body ends, and whether the connection can be reused."""
        headers = self._headers
        connection = headers.get("connection", "").lower()
        self.keeps_alive = "close" not in connection and (version != "HTTP/1.0" or "keep-alive" in connection)
        if "content-encoding" in headers:
            self._plan_decoding(headers["content-encoding"].lower())
        transfer = headers.get("transfer-encoding", "").lower()
        codings = {part.strip() for part in transfer.split(",")} - {"", "identity"} if transfer else None
        if self._status in _NO_BODY:
            self._left, self._decoder = 0, None
        elif codings:
            if codings != {"chunked"}:
                raise ResponseError(f"unknown transfer-encoding {transfer[:20]!r}")
            # A response with both may be an attack that relies on two readings (RFC 9112 section 6.3).
            self.keeps_alive = self.keeps_alive and transfer == "chunked" and "content-length" not in headers
            self._chunked = True
        elif "content-length" in headers:
            lengths = {part.strip() for part in headers["content-length"].split(",")}
            length = lengths.pop()
            if lengths or not (length.isascii() and length.isdigit()):
                raise ResponseError("a content-length that is not one number")
            self._left = int(length)
            if self._left == 0:
                self._decoder = None
            if self._left > self._largest:
                raise TooLargeError(self._largest)
        else:
            self.keeps_alive = False

    def _plan_decoding(self, header: str) -> None:
        """Decide how the body is decompressed; a value that is not a compression, such as "utf-8", is ignored."""
        codings = [part.strip() for part in header.split(",")]
        compressed = [coding for coding in codings if coding in _COMPRESSED]
        if len(compressed) > 1 or _NOT_ASKED_FOR.intersection(codings):
            raise ResponseError(f"the body is encoded as {header[:20]!r}, which was not asked for")
        if compressed:
            self._decoder = _Inflater(self._largest)

    def _read_body(self) -> bool:
        size = len(self._data) if self._left is None else min(self._left, len(self._data))
        self._add(bytes(self._data[:size]))
        del self._data[:size]
        if self._left is None:
            return False
        self._left -= size
        return self._left == 0

    def _read_chunks(self) -> bool:
        while True:
            if self._left is not None and self._left > 0:
                size = min(self._left, len(self._data))
                self._add(bytes(self._data[:size]))
                del self._data[:size]
                self._left -= size
                if self._left:
                    return False
                self._left = _LINE_END
            if self._left == _LINE_END:
                if len(self._data) < 2:
                    return False
                if not self._data.startswith(b"\r\n"):
                    raise ResponseError("a chunk that is longer than its size")
                del self._data[:2]
                self._left = None
            if self._left == 0:
                return self._read_trailers()
            end = self._data.find(b"\r\n")
            if end < 0:
                if len(self._data) > _LARGEST_HEAD:
                    raise ResponseError("a chunk without a size")
                return False
            size_text = bytes(self._data[:end]).partition(b";")[0].strip()
            if not _CHUNK_SIZE.fullmatch(size_text):
                raise ResponseError(f"a chunk of the size {size_text[:20]!r}")
            self._left = int(size_text, 16)
            if self._left > self._largest:
                raise TooLargeError(self._largest)
            del self._data[: end + 2]

    def _read_trailers(self) -> bool:
        while (end := self._data.find(b"\r\n")) > 0:
            del self._data[: end + 2]
        if end < 0:
            if len(self._data) > _LARGEST_HEAD:
                raise ResponseError("trailers without an end")
            return False
        del self._data[:2]
        return True

    def _add(self, data: bytes) -> None:
        self._body += data if self._decoder is None else self._decoder.feed(data, len(self._body))
        if len(self._body) > self._largest:
            raise TooLargeError(self._largest)


class _Inflater:
    """Decompresses gzip, of one member or several, and deflate, up to a limit."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._inflate = zlib.decompressobj(_EITHER)
        self._begun = False
        self._kept: bytes = b""  # a single byte, which does not show the format yet

    @property
    def finished(self) -> bool:
        return self._inflate.eof or not (self._begun or self._kept)

    def feed(self, data: bytes, so_far: int) -> bytes:
        made = b""
        data = self._kept + data
        self._kept = b""
        while data and so_far + len(made) <= self._largest:
            between = self._inflate.eof or not self._begun
            if between and len(data) == 1:
                self._kept = data
                break
            if self._inflate.eof:
                if not data.startswith(_MEMBER):
                    break  # padding
                self._inflate, self._begun = zlib.decompressobj(_EITHER), False
            made += self._decompress(data, self._largest - so_far - len(made) + 1)
            data = self._inflate.unused_data
        return made

    def _decompress(self, data: bytes, room: int) -> bytes:
        begun, self._begun = self._begun, True
        try:
            return self._inflate.decompress(data, room)
        except zlib.error as error:
            wrong = ResponseError(f"the compressed body is broken: {error}")
        if begun:
            raise wrong
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers send deflate without its header
        try:
            return self._inflate.decompress(data, room)
        except zlib.error:
            raise wrong from None
