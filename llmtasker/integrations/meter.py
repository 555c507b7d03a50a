"""Meter: an observer that counts tokens, durations, cost, retries and cache hits, and posts them as OTLP metrics."""

from __future__ import annotations

import os
import time
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.integrations.background_sender import BackgroundSender
from llmtasker.integrations.otlp_messages import (
    Attributes,
    Histogram,
    OTLPMetric,
    Sum,
    check_installed,
    metrics_request,
)
from llmtasker.integrations.otlp_receiver import OTLPReceiver, resource_of
from llmtasker.integrations.span_attributes import endpoint_attributes
from llmtasker.item import Item
from llmtasker.runner.events import Event

_SETS = 2_000  # sets of attributes per metric; further ones are counted together, as the specification requires
_OVERFLOW = (("otel.metric.overflow", True),)
_TOKENS = tuple(4.0**power for power in range(14))
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_INTERVAL = 60_000  # milliseconds between two posts; OTEL_METRIC_EXPORT_INTERVAL
_END_SECONDS = 0.9  # seconds that the end of the process waits for the last counts, after the 4 for spans
_ENOUGH = 2  # never reached, because all counts are one thing: they wait for the interval
_OF_ROWS = frozenset({"gen_ai.provider.name", "gen_ai.request.model"})

Key = tuple[tuple[str, Any], ...]


@dataclass(slots=True)
class _Distribution:
    """The summary of values: their number in each bucket, sum, least and most."""

    counts: list[int]
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")


@dataclass(slots=True)
class _Counts:
    """A metric of the table below: by attributes, a sum or a distribution."""

    unit: str
    description: str
    bounds: tuple[float, ...] = ()
    sums: dict[Key, float] = field(default_factory=dict[Key, float])
    distributions: dict[Key, _Distribution] = field(default_factory=dict[Key, _Distribution])

    def add(self, key: Key, value: float) -> None:
        if key not in self.sums and len(self.sums) >= _SETS:
            key = _OVERFLOW
        self.sums[key] = self.sums.get(key, 0) + value

    def record(self, key: Key, value: float) -> None:
        found = self.distributions.get(key)
        if found is None:
            if len(self.distributions) >= _SETS:
                key = _OVERFLOW
            found = self.distributions.setdefault(key, _Distribution([0] * (len(self.bounds) + 1)))
        found.counts[bisect_left(self.bounds, value)] += 1
        found.total += value
        found.least, found.most = min(found.least, value), max(found.most, value)

    def points(self) -> Iterator[Sum | Histogram]:
        for key, value in self.sums.items():
            yield Sum(dict(key), value)
        for key, kept in self.distributions.items():
            yield Histogram(dict(key), kept.total, tuple(kept.counts), kept.least, kept.most)


def _metrics() -> dict[str, _Counts]:
    return {
        "gen_ai.client.token.usage": _Counts("{token}", "Tokens of a call, input and output apart.", _TOKENS),
        "gen_ai.client.operation.duration": _Counts("s", "Duration of a call.", _SECONDS),
        "llmtasker.rows": _Counts("{row}", "Finished rows: answered, from the cache, or failed."),
        "llmtasker.retries": _Counts("{call}", "Calls of a row after its first."),
        "llmtasker.cost": _Counts("{USD}", "Cost of the calls whose prices are known."),
    }


class Meter:
    """An observer that posts metrics each minute (OTEL_METRIC_EXPORT_INTERVAL), and when it is flushed.

    They are cumulative: a post that fails loses nothing, because the next one contains it too. With
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta, each post has the counts since the last accepted one.

    Raises:
        ConfigurationError: a variable is wrong, or the extra is missing.
    """

    def __init__(self, receiver: OTLPReceiver | None, *, service_name: str | None = None) -> None:
        check_installed()
        counts = partial(_AllCounts, resource_of(service_name), delta=_is_delta())
        seconds = _interval() / 1000
        self._sender = BackgroundSender[Event, _CountsBatch](
            "metrics", counts, receiver, interval=seconds, enough=_ENOUGH
        )

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.what in {"call_ended", "item_done"}:
            self._sender.put(event)

    def flush(self, seconds: float = _END_SECONDS) -> bool:
        """Post the counts, waiting up to some seconds; return whether they were accepted. The end of the process does
        so.

        If a post is refused for good, this does not wait, because a later post contains it too.
        """
        return self._sender.flush(seconds)

    def close(self) -> None:
        """Stop sending; counts since the last post are dropped, so call `flush` first."""
        self._sender.close()


class _CountsBatch(NamedTuple):
    """The body of a post, and its counts with the time at which they began."""

    body: bytes
    counts: Mapping[str, _Counts]
    start: int


class _AllCounts:
    """The counts of one process: cumulative ones, or those since the last accepted post (`delta`)."""

    def __init__(self, resource: Mapping[str, Any], *, delta: bool) -> None:
        self._resource, self._delta = {"service.instance.id": str(uuid.uuid4()), **resource}, delta
        self._settings: dict[int, tuple[object, Attributes]] = {}
        self._counts, self._start = _metrics(), time.time_ns()
        self._is_new = False

    def __len__(self) -> int:
        return int(self._is_new)

    def add(self, thing: Event) -> int:
        """Count a call that ended, or a finished row; nothing is ever dropped for it."""
        if thing.what == "call_ended":
            self._take_call(thing)
        elif thing.item is not None:
            self._take_item(thing.item)
        self._is_new = True
        return 0

    def take(self) -> _CountsBatch:
        """Return the next post."""
        now = time.time_ns()
        metrics = [
            OTLPMetric(name, counts.unit, counts.description, points, counts.bounds)
            for name, counts in self._counts.items()
            if (points := list(counts.points()))
        ]
        body = metrics_request(self._resource, metrics, self._start, now, delta=self._delta)
        taken = _CountsBatch(body, self._counts, self._start)
        self._is_new = False
        if self._delta:
            self._counts, self._start = _metrics(), now
        return taken

    def give_back(self, batch: _CountsBatch, *, again: bool) -> int:
        """Count again what was not accepted; a later post contains it, even if this one was refused for good."""
        self._is_new, self._start = True, batch.start
        if self._delta:
            _merge(self._counts, batch.counts)
        return 0

    def _take_call(self, event: Event) -> None:
        attributes = self._of_request(event)
        if (completion := event.completion) is not None:
            if completion.model:
                attributes = {**attributes, "gen_ai.response.model": completion.model}
            if completion.usage is not None:
                tokens = self._counts["gen_ai.client.token.usage"]
                for kind, count in (("input", completion.usage.input), ("output", completion.usage.output)):
                    tokens.record((*attributes.items(), ("gen_ai.token.type", kind)), count)
        if event.error is not None:
            attributes = {**attributes, "error.type": event.error.code}
        self._counts["gen_ai.client.operation.duration"].record(tuple(attributes.items()), event.seconds or 0.0)

    def _take_item(self, item: Item[Any]) -> None:
        attributes = {name: value for name, value in self._of_request(item).items() if name in _OF_ROWS}
        key = tuple(attributes.items())
        failed: Key = () if item.error is None else (("error.type", item.error.code),)
        self._counts["llmtasker.rows"].add((*key, ("llmtasker.cached", item.cached), *failed), 1)
        if item.attempts > 1:
            self._counts["llmtasker.retries"].add(key, item.attempts - 1)
        if item.cost:
            self._counts["llmtasker.cost"].add(key, item.cost)

    def _of_request(self, of: Event | Item[Any]) -> Attributes:
        request = of.request
        if request is None:
            return {"gen_ai.operation.name": "chat"}
        settings = request.settings
        found = self._settings.get(id(settings))
        if found is None or found[0] is not settings:
            attributes: Attributes = {"gen_ai.operation.name": "chat", **endpoint_attributes(settings.endpoint)}
            if isinstance(model := settings.body.get("model"), str):
                attributes["gen_ai.request.model"] = model
            if len(self._settings) >= _SETS:
                self._settings.clear()
            found = self._settings[id(settings)] = settings, attributes
        return found[1]


def _merge(counts: Mapping[str, _Counts], more: Mapping[str, _Counts]) -> None:
    """Add counts that could not be sent to the newer ones."""
    for name, one in more.items():
        into = counts[name]
        for key, value in one.sums.items():
            into.add(key, value)
        for key, kept in one.distributions.items():
            found = into.distributions.setdefault(key, _Distribution([0] * len(kept.counts)))
            found.counts = [a + b for a, b in zip(found.counts, kept.counts, strict=True)]
            found.total += kept.total
            found.least, found.most = min(found.least, kept.least), max(found.most, kept.most)


def _is_delta() -> bool:
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    preference = os.environ.get(name, "").strip().lower() or "cumulative"
    if preference not in {"cumulative", "delta", "lowmemory"}:
        raise ConfigurationError(f"{name} is cumulative, delta or lowmemory, not {snippet(repr(preference), 40)}.")
    return preference != "cumulative"  # "lowmemory" is delta for what is counted here


def _interval() -> int:
    text = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or str(_INTERVAL)
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ConfigurationError(f"OTEL_METRIC_EXPORT_INTERVAL is in milliseconds, not {snippet(repr(text), 40)}.")
    return int(text)
