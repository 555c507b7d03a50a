"""LLM: names of endpoints, where keys are sent, and that credentials are not shown."""

import copy
import json
import pickle
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import httpx2
import instructor
import openai
import programs
import pytest
from langchain_core.language_models import FakeListChatModel

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Prices, RateLimit, Retry, Signature, Task
from llmtasker.cache import MemoryCache
from llmtasker.testing import FakeTransport, FaultyServer
from llmtasker.wire.completion import Usage

KEY = "sk-test-0123456789"


class Sort(Signature):
    """Sort."""

    text: str = InputField()
    label: str = OutputField()


@pytest.fixture(scope="module")
def server():
    with FaultyServer() as running:
        yield running


def headers_of(server, llm):
    """Return the headers of one call."""
    server.reset()
    item = Task(Sort, llm=llm, cache=False)("a")
    assert item.ok, item.error
    return server.headers[-1]


# ── what names an LLM ──


@pytest.mark.parametrize(
    ("name", "options", "variables", "model", "endpoint"),
    [
        ("openai/gpt-4.1-mini", {"api_key": KEY}, {}, "gpt-4.1-mini", "https://api.openai.com/v1"),
        ("openai/gpt-4.1-mini", {}, {"OPENAI_API_KEY": KEY}, "gpt-4.1-mini", "https://api.openai.com/v1"),
        (
            "openai/gpt-4.1-mini",
            {},
            {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://gateway.example/openai/v1"},
            "gpt-4.1-mini",
            "https://gateway.example/openai/v1",
        ),
        ("ollama/qwen3:8b", {}, {}, "qwen3:8b", "http://localhost:11434/v1"),
        ("ollama/hf.co/some/model", {}, {"OLLAMA_HOST": "gpu:1234"}, "hf.co/some/model", "http://gpu:1234/v1"),
        ("ollama/qwen3", {}, {"OLLAMA_HOST": "https://gpu/v1/"}, "qwen3", "https://gpu/v1"),
        ("ollama/qwen3", {"base_url": "http://other:1/v1"}, {"OLLAMA_HOST": "gpu"}, "qwen3", "http://other:1/v1"),
        ("vllm/org/model", {}, {}, "org/model", "http://localhost:8000/v1"),
        ("vllm/org/model", {"base_url": "http://gpu:8001/v1"}, {}, "org/model", "http://gpu:8001/v1"),
        ("http://gpu:8000/v1#org/model", {}, {}, "org/model", "http://gpu:8000/v1"),
        ("HTTPS://gpu/v1#m", {}, {}, "m", "https://gpu/v1"),
        (
            "openai/gpt-4.1",
            {"base_url": "https://openrouter.ai/api/v1"},
            {},
            "openai/gpt-4.1",
            "https://openrouter.ai/api/v1",
        ),
        ("any name", {"base_url": "http://gpu/v1/"}, {}, "any name", "http://gpu/v1"),
        ("any name", {"base_url": " http://gpu/v1\n"}, {}, "any name", "http://gpu/v1"),
        (" http://gpu/v1 # m ", {}, {}, "m", "http://gpu/v1"),
        (None, {}, {"LLMTASKER_LLM": "vllm/org/model\n"}, "org/model", "http://localhost:8000/v1"),
        (None, {}, {"LLMTASKER_LLM": "http://gpu/v1#m"}, "m", "http://gpu/v1"),
        (
            "azure/my-gpt",
            {},
            {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com", "AZURE_OPENAI_API_KEY": KEY},
            "my-gpt",
            "https://r.openai.azure.com/openai",
        ),
        (
            "azure/my-gpt",
            {},
            {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com", "AZURE_OPENAI_AD_TOKEN": KEY},
            "my-gpt",
            "https://r.openai.azure.com/openai",
        ),
    ],
)
def test_a_name_says_model_and_place(monkeypatch, name, options, variables, model, endpoint):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    llm = LLM.of(name, cache=False, **options)
    # Everything else that is sent and may change the answer, such as Azure's version, follows as a hash.
    assert (llm.model, llm.settings.endpoint.partition(" ")[0]) == (model, endpoint)
    assert llm.settings.body == {"model": model}
    assert KEY not in repr(llm) + repr(llm.settings) + repr(llm.transport)


def test_the_version_of_azure_is_in_the_url_only(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    for options, variables, version in [
        ({}, {}, "2024-10-21"),
        ({"api_version": "2025-01-01"}, {}, "2025-01-01"),
        ({}, {"AZURE_OPENAI_API_VERSION": "2025-02-02"}, "2025-02-02"),
        ({}, {"OPENAI_API_VERSION": "2025-03-03"}, "2025-03-03"),
    ]:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        llm = LLM("azure/my-gpt", cache=False, **options)
        assert llm.transport.client._api_version == version
        assert version not in llm.settings.endpoint


def test_offline_is_the_built_in_baseline():
    llm = LLM.of("offline", cache=False)
    assert repr(llm) == "LLM('built-in baseline, no language model')"
    assert type(llm.transport).__name__ == "OfflineTransport"


@pytest.mark.parametrize(
    ("name", "options", "variables", "words"),
    [
        (None, {}, {}, "no LLM is given, and LLMTASKER_LLM is not set"),
        ("", {}, {}, "no LLM is given"),
        ("gpt-4.1-mini", {}, {}, "it is not clear where the model 'gpt-4.1-mini' is"),
        ("openai/", {}, {}, "'openai/' lacks the name of a model"),
        ("ollama/", {}, {}, "'ollama/' lacks the name of a model"),
        ("opnai/gpt-4.1-mini", {}, {}, "Did you mean openai/gpt-4.1-mini?"),
        ("olama/qwen3:4b", {}, {}, "Did you mean ollama/qwen3:4b?"),
        ("offlin", {}, {}, "Did you mean offline?"),
        (
            "mistral/small",
            {},
            {},
            "give the URL of its endpoint, such as https://…/v1#small, and its key",
        ),
        ("openai/gpt-4.1", {}, {}, "needs a key: set OPENAI_API_KEY"),
        ("azure/gpt", {}, {}, "AZURE_OPENAI_ENDPOINT"),
        ("azure/gpt", {}, {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"}, "set AZURE_OPENAI_API_KEY"),
        ("m", {"base_url": "localhost:8000"}, {}, "must begin with"),
        ("ftp://user:secret@host/v1", {}, {}, "must begin with"),
        ("m", {"base_url": "http://user:secret@h:99999/v1"}, {}, "a port is a number up to 65535"),
        ("http://h:secret/v1#m", {}, {}, "a port is a number up to 65535"),
        ("m", {"base_url": "http://[::1/v1"}, {}, "an IPv6 address must be in brackets"),
        ("m", {"base_url": "http://h:0/v1"}, {}, "has port 0"),
        ("m", {"base_url": "http:///v1"}, {}, "has no host"),
        ("m", {"base_url": "http://h/v1/chat/completions/"}, {}, "must end before /chat/completions, which each call"),
        (
            "azure/m",
            {"api_key": KEY},
            {"AZURE_OPENAI_ENDPOINT": "https://r.h/openai/deployments/d/chat/completions?api-version=2"},
            "AZURE_OPENAI_ENDPOINT, the URL of an endpoint, must end before /openai/deployments/d/chat/completions",
        ),
        ("m", {"base_url": "http://h h/v1"}, {}, "has a space or line break in it"),
        ("m", {"base_url": "http://h/a\nb/v1"}, {}, "has a space or line break in it"),
        (
            "openai/m",
            {"api_key": KEY},
            {"OPENAI_BASE_URL": "http://h:99999/v1"},
            "OPENAI_BASE_URL, the URL of an endpoint, can't be read",
        ),
        (
            "azure/m",
            {"api_key": KEY},
            {"AZURE_OPENAI_ENDPOINT": "r.openai.azure.com"},
            "AZURE_OPENAI_ENDPOINT, the URL of an endpoint, must begin with",
        ),
        ("http://host/v1?token=secret#m", {}, {}, "can't have a query"),
        ("m", {"base_url": "http://h/v1", "timeout": 0}, {}, "timeout is a number of seconds above 0"),
        ("m", {"base_url": "http://h/v1", "timeout": float("nan")}, {}, "timeout is a number"),
        *[
            (
                "m",
                {"base_url": "http://h/v1", "timeout": wrong},
                {},
                f"timeout is a number of seconds above 0, not {wrong!r}",
            )
            for wrong in ("60", -1, float("inf"), True, 1j)
        ],
        *[
            ("m", {"base_url": "http://h/v1", "extra_body": {name: []}}, {}, f"{name!r} is set by the task")
            for name in ("tools", "tool_choice", "response_format", "model")
        ],
        ("m", {"base_url": "http://h/v1", "temperature": float("nan")}, {}, "temperature must be a number, not nan"),
        (
            "m",
            {"base_url": "http://h/v1", "extra_body": {"x": object()}},
            {},
            "x can't be sent, because it is not a JSON",
        ),
        (
            "m",
            {"base_url": "http://h/v1", "extra_body": {"messages": []}},
            {},
            "'messages' is set by the task",
        ),
        (
            "m",
            {"base_url": "http://h/v1", "extra_body": {"stream": True}},
            {},
            "'stream' is set by the task",
        ),
    ],
)
def test_what_cannot_be_an_llm_says_how_to_continue(monkeypatch, name, options, variables, words):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        LLM.of(name, **options)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_llm_at_all_names_the_ways_to_have_one():
    with pytest.raises(ConfigurationError) as caught:
        Task(Sort)
    for way in ("Give llm='offline'.", "ollama/qwen3", "openai/gpt", "LLMTASKER_LLM"):
        assert way in str(caught.value)


# ── clients and models of others ──


def answer(request):
    if request.method == "GET":
        names = request.headers["authorization"].removeprefix("Bearer ").split(",")
        return httpx2.Response(200, json={"object": "list", "data": [{"id": name} for name in names if name]})
    return httpx2.Response(200, json={"choices": [{"message": {"content": '{"label": "x"}'}, "finish_reason": "stop"}]})


def mocked(kind=openai.OpenAI, key=KEY, **options):
    http = httpx2.Client if issubclass(kind, openai.OpenAI) else httpx2.AsyncClient
    return kind(api_key=key, http_client=http(transport=httpx2.MockTransport(answer)), **options)


CLIENTS = {
    "OpenAI": lambda: mocked(base_url="http://user:secret@there/v1?token=secret"),
    "AsyncOpenAI": lambda: mocked(openai.AsyncOpenAI, base_url="http://there/v1"),
    "AzureOpenAI": lambda: mocked(openai.AzureOpenAI, azure_endpoint="https://r.example", api_version="1"),
    "AsyncAzureOpenAI": lambda: mocked(openai.AsyncAzureOpenAI, azure_endpoint="https://r.example", api_version="1"),
    "instructor": lambda: instructor.from_openai(mocked(base_url="http://there/v1")),
    "async instructor": lambda: instructor.from_openai(mocked(openai.AsyncOpenAI, base_url="http://there/v1")),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_is_used_as_it_is(name):
    llm = LLM.of(CLIENTS[name](), model="m", cache=False)
    item = Task(Sort, llm=llm)("a")
    assert item.raise_for_error().output.label == "x"
    assert llm.settings.body["model"] == "m"
    shown = repr(llm) + repr(llm.transport) + repr(llm.settings) + llm.settings.endpoint + repr(item)
    assert KEY not in shown
    assert "secret" not in shown


def test_the_model_of_an_instructor_client_is_known():
    client = instructor.from_openai(mocked(base_url="http://there/v1"), model="m-7")
    assert LLM.of(client, cache=False).model == "m-7"
    assert LLM.of(client, model="m-8", cache=False).model == "m-8"
    provided = instructor.from_provider("openai/gpt-4.1-mini", api_key=KEY)
    assert LLM.of(provided, cache=False).model == "gpt-4.1-mini"
    client.kwargs["model"] = "m-9"
    assert LLM.of(client, cache=False).model == "m-9"


def test_the_deployment_of_an_azure_client_is_known():
    client = mocked(openai.AzureOpenAI, azure_endpoint="https://r.example", api_version="1", azure_deployment="d-1")
    assert LLM.of(client, cache=False).model == "d-1"


def test_a_model_can_be_named_by_a_variable(monkeypatch):
    monkeypatch.setenv("LLMTASKER_MODEL", "m-9")
    assert LLM.of(mocked(), cache=False).model == "m-9"


def test_the_only_model_of_an_endpoint_is_taken(server):
    client = openai.OpenAI(base_url=server.base_url, api_key=KEY)
    llm = LLM.of(client, cache=False)
    assert repr(llm) == "LLM(client=…)"
    assert llm.model == "faulty"
    assert LLM(server.base_url, cache=False).model == "faulty"


def test_of_several_models_one_must_be_named():
    llm = LLM.of(mocked(key="m1,m2,m3,m4,m5,m6"), cache=False)
    with pytest.raises(
        ConfigurationError, match=r"The endpoint has 6, such as m1, m2, m3, m4, m5: give LLM\.of\(client, model"
    ):
        Task(Sort, llm=llm)("a")


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/v1", None])
def test_where_no_model_is_listed_any_name_will_do(base_url):
    client = mocked(key=",") if base_url is None else openai.OpenAI(base_url=base_url, api_key=KEY)
    assert LLM.of(client, cache=False).model == "default"


def test_a_chat_model_of_langchain():
    llm = LLM.of(FakeListChatModel(responses=['{"label": "y"}']), cache=False)
    assert type(llm.transport).__name__ == "LangChainTransport"
    assert Task(Sort, llm=llm)("a").raise_for_error().output.label == "y"


def test_a_transport_is_an_llm():
    fake = FakeTransport({"label": "z"}, endpoint="here")
    llm = LLM.of(fake, cache=False)
    assert llm.transport is fake
    assert (llm.model, llm.settings.endpoint) == ("default", "here")
    assert LLM.of(fake, model="named", cache=False).model == "named"


def test_an_llm_is_an_llm():
    llm = LLM("offline", cache=False)
    assert LLM.of(llm) is llm
    with pytest.raises(ConfigurationError, match="set its options where it is made"):
        LLM.of(llm, temperature=0)


@pytest.mark.parametrize("thing", [7, object(), dict, ["openai/gpt-4.1"], lambda prompt: "x"])
def test_what_is_not_an_llm_is_refused(thing):
    with pytest.raises(ConfigurationError, match="is not an LLM: give a name"):
        LLM.of(thing)


# ── keys ──


def test_the_key_of_openai_goes_to_no_other_host(monkeypatch, server):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for llm in (
        LLM("m", base_url=server.base_url),
        LLM(f"{server.base_url}#m"),
        LLM("vllm/m", base_url=server.base_url),
        LLM("openai/m", base_url=server.base_url),
    ):
        assert KEY not in str(headers_of(server, llm))


def test_other_endpoints_have_a_variable_of_their_own(monkeypatch, server):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("LLMTASKER_API_KEY", KEY)
    assert headers_of(server, LLM("m", base_url=server.base_url))["authorization"] == f"Bearer {KEY}"
    own = LLM("m", base_url=server.base_url, api_key="sk-own")
    assert headers_of(server, own)["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize(
    "host", ["https://evil-openai.com/v1", "https://openai.com.evil.example/v1", "http://openai/v1"]
)
def test_a_host_that_looks_like_openai_gets_no_key(monkeypatch, host):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert LLM("m", base_url=host, cache=False).transport.client.api_key == "none"
    assert LLM("m", base_url="https://eu.api.openai.com/v1", cache=False).transport.client.api_key == KEY


def test_a_gateway_that_was_named_for_openai_gets_the_key(monkeypatch, server):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    assert headers_of(server, LLM("openai/m"))["authorization"] == f"Bearer {KEY}"


def test_a_password_in_the_url_goes_as_a_header_and_nowhere_else(server):
    url = server.base_url.replace("://", "://us%40er:p%C3%A9%3A@")
    llm = LLM(f"{url}#m")
    expected = b64encode("us@er:pé:".encode()).decode()
    assert headers_of(server, llm)["authorization"] == f"Basic {expected}"
    assert llm.settings.endpoint == server.base_url
    assert str(llm.transport.client.base_url) == f"{server.base_url}/"


# ── settings ──


def test_settings_are_sent_as_they_are(server):
    llm = LLM(
        "m",
        base_url=server.base_url,
        temperature=0.25,
        top_p=0.5,
        seed=7,
        stop=["\n"],
        max_tokens=99,
        extra_body={"zebra": 1, "ant": {"b": [None]}},
        headers={"X-Team": "data"},
        cache=False,
    )
    assert headers_of(server, llm)["x-team"] == "data"
    body = server.bodies[-1]
    sent = {
        name: body[name] for name in body if name not in {"messages", "tools", "tool_choice", "parallel_tool_calls"}
    }
    assert sent == {
        "model": "m",
        "temperature": 0.25,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["\n"],
        "zebra": 1,
        "ant": {"b": [None]},
        "max_tokens": 99,
    }
    assert "X-Team" not in repr(llm.settings)


def test_what_is_not_set_is_not_sent():
    assert LLM("m", base_url="http://h/v1", cache=False).settings.body == {"model": "m"}
    assert LLM("m", base_url="http://h/v1", cache=False, temperature=0.0, seed=0).settings.body == {
        "model": "m",
        "temperature": 0.0,
        "seed": 0,
    }


def test_the_order_in_which_fields_are_given_makes_no_other_key():
    def body(**fields):
        return json.dumps(LLM("m", transport=FakeTransport(), extra_body=fields, cache=False).settings.body)

    assert body(a=1, b=2) == body(b=2, a=1)


def test_a_cache_is_chosen():
    store = MemoryCache()
    assert LLM("offline", cache=False).store is None
    assert LLM("offline", cache=store).store is store
    assert LLM("offline").store is LLM("offline", cache=True).store
    with pytest.raises(ConfigurationError, match=r"cache=.* is not a cache: give a folder"):
        LLM("offline", cache=7)


def test_tokens_are_priced():
    usage = Usage(input=1_000_000)
    assert LLM("offline", cache=False, prices=Prices(input=3, output=1)).cost(usage) == 3.0
    assert LLM("openai/gpt-4.1-mini", api_key=KEY, cache=False).cost(usage) == pytest.approx(0.4)
    assert LLM("gpt-4.1-mini", base_url="http://h/v1", cache=False).cost(usage) is None


def keys_with(**headers):
    llm = LLM("m", base_url="http://h/v1", headers=headers, cache=False)
    preview = Task(Sort, llm=llm).preview("a")
    return preview.request.key


def test_headers_that_may_choose_the_model_are_part_of_the_key():
    plain = keys_with()
    assert plain == Task(Sort, llm=LLM("m", base_url="http://h/v1", cache=False)).preview("a").request.key
    team = keys_with(**{"X-Route": "large", "X-Team": "a"})
    assert len({plain, team, keys_with(**{"X-Route": "small", "X-Team": "a"})}) == 3
    assert team == keys_with(**{"x-team": "a", "x-route": "large"})


@pytest.mark.parametrize(
    "name",
    ["Authorization", "api-key", "X-API-Key", "Proxy-Authorization", "Cookie", "X-Gateway-Token"],
)
def test_credentials_are_not_part_of_the_key(name):
    assert keys_with(**{name: KEY}) == keys_with()
    llm = LLM("m", base_url="http://h/v1", headers={name: KEY, "X-Route": "large"}, cache=False)
    assert KEY not in repr(llm.settings) + llm.settings.endpoint
    assert "large" not in repr(llm.settings)


def test_headers_do_not_hide_the_price():
    llm = LLM("openai/gpt-4.1-mini", api_key=KEY, headers={"X-Route": "large"}, cache=False)
    assert llm.cost(Usage(input=1_000_000)) == pytest.approx(0.4)


def test_an_llm_is_had_elsewhere_with_the_same_settings(server):
    store, retry, prices = MemoryCache(), Retry(attempts=2), Prices(input=3, output=1)
    settings = {
        "stop": ["x"],
        "seed": 7,
        "temperature": 0.5,
        "top_p": 0.25,
        "extra_body": {"zebra": 1, "ant": 2},
        "max_tokens": 9,
        "timeout": 7,
        "cache": store,
        "rate_limit": RateLimit(requests=6000),
        "max_concurrency": 3,
        "retry": retry,
        "prices": prices,
    }
    name = f"{server.base_url}#other"
    headers = {"X-Route": "large", "Authorization": "Bearer sk-of-there"}
    there = LLM("m", base_url="http://h/v1", api_key="sk-of-there", headers=headers, **settings)
    moved = there.at(name)
    made = LLM(name, headers={"X-Route": "large"}, **settings)
    assert moved.settings == made.settings
    assert json.dumps(moved.settings.body) == json.dumps(made.settings.body)
    assert (moved.model, there.model) == ("other", "m")
    assert moved.store is store
    assert moved.retry is retry
    assert (moved.rate_limiter.limit, moved.rate_limiter.max_concurrency) == (RateLimit(requests=6000), 3)
    assert moved.rate_limiter is not there.rate_limiter
    assert moved.cost(Usage(input=1_000_000)) == 3.0
    sent = headers_of(server, moved)
    assert sent["x-route"] == "large"
    assert "sk-of-there" not in str(sent)
    assert (
        LLM.of(FakeTransport()).at("offline").store is LLM("offline").store
    )  # the default without a cache was only for the test double


def test_a_forked_child_has_locks_of_its_own():
    program = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads; that is the point
from llmtasker import LLM
llm = LLM("offline", cache=False)
held, go_on = threading.Event(), threading.Event()
def hold():
    with llm._lock, llm.capabilities._lock:
        held.set()
        go_on.wait(20)
thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait(20)
child = os.fork()
if not child:
    locks = (llm._lock, llm.capabilities._lock)
    os._exit(0 if all(lock.acquire(timeout=2) for lock in locks) else 1)
code = os.waitpid(child, 0)[1]
go_on.set()
thread.join(20)
raise SystemExit(code)
"""
    done = programs.run("-c", program)
    assert (done.returncode, done.stderr) == (0, "")


# ── to other processes ──


def there_and_back(llm):
    data = pickle.dumps(llm)
    assert b"sk-" not in data
    assert b"SECRET" not in data
    return pickle.loads(data)


SENT = {
    "name": lambda url: LLM(f"{url}#m", temperature=0.5, max_tokens=9, seed=3, extra_body={"b": 1, "a": 2}, timeout=7),
    "base_url": lambda url: LLM("m", base_url=url, headers={"X-Route": "large"}, stop=["x"]),
    "limits": lambda url: LLM(
        "m",
        base_url=url,
        rate_limit=RateLimit(requests=6000),
        max_concurrency=3,
        retry=Retry(attempts=2),
        prices=Prices(input=3, output=1),
    ),
    "client": lambda url: LLM.of(openai.OpenAI(base_url=url, api_key=KEY, organization="org"), model="m"),
    "async client": lambda url: LLM.of(
        openai.AsyncOpenAI(base_url=url, api_key=KEY, default_headers={"X-Route": "large"}), model="m"
    ),
    "azure client": lambda url: LLM.of(openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="1"), model="m"),
    "instructor": lambda url: LLM.of(instructor.from_openai(openai.OpenAI(base_url=url, api_key=KEY)), model="m"),
}


@pytest.mark.parametrize("make", SENT.values(), ids=SENT)
def test_an_llm_arrives_in_another_process_as_it_was_made(monkeypatch, server, make):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "sk-of-the-worker")
    llm = make(server.base_url)
    came = there_and_back(there_and_back(llm))
    assert came.settings == llm.settings
    assert json.dumps(came.settings.body) == json.dumps(llm.settings.body)
    assert (came.max_tokens, came.retry, came.rate_limiter.limit) == (
        llm.max_tokens,
        llm.retry,
        llm.rate_limiter.limit,
    )
    assert came.rate_limiter.max_concurrency == llm.rate_limiter.max_concurrency
    assert came.cost(Usage(input=1_000_000)) == llm.cost(Usage(input=1_000_000))
    assert came.rate_limiter is not llm.rate_limiter
    assert came._lock is not llm._lock
    assert "sk-" not in str(headers_of(server, came)).replace("sk-of-the-worker", "")


def test_the_key_stays_behind_and_the_worker_has_its_own(monkeypatch, server):
    data = pickle.dumps(LLM("m", base_url=server.base_url, api_key=KEY))
    assert KEY.encode() not in data
    monkeypatch.setenv("LLMTASKER_API_KEY", "sk-of-the-worker")
    assert headers_of(server, pickle.loads(data))["authorization"] == "Bearer sk-of-the-worker"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LLM("m", base_url="http://h/v1", api_key=KEY), "this process has none: set LLMTASKER_API_KEY"),
        (lambda: LLM("openai/m", api_key=KEY), "set OPENAI_API_KEY"),
        (lambda: LLM("http://user:SECRET@h/v1#m"), "the password in its URL can't be transferred"),
        (lambda: LLM("m", base_url="http://user:SECRET@h/v1"), "the password in its URL can't be transferred"),
        (lambda: LLM("m", base_url="http://h/v1", headers={"X-My-Token": "SECRET"}), "X-My-Token can't be transferred"),
        (
            lambda: LLM("m", base_url="http://h/v1", headers={"X-Team-Key": "SECRET-0123456789"}),
            "the header X-Team-Key can't be transferred",
        ),
        (lambda: LLM.of(openai.OpenAI(base_url="http://h/v1", api_key=KEY), model="m"), "OPENAI_API_KEY"),
    ],
)
def test_what_a_process_lacks_is_reported_when_the_llm_is_used_not_when_it_arrives(make, words):
    came = there_and_back(make())
    assert came.model == "m"
    with pytest.raises(ConfigurationError, match=words):
        Task(Sort, llm=there_and_back(came), cache=False)("a")


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (mocked, "parts of its own"),
        (lambda: openai.OpenAI(base_url="http://h/v1", api_key=lambda: KEY), "a function for its key"),
        (lambda: openai.OpenAI(base_url="http://h/v1", api_key=KEY, default_headers={"X-Token": "SECRET"}), "X-Token"),
    ],
)
def test_a_client_that_cannot_be_made_again_reports_it(client, words):
    with pytest.raises(ConfigurationError, match=f"can't go to another process: the client has .*{words}"):
        pickle.dumps(LLM.of(client(), model="m"))


def test_transports_and_caches_go_along(tmp_path):
    llm = LLM.of(FakeListChatModel(responses=['{"label": "y"}']), cache=tmp_path)
    assert Task(Sort, llm=there_and_back(llm))("a").raise_for_error().output.label == "y"
    assert there_and_back(llm).store is llm.store
    offline = there_and_back(LLM("offline", cache=MemoryCache()))
    assert offline.model == LLM("offline").model
    assert isinstance(offline.store, MemoryCache)


def test_a_chat_model_of_a_vendor_arrives_without_its_key(monkeypatch, server):
    from langchain_openai import ChatOpenAI

    headers = {"X-Route": "large", "X-Token": "SECRET"}
    chat = ChatOpenAI(model="m", api_key=KEY, base_url=server.base_url, temperature=0.5, default_headers=headers)
    data = pickle.dumps(LLM.of(chat))
    assert KEY.encode() not in data
    assert b"SECRET" not in data
    with pytest.raises(ConfigurationError, match="ChatOpenAI can't be made in this process"):
        Task(Sort, llm=pickle.loads(data), cache=False)("a")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    sent = headers_of(server, pickle.loads(data))
    assert (sent["authorization"], sent["x-route"]) == ("Bearer sk-of-the-worker", "large")
    assert server.bodies[-1]["temperature"] == 0.5


def test_copies_share_what_the_llm_has(server):
    llm = LLM("m", base_url=server.base_url, api_key=KEY)
    assert copy.copy(llm) is copy.deepcopy(llm) is llm


def test_what_was_learned_of_an_endpoint_is_kept_for_the_next_process(server, tmp_path):
    def llm(**settings):
        return LLM("m", base_url=server.base_url, cache=tmp_path, **settings)

    first = llm()
    assert first.settings.body == {"model": "m"}
    first.keep_limits()
    assert not list(tmp_path.rglob("*.json"))  # nothing was learned
    first.rate_limiter.restore({"base": 7.0, "refill": 7.0, "burst": 20.0, "span": 3.0, "window": 40.0})
    first.keep_limits()
    (file,) = tmp_path.rglob("*.json")
    second = llm(temperature=0)
    assert second.rate_limiter.rate is None  # nothing is read before the endpoint is used
    assert second.settings.body["temperature"] == 0
    assert second.rate_limiter.rate == pytest.approx(7.0)
    assert (there := llm(rate_limit=RateLimit(requests=600))).settings
    assert there.rate_limiter.rate == pytest.approx(9.7)  # a given limit is trusted
    other = LLM("other", base_url=server.base_url, cache=tmp_path)
    assert other.settings
    assert other.rate_limiter.rate is None
    for wrong in ("{", "[]", json.dumps({**json.loads(file.read_text()), "saved": 0})):
        file.write_text(wrong)
        assert (third := llm()).settings
        assert third.rate_limiter.rate is None


# ── connections ──


def test_nothing_is_connected_before_the_first_use():
    llm = LLM("m", base_url="http://127.0.0.1:1/v1", cache=False)
    assert "transport" not in vars(llm)
    assert llm.transport is llm.transport


def test_threads_connect_once():
    made = []

    class Slow(LLM):
        def connect(self):
            made.append(FakeTransport())
            arrived.wait(5)
            return made[-1]

    arrived = threading.Event()
    llm = Slow("offline", cache=False)
    llm._connect = llm.connect
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(lambda: llm.transport) for _ in range(4)]
        while not made:
            threading.Event().wait(0.001)
        arrived.set()
        assert {id(future.result()) for future in futures} == {id(made[0])}
    assert len(made) == 1


def test_an_llm_closes_its_transport():
    with LLM.of(fake := FakeTransport(), cache=False) as llm:
        assert llm.transport is fake
    assert fake.closed


async def use_and_leave(fake):
    async with LLM.of(fake, cache=False) as llm:
        assert llm.transport is fake


def test_an_llm_closes_its_transport_in_a_loop():
    import asyncio

    fake = FakeTransport()
    asyncio.run(use_and_leave(fake))
    assert fake.closed
