"""llmtasker serve: tasks over HTTP."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtasker.cli.parameters import Model, say
from llmtasker.cli.tracing import observers, traced

if TYPE_CHECKING:
    from llmtasker.task import Task

_KEPT = 75  # seconds that an idle connection is kept: longer than proxies do, which would send into a closed one
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def serve(
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK …]", help="FILE.py:TASK, module:TASK, or a task file (.json).")
    ] = None,
    llm: Model = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0: a free one.")] = 8000,
    jobs: Annotated[Path, typer.Option(help="The file of the jobs.")] = Path("llmtasker-jobs.db"),
    keys: Annotated[Path | None, typer.Option(help="A JSON file of keys; else LLMTASKER_SERVER_KEYS.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="An LLM that callers may choose; repeat it.")] = None,
    keep_days: Annotated[float, typer.Option(help="Days until a job is deleted.")] = 30.0,
    no_key: Annotated[bool, typer.Option("--no-key", help="Ask for no key; on loopback only.")] = False,
    page: Annotated[bool, typer.Option(help="Serve the web page too.")] = True,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Show a new key and its line for --keys, and end.")
    ] = False,
) -> None:
    """Serve tasks over HTTP, with jobs that survive a restart: llmtasker serve triage.py:triage."""
    from llmtasker.api.api_keys import key_file_text
    from llmtasker.api.api_keys import new_key as made_key
    from llmtasker.errors import ConfigurationError

    if new_key:
        key = made_key()
        typer.echo(f"key (shown this once): {key}\nfor the file of --keys: [{key_file_text('name', key)}]")
        return
    if no_key and host not in _LOOPBACK:
        raise ConfigurationError(f"--no-key is for 127.0.0.1 only, not for {host}: others could use your LLM.")
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise ConfigurationError('serving needs uvicorn: pip install "llmtasker[api]"') from None
    from llmtasker.api.api_keys import read_keys
    from llmtasker.api.asgi_app import create_app
    from llmtasker.api.server_settings import ServerSettings

    loaded = _loaded(tasks or [], llm)
    if not loaded and llm is None and not os.environ.get("LLMTASKER_LLM"):
        say("no LLM is configured (--llm, LLMTASKER_LLM): the built-in baseline answers, which compares words")
        llm = "offline"
    given: Any = keys
    shown = ""
    if not no_key and not read_keys(given):
        shown = made_key()
        given = {"default": shown}
    told: dict[str, Any] = {"observers": observers(), "keep_days": keep_days}
    settings = ServerSettings(jobs=jobs, keys=given, open=no_key, llm=llm, models=tuple(model or ()), **told)
    app = create_app(loaded, settings)
    if page:
        from llmtasker.ui import add_pages

        add_pages(app)
    # Its own log would have paths with queries: what is searched for may be private.
    logs: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    end = math.ceil(settings.shutdown_seconds)  # some clients never take their answer
    # With httptools, which is faster, a head of any size would be taken into memory, before a key is asked for.
    wire: dict[str, Any] = {"http": "h11", "ws": "none", "timeout_keep_alive": _KEPT}
    config = uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=end, **wire, **logs)
    _server(config, shown, page=page).run()


def _loaded(names: list[str], llm: str | None) -> dict[str, Task[Any]]:
    """Return the tasks by name: that of the variable, or of the file."""
    from llmtasker.cli.load_task import load_task
    from llmtasker.errors import ConfigurationError
    from llmtasker.tasks import load_task as load_task_file

    loaded: dict[str, Task[Any]] = {}
    for name in names:
        if name.endswith(".json"):
            called, task = Path(name).stem.replace("-", "_"), traced(load_task_file(name, llm=llm))
        else:
            called, task = name.rpartition(":")[2], load_task(name, llm)
        if called in loaded:
            raise ConfigurationError(f"two tasks have the name {called!r}: rename one.")
        loaded[called] = task
    return loaded


def _server(config: Any, key: str, *, page: bool) -> Any:
    """Return uvicorn's server, which shows where it listens as soon as it does."""
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            for server in self.servers:
                for socket in server.sockets:
                    host, port = socket.getsockname()[:2]
                    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                    shown = f"page {place}/     " if page else ""
                    say(f"{shown}API  {place}/docs" + (f"     key  {key} (shown this once)" if key else ""))

    return Announcing(config)
