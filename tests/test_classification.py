"""Classification: every way to say the labels and the examples, over every kind of LLM."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy as np
import openai
import pandas as pd
import pytest

from llmtasker import LLM, ConfigurationError, Task
from llmtasker.cache import MemoryCache
from llmtasker.errors import InputError, InvalidOutputError
from llmtasker.portal import portal
from llmtasker.tasks.classification import Classification, pairs
from llmtasker.tasks.prompts import prompt_text
from llmtasker.testing import FakeTransport, FaultyServer, last_user_text
from llmtasker.wire.request import Request

EXAMPLES = {"un regard perçant": "chat", "leurs queues remuent": "chien"}


def saying(*labels: Any, field: str = "label") -> LLM:
    return LLM(transport=FakeTransport([{field: label} for label in labels]), cache=False)


def transport_of(task: Task[Any]) -> FakeTransport:
    transport = task.llm.transport
    assert isinstance(transport, FakeTransport)
    return transport


def by_words(request: Any) -> Any:
    text = last_user_text(request)
    if "ronron" in text:
        return {"label": "chat"}
    return {"label": "chien" if "aboie" in text else "autre"}


# ── the call of the design, word for word ──


def the_call(llm: Any, inputs: list[str]) -> list[str]:
    """Run the call as it is in users' notebooks; return its output."""
    printed: list[str] = []
    print = printed.append  # noqa: A001 - so that the code below is the users' own

    task = Classification(
        llm=llm,
        instructions="Classe la phrase parmi : {classes}. Exemples : {examples}",
        examples={"un regard perçant": "chat", "leurs queues remuent": "chien"},
        labels=Classification.build_labels_from_list(["chat", "chien", "autre"]),
    )
    for item in task.run(inputs=inputs):
        if item.error:
            print(str(item.error))
        if item.output:
            print(item.output)
        else:
            print(item.raw)
    return printed


INPUTS = ["il ronronne", "il aboie", "il vole"]


def test_the_call_with_a_transport() -> None:
    assert the_call(LLM(transport=FakeTransport(by_words), cache=False), INPUTS) == ["chat", "chien", "autre"]


def test_the_call_with_the_baseline() -> None:
    first, *_ = the_call("offline", ["un regard perçant"])
    assert first == "chat"


@pytest.fixture
def http() -> Iterator[dict[str, Any]]:
    """Clients to close at the end of the test: those that the vendors create themselves would stay open."""
    clients = {"http_client": openai.DefaultHttpxClient(), "http_async_client": openai.DefaultAsyncHttpxClient()}
    yield clients
    clients["http_client"].close()
    portal().call(clients["http_async_client"].aclose())


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_the_call_with_an_openai_client(kind: Any, http: dict[str, Any]) -> None:
    own = http["http_client" if kind is openai.OpenAI else "http_async_client"]
    with FaultyServer(by_words) as server:
        client = kind(base_url=server.base_url, api_key="none", http_client=own)
        assert the_call(client, INPUTS) == ["chat", "chien", "autre"]
        assert server.counters.requests == 3
        system = server.bodies[0]["messages"][0]["content"]
        assert "- chat\n- chien\n- autre" in system
        assert "un regard perçant" in system
        assert server.bodies[0]["tool_choice"]
        assert the_call(client, INPUTS) == ["chat", "chien", "autre"]
        assert server.counters.requests == 3, "the second time from the cache"


def test_the_call_with_a_langchain_model(http: dict[str, Any]) -> None:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    with FaultyServer(by_words) as server:
        model = ChatOpenAI(model="m", base_url=server.base_url, api_key=SecretStr("none"), **http)
        assert the_call(model, INPUTS) == ["chat", "chien", "autre"]
        assert server.counters.requests == 3
        assert "- chat\n- chien\n- autre" in json.dumps(server.bodies[0], ensure_ascii=False).replace("\\n", "\n")


def test_the_call_with_azure_through_langchain(http: dict[str, Any]) -> None:
    from langchain_openai import AzureChatOpenAI
    from pydantic import SecretStr

    with FaultyServer(by_words) as server:
        model = AzureChatOpenAI(
            azure_deployment="small",
            azure_endpoint=server.base_url.removesuffix("/v1"),
            api_version="2024-10-21",
            api_key=SecretStr("none"),
            **http,
        )
        assert the_call(model, INPUTS) == ["chat", "chien", "autre"]
        assert server.errors == []


def test_the_call_when_answers_are_not_usable() -> None:
    def answer(request: Request) -> Any:
        return {"label": "baleine"} if "nage" in last_user_text(request) else by_words(request)

    printed = the_call(LLM(transport=FakeTransport(answer), cache=False), ["il nage", "il aboie"])
    error, raw, last = printed
    assert "baleine" in error
    assert json.loads(raw) == {"label": "baleine"}
    assert last == "chien"


# ── labels ──


class Animal(Enum):
    CAT = "chat"
    DOG = "chien"


class Shout(StrEnum):
    CAT = "CHAT"
    DOG = "CHIEN"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("labels", "answer", "output", "known"),
    [
        (["chat", "chien"], "chien", "chien", ["chat", "chien"]),
        (("chat", "chien"), "chat", "chat", ["chat", "chien"]),
        ({"chat": "un félin", "chien": ""}, "chat", "chat", ["chat", "chien"]),
        (Animal, "chien", Animal.DOG, ["chat", "chien"]),
        (Shout, "chat", Shout.CAT, ["CHAT", "CHIEN"]),
        (Level, 2, Level.HIGH, ["1", "2"]),
        (Classification.build_labels_from_list(["chat", "chien"]), "chat", "chat", ["chat", "chien"]),
        (
            Classification.build_labels_from_dict({"chat": "un félin", "chien": "aboie"}),
            "chat",
            "chat",
            ["chat", "chien"],
        ),
        (Classification.build_labels_from_enum(Animal), "chat", "chat", ["chat", "chien"]),
        ([0, 1], 1, 1, [0, 1]),
        ([True, False], False, False, [True, False]),
        ([0.5, 1.0], 0.5, 0.5, [0.5, 1.0]),
        (np.array([0, 1]), 1, np.int64(1), [np.int64(0), np.int64(1)]),
        (np.array(["a", "b"]), "b", np.str_("b"), [np.str_("a"), np.str_("b")]),
        (np.array([True, False]), True, np.True_, [np.True_, np.False_]),
        (pd.Series([3, 4]).unique(), "4", np.int64(4), [np.int64(3), np.int64(4)]),
        ({0: "bad", 1: "good"}, 0, 0, [0, 1]),
        ([Animal.CAT, Animal.DOG], "chien", Animal.DOG, [Animal.CAT, Animal.DOG]),
        ([Level.LOW, Level.HIGH], 2, Level.HIGH, [Level.LOW, Level.HIGH]),
        (Classification.build_labels_from_list([0, 1]), 1, 1, [0, 1]),
        (["NA", "null", "true", "1"], "null", "null", ["NA", "null", "true", "1"]),
        (["only"], "only", "only", ["only"]),
    ],
)
def test_labels_are_given_in_several_ways(labels: Any, answer: Any, output: Any, known: list[str]) -> None:
    task = Classification(llm=saying(answer), labels=labels)
    item = task("un texte")
    assert (item.output, item.error) == (output, None)
    assert type(item.output) is type(output)
    assert task.labels == known


def test_numbers_are_labels_everywhere() -> None:
    zero, one = np.array([0, 1])
    labels = {zero: "a complaint", one: "praise"}
    task = Classification(llm=saying(1), labels=labels, examples={"merci": one, "honte": zero})
    shown = task.preview("x")
    assert "- 0: a complaint\n- 1: praise" in str(shown)
    answers = [message["content"] for message in shown.messages if message["role"] == "assistant"]
    assert answers == ['{"label":1}', '{"label":0}']
    assert shown.schema["tools"][0]["function"]["parameters"]["properties"]["label"]["enum"] == [0, 1]
    several = Classification(llm=saying([1, 0], field="labels"), labels=labels, multi_label=True)
    assert [type(label) for label in several("x").output] == [np.int64, np.int64]
    nothing = Classification(llm=saying(None), labels=labels, allow_none=True)("x")
    assert (nothing.ok, nothing.output) == (True, None)


# ── a set without a list ──


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_an_open_set_without_a_list_offers_what_was_found(language: Any, multi_label: bool) -> None:
    field = "labels" if multi_label else "label"
    answers: list[Any] = ["delivery", "price", "Delivery"]
    llm = saying(*([answer] if multi_label else answer for answer in answers), field=field)
    task = Classification(llm=llm, open_set=True, multi_label=multi_label, language=language)
    assert task.labels == []
    assert prompt_text(f"classification.{'multi' if multi_label else 'single'}.new", language) in str(task.preview("x"))
    assert task("a").output in ("delivery", ["delivery"])
    assert task.labels == ["delivery"]
    assert "- delivery" in str(task.preview("x"))
    task("b")
    assert "- delivery\n- price" in str(task.preview("x"))
    assert task("c").output in ("delivery", ["delivery"]), "a label that was found is known but for its case"
    assert task.labels == ["delivery", "price"]


def test_a_run_offers_what_was_found_before_it() -> None:
    llm = saying(*(f"label {number}" for number in range(200)))
    task = Classification(llm=llm, open_set=True)
    first = task.run([f"text {number}" for number in range(5)])
    assert len({item.request.head for item in first if item.request}) == 1
    assert len(task.labels) == 5
    second = task.run([f"more {number}" for number in range(150)])
    assert {item.messages[0]["content"].count("- label") for item in second} == {5}
    assert str(task.preview("x")).count("- label") == 100, "no more than a hundred"


def test_an_open_set_without_a_list_in_own_words() -> None:
    task = Classification(
        llm=saying("price"), open_set=True, instructions="Found: {classes} {{classes}}", allow_none=True
    )
    assert task.preview("x").messages[0]["content"] == "Found: (none so far) {classes}"
    task("a")
    assert task.preview("x").messages[0]["content"] == "Found: - price {classes}"


def test_an_open_set_with_a_list_stays_as_it_is() -> None:
    task = Classification(llm=saying("tortue"), labels=["chat"], open_set=True)
    before = task.preview("x").body
    assert task("x").output == "tortue"
    assert (task.preview("x").body, task.labels) == (before, ["chat"])


def test_labels_of_one_row() -> None:
    rows = [{"text": "a", "set": ["x", "y"]}, {"text": "b", "set": None}]
    task = Classification(llm=saying("x", "chat"), labels=["chat", "chien"])
    first, second = task.run(rows, row_variables={"classes": "set"}, concurrency=1)
    assert (first.output, second.output) == ("x", "chat")
    wide = Classification(llm=saying("X", "NEW"), labels=["chat"], open_set=True)
    first, second = wide.run(rows[:1] * 2, row_variables={"label": "set"}, concurrency=1, fresh=True)
    assert (first.output, second.output) == ("x", "NEW")


def test_the_meanings_of_labels_are_sent() -> None:
    labels = {"chat": "un félin qui miaule", "chien": "aboie"}
    shown = str(Classification(llm=saying(), labels=labels).preview("x"))
    assert "- chat: un félin qui miaule\n- chien: aboie" in shown
    without = Classification(llm=saying(), labels=labels, instructions="Choose a label.")
    assert "un félin qui miaule" in json.dumps(without.preview("x").schema, ensure_ascii=False)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "there are no labels"),
        ({}, "there are no labels"),
        (Enum("Empty", {}), "there are no labels"),
        ("chat", "give a list of labels"),
        (["chat", "chat"], "'chat' appears twice"),
        (["chat", ""], "not ''"),
        (["chat", "  "], "not '  '"),
        (["chat", 3], "not 3"),
        (["chat", None], "not None"),
        ([3, "chat"], "not 'chat'"),
        ([1, True], "True appears twice"),
        ([0, 0], "0 appears twice"),
        ([float("nan")], "not nan"),
        ([["chat"]], "chat"),
        ([b"chat"], "chat"),
    ],
)
def test_labels_that_are_invalid(labels: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Classification(llm=saying(), labels=labels)


@pytest.mark.parametrize("answer", ["Chat", " chat ", '"chat"', "CHAT.", "chât"])
def test_a_label_in_other_letters_is_that_label(answer: str) -> None:
    item = Classification(llm=saying(answer), labels=["chat", "chien"])("x")
    assert item.output == "chat"
    assert item.repaired


@pytest.mark.parametrize("answer", ["chaton", "chat ou chien", "", "ni l'un ni l'autre", None, ["chat"] * 2, 7])
def test_what_is_not_a_label_is_an_error(answer: Any) -> None:
    task = Classification(llm=saying(answer, answer), labels=["chat", "chien"], attempts=2)
    item = task("x")
    assert item.output is None
    assert isinstance(item.error, InvalidOutputError)
    assert (item.attempts, transport_of(task).calls) == (2, 2)


# ── examples ──

RECORDS = [{"text": "un regard perçant", "label": "chat"}, {"text": "leurs queues remuent", "label": "chien"}]


@pytest.mark.parametrize(
    "examples",
    [
        EXAMPLES,
        list(EXAMPLES.items()),
        tuple(EXAMPLES.items()),
        [list(pair) for pair in EXAMPLES.items()],
        RECORDS,
        iter(RECORDS),
    ],
    ids=["mapping", "pairs", "tuple of pairs", "lists", "records", "iterator"],
)
def test_examples_are_given_in_several_ways(examples: Any) -> None:
    task = Classification(llm=saying(), labels=["chat", "chien"], examples=examples)
    expected = Classification(llm=saying(), labels=["chat", "chien"], examples=EXAMPLES)
    assert task.preview("x").body == expected.preview("x").body
    shown = [message["role"] for message in task.preview("x").messages]
    assert shown.count("user") == 3, "turns, each as a real input and a real answer"


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({"x": "baleine"}, "example 1"),
        ([("x", "chat"), ("y", "Chatte")], "example 2"),
        (["chat"], "example 1 is no"),
        ([("x",)], "example 1 is no"),
        ([{"text": "x", "labels": "chat"}], "example 1 is no"),
        ([7], "example 1 is no"),
    ],
)
def test_examples_that_do_not_fit(examples: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Classification(llm=saying(), labels=["chat", "chien"], examples=examples)


def test_examples_of_several_labels_and_of_none() -> None:
    examples = [("x", ["chat", "chien"]), ("y", [])]
    task = Classification(llm=saying(), labels=["chat", "chien"], examples=examples, multi_label=True, allow_none=True)
    assert '"labels":["chat","chien"]' in json.dumps(task.preview("z").messages).replace("\\", "").replace(": ", ":")
    nothing = Classification(llm=saying(), labels=["chat"], examples={"y": None}, allow_none=True)
    assert "null" in json.dumps(nothing.preview("z").messages)


def test_pairs() -> None:
    assert pairs(EXAMPLES, "label") == list(EXAMPLES.items())
    assert pairs([{"text": "x", "labels": ["a"], "more": 1}], "labels") == [("x", ["a"])]
    assert pairs((), "label") == []


# ── several labels, new labels, none ──


def test_several_labels() -> None:
    llm = saying(["chien", "chat", "chien"], ["Chat"], [], ["chat", "baleine"], "chat", field="labels")
    task = Classification(llm=llm, labels=["chat", "chien"], multi_label=True, attempts=1)
    first, second, empty, unknown, bare = task.run(["a", "b", "c", "d", "e"], concurrency=1)
    assert first.output == ["chien", "chat"]
    assert second.output == ["chat"]
    assert isinstance(empty.error, InvalidOutputError)
    assert isinstance(unknown.error, InvalidOutputError)
    assert bare.output in (["chat"], None)
    schema = json.dumps(task.preview("x").schema)
    assert '"array"' in schema
    assert "baleine" not in schema


def test_several_labels_of_an_enum() -> None:
    task = Classification(llm=saying(["chat"], field="labels"), labels=Animal, multi_label=True)
    assert task("x").output == [Animal.CAT]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("chat", "chat"),
        ("CHAT", "chat"),
        (" Chien ", "chien"),
        ("tortue", "tortue"),
        ("  Tortue de mer ", "Tortue de mer"),
        ("été", "Ete"),
    ],
)
def test_an_open_set_takes_new_labels_and_knows_its_own(answer: str, output: str) -> None:
    task = Classification(llm=saying(answer), labels=["chat", "chien", "Ete"], open_set=True)
    assert task("x").output == output
    shown = str(task.preview("x"))
    assert prompt_text("classification.open", "en") in shown
    assert "- chat\n- chien" in shown


def test_an_open_set_of_several_labels() -> None:
    llm = saying(["Chat", "tortue", "chat"], field="labels")
    task = Classification(llm=llm, labels=["chat", "chien"], open_set=True, multi_label=True)
    assert task("x").output == ["chat", "tortue"]


@pytest.mark.parametrize("answer", ["", "   ", None, 7])
def test_a_new_label_is_a_text(answer: Any) -> None:
    task = Classification(llm=saying(answer), labels=["chat"], open_set=True, attempts=1)
    assert isinstance(task("x").error, InvalidOutputError)


def test_an_enum_is_a_closed_set() -> None:
    with pytest.raises(ConfigurationError, match="closed set"):
        Classification(llm=saying(), labels=Animal, open_set=True)


@pytest.mark.parametrize(
    ("settings", "answer", "output"),
    [
        ({}, {"label": None}, None),
        ({}, {"label": "chat"}, "chat"),
        ({"open_set": True}, {"label": None}, None),
        ({"multi_label": True}, {"labels": []}, []),
        ({"multi_label": True}, {"labels": ["chat"]}, ["chat"]),
    ],
)
def test_a_text_may_have_no_label(settings: Any, answer: Any, output: Any) -> None:
    llm = LLM(transport=FakeTransport([answer]), cache=False)
    item = Classification(llm=llm, labels=["chat", "chien"], allow_none=True, **settings)("x")
    assert item.error is None
    assert item.output == output
    assert item.ok


def test_none_is_not_taken_for_a_missing_answer() -> None:
    llm = LLM(transport=FakeTransport({}), cache=False)
    item = Classification(llm=llm, labels=["chat"], allow_none=True, attempts=1)("x")
    assert isinstance(item.error, InvalidOutputError)


# ── instructions ──


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, ["single"]),
        ({"multi_label": True}, ["multi"]),
        ({"open_set": True}, ["single", "open"]),
        ({"allow_none": True}, ["single", "none"]),
        ({"multi_label": True, "open_set": True, "allow_none": True}, ["multi", "open", "none"]),
    ],
)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_generic_instructions(settings: Any, parts: list[str], language: Any) -> None:
    task = Classification(llm=saying(), labels=["chat", "chien"], language=language, **settings)
    system = task.preview("x").messages[0]["content"]
    for part in parts:
        assert prompt_text(f"classification.{part}", language).replace("{classes}", "- chat\n- chien") in system
    assert ("classe" in system) is (language == "fr") or "class" in system


def test_there_are_no_instructions_in_other_languages() -> None:
    language: Any = "de"
    with pytest.raises(ConfigurationError, match="'de'"):
        Classification(llm=saying(), labels=["chat"], language=language)


def test_own_instructions_with_variables_and_roles() -> None:
    task = Classification(
        llm=saying("chat"),
        labels=["chat", "chien"],
        instructions='Pour {client}, classe {text} parmi {classes}. {examples} Réponds {"label": …}',
        examples=EXAMPLES,
        variables={"client": "ACME"},
        input_role="user",
    )
    shown = str(task.preview("{classes} et <example>"))
    assert "Pour ACME, classe {classes} et <example> parmi - chat\n- chien." in shown
    assert '{"label": …}' in shown
    with pytest.raises(ConfigurationError, match=r"labels|classes"):
        Classification(llm=saying(), labels=["chat"], instructions="Choose among {labels}.")


def test_reasoning_and_modes() -> None:
    llm = LLM(transport=FakeTransport('{"reasoning": "il ronronne", "label": "chat"}'), cache=False)
    task = Classification(llm=llm, labels=["chat"], reasoning=True, mode="json")
    item = task("x")
    assert (item.output, item.reasoning) == ("chat", "il ronronne")
    assert task.preview("x").body["response_format"] == {"type": "json_object"}


# ── as a task ──


def test_it_is_a_task_like_others() -> None:
    task = Classification(
        llm=LLM(transport=FakeTransport(by_words), cache=MemoryCache()), labels=["chat", "chien", "autre"]
    )
    assert isinstance(task, Task)
    assert task("il aboie").output == task(text="il aboie").output == task({"text": "il aboie"}).output == "chien"
    assert transport_of(task).calls == 1
    assert isinstance(task(None).error, InputError)
    assert [item.output for item in task.stream(["il aboie", "il ronronne"], ordered=True)] == ["chien", "chat"]
    assert "Classification" in repr(task)


def test_groups() -> None:
    texts = [f"{'il aboie' if number % 3 else 'il ronronne'} le jour {number}" for number in range(30)]
    with FaultyServer() as server:
        expected = Classification(llm=LLM(f"{server.base_url}#m", cache=False), labels=["chat", "chien"]).run(texts)
        server.reset()
        task = Classification(llm=LLM(f"{server.base_url}#m", cache=False), labels=["chat", "chien"], group_size=10)
        results = task.run(texts)
        assert server.counters.requests < 30
    assert [item.output for item in results] == [item.output for item in expected]
    assert [item.input for item in results] == texts


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_any_number_of_labels(count: int) -> None:
    labels = [f"label {number}" for number in range(count)]
    assert Classification(llm=saying(labels[-1]), labels=labels)("x").output == labels[-1]


def test_the_default_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="LLMTASKER_LLM"):
        Classification(labels=["chat"])
    monkeypatch.setitem(os.environ, "LLMTASKER_LLM", "offline")
    assert Classification(labels=["chat", "chien"], examples=EXAMPLES)("un regard").output == "chat"
