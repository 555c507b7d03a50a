"""A test that hangs fails with the stacks of all threads, and neither the other tests nor the run are lost."""

from __future__ import annotations

import ast
from pathlib import Path

import programs
import pytest

TOP = Path(__file__).parents[1]
STARTERS = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput")),
    *("Popen", "os.system", "os.popen", "asyncio.create_subprocess_exec", "multiprocessing.Process"),
}

PROGRAMS = {
    "a lock": """
def test_hangs():
    with LOCK:
        LOCK.acquire()
""",
    "a program that does not flush": """
def test_hangs():
    program = [sys.executable, "-c", "import sys; print('ready'); sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
""",
    "a coroutine": """
def test_hangs():
    asyncio.run(asyncio.Event().wait())
""",
}
AROUND = """
import asyncio, subprocess, sys, threading

LOCK, DONE = threading.Lock(), threading.Event()
threading.Thread(target=DONE.wait, args=(60,), name="another-thread").start()
{hangs}
def test_after():
    DONE.set()
"""


@pytest.mark.parametrize("hangs", PROGRAMS.values(), ids=PROGRAMS)
def test_a_test_that_hangs_fails_with_all_stacks_and_the_next_one_runs(tmp_path: Path, hangs: str) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(AROUND.format(hangs=hangs), encoding="utf-8")
    settings = ["-c", str(TOP / "pyproject.toml"), "-p", "no:cacheprovider", "--timeout=1"]
    done = programs.run("-m", "pytest", *settings, path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "Failed: Timeout (>1.0s)" in done.stdout
    assert "Stack of another-thread" in done.stdout
    assert "test_it.py" in done.stdout


def test_programs_are_started_in_one_way() -> None:
    """`programs` handles their output and their end; llama.cpp's server is a script that can't import it."""
    allowed = {"programs.py", "llama_server.py"}
    wrong = {
        f"{path.name}, line {node.lineno}: {ast.unparse(node.func)}"
        for path in sorted((TOP / "tests").rglob("*.py"))
        if path.name not in allowed
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTERS
    }
    assert not wrong, "use programs.run or programs.started"


def test_every_test_has_a_limit(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 120
    assert float(pytestconfig.getini("faulthandler_timeout")) > float(pytestconfig.getini("timeout"))
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
