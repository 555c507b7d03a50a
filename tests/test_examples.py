"""The examples run, print what the pages show, and are the same code as there; the reference tells what the code tells.

`python tests/test_examples.py` writes the tables of docs/en/reference.md again.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import programs
import pytest
import typer
from test_docs import PAGES, TOP, Page, check, commands

import llmtasker.errors
import llmtasker.files
import llmtasker.tasks
import llmtasker.testing
from llmtasker.cli.app import app


def is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, llmtasker.LLMTaskerError)


EXAMPLES = sorted((TOP / "examples").glob("*.py"))
REFERENCE = TOP / "docs" / "en" / "reference.md"
HOMES: dict[str, list[str]] = {
    "llmtasker": llmtasker.__all__,
    "llmtasker.tasks": llmtasker.tasks.__all__,
    "llmtasker.errors": [name for name, thing in vars(llmtasker.errors).items() if is_error(thing)],
    "llmtasker.cache": ["CacheWarning", "MemoryCache", "Store"],
    "llmtasker.runner.grouping": ["GroupReport"],
    "llmtasker.wire.completion": ["Completion", "ToolCall", "Usage"],
    "llmtasker.wire.request": ["Request", "Transport"],
    "llmtasker.files": llmtasker.files.__all__,
    "llmtasker.testing": llmtasker.testing.__all__,
}
MEMBERS_OF = (
    llmtasker.Signature,
    llmtasker.Task,
    llmtasker.LLM,
    llmtasker.Item,
    llmtasker.Results,
    llmtasker.Preview,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TABLE = re.compile(r"(?P<begin><!-- made: (?P<name>\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def shown_output(path: Path) -> Iterator[tuple[str, str]]:
    """What pages show below a command that runs this example, and where."""
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
            continue  # elsewhere, or a file beside the README that the tests of the wheel do without
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


def test_the_reference_tells_what_the_code_tells() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == with_tables(text), "rewrite it: python tests/test_examples.py"
    assert all(f"| `{name}" in text for name in llmtasker.__all__)


def with_tables(text: str) -> str:
    """The page with its tables as the code has them now."""
    return TABLE.sub(lambda match: match["begin"] + MADE[match["name"]](), text)


def told(thing: Any) -> str:
    """The first paragraph of a docstring, as one line of a table."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("|", "\\|")


def arguments(thing: Any) -> str:
    """`(inputs, *, concurrency)`, without types and defaults: these are in the docstring and the signature."""
    shown = []
    starred = False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        shown.append(f"{'**' if parameter.kind is parameter.VAR_KEYWORD else ''}{parameter.name}")
    return f"({', '.join(shown)})"


def table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows.items())])


def names() -> str:
    """What each module offers; names of types and constants have no docstring, and are left to the other pages."""
    parts = []
    for home, offered in HOMES.items():
        module = importlib.import_module(home)
        things = {name: getattr(module, name) for name in sorted(offered, key=str.lower)}
        rows = {
            name: told(thing) for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)
        }
        parts.append(f"`from {home} import …`\n\n{table(rows)}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def members() -> str:
    """The methods and properties of the classes that users meet most."""
    parts = []
    for owner in MEMBERS_OF:
        rows = {}
        for name, value in sorted(vars(owner).items()):
            if name.startswith("_") and name != "__call__":
                continue
            if isinstance(value, property | cached_property):
                rows[f".{name}"] = told(value)
            elif inspect.isfunction(value) or isinstance(value, classmethod | staticmethod):
                bound = getattr(owner, name)
                rows[f"{'' if name == '__call__' else f'.{name}'}{arguments(bound)}"] = told(value)
        parts.append(f"### {owner.__name__}\n\n{table({n: text for n, text in rows.items() if text})}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def command_tables() -> str:
    """The commands with their arguments and options, as `--help` has them."""
    return "\n" + "\n\n".join(command_parts(typer.main.get_command(app), "llmtasker")) + "\n\n"


def command_parts(command: Any, name: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for inner, one in command.commands.items():
            yield from command_parts(one, f"{name} {inner}")
        return
    rows = {}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            title = parameter.metavar or parameter.name.upper()
        else:
            title = ", ".join([*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        plain = isinstance(default, str | int | Path) and not isinstance(default, bool)
        rows[title] = f"{parameter.help}{f' [{default}]' if plain else ''}"
    yield f"### {name}\n\n{command.help}\n\n{table(rows)}"


MADE = {"names": names, "members": members, "commands": command_tables}

if __name__ == "__main__":
    REFERENCE.write_text(with_tables(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
