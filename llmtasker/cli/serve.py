"""llmtasker serve: tasks over HTTP."""

from __future__ import annotations

import math
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtasker.cli.parameters import Model, say
from llmtasker.cli.tracing import observers

if TYPE_CHECKING:
    from llmtasker.api.server_settings import ServerSettings
    from llmtasker.jobs.pipeline_work import TaskLike

_KEPT = 75  # seconds to keep an idle connection: longer than proxies do, which would otherwise send on a closed one
_CONFIG: dict[str, Any] = {
    # Its own log would contain paths with queries, and search terms may be private.
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "ws": "none",
    "timeout_keep_alive": _KEPT,
}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def serve(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK …]",
            help="FILE.py:TASK, module:TASK, a task file (.json), or both: FILE.py:TASK+better.json.",
        ),
    ] = None,
    llm: Model = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0: a free one.")] = 8000,
    jobs: Annotated[Path, typer.Option(help="The file that stores jobs.")] = Path("llmtasker-jobs.db"),
    keys: Annotated[Path | None, typer.Option(help="A JSON file of keys; default: LLMTASKER_SERVER_KEYS.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="An LLM that callers may choose; repeatable.")] = None,
    keep_days: Annotated[float, typer.Option(help="Days until a job is deleted.")] = 30.0,
    no_key: Annotated[bool, typer.Option("--no-key", help="Serve without a key; only on loopback.")] = False,
    prefix: Annotated[
        str, typer.Option(metavar="PATH", help="The path under which a proxy serves this server, such as /triage.")
    ] = "",
    page: Annotated[bool, typer.Option(help="Also serve the web page.")] = True,
    log: Annotated[bool, typer.Option("--log", help="Log each request as a line of JSON, without texts.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Show a new key and its entry for --keys, and exit.")
    ] = False,
) -> None:
    """Serve tasks over HTTP, with jobs that survive a restart: llmtasker serve triage.py:triage."""
    if new_key:
        _show_new_key()
        return
    _check_can_serve(host, prefix, no_key=no_key)
    if log:
        _log_requests()
    from llmtasker.api.server_settings import ServerSettings

    loaded = _loaded(tasks or [], llm)
    llm = llm or os.environ.get("LLMTASKER_LLM")
    if not loaded and not llm:
        say("no LLM is configured (--llm, LLMTASKER_LLM): the built-in baseline answers, which compares words")
        llm = "offline"
    given, shown = (keys, "") if no_key else _keys(keys)
    more: dict[str, Any] = {"observers": observers(), "keep_days": keep_days}
    settings = ServerSettings(jobs=jobs, keys=given, open=no_key, llm=llm, models=tuple(model or ()), **more)
    _run_server(loaded, settings, (host, port), prefix, shown, page=page)


def _check_can_serve(host: str, prefix: str, *, no_key: bool) -> None:
    from importlib.util import find_spec

    from llmtasker.errors import ConfigurationError

    if no_key and host not in _LOOPBACK:
        raise ConfigurationError(f"--no-key is for 127.0.0.1 only, not for {host}: others could use your LLM.")
    if prefix and not re.fullmatch(r"(/[\w.~-]+)+", prefix, re.ASCII):
        raise ConfigurationError(f"--prefix {prefix[:60]!r} is not a path such as /triage, without a slash at its end.")
    if not (find_spec("uvicorn") and find_spec("httptools")):
        raise ConfigurationError('serving needs uvicorn and httptools: pip install "llmtasker[api]"')


def _run_server(
    loaded: dict[str, TaskLike],
    settings: ServerSettings,
    address: tuple[str, int],
    prefix: str,
    key: str,
    *,
    page: bool,
) -> None:
    """Serve tasks at an address until the process is stopped; `key` is a new one, which is shown, or empty."""
    import uvicorn

    from llmtasker.api.asgi_app import create_app
    from llmtasker.api.http_protocol import HTTPProtocol
    from llmtasker.cli.listening import listening

    with listening(*address) as sockets:
        app = create_app(loaded, settings)
        if page:
            from llmtasker.ui import add_pages

            add_pages(app)
        # Some clients never read their response.
        patience = math.ceil(settings.shutdown_seconds)
        config = uvicorn.Config(app, http=HTTPProtocol, timeout_graceful_shutdown=patience, root_path=prefix, **_CONFIG)
        _server(config, key, page=page).run(sockets)


def _log_requests() -> None:
    import json
    import logging

    class JSONLog(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = super().format(record)
            return text if text.startswith("{") else json.dumps({"level": record.levelname.lower(), "message": text})

    handler = logging.StreamHandler()
    handler.setFormatter(JSONLog())
    logger = logging.getLogger("llmtasker.server")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False


def _show_new_key() -> None:
    from llmtasker.api.api_keys import key_file_text, new_key

    key = new_key()
    typer.echo(f"key (shown this once): {key}\nfor the file of --keys: [{key_file_text('name', key)}]")


def _keys(file: Path | None) -> tuple[Any, str]:
    """Return the keys of callers, and the key that was made if there were none, else an empty text."""
    from llmtasker.api.api_keys import new_key, read_keys

    given: Any = file
    if read_keys(given):
        return given, ""
    key = new_key()
    return {"default": key}, key


def _loaded(names: list[str], llm: str | None) -> dict[str, TaskLike]:
    """Return the tasks by name: that of the variable, or of the file."""
    from llmtasker.cli.load_task import load_runnable
    from llmtasker.cli.saved_task import named_file
    from llmtasker.errors import ConfigurationError

    loaded: dict[str, TaskLike] = {}
    for name in names:
        saved = named_file(name)
        called = name.rpartition(":")[2] if saved is None else saved[1].stem.replace("-", "_")
        if called in loaded:
            raise ConfigurationError(f"two tasks have the name {called!r}: rename one.")
        loaded[called] = load_runnable(name, llm)
    return loaded


def _server(config: Any, key: str, *, page: bool) -> Any:
    """Return uvicorn's server, which shows where it listens as soon as it does."""
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            for server in self.servers:
                for one in server.sockets:
                    host, port = one.getsockname()[:2]
                    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                    shown = f"page {place}/     " if page else ""
                    say(f"{shown}API  {place}/docs" + (f"     key  {key} (shown this once)" if key else ""))

    return Announcing(config)
