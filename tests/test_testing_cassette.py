"""Recorder and Cassette: recorded answers are replayed, and nothing else."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from llmtasker.errors import ConfigurationError, FilteredError, RateLimitError
from llmtasker.testing import Cassette, FakeTransport, Recorder
from llmtasker.wire.completion import Completion, ToolCall, Usage
from llmtasker.wire.request import Head, Request, Settings, Transport


def request(text: str, **body: Any) -> Request:
    return Request(
        Head({}), [{"role": "user", "content": text}], Settings(endpoint="fake", body={"model": "m", **body})
    )


FULL = Completion(
    text="é",
    tool_calls=(ToolCall(name="f", arguments="{", id="1"),),
    finish_reason="stop",
    model="m",
    usage=Usage(input=3, output=4),
)


def test_what_was_recorded_comes_again_in_order(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    answers = [FULL, "second", RateLimitError("wait", status=429, retry_after=1.5), FilteredError("no"), "late"]
    recorder = Recorder(FakeTransport(answers), path)
    assert isinstance(recorder, Transport)
    assert recorder.send(request("a")) == FULL
    assert anyio.run(recorder.asend, request("a")).text == "second"
    with pytest.raises(RateLimitError):
        recorder.send(request("b"))
    with pytest.raises(FilteredError):
        anyio.run(recorder.asend, request("c"))
    recorder.close()
    assert recorder.send(request("d")).text == "late"
    recorder.close()

    cassette = Cassette(path)
    assert isinstance(cassette, Transport)
    assert (cassette.endpoint, cassette.model) == ("fake", "m")
    assert anyio.run(cassette.asend, request("d")).text == "late"
    with pytest.raises(RateLimitError, match="wait") as caught:
        cassette.send(request("b"))
    assert caught.value.details == {"status": 429, "retry_after": 1.5}
    with pytest.raises(FilteredError):
        cassette.send(request("c"))
    assert cassette.send(request("a")) == FULL
    assert cassette.send(request("a")).text == "second"
    with pytest.raises(AssertionError, match="asked more often than it was recorded"):
        cassette.send(request("a"))
    assert cassette.calls == 6
    cassette.close()
    anyio.run(cassette.aclose)


def test_an_unknown_request_fails_and_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    recorder = Recorder(FakeTransport("x"), path)
    recorder.send(request("known", temperature=0))
    recorder.close()
    cassette = Cassette(path)
    with pytest.raises(AssertionError, match=r"for 'unknown' is not in calls\.jsonl; record it"):
        cassette.send(request("unknown"))
    with pytest.raises(AssertionError, match="with another temperature; undo the change"):
        cassette.send(request("known", temperature=1))
    known = request("known")
    elsewhere = Request(known.head, known.tail, Settings(endpoint="other", body={"model": "m", "temperature": 0}))
    with pytest.raises(AssertionError, match="with another endpoint"):
        cassette.send(elsewhere)
    assert cassette.send(request("known", temperature=0)).text == "x"


def test_only_what_the_endpoint_does_is_recorded(tmp_path: Path) -> None:
    recorder = Recorder(FakeTransport([ZeroDivisionError("ours"), "x"]), tmp_path / "calls.jsonl")
    with pytest.raises(ZeroDivisionError):
        recorder.send(request("a"))
    assert not recorder.path.exists()
    recorder.send(request("a"))
    assert len(recorder.path.read_text().splitlines()) == 1
    recorder.close()


def test_a_recorder_starts_anew_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    for text in ("first", "second"):
        fake = FakeTransport(text)
        recorder = Recorder(fake, path)
        recorder.send(request("a"))
        anyio.run(recorder.aclose)
        assert fake.closed
    assert Cassette(path).send(request("a")).text == "second"
    assert path.stat().st_mode & 0o777 == 0o600


def test_credentials_are_never_recorded(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    secret = "sk-proj-Sentinel0123456789"
    asked = request(f"my key is {secret}", api_key="Sentinel-plain", extra=[{"Authorization": "Sentinel-too"}])
    recorder = Recorder(FakeTransport([RateLimitError(f"Bearer Sentinel.abc: {secret}"), "fine"]), path)
    with pytest.raises(RateLimitError):
        recorder.send(asked)
    recorder.send(asked)
    recorder.close()
    assert "Sentinel" not in path.read_text()
    # The key of the request is that of what was sent, so it is found again.
    cassette = Cassette(path)
    with pytest.raises(RateLimitError, match=r"\[hidden\]"):
        cassette.send(asked)
    assert cassette.send(asked).text == "fine"
    with pytest.raises(AssertionError, match="another temperature"):
        cassette.send(
            request(f"my key is {secret}", api_key="Sentinel-plain", extra=[{"Authorization": "x"}], temperature=1)
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no cassette at .*No such file"),
        ("", "is empty"),
        ("{", "is not a cassette"),
        ("[]", "is not a cassette"),
        (json.dumps({"key": "k"}), "is not a cassette"),
    ],
)
def test_a_file_that_is_not_a_cassette_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "calls.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Cassette(path)
