"""ServedTasks: the tasks of a server by name, and tasks that callers describe in a request."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llmtasker.api.problem import Problem
from llmtasker.api.server_settings import ServerSettings
from llmtasker.confidence.source import ConfidenceSource
from llmtasker.errors import ConfigurationError, SignatureError, snippet
from llmtasker.jobs.job_state import Job
from llmtasker.jobs.pipeline_work import TaskLike
from llmtasker.jobs.typed_answers import TypedAnswers
from llmtasker.llm.llm import LLM
from llmtasker.pipelines.pipeline import Pipeline
from llmtasker.pipelines.used_values import llms_in
from llmtasker.task import Task
from llmtasker.tasks.classification import Classification
from llmtasker.tasks.instruction import Instruction
from llmtasker.values.json_values import canonical_json

_REMEMBERED = 64  # callers' tasks that are kept compiled
_MOST_LABELS = 1_000
_MOST_EXAMPLES = 200
_LONGEST = 20_000  # characters of instructions
_TYPES: dict[str, type] = {"text": str, "integer": int, "number": float, "boolean": bool}

Text = str


class LabelExample(BaseModel):
    """A text with its label, or its labels if several may fit."""

    model_config = ConfigDict(extra="forbid")

    text: str
    label: str | list[str]


class ClassificationDefinition(BaseModel):
    """A classification as a caller describes it; the arguments are those of `Classification`."""

    model_config = ConfigDict(extra="forbid")

    labels: list[str] | dict[str, str] = Field(
        max_length=_MOST_LABELS, description="the labels, or each label with what it means"
    )
    instructions: str | None = Field(None, max_length=_LONGEST, description="what to do; default: a generic prompt")
    examples: list[LabelExample] = Field(default_factory=list[LabelExample], max_length=_MOST_EXAMPLES)
    multi_label: bool = Field(default=False, description="several labels may fit")
    open_set: bool = Field(default=False, description="other labels may be proposed")
    allow_none: bool = Field(default=False, description="no label may fit")
    language: Literal["en", "fr"] = Field("en", description="the language of the generic prompt")
    confidence: ConfidenceSource | None = Field(None, description="how to determine the confidence of a label")
    model: str | None = Field(None, description="an LLM that the server offers; default: its own")

    def task(self, llm: LLM) -> Task[Any]:
        """Return the task."""
        return Classification(
            llm=llm,
            labels=self.labels,
            instructions=self.instructions,
            examples=[(one.text, one.label) for one in self.examples],
            multi_label=self.multi_label,
            open_set=self.open_set,
            allow_none=self.allow_none,
            language=self.language,
            confidence=self.confidence,
        )


class InstructionExample(BaseModel):
    """A text with its output: a text, or an object with the output fields."""

    model_config = ConfigDict(extra="forbid")

    text: str
    output: str | dict[str, Any]


class InstructionDefinition(BaseModel):
    """An instruction as a caller describes it; the arguments are those of `Instruction`."""

    model_config = ConfigDict(extra="forbid")

    instructions: str = Field(max_length=_LONGEST)
    output: dict[str, Literal["text", "integer", "number", "boolean"] | list[str]] | None = Field(
        None, max_length=50, description="output fields, each with its type or labels; default: the answer is a text"
    )
    examples: list[InstructionExample] = Field(default_factory=list[InstructionExample], max_length=_MOST_EXAMPLES)
    model: str | None = Field(None, description="an LLM that the server offers; default: its own")

    def task(self, llm: LLM) -> Task[Any]:
        """Return the task."""
        fields = {name: _type_of(kind) for name, kind in (self.output or {}).items()}
        return Instruction(
            llm=llm,
            instructions=self.instructions,
            output=fields or str,
            examples=[(one.text, one.output) for one in self.examples],
        )


Definition = ClassificationDefinition | InstructionDefinition
KINDS: dict[str, type[ClassificationDefinition] | type[InstructionDefinition]] = {
    "classification": ClassificationDefinition,
    "instruction": InstructionDefinition,
}


def _type_of(kind: str | list[str]) -> Any:
    if isinstance(kind, str):
        return _TYPES[kind]
    if not kind:
        raise ConfigurationError("an output field with labels needs at least one.")
    return Literal[tuple(kind)]  # pyright: ignore[reportInvalidTypeForm]


class ServedTasks:
    """The tasks of a server. A caller's description never contains a URL, a key or a path: only words and names."""

    def __init__(self, tasks: Mapping[str, TaskLike], settings: ServerSettings) -> None:
        for name, task in tasks.items():
            _check_served(name, task)
        self.by_name = dict(tasks)
        self._settings = settings
        self._llms: dict[str | None, LLM] = {}
        self._made: OrderedDict[str, Task[Any]] = OrderedDict()
        self._lock = threading.Lock()
        # A wrong name, key, proxy or certificate must not wait for the first caller.
        for model in (*([None] if settings.llm or os.environ.get("LLMTASKER_LLM") else []), *settings.models):
            self._llm(model)
        for llm in self.llms:
            _ = llm.transport

    @property
    def llms(self) -> list[LLM]:
        """The LLMs that are asked."""
        own = {id(llm): llm for task in self.by_name.values() for llm in _llms_of(task)}
        return [*own.values(), *(llm for llm in self._llms.values() if id(llm) not in own)]

    @property
    def own_llm(self) -> LLM | None:
        """The LLM of tasks that callers describe; None: there is none."""
        try:
            return self._llm(None)
        except ConfigurationError:
            return None

    def named(self, name: str) -> TaskLike:
        """Return a task or pipeline of the server.

        Raises:
            Problem: the server has no task with this name.
        """
        if name not in self.by_name:
            known = ", ".join(self.by_name) or "none"
            raise Problem("not-found", f"There is no task {snippet(name, 40)!r}; the server has {known}.")
        return self.by_name[name]

    def described(self, kind: str, definition: Definition) -> Task[Any]:
        """Return the task that a caller describes; equal descriptions are compiled once.

        Raises:
            Problem: the description is not a valid task, or names an LLM that is not offered.
        """
        key = canonical_json([kind, definition.model_dump(mode="json")])
        with self._lock:
            task = self._made.pop(key, None)
            try:
                task = task or self._observed(definition.task(self._llm(definition.model)))
            except (ConfigurationError, SignatureError) as error:
                raise Problem("invalid", str(error)) from None
            self._made[key] = task
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return task

    def of_job(self, job: Job) -> TaskLike:
        """Return the task of a job.

        Raises:
            ConfigurationError: the server no longer has it.
        """
        if job.definition is None:
            if job.task not in self.by_name:
                raise ConfigurationError(f"the server no longer has the task {job.task!r}.")
            return self.by_name[job.task]
        try:
            return self.described(job.task, KINDS[job.task].model_validate(dict(job.definition)))
        except Problem as problem:
            raise ConfigurationError(problem.detail) from None

    def typed_answers(self, job: Job) -> TypedAnswers | None:
        """Return the types of the answers of a job; None: the server no longer has its task."""
        try:
            return TypedAnswers(self.of_job(job).signature)
        except ConfigurationError:
            return None

    def _observed(self, task: Task[Any]) -> Task[Any]:
        observers = [*task.plan.observers, *self._settings.observers]
        return task.with_(observers=observers) if observers else task

    def _llm(self, model: str | None) -> LLM:
        if model is not None and model not in self._settings.models:
            raise Problem("invalid", f"model: {snippet(model, 60)!r} is not offered; leave it out{self._offered()}.")
        if model not in self._llms:
            own = self._settings.llm or next((llm for task in self.by_name.values() for llm in _llms_of(task)), None)
            self._llms[model] = LLM.of(own if model is None else model)
        return self._llms[model]

    def _offered(self) -> str:
        return f", or choose one of {', '.join(self._settings.models)}" if self._settings.models else ""


def _check_served(name: str, task: object) -> None:
    if not name.isidentifier() or not isinstance(task, Task | Pipeline):
        raise ConfigurationError(
            f"tasks: {snippet(name, 40)!r} must be a name, and its value a Task or a pipeline, not a "
            f"{type(task).__name__}."
        )
    if isinstance(task, Pipeline) and task.explodes:
        raise ConfigurationError(
            f"{task!r} has several outputs for an input: serve it without explode=True, with the list as its output."
        )


def _llms_of(task: TaskLike) -> list[LLM]:
    return llms_in(task.used) if isinstance(task, Pipeline) else [task.llm]
