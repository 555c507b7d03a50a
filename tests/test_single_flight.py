"""Equal calls that are in progress at the same time are made once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmtasker.cache.single_flight import SingleFlight


def test_the_first_leads_and_the_others_are_told():
    flights = SingleFlight()
    assert flights.enter("k") is None
    first, second = flights.enter("k"), flights.enter("k")
    assert not first.done()
    flights.finish("k", "outcome")
    assert (first.result(0), second.result(0)) == ("outcome", "outcome")


def test_other_keys_are_other_flights():
    flights = SingleFlight()
    assert flights.enter("k") is None
    assert flights.enter("l") is None
    waiting = flights.enter("l")
    flights.finish("k", 1)
    assert not waiting.done()
    flights.finish("l", 2)
    assert waiting.result(0) == 2


def test_after_landing_the_next_leads():
    flights = SingleFlight()
    for _ in range(3):
        assert flights.enter("k") is None
        flights.finish("k", "x")


def test_where_the_leader_gives_up_one_of_the_others_leads():
    flights = SingleFlight()
    flights.enter("k")
    waiting = [flights.enter("k") for _ in range(3)]
    flights.finish("k", None)
    assert [future.result(0) for future in waiting] == [None] * 3
    again = [flights.enter("k") for _ in range(3)]
    assert sum(future is None for future in again) == 1


def test_a_waiter_that_was_cancelled_wants_nothing():
    flights = SingleFlight()
    flights.enter("k")
    gone, there = flights.enter("k"), flights.enter("k")
    assert gone.cancel()
    flights.finish("k", "x")
    assert there.result(0) == "x"
    assert gone.cancelled()


def test_landing_what_nobody_flies_does_nothing():
    flights = SingleFlight()
    flights.finish("k", "x")
    assert flights.enter("k") is None


@pytest.mark.parametrize("threads", [8])
def test_of_many_threads_one_leads(threads):
    flights = SingleFlight()
    calls = []
    ready = threading.Barrier(threads)

    def ask(_):
        ready.wait(10)
        flight = flights.enter("k")
        if flight is not None:
            return flight.result(10)
        calls.append(1)
        # All others enter before the leader finishes: one that came later would lead again.
        boarded.acquire()
        flights.finish("k", "x")
        return "x"

    boarded = threading.Semaphore(0)
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(ask, number) for number in range(threads)]
        while sum(map(len, flights._waiting.values())) < threads - 1:
            threading.Event().wait(0.001)
        boarded.release()
        assert [future.result(10) for future in futures] == ["x"] * threads
    assert calls == [1]
