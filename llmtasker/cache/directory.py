"""Where the cache of a user is, by the conventions of the platform."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def default_directory(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the user's cache folder: LLMTASKER_CACHE_DIR, or the one of the platform's convention.

    Raises:
        RuntimeError: the home folder of the user is not known.

    >>> default_directory({"HOME": "/home/ada"}, platform="linux").as_posix()
    '/home/ada/.cache/llmtasker'
    """
    if chosen := environ.get("LLMTASKER_CACHE_DIR"):
        return Path(chosen)
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home(environ) / "AppData" / "Local") / "llmtasker" / "Cache"
    if platform == "darwin":
        return _home(environ) / "Library" / "Caches" / "llmtasker"
    shared = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that isn't absolute is to be ignored.
    return (Path(shared) if shared.startswith("/") else _home(environ) / ".cache") / "llmtasker"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
