"""BlockBuffer: a buffer that archive writers write to, and a receiver empties block by block."""

from __future__ import annotations


class BlockBuffer:
    """A file that can only be written; `take` returns and discards what was written since the last call."""

    closed = False

    def __init__(self) -> None:
        self._pieces = list[bytes]()
        self.size = 0

    def write(self, piece: bytes) -> int:
        """Keep a piece until it is taken."""
        self._pieces.append(bytes(piece))
        self.size += len(piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing: nothing is buffered further."""

    def close(self) -> None:
        """Do nothing: what was written can still be taken."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        block = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return block
