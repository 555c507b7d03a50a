"""A client or chat model that is given is used as it was made, and the cache key covers what it sends."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import instructor
import openai
import programs
import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Retry, Signature, Task
from llmtasker.testing import FaultyServer, Hang, Status

KEY = "sk-test-0123456789"

# Given clients belong to their creator: their connections stay open here, and are collected at once.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.collect()


class Sort(Signature):
    """Sort."""

    text: str = InputField()
    label: str = OutputField()


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def key_of(llm: Any) -> str:
    return Task(Sort, llm=LLM.of(llm, model="m", cache=False)).preview("a").request.key


# ── the key is what is sent ──


def client(**options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=options.pop("api_key", KEY), base_url="http://h/v1", **options)


def azure(**options: Any) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(api_key=KEY, azure_endpoint="http://h", **{"api_version": "1", **options})


def chat(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url="http://h/v1", **{"api_key": KEY, **options})


class Around(BaseChatModel):
    """A chat model that contains another one."""

    inner: Any = None
    _kept: Any = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "around"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("x"))])


def kept(inner: Any) -> Around:
    around = Around()
    around._kept = inner
    return around


ANOTHER_KEY = [
    (client, {"default_headers": {"X-Route": "large"}}, {"default_headers": {"X-Route": "small"}}),
    (client, {"default_headers": {"X-Routing-Key": "large"}}, {"default_headers": {"X-Routing-Key": "small"}}),
    (client, {"default_headers": {"X-Keyspace": "a"}}, {"default_headers": {"X-Keyspace": "b"}}),
    (client, {"default_headers": {"X-Author": "a"}}, {}),
    (client, {"default_query": {"tenant": "a"}}, {"default_query": {"tenant": "b"}}),
    (client, {"organization": "a"}, {"organization": "b"}),
    (client, {"project": "a"}, {"project": "b"}),
    (client, {"http_client": httpx2.Client(headers={"X-Route": "a"})}, {"http_client": httpx2.Client()}),
    (client, {"http_client": httpx2.Client(params={"v": "a"})}, {"http_client": httpx2.Client(params={"v": "b"})}),
    (azure, {"api_version": "2024-10-21"}, {"api_version": "2025-01-01"}),
    (chat, {"default_headers": {"X-Route": "large"}}, {"default_headers": {"X-Route": "small"}}),
    (chat, {"default_query": {"tenant": "a"}}, {"default_query": {"tenant": "b"}}),
    (chat, {"organization": "a"}, {"organization": "b"}),
    (chat, {"temperature": 0.1}, {"temperature": 0.2}),
    (Around, {"inner": chat(temperature=0.1)}, {"inner": chat(temperature=0.2)}),
    (kept, {"inner": chat(temperature=0.1)}, {"inner": chat(temperature=0.2)}),
    (lambda **stop: chat().bind(**stop), {"stop": ["a"]}, {"stop": ["b"]}),
    (lambda other: chat().with_fallbacks([other]), {"other": chat(temperature=0.1)}, {"other": chat(temperature=0.2)}),
    (lambda **h: LLM("m", base_url="http://h/v1", headers=h, cache=False), {"X-Route": "a"}, {"X-Route": "b"}),
]


@pytest.mark.parametrize(("make", "one", "other"), ANOTHER_KEY)
def test_what_is_sent_besides_the_body_makes_another_key(make: Any, one: Any, other: Any) -> None:
    def key(options: Any) -> str:
        made = make(**options)
        return Task(Sort, llm=made).preview("a").request.key if isinstance(made, LLM) else key_of(made)

    assert key(one) == key(one)
    assert key(one) != key(other)


THE_SAME_KEY = [
    (client, {"api_key": "sk-one-0123456789"}, {"api_key": "sk-two-0123456789"}),
    (client, {"default_headers": {"Authorization": "Bearer a"}}, {}),
    (client, {"default_headers": {"X-Api-Key": "a"}}, {"default_headers": {"x-api-key": "b"}}),
    (client, {"default_query": {"token": "a"}}, {"default_query": {"token": "b"}}),
    (client, {"timeout": 5.0}, {"timeout": 7.0}),
    (client, {"max_retries": 0}, {"max_retries": 5}),
    (chat, {"api_key": "sk-one-0123456789"}, {"api_key": "sk-two-0123456789"}),
    (chat, {"default_headers": {"Authorization": "Bearer a"}}, {"default_headers": {"Authorization": "Bearer b"}}),
    (lambda tag: chat().with_config(tags=[tag]), {"tag": "a"}, {"tag": "b"}),
]


@pytest.mark.parametrize(("make", "one", "other"), THE_SAME_KEY)
def test_credentials_and_what_changes_no_answer_do_not(make: Any, one: Any, other: Any) -> None:
    assert key_of(make(**one)) == key_of(make(**other))


# ── a client is used as it was made ──

Log = list[Any]


def wrapped_create(log: Log, url: str) -> Any:
    made = openai.OpenAI(api_key=KEY, base_url=url)
    create = made.chat.completions.create

    @functools.wraps(create)
    def traced(*args: Any, **kwargs: Any) -> Any:
        log.append(kwargs["model"])
        return create(*args, **kwargs)

    made.chat.completions.create = traced  # type: ignore[method-assign, assignment]
    return made


def wrapped_async_create(log: Log, url: str) -> Any:
    made = openai.AsyncOpenAI(api_key=KEY, base_url=url)
    create = made.chat.completions.create

    async def traced(**kwargs: Any) -> Any:
        log.append(kwargs["model"])
        return await create(**kwargs)

    made.chat.completions.create = traced  # type: ignore[method-assign, assignment]
    return made


def hook(log: Log, url: str) -> Any:
    made = openai.OpenAI(api_key=KEY, base_url=url)
    made._client.event_hooks["request"].append(lambda request: log.append(str(request.url)))
    made._client.event_hooks = made._client.event_hooks
    return made


def own_http_with_a_hook(log: Log, url: str) -> Any:
    http_client = httpx2.Client(event_hooks={"request": [lambda request: log.append(str(request.url))]})
    return openai.OpenAI(api_key=KEY, base_url=url, http_client=http_client)


def replaced_post(log: Log, url: str) -> Any:
    made = openai.OpenAI(api_key=KEY, base_url=url)
    post = made.post
    made.post = lambda *args, **kwargs: log.append(args[0]) or post(*args, **kwargs)  # type: ignore[method-assign, assignment]
    return made


def replaced_send(log: Log, url: str) -> Any:
    made = openai.OpenAI(api_key=KEY, base_url=url)
    send = made._client.send
    made._client.send = lambda *args, **kwargs: log.append(1) or send(*args, **kwargs)  # type: ignore[method-assign]
    return made


class Counting(openai.OpenAI):
    log: Log

    def post(self, *args: Any, **kwargs: Any) -> Any:
        self.log.append(args[0])
        return super().post(*args, **kwargs)


def subclass(log: Log, url: str) -> Any:
    made = Counting(api_key=KEY, base_url=url)
    made.log = log
    return made


def hooks_of_instructor(log: Log, url: str) -> Any:
    made = instructor.from_openai(openai.OpenAI(api_key=KEY, base_url=url))
    made.on("completion:kwargs", lambda *_, **kwargs: log.append(kwargs["model"]))
    made.on("completion:response", lambda response: log.append(response.choices[0].message.role))
    return made


MADE: dict[str, Callable[[Log, str], Any]] = {
    "wrapped create": wrapped_create,
    "wrapped async create": wrapped_async_create,
    "hook": hook,
    "own http with a hook": own_http_with_a_hook,
    "replaced post": replaced_post,
    "replaced send": replaced_send,
    "subclass": subclass,
    "instructor": hooks_of_instructor,
}


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_was_put_around_a_client_sees_each_call(make: Any, server: FaultyServer) -> None:
    server.reset()
    log: Log = []
    made = make(log, server.base_url)
    task = Task(Sort, llm=LLM.of(made, model="m", cache=False, extra_body={"top_k": 5}, temperature=0))
    assert task("a").ok
    assert asyncio.run(task.acall("b")).ok
    assert task.run(["c"]).counts == {"ok": 1}
    assert server.counters.requests == 3
    assert {(body["top_k"], body["temperature"], body["model"]) for body in server.bodies} == {(5, 0, "m")}
    assert len(log) in {3, 6}


@pytest.mark.usefixtures("collected")
def test_a_class_that_is_patched_sees_each_call(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> None:
    log: Log = []
    completions = openai.resources.chat.completions.Completions
    create = completions.create
    monkeypatch.setattr(completions, "create", lambda *args, **kwargs: log.append(1) or create(*args, **kwargs))
    assert Task(Sort, llm=LLM.of(openai.OpenAI(api_key=KEY, base_url=server.base_url), model="m", cache=False))("a").ok
    assert log == [1]


@pytest.mark.usefixtures("collected")
def test_errors_through_a_wrapped_client_are_ours() -> None:
    log: Log = []
    with FaultyServer(faults=[Status(400, "insufficient credit")]) as failing:
        llm = LLM.of(wrapped_create(log, failing.base_url), model="m", cache=False)
        item = Task(Sort, llm=llm)("a")
    assert item.error is not None
    assert item.error.code == "authentication"


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_the_timeout_of_a_client_counts(kind: Any) -> None:
    with FaultyServer(faults=[Hang()]) as hanging:
        made = kind(api_key=KEY, base_url=hanging.base_url, timeout=0.2)
        item = Task(Sort, llm=LLM.of(made, model="m", cache=False, retry=Retry(attempts=1)))("a")
    assert item.error is not None
    assert item.error.code == "timeout"
    assert LLM.of(client(timeout=7.0), model="m", cache=False).settings.timeout == 7.0
    assert LLM.of(client(timeout=7.0), model="m", cache=False, timeout=3).settings.timeout == 3
    assert LLM.of(client(), model="m", cache=False).settings.timeout == 60.0


@pytest.mark.parametrize("name", ["base_url", "api_key", "api_version", "headers"])
def test_what_belongs_to_a_client_is_set_there(name: str) -> None:
    value: Any = {"X": "y"} if name == "headers" else "http://h/v1"
    with pytest.raises(ConfigurationError, match=f"{name} belongs to the given client"):
        LLM.of(client(), model="m", **{name: value})


SEVERAL_LOOPS = """
import asyncio, sys
import loopback; loopback.guard()
import openai
from llmtasker import LLM, InputField, OutputField, Retry, Signature, Task

class Sort(Signature):
    "Sort."
    text: str = InputField()
    label: str = OutputField()

made = openai.AsyncOpenAI(api_key="k", base_url=sys.argv[1], http_client=openai.DefaultAsyncHttpxClient())
task = Task(Sort, llm=LLM.of(made, model="m", cache=False, retry=Retry(attempts=1)))
print([asyncio.run(task.arun([f"{n}.{text}" for text in "abc"])).counts for n in range(4)])
"""


def test_a_client_with_an_http_client_of_its_own_works_in_several_loops(server: FaultyServer) -> None:
    # In a program: connections of an ended loop are for the user to close, and would be a warning here.
    done = programs.run("-c", SEVERAL_LOOPS, server.base_url, cwd=Path(__file__).parent)
    assert done.stdout == "[{'ok': 3}, {'ok': 3}, {'ok': 3}, {'ok': 3}]\n", done.stderr


# ── LangChain ──


def answering(url: str) -> ChatOpenAI:
    return ChatOpenAI(model="m", api_key=KEY, base_url=url, max_retries=0)


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "with_config": lambda made: made.with_config(tags=["a"]),
    "bind": lambda made: made.bind(stop=["#"]),
    "with_retry": lambda made: made.with_retry(stop_after_attempt=2),
    "with_fallbacks": lambda made: made.with_fallbacks([made]),
    "all": lambda made: made.bind(stop=["#"]).with_retry().with_config(tags=["a"]).with_fallbacks([made]),
}


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_chat_model_is_a_chat_model(wrap: Any, server: FaultyServer) -> None:
    server.reset()
    task = Task(Sort, llm=LLM.of(wrap(answering(server.base_url)), cache=False))
    assert task.llm.model == "m"
    assert task("a").ok
    assert asyncio.run(task.acall("b")).ok
    assert all("tools" in body for body in server.bodies)
    if wrap in {WRAPPED["bind"], WRAPPED["all"]}:
        assert all(body["stop"] == ["#"] for body in server.bodies)


@pytest.mark.usefixtures("collected")
def test_a_fallback_answers_where_the_first_fails(server: FaultyServer) -> None:
    with FaultyServer(faults=[Status(500)]) as failing:
        both = answering(failing.base_url).with_fallbacks([answering(server.base_url)])
        assert Task(Sort, llm=LLM.of(both, cache=False))("a").ok


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda made: made.bind_tools([]), "tools bound already"),
        (lambda made: made.with_structured_output(Sort), "is not a"),
    ],
)
def test_what_is_more_than_a_chat_model_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        LLM.of(make(chat()))


@pytest.mark.usefixtures("collected")
def test_run_then_arun_make_no_failing_call(server: FaultyServer) -> None:
    server.reset()
    task = Task(Sort, llm=LLM.of(answering(server.base_url), cache=False, retry=Retry(attempts=1)))
    assert task.run(["a", "b"]).counts == {"ok": 2}
    for _ in range(3):
        assert asyncio.run(task.arun(["c", "d"])).counts == {"ok": 2}
    assert task.run(["e"]).counts == {"ok": 1}
    assert server.counters.requests == 9


def test_a_fake_chat_model_in_wrappers() -> None:
    fake = FakeListChatModel(responses=[json.dumps({"label": "y"})]).with_config(tags=["a"])
    assert Task(Sort, llm=LLM.of(fake, cache=False))("a").raise_for_error().output.label == "y"
