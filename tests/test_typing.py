"""mypy and pyright know the types of tasks, items and outputs, and report mistakes."""

import json
import re
import sys
from pathlib import Path

import programs
import pytest

ROOT = Path(__file__).parents[1]
RIGHT = ROOT / "tests" / "typing" / "right.py"
WRONG = ROOT / "tests" / "typing" / "wrong.py"


def run(*command):
    return programs.run("-m", *command, cwd=ROOT, timeout=100)


def mypy(path):
    """Return the lines with errors of mypy, and the errors."""
    result = run("mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-color-output", str(path))
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", result.stdout, re.MULTILINE)
    assert all(Path(file).name == path.name for file, _, _ in found), result.stdout
    return {int(line): said for _, line, said in found}


def pyright(path):
    """Return the lines with errors of pyright, and the errors."""
    result = run("pyright", "--outputjson", "--pythonpath", sys.executable, str(path))
    found = json.loads(result.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found if one["severity"] == "error"}


CHECKS = [pytest.param(check, marks=pytest.mark.needs(check.__name__)) for check in (mypy, pyright)]


@pytest.mark.parametrize("check", CHECKS)
def test_tasks_items_and_outputs_have_their_types(check):
    assert check(RIGHT) == {}


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_wrong_is_seen(check):
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, start=1) if line.endswith("# error")}
    assert len(expected) > 10
    assert check(WRONG).keys() == expected
