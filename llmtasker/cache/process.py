"""Owner: which process holds a lease, and whether it is still there.

A lease says "this process is asking; wait for its answer". It ends when it is released, when its time is
over, or at once when its owner is gone: killed processes release nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

LONGEST = 3600.0
"""Seconds that a lease may last: a clock that jumped, or a forged row, must not stop anybody for longer."""

_ENDED = -1  # the start of a process that its parent has not waited for yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process: where its number means something, the number, and when it started.

    Numbers are used again, so the start (clock ticks since the machine was booted; None where the
    system doesn't tell) says whether it is still the same process.
    """

    place: str
    pid: int
    started: int | None

    def to_json(self) -> str:
        """Return the owner as ASCII JSON text."""
        return json.dumps([self.place, self.pid, self.started])

    @classmethod
    def from_json(cls, text: str | bytes) -> Owner | None:
        """Return the owner that `to_json` wrote, or None when the text is none."""
        try:
            place, pid, started = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return None
        known = isinstance(place, str) and type(pid) is int and pid > 0
        if not known or not (started is None or type(started) is int):
            return None
        return cls(place=place, pid=pid, started=started)

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; False where this can't be told from here."""
        if self.place != _place():
            return False
        if sys.platform == "win32":
            # Signal 0 is Ctrl-C there: nothing harmless tells whether a process lives, so the lease has to run out.
            return False
        with contextlib.suppress(PermissionError):  # it lives, and is somebody else's: perhaps not the one meant
            try:
                os.kill(self.pid, 0)
            except (ProcessLookupError, OverflowError):
                return True
        started = _started(self.pid)
        if started is None or self.started is None:
            return started == _ENDED
        return started != self.started


def this_process() -> Owner:
    """Return the process that runs this."""
    return _owner(os.getpid())


@functools.lru_cache(maxsize=8)
def _owner(pid: int) -> Owner:
    # By number, so that a forked child does not take itself for its parent.
    return Owner(place=_place(), pid=pid, started=_started(pid))


@functools.cache
def _place() -> str:
    """Name the machine since it was booted, and the container: in another one the same number is another process."""
    parts = [socket.gethostname()]
    boot, container = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and container.is_symlink():
        parts += [boot.read_text("ascii").strip(), str(container.readlink())]
    return " ".join(parts)


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, _ENDED, or None when /proc doesn't show it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # proc(5): the name of the program, field 2, is in brackets and may hold anything; state is field 3, start field 22.
    fields = stat.rpartition(b")")[2].split()
    return _ENDED if fields[0] in {b"Z", b"X"} else int(fields[19])
