"""Signature, InputField, OutputField: a task declared as a record type.

Every instance of a signature is complete and validated: an example is a record, a prediction is a record, and a
validator sees inputs and outputs together. The input half and the output half are Pydantic models derived from it; the
LLM fills the output half.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from enum import Enum
from types import UnionType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, Union, cast, dataclass_transform, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, to_json, to_jsonable_python

from llmtasker.errors import InputError, SignatureError, describe, snippet
from llmtasker.signature.fields import (
    RESERVED,
    InputField,
    OutputField,
    Side,
    check_alias,
    check_bounds,
    check_constraints,
    check_labels,
    check_text,
    check_types,
    marker_of,
    wire_name,
)
from llmtasker.signature.made_class import Made, MadeClass, made_how, pickle_by_making
from llmtasker.values.html_table import html_table
from llmtasker.values.json_values import is_mapping
from llmtasker.values.set_order import in_order
from llmtasker.values.validation_json import holds_secret, validation_json


class Inputs(NamedTuple):
    """One validated input: its values as the LLM sees them, and as they were given.

    A record is built from the given values, so that no validator runs on values that it has already changed.
    """

    values: Mapping[str, Any]
    given: Mapping[str, Any]
    variant: Any = None  # the program for the variables and labels of this row; None: the task's own


@dataclass_transform(kw_only_default=True, field_specifiers=(InputField, OutputField))
class SignatureClass(MadeClass):
    """The class of signatures: type checkers see the constructor's arguments, and pickle finds made ones.

    It has no `__new__`: Pydantic looks for the names in annotations one frame up from its own.
    """

    def __init__(self, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        type.__init__(self, name, bases, namespace)
        signature: Any = self
        # cloudpickle makes an empty class first, and sets the fields after that.
        empty = not namespace.keys() & {"__qualname__", "__annotations__"}
        if not (empty or options.get("abstract")) and bases != (BaseModel,):
            _check_whole(signature)


pickle_by_making(SignatureClass)


class Signature(BaseModel, metaclass=SignatureClass):
    """A task as a record type: the docstring is the instructions, the fields are its inputs and outputs.

    Class arguments: `instructions="…"` replaces the docstring; `abstract=True` allows a base class
    that is not yet a complete task.

    >>> from typing import Literal
    >>> class Triage(Signature):
    ...     "Route a customer message to the team that can solve it."
    ...     message: str = InputField(description="what the customer wrote")
    ...     team: Literal["billing", "delivery"] = OutputField()
    >>> Triage(message="I was charged twice", team="billing").outputs()
    {'team': 'billing'}

    Raises:
        SignatureError: when the class is created: no output field, an unmarked field, a reserved name, no instructions.
    """

    model_config = ConfigDict(
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=False,
        ignored_types=(FieldInfo,),  # Pydantic ignores a field without a type; `_check_sides` reports it
        defer_build=True,  # for this class alone, so that importing it does not load Pydantic's plugins
    )

    instructions: ClassVar[str] = ""
    input_fields: ClassVar[dict[str, FieldInfo]] = {}
    output_fields: ClassVar[dict[str, FieldInfo]] = {}
    input_model: ClassVar[type[BaseModel]]
    output_model: ClassVar[type[BaseModel]]
    bare_input: ClassVar[str | None] = None
    """The input field that takes a bare value: the only one, or the only one that is required."""
    _not_empty: ClassVar[frozenset[str]] = frozenset()
    _optional: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, instructions: str | None = None, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Before Pydantic collects the fields, because it only warns about one that hides a method.
        _check_names(cls, [name for name, value in vars(cls).items() if isinstance(value, FieldInfo)])

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, instructions: str | None = None, abstract: bool = False, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        sides: dict[str, Side] = {
            name: marker.side for name, info in cls.model_fields.items() if (marker := marker_of(info))
        }
        cls.input_fields = {name: info for name, info in cls.model_fields.items() if sides.get(name) == "input"}
        cls.output_fields = {name: info for name, info in cls.model_fields.items() if sides.get(name) == "output"}
        # Only the class's own docstring counts; without one the parent's instructions are inherited.
        own = instructions if instructions is not None else cls.__dict__.get("__doc__")
        if own is not None:
            check_text(cls.__name__, own)
            cls.instructions = inspect.cleandoc(own)
        cls.bare_input = _bare_input(cls.input_fields)
        cls._not_empty = frozenset(name for name, info in cls.input_fields.items() if _must_hold_text(info))
        cls._optional = frozenset(name for name, info in cls.input_fields.items() if not info.is_required())
        _check_sides(cls, sides)
        cls.input_model = _half(cls, "input")
        cls.output_model = _half(cls, "output")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Before Pydantic builds the validators of the class, whose errors name neither class nor constraint.
        if cls.__pydantic_fields_complete__:
            for name, info in cls.model_fields.items():
                check_bounds(cls.__name__, name, info, cls.model_config)
        try:
            return handler(source)
        except (TypeError, RuntimeError) as error:  # such as a type that Pydantic can't check
            raise SignatureError(f"{cls.__name__}: {snippet(error)}") from error

    @classmethod
    def with_instructions(cls, instructions: str) -> type[Self]:
        """Return the same signature with other instructions.

        >>> class Summary(Signature, instructions="Summarise the text."):
        ...     text: str = InputField()
        ...     summary: str = OutputField()
        >>> Summary.with_instructions("Résume le texte.").instructions
        'Résume le texte.'
        """
        base = cls
        if (made := made_how(cls)) is not None and made.arguments[1:2] == ({},) and len(made.arguments) == 3:
            base = made.arguments[0]  # so that many changes do not stack up classes
        return _subclass(base, {}, instructions)

    @classmethod
    def with_fields(cls, **fields: Any) -> type[Self]:
        """Return the same signature with more fields, or with some of them declared again.

        Each is `name=(type, InputField(...) | OutputField(...))`.
        """
        return _subclass(cls, fields, None)

    @classmethod
    def make(
        cls, name: str, *, instructions: str, inputs: Mapping[str, Any] | None = None, outputs: Mapping[str, Any]
    ) -> type[Signature]:
        """Return a signature made from names and types; a value is a type, or a (type, InputField/OutputField) pair.

        >>> Signature.make("Length", instructions="Count.", inputs={"text": str}, outputs={"words": int}).__name__
        'Length'
        """
        check_types(name, {**(inputs or {}), **outputs})
        fields: dict[str, Any] = {
            **{n: t if isinstance(t, tuple) else (t, InputField()) for n, t in (inputs or {"text": str}).items()},
            **{n: t if isinstance(t, tuple) else (t, OutputField()) for n, t in outputs.items()},
        }
        return _subclass(cls, fields, instructions, name)

    @classmethod
    def validate_input(cls, given: object) -> Inputs:
        """Return the validated input.

        `given` is a mapping, an instance of the input half, a record (whose outputs are ignored), or the bare value
        of the only input field, or of the only required one. Other keys of a mapping are ignored.

        Raises:
            InputError: a field is missing or does not fit, or the text of a required field is empty.
        """
        try:
            mapping = cls._as_mapping(given)
            half = cls.input_model.model_validate(mapping)
            values = {name: getattr(half, name) for name in cls.input_fields}
            cls._refuse_empty(values)
            return Inputs(values=values, given=mapping)
        except ValidationError as error:
            raise InputError(f"the input does not fit {cls.__name__}: {describe(error)}") from None
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - a validator, or the input's own code, may raise anything
            raise InputError(f"the input could not be read: {type(error).__name__}: {snippet(error)}") from None

    @classmethod
    def _refuse_empty(cls, values: Mapping[str, Any]) -> None:
        for name in cls._not_empty:
            value = values[name]
            if isinstance(value, str) and not value.strip():
                raise InputError(f"{name}: the text is empty, and the task needs one")

    @classmethod
    def _as_mapping(cls, given: object) -> Mapping[str, Any]:
        name = cls.bare_input
        if name is not None and type(given) is str:
            return {name: given}  # by far the most common case
        kind = type(given).__name__
        if type(given) is not dict and isinstance(given, (Signature, cls.input_model)):
            return {name: getattr(given, name) for name in cls.input_fields if hasattr(given, name)}
        if name is not None:
            if not is_mapping(given):
                return {name: given}
            named = any(name in given or wire_name(name, info) in given for name, info in cls.input_fields.items())
            # A mapping without a field's name is the bare value only if the field itself is a mapping.
            if not named and takes_mapping(cls.input_fields[name].annotation):
                return {name: given}
            if not named and len(cls.input_fields) == 1:
                keys = ", ".join(map(str, cast("Mapping[object, object]", given)))
                there = f"; it has {snippet(keys, 100)}" if keys else ""
                raise InputError(f"the input has no {name!r}{there}.")
        if is_mapping(given):
            return given
        raise InputError(
            f"{cls.__name__} has {len(cls.input_fields)} input fields ({', '.join(cls.input_fields)}); "
            f"got one {kind}. Give a mapping or keywords."
        )

    def inputs(self) -> dict[str, Any]:
        """Return the input values by field name."""
        return {name: getattr(self, name) for name in type(self).input_fields}

    def _repr_html_(self) -> str:
        return html_table([*self.inputs().items(), *self.outputs().items()])

    def outputs(self) -> dict[str, Any]:
        """Return the output values by field name."""
        return {name: getattr(self, name) for name in type(self).output_fields}

    @classmethod
    def format_input(cls, inputs: Mapping[str, Any]) -> str:
        """Return how an input is shown to the LLM; override it to change that.

        A single field is shown as it is. Several fields are each enclosed in tags with their names; an optional one
        without a value is left out.
        """
        shown = {name: value for name, value in inputs.items() if value is not None or name not in cls._optional}
        if len(shown) == 1 and (len(inputs) == 1 or cls.bare_input in shown):
            return "".join(map(as_text, shown.values()))
        return "\n".join(f"<{name}>\n{as_text(value)}\n</{name}>" for name, value in shown.items())

    @classmethod
    def format_example(cls, shown: str, answer: str) -> str:
        """Return an example as text (`{examples}`): its input as shown, then its answer.

        Tags are used only if they are needed to separate input and answer: around an input of several lines,
        and around an answer that is not JSON.
        """
        if not answer.startswith("{"):
            return f"<example>\n<input>\n{shown}\n</input>\n<output>\n{answer}\n</output>\n</example>"
        return f"<example>\n{shown}\n{answer}\n</example>" if "\n" in shown else f"{shown}\n{answer}\n"


del Signature.model_config["defer_build"]


S = TypeVar("S", bound=Signature)


def as_text(value: object) -> str:
    """Return a value as the LLM sees it: texts, dates, enums and the like as text; anything else as JSON.

    A secret is shown: the caller hides it from logs, but the LLM has to read it.
    """
    plain = value.value if isinstance(value, Enum) else value
    if not isinstance(plain, str):
        plain = validation_json(plain, wire_name) if holds_secret(plain) else to_jsonable_python(in_order(plain))
    return plain if isinstance(plain, str) else to_json(plain).decode()


def _bare_input(fields: Mapping[str, FieldInfo]) -> str | None:
    names = [name for name, info in fields.items() if info.is_required()] if len(fields) > 1 else list(fields)
    return names[0] if len(names) == 1 else None


def _must_hold_text(info: FieldInfo) -> bool:
    """Return whether an empty text is refused: the field is required, a text, and does not allow it."""
    marker = marker_of(info)
    return info.is_required() and str in _kinds(info.annotation) and not (marker and marker.may_be_empty)


def _kinds(annotation: Any) -> Sequence[Any]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _check_names(cls: type[BaseModel], names: Iterable[str]) -> None:
    for name in names:
        if name.startswith("_"):
            raise SignatureError(f"{cls.__name__}.{name}: a field can't begin with an underscore; choose another name.")
        if name in RESERVED or hasattr(Signature, name):
            raise SignatureError(
                f"{cls.__name__}.{name}: the name {name!r} has a special meaning in a signature; choose another, "
                f"such as {name}_text."
            )


def _check_sides(cls: type[Signature], sides: Mapping[str, Side]) -> None:
    for name in [name for name, value in vars(cls).items() if isinstance(value, FieldInfo)]:
        # Pydantic has turned each one that has a type into a field, and removed it from the class.
        raise SignatureError(f"{cls.__name__}.{name} has no type: write {name}: str = InputField() or OutputField().")
    for name in cls.model_fields:
        if name not in sides:
            raise SignatureError(
                f"{cls.__name__}.{name} is neither input nor output: write {name}: … = InputField() or OutputField()."
            )
    _check_names(cls, cls.model_fields)
    if cls.__pydantic_fields_complete__:
        for name, info in cls.model_fields.items():
            check_constraints(cls.__name__, name, info)
        for name, info in cls.output_fields.items():
            check_labels(cls.__name__, name, info)
            check_alias(cls.__name__, name, info)


def _check_whole(cls: type[Signature]) -> None:
    if not cls.output_fields:
        raise SignatureError(f"{cls.__name__} has no output field: mark at least one with OutputField().")
    if not cls.input_fields:
        raise SignatureError(f"{cls.__name__} has no input field: mark at least one with InputField().")
    if not cls.instructions.strip():
        raise SignatureError(
            f"{cls.__name__} has no instructions: write a docstring, or "
            f"class {cls.__name__}(Signature, instructions='…')."
        )


def _half(cls: type[Signature], side: Side) -> type[BaseModel]:
    """Return a plain model of one side's fields, with the field validators that concern only this side."""
    fields = cls.input_fields if side == "input" else cls.output_fields
    validators: dict[str, Any] = {
        name: _validator(own, found.info.mode)(staticmethod(found.func))
        for name, found in cls.__pydantic_decorators__.field_validators.items()
        if side == "input" and (own := [field for field in found.info.fields if field in fields or field == "*"])
    }
    declared: dict[str, Any] = {name: (info.annotation, info) for name, info in fields.items()}
    config = cls.model_config.copy()
    config.update({"title": None, "extra": "ignore"})
    made: type[BaseModel] = pydantic.create_model(
        cls.__name__,
        __config__=config,
        __module__=cls.__module__,
        __validators__=validators,
        __cls_kwargs__={"metaclass": MadeClass},
        **declared,
    )
    made.__made__ = Made(getattr, (cls, f"{side}_model"))  # type: ignore[attr-defined]
    return made


def _validator(fields: Sequence[str], mode: Any) -> Callable[[Any], Any]:
    return pydantic.field_validator(*fields, mode=mode)


def _subclass(cls: type[S], fields: Mapping[str, Any], instructions: str | None, name: str | None = None) -> type[S]:
    for name_, declared in fields.items():
        if not isinstance(declared, tuple) or len(cast("Sized", declared)) != 2:
            raise SignatureError(
                f"{cls.__name__}.{name_}: give (type, InputField(...) or OutputField(...)), not {declared!r}."
            )
    _check_names(cls, fields)
    made: type[S] = pydantic.create_model(
        name or cls.__name__,
        __base__=cls,
        __module__=cls.__module__,
        __cls_kwargs__=None if instructions is None else {"instructions": instructions},
        **fields,
    )
    made.__made__ = Made(_subclass, (cls, dict(fields), instructions, *([] if name is None else [name])))  # type: ignore[misc]
    return made


def takes_mapping(annotation: Any) -> bool:
    """Return whether a value of a type may be a mapping."""
    bare = [get_origin(kind) or kind for kind in _kinds(annotation)]
    return Any in bare or any(isinstance(kind, type) and issubclass(kind, Mapping | BaseModel) for kind in bare)
