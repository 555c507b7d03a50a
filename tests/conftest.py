"""Every test runs alone: its own cache folder, no settings or keys from outside, no network but loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator

import loopback
import pytest
from hypothesis import HealthCheck, settings

OUTSIDE = ("LLMTASKER_", "OPENAI_", "AZURE_", "OLLAMA_", "LANGCHAIN_", "LANGSMITH_")
LONGEST_ID = 60
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
UNSET = {*PROXIES, "pythonunbuffered"}  # with the last, a program that forgets to flush works here and hangs elsewhere


def pytest_configure() -> None:
    for name in [*os.environ]:
        if name.startswith(OUTSIDE) or name.lower() in UNSET:
            del os.environ[name]
    loopback.guard()
    # How busy the machine is proves nothing; and where CI is, a run finds the same as the run before.
    settings.register_profile(
        "llmtasker", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
    )
    settings.load_profile("llmtasker")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep the names of tests with hostile inputs readable; pytest numbers those that look alike."""
    if isinstance(val, str) and len(val) > LONGEST_ID:
        return f"{val[:LONGEST_ID]!a}… {len(val)} characters"
    return None


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own cache folder, which programs it starts take over, and fail it if it went online."""
    monkeypatch.setenv("LLMTASKER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    before = len(loopback.refused)
    yield
    online = loopback.refused[before:]
    del loopback.refused[before:]
    assert not online, f"the test tried to leave the machine: {online}"
