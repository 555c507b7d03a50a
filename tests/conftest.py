"""Every test runs alone: its own cache folder, no settings or keys from outside, no network but loopback."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import loopback
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from otlp import Receiver

OUTSIDE = ("LLMTASKER_", "OPENAI_", "AZURE_", "OLLAMA_", "LANGCHAIN_", "LANGFUSE_", "LANGSMITH_", "OTEL_")
LONGEST_ID = 60
SECONDS_TO_END = 60
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
UNSET = {*PROXIES, "pythonunbuffered"}  # with the last, a program that forgets to flush works here and hangs elsewhere


def pytest_configure() -> None:
    for name in [*os.environ]:
        if name.startswith(OUTSIDE) or name.lower() in UNSET:
            del os.environ[name]
    loopback.guard()
    # Deadlines depend on how busy the machine is; in CI, each run finds the same as the one before.
    settings.register_profile(
        "llmtasker", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
    )
    settings.load_profile("llmtasker")


def pytest_unconfigure() -> None:
    """After the tests, end the process too, with the stacks of the threads that would keep it."""
    faulthandler.dump_traceback_later(SECONDS_TO_END, exit=True, file=sys.__stderr__ or 2)


ELSEWHERE = {"cluster": "make test-scale", "browser": "make test-browser", "others": "make test-others"}
"""Marks of tests whose tools are too large for `make test`, and the command that runs just these."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests whose large package is missing; with `make test-large`, which runs only these, they fail."""
    for mark, command in ELSEWHERE.items():
        if config.option.markexpr != mark:
            elsewhere = pytest.mark.skip(reason=f"`{command}` installs what this needs and runs it")
            for item in [item for item in items if item.get_closest_marker(mark)]:
                item.add_marker(elsewhere)
    if config.option.markexpr == "needs":
        return
    for item in items:
        missing = [name for mark in item.iter_markers("needs") for name in mark.args if find_spec(name) is None]
        if missing:
            reason = f"{' and '.join(missing)} not installed: `make test-large` installs it and runs this"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep the names of tests with hostile inputs readable; pytest numbers those that look alike."""
    if isinstance(val, str) and len(val) > LONGEST_ID:
        return f"{val[:LONGEST_ID]!a}… {len(val)} characters"
    return None


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own cache folder, which its programs inherit, and fail it if it went online."""
    monkeypatch.setenv("LLMTASKER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    before = len(loopback.refused)
    yield
    online = loopback.refused[before:]
    del loopback.refused[before:]
    assert not online, f"the test tried to leave the machine: {online}"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver of traces and metrics; its senders are closed, because their threads would continue."""
    from otlp import Receiver

    from llmtasker.integrations.background_sender import BackgroundSender

    opened: list[Any] = []
    begin = BackgroundSender.__init__

    def recorded(sender: Any, *given: Any, **named: Any) -> None:
        begin(sender, *given, **named)
        opened.append(sender)

    monkeypatch.setattr(BackgroundSender, "__init__", recorded)
    running = Receiver()
    yield running
    for sender in opened:
        sender.close()
    running.close()
