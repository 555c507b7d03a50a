"""Print as JSON what Langfuse's own SDK posts for a row and its calls: run with a Python that has `langfuse` 5.

`tests/langfuse_sdk.json` is what version 5.0.4 posted. To record it again (`make test-others` compares):

    python tests/langfuse_sdk.py > tests/langfuse_sdk.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from langfuse import Langfuse, propagate_attributes
from otlp import Receiver

USED = {"input": 7, "output": 3, "input_cached_tokens": 2}


def main() -> dict[str, Any]:
    """Post a row with a call, one with a call that fails, and scores; return what arrived, without ids and times."""
    receiver = Receiver()
    client = Langfuse(base_url=receiver.url, public_key="pk", secret_key="sk", environment="test")
    question, answer = [{"role": "user", "content": "é"}], '{"team": "billing"}'
    with propagate_attributes(session_id="run", tags=["team=x"], trace_name="row"):
        for failed in (False, True):
            given: dict[str, Any] = {"level": "ERROR", "status_message": "rate_limit"} if failed else {}
            output = {} if failed else {"output": {"team": "billing"}}
            with client.start_as_current_observation(
                name="row", as_type="span", input={"message": "a"}, **output, **given
            ):
                said = {} if failed else {"output": answer, "usage_details": USED, "cost_details": {"total": 0.5}}
                with client.start_as_current_observation(
                    name="chat m",
                    as_type="generation",
                    input=question,
                    model="m",
                    model_parameters={"temperature": 0},
                    **said,
                    **given,
                ):
                    pass
    client.create_score(trace_id="ab" * 16, name="correct", value=1.0, data_type="NUMERIC", score_id="x")
    client.create_score(trace_id="ab" * 16, name="team", value="delivery", data_type="CATEGORICAL", score_id="y")
    client.flush()
    receiver.close()
    names = ("failed call", "failed row") if receiver.spans[0]["status"] == 2 else ("call", "row")
    names += ("call", "row") if names[0] == "failed call" else ("failed call", "failed row")
    spans = {
        name: {
            key: value for key, value in span.items() if key.startswith("langfuse.") or key in {"session.id", "status"}
        }
        for name, span in zip(names, receiver.spans, strict=True)
    }
    posts: list[Any] = receiver.scores
    sent: list[dict[str, Any]] = [one for post in posts for one in (post if isinstance(post, list) else [post])]
    scores = [{name: value for name, value in score.items() if name != "timestamp"} for score in sent]
    headers = {name.lower(): value for name, value in receiver.headers[0].items()}
    kept = ("authorization", "content-encoding", "content-type", "x-langfuse-ingestion-version")
    return {"spans": spans, "scores": scores, "headers": {name: headers[name] for name in kept}}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1, sort_keys=True, ensure_ascii=False))
