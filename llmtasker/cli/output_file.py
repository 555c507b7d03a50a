"""check_output: check that a file can be written before anything is asked for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def check_output(path: Path, what: str, endings: Sequence[str], sources: Sequence[Path | None] = ()) -> None:
    """Check that --out names a file that can be written; `what` is written to it, with one of these suffixes.

    Raises:
        ConfigurationError: it has another suffix, it is one of the input files, or its folder can't be used.
    """
    from llmtasker.errors import ConfigurationError
    from llmtasker.files.atomic import is_stream

    wrong, folder = "", path.parent
    if path.suffix.lower() not in endings:
        names = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        wrong = f"{what} is written as {names}."
    elif path.is_dir():
        wrong = "that is a folder; give the name of a file."
    elif any(source is not None and source.resolve() == path.resolve() for source in sources):
        wrong = "that is an input file: choose another name."
    elif not folder.is_dir():
        wrong = f"there is no folder {folder}."
    elif not is_stream(path) and not os.access(folder, os.W_OK | os.X_OK):
        wrong = f"the folder {folder} is not writable."
    if wrong:
        raise ConfigurationError(f"--out {path}: {wrong}")
