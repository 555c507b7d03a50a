"""Settings of one call, one run or one row: variables, labels, examples, LLM, tags, columns."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from llmtasker import LLM, CallSettings, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.cache import MemoryCache
from llmtasker.errors import InputError
from llmtasker.files import read_rows
from llmtasker.item import Item
from llmtasker.portal import portal
from llmtasker.runner.events import Event
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.testing import FakeTransport, last_user_text


class Triage(Signature):
    """Route the message of a {customer} customer: {classes}"""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField(labels={"billing": "money"})


EXAMPLES = [Triage(message="I was charged twice", team="billing"), Triage(message="It is late", team="delivery")]


def label_of(schema: Any) -> Any:
    return schema["const"] if "const" in schema else schema["enum"][0]


def first_label(request: Any) -> Any:
    """Answer with the first label that the schema offers, or with each of a group."""
    parameters = json.loads(request.content)["tools"][0]["function"]["parameters"]
    if "answers" in parameters["properties"]:
        team = next(iter(parameters["$defs"].values()))["properties"]["team"]
        ids = [part.split('"')[0] for part in last_user_text(request).split('<input id="')[1:]]
        texts = [part.split("\n")[1] for part in last_user_text(request).split("<input")[1:]]
        answers = [
            {"id": id_, "anchor": " ".join(text.split()[:6]), "team": label_of(team)}
            for id_, text in zip(ids, texts, strict=True)
        ]
        return {"answers": answers}
    return {"team": label_of(parameters["properties"]["team"])}


def task_of(transport: Any = None, **options: Any) -> Task[Triage]:
    fake = transport or FakeTransport(first_label)
    llm = LLM("m", transport=fake, cache=MemoryCache())
    return Task(Triage, llm=llm, **{"variables": {"customer": "usual"}, "examples": EXAMPLES, **options})


def fake_of(task: Task[Any]) -> FakeTransport:
    transport = task.llm.transport
    assert isinstance(transport, FakeTransport)
    return transport


def system_of(item_or_preview: Any) -> str:
    return str(item_or_preview.messages[0]["content"])


GOLD = CallSettings(variables={"customer": "gold"}, examples=EXAMPLES[:1], tags={"id": 17})


# ── one call ──


def test_settings_hold_for_one_call() -> None:
    task = task_of()
    item = task("Where is it?", settings=GOLD)
    assert item.tags == {"id": 17}
    assert system_of(item).startswith("Route the message of a gold customer")
    assert [message["role"] for message in item.messages].count("user") == 2
    after = task("Where is it?")
    assert (after.tags, after.cached) == ({}, False)
    assert system_of(after).startswith("Route the message of a usual customer")
    assert [message["role"] for message in after.messages].count("user") == 3
    assert task("Where is it?", settings=GOLD).cached, "the key is what is sent"


def test_settings_hold_wherever_one_input_goes() -> None:
    task = task_of()
    shown = task.preview("Where is it?", settings=GOLD)
    sync = task("Where is it?", settings=GOLD)
    again = portal().call(task.acall("Where is it?", settings=GOLD))
    assert shown.request.key == sync.request.key == again.request.key  # type: ignore[union-attr]
    assert (sync.cached, again.cached) == (False, True)
    assert again.tags == sync.tags


def test_another_llm_for_one_call() -> None:
    other = FakeTransport({"team": "delivery"}, endpoint="other")
    settings = CallSettings(llm=LLM("n", transport=other, cache=MemoryCache()))
    task = task_of()
    assert task("Where?", settings=settings).output.team == "delivery"  # type: ignore[union-attr]
    assert (fake_of(task).calls, other.calls) == (0, 1)
    assert task("Where?", settings=settings).cached
    assert portal().call(task.acall("Where?", settings=settings)).cached
    assert [item.cached for item in task.run(["Where?"], settings=settings)] == [True]
    assert task.estimate(["Where?"], settings=settings).cached == 1
    assert task.preview("Where?", settings=settings).settings["model"] == "n"


def test_other_labels_for_one_call() -> None:
    task = task_of()
    item = task("Where?", settings=CallSettings(variables={"classes": {"sales": "buys", "billing": ""}}))
    assert item.output.team == "sales"  # type: ignore[union-attr]
    assert isinstance(item.output, Triage)
    assert "- sales: buys\n- billing" in system_of(item)
    assert [message["content"] for message in item.messages if message["role"] == "user"] == [
        "I was charged twice",
        "Where?",
    ], "an example with another label is left out"
    strange = task_of(FakeTransport({"team": "delivery"}), attempts=1)
    assert strange("Where?", settings=CallSettings(variables={"team": ["sales"]})).output is None


@pytest.mark.parametrize("given", ["a text", {"variables": {}}, 3])
def test_settings_are_call_settings(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="settings is a CallSettings"):
        task_of()("Where?", settings=given)


def test_an_input_field_may_be_called_settings() -> None:
    class Configure(Signature):
        """Judge the settings of {who}."""

        settings: str = InputField()
        fresh: str = InputField(default="")
        team: Literal["a"] = OutputField()

    task = Task(Configure, llm=LLM(transport=FakeTransport({"team": "a"}), cache=False), variables={"who": "me"})
    given = {"settings": "dark mode", "fresh": "yes"}
    item = task(given, settings=CallSettings(variables={"who": "you"}))
    assert (item.ok, system_of(item)) == (True, "Judge the settings of you.")
    assert item.messages[-1]["content"] == "<settings>\ndark mode\n</settings>\n<fresh>\nyes\n</fresh>"
    wrong: Any = {"settings": "dark mode"}
    with pytest.raises(ConfigurationError, match="Pass an input field called 'settings' in a mapping"):
        task(**wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variables": {"custmer": "a"}}, "no variable 'custmer'. Did you mean 'customer'"),
        ({"variables": {"customer": object()}}, "'customer' can't be shown"),
        ({"variables": {"classes": []}}, "the list of labels is empty"),
        ({"examples": [Triage(message="a", team="billing"), {"message": "b"}]}, "example 2 does not fit"),
    ],
)
def test_settings_that_do_not_fit_the_task(arguments: Any, words: str) -> None:
    settings = CallSettings(**arguments)
    for call in (task_of(), task_of().preview, lambda text, settings: task_of().run([text], settings=settings)):
        with pytest.raises(ConfigurationError, match=words):
            call("Where?", settings=settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variables": ["a"]}, "variables is a mapping"),
        ({"tags": "a"}, "tags is a mapping"),
        ({"examples": "a"}, "examples is a list"),
        ({"examples": 3}, "examples is a list"),
        ({"llm": 3}, "is not an LLM"),
    ],
)
def test_settings_that_are_wrong_are_refused_when_they_are_made(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CallSettings(**arguments)


def test_examples_have_the_form_that_the_task_takes() -> None:
    llm = LLM(transport=FakeTransport({"label": "chat"}), cache=False)
    task = Classification(llm=llm, labels=["chat", "chien"], examples={"il aboie": "chien"})
    shown = task.preview("x", settings=CallSettings(examples={"il ronronne": "chat"}))
    assert [message["content"] for message in shown.messages if message["role"] == "user"] == ["il ronronne", "x"]
    short = Instruction(llm=LLM(transport=FakeTransport("ok"), cache=False), instructions="Shorten.")
    shown = short.preview("x", settings=CallSettings(examples=[("long text", "short")]))
    assert [message["content"] for message in shown.messages[1:]] == ["long text", "short", "x"]


# ── one run ──


async def every(items: Any) -> list[Item[Any]]:
    return [item async for item in items]


@pytest.mark.parametrize("how", ["run", "arun", "stream", "astream"])
def test_settings_hold_for_a_whole_run(how: str) -> None:
    task = task_of()
    inputs: list[Any] = ["Where is it?", None, "How much?"]
    options: dict[str, Any] = {"settings": GOLD}
    items: list[Item[Any]]
    if how == "run":
        items = list(task.run(inputs, **options))
    elif how == "arun":
        items = list(portal().call(task.arun(inputs, **options)))
    elif how == "stream":
        items = list(task.stream(inputs, ordered=True, **options))
    else:
        items = portal().call(every(task.astream(inputs, ordered=True, **options)))
    assert [item.ok for item in items] == [True, False, True]
    assert [item.tags for item in items] == [{"id": 17}] * 3
    assert all("gold" in system_of(item) for item in items if item.ok)
    assert task.estimate(inputs, settings=GOLD).cached == 2
    assert task.estimate(inputs).cached == 0


def test_tags_are_in_what_is_exported_and_in_events() -> None:
    seen: list[Event] = []
    task = task_of(observers=[seen.append])
    (item,) = task.run(["Where?"], settings=CallSettings(tags={"job": "june"}))
    assert json.loads(item.to_json())["tags"] == {"job": "june"}
    assert Item.from_json(item.to_json(), Triage).tags == {"job": "june"}
    assert "tags" not in json.loads(task("Where?").to_json())
    task("Where else?", settings=CallSettings(tags={"job": "july"}))
    task._observers.flush()
    assert {event.tags.get("job") for event in seen[:3]} == {"june"}
    assert seen[-1].tags == {"job": "july"}
    assert seen[-1].item is not None
    assert seen[-1].item.tags == {"job": "july"}


# ── one row ──

ROWS = [
    {"texte": "Where is my parcel now?", "segment": "gold", "teams": ["sales", "billing"]},
    {"texte": "How much is it then?", "segment": "new", "teams": ["delivery"]},
    {"texte": "When does it arrive here?", "segment": "gold", "teams": ["sales", "billing"]},
    {"texte": "Who takes care of me?", "segment": None, "teams": None},
]
COLUMNS: dict[str, Any] = {"columns": {"message": "texte"}, "row_variables": {"customer": "segment"}}


def polars(data: Any) -> Any:
    return import_module("polars").DataFrame(data)


needs_polars = pytest.mark.needs("polars")
FRAMES = [
    lambda: ROWS,
    lambda: iter(ROWS),
    lambda: pd.DataFrame(ROWS),
    pytest.param(lambda: polars(ROWS), marks=needs_polars),
]


@pytest.mark.parametrize("inputs", FRAMES)
@pytest.mark.parametrize("group_size", [1, 2])
def test_a_row_has_its_own_variables(inputs: Any, group_size: int) -> None:
    task = task_of(group_size=group_size)
    results = task.run(inputs(), **COLUMNS, concurrency=1)
    assert [item.output.team for item in results] == ["billing"] * 4  # type: ignore[union-attr]
    assert [system_of(item).split()[5] for item in results] == ["gold", "new", "gold", "usual"]
    assert results[0].input["segment"] == "gold"
    assert task.estimate(ROWS, **COLUMNS).cached == 4
    assert [item.cached for item in task.stream(ROWS, **COLUMNS)] == [True] * 4
    assert task.estimate([row["texte"] for row in ROWS]).cached == 1, "with the task's own value"


@pytest.mark.parametrize("group_size", [1, 4])
def test_a_row_has_its_own_labels(group_size: int) -> None:
    task = task_of(group_size=group_size)
    results = task.run(ROWS, columns={"message": "texte"}, row_variables={"classes": "teams"})
    teams = [item.output.team for item in results]  # type: ignore[union-attr]
    assert teams == ["sales", "delivery", "sales", "billing"]
    assert all(isinstance(item.output, Triage) for item in results)
    assert ["- sales\n- billing" in system_of(item) for item in results] == [True, False, True, False]
    named = task.run(ROWS, columns={"message": "texte"}, row_variables={"team": "teams"})
    assert [item.cached for item in named] == [True] * 4


def test_rows_that_differ_share_no_message() -> None:
    task = task_of(group_size=4)
    task.run(ROWS, **COLUMNS, concurrency=1)
    grouped = [request for request in fake_of(task).requests if '<input id="' in last_user_text(request)]
    assert len(grouped) == 1, "the two gold rows"
    assert "gold" in grouped[0].messages[0]["content"]
    assert fake_of(task).calls == 3
    assert task.group_report is not None


def test_a_group_of_rows_with_other_words_is_reported() -> None:
    task = task_of(group_size=4)
    results = task.run([row["texte"] for row in ROWS], settings=GOLD)
    assert [item.ok for item in results] == [True] * 4
    assert fake_of(task).calls == 1
    assert task.group_report is not None
    assert task.group_report.calls == 1


def test_each_distinct_set_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of()
    rows = [{"message": f"number {number}", "teams": [f"team {number % 3}", "other"]} for number in range(30)]
    heads = {id(item.request.head) for item in task.run(rows, row_variables={"team": "teams"}) if item.request}
    assert len(heads) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"texte": "a"}, "no column 'segment' for the variable 'customer'; it has texte"),
        ({"segment": "a"}, "no column 'texte' for the input 'message'; it has segment"),
        ("a text", "the input is a str, not a row with columns"),
        ({"texte": "a", "segment": object()}, "'customer' can't be shown"),
        ({"texte": " ", "segment": "a"}, "the text is empty"),
    ],
)
def test_a_row_that_does_not_fit(row: Any, words: str) -> None:
    results = task_of().run([ROWS[0], row], **COLUMNS)
    assert [item.ok for item in results] == [True, False]
    assert isinstance(results[1].error, InputError)
    assert words in str(results[1].error)


@pytest.mark.parametrize("labels", [[], "billing", 3, [None], [""]])
def test_labels_of_a_row_that_are_invalid(labels: Any) -> None:
    rows = [{"message": "a", "teams": ["x"]}, {"message": "b", "teams": labels}]
    first, second = task_of().run(rows, row_variables={"team": "teams"})
    assert first.ok
    assert isinstance(second.error, InputError)
    assert "label" in str(second.error)


def test_labels_of_a_row_may_be_json_in_a_cell() -> None:
    (item,) = task_of().run([{"message": "a", "teams": '["x", "y"]'}], row_variables={"team": "teams"})
    assert item.output.team == "x"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"mesage": "texte"}}, "no input field 'mesage'"),
        ({"columns": ["texte"]}, "columns is a mapping from an input field"),
        ({"columns": {"message": 3}}, "columns is a mapping"),
        ({"row_variables": "segment"}, "row_variables is a mapping from a variable"),
        ({"row_variables": {"costumer": "segment"}}, "no variable 'costumer'. Did you mean 'customer'"),
        ({"row_variables": {"message": "segment"}}, "no variable 'message'"),
    ],
)
def test_names_that_do_not_exist(options: Any, words: str) -> None:
    for call in (task_of().run, task_of().estimate, task_of().submit):
        with pytest.raises(ConfigurationError, match=words):
            call(ROWS, **options)


# ── a column that all rows lack ──

LACKING = [
    lambda: [{"id": 1, "texte": "a"}, {"id": 2, "texte": "b", "more": 1}],
    lambda: iter([{"id": 1, "texte": "a"}, {"id": 2, "texte": "b", "more": 1}]),
    lambda: pd.DataFrame({"id": [1], "texte": ["a"], "more": [1]}),
    pytest.param(lambda: polars({"id": [1], "texte": ["a"], "more": [1]}).lazy(), marks=needs_polars),
]


@pytest.mark.parametrize("inputs", LACKING)
def test_a_run_whose_rows_all_lack_a_column_is_refused_at_once(inputs: Any) -> None:
    task = task_of()
    with pytest.raises(ConfigurationError, match=r"no row has a column for the input 'message'; .*: id, more, texte"):
        task.run(inputs())
    with pytest.raises(ConfigurationError, match="for the input 'message'"):
        task.run(inputs(), columns={"message": "text"})
    with pytest.raises(ConfigurationError, match="for the variable 'customer'"):
        task.run(inputs(), columns={"message": "texte"}, row_variables={"customer": "segment"})
    assert fake_of(task).calls == 0
    assert task.run(inputs(), columns={"message": "texte"}).counts["ok"] >= 1


@pytest.mark.parametrize("inputs", [LACKING[0], LACKING[2]])
def test_so_are_other_calls_over_rows(inputs: Any) -> None:
    for call in (task_of().estimate, task_of().submit, lambda rows: list(task_of().stream(rows))):
        with pytest.raises(ConfigurationError, match=r"no row has a column for the input 'message'|no batch API"):
            call(inputs())


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [{}],
        [{"id": 1}, {"id": 2, "message": "a"}],
        ["a", {"id": 1}],
        [{"message": None}],
    ],
)
def test_where_one_row_has_it_the_others_are_errors_of_their_own(inputs: Any) -> None:
    results = task_of().run(inputs)
    assert len(results) == len(inputs)


# ── rows of a file that could not be read completely ──

CELLS = "id,texte\n1,a,more\n2,b\n3\n4,c\n"
BROKEN = ["line 2 has 3 cells", None, "line 4 has 1 cell", None]


def reasons(items: Sequence[Item[Any]]) -> list[str | None]:
    assert not any(item.attempts for item in items if item.error)
    return [None if item.error is None else f"{item.error.code}: {item.error}".partition(",")[0] for item in items]


async def collected(task: Task[Any], rows: Any, **options: Any) -> list[Item[Any]]:
    return [item async for item in task.astream(rows, ordered=True, **options)]


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("given", [list, iter], ids=["a list", "read once"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda task, rows, **options: task.run(rows, **options),
        lambda task, rows, **options: list(task.stream(rows, ordered=True, **options)),
        lambda task, rows, **options: portal().call(task.arun(rows, **options)),
        lambda task, rows, **options: portal().call(collected(task, rows, **options)),
    ],
    ids=["run", "stream", "arun", "astream"],
)
def test_a_broken_row_is_an_error_with_its_reason(tmp_path: Path, ask: Any, given: Any, group: int) -> None:
    (tmp_path / "in.csv").write_text(CELLS, "utf-8")
    task = task_of(group_size=group)
    items = ask(task, given(read_rows(tmp_path / "in.csv")), columns={"message": "texte"})
    assert reasons(items) == [None if reason is None else f"input: {reason}" for reason in BROKEN]
    assert [item.input["id"] for item in items] == ["1", "2", "3", "4"]
    assert pickle.loads(pickle.dumps(list(items))) == list(items)
    if group == 1:
        assert fake_of(task).calls == 2


def test_broken_rows_are_unfit_for_an_estimate_and_for_one_call(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CELLS.replace("texte", "message"), "utf-8")
    rows = list(read_rows(tmp_path / "in.csv"))
    found = task_of().estimate(rows)
    assert (found.rows, found.unfit, found.distinct) == (4, 2, 2)
    assert reasons(list(map(task_of(), rows))) == [None if reason is None else f"input: {reason}" for reason in BROKEN]


@pytest.mark.parametrize("first", [0, 1])
def test_broken_rows_do_not_hide_a_column_that_all_lack(tmp_path: Path, first: int) -> None:
    (tmp_path / "in.csv").write_text(CELLS, "utf-8")
    rows = list(read_rows(tmp_path / "in.csv"))[first:]
    for call in (task_of().run, task_of().estimate, lambda rows, **options: task_of().run(iter(rows), **options)):
        with pytest.raises(
            ConfigurationError, match=r"no row has a column 'nope' for the input 'message'; the columns are: id, texte"
        ):
            call(rows, columns={"message": "nope"})


def test_where_all_rows_are_broken_each_says_why(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,texte\n1,a,b\n2,b,c\n", "utf-8")
    items = task_of().run(read_rows(tmp_path / "in.csv", delimiter=","))
    assert reasons(items) == [f"input: line {n} has 3 cells" for n in (2, 3)]


def test_a_field_that_is_a_mapping_is_not_missed() -> None:
    class Read(Signature):
        """Read the row."""

        row: dict[str, Any] = InputField()
        team: Literal["a"] = OutputField()

    task = Task(Read, llm=LLM(transport=FakeTransport({"team": "a"}), cache=False))
    assert [item.ok for item in task.run([{"id": 1}, {"id": 2}])] == [True, True]


def test_a_table_of_one_column_keeps_its_name_where_columns_are_named() -> None:
    frame = pd.DataFrame({"texte": ["a", "b"]})
    results = task_of().run(frame, columns={"message": "texte"})
    assert [item.input for item in results] == [{"texte": "a"}, {"texte": "b"}]
    assert [item.input for item in task_of().run(frame)] == ["a", "b"]
