"""CPU of the client per call: llmtasker, and others, beside a plain `create` of the openai package.

    python benchmarks/overhead.py [--rounds 9] [--calls 60] [--json] [--check] [--only WORD …] [--dspy-python PATH]

One classification with 8 examples, against a local server in its own process, whose CPU is not counted. All take
turns in each round; a ratio is the median over the rounds. CPU is counted for the whole process, threads included:
user-space instructions where the kernel and the machine have counters for them, else seconds of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib.util
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import diskcache
from processes import PROGRAMS, process_costs, process_table
from pydantic import BaseModel, create_model

from llmtasker import LLM, InputField, OutputField, Signature, Task

MODEL = "some-model"
LABELS = ("billing", "delivery", "returns", "account", "technical", "complaint", "praise", "other")
MESSAGES = (
    "I was charged twice for the same order, please pay one of them back.",
    "The parcel was to come on Monday, and today is Thursday.",
    "How do I send back the lamp? It is too large for my desk.",
    "I can't log in any more since I changed my phone.",
    "The app stops as soon as I open the page with my invoices.",
    "This is the third time I write and nobody answers.",
    "Thank you, the young man on the phone was very helpful.",
    "Do you also have shops in Belgium?",
)
REFERENCE = {"sync": "openai create, sync", "async": "openai create, async"}
TARGETS = (  # name, against what, at most
    ("llmtasker task(text)", REFERENCE["sync"], 0.6),
    ("llmtasker arun 16", REFERENCE["async"], 0.6),
    ("llmtasker arun 64", REFERENCE["async"], 0.6),
    ("llmtasker task(text)", "instructor create, sync", 0.35),
    ("llmtasker arun 16", "instructor create, async", 0.35),
    ("llmtasker cached task(text)", "diskcache get", 5.0),
    ("llmtasker 1000 labels", "llmtasker task(text)", 2.0),
    ("import llmtasker", "import dspy", 0.1),
    # `import pydantic` loads no class: with one, Pydantic itself takes 2.6 times as long, and Signature is one.
    ("import Task, Signature", "floor: a class of Pydantic", 1.4),
    ("process: offline task declared", "floor: a class of Pydantic", 1.7),
    ("process: answered from cache", "floor: a class of Pydantic", 2.0),
    ("process: offline task declared", "process: dspy declared", 1.0),
    ("process: answered from cache", "process: dspy from cache", 1.0),
)


class Triage(Signature):
    """Route a customer message to the team that can solve it."""

    message: str = InputField(description="what the customer wrote")
    team: Literal[LABELS] = OutputField(description="who takes it")  # type: ignore[valid-type]


class Meter:
    """Counts what this process uses from now on: instructions in user space, or else nanoseconds of CPU."""

    def __init__(self) -> None:
        self._counter = _open_counter()
        self.unit = "k instructions" if self._counter is not None else "µs"

    def read(self) -> float:
        """Return the count so far, in the unit."""
        if self._counter is not None:
            return float(struct.unpack("Q", os.read(self._counter, 8))[0]) / 1e3
        return time.process_time_ns() / 1e3


def _open_counter() -> int | None:
    """Return a perf_event_open(2) descriptor that counts instructions of all threads that start later."""
    numbers = {"x86_64": 298, "aarch64": 241}
    number = numbers.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        return None
    attributes = ctypes.create_string_buffer(128)
    inherit, exclude_kernel, exclude_hypervisor = 1 << 1, 1 << 5, 1 << 6
    struct.pack_into("IIQ", attributes, 0, 0, 128, 1)  # PERF_TYPE_HARDWARE, size, PERF_COUNT_HW_INSTRUCTIONS
    struct.pack_into("Q", attributes, 40, inherit | exclude_kernel | exclude_hypervisor)
    descriptor = int(ctypes.CDLL(None).syscall(number, attributes, 0, -1, -1, 0))
    return descriptor if descriptor >= 0 else None


@dataclass
class Contender:
    """Something that can make calls; `run(n)` makes n, each with another text."""

    name: str
    run: Callable[[int], object]
    counts: list[float] = field(default_factory=list)


class Bench:
    """The contenders that are installed, against one server."""

    def __init__(self, base_url: str, folder: str) -> None:
        self.base_url = base_url
        self.folder = folder
        self.runner = asyncio.Runner()
        self.numbers = itertools.count()
        examples = [Triage(message=text, team=label) for text, label in zip(MESSAGES, LABELS, strict=True)]
        self.task = Task(Triage, llm=self.llm(), examples=examples, mode="tools")
        self.body = self.task.preview(MESSAGES[0]).request.body
        self.contenders: list[Contender] = []
        self.closers: list[Callable[[], object]] = []

    def llm(self, **settings: Any) -> LLM:
        """Return an LLM at the server."""
        settings = {"cache": False, "api_key": "none", **settings}
        return LLM(MODEL, base_url=self.base_url, **settings)

    def text(self) -> str:
        """Return a message that was not asked before."""
        number = next(self.numbers)
        return f"{MESSAGES[number % len(MESSAGES)]} ({number})"

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of one more call, as the task would send them."""
        return [*self.body["messages"][:-1], {"role": "user", "content": self.text()}]

    def add(self, name: str, call: Callable[[], object]) -> None:
        """Add a contender that makes one call at a time."""
        self.contenders.append(Contender(name, lambda n: [call() for _ in range(n)]))

    def add_async(self, name: str, call: Callable[[], Awaitable[object]], width: int = 16) -> None:
        """Add a contender that has `width` calls in flight."""

        async def crowd(n: int) -> None:
            left = iter(range(n))

            async def work() -> None:
                for _ in left:
                    await call()

            await asyncio.gather(*(work() for _ in range(width)))

        self.contenders.append(Contender(name, lambda n: self.runner.run(crowd(n))))

    def close(self) -> None:
        """Close all clients."""
        for close in self.closers:
            outcome = close()
            if asyncio.iscoroutine(outcome):
                self.runner.run(outcome)
        self.runner.close()


def add_openai(bench: Bench) -> None:
    """Add the plain `create`, with the same messages and tools."""
    import openai

    client = openai.OpenAI(base_url=bench.base_url, api_key="none")
    aclient = openai.AsyncOpenAI(base_url=bench.base_url, api_key="none")
    rest = {name: value for name, value in bench.body.items() if name != "messages"}
    bench.add(
        REFERENCE["sync"],
        lambda: client.chat.completions.create(messages=bench.messages(), **rest),  # type: ignore[call-overload]
    )
    bench.add_async(
        REFERENCE["async"],
        lambda: aclient.chat.completions.create(messages=bench.messages(), **rest),  # type: ignore[call-overload]
    )
    bench.closers += [client.close, aclient.close]


def add_ours(bench: Bench) -> None:
    """Add llmtasker without cache, with a cache that has the answer, and with a thousand labels."""
    task = bench.task
    bench.add("llmtasker task(text)", lambda: _checked(task(bench.text())))
    for width in (16, 64):

        def run(n: int, width: int = width) -> None:
            items = bench.runner.run(task.arun([bench.text() for _ in range(n)], concurrency=width))
            for item in items:
                _checked(item)

        bench.contenders.append(Contender(f"llmtasker arun {width}", run))
    labels = tuple(f"label {number}" for number in range(1000))
    wide = Triage.with_fields(team=(Literal[labels], OutputField(description="who takes it")))
    examples = [{"message": text, "team": label} for text, label in zip(MESSAGES, labels, strict=False)]
    many: Task[Any] = Task(wide, llm=bench.llm(), examples=examples, mode="tools")
    bench.add("llmtasker 1000 labels", lambda: _checked(many(bench.text())))
    bench.closers += [task.llm.close, many.llm.close, task.llm.aclose]
    _add_cached(bench)


def _add_cached(bench: Bench) -> None:
    texts = [bench.text() for _ in range(64)]
    cached: Task[Any] = Task(Triage, llm=bench.llm(cache=f"{bench.folder}/ours"), examples=[], mode="tools")
    plain = diskcache.Cache(f"{bench.folder}/raw")
    keys = []
    for item in cached.run(texts):
        completion = json.dumps({"tool_calls": [["Triage", _checked(item).raw, "call_1"]], "usage": {"input": 500}})
        keys.append(item.request.key)
        plain.set(keys[-1], completion)
    numbers = itertools.count()

    def ours() -> None:
        item = _checked(cached(texts[next(numbers) % len(texts)]))
        assert item.cached

    def ours_bulk(n: int) -> None:
        items = bench.runner.run(cached.arun([texts[next(numbers) % len(texts)] for _ in range(n)], concurrency=64))
        assert all(item.cached for item in items)

    bench.add("diskcache get", lambda: plain.get(keys[next(numbers) % len(keys)]))
    bench.add("llmtasker cached task(text)", ours)
    bench.contenders.append(Contender("llmtasker cached arun 64", ours_bulk))
    bench.closers += [plain.close, cached.llm.close, cached.llm.aclose]


def _checked(item: Any) -> Any:
    return item.raise_for_error()


def _filled() -> type[BaseModel]:
    return create_model("Triage", team=(Literal[LABELS], ...))


def add_instructor(bench: Bench) -> None:
    """Add instructor's create, with the same messages and an equal model."""
    import instructor
    import openai

    model = _filled()
    plain, aplain = (kind(base_url=bench.base_url, api_key="none") for kind in (openai.OpenAI, openai.AsyncOpenAI))
    client, aclient = instructor.from_openai(plain), instructor.from_openai(aplain)
    wanted: Any = {"model": MODEL, "response_model": model}
    bench.add("instructor create, sync", lambda: client.chat.completions.create(messages=bench.messages(), **wanted))
    bench.add_async(
        "instructor create, async", lambda: aclient.chat.completions.create(messages=bench.messages(), **wanted)
    )
    bench.closers += [plain.close, aplain.close]


def add_langchain(bench: Bench) -> None:
    """Add LangChain's structured output."""
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=bench.base_url, api_key="none", max_retries=0)
    ask = chat.with_structured_output(_filled(), method="function_calling")
    bench.add("langchain, sync", lambda: ask.invoke(bench.messages()))
    bench.add_async("langchain, async", lambda: ask.ainvoke(bench.messages()))


def add_dspy(bench: Bench) -> None:
    """Add DSPy's Predict, with the same examples."""
    import dspy

    signature = dspy.Signature({"message": (str, dspy.InputField()), "team": (Literal[LABELS], dspy.OutputField())})
    predict = dspy.Predict(signature.with_instructions(Triage.__doc__))
    predict.demos = [dspy.Example(message=text, team=label) for text, label in zip(MESSAGES, LABELS, strict=True)]
    # A model that it knows to have structured outputs: otherwise it asks for its own form.
    lm = dspy.LM("openai/gpt-4.1-mini", api_base=bench.base_url, api_key="none", cache=False, num_retries=0)
    dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
    bench.add("dspy Predict, sync", lambda: predict(message=bench.text()))
    bench.add_async("dspy Predict, async", lambda: predict.acall(message=bench.text()))


ADDERS: dict[str, Callable[[Bench], None]] = {
    "openai": add_openai,
    "llmtasker": add_ours,
    "instructor": add_instructor,
    "langchain_openai": add_langchain,
    "dspy": add_dspy,
}


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start the server in its own process and give its base URL."""
    process = subprocess.Popen([sys.executable, "-m", "llmtasker.testing.server"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["base_url"]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def measure(contenders: list[Contender], meter: Meter, rounds: int, calls: int) -> None:
    """Let all take turns; the order changes from round to round."""
    for contender in contenders:
        contender.run(min(calls, 20))
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            before = meter.read()
            contender.run(calls)
            contender.counts.append((meter.read() - before) / calls)


def ratio(counts: dict[str, list[float]], name: str, reference: str) -> float | None:
    """Return the median over the rounds of one contender's count by another's."""
    if name not in counts or reference not in counts:
        return None
    return statistics.median(a / b for a, b in zip(counts[name], counts[reference], strict=True))


def table(counts: dict[str, list[float]], unit: str) -> str:
    """Return what each took per call, with the ratio to the plain `create` of its kind."""
    lines = [f"{'':32}{unit:>15}{'to create':>12}"]
    for name, values in counts.items():
        if name in PROGRAMS:
            continue
        is_async = "async" in name or "arun" in name
        of = ratio(counts, name, REFERENCE["async" if is_async else "sync"])
        lines.append(f"{name:32}{statistics.median(values):15,.0f}{'' if of is None else f'{of:12.2f}'}")
    return "\n".join(lines)


def verdicts(counts: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return each target that could be measured, and whether it is met."""
    found = []
    for name, reference, most in TARGETS:
        reached = ratio(counts, name, reference)
        if reached is not None:
            found.append({"what": f"{name} / {reference}", "most": most, "is": reached, "met": reached <= most})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=60, help="calls of each in a round")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="contenders whose name has a WORD")
    parser.add_argument("--dspy-python", default=sys.executable, help="an interpreter that can import dspy")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    meter = Meter()  # before any thread starts: only those that start later are counted with it
    warnings.simplefilter("ignore")
    with server() as base_url, tempfile.TemporaryDirectory() as folder:
        bench = Bench(base_url, folder)
        for package, add in ADDERS.items():
            if importlib.util.find_spec(package):
                add(bench)
        chosen = [
            each for each in bench.contenders if not options.only or any(word in each.name for word in options.only)
        ]
        if not chosen:
            bench.close()
            names = ", ".join(repr(each.name) for each in bench.contenders)
            parser.error(f"no name has the word {' or '.join(map(repr, options.only))}; the names are {names}")
        measure(chosen, meter, options.rounds, options.calls)
        bench.close()
        counts = {contender.name: contender.counts for contender in chosen}
        processes = {} if options.only else process_costs(base_url, folder, options.dspy_python)
        counts |= processes
    found = verdicts(counts)
    if options.json:
        medians = {name: statistics.median(values) for name, values in counts.items()}
        print(json.dumps({"unit": meter.unit, "per_call": medians, "targets": found}))
    else:
        print(table(counts, f"{meter.unit} a call"))
        print(process_table(processes))
        for verdict in found:
            said = "ok    " if verdict["met"] else "MISSED"
            print(f"{said} {verdict['what']}: {verdict['is']:.2f} of {verdict['most']}")
    if options.check and not all(verdict["met"] for verdict in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
