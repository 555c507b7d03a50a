"""Public test doubles: an LLM without a network, recorded answers, and a server that fails on request."""

from llmtasker.testing.bad_answers import (
    GROUP_FAULTS,
    MALFORMATIONS,
    BadGroup,
    ContentFilter,
    Cut,
    Malformed,
    Refusal,
    TwoCalls,
    WrongTool,
)
from llmtasker.testing.cassette import Cassette, Recorder
from llmtasker.testing.exchange import Call, Reply
from llmtasker.testing.fake import Answer, FakeTransport
from llmtasker.testing.faults import (
    Body,
    ContextLimit,
    Delay,
    Drip,
    Fault,
    Hang,
    Limit,
    Outage,
    Rejects,
    RepeatsInput,
    Reset,
    SentTwice,
    Status,
    Storm,
)
from llmtasker.testing.faulty_server import Counters, FaultyServer
from llmtasker.testing.generate import answer_for, answer_from_schema
from llmtasker.wire.request_reader import last_user_text, request_schema

__all__ = [
    "GROUP_FAULTS",
    "MALFORMATIONS",
    "Answer",
    "BadGroup",
    "Body",
    "Call",
    "Cassette",
    "ContentFilter",
    "ContextLimit",
    "Counters",
    "Cut",
    "Delay",
    "Drip",
    "FakeTransport",
    "Fault",
    "FaultyServer",
    "Hang",
    "Limit",
    "Malformed",
    "Outage",
    "Recorder",
    "Refusal",
    "Rejects",
    "RepeatsInput",
    "Reply",
    "Reset",
    "SentTwice",
    "Status",
    "Storm",
    "TwoCalls",
    "WrongTool",
    "answer_for",
    "answer_from_schema",
    "last_user_text",
    "request_schema",
]
