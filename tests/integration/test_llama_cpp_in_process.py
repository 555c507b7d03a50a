"""An LLM in the process: llama.cpp runs a GGUF file, and answers as its server does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import programs
import pytest
from conftest import MakeLLM
from llama_server import LlamaServer
from triage import EXAMPLES, ODD, Triage, asking

from llmtasker import LLM, Task
from llmtasker.errors import ConfigurationError
from llmtasker.llm.transports.llama_cpp import LlamaCppTransport


@pytest.fixture(scope="module")
def found(model: Path) -> dict[str, Any]:
    """The results of a separate process: if it crashes or hangs, only these tests fail."""
    forks = "ignore:This process:DeprecationWarning"  # Python 3.12 and later: it has threads, and forks; it is tested
    ended = programs.run("-W", forks, Path(__file__).with_name("in_process.py"), model, timeout=110)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    seen: dict[str, Any] = json.loads(ended.stdout)
    return seen


def test_it_answers_as_the_server_does(found: dict[str, Any], server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server), examples=EXAMPLES)
    assert found["alone"] == str(task(ODD).raise_for_error().output)
    assert found["rows"] == [str(task(row).raise_for_error().output) for row in asking(6)]


@pytest.mark.parametrize("way", ["pickled", "again", "closed"])
def test_it_answers_in_the_same_way(found: dict[str, Any], way: str) -> None:
    assert found[way] == found["alone"]


def test_it_answers_in_a_forked_child(found: dict[str, Any]) -> None:
    assert found["fork"] == 0


def test_a_file_is_loaded_once(found: dict[str, Any]) -> None:
    assert found["loaded"] == 1


def test_no_more_calls_are_made_than_there_are_slots(found: dict[str, Any]) -> None:
    assert found["limits"] == [4, 1]


def test_a_text_that_is_too_long_is_an_error_of_its_row(found: dict[str, Any]) -> None:
    assert found["too long"] == "context_length"


# ── which file it is ──


def test_a_name_or_a_path_finds_the_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTASKER_MODELS", str(model.parent))
    for name in (f"local/{model.name}", model.name, str(model), f"local/{model}"):
        llm = LLM(name, cache=False)
        assert (llm.model, llm.transport.endpoint) == (model.stem, LlamaCppTransport(model).endpoint)


def test_a_name_at_a_server_is_not_a_path() -> None:
    assert LLM("qwen3.gguf", base_url="http://localhost:8080/v1", cache=False).model == "qwen3.gguf"


def test_other_weights_have_other_answers(model: Path, tmp_path: Path) -> None:
    other = tmp_path / model.name
    changed = bytearray(model.read_bytes())
    changed[-1] ^= 1
    other.write_bytes(changed)
    assert LlamaCppTransport(other).endpoint != LlamaCppTransport(model).endpoint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.gguf", None, "there is no file"),
        ("page.gguf", b"<html>", "page.gguf is not a GGUF file"),
        ("empty.gguf", b"", "empty.gguf is not a GGUF file"),
    ],
)
def test_another_file_is_refused_when_it_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        LLM(str(tmp_path / name))


def test_a_file_that_is_cut_is_refused_at_the_first_call(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:4000])
    with pytest.raises(ConfigurationError, match=r"llama.cpp can't load cut.gguf"):
        Task(Triage, llm=LLM(str(cut), cache=False))("Where is it?")


@pytest.mark.parametrize("option", ["context", "slots", "threads"])
@pytest.mark.parametrize("count", [0, -1, 1.5, True, "4"])
def test_counts_are_whole_numbers(model: Path, option: str, count: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        LlamaCppTransport(model, **{option: count})


def test_options_of_another_endpoint_are_refused(model: Path) -> None:
    with pytest.raises(ConfigurationError, match="api_key belongs to the given transport"):
        LLM(str(model), api_key="sk-1")


@pytest.mark.parametrize("chosen", [None, "active"])
def test_the_threads_wait_without_using_the_cores_that_others_need(model: Path, chosen: str | None) -> None:
    code = """
import os, sys
from llmtasker import LLM, Instruction
Instruction(instructions="Greet.", llm=LLM(sys.argv[1], max_tokens=1, cache=False), attempts=1)("hello")
print(os.environ.get("OMP_WAIT_POLICY"))
"""
    given = {} if chosen is None else {"OMP_WAIT_POLICY": chosen}
    ended = programs.run("-c", code, model, env={**os.environ, **given, "OMP_DISPLAY_ENV": "true"})
    assert f"OMP_WAIT_POLICY = '{(chosen or 'passive').upper()}'" in ended.stderr
    assert ended.stdout == f"{chosen}\n", "the variable is for llama.cpp only"


def test_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigurationError, match=r'pip install "llmtasker\[local\]"'):
        Task(Triage, llm=LLM(str(model), cache=False))("Where is it?")
