"""One server for all tests here, and LLMs at it that are closed after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import tiny_gguf
from llama_server import LlamaServer
from triage import Counted

from llmtasker import LLM


class MakeLLM(Protocol):
    """Returns an LLM at a server: always the same answer to the same prompt, no cache unless one is given."""

    def __call__(self, server: LlamaServer, **settings: Any) -> LLM: ...


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="session")
def server(model: Path) -> Iterator[LlamaServer]:
    with LlamaServer(model) as running:
        yield running


@pytest.fixture
def make_llm() -> Iterator[MakeLLM]:
    made: list[LLM] = []

    def make(server: LlamaServer, **settings: Any) -> LLM:
        settings = {"temperature": 0, "seed": 1, "max_tokens": 400, "timeout": 20, "cache": False, **settings}
        made.append(LLM("vllm/tiny-random", base_url=server.base_url, **settings))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


@pytest.fixture
def counted(server: LlamaServer, make_llm: MakeLLM) -> Counted:
    return Counted(make_llm(server).transport)
