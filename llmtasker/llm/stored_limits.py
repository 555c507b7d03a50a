"""Learned limits of an endpoint, stored beside the cache for the next process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from llmtasker.errors import ConfigurationError
from llmtasker.values.json_values import canonical_json, is_object

_LASTS = 24 * 3600.0  # seconds: an endpoint may allow more or less tomorrow


def load_limits(folder: Path, endpoint: str, model: str) -> dict[str, Any]:
    """Return what was saved for an endpoint and model within the last day; empty if there is nothing to read."""
    try:
        data: Any = json.loads(_file(folder, endpoint, model).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    saved = data.get("saved") if is_object(data) else None
    if not isinstance(saved, int | float) or not 0 <= time.time() - saved < _LASTS:
        return {}
    return data if is_object(data) else {}


def save_limits(folder: Path, endpoint: str, model: str, learned: dict[str, float]) -> None:
    """Save what was learned; ignore a folder that can't be written, because this only saves time."""
    from llmtasker.files.atomic import replacing  # most processes only load

    file = _file(folder, endpoint, model)
    with contextlib.suppress(OSError, ConfigurationError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(file) as opened:
            opened.write(canonical_json({**learned, "saved": time.time()}).encode("ascii"))


def _file(folder: Path, endpoint: str, model: str) -> Path:
    name = hashlib.sha256(canonical_json([endpoint, model]).encode("ascii")).hexdigest()[:32]
    return folder / "limits" / f"{name}.json"
