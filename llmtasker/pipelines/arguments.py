"""Arguments: the parameters of a pipeline's function, and how an input becomes their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo

from llmtasker.errors import ConfigurationError, InputError, describe, nearest, snippet
from llmtasker.signature.fields import InputField
from llmtasker.signature.signature import takes_mapping
from llmtasker.values.broken_row import BrokenRow
from llmtasker.values.json_values import is_mapping

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Arguments:
    """The parameters of a function by name: each has a type and perhaps a default.

    `fields` are the columns of an input: the fields of the only parameter's Pydantic class, or else the parameters
    themselves.

    Raises:
        ConfigurationError: there are no parameters, they can't be given by name, or their types can't be checked.
    """

    def __init__(self, function: Callable[..., Any], types: Mapping[str, Any]) -> None:
        self.owner = function.__name__
        self.parameters = dict(inspect.signature(function).parameters)
        for name, parameter in self.parameters.items():
            if parameter.kind not in _NAMED:
                raise ConfigurationError(f"{self.owner}: the parameter {parameter} can't be given by name.")
            if name == "self":
                raise ConfigurationError(f"{self.owner}: a pipeline is a plain function, not a method.")
        if not self.parameters:
            raise ConfigurationError(f"{self.owner} takes no input: give it a parameter.")
        self._types = {name: types.get(name, Any) for name in self.parameters}
        self._checks = {name: checker(self.owner, kind) for name, kind in self._types.items()}
        self._only = next(iter(self.parameters)) if len(self.parameters) == 1 else None
        model = None if self._only is None else self._types[self._only]
        self._model: type[BaseModel] | None = (
            model if isinstance(model, type) and issubclass(model, BaseModel) else None
        )

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """Each field of an input, with its type and mark, as `Signature.make` takes them."""
        if self._model is not None:
            return {name: (type_of(info), _marked(info)) for name, info in self._model.model_fields.items()}
        return {
            name: (self._types[name], InputField(min_length=0, **_default(parameter.default)))
            for name, parameter in self.parameters.items()
        }

    def of_keywords(self, fields: Mapping[str, Any]) -> Any:
        """Return the input that keywords give: its fields, or the parameters of the function.

        Raises:
            TypeError: there is no such field.
        """
        only, known = self._only, [*self.fields, *self.parameters]
        if unknown := [name for name in fields if name not in known]:
            raise TypeError(
                f"there is no input field {unknown[0]!r}.{nearest(unknown[0], known)} The fields are "
                f"{', '.join(self.fields)}."
            )
        if self._model is not None and only is not None and list(fields) == [only]:
            return dict(fields) if only in self._model.model_fields else fields[only]
        return dict(fields)

    def values(self, given: Any, columns: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments for an input; `columns` names the column of a field that has another name.

        Raises:
            InputError: the row of a file could not be read completely, or a field is missing or does not fit; a missing
                one is in the details as "missing".
        """
        if isinstance(given, BrokenRow):
            raise InputError(given.error.message, **given.error.details)
        try:
            return {name: self._checked(name, value) for name, value in self._parts(given, columns).items()}
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - a validator, or the input's own code, may raise anything
            raise InputError(f"the input could not be read: {type(error).__name__}: {snippet(error)}") from None

    def _checked(self, name: str, value: Any) -> Any:
        try:
            return self._checks[name].validate_python(value)
        except ValidationError as error:
            missing = [
                str(one["loc"][-1]) for one in error.errors() if one["type"] == "missing" and len(one["loc"]) == 1
            ]
            found = {"missing": missing[0]} if missing else {}
            place = "" if self._only is not None else f"{name}: "
            raise InputError(f"the input does not fit {self.owner}: {place}{describe(error)}", **found) from None

    def _parts(self, given: Any, columns: Mapping[str, str]) -> dict[str, Any]:
        if self._only is not None:
            if self._model is not None:
                return {self._only: self._renamed(given, columns)}
            by_name = is_mapping(given) and columns.get(self._only, self._only) in given
            if not by_name and (not is_mapping(given) or takes_mapping(self._types[self._only])):
                return {self._only: given}
        if not is_mapping(given):
            names = ", ".join(self.parameters)
            raise InputError(f"{self.owner} takes {names}: give a mapping or keywords, not one {type(given).__name__}.")
        values = dict[str, Any]()
        for name, parameter in self.parameters.items():
            column = columns.get(name, name)
            if column in given:
                values[name] = given[column]
            elif parameter.default is inspect.Parameter.empty:
                there = snippet(", ".join(map(str, given)), 100) or "no keys"
                raise InputError(f"the input has no {column!r}; it has {there}.", missing=column)
        return values

    def _renamed(self, given: Any, columns: Mapping[str, str]) -> Any:
        if not columns or not is_mapping(given):
            return dict(given) if is_mapping(given) else given
        return {**given, **{name: given[column] for name, column in columns.items() if column in given}}


def checker(owner: str, kind: Any) -> TypeAdapter[Any]:
    """Return a validator for a type; a class that Pydantic does not know accepts its instances.

    Raises:
        ConfigurationError: it is not a type.
    """
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        pass
    except PydanticUserError as error:
        raise ConfigurationError(f"{owner}: {snippet(kind)} can't be checked: {snippet(error)}") from None
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        raise ConfigurationError(f"{owner}: {snippet(kind)} can't be checked: {snippet(error)}") from None


def type_of(info: FieldInfo) -> Any:
    """Return the type of a field with its constraints."""
    kind: Any = info.annotation
    for constraint in info.metadata:
        kind = Annotated[kind, constraint]
    return kind


def _marked(info: FieldInfo) -> Any:
    options: dict[str, Any] = {"min_length": 0, "description": info.description}
    if info.is_required():
        return InputField(**options)
    if info.default_factory is not None:
        return InputField(**options, default_factory=info.default_factory)
    return InputField(**options, default=info.default)


def _default(default: Any) -> dict[str, Any]:
    return {} if default is inspect.Parameter.empty else {"default": default}


def types_of(function: Callable[..., Any], frame: FrameType | None) -> dict[str, Any]:
    """Return the types of a function's parameters and of its result; `frame` is where it is defined.

    Raises:
        ConfigurationError: a type is not defined yet.
    """
    try:
        return get_type_hints(function, localns=None if frame is None else frame.f_locals, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{function.__name__}: a type is not known yet: {snippet(error)}.") from None
