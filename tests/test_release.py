"""The parts that only the hosted CI runs, checked as far as possible: configuration, container, changelog, messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml

from llmtasker import Classification

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


def test_the_container_serves_with_what_its_documents_give_it(tmp_path: Path) -> None:
    """A task file does not name an LLM, so the command must."""
    text = (TOP / "Containerfile").read_text(encoding="utf-8")
    commands = {
        re.sub(r"[\s\\]+", " ", found)
        for source in (re.sub(r"^#", "", text, flags=re.MULTILINE), *map(page, ("en", "fr")))
        for found in re.findall(r"podman run(?:.*\\\n)*.*", source)
    }
    (command,) = commands
    names = re.findall(r" -e (\w+)", command)
    given = {"LLMTASKER_LLM": "offline", "OPENAI_API_KEY": "sk-none", "LLMTASKER_SERVER_KEYS": "ann=a-key-of-16-chars"}
    given = {name: given[name] for name in names}
    Classification(llm="offline", labels=["a", "b"]).save(tmp_path / "triage.json")
    inside = json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)[0])
    at = {"0.0.0.0": "127.0.0.1", "8000": "0", "/data/jobs.db": str(tmp_path / "jobs.db")}  # noqa: S104
    options = [at.get(word, word) for word in inside]
    kept = {name: os.environ[name] for name in ("PATH", "LLMTASKER_CACHE_DIR")}
    variables = {**kept, **given, "HOME": str(tmp_path)}
    with programs.started("-m", *options, tmp_path / "triage.json", env=variables, stderr=subprocess.PIPE) as server:
        assert "page http://127.0.0.1:" in server.stderr.readline()


def page(language: str) -> str:
    return (TOP / "docs" / language / "how-to/serve.md").read_text(encoding="utf-8")


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


def test_the_hooks_fetch_nothing_and_run_once() -> None:
    repos = read(".pre-commit-config.yaml")["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}, "nothing is fetched"
    assert all(hook["language"] == "system" for repo in repos for hook in repo["hooks"])
    assert all(len(hook["stages"]) == 1 for repo in repos for hook in repo["hooks"])


# Files, and where in them a command or a name of a target stands; `make A B` names two.
NAMING = {
    ".pre-commit-config.yaml": r"entry: make ([a-z][a-z -]*)",
    ".ci/run": r"\bmake ([a-z][a-z-]*)(?: [A-Z_]+=.*)?$",
    ".ci/bare": r"inside make ([a-z][a-z-]*)",
    "Makefile": r"\$\(MAKE\) ([a-z][a-z-]*)",
    "pyproject.toml": r"`make ([a-z][a-z -]*)",
    **dict.fromkeys(["README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"], r"`make ([a-z][a-z -]*)"),
}


def targets() -> set[str]:
    text = (TOP / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (phony,) = re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)
    rules = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE))
    assert rules == set(phony.split()), "every target is phony, and every phony one a target"
    return rules


@pytest.mark.parametrize("path", NAMING)
def test_what_calls_make_names_targets_that_there_are(path: str) -> None:
    text = (TOP / path).read_text(encoding="utf-8")
    named = [name for found in re.findall(NAMING[path], text, re.MULTILINE) for name in found.split()]
    assert set(named) <= targets()


def test_both_hosted_ci_run_the_same_targets() -> None:
    def called(jobs: Any) -> set[str]:
        names = re.findall(r"\bmake ((?:[a-z][a-z-]*\b ?)+)", json.dumps(jobs))
        return {name for found in names for name in found.split()}

    gitlab = called({name: job for name, job in read(".gitlab-ci.yml").items() if isinstance(job, dict)})
    github = read(".github/workflows/ci.yml")["jobs"]
    matrix = set(github["check"]["strategy"]["matrix"]["target"])
    assert gitlab == called(github) | matrix
    assert gitlab <= targets()
    # `.ci/run` does the rest by another name: coverage in "Tests", the SBOM in the rehearsal, …
    elsewhere = {"coverage", "docs", "build", "sbom", "test-large"}
    hosted_only = {"audit", "test-scale", "test-others"}
    run = (TOP / ".ci/run").read_text(encoding="utf-8")
    assert {name for name in gitlab if not re.search(rf"make {name}\b(?!-)", run)} == elsewhere | hosted_only


def test_an_audit_without_its_service_fails() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\t@\$\(RUN\)/pip-audit (.*)", makefile, re.MULTILINE)
    assert "--strict" in command, "without it, what could not be asked counts as safe"
