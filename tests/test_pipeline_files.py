"""A pipeline over the rows of a file: its columns, its failures, and the rows that a later process counts as done."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, Self

import pytest
from pydantic import Base64Bytes, BaseModel, Field, RootModel, field_validator, model_validator
from test_cli import Shell

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task, pipeline
from llmtasker.cli.file_job import FileJob
from llmtasker.errors import SignatureError
from llmtasker.files import detect, read_rows
from llmtasker.jobs.pipeline_work import work_on
from llmtasker.testing import FakeTransport

FLOW = '''
from datetime import date
from pathlib import Path
from typing import Literal
from pydantic import BaseModel
from llmtasker import LLM, InputField, OutputField, Signature, Task, pipeline
from llmtasker.testing import FakeTransport, last_user_text

def respond(request):
    with Path("calls.txt").open("a") as file:
        file.write("call\\n")
    text = last_user_text(request)
    return "nonsense" if "break" in text else {"team": "billing" if "invoice" in text else "delivery"}

class Team(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()

class Note(BaseModel):
    team: str
    words: int
    due: date

route = Task(Team, llm=LLM(transport=FakeTransport(respond), cache="cache"), attempts=1)

async def routed(message):
    return (await route.acall(message)).value.team

@pipeline(VERSION)
async def note(message: str, extra: int = 0) -> Note:
    """Route a message."""
    with Path("rows.txt").open("a") as file:
        file.write("row\\n")
    words = len(message.split()) + extra
    return Note(team=await routed(message), words=words, due=date(2026, 3, words))

@pipeline(VERSION, explode=True)
async def parts(message: str) -> list[str]:
    return [f"{await routed(part)}: {part}" for part in message.split("; ") if part]
'''
MESSAGES = ["the invoice", "the parcel; an invoice", "break it", "", "my parcel is late"]


class Folder:
    """A folder with a pipeline and rows, in which commands run; each makes the pipeline afresh, as a process does."""

    def __init__(self, shell: Shell, rows: list[str]) -> None:
        self.path, self._shell, self._declared = shell.folder, shell, 0
        self.declare()
        with (self.path / "in.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "text"], *enumerate(rows)])

    def declare(self, version: str = 'version="1"', code: str = FLOW) -> None:
        text = code.replace("@pipeline(VERSION)", f"@pipeline({version})").replace("VERSION, ", f"{version}, ")
        file = self.path / "flow.py"
        file.write_text(text.replace("(, ", "("), "utf-8")
        self._declared += 1
        os.utime(
            file, (self._declared, self._declared)
        )  # otherwise Python may use old compiled code with the same time

    def run(self, *arguments: str, name: str = "note") -> tuple[int, str]:
        said = self._shell("run", f"flow.py:{name}", "in.csv", "-c", "message=text", *arguments)
        return said.code, said.err

    def counted(self, name: str) -> int:
        path = self.path / f"{name}.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def rows(self, name: str = "in.answers.csv") -> list[dict[str, Any]]:
        return [dict(row) for row in read_rows(self.path / name, detect(self.path / name))]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


@pytest.fixture
def folder(shell: Shell) -> Folder:
    return Folder(shell, MESSAGES)


def test_each_field_has_a_column_and_a_failed_step_its_number(folder: Folder) -> None:
    code, said = folder.run()
    assert (code, said.splitlines()[1]) == (
        1,
        "5 rows: 3 ok, 2 failed, 0 from the cache, 4 calls. in.answers.csv",
    )
    first, second, broken, empty, last = folder.rows()
    assert list(first.values()) == ["0", "the invoice", "billing", "2", "2026-03-02", ""]
    assert list(first) == ["id", "text", "team", "words", "due", "error"]
    assert (second["team"], last["words"]) == ("billing", "4")
    assert broken["error"].startswith("invalid: step 1 (route): team: Input should be 'billing' or 'delivery'")
    assert empty["error"].startswith("input: step 1 (route): ")


def test_one_row_may_become_several_or_stay_one(folder: Folder) -> None:
    for target in ("out.csv", "out.jsonl", "out.xlsx"):
        folder.run("-o", target, name="parts")
        found = [(str(row["id"]), row["output"] or None) for row in folder.rows(target)]
        assert found == [
            ("0", "billing: the invoice"),
            ("1", "delivery: the parcel"),
            ("1", "billing: an invoice"),
            ("2", None),
            ("3", None),
            ("4", "delivery: my parcel is late"),
        ], target
        assert folder.rows(target)[2]["text"] == MESSAGES[1]


def test_types_of_fields_are_those_of_the_file(folder: Folder) -> None:
    folder.run("-o", "out.xlsx")
    first = folder.rows("out.xlsx")[0]
    assert (first["words"], first["due"].strftime("%Y-%m-%d")) == (2, date(2026, 3, 2).isoformat())


RESUMED: dict[str, tuple[str, int, str]] = {
    "with a version, finished rows are done": ('version="1"', 7, "2 done before"),
    "without one, all run again, from the caches of the steps": ("", 9, "2 from the cache"),
}
"""A second command after two of seven rows: how often the function ran in both, and the output of the second."""


@pytest.mark.parametrize("case", RESUMED)
def test_a_later_process_takes_up_what_is_certain(shell: Shell, case: str) -> None:
    version, ran, printed = RESUMED[case]
    folder = Folder(shell, [f"parcel {number}" for number in range(7)])
    folder.declare(version)
    folder.run("--limit", "2")
    code, said = folder.run()
    assert (code, folder.counted("calls")) == (0, 7)
    assert folder.counted("rows") == ran
    assert printed in said
    assert [row["team"] for row in folder.rows()] == ["delivery"] * 7
    before = (folder.path / "in.answers.csv").read_bytes()
    assert folder.run()[0] == 0
    assert (folder.counted("calls"), (folder.path / "in.answers.csv").read_bytes()) == (7, before)


CHANGES: dict[str, tuple[str, str, str]] = {
    "the version": ('version="2"', FLOW, "differs in its function or version"),
    "a prompt in the code of a helper": (
        'version="1"',
        FLOW.replace("Say which", "Find out which"),
        "differs in its tasks in it",
    ),
    "a field": ('version="1"', FLOW.replace("words: int", "words: float"), "differs in its input or output fields"),
    "a prompt, without a version": ("", FLOW.replace("Say which", "Find out which"), "differs in its tasks in it"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_output_of_other_work_is_not_mixed_with_it(shell: Shell, change: str) -> None:
    version, code, reason = CHANGES[change]
    folder = Folder(shell, ["parcel", "invoice"])
    folder.declare(version and 'version="1"')
    folder.run()
    folder.declare(version, code)
    refused, said = folder.run()
    assert (refused, folder.counted("rows")) == (2, 2)
    assert reason in said
    assert "--overwrite" in said
    assert folder.run("--overwrite")[0] == 0
    assert folder.counted("rows") == 4


def test_changed_code_without_a_version_is_never_mixed_with_old_rows(shell: Shell) -> None:
    folder = Folder(shell, ["parcel", "invoice", "parcels"])
    folder.declare("")
    folder.run("--limit", "2")
    folder.declare("", FLOW.replace("+ extra", "+ 7"))
    assert folder.run()[0] == 0
    assert [row["words"] for row in folder.rows()] == ["8", "8", "8"]
    assert folder.counted("calls") == 3


def test_a_limit_loses_no_row_that_nobody_can_know_again(folder: Folder) -> None:
    folder.declare("")
    folder.run()
    written = (folder.path / "in.answers.csv").read_bytes()
    code, said = folder.run("--limit", "2")
    assert (code, "those past the limit of 2 would be lost" in said) == (2, True)
    assert (folder.path / "in.answers.csv").read_bytes() == written
    assert folder.run("--limit", "2", "--overwrite")[0] == 0
    assert len(folder.rows()) == 2


REFUSED = {
    "--estimate": "the calls of pipeline(note) are known only after it has run. Try --limit 20",
    "--group-size=3": "pipeline(note) calls its tasks for one row at a time",
    "--llm=offline": "the tasks of a pipeline have their own LLMs",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_does_not_apply_is_refused_by_name(folder: Folder, option: str) -> None:
    code, said = folder.run(option)
    assert (code, REFUSED[option] in said) == (2, True)
    assert said.startswith(f"llmtasker: {option.partition('=')[0]}")
    assert not (folder.path / "rows.txt").exists()


def test_failed_rows_can_be_left_only_where_they_are_known(folder: Folder) -> None:
    assert folder.run("--no-retry-errors")[0] == 1
    assert folder.run("--no-retry-errors")[1].startswith("in.csv: CSV")
    assert folder.counted("rows") == 5
    folder.declare("")
    code, said = folder.run("--no-retry-errors", "-o", "other.csv")
    assert (code, said.count("\n")) == (2, 1)
    assert "has no version, so the rows of an earlier run may come from other code, and all rows run again." in said


def test_a_version_is_a_text() -> None:
    async def same(text: str) -> str:
        return text

    wrong: Any
    for wrong in ("", " ", 3, 1.0):
        with pytest.raises(ConfigurationError, match="version is a text"):
            pipeline(version=wrong)(same)
    assert work_on(pipeline(version="3")(same)).whole == work_on(pipeline(version="3")(same)).whole


def test_rows_that_a_process_finished_are_known_in_it(tmp_path: Path) -> None:
    calls = list[str]()

    @pipeline
    async def upper(text: str) -> str | None:
        calls.append(text)
        return text.upper() or None

    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "b", "")), "utf-8")
    for _ in range(2):
        job = FileJob(task=upper, source=source, target=tmp_path / "out.jsonl", source_format=detect(source))
        assert job.run().rows == 3
    assert len(calls) == 3
    assert [row["output"] for row in read_rows(tmp_path / "out.jsonl")] == ["A", "B", None]


def _asks(task: Task[Any]) -> Any:
    async def ask(text: str) -> str:
        return str((await task.acall(text)).value.team)

    return ask


def _of_two(first: Any, second: Any) -> Any:
    async def both(text: str) -> str:
        return str(await first(text) and await second(text))

    return pipeline(version="1")(both)


def _made(way: str, task: Task[Any]) -> Any:
    """A pipeline that reaches a task in some way."""
    if way in TWO:
        same = task.with_(signature=task.signature.with_instructions("Always the same."))
        return _of_two(*map(_asks, (task, same) if way == TWO[0] else (same, task)))
    several, by_name, place = [task], {"x": task}, SimpleNamespace(task=task)
    module = ModuleType("module")
    vars(module)["task"] = task

    async def inner(text: str) -> str:
        return str((await task.acall(text)).value.team)

    within = pipeline(inner)

    async def closure(text: str) -> str:
        return str((await task.acall(text)).value.team)

    async def member(text: str) -> str:
        return str((await several[0].acall(text)).value.team)

    async def key(text: str) -> str:
        return str((await by_name["x"].acall(text)).value.team)

    async def attribute(text: str) -> str:
        return str((await module.task.acall(text)).value.team)

    async def gathered(text: str) -> str:
        return str((await asyncio.gather(*(task.acall(one) for one in [text])))[0].value.team)

    async def helper(text: str) -> str:
        return await inner(text)

    async def pipelined(text: str) -> str:
        return (await within.acall(text)).value

    async def unseen(text: str) -> str:
        return str((await place.task.acall(text)).value.team)

    return pipeline(version="1")(locals()[way])


TWO = ("the first of two with one name", "the second of two with one name")
SEEN = ("closure", "member", "key", "attribute", "gathered", "helper", "pipelined", *TWO)


@pytest.mark.parametrize("way", [*SEEN, "unseen"])
def test_a_changed_prompt_is_noticed_where_the_code_names_the_task(way: str) -> None:
    class Team(Signature):
        """Say which team takes the message."""

        message: str = InputField()
        team: Literal["billing", "delivery"] = OutputField()

    llm = LLM(transport=FakeTransport({"team": "billing"}), cache=False)
    one, same = (work_on(_made(way, Task(Team, llm=llm))).whole for _ in range(2))
    other = work_on(_made(way, Task(Team.with_instructions("Find it out."), llm=llm))).whole
    assert one == same
    assert (one != other) == (way in SEEN)
    assert _made(way, Task(Team, llm=llm))("x").output == "billing"


class Odd:
    """A class that can't be stored in a file."""


def test_types_and_values_that_do_not_fit_are_named() -> None:
    @pipeline
    async def two(text: str, number: int) -> str:
        return text * number

    @pipeline
    async def odd(text: str) -> Odd:
        return Odd()

    assert "the input does not fit two: number: Input should be a valid integer" in str(two(text="x", number="y").error)
    assert isinstance(odd("x").output, Odd)
    with pytest.raises(SignatureError, match=r"odd: files and requests can't hold the type of output, .*Odd.*: use a"):
        work_on(odd).whole  # noqa: B018 - it is computed when it is asked for


# ── what is stored of an output, and read again ──

LIMIT = {0: 100}


class Sum(BaseModel):
    day: date = Field(alias="Day")
    total: Decimal

    @field_validator("total")
    @classmethod
    def below(cls, total: Decimal) -> Decimal:
        assert total < LIMIT[0], "too much"
        return total


class Doubled(BaseModel):
    total: int

    @field_validator("total")
    @classmethod
    def twice(cls, total: int) -> int:
        return 2 * total


class Unread(BaseModel):
    total: int

    @field_validator("total", mode="before")
    @classmethod
    def from_text(cls, total: object) -> int:
        assert isinstance(total, str)
        return int(total)


class Quote(Signature):
    """Quote the text."""

    text: str = InputField()
    quote: str = OutputField()

    @model_validator(mode="after")
    def verbatim(self) -> Self:
        assert self.quote in self.text[: LIMIT[0]]
        return self


KEPT: dict[str, tuple[Any, Any, dict[str, Any], bool]] = {
    "a model": (Sum, Sum(Day=date(2026, 3, 1), total=Decimal(7)), {"day": date(2026, 3, 1), "total": Decimal(7)}, True),
    "a record, judged with its inputs": (Quote, Quote(text="one two", quote="two"), {"quote": "two"}, True),
    "a date": (date, date(2026, 3, 1), {"output": date(2026, 3, 1)}, False),
    "a mapping": (dict[str, date], {"output": date(2026, 3, 1)}, {"output": {"output": date(2026, 3, 1)}}, False),
    "a list": (RootModel[list[int]], RootModel[list[int]]([1]), {"output": RootModel[list[int]]([1])}, False),
    "a validator that changes a value": (Doubled, Doubled(total=3), {"total": 6}, False),
    "a class that does not read what it gives": (Unread, Unread(total="3"), {"total": 3}, False),  # type: ignore[arg-type]
}
"""What a pipeline returns: its type, a value, its cells, and whether its class refuses it under the new limit."""


@pytest.mark.parametrize("case", KEPT)
def test_a_kept_output_has_its_types_and_is_judged_again(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, output, cells, refused = KEPT[case]

    async def made(text: str) -> Any:
        return output

    made.__annotations__["return"] = kind
    work = work_on(pipeline(made))
    item = work.asked("x")
    text = work.kept(item)
    found = work.read(text, {"text": "x"})
    assert found is not None
    assert work.cells(item) == work.cells(found) == [cells]
    assert list(work.task.run(["x"]).to_dicts()[0])[1:-1] == list(cells)
    monkeypatch.setitem(LIMIT, 0, 3)
    assert (work.read(text, {"text": "x"}) is None) == refused
    assert work.task.answer(work.item(json.loads(text), {"text": "x"})) == json.loads(text)["output"]


class Blob(BaseModel):
    name: str
    data: bytes


BLOB = Blob(name="x", data=b"\xff")


@pytest.mark.parametrize(
    ("kind", "given", "output"),
    [(bytes, b"\xff", b"\xff"), (Base64Bytes, b"/w==", b"\xff"), (Blob, BLOB, BLOB), (list[Blob], [BLOB], [BLOB])],
)
def test_bytes_are_kept_in_the_process_and_refused_where_they_would_be_others(
    kind: Any, given: Any, output: Any
) -> None:
    async def made(text: str) -> Any:
        return given

    made.__annotations__["return"] = kind
    (item,) = pipeline(made).run(["x"])
    assert item.output == output
    assert '"/w=="' in item.to_json()
    with pytest.raises(SignatureError, match=r"made: files and requests can't hold the bytes in .*: return a text"):
        work_on(pipeline(made)).whole  # noqa: B018 - it is computed when it is asked for
