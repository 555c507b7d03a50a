"""What is loaded, and when: the package at once, vendor SDKs only if an endpoint is called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import programs
import pytest

from llmtasker.cache import default_directory
from llmtasker.testing import FaultyServer

VENDORS = {
    "aiohttp",
    "diskcache",
    "fastapi",
    "genai_prices",
    "httpx",
    "httpx2",
    "instructor",
    "json_repair",
    "langchain_core",
    "openai",
    "openpyxl",
    "pandas",
    "pyarrow",
    "tqdm",
}
NOT_WITHOUT_A_CALL = {"instructor", "openai", "aiohttp", "httpx2", "jinja2", "asyncio", "ssl", "http", "difflib"}
REPORT = "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"

DECLARE = """
from typing import Literal
from llmtasker import InputField, OutputField, Signature, Task

class Triage(Signature):
    '''Route a message.'''

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
"""


ANSWERED = (
    DECLARE
    + """
from llmtasker import LLM
from llmtasker.wire.completion import Completion

class Answers:
    endpoint = "answers"

    def send(self, request):
        return Completion(text='{"team": "billing"}')

    async def asend(self, request):
        return self.send(request)

    def close(self):
        pass

    async def aclose(self):
        pass

task = Task(Triage, llm=LLM(transport=Answers()), examples=[Triage(message="a", team="delivery")])
item = task("I was charged twice").raise_for_error()
print(item.output.team, item.cached)
"""
)
OFFLINE = (
    DECLARE
    + """
task = Task(Triage, llm="offline", examples=[Triage(message="Where is my parcel?", team="delivery")])
assert task("my parcel").output.team == "delivery"
"""
)


def loaded_by(program: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_of(program)}


def modules_of(program: str) -> set[str]:
    # Coverage, which measures programs that a test starts too, loads modules of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    busy = 100  # seconds: a program may load all modules, while the machine does something else
    done = programs.run("-c", program + REPORT, env=environment, check=True, timeout=busy)
    return set(json.loads(done.stdout.splitlines()[-1]))


def beyond_pydantic(modules: set[str]) -> set[str]:
    """Return the modules that a class of Pydantic does not load; older versions of it load asyncio too."""
    return modules - modules_of("from pydantic import BaseModel\nclass Message(BaseModel):\n    text: str")


def check_little(modules: set[str], most: int) -> None:
    """Check that a process that made no call has loaded nothing that only calls need, and few modules in all."""
    ours = beyond_pydantic(modules)
    assert not NOT_WITHOUT_A_CALL & ours
    assert len(ours) <= most
    assert len(modules) <= 450


@pytest.mark.parametrize("program", [OFFLINE, ANSWERED], ids=["offline", "answered from the cache"])
def test_a_process_that_needs_no_call_loads_little(program: str) -> None:
    """Compiled tasks are stored: the first process loads instructor and openai, the next ones do not."""
    assert {"instructor", "openai"} <= {name.partition(".")[0] for name in modules_of(program)}
    modules = modules_of(program)
    check_little(modules, most=150)


def test_to_declare_a_task_loads_little_even_the_first_time() -> None:
    program = DECLARE + "\nTask(Triage, llm='offline', examples=[Triage(message='a', team='billing')])"
    modules = modules_of(program)
    check_little(modules, most=115)
    assert not modules & {"llmtasker.confidence", "llmtasker.results", "llmtasker.runner.events", "llmtasker.parser"}


@pytest.mark.parametrize(
    "program",
    [
        "import llmtasker",
        "import llmtasker\n[getattr(llmtasker, name) for name in llmtasker.__all__]",
        "from llmtasker import *",
        DECLARE,
        "import llmtasker.files",
        "import llmtasker.testing",
    ],
)
def test_vendor_sdks_are_not_loaded(program: str) -> None:
    loaded = loaded_by(program)
    assert "llmtasker" in loaded
    assert not loaded & VENDORS


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["demo", "--help"]])
def test_the_help_loads_no_vendor_sdk(arguments: list[str]) -> None:
    program = f"""
import sys
sys.argv = ["llmtasker", *{arguments!r}]
from llmtasker.cli.app import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
    assert not loaded_by(program) & VENDORS


def test_the_package_alone_does_not_even_load_pydantic() -> None:
    """Names are resolved at their first use, so `import llmtasker` is fast."""
    assert "pydantic" not in loaded_by("import llmtasker")


def test_every_pattern_compiles() -> None:
    """Patterns are compiled at their first use, so a mistake in one would be found by a user."""
    program = """
import copy, gc, pickle, pkgutil, re
from importlib import import_module
import llmtasker
from llmtasker.values.lazy_pattern import lazy_pattern

kind = type(lazy_pattern("a"))
for module in pkgutil.walk_packages(llmtasker.__path__, "llmtasker."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
behind_a_group = re.compile(r"(?<!\\\\)\\)(?:[*+?]|\\{[0-9,]+\\})\\+")
patterns = [each for each in gc.get_objects() if type(each) is kind]
assert len(patterns) > 200, len(patterns)
for each in patterns:
    assert each.groups >= 0, each.pattern
    # Before Python 3.11.5, a possessive quantifier behind a group misses matches (gh-106052): write (?>(?:…)*).
    assert not behind_a_group.search(str(each.pattern)), each.pattern
for again in (copy.copy(patterns[0]), pickle.loads(pickle.dumps(patterns[0]))):
    assert again.flags == patterns[0].flags
"""
    assert "re" in loaded_by(program)


def test_every_public_name_is_resolved_and_listed() -> None:
    program = """
import llmtasker
assert len(set(llmtasker.__all__)) == len(llmtasker.__all__)
assert set(llmtasker.__all__) <= set(dir(llmtasker))
for name in llmtasker.__all__:
    assert getattr(llmtasker, name) is not None, name
try:
    llmtasker.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise AssertionError("an unknown name was found")
"""
    assert "llmtasker" in loaded_by(program)


def test_type_checkers_see_the_same_names() -> None:
    """The table of names exists for Python and for type checkers, and both must be equal."""
    import ast

    import llmtasker

    source = ast.parse(Path(llmtasker.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: (node.module or "").removeprefix("llmtasker.")
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmtasker.")
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == llmtasker._HOMES
    assert 20 <= len(llmtasker.__all__) <= 24


NAMED = (
    DECLARE
    + """
import os
from llmtasker import LLM

llm = LLM("some-model", base_url=os.environ["BASE_URL"], api_key="sk-secret", headers={"X-Team": "a"})
item = Task(Triage, llm=llm, mode="tools")(os.environ["MESSAGE"]).raise_for_error()
print(item.output.team, item.cached)
"""
)


def test_a_process_whose_answers_are_cached_does_not_load_the_sdk_of_its_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MESSAGE", "Where is my parcel?")
    with FaultyServer(lambda _: {"team": "delivery"}) as server:
        monkeypatch.setenv("BASE_URL", server.base_url)
        assert "openai" in loaded_by(NAMED)
        assert server.counters.requests == 1
    modules = modules_of(NAMED)  # the endpoint no longer exists
    check_little(modules, most=150)
    kept = "".join(path.read_text() for path in (default_directory() / "compiled").iterdir())
    assert "sk-secret" not in kept


def test_a_process_that_finds_a_new_row_loads_the_sdk_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(lambda _: {"team": "delivery"}) as server:
        monkeypatch.setenv("BASE_URL", server.base_url)
        for number, program in enumerate(
            (
                NAMED,
                NAMED,
                NAMED.replace("= Task(", "= __import__('asyncio').run(Task(").replace(
                    ')(os.environ["MESSAGE"])', ').acall(os.environ["MESSAGE"]))'
                ),
            )
        ):
            monkeypatch.setenv("MESSAGE", f"Where is parcel {number}?")
            assert "openai" in loaded_by(program)
            assert server.counters.requests == number + 1


@pytest.mark.parametrize("other", ["header", "organisation"])
def test_another_header_is_another_endpoint_also_without_the_sdk(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGE", "Where is my parcel?")
    program = NAMED.replace('LLM("some-model", base_url=os.environ["BASE_URL"]', 'LLM("openai/some-model"')
    keys = []
    for number in range(3):
        show = program.replace('(os.environ["MESSAGE"]).raise_for_error()', '.preview("x").request').replace(
            "print(item.output.team, item.cached)", "print('KEY', item.key)"
        )
        if number == 2 and other == "header":
            show = show.replace('"X-Team": "a"', '"X-Team": "b"')
        elif number == 2:
            monkeypatch.setenv("OPENAI_ORG_ID", "org-2")
        out = programs.run("-c", show, check=True).stdout
        keys += [line for line in out.splitlines() if line.startswith("KEY")]
    assert keys[0] == keys[1] != keys[2]


def test_plain_values_in_parquet_need_no_pandas(tmp_path: Path) -> None:
    rows = [{"message": "where is it?", "tries": 1, "cost": 0.5, "cached": True, "note": None}]
    loaded = loaded_by(f"from llmtasker.files import write_rows\nwrite_rows({str(tmp_path / 'a.parquet')!r}, {rows!r})")
    assert "pyarrow" in loaded
    assert "pandas" not in loaded
