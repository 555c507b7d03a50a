"""Spans, counts and scores are sent in the background, even if receivers are down, hang, or are killed or frozen.

It must not delay the caller: only `flush` waits, for at most the given time.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from otlp import Receiver

from llmtasker.integrations import background_sender, langfuse, opentelemetry
from llmtasker.integrations.background_sender import BackgroundSender, PostResult
from llmtasker.item import Item
from llmtasker.runner.corrected_row import CorrectedRow
from llmtasker.runner.events import Event

LIMIT = 0.5  # seconds that a flush is given
SLACK = 3.0  # seconds that a busy machine may add


@dataclass(frozen=True)
class Kind:
    """One of the three: its observer for a URL, a function that adds one thing, and one that counts those received."""

    make: Callable[[str], Any]
    add: Callable[[Any], object]
    received: Callable[[Receiver], float]
    drops: bool = True

    def sender(self, observer: Any) -> BackgroundSender[Any, Any]:
        """The sender of an observer."""
        found: BackgroundSender[Any, Any] = getattr(observer, "_scores", None) or observer._sender
        return found


def done() -> Event:
    return Event(what="item_done", run="r", when=3.0, rows=(0,), item=Item(input={}))


def correction() -> CorrectedRow:
    return CorrectedRow(
        job="j", number=1, answer={"team": "a"}, failed=False, correction={"team": "a"}, before=None,
        outputs=frozenset({"team"}), closed=frozenset({"team"}),
    )  # fmt: skip


KINDS = {
    "spans": Kind(opentelemetry.traces, lambda tracer: tracer(done()), lambda receiver: len(receiver.named("row"))),
    "counts": Kind(
        opentelemetry.metrics, lambda meter: meter(done()), lambda receiver: receiver.counted("llmtasker.rows"), False
    ),
    "scores": Kind(
        lambda url: langfuse.traces(url, public_key="pk", secret_key="sk"),
        lambda tracer: tracer.take_correction(correction()),
        lambda receiver: len(receiver.scores),
    ),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@contextlib.contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail if a block takes longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK


def in_child(work: Callable[[], object]) -> int:
    """Do something in the child of a fork; return its exit code (0: success), or -9 after ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: this process has threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    until = time.monotonic() + 10
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -9
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


# ── the child of a fork ──


def closes(sender: BackgroundSender[Any, Any]) -> bool:
    sender.close()
    return sender.closed


def counts(sender: BackgroundSender[Any, Any]) -> bool:
    sender.count_dropped(2)
    return sender.dropped == 2


METHODS: dict[str, Callable[[BackgroundSender[Any, Any]], bool]] = {
    "flush": lambda sender: sender.flush(LIMIT),
    "close": closes,
    "dropped": lambda sender: sender.dropped == 0,
    "count_dropped": counts,
}


@every
@pytest.mark.parametrize("method", METHODS)
def test_no_method_hangs_in_the_child_of_a_fork(receiver: Receiver, kind: Kind, method: str) -> None:
    """The parent may be doing anything: here it holds the lock, and a post hangs."""
    receiver.delay = -1
    observer = kind.make(receiver.url)
    kind.add(observer)
    sender = kind.sender(observer)
    sender.count_dropped(1)
    with sender._changed:
        assert in_child(lambda: METHODS[method](sender)) == 0


@every
def test_a_child_sends_its_own_and_the_parent_sends_the_rest(receiver: Receiver, kind: Kind) -> None:
    observer = kind.make(receiver.url)
    kind.add(observer)

    def work() -> bool:
        kind.add(observer)
        return bool(observer.flush(8))

    assert in_child(work) == 0
    assert observer.flush(10)
    rows = [point["value"] for point in receiver.points if point["metric"] == "llmtasker.rows"]
    assert (kind.received(receiver) if kind.drops else sum(rows)) == 2


def test_threads_of_the_child_of_a_fork_share_one_lock_and_one_queue() -> None:
    """Each of them may be the first to send: here, creating a queue takes so long that they would all do it at once."""

    class Slow(Numbers):
        def __init__(self) -> None:
            threading.Event().wait(0.05)
            super().__init__()

    receiver = Answers()
    sender = BackgroundSender[int, int]("numbers", Slow, receiver)
    together = threading.Barrier(8)

    def put(number: int) -> None:
        together.wait(5)
        sender.put(number)

    def work() -> bool:
        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        return sender.flush(5) and sorted(receiver.taken) == [*range(8)]

    assert in_child(work) == 0


def test_a_sender_that_nobody_has_is_gone() -> None:
    sender = BackgroundSender[int, int]("numbers", Numbers, Answers())
    gone = weakref.ref(sender)
    del sender
    gc.collect()
    assert gone() is None


# ── receivers that do not take anything ──


class Outside:
    """A receiver in a separate process, which can be killed or frozen."""

    def __init__(self) -> None:
        theirs, ours = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        assert ours.poll(30)
        self.url = f"http://127.0.0.1:{ours.recv()}"

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def serve(pipe: Any) -> None:
    """Be a receiver until the process is killed."""
    pipe.send(Receiver().url.rpartition(":")[2])
    threading.Event().wait()


@pytest.fixture(scope="module")
def outside() -> Iterator[Callable[[], Outside]]:
    begun: list[Outside] = []

    def begin() -> Outside:
        begun.append(Outside())
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.join(10)


def place(way: str, outside: Callable[[], Outside], receiver: Receiver) -> str:
    """Return the URL of a receiver that does not work, in one of the ways."""
    if way == "hangs":
        receiver.delay = -1
        return receiver.url
    if way == "down":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{free.getsockname()[1]}"
    process = outside()
    if way == "killed":
        process.signal(signal.SIGKILL)
        process.process.join(10)
    else:
        process.signal(signal.SIGSTOP)
    return process.url


@every
@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGSTOP")
@pytest.mark.parametrize("way", ["down", "hangs", "killed", "frozen"])
def test_a_receiver_that_does_not_work_costs_nothing(
    receiver: Receiver, kind: Kind, way: str, outside: Callable[[], Outside], caplog: pytest.LogCaptureFixture
) -> None:
    observer = kind.make(place(way, outside, receiver))
    with in_time(0):
        for _ in range(10):
            kind.add(observer)
    with in_time(LIMIT):
        assert not observer.flush(LIMIT)
    assert "not sent yet" in caplog.text
    with in_time(0):
        observer.close()
    with in_time(0):
        kind.add(observer)  # nothing is accepted any more
        assert observer.flush(10)


@every
def test_a_receiver_that_goes_and_comes_back_gets_all(receiver: Receiver, kind: Kind) -> None:
    """Its connection is kept between posts; a frozen receiver answers late."""
    observer = kind.make(receiver.url)
    for delay, status in ((0.0, 200), (0.0, 503), (0.3, 200)):
        receiver.delay, receiver.status = delay, status
        kind.add(observer)
        assert observer.flush(0.5 if status == 503 else 10) is (status == 200)
    assert kind.received(receiver) == 3


@every
def test_what_is_refused_for_good_is_reported(receiver: Receiver, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    receiver.status = 400
    observer = kind.make(receiver.url)
    kind.add(observer)
    assert observer.flush(10 if kind.drops else 0.3) is kind.drops
    assert kind.sender(observer).dropped == int(kind.drops), "counts are cumulative: a later post has them too"
    assert "status 400" in caplog.text


@every
def test_what_close_gives_up_is_reported(receiver: Receiver, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    receiver.status = 503
    observer = kind.make(receiver.url)
    kind.add(observer)
    assert not observer.flush(0.1)
    receiver.wait_for(lambda: len(kind.sender(observer)._outbox) > 0)
    observer.close()
    assert kind.sender(observer).dropped == 1
    assert "0 dropped, 1 abandoned (status 503)" in caplog.text


@every
@pytest.mark.parametrize(("status", "most"), [(400, 1), (413, 1), (429, 5), (503, 5)])
def test_a_receiver_that_does_not_take_them_is_not_asked_all_the_time(
    receiver: Receiver, kind: Kind, status: int, most: int
) -> None:
    """Five posts a second while a caller waits; only one, if the receiver refuses for good."""
    receiver.status = status
    observer = kind.make(receiver.url)
    kind.add(observer)
    observer.flush(0.6)
    assert 1 <= len(receiver.paths) <= most


@every
def test_a_post_that_fails_after_close_ends_the_sending(
    receiver: Receiver, kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []
    start = threading.Thread.start

    def recorded(thread: threading.Thread) -> None:
        begun.extend([thread.name] * thread.name.startswith("llmtasker-"))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", recorded)
    receiver.delay, receiver.status = -1, 503
    observer = kind.make(receiver.url)
    kind.add(observer)
    assert not observer.flush(0.1)
    sender = kind.sender(observer)
    receiver.wait_for(lambda: sender._posting)
    observer.close()
    receiver.frozen.set()
    receiver.wait_for(lambda: not sender._running)
    assert (len(begun), sender.dropped, len(sender._outbox)) == (1, 1, 0)
    assert "status 503" in caplog.text
    assert observer.flush(0)


# ── the sender itself ──


class Numbers:
    """A queue of numbers, at most ten."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, thing: int) -> int:
        self.numbers.append(thing)
        dropped = len(self.numbers) - 10
        del self.numbers[: max(0, dropped)]
        return max(0, dropped)

    def take(self) -> int:
        return self.numbers.pop(0)

    def give_back(self, batch: int, *, again: bool) -> int:
        if again:
            self.numbers.insert(0, batch)
        return 0 if again else 1


class Answers:
    """A receiver that gives these answers, one after the other, and then accepts everything."""

    http = None
    place = "here"

    def __init__(self, *answers: PostResult | BaseException) -> None:
        self.answers = list(answers)
        self.taken: list[int] = []
        self.threads: set[str] = set()

    def client(self) -> Any:
        return self

    def close(self) -> None:
        self.threads.clear()

    def post(self, _: Any, batch: int) -> PostResult:
        self.threads.add(threading.current_thread().name)
        answer = self.answers.pop(0) if self.answers else PostResult(taken=True)
        if isinstance(answer, BaseException):
            raise answer
        if answer.taken:
            self.taken.append(batch)
        return answer


@pytest.mark.parametrize("error", [ValueError("a secret"), SystemExit(1), MemoryError()])
def test_whatever_a_receiver_raises_does_not_end_the_sending(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Answers(error)
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver)
    sender.put(1)
    assert sender.flush(10)
    assert receiver.taken == [1]
    assert f"numbers: here does not take them: {type(error).__name__}" in caplog.text
    assert "secret" not in caplog.text


def test_what_is_refused_for_good_is_not_hurried_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_sender, "_HURRIED_PAUSE", 10.0)
    receiver = Answers(*[PostResult(taken=False, reason="status 401")] * 5)
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver, interval=60.0, enough=100)
    for number in range(5):
        sender.put(number)
    assert not sender.flush(0.3)
    assert (len(receiver.answers), sender.dropped) == (4, 1)
    sender.close()
    assert sender.dropped == 5


def test_pauses_grow_up_to_a_bound_and_begin_again_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_sender, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(background_sender, "_LONGEST_PAUSE", 0.006)
    down = PostResult(taken=False, again=True, reason="down")
    pauses: list[float] = []

    class Watched(Answers):
        def post(self, client: Any, batch: int) -> PostResult:
            pauses.append(sender._pause)
            return super().post(client, batch)

    receiver = Watched(*[down] * 5, PostResult(taken=True), down)
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver)
    for number in (1, 2):
        sender.put(number)
    until = time.monotonic() + 10
    while len(receiver.taken) < 2:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert pauses == [0, 0.001, 0.002, 0.004, 0.006, 0.006, 0, 0.001]
    sender.close()


def test_a_wait_that_the_receiver_asks_for_is_kept_and_flush_ends_it() -> None:
    receiver = Answers(PostResult(taken=False, again=True, reason="busy", wait=50.0))
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver)
    sender.put(1)
    while receiver.answers:
        time.sleep(0.01)
    with in_time(1):
        assert sender.flush(10)
    assert receiver.taken == [1]


def test_few_things_after_an_idle_time_are_sent_too() -> None:
    receiver = Answers()
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver, interval=0.01, enough=100)
    for number in (1, 2, 3):
        sender.put(number)
        until = time.monotonic() + 10
        while len(receiver.taken) < number:  # nobody flushes
            assert time.monotonic() < until
            time.sleep(0.01)
    assert len(receiver.threads) == 1
    sender.close()


def test_a_thread_that_ended_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_sender, "_IDLE", 0.001)
    receiver = Answers()
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver)
    for number in range(50):
        sender.put(number)
        assert sender.flush(10)
        while number % 2 and sender._running:
            time.sleep(0.001)
    assert receiver.taken == [*range(50)]


def test_without_a_thread_things_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    receiver = Answers()
    sender = BackgroundSender[int, int]("numbers", Numbers, receiver)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for number in range(12):
            sender.put(number)
        assert not sender.flush(0.01)
    assert sender.flush(10)
    assert (receiver.taken, sender.dropped) == ([*range(2, 12)], 2)
