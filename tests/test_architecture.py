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
    {"errors", "threads", "values"},
    {"cache", "fields", "files", "made_class", "wire"},
    {"baseline", "call_settings", "history", "item", "parser", "signature", "task_file", "testing", "type_schema"},
    {"compiler", "llm", "result_table", "signature_schema"},
    {"results"},
    {"runner"},
    {"plan"},
    {"planned"},
    {"task"},
    {"tasks"},
]
# The edge imports inward, and is imported by the edge only.
EDGE: list[set[str]] = [
    {"cli"},
    {"api", "integrations", "ui"},
    {"__main__"},
]

ANYWHERE = {"pydantic", "pydantic_core", "typing_extensions"}
VENDORS: dict[str, set[str]] = {
    "anyio": {"testing.fake"},
    "diskcache": {"cache.text_cache"},
    "genai_prices": {"llm.costs"},
    "httpx2": {"llm.transports.openai", "llm.transports.openai_batches", "llm.transports.openai_clients"},
    "instructor": {"compiler.answer_model"},
    "json_repair": {"parser.mend_json"},
    "langchain_core": {"llm.transports.langchain"},
    "narwhals": {"runner.inputs"},
    "openai": {"llm.transports.openai", "llm.transports.openai_batches", "llm.transports.openai_clients"},
    "openpyxl": {"files.excel_file"},
    "pandas": {"result_table"},
    "polars": {"result_table"},
    "pyarrow": {"files.parquet_file", "result_table"},
    "rich": {"cli.demo"},
    "tqdm": {"runner.progress"},
    "typer": {"cli.app", "cli.batch_commands", "cli.cache_commands", "cli.file_commands", "cli.options"},
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


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def dynamic(tree: ast.Module) -> set[str]:
    """The names in `import_module("name")`, also through a function that passes its first parameter on."""
    importers, passed_on = {"import_module", "__import__"}, set[ast.expr]()
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.args.args]:
        for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
            name = call.args[0] if call.args else None
            if called(call) in importers and isinstance(name, ast.Name) and name.id == function.args.args[0].arg:
                importers.add(function.name)
                passed_on.add(name)
    names = {
        call.args[0]
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and called(call) in importers and call.args and call.args[0] not in passed_on
    }
    unread = [ast.unparse(name) for name in names if not isinstance(name, ast.Constant)]
    assert not unread, f"import_module with names that can't be read off the source: {unread}"
    return {str(name.value) for name in names if isinstance(name, ast.Constant)}


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports, `llmtasker.errors` as well as `openai.types`."""
    found = dynamic(tree(module))
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import"
            source = node.module or ""
            # `from llmtasker.parser import candidates` imports the module, not the root.
            found |= {
                f"{source}.{alias.name}" if is_module(f"{source}.{alias.name}") else source for alias in node.names
            }
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
    assert {"errors", "task", "llm.transports.openai", "files"} <= set(MODULES)


def test_every_module_has_a_floor() -> None:
    homeless = {part(module) for module in MODULES} - HEIGHT.keys()
    assert not homeless, f"give these a place in FLOORS or EDGE: {sorted(homeless)}"


def test_modules_import_from_lower_floors_only() -> None:
    wrong = {
        f"{module} imports {name}"
        for module in MODULES
        for name in inside(module)
        if part(name) != part(module) and HEIGHT.get(part(name), -1) >= HEIGHT.get(part(module), 0)
    }
    assert not wrong, "from its own floor or a higher one"


def test_there_are_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(inside(module)):
                assert name in SOURCES, f"{module} imports {name}, which is not there"
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_nobody_imports_the_root() -> None:
    wrong = [module for module in MODULES if "llmtasker" in imports(module)]
    assert not wrong, "these import the package's root: name the module that is meant"


def test_the_edge_is_imported_by_the_edge_only() -> None:
    edge = set[str]().union(*EDGE)
    wrong = {
        f"{module} imports {name}"
        for module in MODULES
        for name in inside(module)
        if part(name) in edge and part(module) not in edge
    }
    assert not wrong


def test_vendors_are_imported_in_their_one_file() -> None:
    free = {*sys.stdlib_module_names, *ANYWHERE, "llmtasker", "__future__"}
    wrong = {
        f"{module} imports {vendor}; only these may: {sorted(VENDORS.get(vendor, ()))}"
        for module in MODULES
        for vendor in {name.partition(".")[0] for name in imports(module)} - free
        if module not in VENDORS.get(vendor, ())
    }
    assert not wrong, "a vendor is imported in the one file that VENDORS names"


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_in_the_table_is_used(vendor: str) -> None:
    """The table is no wish list; and this shows that dynamic imports are seen."""
    users = {module for module in MODULES if any(name.partition(".")[0] == vendor for name in imports(module))}
    assert users == VENDORS[vendor]


def test_a_file_has_one_subject() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in SOURCES.items()}
    long = {module: lines for module, lines in lengths.items() if lines > LINES_OF_A_FILE}
    assert not long, f"past {LINES_OF_A_FILE} lines a file has two subjects"


def test_functions_fit_on_a_screen() -> None:
    lengths = {
        f"{module}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module in SOURCES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_FUNCTION}
    assert not long, f"a function has at most {LINES_OF_A_FUNCTION} lines"


def test_names_say_what_is_in_them() -> None:
    assert not [module for module in MODULES if VAGUE & set(module.split("."))]
