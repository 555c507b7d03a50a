"""Compressed files: the file is unpacked into a temporary file, and read like any other."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.values.lazy_pattern import lazy_pattern

COMPRESSED = {".gz", ".bz2", ".xz", ".zip"}
MAX_UNPACKED = 1 << 36
"""The most bytes to unpack: a small file can contain more than any disk."""

# Folders, and what macOS and Windows add to an archive.
_OF_A_SYSTEM = lazy_pattern(r"/$|^__MACOSX/|(^|/)(\._[^/]*|\.DS_Store|Thumbs\.db|desktop\.ini)$", re.IGNORECASE)


@contextmanager
def unpacked(path: Path) -> Generator[Path]:
    """Yield the path of a file's content: the file itself, or an unpacked copy that exists during the block.

    Raises:
        ConfigurationError: the file can't be unpacked, or an archive contains more than one file.
    """
    if path.suffix.lower() not in COMPRESSED or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        copy = Path(folder) / path.stem
        try:
            with _opened(path) as packed, copy.open("wb") as file:
                while block := packed.read(1 << 20):
                    file.write(block)
                    if file.tell() > MAX_UNPACKED:
                        raise ConfigurationError(f"{path} contains more than {MAX_UNPACKED >> 30} GB")
        except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
            raise ConfigurationError(
                f"can't unpack {path}: {snippet(error)}. Copy the file again, or unpack it and give its content."
            ) from error
        yield copy


@contextmanager
def spooled(stream: IO[bytes], name: str) -> Generator[Path]:
    """Yield a file with the content of a stream, which can't be read twice; it exists during the block."""
    with tempfile.TemporaryDirectory(prefix="llmtasker-") as folder:
        copy = Path(folder) / name
        with copy.open("wb") as file:
            shutil.copyfileobj(stream, file)
        yield copy


@contextmanager
def _opened(path: Path) -> Generator[IO[bytes]]:
    ending = path.suffix.lower()
    if ending != ".zip":
        packed: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
        with packed[ending](path) as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not _OF_A_SYSTEM.search(name)]
        if len(names) != 1:
            raise ConfigurationError(f"{path} contains {len(names)} files; unpack it and give one of them")
        with archive.open(names[0]) as file:
            yield file
