"""llmtasker cache info | copy | prune | clear: inspect the cache, copy it, and remove entries."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtasker.cli.command import Commands
from llmtasker.cli.parameters import Directory

if TYPE_CHECKING:
    from llmtasker.cache import DiskCache

cache_app = Commands(no_args_is_help=True, help="Inspect, copy or clear the cache.")


@cache_app.command("info")
def cache_info(directory: Directory = None) -> None:
    """Show where the cache is and what it contains."""
    info = _opened(directory).info()
    typer.echo(f"folder   {info.directory}")
    typer.echo(f"entries  {info.entries:,}")
    typer.echo(f"size     {info.bytes / 1e6:,.1f} MB")
    if info.oldest and info.newest:
        typer.echo(f"from     {info.oldest:%Y-%m-%d %H:%M} to {info.newest:%Y-%m-%d %H:%M} UTC")
    if not info.readable:
        typer.echo("state    not readable")
    elif not info.writable:
        typer.echo("state    not writable")


@cache_app.command("copy")
def cache_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A folder, or the URL of a Redis.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A folder, or the URL of a Redis.")],
) -> None:
    """Copy the answers that the other cache lacks; if it is stopped, run it again."""
    from llmtasker.cache.copy_answers import CopyCount, copy_answers
    from llmtasker.errors import counted

    def show(count: CopyCount) -> None:
        typer.echo(f"\r{count.copied:,} copied", nl=False, err=True)

    terminal = sys.stderr.isatty()
    try:
        count = copy_answers(source, target, show) if terminal else copy_answers(source, target)
    finally:
        if terminal:
            typer.echo("\r", nl=False, err=True)
    damaged = f", {count.damaged:,} damaged and left out" if count.damaged else ""
    typer.echo(f"{counted(count.copied, 'entry', 'entries')} copied, {count.present:,} were there{damaged}")


@cache_app.command("prune")
def cache_prune(
    older_than: Annotated[str | None, typer.Option(help="Remove older entries: 12h, 30d, 8w.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Remove the oldest entries above this size: 500MB, 2GB.")] = None,
    directory: Directory = None,
) -> None:
    """Remove old answers; asking for them again costs money."""
    from llmtasker.errors import ConfigurationError, counted

    if older_than is None and max_size is None:
        raise ConfigurationError("name what to remove: give --older-than 30d, --max-size 1GB, or both.")
    seconds = None if older_than is None else _amount(older_than, {"h": 3600, "d": 86400, "w": 604800})
    size = None if max_size is None else int(_amount(max_size, {"kb": 1e3, "mb": 1e6, "gb": 1e9}))
    removed = _opened(directory).prune(older_than=seconds, max_bytes=size)
    typer.echo(f"{counted(removed, 'entry', 'entries')} removed")


@cache_app.command("clear")
def cache_clear(
    directory: Directory = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove all answers; asking for them again costs money."""
    from llmtasker.errors import counted

    cache = _opened(directory)
    if not yes:
        typer.confirm(f"Remove {counted(cache.info().entries, 'answer')} from {cache.directory}?", abort=True)
    typer.echo(f"{counted(cache.clear(), 'entry', 'entries')} removed")


def _amount(text: str, units: dict[str, float]) -> float:
    from llmtasker.errors import ConfigurationError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    if found is None or found.group(2) not in units:
        raise ConfigurationError(f"{text!r} is not an amount: give a number and one of {', '.join(units)}.")
    return float(found.group(1)) * units[found.group(2)]


def _opened(directory: Path | None) -> DiskCache:
    """Return the cache in an existing folder; a mistyped folder is not created."""
    from llmtasker.cache import DiskCache
    from llmtasker.errors import ConfigurationError

    if directory is not None and not directory.exists():
        raise ConfigurationError(f"there is no cache in {directory}: there is no such folder.")
    return DiskCache(directory)
