"""ProcessId: which process holds a lease, and whether it is still running; what a forked child has to reset.

A lease means "this process is asking; wait for its answer". It ends when it is released, when it expires, or when its
process ends, because a killed process does not release anything.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_ENDED = -1  # the start of a process that has ended but was not waited for by its parent


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process: its machine, its number, and when it started.

    The system reuses numbers, so the start (clock ticks since the machine was booted; None if the system does not
    show it) distinguishes two processes with the same number.
    """

    machine: str
    pid: int
    started: int | None

    def to_json(self) -> str:
        """Return the process as ASCII JSON text."""
        return json.dumps([self.machine, self.pid, self.started])

    @classmethod
    def from_json(cls, text: str | bytes) -> ProcessId | None:
        """Return the process that `to_json` wrote, or None for any other text."""
        try:
            machine, pid, started = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return None
        known = isinstance(machine, str) and type(pid) is int and pid > 0
        if not known or not (started is None or type(started) is int):
            return None
        return cls(machine=machine, pid=pid, started=started)

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; False if that can't be determined from here."""
        if self.machine != _machine():
            return False
        if sys.platform == "win32":
            # Signal 0 is Ctrl-C there: no harmless call shows whether a process runs, so the lease has to expire.
            return False
        with contextlib.suppress(PermissionError):  # it runs as another user: it may be a different process
            try:
                os.kill(self.pid, 0)
            except (ProcessLookupError, OverflowError):
                return True
        started = _started(self.pid)
        if started is None or self.started is None:
            return started == _ENDED
        return started != self.started


def this_process() -> ProcessId:
    """Return the current process."""
    return _process(os.getpid())


@functools.lru_cache(maxsize=8)
def _process(pid: int) -> ProcessId:
    # By number, so that a forked child does not identify as its parent.
    return ProcessId(machine=_machine(), pid=pid, started=_started(pid))


@functools.cache
def _machine() -> str:
    """Identify this boot of the machine, and the container: elsewhere, the same number is another process."""
    import socket  # loaded only where a lease is taken or looked at

    parts = [socket.gethostname()]
    boot, container = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and container.is_symlink():
        parts += [boot.read_text("ascii").strip(), str(container.readlink())]
    return " ".join(parts)


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; or _ENDED; or None if /proc does not show it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # proc(5): field 2, the program's name, is in brackets and may contain anything; field 3 is the state, 22 the start.
    fields = stat.rpartition(b")")[2].split()
    return _ENDED if fields[0] in {b"Z", b"X"} else int(fields[19])


class _Forked(Protocol):
    def after_fork(self) -> None: ...


_to_reset: weakref.WeakSet[_Forked] = weakref.WeakSet()


def reset_in_child(thing: _Forked) -> None:
    """Call `after_fork` of an object in every forked child: threads, locks and connections stay with the parent."""
    _to_reset.add(thing)


def _reset() -> None:
    for thing in list(_to_reset):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
