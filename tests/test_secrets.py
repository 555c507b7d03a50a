"""Credentials show nowhere: not in logs at DEBUG, representations, errors, tracebacks, exports or the cache."""

import asyncio
import json
import logging
import pickle
import stat
import traceback
from base64 import b64encode

import openai
import pytest

from llmtasker import LLM, InputField, OutputField, Retry, Signature, Task
from llmtasker.errors import ItemError
from llmtasker.testing import Body, FaultyServer, Reset, Status

KEY = "sk-SENTINEL-0123456789"
PASSWORD = "SENTINEL-of-the-url"
HEADER = "SENTINEL-of-a-header"
BASIC = b64encode(f"user:{PASSWORD}".encode()).decode()
QUERY = "QUERY-of-the-url"
SDK = ("openai", "httpx2", "httpcore2", "httpx", "httpcore", "aiohttp", "asyncio", "instructor", "diskcache")
NO_RETRY = Retry(attempts=1)


class Sort(Signature):
    """Sort."""

    text: str = InputField()
    label: str = OutputField()


def own(base_url, folder):
    return LLM("m", base_url=base_url, api_key=KEY, headers={"X-Gateway-Token": HEADER}, cache=folder, retry=NO_RETRY)


def with_password(base_url, folder):
    url = base_url.replace("://", f"://user:{PASSWORD}@")
    return LLM(f"{url}#m", api_key=KEY, cache=folder, retry=NO_RETRY)


def given(base_url, folder):
    client = openai.OpenAI(
        base_url=base_url, api_key=KEY, default_headers={"X-Token": HEADER}, default_query={"token": QUERY}
    )
    return LLM.of(client, model="m", cache=folder, retry=NO_RETRY)


def given_with_http(base_url, folder):
    client = openai.OpenAI(base_url=base_url, api_key=KEY, http_client=openai.DefaultHttpxClient())
    return LLM.of(client, model="m", cache=folder, retry=NO_RETRY)


def azure(base_url, folder):
    client = openai.AzureOpenAI(azure_endpoint=base_url, api_key=KEY, api_version="1")
    return LLM.of(client, model="m", cache=folder, retry=NO_RETRY)


LLMS = [own, with_password, given, given_with_http, azure]


def tell(call, reply):
    """Repeat the credentials of the request in the error, as some gateways do."""
    reply.fail(401, f"Incorrect API key provided: {call.headers.get('authorization', KEY)}.")


def tell_in_200(call, reply):
    reply.raw = json.dumps({"error": {"message": f"bad api_key={KEY}", "code": 401}}).encode()


FAULTS = {
    "none": [],
    "key in a 401": [tell],
    "key in a 200": [tell_in_200],
    "server error": [Status(500)],
    "no JSON": [Body(f"<html>token {KEY}</html>")],
    "reset": [Reset()],
}


def shown_by(llm, task, item):
    for thing in (
        llm,
        llm.transport,
        llm.settings,
        llm.capabilities,
        llm.rate_limiter,
        task,
        task.preview("a"),
        item,
        item.request,
    ):
        yield from (repr(thing), str(thing))
    yield item.to_json()
    yield repr(pickle.dumps(item))
    yield repr(item.request.content) + item.request.key
    if item.error is not None:
        with pytest.raises(ItemError) as caught:
            item.raise_for_error()
        yield "".join(traceback.format_exception(caught.value))
        yield repr(item.error.details)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", LLMS)
def test_no_credential_shows(caplog, tmp_path, make, fault):
    caplog.set_level(logging.DEBUG)
    for name in SDK:
        caplog.set_level(logging.DEBUG, logger=name)
    with FaultyServer(faults=FAULTS[fault]) as server:
        llm = make(server.base_url, tmp_path / "cache")
        task = Task(Sort, llm=llm)
        items = [task("a"), asyncio.run(task.acall("b")), *task.run(["c", {"text": 7}])]
        assert all(item.ok is (fault == "none") for item in items[:3])
        assert {KEY, BASIC} & set(" ".join(server.headers[0].values()).split())
        shown = [text for item in items[:3] for text in shown_by(llm, task, item)]
        shown += [items[3].to_json(), repr(items[3])]
        llm.close()
        if isinstance(client := llm.transport.client, openai.OpenAI):
            client.close()  # the creator of a client closes it
    shown += [f"{record.name}: {record.getMessage()} {record.exc_text}" for record in caplog.records]
    shown += [repr(path.read_bytes()) for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for text in shown:
        assert "SENTINEL" not in text, text[:2000]
        assert BASIC not in text, text[:2000]
        assert QUERY not in text, text[:2000]


def test_the_cache_is_private(tmp_path):
    with FaultyServer() as server:
        task = Task(Sort, llm=own(server.base_url, tmp_path / "cache"))
        assert task("a").ok
        task.llm.close()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_key_is_not_part_of_the_cache_key(tmp_path):
    with FaultyServer() as server:
        first = Task(Sort, llm=LLM("m", base_url=server.base_url, api_key=KEY, cache=tmp_path))("a")
        second = Task(Sort, llm=LLM("m", base_url=server.base_url, api_key="sk-other", cache=tmp_path))("a")
        assert server.counters.requests == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.request.key == second.request.key


@pytest.mark.parametrize(
    "set_up", [lambda: LLM("openai/"), lambda: LLM(f"ftp://u:{PASSWORD}@h/v1"), lambda: LLM("m", base_url=f"h/{QUERY}")]
)
def test_mistakes_in_the_set_up_repeat_no_url(set_up):
    with pytest.raises(ValueError, match=r".") as caught:
        set_up()
    assert "SENTINEL" not in str(caught.value)


def test_what_is_meant_for_openai_is_told_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-sentinel")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-sentinel")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: header-sentinel")
    monkeypatch.setenv("OPENAI_API_KEY", "key-sentinel")
    with FaultyServer() as server, LLM("m", base_url=server.base_url, headers={"X-Own": "own"}, cache=False) as llm:
        assert Task(Sort, llm=llm)("a").ok
        sent = str(server.headers)
    assert "sentinel" not in sent
    assert "own" in sent
