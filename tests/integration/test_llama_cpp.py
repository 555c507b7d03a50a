"""Answers of llama.cpp's own server: a model of random weights, but real chat templates, grammars and errors."""

from __future__ import annotations

import datetime
import enum
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from conftest import MakeLLM
from llama_server import LlamaServer
from pydantic import BaseModel, Field, model_validator
from triage import EXAMPLES, HELD, ODD, Counted, Triage, asking, counting

from llmtasker import LLM, OutputField, Signature, Task
from llmtasker.errors import InvalidOutputError, OutputError
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction

MODES = ("tools", "json_schema", "json", "text")


class Team(enum.Enum):
    BILLING = "facturation"
    DELIVERY = 'livr"aison'


class Place(BaseModel):
    city: str = Field(max_length=12)
    floor: int = Field(ge=0, le=9)


class Report(Triage):
    """Say where the customer is, and what the message is about."""

    place: Place = OutputField()
    tags: list[Literal["late", "lost"]] = OutputField(min_length=1, max_length=3)
    note: str | None = OutputField(max_length=20)


# ── the modes ──


@pytest.mark.parametrize("mode", [*HELD, "auto"])
def test_a_grammar_gives_valid_records_in_one_call(server: LlamaServer, make_llm: MakeLLM, mode: Any) -> None:
    llm = make_llm(server)
    item = Task(Report, llm=llm, mode=mode)(ODD).raise_for_error()
    assert isinstance(item.output, Report)
    assert item.output.message == ODD
    assert item.output.tags
    assert (item.attempts, item.repairs, llm.capabilities.facts) == (1, (), ())


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize(
    "kind",
    [
        Team,
        Literal["été", "日本", 'a"b', "a\\b", "two\nlines", "😀"],
        Literal[1, 2, 3],
        bool,
        Annotated[int, Field(ge=-5, le=37)],
        Annotated[str, Field(min_length=3, max_length=8)],
        Annotated[str, Field(pattern="^[A-Z]{3}-[0-9]{2,4}$")],
        Annotated[list[Literal["a", "b"]], Field(min_length=2, max_length=3)],
        tuple[Literal["a"], Annotated[int, Field(ge=0, le=3)]],
        dict[str, Annotated[int, Field(ge=0, le=3)]],
        set[Literal["a", "b"]],
        list[Place],
        Place | None,
        Place | Literal["nowhere"],
        datetime.date,
        Any,
    ],
    ids=str,
)
def test_types_that_the_grammar_can_say_come_right(
    server: LlamaServer, make_llm: MakeLLM, mode: Any, kind: Any
) -> None:
    signature = Signature.make("Thing", instructions="Name it.", outputs={"thing": (kind, OutputField())})
    item = Task(signature, llm=make_llm(server), mode=mode, attempts=1)("x")
    assert item.error is None
    assert item.repairs == ()


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize(
    "kind", [Annotated[str, Field(pattern=r"^\d{3}$")], Annotated[float, Field(ge=0, le=1)]], ids=str
)
def test_what_the_grammar_leaves_out_is_checked_here(
    server: LlamaServer, make_llm: MakeLLM, mode: Any, kind: Any
) -> None:
    # llama.cpp ignores patterns with escapes, and the bounds of floats.
    signature = Signature.make("Code", instructions="Find it.", outputs={"code": (kind, OutputField())})
    item = Task(signature, llm=make_llm(server), mode=mode, attempts=2)("x")
    assert isinstance(item.error, InvalidOutputError)
    assert item.attempts == 2
    assert "code: " in item.error.message


@pytest.mark.parametrize("mode", ["json", "text", "plain"])
def test_without_a_grammar_the_answer_is_valid_or_an_error_says_why(
    server: LlamaServer, make_llm: MakeLLM, mode: Any
) -> None:
    signature = Signature.make("Sum", instructions="Sum it up.", outputs={"summary": str})
    items = Task(signature, llm=make_llm(server, max_tokens=60), mode=mode).run(asking(3))
    for item in items:
        assert item.ok == (item.output is not None)
        assert item.ok or isinstance(item.error, OutputError)
        assert item.raw is not None


@pytest.mark.parametrize("urgency", [3, 9])
def test_a_fenced_answer_is_read_in_text_mode(server: LlamaServer, make_llm: MakeLLM, urgency: int) -> None:
    answer = f'Sure, here it is:\n```json\n{{"team": "Réclamation", "urgency": {urgency}}}\n```'
    llm = make_llm(server, extra_body={"grammar": f"root ::= {json.dumps(answer, ensure_ascii=False)}"})
    item = Task(Triage, llm=llm, mode="text", examples=EXAMPLES)("Hello")
    assert item.raw == answer
    if urgency == 3:
        assert item.output == Triage(message="Hello", team="réclamation", urgency=3)
        assert item.attempts == 1
        assert item.repaired
    else:
        assert isinstance(item.error, InvalidOutputError)
        assert item.attempts == 2  # the same answer twice at temperature 0


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("message.role == 'tool'", "Unexpected role: tool"),
        ("message.role == 'tool'", "Conversation roles must alternate user/assistant/user/assistant/..."),
        ("message.tool_calls", "Functions have no place here"),
    ],
)
def test_a_chat_template_without_calls_takes_the_examples(
    model: Path, make_llm: MakeLLM, refused: str, words: str
) -> None:
    template = (
        f"{{% for message in messages %}}{{% if {refused} %}}{{{{ raise_exception('{words}') }}}}{{% endif %}}"
        "{{ '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    with LlamaServer(model, template=template) as server:
        llm = make_llm(server)
        asked = Task(Triage, llm=llm, examples=EXAMPLES).preview("Hello").request
        assert llm.transport.send(asked).text  # the LLM dropped the function, and answers in text
        items = [Task(Triage, llm=llm, examples=EXAMPLES, mode="json_schema")(row) for row in asking(3)]
        assert [item.raise_for_error().attempts for item in items] == [1, 1, 1]
        assert llm.capabilities.facts == ()


def test_the_required_function_is_called_and_nothing_else_said(server: LlamaServer, make_llm: MakeLLM) -> None:
    llm = make_llm(server)
    request = Task(Triage, llm=llm, mode="tools").preview("Hello").request
    assert request.body["tool_choice"] == "required"
    assert request.body["parallel_tool_calls"] is False
    completion = llm.transport.send(request)
    (call,) = completion.tool_calls
    assert call.name == "Triage"
    assert json.loads(call.arguments).keys() == {"team", "urgency"}
    assert completion.finish_reason == "tool_calls"
    assert not completion.text


def test_a_size_that_makes_no_grammar_is_left_out_and_still_checked(server: LlamaServer, make_llm: MakeLLM) -> None:
    llm = make_llm(server)
    kind = Annotated[str, Field(min_length=2_500)]
    signature = Signature.make("Essay", instructions="Write.", outputs={"essay": (kind, OutputField())})
    item = Task(signature, llm=llm, attempts=1)("x")
    assert llm.capabilities.facts == ("a schema without strict", "a schema without keywords")
    assert isinstance(item.error, InvalidOutputError)
    assert "at least 2500 characters" in item.error.message


# ── prompts ──


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("role", ["turns", "system", "user"])
def test_the_text_reaches_the_model_byte_for_byte(server: LlamaServer, make_llm: MakeLLM, mode: Any, role: Any) -> None:
    task = Task(Triage, llm=make_llm(server, max_tokens=1), mode=mode, examples=EXAMPLES, examples_role=role)
    prompt = server.prompt(task.preview(ODD).request.body)
    shown = [example.message for example in EXAMPLES]
    if role == "turns":
        for text in [*shown, ODD]:
            assert f"<|im_start|>user\n{text}<|im_end|>\n" in prompt
    places = [prompt.index(text) for text in [Triage.instructions, *shown, ODD]]
    assert places == sorted(places)
    # The model got exactly this prompt, token for token; the server adds the first token.
    assert task(ODD).usage.input == len(server.tokens(prompt))


def test_examples_are_in_the_prompt_as_text_turns(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server), mode="tools", examples=EXAMPLES)
    prompt = server.prompt(task.preview("Hello").request.body)
    for example in EXAMPLES:
        answer = json.dumps(example.outputs(), ensure_ascii=False, separators=(",", ":"))
        assert f"<|im_start|>user\n{example.message}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n" in prompt
    assert task("Hello").ok


# ── re-asks ──


def picky(counted: Counted, rejected: int, mode: Any, attempts: int = 3) -> Task[Triage]:
    """Return a task that rejects this many answers, whatever they contain."""

    class Picky(Triage):
        @model_validator(mode="after")
        def is_right(self) -> Self:
            if len(counted.requests) <= rejected:
                raise ValueError("the team is wrong for « é😀{x} »")
            return self

    # Above 0: an answer that repeats itself at temperature 0 is not asked a third time.
    llm = LLM("tiny-random", transport=counted, temperature=0.1, seed=1, max_tokens=400, cache=False)
    return Task(Picky, llm=llm, mode=mode, attempts=attempts)


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize("rejected", [1, 2])
def test_the_conversation_continues_until_the_answer_fits(
    server: LlamaServer, counted: Counted, mode: Any, rejected: int
) -> None:
    since = counting(server)
    item = picky(counted, rejected, mode)("Où ?").raise_for_error()
    assert item.attempts == len(counted.requests) == rejected + 1
    assert since() == (item.usage.input, item.usage.output)
    for request in counted.requests[1:]:
        # What was asked, what was answered and why it does not fit: the last failure only.
        _, _, rest = server.prompt(request.body).partition("Où ?")
        _, answer, rest = rest.partition('"urgency"')
        assert answer
        assert rest.count("the team is wrong for « é😀{x} »") == 1


@pytest.mark.parametrize("mode", HELD)
def test_a_reask_gives_up_after_the_attempts(server: LlamaServer, counted: Counted, mode: Any) -> None:
    since = counting(server)
    item = picky(counted, 99, mode, attempts=2)("Où ?")
    assert isinstance(item.error, InvalidOutputError)
    assert "the team is wrong" in item.error.message
    assert item.attempts == len(counted.requests) == 2
    assert since() == (item.usage.input, item.usage.output)


@pytest.mark.parametrize("mode", ["json", "text"])
def test_an_answer_that_is_not_one_is_asked_again(server: LlamaServer, make_llm: MakeLLM, mode: Any) -> None:
    since = counting(server)
    # A quotation mark as stop word ends the answer before it is one.
    item = Task(Triage, llm=make_llm(server, stop=['"', "]"]), mode=mode, examples=EXAMPLES, attempts=3)("Où ?")
    assert isinstance(item.error, OutputError)
    assert item.attempts == 2  # the same answer twice at temperature 0
    assert since() == (item.usage.input, item.usage.output)


# ── ready-made tasks ──


def test_classification(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Classification(
        llm=make_llm(server),
        instructions="Dis de quel animal il s'agit.\n{classes}\n{examples}",
        examples={"un regard perçant": "chat", "leurs queues remuent": "chien"},
        labels=Classification.build_labels_from_list(["chat", "chien", "autre"]),
    )
    for item in task.run(inputs=["il miaule", "il aboie 😀"]):
        assert item.error is None
        assert item.output in {"chat", "chien", "autre"}


def test_a_text_of_an_instruction_is_the_whole_answer(server: LlamaServer, make_llm: MakeLLM) -> None:
    llm = make_llm(server, extra_body={"grammar": "root ::= [a-zé]{3,9}"})
    item = Instruction(llm=llm, instructions="Résume le texte.")("Un texte.").raise_for_error()
    assert item.raw
    assert item.output == item.raw.strip()
