"""The documentation runs: README.md, docs/**/*.md and the examples in docstrings.

A page is one program, read from top to bottom in an empty folder:

- ```` ```python ```` blocks run, all in one namespace; top-level `await` works as in a notebook. A ```` ```text ````
  block that follows with nothing between shows what the block prints.
- a block whose first line is a comment with a file name (`# triage.py`), or that has `title="messages.csv"` behind
  its language, is written to that file (Python runs as well).
- in ```` ```console ```` blocks, `$ llmtasker …` and `$ python script.py` run (a script made by the page, or one of
  this repository); the lines below show what they print. Other commands (`$ pip install …`) don't run.
- `…` in what is shown stands for any text.
- blocks in an HTML comment, which readers don't see, count too: for what a page needs before it starts.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import programs
import pytest

import llmtasker

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
ON_CLUSTERS = "how-to/scale-out.md"
"""The page whose code needs Ray, Spark and Dask; it runs in English only, and is compared with the French one."""
RUN_HERE = [path for path in PAGES if not path.match(ON_CLUSTERS)]
MODULES = ["llmtasker", *sorted(found.name for found in pkgutil.walk_packages(llmtasker.__path__, "llmtasker."))]

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
FILE_NAME = re.compile(r"# ([\w./-]+\.py)[ \t]*$", re.MULTILINE)
TITLE = re.compile(r'title="([^"]+)"')
COMMAND = r"(?:`|^\$ |script: |run: |' )make ([a-z][a-z-]*)"
GUARDED = """
import runpy, sys
sys.path.insert(0, {tests!r})
import loopback
loopback.guard()
sys.path[0] = ""
if {script!r}:
    sys.argv[0] = {script!r}
    runpy.run_path({script!r}, run_name="__main__")
else:
    sys.argv[0] = "llmtasker"
    from llmtasker.cli.app import main
    sys.exit(main())
"""


@dataclass(kw_only=True)
class Block:
    language: str
    info: str
    text: str
    line: int
    """Of its first line of text, from 1."""
    end: int
    """Where it ends, in characters."""
    start: int


@dataclass(kw_only=True)
class Page:
    """A page as a program: its namespace so far, and its folder."""

    path: Path
    module: types.ModuleType = field(default_factory=lambda: types.ModuleType("llmtasker_docs"))

    @property
    def name(self) -> str:
        return self.path.relative_to(TOP).as_posix() if self.path.is_relative_to(TOP) else self.path.name

    def blocks(self) -> list[Block]:
        text = self.path.read_text(encoding="utf-8")
        return [
            Block(
                language=match["language"],
                info=match["info"],
                text=inspect.cleandoc("\n" + match["text"]) + "\n" if match["indent"] else match["text"],
                line=text.count("\n", 0, match.start("text")) + 1,
                start=match.start(),
                end=match.end(),
            )
            for match in FENCE.finditer(text)
        ]

    def run(self) -> None:
        before = dict(os.environ)
        try:
            self.run_blocks()
        finally:  # variables that a page sets are only for that page
            os.environ.clear()
            os.environ.update(before)

    def run_blocks(self) -> None:
        source = self.path.read_text(encoding="utf-8")
        printed: tuple[int, str] | None = None
        for block in self.blocks():
            if block.language == "text" and printed and not source[printed[0] : block.start].strip():
                check(block.text, printed[1], f"{self.name}:{block.line}")
            printed = None
            self.save(block)
            if block.language == "python":
                printed = (block.end, self.execute(block))
            elif block.language in {"console", "shell", "bash", "sh"}:
                self.commands(block)

    def save(self, block: Block) -> None:
        title = TITLE.search(block.info)
        comment = FILE_NAME.match(block.text) if block.language == "python" else None
        if name := (title or comment):
            path = Path(name[1])
            assert not path.is_absolute(), f"{self.name}:{block.line}: {path} is not in the page's folder"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")

    def execute(self, block: Block) -> str:
        """Run one block with its own line numbers in tracebacks; return its output."""
        code = compile(
            "\n" * (block.line - 1) + block.text,
            str(self.path),
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(types.FunctionType(code, vars(self.module))())
            else:
                exec(code, vars(self.module))  # noqa: S102 - running the page is the test
        return output.getvalue()

    def commands(self, block: Block) -> None:
        for command, shown, offset in commands(block.text):
            program = guarded(shlex.split(command, comments=True))
            if not program:
                continue
            where = f"{self.name}:{block.line + offset}"
            environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
            done = programs.run("-c", *program, encoding="utf-8", env=environment)
            # A command that is shown with an error is meant to fail.
            assert done.returncode == 0 or shown, f"{where}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            if shown:
                check(shown, done.stdout + done.stderr, where)


def commands(text: str) -> Iterator[tuple[str, str, int]]:
    """The commands of a console block, each with the output shown and its line in the block.

    >>> list(commands("$ llmtasker run \\\\\\n    in.csv\\n3 rows\\n$ make test\\n"))
    [('llmtasker run  in.csv', '3 rows\\n', 0), ('make test', '', 3)]
    """
    starts = [match.start() for match in re.finditer(r"^\$ ", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        whole = re.sub(r"\\\n\s*", " ", text[start + 2 : end])
        command, _, shown = whole.partition("\n")
        yield command, shown, text.count("\n", 0, start)


def guarded(words: list[str]) -> list[str]:
    """The Python program for a command that a page may run, and its arguments; nothing for other commands."""
    tests = str(Path(__file__).parent)
    match words:
        case ["llmtasker", *arguments]:
            return [GUARDED.format(tests=tests, script=""), *arguments]
        case ["python", script, *arguments] if script.endswith(".py"):
            path = Path(script) if Path(script).exists() else TOP / script
            return [GUARDED.format(tests=tests, script=str(path)), *arguments]
    return []


def check(shown: str, printed: str, where: str) -> None:
    """Compare line by line; `…` is any text, on a line of its own any lines; blanks at line ends don't count."""
    want, have = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (shown, printed))
    pattern = ".*".join(re.escape(part) for part in want.replace("\n…\n", "\n…").split("…"))
    assert re.fullmatch(pattern, have, re.DOTALL), f"{where} shows\n\n{want}\n\nbut this was printed:\n\n{have}"


@pytest.mark.parametrize("path", RUN_HERE, ids=lambda path: path.relative_to(TOP).as_posix())
def test_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(path=path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, page.module.__name__, page.module)  # where Pydantic looks up annotations
    page.run()


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # warnings of Ray, Spark and Dask
def test_a_page_runs_on_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    test_a_page_runs(TOP / "docs/en" / ON_CLUSTERS, tmp_path, monkeypatch)


def test_the_page_on_clusters_has_the_same_code_in_both_languages() -> None:
    english, french = (Page(path=TOP / "docs" / language / ON_CLUSTERS).blocks() for language in ("en", "fr"))
    comment = re.compile(r"  # .*")
    assert [comment.sub("", block.text) for block in english] == [comment.sub("", block.text) for block in french]
    assert len(english) > 3


@pytest.mark.parametrize("name", [*MODULES, __name__])
def test_the_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        # Flags of its own: the module's `from __future__ import annotations` is not the reader's.
        runner.run(test, compileflags=0, out=report.write)
    assert not runner.failures, report.getvalue()


def test_the_commands_named_are_there() -> None:
    """Each `make something` of the documentation and of CI is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*PAGES, TOP / "CONTRIBUTING.md", *(TOP / name for name in (".ci/run", ".gitlab-ci.yml"))]
    pages += (TOP / ".github").rglob("*.yml")
    named = {
        target
        for path in pages
        if path.exists()  # the built wheel is tested without the files of CI
        for target in re.findall(COMMAND, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("3 rows\n", "3 rows  \n", True),
        ("3 rows in … s\n", "3 rows in 0.12 s\n", True),
        ("first\n…\nlast\n", "first\n2\n3\nlast\n", True),
        ("first\n…\nlast\n", "first\nlast\n", True),
        ("3 rows\n", "4 rows\n", False),
        ("3 rows\n", "3 rows\nand more\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, fits: bool) -> None:
    if fits:
        check(shown, printed, "here")
    else:
        with pytest.raises(AssertionError, match="here shows"):
            check(shown, printed, "here")


def test_a_block_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner itself: files, output, `await`, and the page's own line in the traceback of a wrong block."""
    path = tmp_path / "page.md"
    path.write_text(
        "# A page\n\n```python\n# made.py\nx = 1\nprint(x)\n```\n\n```text\n1\n```\n\n"
        '<!--\n```csv title="in.csv"\na\n```\n-->\n\n'
        "- item\n\n  ```python\n  import asyncio\n  await asyncio.sleep(0)\n  x += 1\n  ```\n\n"
        "```python\n\nassert x == 3\n```\n",
        encoding="utf-8",
    )
    wrong = path.read_text(encoding="utf-8").splitlines().index("assert x == 3")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError) as caught:
        Page(path=path).run()
    assert (caught.traceback[-1].lineno, caught.traceback[-1].path) == (wrong, path)
    assert Path("made.py").read_text(encoding="utf-8").startswith("# made.py")
    assert Path("in.csv").read_text(encoding="utf-8") == "a\n"


def test_output_that_is_not_as_shown_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page.md:6 shows\s+2\s+but this was printed:\s+1"):
        Page(path=path).run()
