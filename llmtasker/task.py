"""Task: signature + LLM + examples; call it, run it over many inputs, preview it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, Unpack

from llmtasker.cache import open_cache
from llmtasker.cache.store import CompleteStore
from llmtasker.compiler.chosen_examples import ChosenExamples
from llmtasker.compiler.columns import Columns
from llmtasker.compiler.program import Program
from llmtasker.errors import ConfigurationError, InputError, nearest
from llmtasker.item import Item, jsonable
from llmtasker.llm.llm import LLM
from llmtasker.plan import Plan, SignaturePlan, TaskOptions
from llmtasker.runner.batch.file_limits import MOST_BYTES, MOST_ROWS
from llmtasker.runner.budget import Budget
from llmtasker.runner.call_settings import NO_SETTINGS, CallSettings, InputOptions, columns_of, settings_of
from llmtasker.runner.policy import Fresh, Policy
from llmtasker.runner.row_scope import check_awaited, in_place_of, in_scope
from llmtasker.runner.steps import Steps, run_blocking
from llmtasker.signature.signature import S, Signature
from llmtasker.task_data import TaskData
from llmtasker.values.argument_checks import check_names
from llmtasker.wire.request import Preview

if TYPE_CHECKING:  # loaded where they are used: a lone blocking call needs neither an event loop nor a run
    from llmtasker.cache.async_store import AsyncStore
    from llmtasker.results import Results
    from llmtasker.runner.batch.job import BatchJob
    from llmtasker.runner.batch.submit import BatchSubmitter
    from llmtasker.runner.estimate import Estimate
    from llmtasker.runner.grouping.report import GroupReport
    from llmtasker.runner.inputs import InputRows
    from llmtasker.runner.task_run import RunOptions, RunSettings, StreamOptions

T = TypeVar("T")

NOT_GIVEN: Any = object()


class Task(TaskData[T]):
    """A signature that an LLM fills: call it for one input, `run` it over many.

    Args:
        signature: the inputs and outputs; its docstring is the instructions.
        llm: an LLM, or what `LLM.of` accepts; None: the one that LLMTASKER_LLM names.
        examples: records of the signature, or mappings with all its fields; `nearest(pool, 8)` and similar functions of
            `llmtasker.evaluation` choose examples for each input from a pool.
        variables: values for the task's own {variables} in the instructions.
        examples_role: "turns", "system" or "user"; None: where {examples} is, else turns.
        input_role: the role of the message with the input.
        mode: how the answer is requested; "auto" uses function calls, or what the endpoint supports.
        reasoning: ask for reasoning before the other outputs; it is in `item.reasoning`.
        language: the language of the sentences added to the instructions, "en" or "fr"; `preview` shows them.
        attempts: the most answers to ask for when they do not fit, each time with the reason.
        cache: replaces the LLM's cache: False, a folder, the URL of a Redis, or a store.
        group_size: inputs that `run` and `stream` put in one message; each answer goes to its own input. "auto" (or an
            AutoGroup, with its bounds) finds the largest size that answers a sample like one call per row.
        confidence: how sure each label is, in `item.confidence`: "votes" (several answers), "stated" (asked for),
            "logprobs" (of a token), "label_scores" (of a form, by llama.cpp) or a Confidence, with its settings.
        observers: functions that receive an `Event` for each call, item and run; their failures do not affect rows.

    Raises:
        ConfigurationError: there is no LLM, an example does not fit, a variable is unknown.

    >>> from typing import Literal
    >>> from llmtasker import LLM, InputField, OutputField, Signature
    >>> class Sentiment(Signature):
    ...     "Say how the customer feels."
    ...     text: str = InputField()
    ...     mood: Literal["glad", "angry"] = OutputField()
    >>> task = Task(Sentiment, llm=LLM("offline", cache=False), examples=[
    ...     Sentiment(text="Merci, c'est parfait !", mood="glad"),
    ...     Sentiment(text="C'est une honte.", mood="angry")])
    >>> task("Merci, parfait").output.mood
    'glad'
    """

    _plan_class: ClassVar[type[Plan]] = SignaturePlan

    def __init__(
        self: Task[S],
        signature: type[S],
        *,
        llm: Any = None,
        examples: Iterable[S | Mapping[str, Any]] | ChosenExamples = (),
        **options: Unpack[TaskOptions],
    ) -> None:
        plan = SignaturePlan.of(type(self).__name__, {"signature": signature, "examples": examples, **options})
        self._build(plan, LLM.of(llm))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, signature: type[Signature] | None = None, llm: Any = None) -> Self:
        """Return the task that `save` wrote. Nothing in the file is run or imported.

        `signature` is the class that the task was declared with; it is checked. A signature made from plain types by
        `Signature.make` is rebuilt and need not be passed.

        Raises:
            ConfigurationError: the file is not a valid task file, contains another kind of task, was saved with another
                signature, or has a later format.
        """
        return cls._load(path, llm, {"signature": signature})

    @cached_property
    def store(self) -> CompleteStore | None:
        """The store of answers: the task's own cache, or that of its LLM."""
        return self.llm.store if self.plan.cache is None else open_cache(self.plan.cache)

    @cached_property
    def _async_store(self) -> AsyncStore | None:
        from llmtasker.cache.async_store import async_store

        return None if self.store is None else async_store(self.store)

    def answer(self, item: Item[Any]) -> dict[str, Any]:
        """Return the output of an item as JSON, by field of the signature.

        >>> from llmtasker import Classification
        >>> task = Classification(llm="offline", labels={"cat": "meows, purrs", "dog": "barks, howls"})
        >>> task.answer(task("it barks"))
        {'label': 'dog'}
        """
        output, fields = jsonable(item.output), self.signature.output_fields
        if isinstance(item.output, Signature) or (self.plan.as_dict and item.ok):
            return {name: output[name] for name in fields}
        return dict.fromkeys(fields, output)  # a ready-made task shows its one field without the record

    def _present(self, record: Any) -> T:
        """Return the part of a record that users see as `item.output`."""
        output: T = record
        return output

    def _current_program(self) -> Program[Any]:
        """Return the program of a call or run that begins now."""
        return self.program

    def _input_of(self, given: Any, fields: Mapping[str, Any]) -> Any:
        known = self.signature.input_fields
        for name in fields:
            if name not in known:
                place = self.plan.places().get(name)
                hint = f": {place}." if place else f".{nearest(name, known)} The fields are {', '.join(known)}."
                raise TypeError(f"there is no input field {name!r}{hint}")
        if given is NOT_GIVEN:
            return dict(fields)
        if fields:
            raise TypeError(f"give one input, or its fields as keywords, not both: {', '.join(fields)}")
        return given

    def _policy(
        self, fresh: Fresh = False, budget: Budget | None = None, **options: Unpack[InputOptions]
    ) -> Policy[Any, T]:
        if fresh is not False or budget is not None or any(option is not None for option in options.values()):
            settings = settings_of(options.get("settings"))
            columns = columns_of(options.get("columns"), options.get("row_variables"))
            return self._new_policy(fresh, budget, settings, columns)
        usual = self._usual  # most calls have no settings
        if usual is None or usual.llm is not self.llm or usual.program is not self._current_program():
            usual = self._usual = self._new_policy(fresh, budget, NO_SETTINGS, None)
        return usual

    def _new_policy(
        self, fresh: Fresh, budget: Budget | None, settings: CallSettings, columns: Columns | None
    ) -> Policy[Any, T]:
        program = self._current_program()
        if settings.variables or settings.examples is not None:
            examples, selection = (None, None) if settings.examples is None else self.plan.chosen(settings.examples)
            program = program.with_settings(settings.variables, examples, selection)
        policy: Policy[Any, T] = Policy(
            program=program if columns is None else program.bind(columns),
            llm=settings.llm or self.llm,
            present=self._present,
            attempts=self.plan.attempts,
            fresh=fresh,
            budget=budget,
            tags=settings.tags,
            sample=settings.sample,
        )
        if (sure := self.plan.confidence_settings) is None:
            return policy
        from llmtasker.confidence.confident_policy import confident

        return confident(policy, sure)

    def _store_of(self, llm: LLM) -> CompleteStore | None:
        return self.store if llm is self.llm or self.plan.cache is not None else llm.store

    def _steps(self, given: Any, policy: Policy[Any, T]) -> Steps[Item[T]]:
        steps, events = in_scope(policy).ask(given), self._observers.begin(policy.tags, self.signature)
        return steps if events is None else events.single(steps)

    def __call__(
        self, given: Any = NOT_GIVEN, /, *, fresh: Fresh = False, settings: CallSettings | None = None, **fields: Any
    ) -> Item[T]:
        """Return the item of one input: a value, a mapping, a record, or the input fields as keywords.

        `fresh=True` asks even if the answer is cached; "invalid" only if the cached one no longer fits. `settings`
        apply to this call only; pass an input field named `settings` or `fresh` in a mapping.

        Raises:
            ConfigurationError: the set-up is wrong. Failures of the endpoint or the input are in `item.error`.
        """
        check_awaited()
        self = in_place_of(self)  # noqa: PLW0642 - in a pipeline, it may be another task
        policy = self._policy(fresh, settings=settings)
        store = self._store_of(policy.llm)
        return run_blocking(self._steps(self._input_of(given, fields), policy), policy.llm.transport, store)

    async def acall(
        self, given: Any = NOT_GIVEN, /, *, fresh: Fresh = False, settings: CallSettings | None = None, **fields: Any
    ) -> Item[T]:
        """Return the item of one input, without blocking the event loop; see `__call__`."""
        from llmtasker.runner.awaiting import run_awaiting
        from llmtasker.runner.task_run import prepare

        self = in_place_of(self)  # noqa: PLW0642 - in a pipeline, it may be another task
        policy = self._policy(fresh, settings=settings)
        steps = self._steps(self._input_of(given, fields), policy)
        store = await prepare(policy.llm, policy.program, self._async_store_of)
        return await run_awaiting(steps, policy.llm.transport, store)

    def _async_store_of(self, llm: LLM) -> AsyncStore | None:
        if llm is self.llm:
            return self._async_store
        from llmtasker.cache.async_store import async_store

        store = self._store_of(llm)
        return None if store is None else async_store(store)

    def run(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, even where some fail.

        Also works in a notebook and a running event loop.

        Args:
            inputs: an iterable of values, mappings or records, or a table, such as a data frame.
            concurrency: the most inputs that are processed at once; None: 32, or the `max_concurrency` of the LLM, if
                that is larger.
            progress: True (a bar, needs `[progress]`), False, None (a bar in a terminal or notebook, if tqdm is
                installed), or a function that is called with a `Progress`.
            fresh: which cached answers to ask for again: True, all; "invalid", those that no longer fit.
            budget: the most that the run may cost; rows that it does not cover get a BudgetError.
            columns: the column of each input field whose column has another name.
            row_variables: the column of a variable, or of the labels of an output field (or of "classes"), which
                then replace the task's in that row.
            settings: a `CallSettings` for all rows.

        Raises:
            ConfigurationError: the set-up is wrong, or all rows lack the same column.
        """
        from llmtasker.portal import portal

        return portal().call(self.arun(inputs, **options))

    async def arun(self, inputs: InputRows, **options: Unpack[RunOptions]) -> Results[T]:
        """Return an item for each input, in order, without blocking the event loop; see `run`."""
        from llmtasker.results import Results
        from llmtasker.runner.inputs import check_rows, table_of
        from llmtasker.runner.task_run import RunSettings

        items: list[Item[T]] = []
        settings, given = RunSettings.of_run(options), table_of(inputs)
        async for batch in self._batches(inputs if given is None else given, settings):
            items += batch
        if items and all(isinstance(item.error, InputError) for item in items):
            # For rows that can be read only once, it is known now.
            columns = columns_of(settings.columns, settings.row_variables)
            check_rows([item.input for item in items], self.signature, columns)
        return Results(items, fields=tuple(self.program.signature.output_fields), given=given)

    def stream(self, inputs: InputRows, **options: Unpack[StreamOptions]) -> Iterator[Item[T]]:
        """Yield items from any iterable; memory stays constant.

        Args:
            inputs, options: as for `run`.
            ordered: yield the items in the order of the inputs, not as they are done.
        """
        from llmtasker.runner.streamed import streamed
        from llmtasker.runner.task_run import RunSettings

        return streamed(self._batches(inputs, RunSettings.of_stream(options)))

    def astream(self, inputs: InputRows, **options: Unpack[StreamOptions]) -> AsyncIterator[Item[T]]:
        """Yield items as they are done, or in order, from any iterable or async iterable. See `run`."""
        from llmtasker.runner.streamed import astreamed
        from llmtasker.runner.task_run import RunSettings

        return astreamed(self._batches(inputs, RunSettings.of_stream(options)))

    def _batches(self, inputs: InputRows, settings: RunSettings) -> AsyncGenerator[list[Item[T]]]:
        from llmtasker.runner.task_run import run_task

        self = in_place_of(self)  # noqa: PLW0642 - in a pipeline, it may be another task
        policy = in_scope(
            self._policy(
                settings.fresh,
                settings.budget,
                settings=settings.settings,
                columns=settings.columns,
                row_variables=settings.row_variables,
            )
        )
        same_words = policy.program.source is self.program.source
        groups = self._groups if same_words else self._groups.of(policy.program)
        return run_task(inputs, settings, policy, groups, self._async_store_of, self._observers)

    @property
    def group_report(self) -> GroupReport | None:
        """The result of grouping in the latest run (calls, tokens saved, size and reason); None: no groups."""
        return self._groups.report

    def estimate(self, inputs: Any, **options: Unpack[InputOptions]) -> Estimate:
        """Return an estimate of a run over these inputs: rows, calls, tokens and cost. Nothing is sent; see `run`.

        Raises:
            ConfigurationError: the inputs are an async iterable, or not an iterable, or all lack the same column.
        """
        from llmtasker.runner.estimate import estimate
        from llmtasker.runner.inputs import check_rows, rows_of

        policy = self._checked_policy("estimate", options)
        program = policy.program
        rows = rows_of(inputs, program.columns)
        check_rows(rows, program.signature, program.columns)
        if not isinstance(rows, Iterable):
            raise ConfigurationError(
                "estimate reads the inputs before the run does: give them as a list or an iterable."
            )
        return estimate(policy, self._store_of(policy.llm), rows, self._groups)

    def submit(
        self,
        inputs: Any,
        *,
        max_rows: int = MOST_ROWS,
        max_bytes: int = MOST_BYTES,
        **options: Unpack[InputOptions],
    ) -> BatchJob[T]:
        """Submit many inputs to the provider's batch API, which answers within a day and at a lower price.

        Only rows that are neither cached nor in progress in an earlier job are sent, each distinct one once; if none
        are left, that job is returned. A file has at most `max_rows` and `max_bytes`; more rows become several
        batches of the job. For `columns`, `row_variables` and `settings` see `run`.

        Raises:
            ConfigurationError: the LLM has no batch API, there is no cache, or all rows lack the same column.
            CallError: the provider refuses.
        """
        from llmtasker.runner.batch.job import BatchJob

        submitter = self._submitter("submit", options)
        return BatchJob(submitter, submitter.submit(inputs, max_rows=max_rows, max_bytes=max_bytes))

    def batch(self, job_id: str | None = None, **options: Unpack[InputOptions]) -> BatchJob[T]:
        """Return the batch job with an id, in any later process; None: the latest of this task, unchanged, and LLM.

        Its rows are read as they were submitted: give the same `columns`, `row_variables` and `settings`.

        Raises:
            ConfigurationError: there is none.
        """
        from llmtasker.runner.batch.job import BatchJob

        submitter = self._submitter("batch", options)
        return BatchJob(submitter, submitter.find(job_id))

    def _submitter(self, call: str, options: InputOptions) -> BatchSubmitter[Any, T]:
        from llmtasker.runner.batch.submit import BatchSubmitter

        policy = self._checked_policy(call, options)
        if self.plan.confidence_settings is not None:
            raise ConfigurationError(
                "a batch asks once for each row, so it has no confidence: use with_(confidence=None)."
            )
        store = self._store_of(policy.llm)
        if store is None:
            raise ConfigurationError("a batch needs a cache to keep its answers: give cache=True, a folder or a store.")
        return BatchSubmitter(policy=policy, store=store)

    def _checked_policy(self, call: str, options: InputOptions) -> Policy[Any, T]:
        check_names(call, options, tuple(InputOptions.__annotations__))
        return self._policy(**options)

    def preview(self, given: Any = NOT_GIVEN, /, *, settings: CallSettings | None = None, **fields: Any) -> Preview:
        """Return exactly what would be sent for an input: messages, schema and settings.

        Raises:
            InputError: the input does not fit the signature.
        """
        policy = self._policy(settings=settings)
        program, llm = policy.program, policy.llm
        inputs = program.validate(self._input_of(given, fields))
        request = llm.capabilities.request(lambda mode: program.render(inputs, llm.settings, mode), program.asked)
        return Preview(request=request, notes=tuple(llm.capabilities.notes))
