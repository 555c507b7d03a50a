"""Parts of a row that a response repeats are neither evidence nor shown, wherever they are in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from llmtasker.errors import BadRequestError, BadResponseError, ItemError, ServerError
from llmtasker.llm.transports.openai import OpenAITransport
from llmtasker.runner.steps import as_item_error
from llmtasker.wire.batch_file import read_line
from llmtasker.wire.completion import Completion
from llmtasker.wire.echo import without_echo
from llmtasker.wire.error_response import read_error
from llmtasker.wire.request import Head, Request, Settings
from llmtasker.wire.response import read_completion

ROWS = [
    "My account has insufficient credit and I want my money back",
    "the api key in your letter is invalid, and the content filter flagged me",
    "Rate limit: too many requests for my address; temperature is not supported",
]
Answer = Callable[[str, Request], Completion | ItemError]


def asked(row: str) -> Request:
    return Request(Head({}), [{"role": "user", "content": row}], Settings(endpoint="e", body={"model": "m"}))


def read(body: Any, request: Request) -> Completion | ItemError:
    try:
        return read_completion(body if isinstance(body, str) else json.dumps(body), request=request)
    except ItemError as error:
        return error


def batch_line(body: Any, request: Request, status: int = 200) -> Completion | ItemError:
    line = {"custom_id": "k", "response": {"status_code": status, "body": body}}
    return read_line(json.dumps(line).encode(), request)


PLACES: dict[str, tuple[Answer, type[ItemError]]] = {
    "400": (
        lambda row, request: read_error(400, json.dumps({"error": {"message": f"can't read: {row}"}}), {}, request),
        BadRequestError,
    ),
    "400 as text": (lambda row, request: read_error(400, f"can't read: {row}", {}, request), BadRequestError),
    "an error in a 200": (
        lambda row, request: read({"error": {"message": f"tokenizer failed on: {row}"}}, request),
        ServerError,
    ),
    "a message at the top of a 200": (
        lambda row, request: read({"message": f"tokenizer failed on: {row}"}, request),
        ServerError,
    ),
    "a page": (lambda row, request: read(f"<html><p>Gateway dump: {row}</p></html>", request), BadResponseError),
    "an echo of the request": (lambda row, request: read({"input": row}, request), BadResponseError),
    "a line of a batch": (
        lambda row, request: batch_line({"error": {"message": f"can't read: {row}"}}, request, 400),
        BadRequestError,
    ),
    "a 200 in a batch": (
        lambda row, request: batch_line({"error": {"message": f"tokenizer failed on: {row}"}}, request),
        ServerError,
    ),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("place", PLACES)
def test_the_words_of_a_row_decide_nothing_and_are_not_shown(place: str, row: str) -> None:
    answer, kind = PLACES[place]
    error = answer(row, asked(row))
    assert type(error) is kind
    shown = f"{error} {error.details}"
    assert not any(" ".join(words) in shown for words in zip(*(row.split()[at:] for at in range(3)), strict=False))


@pytest.mark.parametrize("row", ROWS)
def test_an_error_that_a_wrapped_client_returns_is_read_without_the_words_of_a_row(row: str) -> None:
    client = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1")

    def create(**_: object) -> dict[str, object]:
        return {"error": {"message": f"tokenizer failed on: {row}"}}

    client.chat.completions.create = create  # type: ignore[method-assign,assignment]
    with pytest.raises(ServerError) as found:
        OpenAITransport(client).send(asked(row))
    assert row.split()[1] not in str(found.value)


@pytest.mark.parametrize("row", ROWS)
def test_what_a_transport_raises_is_shown_without_the_words_of_a_row(row: str) -> None:
    error = as_item_error(RuntimeError(f"could not send {row!r}"), asked(row))
    assert str(error) == "the transport failed: RuntimeError: could not send '…'"


def test_the_words_of_the_endpoint_still_count() -> None:
    request = asked("My account has insufficient credit and I want my money back")
    text = "You have insufficient credit balance, please top up"
    assert without_echo(text, request) == text
    error = read({"error": {"message": "model is overloaded"}}, request)
    assert isinstance(error, ServerError)
    assert "model is overloaded" in str(error)
