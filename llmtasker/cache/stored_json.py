"""stored: a JSON object that is slow to create, stored on disk, so that few processes import its code."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtasker.cache.disk_cache import default_directory
from llmtasker.values.json_values import canonical_json, is_object, parse_json

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_FOLDER = "compiled"  # in the user's cache folder
_MOST_FILES = 400
_LARGEST = 8_000_000  # bytes
_PACKAGES = ("instructor", "openai", "pydantic", "docstring-parser", "llmtasker")
_logger = logging.getLogger(__name__)


def stored(
    source: Mapping[str, Any], code: str | tuple[str, ...], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return the stored object for a source, from any earlier process, or else create and store it.

    `source` is JSON; `code` names the files of the code that creates the object. A stored object is valid for these
    and for the versions of all packages involved. An unusable folder is not an error: the object is created each time.
    """
    try:
        text = canonical_json([source, _versions((code,) if isinstance(code, str) else code)])
        folder = default_directory() / _FOLDER
    except (ValueError, RuntimeError):  # NaN in a schema; the user has no home folder
        return make()
    key = hashlib.sha256(text.encode("ascii")).hexdigest()
    found = _read(folder, key)
    if found is None:
        found = make()
        try:
            _write(folder, key, found)
        except (OSError, ValueError) as error:
            _logger.debug("the compiled object is not stored in %s: %s", folder, error)
    return found


@cache
def _versions(code: tuple[str, ...]) -> dict[str, str]:
    from importlib import metadata

    found: dict[str, str] = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = _version(metadata.distribution(package))
    with contextlib.suppress(OSError):  # a version in development changes without its number
        found["code"] = hashlib.sha256(b"".join(Path(file).read_bytes() for file in code)).hexdigest()
    return found


def _version(distribution: Distribution) -> str:
    # Not its `version`, which parses the whole description of a package.
    text = distribution.read_text("METADATA") or ""
    found = re.search(r"^Version:\s*(\S+)", text, re.MULTILINE)
    return distribution.version if found is None else found[1]


def _read(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the object in a file; None if it is missing, damaged, or writable by other users."""
    path = folder / f"{key}.json"
    try:
        if not (_is_private(folder.lstat()) and _is_private(found := path.lstat())) or found.st_size > _LARGEST:
            return None
        checksum, _, text = path.read_text("ascii").partition("\n")
        if checksum != _checksum(key, text):
            return None
        value = parse_json(text)
    except (OSError, ValueError, RecursionError):
        return None  # it is created and written again
    return value if is_object(value) else None


def _is_private(found: os.stat_result) -> bool:
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return False
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _write(folder: Path, key: str, made: dict[str, Any]) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder.lstat()):
        return
    files = sorted(folder.glob("*.json"), key=lambda path: path.lstat().st_mtime)
    for old in files[: max(len(files) - _MOST_FILES + 1, 0)]:
        old.unlink(missing_ok=True)
    text = canonical_json(made)
    draft = folder / f"{key}.{secrets.token_hex(6)}.part"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"{_checksum(key, text)}\n{text}")
        draft.replace(folder / f"{key}.json")
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _checksum(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode("ascii")).hexdigest()
