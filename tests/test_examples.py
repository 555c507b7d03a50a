"""The examples run, print the output on the pages, and have the code of the pages; links have targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
from test_docs import PAGES, TOP, Page, check, commands

EXAMPLES = sorted((TOP / "examples").glob("*.py"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def shown_output(path: Path) -> Iterator[tuple[str, str]]:
    """The output that pages show for a command that runs this example, with its place."""
    for page in (Page(path=page) for page in PAGES):
        for block in page.blocks():
            if block.language == "console":
                for command, shown, offset in commands(block.text):
                    if re.fullmatch(rf"python (examples/)?{path.name}", command) and shown:
                        yield shown, f"{page.name}:{block.line + offset}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_what_is_shown(path: Path, tmp_path: Path) -> None:
    done = programs.run("-W", "error", path, encoding="utf-8", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    for shown, where in shown_output(path):
        check(shown, done.stdout, where)


def test_the_examples_of_the_readme_are_files_as_they_stand_there() -> None:
    found = set()
    for block in Page(path=TOP / "README.md").blocks():
        titled = re.match(r"# ([\w.]+)\n", block.text) if block.language == "python" else None
        name = titled or re.search(r'title="([^"]+)"', block.info)
        if name:
            assert (TOP / "examples" / name[1]).read_text(encoding="utf-8") == block.text
            found.add(name[1])
    assert found == {"triage.py", "classification.py", "messages.csv"}


def test_what_an_example_prints_is_shown_somewhere() -> None:
    unseen = {path.name for path in EXAMPLES if not any(shown_output(path))}
    assert not unseen, f"no page shows what these print: {unseen}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if re.match(r"https?:|[A-Z]+(\.md)?$", target):
            continue  # on the web, or a file beside the README, which is missing in the tests of the wheel
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert not heading or heading in headings(path), f"{page.name}: {target}"


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and GitLab make of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_index_leads_to_every_page(language: str) -> None:
    folder = TOP / "docs" / language
    linked = {
        (folder / target.partition("#")[0]).resolve()
        for target in LINK.findall((folder / "index.md").read_text(encoding="utf-8"))
    }
    assert {page for page in PAGES if page.is_relative_to(folder)} - {folder / "index.md"} <= linked
