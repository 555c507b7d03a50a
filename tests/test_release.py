"""What only the hosted CI runs is checked as far as it can be here: configuration, container, changelog, messages."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml

TOP = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (TOP / ".ci/changelog").exists(), reason="the built wheel is tested without CI's files"
)


def read(path: str) -> Any:
    return yaml.safe_load((TOP / path).read_text(encoding="utf-8"))


def test_gitlab_needs_what_there_is() -> None:
    jobs = {name: job for name, job in read(".gitlab-ci.yml").items() if isinstance(job, dict) and "script" in job}
    stages = read(".gitlab-ci.yml")["stages"]
    assert all(set(job.get("needs", [])) <= jobs.keys() for job in jobs.values())
    assert all(job.get("stage", "publish") in stages for job in jobs.values())
    assert {
        "test-scale",
        "test-lowest",
        "audit",
        "rehearse",
        "registry",
        "release",
        "container",
        "pages",
    } <= jobs.keys()


def test_github_needs_what_there_is_and_publishes_without_a_token() -> None:
    text = (TOP / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    needs = {name: job.get("needs", []) for name, job in jobs.items()}
    assert all({*([need] if isinstance(need, str) else need)} <= jobs.keys() for need in needs.values())
    assert jobs["publish"]["permissions"]["id-token"] == "write"
    assert "secrets." not in text, "trusted publishing stores no token"
    assert all(jobs[name]["if"] == "startsWith(github.ref, 'refs/tags/v')" for name in ("publish", "container"))


def test_the_container_starts_the_server_with_options_that_there_are() -> None:
    text = (TOP / "Containerfile").read_text(encoding="utf-8")
    command = json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)[0])
    assert command[:2] == ["llmtasker", "serve"]
    usage = programs.run("-m", "llmtasker", "serve", "--help", env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    assert all(option in usage for option in command if option.startswith("--"))
    for copied in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        assert all((TOP / name).exists() for name in copied.split())
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert all(set(found.split(",")) <= extras.keys() for found in re.findall(r"\$wheel\[([\w,]+)\]", text))
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)


@pytest.mark.parametrize("headings", [0, 1, 2])
def test_a_release_dates_the_changelog(headings: int, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci/changelog"
    script.write_bytes((TOP / ".ci/changelog").read_bytes())
    path = tmp_path / "CHANGELOG.md"
    before = "# Changelog\n\n" + "## [0.1.0] - unreleased\n\n- unreleased\n\n" * headings
    path.write_text(before, encoding="utf-8")
    done = programs.run(script, "0.2.0", "2026-12-01")
    assert done.returncode == (0 if headings == 1 else 1)
    dated = before.replace("## [0.1.0] - unreleased", "## [0.2.0] - 2026-12-01")
    assert path.read_text(encoding="utf-8") == (dated if headings == 1 else before)


@pytest.mark.parametrize(
    ("message", "good"),
    [
        ("Repair a missing colon before a number", True),
        ("Repair a missing colon\n\nAnd say so in repairs.\n", True),
        ("repair a missing colon", False),
        ("Repair a missing colon.", False),
        ("WIP", False),
        ("Repair a missing colon\nand more", False),
    ],
)
def test_the_message_of_a_commit(message: str, good: bool) -> None:
    settings = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["commitizen"]
    assert bool(re.fullmatch(settings["customize"]["schema_pattern"], message)) is good


def test_the_hooks_call_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in read(".pre-commit-config.yaml")["repos"]} == {"local"}, "nothing is fetched"
    assert {hook["entry"].removeprefix("make ") for hook in hooks} <= targets
