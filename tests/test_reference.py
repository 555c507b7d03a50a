"""The pages of the reference agree with the code, and have all of its names, in both languages.

`python tests/test_reference.py` writes the tables of docs/en/reference again.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import typer
from test_docs import TOP

import llmtasker.api
import llmtasker.errors
import llmtasker.files
import llmtasker.tasks
import llmtasker.testing
from llmtasker.api.openapi_schema import api_schema
from llmtasker.api.problem import TYPES
from llmtasker.cli.app import app
from llmtasker.llm.options import LLMOptions
from llmtasker.plan import TaskOptions
from llmtasker.runner.task_run import RunOptions

ENGLISH = TOP / "docs" / "en" / "reference"
FRENCH = TOP / "docs" / "fr" / "reference"
PAGES = sorted(ENGLISH.glob("*.md"))
TABLE = re.compile(r"(?P<begin><!-- made: (?P<name>\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, llmtasker.LLMTaskerError)


HOMES: dict[str, list[str]] = {
    "llmtasker": llmtasker.__all__,
    "llmtasker.tasks": llmtasker.tasks.__all__,
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


def table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows.items())])


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def told(thing: Any) -> str:
    """The first paragraph of a docstring, as one line of a table."""
    return one_line((inspect.getdoc(thing) or "").split("\n\n")[0])


def arguments_told(thing: Any) -> dict[str, str]:
    """The arguments below `Args:` of a docstring; several names may share a line."""
    block = re.search(r"^Args:\n((?:    .*\n?)+)", inspect.getdoc(thing) or "", re.MULTILINE)
    found = re.findall(r"^    ([\w, ]+): (.*(?:\n     +.*)*)", block[1] if block else "", re.MULTILINE)
    return {name: one_line(text) for names, text in found for name in names.split(", ")}


def defaults(thing: Any) -> dict[str, Any]:
    """The default values of a dataclass or of keyword arguments, where they are numbers, texts or truth values."""
    if is_dataclass(thing):
        given = {one.name: one.default for one in fields(thing)}
    else:
        given = {name: one.default for name, one in inspect.signature(thing).parameters.items()}
    return {name: value for name, value in given.items() if isinstance(value, int | float | str)}


def options_table(thing: Any, known: Mapping[str, Any]) -> str:
    rows = {
        name: f"{text} [{known[name]!r}]" if name in known else text for name, text in arguments_told(thing).items()
    }
    return f"\n{table(rows)}\n\n"


def signature_of(thing: Any) -> str:
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


def names() -> str:
    """The names of each module; types and constants have no docstring, and are on other pages."""
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
    """The methods and properties of the classes that users need most."""
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
                rows[f"{'' if name == '__call__' else f'.{name}'}{signature_of(bound)}"] = told(value)
        parts.append(f"### {owner.__name__}\n\n{table({n: text for n, text in rows.items() if text})}")
    return "\n" + "\n\n".join(parts) + "\n\n"


def commands() -> str:
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
    yield f"## {name}\n\n{command.help}\n\n{table(rows)}"


def errors() -> str:
    """The tree of errors, each with its code."""
    rows = "\n".join(error_rows(llmtasker.LLMTaskerError, 0))
    return f"\n| class | `code` | |\n|---|---|---|\n{rows}\n\n"


def error_rows(kind: type[Any], depth: int) -> Iterator[str]:
    code = f"`{kind.code}`" if "code" in vars(kind) else ""
    yield f"| {'— ' * depth}`{kind.__name__}` | {code} | {told(kind)} |"
    for below in kind.__subclasses__():
        if vars(llmtasker.errors).get(below.__name__) is below:  # not those that are internal to other modules
            yield from error_rows(below, depth + 1)


GROUPS = {
    "NAME": "The tasks of the server",
    "own tasks": "Tasks that a caller describes",
    "jobs": "Jobs",
    "status": "Status",
}


def routes() -> str:
    """The paths of the API, of a server with the one task `NAME`."""
    parts: dict[str, list[str]] = {}
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            parts.setdefault(operation["tags"][0], []).append("\n\n".join(route(method, path, operation)))
    titled = (f"## {GROUPS[group]}\n\n" + "\n\n".join(shown) for group, shown in parts.items())
    return "\n" + "\n\n".join(titled) + "\n\n"


def route(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}"
    yield one_line(operation["description"].split("\n\n")[0])
    if bodies := operation.get("requestBody", {}).get("content"):
        yield "Body: " + ", ".join(f"`{kind}`" for kind in bodies) + "."
    if queries := [one for one in operation.get("parameters", ()) if one["in"] == "query"]:
        yield table({one["name"]: allowed(one["schema"]) for one in queries})


def allowed(schema: Mapping[str, Any]) -> str:
    """The values that a parameter may have."""
    parts = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    shown = " or ".join(
        ", ".join(f"`{value}`" for value in one["enum"]) if "enum" in one else one["type"] for one in parts
    )
    return f"{shown} [{schema['default']}]" if schema.get("default") is not None else shown


def problems() -> str:
    rows = "\n".join(f"| {status} | `{kind}` | {title} |" for kind, (status, title) in TYPES.items())
    return f"\n| status | type | title |\n|---|---|---|\n{rows}\n\n"


def served() -> Any:
    """The schema of a server that has one task, whose name represents any task."""
    from llmtasker.testing import FakeTransport

    task = llmtasker.Task(
        llmtasker.Signature.make("Any", instructions="Ask it.", inputs={"text": str}, outputs={"answer": str}),
        llm=llmtasker.LLM.of(FakeTransport([])),
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = llmtasker.api.ServerSettings(open=True, jobs=f"{folder}/jobs.db")
        made: Any = llmtasker.api.create_app({"NAME": task}, settings)
        while not hasattr(made, "openapi"):
            made = made.app
        return api_schema(made)


SCHEMA = served()
MADE = {
    "names": names,
    "members": members,
    "commands": commands,
    "errors": errors,
    "routes": routes,
    "problems": problems,
    "task": lambda: options_table(llmtasker.Task, defaults(llmtasker.plan.Plan)),
    "llm": lambda: options_table(llmtasker.LLM, {}),
    "run": lambda: options_table(llmtasker.Task.run, {}),
    "call": lambda: options_table(llmtasker.CallSettings, {}),
    "server": lambda: options_table(llmtasker.api.ServerSettings, defaults(llmtasker.api.ServerSettings)),
}


def with_tables(text: str) -> str:
    """The page with its tables from the present code."""
    return TABLE.sub(lambda match: match["begin"] + MADE[match["name"]](), text)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_reference_tells_what_the_code_tells(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == with_tables(text), "rewrite it: python tests/test_reference.py"


def test_every_table_stands_on_a_page() -> None:
    shown = [match["name"] for page in PAGES for match in TABLE.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(MADE)


@pytest.mark.parametrize(
    ("thing", "options"),
    [
        (llmtasker.Task, TaskOptions.__annotations__),
        (llmtasker.LLM, LLMOptions.__annotations__),
        (
            llmtasker.Task.run,
            {**RunOptions.__annotations__, **llmtasker.runner.call_settings.InputOptions.__annotations__},
        ),
        (llmtasker.Task.stream, {"ordered": bool}),
        (llmtasker.CallSettings, defaults(llmtasker.CallSettings)),
        (llmtasker.api.ServerSettings, defaults(llmtasker.api.ServerSettings)),
    ],
)
def test_every_option_is_described(thing: Any, options: Mapping[str, Any]) -> None:
    assert not set(options) - set(arguments_told(thing))


def variables_read() -> set[str]:
    """The names of environment variables in the code."""
    code = [path.read_text(encoding="utf-8") for path in Path(llmtasker.__file__).parent.rglob("*.py")]
    pattern = r"\b(?:LLMTASKER|OPENAI|AZURE_OPENAI|OLLAMA|OTEL|LANGFUSE|SSL_CERT)_[A-Z]+(?:_[A-Z]+)*\b"
    return {name for text in code for name in re.findall(pattern, text)} - {"OTEL_EXPORTER_OTLP"}


@pytest.mark.parametrize("folder", [ENGLISH, FRENCH], ids=["en", "fr"])
def test_the_pages_have_every_variable_route_and_problem(folder: Path) -> None:
    settings = (folder / "settings.md").read_text(encoding="utf-8")
    described = [
        llmtasker.Task,
        llmtasker.LLM,
        llmtasker.Task.run,
        llmtasker.CallSettings,
        llmtasker.api.ServerSettings,
    ]
    options = {name for thing in described for name in arguments_told(thing)}
    assert not {name for name in variables_read() | options if f"`{name}`" not in settings}
    http = (folder / "http.md").read_text(encoding="utf-8")
    assert not {path for path in SCHEMA["paths"] if path not in http}
    assert not {kind for kind in TYPES if f"`{kind}`" not in http}
    listed = (folder / "errors.md").read_text(encoding="utf-8")
    kinds = [name for name, thing in vars(llmtasker.errors).items() if is_error(thing)]
    assert not {name for name in kinds if f"`{name}`" not in listed}


PUBLIC = ("api", "confidence", "evaluation", "optimizers", "testing")
"""Folders that are on the page of the API as a whole."""


@pytest.mark.parametrize("folder", [ENGLISH, FRENCH], ids=["en", "fr"])
def test_the_page_of_the_api_has_all_public_names(folder: Path) -> None:
    shown = set(re.findall(r"^::: llmtasker\.(\S+)$", (folder / "api.md").read_text("utf-8"), re.MULTILINE))
    wanted = set(llmtasker.__all__) - {"ConfigurationError", "LLMTaskerError"} | {"errors", *PUBLIC}
    assert not wanted - shown
    assert len([name for name in shown if name.startswith("integrations.")]) >= 6


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
