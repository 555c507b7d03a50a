"""Commands: a set of commands that report a mistake in one sentence, with the names of the command's options."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar, cast

import typer
from typer.core import TyperCommand

from llmtasker.cli.parameters import WRONG, say

F = TypeVar("F", bound=Callable[..., Any])

_PARAMETERS = {"columns": "column", "slices": "by"}
"""Python arguments whose option has another name."""
_ELSEWHERE = {
    "--model": "--llm",
    "--workers": "--concurrency",
    "--threads": "--concurrency",
    "--batch-size": "--group-size",
    "--max-cost": "--budget",
    "--dry-run": "--estimate",
    "--no-cache": "--fresh",
    "--force": "--overwrite",
    "--format": "--kind",
    "--sep": "--delimiter",
    "--nrows": "--limit",
}
"""The options of other programs, and ours with the same meaning."""


class Command(TyperCommand):
    """A command that reports an error in one sentence, without a traceback, and exits with WRONG."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; an error of one names the value that was given."""
        from pydantic import ValidationError

        from llmtasker.errors import describe

        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = describe(error.__cause__)
            raise
        except Exception as error:
            # Typer offers names that are written alike; its class of this error is private.
            meant = _ELSEWHERE.get(getattr(error, "option_name", ""))
            if meant is not None and any(meant in one.opts for one in self.params):
                error.__dict__["possibilities"] = [meant]
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from llmtasker.errors import ConfigurationError, LLMTaskerError

        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `… | head` closed the pipe: click ends the command quietly
        except ConfigurationError as error:
            say(f"llmtasker: {error.worded(self._option)}")
        except (LLMTaskerError, OSError) as error:
            say(f"llmtasker: {error}")
        raise typer.Exit(WRONG)

    def _option(self, name: str, value: Any) -> str | None:
        """Return an argument as the user types it; None: this command does not have it."""
        wanted = _PARAMETERS.get(name, name)
        options = next((one.opts for one in self.params if one.name == wanted), None)
        if options is None:
            return None
        texts = [shlex.quote(str(value))]
        if isinstance(value, dict):
            texts = [f"{field}={column}" for field, column in cast("dict[str, str]", value).items()]
        return " ".join(f"{options[0]} {text}" for text in texts)


class Commands(typer.Typer):
    """A set of commands, each of them a `Command`."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **options: Any
    ) -> Callable[[F], F]:
        """Return the decorator that adds a function as a command."""
        return super().command(name, cls=cls or Command, **options)
