"""BlockBuffer: what a writer of archives writes to, and a receiver takes away block by block."""

from __future__ import annotations


class BlockBuffer:
    """A file that can only be written; `take` returns what was written since the last call, and forgets it."""

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
        """Do nothing: nothing is kept back."""

    def close(self) -> None:
        """Do nothing: what was written can still be taken."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        block = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return block
