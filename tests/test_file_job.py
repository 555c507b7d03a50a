"""A file through a task into another file: resumed, without losing a row or asking twice."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from pydantic import model_validator

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Retry, Signature, Task, pipeline
from llmtasker.cache import MemoryCache
from llmtasker.cli.file_job import FileJob, JobCounts
from llmtasker.errors import AuthenticationError, NetworkError
from llmtasker.files import detect, write_rows
from llmtasker.jobs.chosen_columns import choose_columns
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport, last_user_text
from llmtasker.wire.request import Request


class Route(Signature):
    """Say which team takes the message."""

    message: str = InputField(min_length=0)
    team: Literal["billing", "delivery"] = OutputField()
    score: int = OutputField(default=3)


def answer(request: Request) -> Any:
    text = last_user_text(request)
    if "unreachable" in text:
        raise NetworkError("connection reset")
    return {"team": "billing" if "invoice" in text else "delivery", "score": len(text)}


def make_task(transport: Any = None, signature: type[Signature] = Route, **settings: Any) -> Task[Any]:
    cache = settings.pop("cache", None)
    llm = LLM(
        transport=transport or FakeTransport(answer),
        cache=MemoryCache() if cache is None else cache,
        retry=Retry(attempts=1, refusals=1),
        **settings,
    )
    return Task(signature, llm=llm)


def job(task: Task[Any], source: Path, target: Path, **settings: Any) -> FileJob:
    return FileJob(task=task, source=source, target=target, source_format=detect(source), **settings)


def do(task: Task[Any], source: Path, target: Path, **settings: Any) -> JobCounts:
    return job(task, source, target, **settings).run(concurrency=8)


def calls(task: Task[Any]) -> int:
    transport = task.llm.transport
    assert isinstance(transport, FakeTransport)
    return transport.calls


MESSAGES = [f"invoice {number}" if number % 3 else f"parcel {number}" for number in range(30)]


def table(messages: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"{number:03}", "message": message, **more} for number, message in enumerate(messages)]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    write_rows(path, rows)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    # Only \n ends a line: JSON lets U+2028 stand as it is.
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.csv", table(MESSAGES))


def saying(what: Any) -> LLM:
    return LLM(transport=FakeTransport(what), cache=False)


# ── a whole run ──


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "parquet", "xlsx", "tsv"])
def test_every_row_comes_out_with_its_columns_and_its_answer(tmp_path: Path, source: Path, ending: str) -> None:
    from llmtasker.files import read_rows

    target = tmp_path / f"out.{ending}"
    task = make_task()
    tally = do(task, source, target)
    assert (tally.rows, tally.ok, tally.failed, tally.calls, tally.earlier) == (30, 30, 0, 30, 0)
    rows = list(read_rows(target))
    assert [row["id"] for row in rows] == [f"{number:03}" for number in range(30)], "leading zeros too"
    assert [row["message"] for row in rows] == MESSAGES
    assert [row["team"] for row in rows] == ["billing" if "invoice" in text else "delivery" for text in MESSAGES]
    assert {row["error"] for row in rows} <= {None, ""}
    assert list(rows[0]) == ["id", "message", "team", "score", "error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", f"out.{ending}", f"out.{ending}.journal"]
    assert (tmp_path / f"out.{ending}.journal").stat().st_mode & 0o077 == 0, "texts and answers are private"


def test_jsonl_rows_are_in_order_and_each_once(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    do(make_task(), source, target)
    assert [row["id"] for row in lines(target)] == [f"{number:03}" for number in range(30)]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_reported(tmp_path: Path, content: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(content)
    with pytest.raises(ConfigurationError, match="has no rows"):
        do(make_task(), source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_limit(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    task = make_task()
    assert do(task, source, target, limit=10).rows == 10
    assert len(lines(target)) == calls(task) == 10
    assert do(task, source, target).earlier == 10
    assert len(lines(target)) == calls(task) == 30
    assert do(task, source, target, limit=5).earlier == 5
    assert len(lines(target)) == calls(task) == 30, "what is done is not thrown away"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            Classification(llm=saying({"label": "b"}), labels=["a", "b"]),
            {"label": "b"},
        ),
        (
            Classification(
                llm=saying({"labels": ["b", "a"]}),
                labels=["a", "b"],
                multi_label=True,
            ),
            {"labels": ["b", "a"]},
        ),
        (Instruction(llm=saying("short"), instructions="Cut."), {"result": "short"}),
        (
            Instruction(
                llm=saying({"who": "Ann", "age": 7}),
                instructions="Who?",
                output={"who": str, "age": int},
            ),
            {"who": "Ann", "age": 7},
        ),
        (
            Instruction(llm=saying({"any": 1}), instructions="What?", output=dict),
            {"result": {"any": 1}},
        ),
    ],
    ids=["label", "labels", "text", "fields", "dict"],
)
def test_ready_made_tasks(tmp_path: Path, task: Task[Any], expected: dict[str, Any]) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "one"}])
    do(task, source, tmp_path / "out.jsonl")
    (row,) = lines(tmp_path / "out.jsonl")
    assert {name: row[name] for name in expected} == expected
    assert row["error"] is None


# ── columns ──


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"texte": "invoice", "message": "parcel"}])
    do(make_task(), source, tmp_path / "out.jsonl", columns=["texte"])
    (row,) = lines(tmp_path / "out.jsonl")
    assert (row["texte"], row["message"], row["team"]) == ("invoice", "parcel", "billing")


class Pair(Signature):
    """Compare two texts."""

    left: str = InputField()
    right: str = InputField()
    note: str = InputField(default="")
    same: bool = OutputField()


@pytest.mark.parametrize(
    ("header", "chosen", "found"),
    [
        (["left", "right"], [], {"left": "left", "right": "right"}),
        (["left", "right", "note"], [], {"left": "left", "right": "right", "note": "note"}),
        (["a", "right"], ["left=a"], {"left": "a", "right": "right"}),
        (["a=b", "right"], ["left=a=b"], {"left": "a=b", "right": "right"}),
        (["re\u0301sume\u0301", "right"], ["left=résumé"], {"left": "re\u0301sume\u0301", "right": "right"}),
        (["left", "right", "x"], ["left=x", "right=x"], {"left": "x", "right": "x"}),
        (["left ", "left", "right"], [], {"left": "left", "right": "right"}),
        (["left", "left ", "right"], [], {"left": "left", "right": "right"}),
        (["é", "e\u0301", "right"], ["left=é"], {"left": "é", "right": "right"}),
        (["é", "e\u0301", "right"], ["left=e\u0301"], {"left": "e\u0301", "right": "right"}),
        ([" left", "left ", "right", "x"], ["left=x"], {"left": "x", "right": "right"}),
        ([" left", "left ", "right"], [], None),
        (["left"], [], None),
        (["left", "right", "x"], ["left=x", "left=x"], {"left": "x", "right": "right"}),
        (["left", "right", "x"], ["left=x", "left=left"], None),
        (["left", "right"], ["middle=left"], None),
        (["left", "right"], ["left=nowhere"], None),
        (["left", "right"], ["left"], None),
        ([], [], None),
    ],
)
def test_choose_columns(header: list[str], chosen: list[str], found: dict[str, str] | None) -> None:
    if found is not None:
        assert choose_columns(Pair, header, chosen) == found
        return
    with pytest.raises(ConfigurationError, match="column") as said:
        choose_columns(Pair, header, chosen)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("chosen", "given"), [([], "columns=.* or header=3"), (["message"], "header=3")])
def test_a_title_above_the_names_is_recognised(tmp_path: Path, chosen: list[str], given: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("Export of March;;\n;;\nid;message;n\n1;invoice;2\n", "utf-8")
    with pytest.raises(ConfigurationError, match=rf"further down, such as in line 3\. .* Give {given}"):
        do(make_task(), source, tmp_path / "out.csv", columns=chosen)
    form = detect(source, header=3)
    FileJob(task=make_task(), source=source, target=tmp_path / "out.csv", source_format=form).run()
    assert (tmp_path / "out.csv").read_text("utf-8").splitlines()[1] == "1;invoice;2;billing;7;"


TAKEN = {"message": "invoice 1", "team": "by hand", "error": "none", "llm_error": "x", "score": "9"}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_columns_of_the_input_are_never_overwritten(tmp_path: Path, ending: str) -> None:
    source = write(tmp_path / f"in.{ending}", [TAKEN])
    one = job(make_task(), source, tmp_path / "out.jsonl")
    one.run(concurrency=1)
    (row,) = lines(tmp_path / "out.jsonl")
    assert {name: row[name] for name in TAKEN} == TAKEN
    assert (row["llm_team"], row["llm_llm_error"], row["llm_score"]) == ("billing", None, 9)
    assert one.error_column == "llm_llm_error"
    again = job(make_task(cache=False), source, tmp_path / "out.jsonl")
    assert again.run(concurrency=1).earlier == 1


def test_a_column_that_only_a_later_row_has_is_not_overwritten(tmp_path: Path) -> None:
    rows = [{"message": "invoice 1"}, {"message": "invoice 2", "team": "by hand"}]
    source = write(tmp_path / "in.jsonl", rows)
    do(make_task(), source, tmp_path / "out.jsonl")
    first, second = lines(tmp_path / "out.jsonl")
    assert (second["team"], second["llm_team"]) == ("by hand", "billing")
    assert first["llm_team"] == "billing"


def test_the_output_of_a_job_is_the_input_of_the_next(tmp_path: Path, source: Path) -> None:
    """Filtered and shuffled, so that the numbers of its rows belong to other rows of the first file."""
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    do(make_task(), source, first)
    rows = [row for row in lines(first) if row["team"] == "billing"] * 2
    random.Random(3).shuffle(rows)
    write(first, rows)
    task = make_task()
    for _ in range(2):
        do(task, first, second)
        came = lines(second)
        assert [row["message"] for row in came] == [row["message"] for row in rows]
        assert [row["id"] for row in came] == [row["id"] for row in rows]
        assert {row["llm_team"] for row in came} == {"billing"}
    assert calls(task) == 20


# ── broken rows ──


def test_broken_rows_stand_in_their_places_and_are_not_asked(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,message\n1\n2,invoice\n3,parcel,more,and more\n4,parcel\n", "utf-8")
    task = make_task()
    for _ in range(2):
        tally = do(task, source, tmp_path / "out.csv")
        assert (tally.rows, tally.ok + tally.earlier, tally.failed) == (4, 2, 2)
    rows = cells(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["team"] for row in rows] == ["", "billing", "", "delivery"]
    assert [row["error"].partition(":")[0] for row in rows] == ["input", "", "input", ""]
    assert "line 2" in rows[0]["error"]
    assert calls(task) == 2


def test_broken_lines_of_json(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"message": "invoice"}\n{"message": \n[1]\n\n{"text": "odd"}\n{"message": "parcel"}\n', "utf-8")
    tally = do(make_task(), source, tmp_path / "out.jsonl")
    assert (tally.rows, tally.ok, tally.failed, tally.errors) == (5, 2, 3, {"input": 3})
    assert [row.get("team") for row in lines(tmp_path / "out.jsonl")] == ["billing", None, None, None, "delivery"]


def test_a_file_without_a_line_of_json_says_what_its_first_line_is(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("{'message': 'invoice'}\n{'message': 'parcel'}\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"no row of .* can be read: line 1 is not valid JSON"):
        do(make_task(), source, tmp_path / "out.jsonl")


def test_many_broken_rows_are_counted_right(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,message\n" + "".join(f"{n}\n{n},parcel {n}\n" for n in range(3000)), "utf-8")
    tally = do(make_task(), source, tmp_path / "out.jsonl")
    assert (tally.rows, tally.ok, tally.failed) == (6000, 3000, 3000)
    assert len(lines(tmp_path / "out.jsonl")) == 6000


# ── resumed ──


def test_a_second_run_asks_nothing(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    do(make_task(), source, target)
    before = target.read_bytes()
    task = make_task(cache=False)
    tally = do(task, source, target)
    assert (tally.earlier, tally.ok, calls(task)) == (30, 0, 0)
    assert target.read_bytes() == before


def test_an_added_row_is_one_call_and_a_shuffled_file_none(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    task = make_task()
    do(task, source, target)
    write(source, table([*MESSAGES, "invoice new"]))
    do(task, source, target)
    assert calls(task) == 31
    rows = table([*MESSAGES, "invoice new"])
    random.Random(1).shuffle(rows)
    write(source, rows)
    do(task, source, target)
    assert calls(task) == 31
    assert [row["id"] for row in lines(target)] == [row["id"] for row in rows]
    assert all(row["team"] == ("billing" if "invoice" in row["message"] else "delivery") for row in lines(target))


def before_the_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": "new", "message": "invoice new"}, *rows]


def between_all_reversed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for old in reversed(rows) for row in ({"id": "new", "message": f"invoice {old['id']}"}, old)]


def between_halves_swapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*rows[20:], *({"id": "new", "message": f"parcel new {number}"} for number in range(20)), *rows[:20]]


@pytest.mark.parametrize("change", [before_the_first, between_all_reversed, between_halves_swapped])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_new_rows_take_no_answer_from_those_that_move(
    tmp_path: Path, source: Path, ending: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    target, task = tmp_path / f"out.{ending}", make_task(cache=False)
    do(task, source, target)
    rows = change(table(MESSAGES))
    write(source, rows)
    counts = do(task, source, target)
    assert (counts.earlier, counts.ok, calls(task)) == (30, len(rows) - 30, len(rows))
    answers = [(row["message"], row["team"]) for row in (lines if ending == "jsonl" else cells)(target)]
    assert answers == [(row["message"], "billing" if "invoice" in row["message"] else "delivery") for row in rows]


def test_rows_that_are_gone_from_the_input_go_from_the_output(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    task = make_task()
    do(task, source, target)
    write(source, table(MESSAGES)[10:20])
    do(task, source, target)
    assert [row["message"] for row in lines(target)] == MESSAGES[10:20]
    assert calls(task) == 30


def test_a_changed_row_is_asked_and_the_others_not(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    do(make_task(), source, target)
    rows = table(MESSAGES)
    rows[7]["message"] = "parcel, not invoiced"
    rows[9]["id"] = "another id"
    write(source, rows)
    task = make_task(cache=False)
    tally = do(task, source, target)
    assert (tally.earlier, calls(task)) == (29, 1), "a column that the LLM does not see changes no answer"
    assert lines(target)[9]["id"] == "another id"


def entries(target: Path) -> int:
    with closing(sqlite3.connect(target.with_name(f"{target.name}.journal"))) as database:
        (count,) = database.execute("SELECT count(*) FROM rows").fetchone()
        return int(count)


OTHER = Route.with_instructions("Route by mood.")
EDITED = [f"parcel edited {number}" for number in range(30)]


# The run after one over MESSAGES: the entries that it leaves, and the calls when the first is run again.
@pytest.mark.parametrize(
    ("messages", "signature", "settings", "kept", "again"),
    [
        pytest.param(MESSAGES, Route, {}, 30, 0, id="same"),
        pytest.param(MESSAGES[::-1], Route, {}, 30, 0, id="moved"),
        pytest.param([*MESSAGES, *MESSAGES], Route, {}, 30, 0, id="equal rows share an entry"),
        pytest.param(MESSAGES[10:20], Route, {}, 10, 20, id="rows gone"),
        pytest.param([*MESSAGES[:10], *EDITED[10:]], Route, {}, 30, 20, id="edited"),
        pytest.param([*MESSAGES, "unreachable 1"], Route, {}, 31, 0, id="failed row"),
        pytest.param(MESSAGES, OTHER, {}, 30, 30, id="another prompt"),
        pytest.param(MESSAGES, Route, {"limit": 5}, 30, 0, id="limit"),
        pytest.param(MESSAGES[::-1], Route, {"limit": 5}, 30, 0, id="moved past a limit"),
        pytest.param(MESSAGES, OTHER, {"limit": 5}, 30, 5, id="another prompt for a few rows"),
    ],
)
def test_a_complete_run_deletes_the_answers_that_no_row_has(
    tmp_path: Path,
    source: Path,
    messages: Sequence[str],
    signature: type[Signature],
    settings: dict[str, Any],
    kept: int,
    again: int,
) -> None:
    target = tmp_path / "out.csv"
    do(make_task(cache=False), source, target)
    write(source, table(messages))
    for _ in range(2):
        do(make_task(cache=False, signature=signature), source, target, overwrite=True, **settings)
        assert entries(target) == kept
    if len(set(MESSAGES) & set(messages)) < 30:
        content = target.with_name("out.csv.journal").read_bytes()
        gone = {message.encode() for message in set(MESSAGES) - set(messages)}
        assert not [message for message in gone if message + b'"' in content], "nor in the free space of the file"
    task = make_task(cache=False)
    do(task, write(source, table(MESSAGES)), target, overwrite=True)
    assert (calls(task), entries(target)) == (again, 30)


def test_a_stopped_run_deletes_nothing(tmp_path: Path, source: Path) -> None:
    def stopped(inputs: Iterable[Any]) -> Iterator[Any]:
        yield from islice(make_task(cache=False).stream(inputs), 7)
        raise KeyboardInterrupt

    target = tmp_path / "out.csv"
    do(make_task(), source, target)
    write(source, table(EDITED))
    with pytest.raises(KeyboardInterrupt):
        job(make_task(), source, target, stream=stopped).run()
    assert entries(target) == 37
    task = make_task(cache=False)
    do(task, write(source, table(MESSAGES)), target)
    assert (calls(task), entries(target)) == (0, 30)


def test_the_journal_of_a_pipeline_without_a_version_does_not_grow(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.csv"
    for _ in range(3):

        @pipeline
        async def upper(message: str) -> str:
            return message.upper()

        FileJob(task=upper, source=source, target=target, source_format=detect(source)).run()
        assert entries(target) == 30


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("again", [True, False])
def test_failed_rows_are_asked_again_or_not(tmp_path: Path, source: Path, again: bool, ending: str) -> None:
    write(source, table([*MESSAGES, "unreachable 1", "unreachable 2"]))
    target = tmp_path / f"out.{ending}"
    task = make_task()
    first = do(task, source, target)
    assert (first.ok, first.failed, first.errors, calls(task)) == (30, 2, {"network": 2}, 32)
    second = do(task, source, target, retry_errors=again)
    assert calls(task) == (34 if again else 32)
    assert (second.earlier, second.failed) == ((30, 2) if again else (32, 0))
    task.llm.transport._answers = {"team": "billing", "score": 1}  # type: ignore[attr-defined]
    third = do(task, source, target)
    assert (third.ok, third.failed, calls(task)) == (2, 0, 36 if again else 34)
    rows = lines(target) if ending == "jsonl" else cells(target)
    assert len(rows) == 32
    assert {row["error"] for row in rows} <= {None, ""}


def test_an_answer_of_a_row_counts_where_it_failed_before(tmp_path: Path) -> None:
    target, failing = tmp_path / "out.csv", [True]

    def once(request: Request) -> Any:
        if "parcel" in last_user_text(request) and failing[0]:
            raise NetworkError("connection reset")
        return answer(request)

    task = make_task(FakeTransport(once), cache=False)
    rows = table(["parcel", "invoice 1", "invoice 2"])
    do(task, write(tmp_path / "in.csv", rows), target)
    failing[0] = False
    do(task, write(tmp_path / "in.csv", rows[1:] + rows[:1]), target, limit=3, retry_errors=True)
    assert calls(task) == 4
    failing[0] = True
    counts = do(task, write(tmp_path / "in.csv", rows), target)
    assert (counts.earlier, counts.failed, calls(task)) == (3, 0, 4)
    assert [row["team"] for row in cells(target)] == ["delivery", "billing", "billing"]


def test_nothing_that_was_asked_by_a_changed_task_is_taken_for_an_answer(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    store = MemoryCache()
    do(make_task(cache=store), source, target)

    same = make_task(signature=Route.with_instructions("Route by mood."), cache=store)
    changed: dict[str, Task[Any]] = {
        "instructions or examples": same,
        "LLM or settings": make_task(cache=store, temperature=0.5),
        "output fields": make_task(signature=Urgent, cache=store),
    }
    whole = target.read_bytes()
    for what, task in changed.items():
        with pytest.raises(ConfigurationError, match=f"differs in its {what}: choose another name, or give --overw"):
            do(task, source, target)
        assert (calls(task), target.read_bytes()) == (0, whole)
    tally = do(same, source, target, overwrite=True)
    assert (tally.earlier, calls(same), len(lines(target))) == (0, 30, 30)
    more = make_task(signature=same.signature, cache=False, max_tokens=200)
    assert (do(more, source, target).earlier, calls(more)) == (30, 0), "a higher limit changes no whole answer"


class Urgent(Signature):
    """Say which team takes the message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()
    urgent: bool = OutputField(default=False)


def test_rows_of_another_column_or_file_never_come_out(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"text": f"invoice {n}", "note": f"parcel {n}"} for n in range(6)])
    target = tmp_path / "out.csv"
    do(make_task(), source, target, columns=["text"])
    before = target.read_bytes()
    with pytest.raises(ConfigurationError, match="differs in its columns"):
        do(make_task(), source, target, columns=["note"])
    assert target.read_bytes() == before
    other = write(tmp_path / "other.csv", [{"text": "parcel 7", "note": ""}, {"text": "invoice 1", "note": "x"}])
    with pytest.raises(ConfigurationError, match="differs in its input"):
        do(make_task(), other, target, columns=["text"])
    assert target.read_bytes() == before
    assert do(make_task(), other, target, columns=["text"], overwrite=True).earlier == 1, "this very text was answered"
    assert [row["text"] for row in cells(target)] == ["parcel 7", "invoice 1"]


DAMAGE = {
    "item": "UPDATE rows SET item = replace(item, 'delivery', 'billing') WHERE number = 4",
    "checksum": "UPDATE rows SET checksum = x'00' WHERE number = 4",
    "text": "UPDATE rows SET item = CAST(x'fffe' AS TEXT) WHERE number = 4",
}


@pytest.mark.parametrize("column", DAMAGE)
def test_a_damaged_entry_of_the_journal_costs_its_row_only(tmp_path: Path, source: Path, column: str) -> None:
    target = tmp_path / "out.csv"
    do(make_task(), source, target)
    with closing(sqlite3.connect(tmp_path / "out.csv.journal")) as database, database:
        database.execute(DAMAGE[column])
    task = make_task(cache=False)
    assert (do(task, source, target).earlier, calls(task)) == (29, 1)
    assert cells(target)[3]["team"] == "delivery"


@pytest.mark.parametrize("part", [slice(0, 4096), slice(4096, 12_288), slice(4096, None)])
def test_a_damaged_journal_is_reported_and_the_output_stays(tmp_path: Path, part: slice) -> None:
    source, target = write(tmp_path / "in.csv", table(["invoice " + "x" * 500] * 60)), tmp_path / "out.csv"
    do(make_task(), source, target)
    before, journal = target.read_bytes(), tmp_path / "out.csv.journal"
    content = bytearray(journal.read_bytes())
    content[part] = b"\xa5" * len(content[part])
    journal.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"out\.csv\.journal (is damaged|exists and is not a journal)"):
        do(make_task(), source, target)
    assert target.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_was_changed_by_hand_is_kept(tmp_path: Path, source: Path, overwrite: bool) -> None:
    target = tmp_path / "out.csv"
    do(make_task(), source, target)
    whole = target.read_bytes()
    target.write_bytes(whole + b"my own line\n")
    if not overwrite:
        with pytest.raises(ConfigurationError, match="was changed since it was written"):
            do(make_task(), source, target)
        assert target.read_bytes() == whole + b"my own line\n"
        return
    task = make_task(cache=False)
    do(task, source, target, overwrite=True)
    assert (target.read_bytes(), calls(task)) == (whole, 0)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "xlsx", "parquet"])
def test_a_number_in_a_text_column_is_the_same_text_from_every_format(tmp_path: Path, ending: str) -> None:
    from llmtasker.files import read_rows

    asked = make_task()
    asked("75011")
    task = asked.with_(llm=asked.llm)
    source = write(tmp_path / f"in.{ending}", [{"message": 75011}])
    counts = do(task, source, tmp_path / f"out.{ending}")
    assert (counts.ok, counts.cached, calls(asked)) == (1, 1, 1)
    (came,) = read_rows(tmp_path / f"out.{ending}")
    assert came["message"] == ("75011" if ending == "csv" else 75011)
    assert do(task, source, tmp_path / f"out.{ending}").earlier == 1


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_another_line_is_not_advised_where_no_line_has_the_names(tmp_path: Path, ending: str) -> None:
    source = write(tmp_path / f"in.{ending}", [{"text": "invoice"}])
    with pytest.raises(ConfigurationError, match="Columns: text") as raised:
        do(make_task(), source, tmp_path / f"out.{ending}")
    assert "header" not in str(raised.value)


def test_dates_and_numbers_come_out_as_they_went_in(tmp_path: Path) -> None:
    from llmtasker.files import read_rows

    row = {"message": "invoice", "day": date(2026, 3, 1), "n": 7, "ratio": 0.5, "paid": True}
    for ending in ("xlsx", "parquet"):
        source = write(tmp_path / f"in.{ending}", [row])
        do(make_task(), source, tmp_path / f"out.{ending}")
        (came,) = read_rows(tmp_path / f"out.{ending}")
        assert {name: came[name] for name in row} == row
        assert came["score"] == 7


def test_an_empty_cell_of_a_workbook_does_not_make_texts_of_numbers(tmp_path: Path) -> None:
    import pyarrow.parquet

    rows = [{"message": "a", "n": 7, "day": date(2026, 3, 1)}, {"message": "b", "n": None, "day": None}]
    do(make_task(), write(tmp_path / "in.xlsx", rows), tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert [str(table.schema.field(name).type) for name in ("message", "n", "day")] == [
        "string",
        "int64",
        "date32[day]",
    ]
    assert [{name: row[name] for name in rows[0]} for row in table.to_pylist()] == rows


def test_a_json_lines_output_grows_while_the_run_continues(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    seen: list[int] = []

    def watched(request: Request) -> Any:
        seen.append(len(lines(target)))
        return answer(request)

    job(make_task(FakeTransport(watched)), source, target).run(concurrency=1)
    assert seen[-1] >= 30 - 2 * 8, "a stream reads 8 rows ahead of what was taken"
    assert all("_row" not in row for row in lines(target))


@pytest.mark.parametrize("done", [0, 1, 20])
def test_a_json_lines_output_keeps_its_rows_while_others_are_added(tmp_path: Path, done: int) -> None:
    messages = [*MESSAGES[:20], *(f"unreachable {number}" for number in range(20, 30))]
    source, target = write(tmp_path / "in.csv", table(messages)), tmp_path / "out.jsonl"
    do(make_task(), source, target)
    before = target.read_bytes()
    assert sum(row["error"] is not None for row in lines(target)) == 10
    write(source, table([*messages, *(f"parcel {number}" for number in range(30, 60))]))

    def broken(inputs: Any, **options: Any) -> Any:
        better = make_task(FakeTransport(lambda _: {"team": "billing", "score": 1}), cache=False)
        yield from islice(better.stream(inputs, **options), done)
        raise OSError("no network")

    for _ in range(3):
        with pytest.raises(OSError, match="no network"):
            do(make_task(), source, target, stream=broken)
        assert target.read_bytes() == before
    write(source, table([*MESSAGES, *(f"parcel {number}" for number in range(30, 60))]))
    seen: list[bytes] = []

    def watched(request: Request) -> Any:
        seen.append(target.read_bytes())
        return answer(request)

    job(make_task(FakeTransport(watched), cache=False), source, target).run(concurrency=1)
    assert set(seen) == {before}
    assert [row["message"] for row in lines(target)] == [*MESSAGES, *(f"parcel {number}" for number in range(30, 60))]
    assert not any(row["error"] for row in lines(target))


def test_a_json_lines_output_that_was_stopped_grows_when_it_is_resumed(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"

    def broken(inputs: Any, **options: Any) -> Any:
        yield from islice(make_task().stream(inputs, **options), 10)
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        do(make_task(), source, target, stream=broken)
    assert len(lines(target)) == 10
    seen: list[int] = []

    def watched(request: Request) -> Any:
        seen.append(len(lines(target)))
        return answer(request)

    job(make_task(FakeTransport(watched), cache=False), source, target).run(concurrency=1)
    assert len(seen) == 20
    assert seen[-1] >= 30 - 2 * 8


def test_a_changed_validator_judges_anew_what_is_paid(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    store = MemoryCache()
    do(make_task(cache=store), source, target)

    def strict() -> type[Signature]:
        class Route(Signature):
            """Say which team takes the message."""

            message: str = InputField(min_length=0)
            team: Literal["billing", "delivery"] = OutputField()
            score: int = OutputField(default=3)

            @model_validator(mode="after")
            def even(self) -> Self:
                if self.score % 2:
                    raise ValueError("the score is odd")
                return self

        return Route

    task = make_task(signature=strict(), cache=store)
    tally = do(task, source, target)
    assert calls(task) == 0
    odd = [len(text) % 2 == 1 for text in MESSAGES]
    assert tally.errors == {"invalid": sum(odd)}
    assert [row["error"] is not None for row in lines(target)] == odd


def test_dates_and_other_values_of_a_file_are_known_again(tmp_path: Path) -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    row = {
        "message": "invoice",
        "day": date(2026, 3, 1),
        "when": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "price": Decimal("1.20"),
        "none": None,
        "ratio": 0.1,
        "big": 2**60,
    }
    source = write(tmp_path / "in.parquet", [row])
    target = tmp_path / "out.jsonl"
    do(make_task(), source, target)
    task = make_task(cache=False)
    assert do(task, source, target).earlier == 1
    assert calls(task) == 0


@pytest.mark.parametrize("text", ["NA", "", "01234", "=1+1", "a\nb", 'say "x"; y', "é\u2028ü", "a\0b", "🙂"])
def test_odd_texts_go_through(tmp_path: Path, text: str) -> None:
    source = write(tmp_path / "in.jsonl", [{"message": text}])
    target = tmp_path / "out.jsonl"
    task = make_task()
    do(task, source, target)
    assert do(task, source, target).earlier == 1
    assert lines(target)[0]["message"] == text
    assert last_user_text(task.llm.transport.requests[0]) == text  # type: ignore[attr-defined]


def test_a_lone_surrogate_goes_through(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"message": "invoice \\ud800"}\n')
    target = tmp_path / "out.jsonl"
    task = make_task()
    do(task, source, target)
    assert do(task, source, target).earlier == 1
    assert lines(target)[0]["message"] == "invoice \ud800"


# ── mistakes ──


def test_a_file_that_is_something_else_stays_as_it_is(tmp_path: Path, source: Path) -> None:
    for name, content in (("out.jsonl", '{"id": 1}\n'), ("out.csv", "my;own\n"), ("out.xlsx", "")):
        target = tmp_path / name
        target.write_text(content)
        task = make_task()
        with pytest.raises(ConfigurationError, match="choose another name"):
            do(task, source, target)
        assert target.read_text() == content
        assert calls(task) == 0
        assert not target.with_name(f"{name}.journal").exists()


@pytest.mark.parametrize("name", ["in.csv", "./in.csv", "link.csv"])
def test_the_input_is_never_the_output(tmp_path: Path, source: Path, name: str) -> None:
    (tmp_path / "link.csv").symlink_to(source)
    before = source.read_bytes()
    with pytest.raises(ConfigurationError, match="is the input itself"):
        do(make_task(), source, tmp_path / name)
    assert source.read_bytes() == before


def test_the_journal_of_an_output_is_not_its_input(tmp_path: Path) -> None:
    source = tmp_path / "out.csv.journal"
    source.write_text("message\ninvoice\n")
    form = detect(source, kind="csv")
    with pytest.raises(ConfigurationError, match="is the input itself"):
        FileJob(task=make_task(), source=source, target=tmp_path / "out.csv", source_format=form).run()


def test_two_runs_of_one_job_at_once_are_refused(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "out.jsonl"
    asked, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> Any:
        asked.set()
        go_on.wait(20)
        return answer(request)

    first = threading.Thread(target=lambda: do(make_task(FakeTransport(slow)), source, target))
    first.start()
    assert asked.wait(20)
    with pytest.raises(ConfigurationError, match="another run is writing"):
        do(make_task(), source, target)
    go_on.set()
    first.join(30)
    assert len(lines(target)) == 30


def test_a_source_that_breaks_in_the_middle_keeps_what_is_done(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,message\n" + "".join(f"{number},parcel {number}\n" for number in range(2000)), "utf-8")

    class Breaks(FileJob):
        def _rows(self) -> Any:
            for number, row in enumerate(super()._rows()):
                if number == 500 and self.counts.rows == 2000:
                    raise OSError(5, "Input/output error")
                yield row

    target = tmp_path / "out.jsonl"
    task = make_task()
    with pytest.raises(ConfigurationError, match=r"after 500 rows.*Input/output error"):
        Breaks(task=task, source=source, target=target, source_format=detect(source)).run(concurrency=4)
    assert len(lines(target)) == 500
    assert do(task, source, target).earlier == 500
    assert calls(task) == 2000


def test_a_set_up_that_is_refused_can_be_mended_and_run_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", table([f"parcel {number}" for number in range(200)]))
    target = tmp_path / "out.jsonl"
    task = make_task(FakeTransport(AuthenticationError("no such key", status=401)))
    tally = do(task, source, target)
    assert tally.errors["not_run"] >= 180
    assert calls(task) <= 20
    assert len(lines(target)) == 200
    tally = do(make_task(), source, target)
    assert (tally.ok, tally.earlier) == (200, 0)


def test_progress_is_reported(tmp_path: Path, source: Path) -> None:
    told: list[int] = []
    job(make_task(), source, tmp_path / "out.jsonl").run(concurrency=4, progress=lambda now: told.append(now.rows))
    assert told[-1] == 30
