"""Mistakes in code and set-up raise a ConfigurationError or SignatureError where the object is created."""

from __future__ import annotations

import math
from enum import Enum
from functools import partial
from inspect import signature
from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from llmtasker import (
    LLM,
    AutoGroup,
    Budget,
    CallSettings,
    Classification,
    ConfigurationError,
    InputField,
    Instruction,
    OutputField,
    Prices,
    RateLimit,
    Retry,
    Signature,
    Task,
)
from llmtasker.api.server_settings import ServerSettings
from llmtasker.compiler.label_picker import Shortlist
from llmtasker.confidence.source import Confidence
from llmtasker.errors import SignatureError
from llmtasker.llm.argument_places import RUN_ARGUMENTS, TASK_ARGUMENTS
from llmtasker.plan import TaskOptions
from llmtasker.runner.task_run import RunOptions


class Mood(Enum):
    GLAD = "glad"
    ANGRY = "angry"


class Record(BaseModel):
    label: str


class Frame:
    """An object like a data frame."""

    columns, shape = ("message", "team"), (1, 2)


class Triage(Signature):
    """Route a message."""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField()


def make(made: Any, *arguments: Any, **more: Any) -> Any:
    return partial(made, *arguments, llm="offline", **more)


def output(kind: Any, **arguments: Any) -> Any:
    return Signature.make("Sort", instructions="Sort.", outputs={"label": (kind, OutputField(**arguments))})


def without_type() -> None:
    class Wrong(Signature):
        """Do."""

        text = InputField()
        label: str = OutputField()


def with_underscore() -> None:
    class Wrong(Signature):
        """Do."""

        text: str = InputField()
        _label: str = OutputField()


OF_TEXT: list[tuple[Any, dict[str, Any]]] = [(Instruction, {}), (Classification, {"labels": ["a", "b"]})]
FIELDS: dict[str, tuple[Any, str]] = {
    "desc=": (lambda: OutputField(desc="who"), "OutputField has no argument 'desc': write description=…"),
    "desc= of an input": (lambda: InputField(desc="who"), "InputField has no argument 'desc': write description=…"),
    "prefix=": (lambda: InputField(prefix="Text:"), "describe the field with description=…"),
    "format=": (lambda: InputField(format=str), "override Signature.format_input"),
    "parser=": (lambda: OutputField(parser=int), "give the field a type"),
    "misspelt": (lambda: OutputField(descripton="who"), "Did you mean 'description'?"),
    "misspelt labels": (lambda: OutputField(lables={}), "Did you mean 'labels'?"),
    "misspelt constraint": (lambda: InputField(max_lenght=3), "Did you mean 'max_length'?"),
    "not like any": (lambda: InputField(xyzzy=3), "has no argument 'xyzzy'. It takes what pydantic.Field takes"),
    "labels of an input": (lambda: InputField(labels={"a": ""}), "labels belong to an OutputField"),
    "labels are a list": (lambda: OutputField(labels=["a"]), "labels is a mapping from value to meaning"),
    "a meaning is a number": (lambda: OutputField(labels={"a": 1}), "labels is a mapping"),
    "a label that is not there": (
        lambda: output(Literal["billing", "sales"], labels={"biling": "money"}),
        "Sort.label: labels describes 'biling', which is not a value of the field. Did you mean 'billing'?",
    ),
    "labels of an Enum": (lambda: output(Mood, labels={"GLAD": "happy"}), "'GLAD', which is not a value"),
    "labels of a number": (lambda: output(int, labels={"1": "first"}), "needs a type that has labels"),
    "labels of numbers": (lambda: output(list[float] | None, labels={"1": "first"}), "needs a type that has labels"),
    **{
        f"instructions={given!r} of {made.__name__}": (make(made, instructions=given, **more), words)
        for given, words in [(3, "instructions are a text, not 3."), (["a"], "instructions are a text, not ['a'].")]
        for made, more in OF_TEXT
    },
    **{
        f"output={{'x': {given!r}}}": (
            partial(Instruction, llm="offline", instructions="A", output={"x": given}),
            words,
        )
        for given, words in [
            ("integer", "Instruction.x: 'integer' is not a type; write str, int or the like."),
            (["a", "b"], "Instruction.x: ['a', 'b'] is not a type; write Literal['a', 'b']."),
            (("int", OutputField()), "Instruction.x: 'int' is not a type"),
        ]
    },
    "no type": (without_type, "Wrong.text has no type: write text: str = InputField()"),
    **{
        f"{bound} of {kind}": (partial(output, kind, **bound), words)
        for kind, bound, words in [
            (int, {"ge": "a"}, "Sort.label: ge='a' can't be applied: ValueError"),
            (float | None, {"lt": "a"}, "Sort.label: lt='a' can't be applied"),
            (int, {"multiple_of": 0}, "'multiple_of' must be a finite number greater than 0"),
            (str, {"pattern": "("}, "Sort.label: pattern='(' can't be applied: SchemaError: regex parse error"),
            (str, {"min_length": "a"}, "Sort.label: min_length='a' can't be applied"),
            (list[str], {"max_length": -1}, "Sort.label: max_length=-1 can't be applied"),
            (int, {"strict": "yes"}, "Sort.label: strict='yes' can't be applied"),
            (float, {"union_mode": "smart"}, "Sort.label: union_mode='smart' can't be applied"),
            (int, {"discriminator": "kind"}, "Sort: The core schema type 'int' is not a valid discriminated union"),
            (object(), {}, "Sort: "),
        ]
    },
    "bound of an input": (
        lambda: Signature.make("A", instructions="B", inputs={"n": (int, InputField(ge="a"))}, outputs={"x": int}),
        "A.n: ge='a'",
    ),
    "alias is a number": (lambda: OutputField(alias=3), "alias is a text, not 3"),
    "two defaults": (lambda: InputField(default=1, default_factory=int), "cannot specify both"),
    "an underscore": (with_underscore, "Wrong._label: a field can't begin with an underscore"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_declaration_is_a_signature_error(case: str) -> None:
    wrong, words = FIELDS[case]
    with pytest.raises(SignatureError) as raised:
        wrong()
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (Literal["a", "b"] | None, {"a": "first"}),
        (list[Literal["a", "b"]], {"b": "second"}),
        (Mood, {"glad": "happy"}),
        (list[Mood] | None, {"angry": ""}),
        (Literal[0, 1], {"1": "yes"}),
        (Literal["a"] | str, {"a": "first"}),
        (str, {"a": "first"}),
        (list[str], {"a": "first"}),
        (dict[str, list[Literal["a"]]], {"a": "first"}),
    ],
)
def test_labels_of_nested_types_are_known(kind: Any, labels: dict[str, str]) -> None:
    assert output(kind, labels=labels).output_fields["label"].metadata[-1].labels == labels


class Described(Triage):
    team = OutputField(description="who takes it")


def test_a_subclass_may_leave_out_the_type_of_an_inherited_field() -> None:
    assert Described.output_fields["team"].description == "who takes it"
    assert Described(message="a", team="billing").outputs() == {"team": "billing"}


def llm(**options: Any) -> Any:
    return lambda: LLM("offline", **options)


NEEDED: dict[Any, dict[str, Any]] = {
    AutoGroup: {},
    Budget: {"calls": 1},
    Classification: {"llm": "offline", "labels": ["a"]},
    CallSettings: {},
    Confidence: {"source": "votes"},
    Instruction: {"llm": "offline", "instructions": "Do."},
    Prices: {"input": 1, "output": 1},
    RateLimit: {},
    Retry: {},
    ServerSettings: {},
    Shortlist: {"count": 3},
}


@pytest.mark.parametrize("made", NEEDED, ids=lambda made: made.__name__)
def test_arguments_are_given_by_the_names_that_there_are(made: Any) -> None:
    assert made(**NEEDED[made])
    name = max((each for each in signature(made).parameters if each not in ("llm", "options")), key=len)
    for unnamed, given, words in [
        ((), {"xyzzy": 1}, f"{made.__name__} has no argument 'xyzzy'. Its arguments are "),
        ((), {f"{name}z": 1}, f"Did you mean '{name}'?"),
        ((3,), {}, f"{made.__name__} takes its arguments by name: {made.__name__}("),
    ]:
        with pytest.raises(ConfigurationError) as raised:
            made(*unnamed, **NEEDED[made], **given)
        assert words in str(raised.value)


SETTINGS: dict[str, tuple[Any, str]] = {
    **{
        f"{made.__name__}({name}=)": (partial(made, **{name: 1}), words)
        for made, name, words in [
            (CallSettings, "temperature", 'it belongs in llm=LLM("…", temperature=…)'),
            (CallSettings, "concurrency", "it belongs in run(inputs, concurrency=…)"),
            (CallSettings, "mode", "it belongs in Task(…, mode=…)"),
            (Budget, "fresh", "it belongs in run(inputs, fresh=…)"),
            (AutoGroup, "group_size", "it belongs in Task(…, group_size=…)"),
            (RateLimit, "rpm", "write requests=…"),
            (RateLimit, "max_concurrency", 'it belongs in LLM("…", max_concurrency=…)'),
            (Retry, "max_retries", "write attempts=…"),
            (Retry, "timeout", 'it belongs in LLM("…", timeout=…)'),
            (Prices, "input", "Prices takes its arguments by name: Prices(input=…, output=…)."),
            (Instruction, "instruction", "Did you mean 'instructions'?"),
        ]
    },
    **{
        f"AutoGroup({given})": (partial(AutoGroup, **given), words)
        for given, words in [
            ({"sizes": 5}, "sizes counts inputs"),
            ({"sizes": "ab"}, "sizes counts inputs"),
            ({"sizes": (1,)}, "sizes counts inputs"),
            ({"epsilon": "a"}, "epsilon is a share"),
            ({"sample": "60"}, "sample (rows) must be"),
            ({"check_every": 0}, "check_every (groups) must be"),
        ]
    },
    "Retry(backoff=inf)": (lambda: Retry(backoff=inf, cap=inf), "backoff must be a number of at least 0, not inf"),
    "Retry(cap=inf)": (lambda: Retry(cap=inf), "cap must be a number of at least 0, not inf"),
    "Retry(jitter=nan)": (lambda: Retry(jitter=nan), "jitter"),
    "LLM(max_concurrency=0)": (llm(max_concurrency=0), "max_concurrency"),
    "LLM(max_concurrency='4')": (llm(max_concurrency="4"), "max_concurrency"),
    "LLM(timeout=-1)": (llm(timeout=-1), "timeout"),
    "LLM(temprature=)": (llm(temprature=1), "temperature"),
    "LLM(cache=5)": (llm(cache=5), "cache"),
    "LLM(retry=3)": (llm(retry=3), "retry"),
    "LLM(rate_limit=60)": (llm(rate_limit=60), "rate_limit"),
    "LLM(prices=2)": (llm(prices=2), "prices"),
    "LLM(max_tokens=0)": (llm(max_tokens=0), "max_tokens"),
    **{
        f"LLM({name}=)": (llm(**{name: 1}), words)
        for name, words in {
            "max_retries": "retry=Retry(attempts=…)",
            "organization": "client=OpenAI(…, organization=…)",
            "default_headers": "headers={…}",
            "api_base": "base_url=…",
            "top_k": "extra_body={'top_k': …}",
            "language": "it belongs in Task(…, language=…)",
            "columns": "it belongs in run(inputs, columns=…)",
            "concurrency": "run(inputs, concurrency=…)",
            "observers": "Task(…, observers=…)",
            "rpm": "rate_limit=RateLimit(requests=…)",
        }.items()
    },
    **{
        f"headers={headers}": (llm(headers=headers), words)
        for headers, words in [
            ({"X A:": "b"}, "can't be the name"),
            ({"": "b"}, "can't be the name"),
            ({"X": "a\r\nY: b"}, "another character that can't be sent"),
            ({"X": "né"}, "another character that can't be sent"),
            ({"Content-Length": "3"}, "belongs to the connection"),
            ({"transfer-encoding": "chunked"}, "belongs to the connection"),
        ]
    },
    **{
        f"api_key={key!r}": (llm(api_key=key), "api_key can't be sent")
        for key in ("sk-abc\n", " sk-abc", "sk-abcé", "sk-a\tbc")
    },
    "stop=''": (llm(stop=""), "stop"),
    "stop=[]": (llm(stop=[]), "stop"),
    "top_p=7": (llm(top_p=7), "from 0 to 1"),
    "extra_body={1: 2}": (llm(extra_body={1: 2}), "not the name of a field"),
    "temperature twice": (llm(temperature=0, extra_body={"temperature": 1}), "given twice"),
    "max_tokens twice": (llm(max_tokens=5, extra_body={"max_tokens": 1}), "given twice"),
    "run(group_size=)": (lambda: Task(Triage, llm="offline").run([], group_size=3), "Task(…, group_size=…)"),  # type: ignore[call-arg]
    "extra_body={'n': 3}": (llm(extra_body={"n": 3}), "n=3"),
    "extra_body={'messages': []}": (llm(extra_body={"messages": []}), "'messages'"),
    "extra_body={'stream': True}": (llm(extra_body={"stream": True}), "'stream'"),
    "RateLimit(requests=-1)": (lambda: RateLimit(requests=-1), "requests"),
    "RateLimit(tokens=0)": (lambda: RateLimit(tokens=0), "tokens"),
    "RateLimit(requests='60')": (lambda: RateLimit(requests="60"), "requests"),  # type: ignore[arg-type]
    "Retry(attempts=0)": (lambda: Retry(attempts=0), "attempts"),
    "Retry(jitter=2)": (lambda: Retry(jitter=2), "jitter"),
    "Retry(backoff=-1)": (lambda: Retry(backoff=-1), "backoff"),
    "Prices(input=-1)": (lambda: Prices(input=-1, output=1), "input"),
    "Prices(output='1')": (lambda: Prices(input=1, output="1"), "output"),  # type: ignore[arg-type]
    "Budget()": (Budget, "cost=…, tokens=… or calls=…"),
    "Budget(calls=0)": (lambda: Budget(calls=0), "Budget: calls is a number above 0, not 0."),
    "Budget(cost=nan)": (lambda: Budget(cost=math.nan), "Budget: cost is a number above 0, not nan."),
    "Budget(cost='1')": (lambda: Budget(cost="1"), "Budget: cost is a number above 0, not '1'."),  # type: ignore[arg-type]
    **{
        f"Task({given!r})": (make(Task, given), f"a Task takes a Signature class first, not {words}")
        for given, words in [
            (str, "<class 'str'>: write class Triage(Signature): with message: str = InputField()"),
            (
                Record,
                "<class 'test_set_up.Record'>: write class Record(Signature): and give each field an InputField()",
            ),
            (Signature, "<class 'llmtasker.signature.signature.Signature'>: it has no fields; write class Triage"),
            (
                Triage(message="a", team="billing"),
                "Triage(message='a', team='billing'): give its class: Task(Triage, …)",
            ),
            ("Sort it.", "'Sort it.': for an instruction alone, write Instruction(instructions='Sort it.', …)."),
            (
                "question, marks: list[int] -> answer",
                """'question, marks: list[int] -> answer': write Signature.make("Task", instructions="…", inputs={""",
            ),
        ]
    },
    **{
        f"examples={type(given).__name__}": (make(Task, Triage, examples=given), words)
        for given, words in [
            (
                "gold.csv",
                "not 'gold.csv': `read_rows` of llmtasker.files returns the rows of a file: read_rows('gold.csv')",
            ),
            (Path("gold.csv"), "read_rows('gold.csv')."),
            (Frame(), 'not a Frame: give its rows, such as frame.to_dict("records").'),
            (Triage(message="a", team="billing"), "not one Triage: write [Triage(message='a', team='billing')]."),
            (3, "examples is a list, not 3."),
        ]
    },
    **{
        f"run({given!r})": (lambda given=given: Task(Triage, llm="offline").run(given), words)
        for given, words in {
            "mes messages.csv": "one str: 'mes messages.csv'. `read_rows` of llmtasker.files returns the rows "
            "of a file: read_rows('mes messages.csv').",
            Path("in.xlsx"): "not a PosixPath: `read_rows` of llmtasker.files returns the rows of a file",
            "Merci.\nBonjour.csv": "Call the task for one input, or give a list.",
            5: "run takes an iterable of inputs, not a int.",
        }.items()
    },
    "LLM(5)": (lambda: LLM(5), "LLM takes the name of a model first, not a int: LLM.of takes a client"),  # type: ignore[arg-type]
    "run(columns=[])": (
        lambda: Task(Triage, llm="offline").run([], columns=["a"]),  # type: ignore[arg-type]
        "which is a text, such as columns={'text': 'message'} or {'text': '0'}, not ['a'].",
    ),
    "Task(cache=5)": (lambda: Task(Triage, llm="offline", cache=5), "cache=5 is not a cache"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting_is_a_configuration_error(case: str) -> None:
    wrong, words = SETTINGS[case]
    with pytest.raises(ConfigurationError) as raised:
        wrong()
    assert words in str(raised.value)


@pytest.mark.parametrize(("name", "variable"), [("openai/m", "OPENAI_API_KEY"), ("http://h/v1#m", "LLMTASKER_API_KEY")])
def test_a_key_of_the_environment_that_cannot_be_sent_is_named_and_not_shown(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "sk-abc123\n")
    with pytest.raises(ConfigurationError, match=f"{variable} can't be sent") as raised:
        LLM(name)
    assert "abc123" not in str(raised.value)


def test_each_argument_of_a_task_is_named_where_a_run_is_given_it() -> None:
    assert set(RUN_ARGUMENTS) == RunOptions.__annotations__.keys()
    assert set(TASK_ARGUMENTS) == TaskOptions.__annotations__.keys() - {"variables"}


@pytest.mark.parametrize(
    ("arguments", "fields", "words"),
    [
        (
            ("a",),
            {"temperature": 0},
            """there is no input field 'temperature': it belongs in llm=LLM("…", temperature=…).""",
        ),
        ((), {"message": "a", "concurrency": 3}, "'concurrency': it belongs in run(inputs, concurrency=…)."),
        ((), {"mesage": "a"}, "Did you mean 'message'? The fields are message."),
        (("a",), {"message": "b"}, "give one input, or its fields as keywords, not both: message"),
    ],
)
def test_an_argument_of_a_call_that_is_not_a_field_is_named_with_its_place(
    arguments: tuple[str, ...], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError) as raised:
        Task(Triage, llm="offline")(*arguments, **fields)
    assert words in str(raised.value)


def test_numbers_of_numpy_are_numbers() -> None:
    three = pytest.importorskip("numpy").int64(3)
    assert (Budget(calls=three).limits, RateLimit(requests=three).requests) == ({"calls": 3}, 3)
