"""Tasks against llama.cpp's own server: a model of random weights, but real templates, grammars, slots and errors."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import openai
import pytest
from conftest import MakeLLM
from llama_server import CONTEXT, SLOTS, LlamaServer
from pydantic import BaseModel, Field, model_validator

from llmtasker import (
    LLM,
    AuthenticationError,
    Completion,
    ContextLengthError,
    InputField,
    InvalidOutputError,
    Item,
    NetworkError,
    NotFoundError,
    NotRunError,
    OutputError,
    OutputField,
    Request,
    Results,
    Retry,
    Signature,
    Task,
    Transport,
    TruncatedError,
    Usage,
)
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction

MODES = ("tools", "json_schema", "json", "text")
HELD = ("tools", "json_schema")
"""The modes in which a grammar holds the model to the schema."""

# What a template, a tokenizer or a JSON writer could stumble over.
ODD = 'Où est mon colis ? "ça" \\ {message} {{7*7}} {% if x %} </message> 日本 😀\u00a0\u2028\tfin'


class Team(enum.Enum):
    BILLING = "facturation"
    DELIVERY = 'livr"aison'


class Place(BaseModel):
    city: str = Field(max_length=12)
    floor: int = Field(ge=0, le=9)


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal["billing", "delivery", "réclamation"] = OutputField(description="who takes it")
    urgency: int = OutputField(ge=1, le=5)


class Report(Triage):
    """Say where the customer is, and what the message is about."""

    place: Place = OutputField()
    tags: list[Literal["late", "lost"]] = OutputField(min_length=1, max_length=3)
    note: str | None = OutputField(max_length=20)


EXAMPLES = [
    Triage(message="J'ai été débité deux fois 😀 {x}", team="billing", urgency=2),
    Triage(message="My parcel is lost", team="delivery", urgency=4),
]


def asking(count: int) -> list[str]:
    """Return messages of which each is one token longer than the one before."""
    return [f"Where is it? {'x' * number}" for number in range(count)]


def spent(items: Results[Any] | list[Item[Any]]) -> tuple[int, int]:
    """Return the tokens that these items say were read and written for them."""
    return sum(item.usage.input for item in items), sum(item.usage.output for item in items)


def counting(server: LlamaServer) -> Callable[[], tuple[int, int]]:
    """Return a function that gives the tokens that the server has read and written since now, by its own count."""
    before = server.counted()

    def since() -> tuple[int, int]:
        read, written = server.counted()
        return read - before[0], written - before[1]

    return since


def in_time(work: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what `work` returns, and fail instead of hanging."""
    came: list[Any] = []
    thread = threading.Thread(target=lambda: came.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert came, f"no end after {seconds:g} s"
    return came[0]


# ── the modes ──


@pytest.mark.parametrize("mode", [*HELD, "auto"])
def test_a_grammar_gives_valid_records_in_one_call(server: LlamaServer, make_llm: MakeLLM, mode: Any) -> None:
    llm = make_llm(server)
    item = Task(Report, llm=llm, mode=mode)(ODD).raise_for_error()
    assert isinstance(item.output, Report)
    assert item.output.message == ODD
    assert item.output.tags
    assert (item.attempts, item.repairs, llm.dialect.facts) == (1, (), ())


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
    # llama.cpp passes over patterns with escapes, and over the bounds of floats.
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
        assert item.attempts == 3


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("message.role == 'tool'", "Unexpected role: tool"),
        ("message.role == 'tool'", "Conversation roles must alternate user/assistant/user/assistant/..."),
        ("message.tool_calls", "Functions have no place here"),
    ],
)
def test_a_chat_template_without_calls_is_learned_once(
    model: Path, make_llm: MakeLLM, refused: str, words: str
) -> None:
    template = (
        f"{{% for message in messages %}}{{% if {refused} %}}{{{{ raise_exception('{words}') }}}}{{% endif %}}"
        "{{ '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    with LlamaServer(model, template=template) as server:
        llm = make_llm(server)
        task = Task(Triage, llm=llm, examples=EXAMPLES)
        items = [task(row) for row in asking(3)]
        assert all(item.ok for item in items)
        assert llm.dialect.facts == ("no tools mode",)
        assert [item.attempts for item in items] == [2, 1, 1]


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
    assert llm.dialect.facts == ("no large sizes",)
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
    # The model had just this prompt, token for token; the server adds the first one by itself.
    assert task(ODD).usage.input == len(server.tokens(prompt))


def test_examples_stand_in_the_prompt_in_the_form_of_a_call(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server), mode="tools", examples=EXAMPLES)
    prompt = server.prompt(task.preview("Hello").request.body)
    assert prompt.count("<tool_response>\nok\n</tool_response>") == len(EXAMPLES)
    answer = '"team":"billing","urgency":2'
    assert answer in prompt.replace(": ", ":").replace(", ", ",")
    assert task("Hello").ok


# ── re-asks ──


class Counted:
    """A transport that keeps the requests which another one sends."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.endpoint = inner.endpoint
        self.requests: list[Request] = []

    def send(self, request: Request) -> Completion:
        self.requests.append(request)
        return self.inner.send(request)

    async def asend(self, request: Request) -> Completion:
        self.requests.append(request)
        return await self.inner.asend(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture
def counted(server: LlamaServer, make_llm: MakeLLM) -> Counted:
    return Counted(make_llm(server).transport)


def picky(counted: Counted, rejected: int, mode: Any, attempts: int = 3) -> Task[Triage]:
    """Return a task that rejects so many answers, whatever they are."""

    class Picky(Triage):
        @model_validator(mode="after")
        def is_right(self) -> Self:
            if len(counted.requests) <= rejected:
                raise ValueError("the team is wrong for « é😀{x} »")
            return self

    llm = LLM("tiny-random", transport=counted, temperature=0, seed=1, max_tokens=400, cache=False)
    return Task(Picky, llm=llm, mode=mode, attempts=attempts)


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize("rejected", [1, 2])
def test_the_conversation_goes_on_until_the_answer_fits(
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
def test_an_answer_that_is_none_is_asked_again(server: LlamaServer, make_llm: MakeLLM, mode: Any) -> None:
    since = counting(server)
    # A quotation mark as stop word ends the answer before it is one.
    item = Task(Triage, llm=make_llm(server, stop=['"', "]"]), mode=mode, examples=EXAMPLES, attempts=3)("Où ?")
    assert isinstance(item.error, OutputError)
    assert item.attempts == 3
    assert since() == (item.usage.input, item.usage.output)


# ── limits ──


@pytest.mark.parametrize("mode", HELD)
def test_only_cut_rows_are_asked_again_with_more_tokens(
    server: LlamaServer, make_llm: MakeLLM, tmp_path: Path, mode: Any
) -> None:
    rows = asking(4)

    def run(inputs: list[str], max_tokens: int) -> Results[Triage]:
        return Task(Triage, llm=make_llm(server, cache=tmp_path, max_tokens=max_tokens), mode=mode).run(inputs)

    assert all(item.ok for item in run(rows[:2], 400))
    cut = run(rows, 3)
    assert [item.cached for item in cut] == [True, True, False, False]
    for item in cut[2:]:
        assert isinstance(item.error, TruncatedError)
        assert (item.attempts, item.usage.output) == (1, 3)
    since = counting(server)
    whole = run(rows, 400)
    assert all(item.ok for item in whole)
    assert [item.attempts for item in whole] == [0, 0, 1, 1]
    assert since() == spent(whole)


def test_a_call_that_is_cut_in_its_arguments_is_no_answer(server: LlamaServer, make_llm: MakeLLM) -> None:
    whole = Task(Triage, llm=make_llm(server), mode="tools")("Hello")
    assert whole.ok
    # The last token ends the turn; the one before it closes the call.
    for max_tokens in range(1, whole.usage.output - 1, 4):
        item = Task(Triage, llm=make_llm(server, max_tokens=max_tokens), mode="tools")("Hello")
        assert isinstance(item.error, TruncatedError)
        assert (item.attempts, item.usage.output) == (1, max_tokens)


def test_an_input_longer_than_the_context_fails_alone_in_one_call(counted: Counted) -> None:
    items = Task(Triage, llm=LLM("tiny-random", transport=counted, cache=False)).run(["before", "x" * CONTEXT, "after"])
    assert [item.ok for item in items] == [True, False, True]
    error = items[1].error
    assert isinstance(error, ContextLengthError)
    assert error.status == 400
    assert (items[1].attempts, items[1].usage) == (1, Usage())
    assert len(counted.requests) == 3


# ── cache ──


def test_the_second_run_asks_nothing(server: LlamaServer, make_llm: MakeLLM, tmp_path: Path) -> None:
    rows = asking(6)
    since = counting(server)
    first = Task(Triage, llm=make_llm(server, cache=tmp_path)).run(rows)
    asked = since()
    assert asked == spent(first) != (0, 0)
    second = Task(Triage, llm=make_llm(server, cache=tmp_path)).run(rows)
    single = Task(Triage, llm=make_llm(server, cache=tmp_path))(rows[0])
    assert since() == asked
    assert [item.output for item in second] == [item.output for item in first]
    assert [item.raw for item in second] == [item.raw for item in first]
    assert all(item.cached and item.attempts == 0 for item in [*second, single])


def test_equal_rows_are_asked_once(server: LlamaServer, make_llm: MakeLLM) -> None:
    since = counting(server)
    items = Task(Triage, llm=make_llm(server)).run(asking(3) * 5, concurrency=15)
    assert sum(item.attempts for item in items) == 3
    assert since() == spent(items)


# ── many at once ──


def check_order(items: Results[Triage], rows: list[str]) -> None:
    """Each row has one token more than the one before: so the count tells which request an answer belongs to."""
    assert [item.input for item in items] == rows
    assert all(item.ok for item in items)
    first = items[0].usage.input
    assert [item.usage.input for item in items] == [first + number for number in range(len(rows))]


def test_more_in_flight_than_slots_are_all_answered_in_order(server: LlamaServer, make_llm: MakeLLM) -> None:
    rows = asking(40)
    since = counting(server)
    items = Task(Triage, llm=make_llm(server)).run(rows, concurrency=6 * SLOTS)
    check_order(items, rows)
    assert sum(item.attempts for item in items) == len(rows)
    assert since() == spent(items)


def test_loops_and_threads_share_an_llm(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server))
    rows = {name: [f"{name} {row}" for row in asking(8)] for name in ("thread", "loop", "again")}
    came: dict[str, Results[Triage]] = {}

    def in_thread() -> None:
        came["thread"] = task.run(rows["thread"], concurrency=8)

    thread = threading.Thread(target=in_thread)
    thread.start()
    for name in ("loop", "again"):
        came[name] = asyncio.run(task.arun(rows[name], concurrency=8))
    thread.join(20)
    assert came.keys() == rows.keys()
    for name, items in came.items():
        check_order(items, rows[name])


def test_run_works_inside_a_running_loop(server: LlamaServer, make_llm: MakeLLM) -> None:
    task = Task(Triage, llm=make_llm(server))

    async def cell() -> tuple[Item[Triage], Results[Triage]]:
        return await task.acall("Hello"), task.run(asking(3))

    item, items = asyncio.run(cell())
    assert item.ok
    check_order(items, asking(3))


# ── ways to name the endpoint ──


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_client_finds_the_one_model_that_is_served(server: LlamaServer, kind: Any) -> None:
    with LLM.of(kind(base_url=server.base_url, api_key="none"), temperature=0, cache=False) as llm:
        assert llm.model == "tiny-random"
        assert Task(Triage, llm=llm)("Hello").raise_for_error().output


def test_a_url_with_a_model_names_the_endpoint(server: LlamaServer) -> None:
    with LLM(f"{server.base_url}#tiny-random", temperature=0, cache=False) as llm:
        assert Task(Triage, llm=llm)("Hello").raise_for_error().output


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


# ── failures ──


def test_a_wrong_key_stops_the_run(model: Path, make_llm: MakeLLM) -> None:
    with LlamaServer(model, api_key="the-right-key") as server:
        since = counting(server)
        items = Task(Triage, llm=make_llm(server, api_key="a-wrong-key")).run(asking(60), concurrency=4)
        assert {type(item.error) for item in items} == {AuthenticationError, NotRunError}
        assert sum(item.attempts for item in items) <= 20
        assert "wrong-key" not in "".join(str(item.error) for item in items)
        assert since() == (0, 0)
        assert Task(Triage, llm=make_llm(server, api_key="the-right-key"))("Hello").ok


def test_a_wrong_path_is_not_found(server: LlamaServer) -> None:
    with LLM("tiny-random", base_url=f"{server.url}/v2", cache=False) as llm:
        item = Task(Triage, llm=llm)("Hello")
    assert isinstance(item.error, NotFoundError)
    assert item.attempts == 1


def test_a_server_that_dies_costs_only_what_was_not_answered(model: Path, make_llm: MakeLLM, tmp_path: Path) -> None:
    rows = asking(40)
    answers_until_death = [5]
    servers: list[LlamaServer] = []

    class Deadly(Triage):
        @model_validator(mode="after")
        def counts(self) -> Self:
            answers_until_death[0] -= 1
            if not answers_until_death[0]:
                servers[0].kill()
            return self

    def run(server: LlamaServer) -> Results[Triage]:
        servers.append(server)
        retry = Retry(attempts=2, backoff=0.01, cap=0.01)
        return Task(Deadly, llm=make_llm(server, cache=tmp_path, retry=retry)).run(rows, concurrency=2 * SLOTS)

    with LlamaServer(model) as server:
        items = in_time(lambda: run(server))
    assert [item.input for item in items] == rows
    answered = sum(item.ok for item in items)
    assert 1 <= answered <= 5 + 2 * SLOTS
    for item in items:
        assert item.ok or (isinstance(item.error, NetworkError) and item.attempts == 2)
    with LlamaServer(model, port=server.port) as again:
        resumed = in_time(lambda: run(again))
    assert all(item.ok for item in resumed)
    assert sum(item.cached for item in resumed) == answered
