"""Send what happens in a run to Langfuse: a trace for each row, a generation for each call, a session for the run.

    export LLMTASKER_LANGFUSE=https://langfuse.intra LANGFUSE_PUBLIC_KEY=… LANGFUSE_SECRET_KEY=…
    python examples/langfuse_tracing.py

Without these variables it prints the same events instead.
"""

import os

from llmtasker import CallSettings, Classification
from llmtasker.runner.events import Event


def printed(event: Event) -> None:
    """Show an event; any function that takes one is an observer."""
    if event.what == "item_done" and event.item is not None:
        print(f"row {event.row}: {event.item.output}, tags {dict(event.tags)}")


def observer() -> object:
    """Return Langfuse's observer where it is set up, else the printing one."""
    if not os.environ.get("LLMTASKER_LANGFUSE"):
        return printed
    from llmtasker.integrations import langfuse

    return langfuse.traces(sample=0.05)  # 5 % of the rows, and all that fail


triage = Classification(
    llm="offline",
    labels={"billing": "charged, invoice, refund", "delivery": "parcel, late, courier"},
    observers=[observer()],
)
triage.run(["I was charged twice", "My parcel is late"], concurrency=1, settings=CallSettings(tags={"team": "care"}))
