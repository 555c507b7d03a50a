"""A preview shows exactly what would be sent."""

import json
from typing import Literal

import pytest

from llmtasker import LLM, InputField, OutputField, Signature, Task
from llmtasker.errors import BadRequestError, InputError
from llmtasker.testing import FakeTransport


class Triage(Signature):
    """Route the message: {"team": …}"""

    message: str = InputField()
    team: Literal["billing", "delivery"] = OutputField(description="who takes it")


EXAMPLE = Triage(message="I was charged twice", team="billing")


def task_of(fake, **options):
    llm = LLM("m-1", transport=fake, temperature=0.0, max_tokens=50, cache=False)
    return Task(Triage, llm=llm, examples=[EXAMPLE], **options)


@pytest.mark.parametrize("mode", ["auto", "tools", "json_schema", "json", "text"])
def test_what_is_shown_is_what_is_sent(mode):
    fake = FakeTransport()
    task = task_of(fake, mode=mode)
    preview = task.preview("Where is my {parcel}?")
    assert fake.calls == 0
    item = task("Where is my {parcel}?")
    assert item.ok
    (sent,) = fake.requests
    assert preview.request.content == sent.content
    assert preview.body == json.loads(sent.content)
    assert preview.messages == sent.messages == item.messages
    assert preview.settings == {"model": "m-1", "temperature": 0.0, "max_tokens": 50}
    assert {**preview.settings, **preview.schema, "messages": preview.messages} == preview.body


def test_a_preview_can_be_read():
    shown = str(task_of(FakeTransport(endpoint="http://here/v1")).preview("Où est-il ?"))
    assert shown.startswith(
        """to http://here/v1
── system ──
Route the message: {"team": …}
── user ──
I was charged twice
── assistant ──
billing
── user ──
Où est-il ?
── schema ──
{
  "tools": [
"""
    )
    assert '"description": "who takes it"' in shown
    assert shown.endswith(
        """── settings ──
{
  "model": "m-1",
  "temperature": 0.0,
  "max_tokens": 50
}"""
    )


def test_a_preview_takes_an_input_in_every_way():
    task = task_of(FakeTransport())
    shown = [task.preview("a"), task.preview(message="a"), task.preview({"message": "a"})]
    shown += [task.preview(Triage(message="a", team="billing"))]
    assert len({one.request.key for one in shown}) == 1
    with pytest.raises(InputError, match="message"):
        task.preview()


def test_a_preview_shows_what_was_learned_about_the_endpoint():
    refusal = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default is supported."

    def answer(request):
        if b'"temperature"' in request.content:
            return BadRequestError(refusal, status=400, param="temperature", provider_text=refusal)
        return {"team": "billing"}

    task = task_of(FakeTransport(answer))
    assert task.preview("a").notes == ()
    assert task("a").ok
    after = task.preview("a")
    assert after.settings == {"model": "m-1", "max_tokens": 50}
    assert "temperature is not sent" in after.notes[0]
    assert str(after).endswith(f"note: {after.notes[0]}")


def test_a_field_that_the_user_sets_is_shown_once():
    llm = LLM("m-1", transport=FakeTransport(), extra_body={"parallel_tool_calls": True}, cache=False)
    preview = Task(Triage, llm=llm).preview("a")
    assert preview.settings["parallel_tool_calls"] is preview.body["parallel_tool_calls"] is True
    assert "parallel_tool_calls" not in preview.schema
