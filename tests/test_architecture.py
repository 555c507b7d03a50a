"""The shape of the package: floors, no circles, one home for each fact, an edge that nobody imports.

Everything is read from the source with `ast`. Imports inside functions, under TYPE_CHECKING and by
`import_module("…")` count like any other.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import llmtasker

PACKAGE = Path(llmtasker.__file__).parent

# The floors, lowest first. Modules of a floor import only from lower floors. A folder is on one floor as a whole, and
# its files import each other without circles. All floors need the files of `values` and `wire`, so these files have
# their own floors.
FLOORS: list[set[str]] = [
    {"values.lazy_pattern"},
    {
        "errors",
        "portal",
        "threads",
        "values.error_causes",
        "values.folding",
        "values.html_table",
        "values.json_values",
        "values.plain_number",
        "values.set_order",
    },
    {
        "values.argument_checks",
        "values.broken_row",
        "values.list_argument",
        "values.json_schema",
        "values.plain_moment",
        "values.same_value",
        "values.validation_json",
        "wire.completion",
        "wire.logprobs",
    },
    {
        "cache",
        "files",
        "similarity",
        "values.language",
        "values.schema_check",
        "wire.failed_generation",
        "wire.group_format",
        "wire.request",
    },
    {"wire.wording"},
    {"wire.offered_labels"},
    {"wire.echo", "wire.prompt_request", "wire.request_reader"},
    {"wire.error_response"},
    {"wire.response"},
    {"wire.batch_file"},
    {"baseline", "item", "parser", "signature", "task_file", "testing"},
    {"compiler", "llm", "result_table"},
    {"results"},
    {"runner"},
    {"confidence", "pipelines"},
    {"plan"},
    {"task_data"},
    {"task"},
    {"tasks"},
    {"jobs"},
    {"evaluation"},
    {"optimizers"},
]
# The edge imports inward, and is imported by the edge only.
EDGE: list[set[str]] = [
    {"api", "integrations"},
    {"ui"},
    {"cli"},
    {"__main__"},
]
ARROWS = 211
"""The most imports between folders, and files at the top of the package: with more, the flow is hard to see."""

ANYWHERE = {"pydantic", "pydantic_core", "typing_extensions"}
_OPENAI = {f"llm.transports.{name}" for name in ("openai", "openai_batches", "openai_clients", "given_client")}
VENDORS: dict[str, set[str]] = {
    "anyio": {"testing.fake"},
    "diskcache": {"cache.text_cache"},
    "fastapi": {
        *(
            "api.asgi_app",
            "api.job_creation",
            "api.job_results",
            "api.openapi_schema",
            "api.job_routes",
            "api.problem",
            "api.query",
            "api.request_body",
            "api.server",
            "api.status_routes",
        ),
        "api.task_routes",
        *("ui.begin_pages", "ui.evaluation_pages", "ui.export_pages", "ui.file_pages", "ui.page_route"),
        *("ui.results_pages", "ui.run_pages", "ui.task_pages", "ui.visit", "ui.web_app"),
    },
    "gepa": {"optimizers.gepa"},
    "genai_prices": {"llm.costs"},
    "httptools": {"api.http_protocol"},
    "httpx2": {*_OPENAI, "integrations.langfuse_scores", "integrations.otlp_receiver"},
    "instructor": {"compiler.answer_model"},
    "json_repair": {"parser.mend_json"},
    "langchain_core": {"integrations.langchain", "llm.transports.langchain"},
    "narwhals": {"runner.inputs"},
    "openai": {*_OPENAI},
    "openpyxl": {"files.excel_file"},
    "opentelemetry": {"integrations.otlp_messages"},
    "pandas": {"integrations.partitions", "result_table"},
    "polars": {"result_table"},
    "pyarrow": {"files.arrow_array", "files.parquet_file", "integrations.partitions", "result_table"},
    "ray": {"integrations.ray"},
    "redis": {"cache.redis_cache"},
    "rich": {"cli.demo"},
    "numpy": {"integrations.sklearn"},
    "sklearn": {"integrations.sklearn"},
    "starlette": {
        *("api.asgi_app", "api.bounded_exchange", "api.job_creation", "api.request_body", "api.trusted_host"),
        *("ui.begin_pages", "ui.corrections", "ui.file_pages", "ui.page_route", "ui.task_form", "ui.task_pages"),
        "ui.visit",
    },
    "jinja2": {"ui.visit"},
    "markupsafe": {"ui.page_language", "ui.visit"},
    "tqdm": {"runner.progress"},
    "xllamacpp": {"llm.transports.llama_cpp"},
    "typer": {
        "cli.app",
        "cli.batch_commands",
        "cli.cache_commands",
        "cli.command",
        "cli.evaluation_commands",
        "cli.file_commands",
        "cli.optimize_command",
        "cli.parameters",
        "cli.serve",
    },
    "uvicorn": {"api.http_protocol", "cli.serve"},
}

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
SAME_NAME = {
    "Answer": "what a fake transport answers, and what the parser read in an answer",
    "Connection": "a client's, and the one of the server in `testing`",
    "langchain": "chat models that a task asks, and a task as a part of a chain",
    "llm": "the file of the class LLM, in the folder of all that belongs to it",
    "server": "the REST API's, and the one of `testing`",
    "signature": "the file of the class Signature, in the folder of all that belongs to it",
}
# Each of these patterns occurs in one file only.
HOMES = {
    "following $ref": "values.json_schema",
    "strict JSON": "values.json_values",
    "type guard": "values.json_values",
    "text folding": "values.folding",
    "duration": "wire.error_response",
}
# These files use a private name of another file.
LOOKS_BEHIND = {
    "integrations.langfuse_client": "the SDK of Langfuse has no public name for the place and keys of a client",
    "cache.text_cache": "diskcache has no public name for its rows",
    "llm.transports.openai": "the SDK has no public name for a client's options",
    "llm.transports.openai_clients": "the SDK has no public name for a client's options",
    "llm.transports.openai_batches": "the batch half of OpenAITransport: it uses the same client",
}
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "types", "util", "utils"}


def module_name(path: Path) -> str:
    """`llmtasker/wire/request.py` is `wire.request`, `llmtasker/files/__init__.py` is `files`."""
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
            # `from llmtasker.parser import extract` imports the module, not the root.
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
    """The start or the end of an arrow: a file at the top of the package, or a whole folder."""
    return module.partition(".")[0]


def room(module: str) -> str:
    """A unit of a floor: a part of the package, or a file of `values` and `wire`."""
    return module if part(module) in BY_FILE else part(module)


BY_FILE = {"values", "wire"}
HEIGHT = {name: floor for floor, names in enumerate([*FLOORS, *EDGE]) for name in names}


def test_the_package_is_found() -> None:
    assert {"errors", "task", "llm.transports.openai", "files"} <= set(MODULES)


def test_every_room_has_one_floor() -> None:
    stands = Counter(name for names in [*FLOORS, *EDGE] for name in names)
    assert not [name for name, floors in stands.items() if floors > 1]


def test_every_module_has_a_floor() -> None:
    homeless = {room(module) for module in MODULES} - HEIGHT.keys() - BY_FILE
    assert not homeless, f"give these a place in FLOORS or EDGE: {sorted(homeless)}"


def test_modules_import_from_lower_floors_only() -> None:
    wrong = {
        f"{module} imports {name}"
        for module in MODULES
        for name in inside(module)
        if room(name) != room(module) and HEIGHT.get(room(name), -1) >= HEIGHT.get(room(module), 0)
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


def test_the_flow_can_be_drawn() -> None:
    arrows = {(part(module), part(name)) for module in MODULES for name in inside(module)}
    arrows = {(start, end) for start, end in arrows if start != end}
    rooms = {end for arrow in arrows for end in arrow}
    assert len(arrows) <= ARROWS, f"{len(arrows)} arrows between {len(rooms)} rooms"


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
    """The table lists all modules, and dynamic imports are found."""
    users = {module for module in MODULES if any(name.partition(".")[0] == vendor for name in imports(module))}
    assert users == VENDORS[vendor]


# ── names ──


def defined(module: str) -> Iterator[str]:
    """The names that a file adds to the package's vocabulary: its own, its classes, its type aliases."""
    yield module.rpartition(".")[2]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
    for node in tree(module).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        name = target.id.lstrip("_") if isinstance(target, ast.Name) else ""
        if name[:1].isupper() and name != name.upper():
            yield name


def test_no_name_occurs_twice() -> None:
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        for name in defined(module):
            homes[name].add(module)
    twice = {name: sorted(where) for name, where in homes.items() if len(where) > 1 and name not in SAME_NAME}
    assert not twice, "one word for one thing: rename all but one"


def own_names(module: str) -> set[str]:
    """The private names that a file defines: functions, methods, attributes, fields."""
    names = set[str]()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def test_private_names_stay_in_their_file() -> None:
    wrong = {
        f"{module} line {node.lineno}: {ast.unparse(node)}"
        for module in set(MODULES) - LOOKS_BEHIND.keys()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and private(node.attr)
        and ast.unparse(node.value) not in {"self", "cls"}
        and node.attr not in own_names(module)
    }
    wrong |= {
        f"{module} line {node.lineno}: imports {alias.name}"
        for module in set(MODULES) - LOOKS_BEHIND.keys()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmtasker")
        for alias in node.names
        if private(alias.name)
    }
    assert not wrong, "give what others need a public name"


# ── one home for each fact ──


def facts(module: str) -> Iterator[str]:
    """The patterns of HOMES that occur in a file."""
    for node in ast.walk(tree(module)):
        match node:
            case ast.Subscript(slice=ast.Constant("$ref"), ctx=ast.Load()):
                yield "following $ref"
            case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant("$ref"), *_]):
                yield "following $ref"
            case ast.Subscript(value=ast.Name("TypeGuard" | "TypeIs")) if re.search(
                "dict|list|Mapping", ast.unparse(node)
            ):
                yield "type guard"
            case ast.Name("JSONDecoder") | ast.Attribute(attr="JSONDecoder" | "raw_decode"):
                yield "strict JSON"
            case ast.keyword("object_pairs_hook" | "parse_constant" | "parse_float"):
                yield "strict JSON"
            case ast.Name("unicodedata") | ast.Attribute(attr="casefold"):
                yield "text folding"
            case ast.Name("parsedate_to_datetime"):
                yield "duration"
            case ast.FunctionDef(name=name) if "duration" in name:
                yield "duration"
            case _:
                pass


@pytest.mark.parametrize("fact", HOMES)
def test_a_fact_has_one_home(fact: str) -> None:
    assert [module for module in MODULES if fact in set(facts(module))] == [HOMES[fact]], "use the one that is there"


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The code that runs when a module is imported: all of it, apart from the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import(child)


def test_no_pattern_is_compiled_at_import() -> None:
    wrong = {
        f"{module} line {node.lineno}"
        for module in MODULES
        for node in at_import(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"
    }
    assert not wrong, "use lazy_pattern: all patterns together take longer to compile than Pydantic to load"


# ── sizes ──


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
