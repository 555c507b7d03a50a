"""LangChain: a task as a Runnable, for use in a chain (extra `[langchain]`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from llmtasker.errors import ConfigurationError, snippet
from llmtasker.item import Item
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.pipelines.used_values import llms_in
from llmtasker.portal import portal
from llmtasker.runner.call_settings import CallSettings
from llmtasker.runner.task_run import rows_at_once
from llmtasker.task import Task

try:
    from langchain_core.runnables import Runnable, RunnableConfig
except ModuleNotFoundError:
    raise ConfigurationError('a Runnable needs langchain-core: pip install "llmtasker[langchain]"') from None


def as_runnable(task: Task[Any] | Pipeline[Any, Any], *, concurrency: int | None = None) -> TaskRunnable:
    """Return a task, or a pipeline, as a Runnable: `prompt_input | as_runnable(task) | store`.

    It takes the inputs of the task, and returns `item.output`; a row that fails raises its error. `batch` is one run of
    the task, not a thread for each input: limits, cache and equal rows work as in `Task.run`.

    Args:
        concurrency: inputs of a batch that are processed at once, unless the config has `max_concurrency`; None: as for
            `Task.run`.

    >>> from llmtasker import Classification
    >>> chain = as_runnable(Classification(llm="offline", labels={"cat": "meows", "dog": "barks"}))
    >>> chain.invoke("it barks")
    'dog'
    """
    if not isinstance(task, Task | Pipeline):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a Runnable is made of a task or a pipeline, not of {snippet(repr(task), 60)}.")
    return TaskRunnable(task.whole() if isinstance(task, Pipeline) else task, concurrency)


class TaskRunnable(Runnable[Any, Any]):
    """A task as LangChain sees it; made by `as_runnable`."""

    def __init__(self, task: Task[Any] | Pipeline[Any, Any], concurrency: int | None) -> None:
        self.task = task
        self.name = task.signature.__name__
        self._concurrency = concurrency

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return the input half of the signature."""
        return self.task.signature.input_model

    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return the output half of the signature."""
        return self.task.signature.output_model

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's word
        """Return the outputs of many inputs, in order, as one run; `return_exceptions` returns errors in their
        places."""
        _none(kwargs)
        return self._call_with_config(self._one, input, config, run_type="chain")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Return the output of one input without blocking the event loop."""
        _none(kwargs)
        return await self._acall_with_config(self._aone, input, config, run_type="chain")

    def batch(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Return the outputs of many inputs, in order, as one run; with `return_exceptions`, errors in their places."""
        _none(kwargs)
        return self._batch_with_config(self._many, inputs, config, return_exceptions=return_exceptions)

    async def abatch(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Return the outputs of many inputs, in order, without blocking the event loop."""
        _none(kwargs)
        return await self._abatch_with_config(self._amany, inputs, config, return_exceptions=return_exceptions)

    def _one(self, given: Any, run_manager: Any, config: RunnableConfig) -> Any:
        return self.task(given, settings=_settings(config)).raise_for_error().output

    async def _aone(self, given: Any, run_manager: Any, config: RunnableConfig) -> Any:
        return (await self.task.acall(given, settings=_settings(config))).raise_for_error().output

    def _many(self, inputs: list[Any], run_manager: Any, config: list[RunnableConfig]) -> list[Any]:
        return portal().call(self._amany(inputs, run_manager, config))

    async def _amany(self, inputs: list[Any], run_manager: Any, config: list[RunnableConfig]) -> list[Any]:
        outputs: list[Any] = [None] * len(inputs)
        llms = llms_in(self.task.used) if isinstance(self.task, Pipeline) else [self.task.llm]
        gate = asyncio.Semaphore(rows_at_once(self._concurrency, llms))

        async def run(rows: list[int], options: dict[str, Any]) -> None:
            async with gate:
                _place(outputs, rows, await self.task.arun([inputs[at] for at in rows], **options))

        await asyncio.gather(*(run(rows, options) for rows, options in self._runs(config)))
        return outputs

    def _runs(self, configs: Sequence[RunnableConfig]) -> list[tuple[list[int], dict[str, Any]]]:
        """Return the runs of a batch, each with its rows: one, unless the configs have different tags or metadata."""
        runs: dict[str, tuple[list[int], dict[str, Any]]] = {}
        for at, config in enumerate(configs):
            concurrency = config.get("max_concurrency") or self._concurrency
            options = {"concurrency": concurrency, "settings": _settings(config), "progress": False}
            runs.setdefault(repr(options), ([], options))[0].append(at)
        return list(runs.values())


def _place(outputs: list[Any], rows: Sequence[int], items: Sequence[Item[Any]]) -> None:
    for at, item in zip(rows, items, strict=True):
        outputs[at] = item.output if item.error is None else item.error


def _settings(config: RunnableConfig) -> CallSettings | None:
    """Return the tags and metadata of a config as tags of the call."""
    tags: dict[str, Any] = dict(config.get("metadata") or {})
    if named := config.get("tags"):
        tags["langchain"] = list(named)
    return CallSettings(tags=tags) if tags else None


def _none(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise ConfigurationError(f"a task does not take {min(kwargs)!r}: bind variables with CallSettings instead.")
