"""OfflineTransport: the built-in baseline, which fills label fields by nearest words and is not a language model.

It reads a request as any endpoint does (schema, instructions, label descriptions, examples, input) and
takes the label whose examples, name and description are nearest to the input. It refuses fields that are not labels.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence

from llmtasker.baseline.fill_plan import FillPlan, prepare
from llmtasker.errors import BadRequestError
from llmtasker.values.json_values import canonical_json
from llmtasker.wire.completion import Completion, ToolCall
from llmtasker.wire.offered_labels import read_offer
from llmtasker.wire.request import Message, Request
from llmtasker.wire.request_reader import INSTRUCTS, input_at, message_text, without_instructions

MODEL = "built-in baseline, no language model"

_REMEMBERED = 32  # tasks whose plans are kept


class OfflineTransport:
    """Answers in the process, without any LLM: a baseline to try out a task and to compare an LLM with.

    Labels (also optional ones, lists of them, and yes/no where the examples show both) are filled with
    the nearest one; optional fields of other kinds keep their default or stay null. The same request
    always gets the same answer. It uses no tokens, so `usage` is None.

    Raises (from `send` and `asend`):
        BadRequestError: a required output is not a label, or no schema was sent.
    """

    uses_tokens = False

    def __init__(self) -> None:
        self.endpoint = "offline"
        self._plans: OrderedDict[tuple[bytes, str], FillPlan | BadRequestError] = OrderedDict()
        self._lock = threading.Lock()

    def send(self, request: Request) -> Completion:
        """Answer one request."""
        at = input_at(request)
        # Instructions that contain the input come with each request; usually nothing comes before the input.
        lone = not any(message.get("role") in INSTRUCTS for message in (*request.head.messages, *request.tail[:at]))
        offer, text = read_offer(message_text(request.tail[at]))
        plan = self._plan(request, request.tail[: at + lone], offer)
        answer = json.dumps(plan.answer(without_instructions(text) if lone else text), ensure_ascii=False)
        if plan.function is None:
            return Completion(text=answer, finish_reason="stop", model=MODEL)
        call = ToolCall(name=plan.function, arguments=answer, id="call_offline")
        return Completion(tool_calls=(call,), finish_reason="tool_calls", model=MODEL)

    async def asend(self, request: Request) -> Completion:
        """Answer one request; it is too fast to need a thread."""
        return self.send(request)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    def _plan(self, request: Request, before: Sequence[Message], offer: Sequence[str]) -> FillPlan:
        _, head = request.head.start(request.settings)
        key = (head.digest(), canonical_json([*before, *offer]) if before or offer else "")
        # Also locked while building, because threads that start together would all build the same plan.
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = prepare(request, before, offer)
                if len(self._plans) > _REMEMBERED:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
        if isinstance(plan, BadRequestError):
            raise BadRequestError(plan.message)
        return plan
