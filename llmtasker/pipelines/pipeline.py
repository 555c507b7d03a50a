"""pipeline: a plain async function over tasks, which is called and run like one task."""

from __future__ import annotations

import copyreg
import inspect
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, update_wrapper
from types import FrameType
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.item import Item, sum_of
from llmtasker.llm.llm import LLM
from llmtasker.pipelines.arguments import Arguments, types_of
from llmtasker.pipelines.pipeline_run import RowWorker, run_rows
from llmtasker.pipelines.returned import Returned
from llmtasker.pipelines.sent_function import arrived_function, held, sent_function
from llmtasker.pipelines.storable_kind import check_kind, check_no_bytes
from llmtasker.pipelines.used_values import check_replacements, llms_in, replaced_pairs, tasks_in, used_within
from llmtasker.portal import portal
from llmtasker.result_table import free_names
from llmtasker.results import Results
from llmtasker.runner.call_settings import CallSettings, columns_of, settings_of
from llmtasker.runner.events import Observer
from llmtasker.runner.inputs import InputRows, table_of
from llmtasker.runner.observers import Observers
from llmtasker.runner.policy import Fresh
from llmtasker.runner.row_scope import RunScope, check_awaited, current_row
from llmtasker.runner.streamed import astreamed, streamed
from llmtasker.runner.task_run import RunOptions, RunSettings, StreamOptions
from llmtasker.signature.signature import Signature
from llmtasker.values.broken_row import BrokenRow

R = TypeVar("R")
T = TypeVar("T")

Function = Callable[..., Coroutine[Any, Any, R]]


_NOT_GIVEN: Any = object()
_PATIENCE = 3600.0  # seconds for a row: longer than any wait for an endpoint


class Pipeline(Generic[R, T]):
    """An async function over tasks: call it for one input, `run` it over many; made by `pipeline`.

    The items of the tasks that it calls are in `item.steps`; their tokens, costs and calls are those of the item.
    Caches, limits and retries are those of the tasks.
    """

    def __init__(
        self,
        function: Function[R],
        *,
        explode: bool = False,
        version: str | None = None,
        timeout: float = _PATIENCE,
        observers: Iterable[Observer] = (),
        frame: FrameType | None = None,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        if not (inspect.isfunction(function) and inspect.iscoroutinefunction(function)):
            raise ConfigurationError(
                f"a pipeline is an async function (async def …), not {snippet(repr(function), 60)}."
            )
        if isinstance(timeout, bool) or not timeout > 0:
            raise ConfigurationError(f"timeout is the seconds that a row may take, above 0, not {timeout!r}.")
        if version is not None and not (isinstance(version, str) and version.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f'version is a text such as "3", not {version!r}.')
        self._types = types = types_of(function, frame) if types is None else types
        self.version = version
        self.code = version or secrets.token_hex(16)
        """Identifies the code of the function: its version, or else a text that is unique to this pipeline."""
        self._function, self._explode, self._timeout = function, explode, float(timeout)
        self._arguments = Arguments(function, types)
        self._returned = Returned(function.__name__, types.get("return", Any), explode=explode)
        self._observers = Observers(observers)
        self._llms = dict[tuple[str, Any], LLM]()
        self.replaced = dict[str, Any]()
        """The tasks that are called in place of others, by the names of these."""
        update_wrapper(self, function)
        self.sent = sent_function(function)
        """The function in the form in which it is pickled."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        function: Any = self._function
        found = held(function)
        if found is self and function.__module__ != "__main__":
            return str(function.__qualname__)  # found by its name, like a function
        sent = function if found in (None, function) else self.sent
        options = {"version": self.version, "explode": self._explode, "timeout": self._timeout}
        return (
            copyreg.__newobj__,  # type: ignore[attr-defined]
            (type(self),),
            (sent, self.code, {**options, "observers": self.observers, "types": self._types}, self.replaced),
        )

    def __setstate__(self, state: tuple[Any, str, dict[str, Any], dict[str, Any]]) -> None:
        function, code, options, replaced = state
        made = Pipeline[R, T](arrived_function(function), **options)
        self.__dict__.update(made.__dict__, code=code, replaced=replaced)

    @cached_property
    def signature(self) -> type[Signature]:
        """The fields of the inputs and outputs as a signature, by which `evaluate` reads gold.

        An output field with the name of an input field gets the prefix "llm_".

        Raises:
            SignatureError: a field has a name that a signature can't have, or a type that files can't hold.
        """
        fields, outputs, names = self._arguments.fields, self._returned.fields, self._names
        for name, (kind, _) in [*fields.items(), *outputs.items()]:
            check_kind(self._function.__name__, name, kind)
        for name, (kind, _) in outputs.items():
            check_no_bytes(self._function.__name__, name, kind)
        return Signature.make(
            self._function.__name__,
            instructions=inspect.getdoc(self._function) or self._function.__name__,
            inputs=fields,
            outputs={names[name]: declared for name, declared in outputs.items()},
        )

    def observed(self, *observers: Observer) -> Pipeline[R, T]:
        """Return this pipeline with more observers, which receive the events of runs and of all steps.

        Raises:
            ConfigurationError: one is not a plain function.
        """
        return self._copy(_observers=Observers([*self._observers.given, *observers]))

    def with_tasks(self, **tasks: Any) -> Pipeline[R, T]:
        """Return this pipeline with other tasks in place of some, by the names that these have in `tasks`.

        >>> from llmtasker import Classification, pipeline
        >>> topic = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"})
        >>> @pipeline
        ... async def sound(text: str) -> str:
        ...     return f"a {(await topic.acall(text)).value}"
        >>> sound.with_tasks(topic=topic.with_(labels={"cat": "meows", "wolf": "howls"}))("it howls").output
        'a wolf'

        Raises:
            ConfigurationError: no task has such a name, or one has other fields than the one in its place.
        """
        check_replacements(repr(self), self.tasks, tasks)
        return self._copy(replaced={**self.replaced, **tasks})

    def whole(self) -> Pipeline[R, Any]:
        """Return this pipeline without `explode`: one item for each input, whose output is the list."""
        return self._copy(_explode=False)

    def _copy(self, **changes: Any) -> Pipeline[R, T]:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    @property
    def observers(self) -> list[Observer]:
        """The observers of this pipeline."""
        return self._observers.given

    @property
    def explodes(self) -> bool:
        """Whether `run` makes one item from each member of the returned list."""
        return self._explode

    @property
    def used(self) -> Iterator[tuple[str, Any]]:
        """The names in the code of the function, of helpers and of pipelines that it calls, with their values."""
        return ((name, self.replaced.get(name, value)) for name, value in used_within(self, set()))

    @property
    def tasks(self) -> dict[str, Any]:
        """The tasks in the code, by name; those of a pipeline that it calls as "pipeline: name"."""
        return tasks_in(self.used)

    def answer(self, item: Item[Any]) -> dict[str, Any]:
        """Return the output of an item as JSON, by field of the signature."""
        return self.answer_of(item.output)

    def answer_of(self, output: Any) -> dict[str, Any]:
        """Return an output, or with `explode` a member of one, as JSON, by field of the signature."""
        return self._named(self._returned.values(output))

    def cells_of(self, output: Any) -> dict[str, Any]:
        """Return the values of an output, or with `explode` of a member of one, by field of the signature."""
        return self._named(self._returned.parts(output))

    def inputs_of(self, output: Any) -> dict[str, Any]:
        """Return the input fields of an output that is a record of a signature, as JSON."""
        return self._returned.inputs(output)

    def output_of(self, answer: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> Any:
        """Return the output with a stored answer, validated by its class with the `inputs` that it has.

        Raises:
            ValueError: the class does not accept the answer now.
        """
        values = {name: answer.get(named) for name, named in self._names.items()}
        return self._returned.stand_in(values) if inputs is None else self._returned.of_values(values, inputs)

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {self._names[name]: value for name, value in values.items()}

    @cached_property
    def _names(self) -> dict[str, str]:
        """The name in the signature of each field of an output."""
        return free_names(self._returned.fields, self._arguments.fields)

    def answer_cost(self, item: Item[Any]) -> float | None:
        """Return the cost of the answers of an item's steps, including cached ones; None: a price is not known."""
        return sum_of(self._step_cost(step) for step in item.steps)

    def _step_cost(self, step: Item[Any]) -> float | None:
        if step.steps:
            return self.answer_cost(step)
        if not (step.cached and step.answer_usage.total):
            return step.cost
        settings = None if step.request is None else step.request.settings
        llm = None if settings is None else self._llms.get((settings.endpoint, settings.body.get("model")))
        return None if llm is None else llm.cost(step.answer_usage)

    def __call__(
        self, given: Any = _NOT_GIVEN, /, *, fresh: Fresh = False, settings: CallSettings | None = None, **fields: Any
    ) -> Item[R]:
        """Return the item of one input: a value, a mapping, or its fields or the function's parameters as keywords.

        Raises:
            ConfigurationError: the set-up is wrong. Other failures (endpoint, input, function) are in `item.error`.
        """
        check_awaited()
        return portal().call(self.acall(given, fresh=fresh, settings=settings, **fields))

    async def acall(
        self, given: Any = _NOT_GIVEN, /, *, fresh: Fresh = False, settings: CallSettings | None = None, **fields: Any
    ) -> Item[R]:
        """Return the item of one input, without blocking the event loop; see `__call__`."""
        if given is _NOT_GIVEN:
            given = self._arguments.of_keywords(fields)
        elif fields:
            raise TypeError(f"give one input, or its fields as keywords, not both: {', '.join(fields)}")
        worker = self._worker(RunSettings(fresh=fresh, settings=settings))
        events = worker.scope.events = self._observers.begin(worker.tags, worker.function.__name__)
        item = await worker.item(0, given)
        if events is not None:
            events.done(0, item)
        self._know(worker.scope)
        return item

    def run(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, even where some fail; with `explode`, one for each output.

        The options are those of `Task.run`, except `row_variables`; `settings` may have tags and a sample. The
        `budget` covers the calls of all steps, and `fresh` applies to all of them. With `explode`, the first item
        carries the cost of the row.

        Raises:
            ConfigurationError: the set-up is wrong, or all rows lack the same column.
        """
        return portal().call(self.arun(inputs, **options))

    async def arun(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, without blocking the event loop; see `run`."""
        items: list[Item[T]] = []
        settings, given = RunSettings.of_run(options), table_of(inputs)
        async for batch in self._batches(inputs if given is None else given, settings):
            items += batch
        whole = [item for item in items if not isinstance(item.input, BrokenRow)]
        details = [{} if item.error is None else item.error.details for item in whole]
        missing = {None if "step" in one else one.get("missing") for one in details}
        if len(missing) == 1 and None not in missing:
            error = next(item.error for item in whole if item.error is not None)
            raise ConfigurationError(f"no row fits: {error.message}")
        returned = self._returned
        return Results(items, fields=tuple(returned.fields), bare=returned.bare, given=given)

    def stream(self, inputs: InputRows, **options: Unpack[StreamOptions]) -> Iterator[Item[T]]:
        """Yield items as they are done, or in order, from any iterable; memory stays constant. See `run`."""
        return streamed(self._batches(inputs, RunSettings.of_stream(options)))

    def astream(self, inputs: InputRows, **options: Unpack[StreamOptions]) -> AsyncIterator[Item[T]]:
        """Yield items as they are done, or in order, from any iterable or async iterable. See `run`."""
        return astreamed(self._batches(inputs, RunSettings.of_stream(options)))

    async def _batches(self, inputs: InputRows, settings: RunSettings) -> AsyncGenerator[list[Item[T]]]:
        worker = self._worker(settings)
        worker.scope.breakers = {} if worker.scope.breakers is None else worker.scope.breakers
        async for batch in run_rows(inputs, settings, worker, self._observers, llms_in(self.used)):
            yield [one for item in batch for one in _exploded(item)] if self._explode else batch
        self._know(worker.scope)

    def _worker(self, settings: RunSettings) -> RowWorker:
        own = settings_of(settings.settings)
        if settings.row_variables or own.variables or own.examples is not None or own.llm is not None:
            raise ConfigurationError(
                f"variables, examples and LLMs belong to the tasks that {self._function.__name__} calls: give them "
                "there, as settings=CallSettings(…); a pipeline takes tags and sample only."
            )
        columns = columns_of(settings.columns, None)
        known = self._arguments.fields
        if columns is not None and (unknown := columns.fields.keys() - known.keys()):
            raise ConfigurationError(f"columns: there is no field {min(unknown)!r}; the fields are {', '.join(known)}.")
        outer = current_row.get()
        scope = RunScope() if outer is None else outer.run
        return RowWorker(
            function=self._function,
            arguments=self._arguments,
            returned=self._returned,
            timeout=self._timeout,
            scope=scope.inner(settings.fresh, settings.budget, own.sample, replaced_pairs(self)),
            replaced=self.replaced,
            columns={} if columns is None else columns.fields,
            tags=own.tags,
        )

    def _know(self, scope: RunScope) -> None:
        """Remember the LLMs that were used, for the prices of cached answers."""
        for llm in list(scope.llms):
            self._llms[llm.settings.endpoint, llm.settings.body.get("model")] = llm

    def __repr__(self) -> str:
        return f"pipeline({self._function.__qualname__})"


def _exploded(item: Item[Any]) -> list[Item[Any]]:
    """Return an item for each output, at least one; the first carries their whole cost."""
    if not item.ok:
        return [item]
    outputs: list[Any] = item.value or [None]
    rest: dict[str, Any] = {"input": item.input, "cached": item.cached, "tags": item.tags, "cost": 0.0}
    return [replace(item, output=outputs[0]), *(Item(output=output, **rest) for output in outputs[1:])]


@overload
def pipeline(function: Function[R], /) -> Pipeline[R, R]: ...
@overload
def pipeline(
    *,
    explode: Literal[False] = False,
    version: str | None = None,
    timeout: float = ...,
    observers: Iterable[Observer] = ...,
) -> Callable[[Function[R]], Pipeline[R, R]]: ...
@overload
def pipeline(
    *, explode: Literal[True], version: str | None = None, timeout: float = ..., observers: Iterable[Observer] = ...
) -> Callable[[Function[list[T]]], Pipeline[list[T], T]]: ...
def pipeline(
    function: Any = None,
    /,
    *,
    explode: bool = False,
    version: str | None = None,
    timeout: float = _PATIENCE,
    observers: Iterable[Observer] = (),
) -> Any:
    """Make a pipeline of an async function over tasks, which is called, run and measured like one task.

    The function gets one input and returns its output. A task is called with `acall`; `.value` of its item is the
    output, or raises the error of the step, which becomes the error of this row alone.

    Args:
        function: takes one input: a Pydantic model, a value, or one parameter for each column.
        explode: the function returns a list, and `run` and `stream` make one item from each member; an empty list
            gives one item with the output None.
        version: the version of the code, such as "3"; change it when you change the code. A resumed file or job uses
            it to recognise finished rows; without one, all rows run again, with the cached answers of the steps.
        timeout: seconds that a row may take, with all its calls and waits.
        observers: receive the events of runs, of the calls of all steps, and "step_done" with the item of each step.

    Raises:
        ConfigurationError: it is not an async function, or a parameter can't be given by name.

    >>> from llmtasker import Classification
    >>> topic = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"})
    >>> @pipeline
    ... async def sound(text: str) -> str:
    ...     return f"a {(await topic.acall(text)).value}"
    >>> sound("it barks").output
    'a dog'
    """
    caller = inspect.currentframe()
    frame = None if caller is None else caller.f_back

    def make(function: Function[Any]) -> Pipeline[Any, Any]:
        return Pipeline(function, explode=explode, version=version, timeout=timeout, observers=observers, frame=frame)

    return make if function is None else make(function)
