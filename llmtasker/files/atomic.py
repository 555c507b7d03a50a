"""replacing: a file that appears under its name when it is complete, or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from llmtasker.errors import ConfigurationError


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is written directly: a pipe or a device, even if it leads to a file."""
    target = Path(path)
    if not target.exists() or target.is_dir():
        return False
    return not target.is_file() or target.is_relative_to("/dev") or target.is_relative_to("/proc")


def folder_of(file: BinaryIO) -> Path | None:
    """Return the folder of a file, where there is room for its rows; the system's temporary one may be small, or in
    memory."""
    path = Path(file.name)
    return path.parent if path.is_file() else None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """Yield a binary file to write; at the end of the block it replaces `path` in one step.

    Until then, and also if the block raises, an existing `path` does not change. A link is
    followed; an existing file keeps its mode, a new one gets the mode that the umask allows. A pipe or a
    device (`/dev/stdout`) is written directly.

    Raises ConfigurationError when the folder does not exist or can't be written, OSError when the disk is full.
    """
    target = Path(os.path.realpath(path))
    if is_stream(path):
        # By its own name, because the file behind /dev/stdout may have none. Appending keeps what a shell's >> keeps.
        with Path(path).open("ab") as device:
            yield device
        return
    if target.is_dir():
        raise ConfigurationError(f"{target} is a folder; give the name of a file")
    # In the same folder, because a rename is atomic only within a file system.
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    file = _create(draft, target)
    try:
        with file:  # Windows does not rename an open file.
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _create(draft: Path, target: Path) -> BinaryIO:
    try:
        # Not tempfile: its files are 0600, and reading the umask means changing it for every thread.
        file = draft.open("xb+")
    except OSError as error:
        raise ConfigurationError(f"can't write in the folder {draft.parent}: {error.strerror or error}") from error
    if target.exists():
        draft.chmod(stat.S_IMODE(target.stat().st_mode))
    return file


def _sync_folder(folder: Path) -> None:
    """Flush the rename itself to the disk; Windows can't, and does not need to."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
