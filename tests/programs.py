"""Programs that tests start, Python by default: their output arrives at once, and none outlives its test.

Code of a test (`-c`) runs with unbuffered output. Commands of the package (`-m`) run as for a user, so that a missing
flush is found.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

SECONDS = 60.0


def run(*arguments: object, program: str = sys.executable, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end and return what it printed, as text unless `text=False`.

    Raises:
        subprocess.TimeoutExpired: it was killed because it took longer than `timeout`, 60 seconds by default.
    """
    pipe = subprocess.PIPE
    options = {"text": True, "timeout": SECONDS, "check": False, "stdout": pipe, "stderr": pipe, **options}
    return subprocess.run(_command(arguments, program), **options)  # noqa: PLW1510 - `check` is an option


@contextmanager
def started(*arguments: object, program: str = sys.executable, **options: Any) -> Generator[subprocess.Popen[Any]]:
    """Start a program with a pipe from its standard output; it does not outlive the context."""
    options = {"text": True, "stdout": subprocess.PIPE, **options}
    with subprocess.Popen(_command(arguments, program), **options) as process:
        try:
            yield process
        finally:
            process.kill()


def _command(arguments: tuple[object, ...], program: str = sys.executable) -> list[str]:
    unbuffered = ["-u"] if program == sys.executable and "-c" in arguments else []
    return [program, *unbuffered, *map(str, arguments)]
