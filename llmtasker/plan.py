"""Plan: what a task was made from, except its LLM, as one frozen value.

Each kind of task has its own plan class. `Task.with_`, `save`, `load`, pickling and `repr` follow from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypedDict, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from llmtasker.cache.open_cache import accepted
from llmtasker.cache.store import Store
from llmtasker.compiler.chosen_examples import ChosenExamples, Selection
from llmtasker.compiler.program import Program, compile_program
from llmtasker.compiler.prompt import ExamplesRole, InputRole, Prompt
from llmtasker.errors import ConfigurationError, describe, snippet
from llmtasker.runner.grouping.auto_group import AutoGroup
from llmtasker.runner.grouping.group_plan import GroupSize
from llmtasker.signature.declaration_hint import declaration_hint
from llmtasker.signature.signature import Signature
from llmtasker.signature.signature_schema import (
    differences,
    fields_of,
    labels_of,
    make_signature,
    signature_hash,
    why_not_made_again,
)
from llmtasker.task_file import VERSION, Document
from llmtasker.values.argument_checks import check_choice, check_count, check_names
from llmtasker.values.json_values import canonical_json, is_mapping
from llmtasker.values.list_argument import copied
from llmtasker.wire.request import AskMode
from llmtasker.wire.wording import Language

if TYPE_CHECKING:  # loaded only for tasks that have one
    from llmtasker.compiler.label_picker import Shortlist
    from llmtasker.confidence.source import Confidence, ConfidenceSource
    from llmtasker.runner.events import Observer


class TaskOptions(TypedDict, total=False):
    """The keyword arguments that all kinds of tasks share; `Task` describes them."""

    variables: Mapping[str, object] | None
    examples_role: ExamplesRole | None
    input_role: InputRole
    mode: AskMode
    reasoning: bool
    language: Language
    attempts: int
    cache: bool | str | os.PathLike[str] | Store | None
    group_size: GroupSize
    observers: Iterable[Observer]
    confidence: ConfidenceSource | Confidence | None


class TaskChanges(TaskOptions, total=False):
    """The keyword arguments of `Task.with_`."""

    llm: Any
    instructions: str
    examples: Iterable[Any] | ChosenExamples


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every kind of task is made from.

    A subclass adds the arguments of its kind, and sets `signature` if that is made from them.

    Raises:
        ConfigurationError: an argument has a value that it can't have.
    """

    signature: type[Signature] = field(init=False)
    examples: Any = ()
    variables: Mapping[str, object] | None = None
    examples_role: ExamplesRole | None = None
    input_role: InputRole = "user"
    mode: AskMode | None = None
    reasoning: bool = False
    language: Language = "en"
    attempts: int = 3
    cache: bool | str | os.PathLike[str] | Store | None = None
    group_size: GroupSize = 1
    observers: Iterable[Observer] = ()
    confidence: ConfidenceSource | Confidence | None = None

    def __post_init__(self) -> None:
        if isinstance(self.examples, ChosenExamples):
            self._set("examples", replace(self.examples, pool=copied("examples", self.examples.pool)))
        else:
            self._set("examples", copied("examples", self.examples))
        variables: object = {} if self.variables is None else self.variables
        if not is_mapping(variables):
            raise ConfigurationError(f"variables is a mapping from name to value, not {_shown(variables)}.")
        self._set("variables", dict(variables))
        check_choice("mode", self.mode, (*get_args(AskMode), None))
        check_choice("examples_role", self.examples_role, (*get_args(ExamplesRole), None))
        check_choice("input_role", self.input_role, get_args(InputRole))
        check_choice("reasoning", self.reasoning, (True, False))
        check_choice("language", self.language, get_args(Language))
        check_count("attempts", self.attempts, "the answers to ask for")
        self._set("cache", accepted(self.cache))
        self._set("observers", copied("observers", self.observers))
        self._set("confidence", self.confidence_settings)
        if self.confidence is not None and self.group_size != 1:
            raise ConfigurationError("confidence is determined for one input at a time: leave out group_size.")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def records_of(self, examples: Any) -> Sequence[Any]:
        """Return examples as records of the signature, or as mappings with all its fields."""
        return list(examples)

    def chosen(self, examples: Any) -> tuple[Sequence[Any], Selection | None]:
        """Return examples as records, and how they are chosen for an input; None: all are shown."""
        if not isinstance(examples, ChosenExamples):
            return self.records_of(examples), None
        records, selection = self.records_of(examples.pool), examples.selection
        return (records[: selection.count], None) if selection.method == "fixed" else (records, selection)

    @property
    def as_dict(self) -> bool:
        """Whether an output that is not a record is a dict with a key for each output field."""
        return False

    @property
    def shortened(self) -> Shortlist | None:
        """How many labels are shown with an input; None: all are."""
        return None

    @property
    def pool(self) -> Any:
        """The examples as the user gave them, including those that are only chosen for some inputs."""
        return self.examples.pool if isinstance(self.examples, ChosenExamples) else self.examples

    @property
    def confidence_settings(self) -> Confidence | None:
        """How the confidence of answers is found; None: it is not."""
        if self.confidence is None:
            return None
        from llmtasker.confidence.source import Confidence

        return Confidence.of(self.confidence)

    @property
    def asked(self) -> AskMode:
        """The mode; by default the one that suits the task."""
        return self.mode or "auto"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The arguments of this kind of task."""
        return tuple(each.name for each in fields(cls) if each.init)

    @classmethod
    def places(cls) -> dict[str, str]:
        """Return where arguments belong that a task does not have, by name."""
        from llmtasker.runner.task_run import places

        return places()

    @classmethod
    def of(cls, kind: str, arguments: Mapping[str, Any]) -> Self:
        """Return the plan of a task of a kind with these arguments.

        Raises:
            ConfigurationError: there is no such argument, or one has a value that it can't have.
        """
        check_names(kind, arguments, ("llm", *cls.names()), cls.places)  # the LLM is not part of a plan
        return cls(**arguments)

    def changed(self, kind: str, changes: Mapping[str, Any]) -> Self:
        """Return the plan with other arguments; see `of`."""
        names = dict.fromkeys(("llm", "instructions", *self.names()))
        check_names(f"{kind}.with_", changes, tuple(names), self.places)
        plan = replace(self, **changes)
        if compiles_alike(changes):
            object.__setattr__(plan, "signature", self.signature)
        return plan

    def compile(self) -> Program[Any]:
        """Return the program: schema, prompt and examples, prepared once.

        Raises:
            ConfigurationError: an example does not fit, a variable is unknown, or the mode does not suit the signature.
        """
        prompt = Prompt(variables=self.variables or {}, examples_role=self.examples_role, input_role=self.input_role)
        examples, selection = self.chosen(self.examples)
        program = compile_program(
            self.signature,
            prompt,
            examples,
            self.asked,
            reasoning=self.reasoning,
            language=self.language,
            selection=selection,
            shortlist=self.shortened,
        )
        if (sure := self.confidence_settings) is not None:
            from llmtasker.confidence.label_field import label_field

            label_field(self.signature, sure.field, sure.source)
        return program

    # ── the plan as a document: see task_file ──

    def document(self, kind: str) -> dict[str, Any]:
        """Return the plan as JSON values.

        Raises:
            ConfigurationError: an example, a variable or an option can't be represented as JSON.
        """
        fields, labels = fields_of(self.signature), labels_of(self.signature)
        return {
            "kind": kind,
            "version": VERSION,
            "signature": self.signature.__name__,
            "hash": signature_hash(fields, labels),
            "needs": self.needs(),
            "instructions": self.signature.instructions,
            "fields": fields,
            "labels": labels,
            "examples": [
                _as_json(f"example {number}", example) for number, example in enumerate(self.shown_examples(), start=1)
            ],
            "variables": {
                name: _as_json(f"the variable {name!r}", value) for name, value in (self.variables or {}).items()
            },
            "settings": {**self._options(), **self.own_settings()},
        }

    def _options(self) -> dict[str, Any]:
        sure = self.confidence_settings
        return {name: getattr(self, name) for name in _OPTIONS} | {
            "group_size": size.document() if isinstance(size := self.group_size, AutoGroup) else size,
            **({} if sure is None else {"confidence": sure.to_dict()}),
            **({"selection": self.examples.selection.document()} if isinstance(self.examples, ChosenExamples) else {}),
        }

    def needs(self) -> dict[str, str]:
        """Return the arguments that must be passed when a file is loaded, each with the reason."""
        return {}

    def own_settings(self) -> dict[str, Any]:
        """Return the settings of this kind of task."""
        return {}

    def shown_examples(self) -> Sequence[Any]:
        """Return the examples in the form that this kind of task takes."""
        return self.records_of(self.pool)

    @classmethod
    def from_document(cls, kind: str, document: Document, given: Mapping[str, Any]) -> Self:
        """Return the plan that a document describes; `given` are the arguments that it can't contain.

        Raises:
            ConfigurationError: the document does not describe such a plan, or `given` does not fit it.
        """
        if document["kind"] != kind:
            raise ConfigurationError(
                f"its kind is {document['kind']}, not {kind}: load it with {document['kind']}.load."
            )
        for name, reason in document["needs"].items():
            if given.get(name) is None:
                raise ConfigurationError(f"give {name}=…, because {reason}.")
        known = (*_OPTIONS, "group_size", "confidence")
        settings = {name: value for name, value in document["settings"].items() if name in known}
        settings["group_size"] = _auto_group(settings.get("group_size", 1))
        settings |= {"examples": document["examples"], "variables": document["variables"]}
        arguments = {**settings, **cls.own_arguments(document, given)}
        if (selection := document["settings"].get("selection")) is not None:
            arguments["examples"] = ChosenExamples(pool=arguments["examples"], selection=Selection.read(selection))
        plan = cls.of(kind, arguments)
        _check_signature(document, plan.signature)
        return plan

    @classmethod
    def own_arguments(cls, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of this kind of task."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), {name: getattr(self, name) for name in self.names()})


def _made_again(kind: type[Plan], arguments: dict[str, Any]) -> Plan:
    return kind(**arguments)


_OPTIONS = ("examples_role", "input_role", "mode", "reasoning", "language", "attempts")


def _auto_group(size: Any) -> Any:
    try:
        return AutoGroup(**size) if is_mapping(size) else size
    except TypeError:
        raise ConfigurationError(f"group_size is not {_shown(size)}.") from None


def _as_json(what: str, value: object) -> Any:
    try:
        # Only the given values of a record, so that the file is as short as the code that made the task.
        record = value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
        plain = to_jsonable_python(record)
        text = canonical_json(plain)
        same = not isinstance(value, BaseModel) or type(value).model_validate_json(text) == value
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{what} can't be stored in a file: {snippet(error)}") from None
    if not same:
        raise ConfigurationError(
            f"{what} can't be stored in a file: a value in it has no JSON form that can be read back."
        )
    return plain


def _check_signature(document: Document, signature: type[Signature]) -> None:
    found = differences(document["fields"], document["labels"], signature)
    if found:
        raise ConfigurationError(f"it was saved with another signature: {'; '.join(found[:5])}.")
    if document["hash"] != signature_hash(document["fields"], document["labels"]):
        raise ConfigurationError("its hash does not belong to its fields: the file was changed after it was saved.")


def compiles_alike(changes: Mapping[str, Any]) -> bool:
    """Return whether a plan with these changes has the same program, so that it need not be compiled again."""
    return changes.keys() <= {"attempts", "cache", "group_size", "observers"}


@dataclass(frozen=True, kw_only=True)
class SignaturePlan(Plan):
    """What a `Task` is made from: a signature, examples and options."""

    signature: type[Signature]

    def __post_init__(self) -> None:
        if Signature not in getattr(self.signature, "__mro__", ()) or not self.signature.output_fields:
            shown, instead = _shown(self.signature), declaration_hint(self.signature)
            raise ConfigurationError(f"a Task takes a Signature class first, not {shown}: {instead}.")
        super().__post_init__()

    @classmethod
    def places(cls) -> dict[str, str]:
        """Return where arguments belong that a Task does not have, by name."""
        signature = {
            "instructions": "they are the docstring of the signature, and signature.with_instructions(…) changes them",
            "labels": "they are the Literal of an output field; Classification(labels=…) needs no signature",
        }
        return {**super().places(), **signature}

    def needs(self) -> dict[str, str]:
        """Return the signature, unless it can be made from the file."""
        reason = why_not_made_again(self.signature)
        return {} if reason is None else {"signature": reason}

    @classmethod
    def own_arguments(cls, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return signature and examples, with the instructions of the document."""
        instructions, signature = document["instructions"], given.get("signature")
        if signature is None:
            signature = make_signature(document["signature"], instructions, document["fields"], document["labels"])
        elif getattr(signature, "instructions", None) != instructions and hasattr(signature, "with_instructions"):
            signature = signature.with_instructions(instructions)
        return {"signature": signature, "examples": _records(signature, document["examples"])}

    def changed(self, kind: str, changes: Mapping[str, Any]) -> Self:
        """Return the plan with other arguments; other instructions make another signature."""
        changes = dict(changes)
        if (instructions := changes.pop("instructions", None)) is not None:
            changes["signature"] = changes.get("signature", self.signature).with_instructions(instructions)
        return super().changed(kind, changes)


def _records(signature: type[Signature], examples: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for number, example in enumerate(examples, start=1):
        try:
            more = is_mapping(example) and example.keys() - signature.model_fields.keys()
            found.append(example if more else signature.model_validate_json(canonical_json(example)))
        except ValidationError as error:
            raise ConfigurationError(f"example {number} does not fit {signature.__name__}: {describe(error)}") from None
    return found


def _shown(value: object) -> str:
    return snippet(repr(value), 60)
