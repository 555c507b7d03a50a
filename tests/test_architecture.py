"""The shape of the package: floors, no circles, vendor imports in one file each, an edge that nobody imports.

Imports are read from the source with `ast`, so those inside functions, under TYPE_CHECKING and by
`import_module("…")` count like any other.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import llmtasker

PACKAGE = Path(llmtasker.__file__).parent

# The floors, lowest first. A module imports from lower floors only; those on one floor don't know each other.
# A folder is one floor: its modules may import each other, without circles, and what lies below the folder.
FLOORS: list[set[str]] = [
    {"errors", "completion", "candidates", "labels", "throttle", "lease", "flights", "portal", "vault"},
    {"signature", "template", "store", "database", "pace", "retry", "prices", "dialect", "preview", "item"},
    {"mending", "shape", "prompt", "schema", "door", "steward", "progress", "results"},
    {"repair", "cache", "transports"},
    {"compiler", "llm", "steps"},
    {"executor", "run"},
    {"grouping"},
    {"task"},
    {"tasks", "testing"},
]
# The edge imports inward, and is imported by the edge only.
EDGE: list[set[str]] = [
    {"records", "settings", "demo"},
    {"api", "ui", "integrations"},
    {"cli"},
    {"__main__"},
]

ANYWHERE = {"pydantic", "pydantic_core", "typing_extensions"}
VENDORS: dict[str, set[str]] = {
    "anyio": {"testing.fake"},
    "diskcache": {"vault"},
    "genai_prices": {"prices"},
    "httpx2": {"transports.openai"},
    "instructor": {"schema"},
    "json_repair": {"mending"},
    "langchain_core": {"transports.langchain"},
    "openai": {"transports.openai"},
    "openpyxl": {"records.excel"},
    "pyarrow": {"records.parquet"},
    "rich": {"cli"},
    "tqdm": {"progress"},
    "typer": {"cli"},
}

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "types", "util", "utils"}


def module_name(path: Path) -> str:
    """`llmtasker/transports/wire.py` is `transports.wire`, `llmtasker/records/__init__.py` is `records`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(SOURCES.keys() - {""})


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def dynamic(call: ast.Call) -> str | None:
    """The name in `import_module("name")`; a computed one is nobody's business but the package root's."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    if called not in {"import_module", "__import__"} or not call.args:
        return None
    name = call.args[0]
    assert isinstance(name, ast.Constant), f"line {call.lineno}: import_module with a name that can't be read off"
    return str(name.value)


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports, `llmtasker.errors` as well as `openai.types`."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import"
            source = node.module or ""
            # `from llmtasker import candidates` imports the module, not the root.
            found |= {
                f"{source}.{alias.name}" if is_module(f"{source}.{alias.name}") else source for alias in node.names
            }
        elif isinstance(node, ast.Call) and (name := dynamic(node)):
            found.add(name)
    return frozenset(found)


def is_module(full: str) -> bool:
    return full.removeprefix("llmtasker.") in SOURCES and full.startswith("llmtasker.")


def inside(module: str) -> set[str]:
    """The package's own modules that a module imports, without the package's name."""
    return {name.removeprefix("llmtasker.") for name in imports(module) if name.startswith("llmtasker.")}


def part(module: str) -> str:
    """What stands on a floor: a file at the top of the package, or a whole folder."""
    return module.partition(".")[0]


HEIGHT = {name: floor for floor, names in enumerate([*FLOORS, *EDGE]) for name in names}


def test_the_package_is_found() -> None:
    assert {"errors", "task", "transports.openai", "records"} <= set(MODULES)


def test_every_module_has_a_floor() -> None:
    homeless = {part(module) for module in MODULES} - HEIGHT.keys()
    assert not homeless, f"give these a place in FLOORS or EDGE: {sorted(homeless)}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_from_lower_floors_only(module: str) -> None:
    own = part(module)
    wrong = {name for name in inside(module) if part(name) != own and HEIGHT[part(name)] >= HEIGHT[own]}
    assert not wrong, f"{module} imports {sorted(wrong)} from its own floor or a higher one"


def test_there_are_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(inside(module)):
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_the_root(module: str) -> None:
    assert "llmtasker" not in imports(module), f"{module} imports the package's root: name the module instead"


@pytest.mark.parametrize("module", MODULES)
def test_the_edge_is_imported_by_the_edge_only(module: str) -> None:
    edge = set().union(*EDGE)
    reached = {name for name in inside(module) if part(name) in edge}
    assert not reached or part(module) in edge, f"{module} imports {sorted(reached)} from the edge"


@pytest.mark.parametrize("module", MODULES)
def test_vendors_are_imported_in_their_one_file(module: str) -> None:
    tops = {name.partition(".")[0] for name in imports(module)} - {"llmtasker", "__future__"}
    foreign = tops - set(sys.stdlib_module_names) - ANYWHERE
    unknown = foreign - VENDORS.keys()
    assert not unknown, f"{module} imports {sorted(unknown)}: say in VENDORS which file may"
    misplaced = {vendor: sorted(VENDORS[vendor]) for vendor in foreign if module not in VENDORS[vendor]}
    assert not misplaced, f"{module} imports what belongs elsewhere: {misplaced}"


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_in_the_table_is_used(vendor: str) -> None:
    """The table is no wish list; and this shows that dynamic imports are seen."""
    users = {module for module in MODULES if any(name.partition(".")[0] == vendor for name in imports(module))}
    assert users == VENDORS[vendor]


@pytest.mark.parametrize("module", ["", *MODULES])
def test_a_file_has_one_subject(module: str) -> None:
    lines = len(SOURCES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_OF_A_FILE, f"{module} has {lines} lines: past {LINES_OF_A_FILE} it has two subjects"


@pytest.mark.parametrize("module", ["", *MODULES])
def test_functions_fit_on_a_screen(module: str) -> None:
    lengths = {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_FUNCTION}
    assert not long, f"{module}: {long}"


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_is_in_them(module: str) -> None:
    assert not VAGUE & set(module.split("."))
