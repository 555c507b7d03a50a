"""Returned: the result of a pipeline's function, checked, and as fields like the output of a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from llmtasker.errors import ConfigurationError, PipelineError, describe
from llmtasker.item import jsonable
from llmtasker.pipelines.arguments import checker, type_of
from llmtasker.signature.fields import OutputField
from llmtasker.signature.signature import Signature
from llmtasker.values.json_values import is_mapping

_BARE = "output"


class Returned:
    """The type that a function is declared to return; with `explode`, a list whose members are separate outputs.

    Raises:
        ConfigurationError: it is not a type that can be checked, or with `explode`, not a list.
    """

    def __init__(self, owner: str, annotation: Any, *, explode: bool) -> None:
        self._owner, self._explode = owner, explode
        self._check = checker(owner, annotation)
        self.kind: Any = annotation
        if explode and annotation is not Any:
            members = get_args(annotation)
            if not isinstance(annotation, type) and len(members) >= 1:
                self.kind = members[0]
            if self.kind is annotation:
                raise ConfigurationError(
                    f"{owner}: explode=True needs a function that returns a list, such as list[str]."
                )

    def checked(self, value: Any) -> Any:
        """Return the result of the function, if it has the type.

        Raises:
            PipelineError: it has another type.
        """
        if self._explode:
            if not _is_list(value):
                raise PipelineError(f"{self._owner} returned a {type(value).__name__}, not a list: it has explode=True")
            value = list(value)
        try:
            return self._check.validate_python(value)
        except ValidationError as error:
            raise PipelineError(f"what {self._owner} returned does not fit its type: {describe(error)}") from None

    @cached_property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """Each field of an output, with its type and mark, as `Signature.make` takes them; a bare one is "output"."""
        kind = self.kind
        if not _is_model(kind):
            return {_BARE: (kind, OutputField())}
        if issubclass(kind, Signature):
            return {name: (info.annotation, info) for name, info in kind.output_fields.items()}
        return {
            name: (type_of(info), OutputField(description=info.description)) for name, info in kind.model_fields.items()
        }

    @property
    def bare(self) -> bool:
        """Whether an output is one value, rather than a model with fields."""
        return not _is_model(self.kind)

    def parts(self, output: Any) -> dict[str, Any]:
        """Return the values of an output, by field."""
        return {_BARE: output} if self.bare else {name: getattr(output, name) for name in self.fields}

    def values(self, output: Any) -> dict[str, Any]:
        """Return an output as JSON, by field."""
        return {name: jsonable(value) for name, value in self.parts(output).items()}

    def inputs(self, output: Any) -> dict[str, Any]:
        """Return the input fields of a record of a signature as JSON, with which its outputs are validated."""
        return jsonable(output.inputs()) if isinstance(output, Signature) else {}

    def of_values(self, values: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        """Return the output with these values, validated by its class; never with other values.

        Raises:
            ValueError: the class does not accept them.
        """
        given = values[_BARE] if self.bare else {**inputs, **values}
        try:
            text = to_json(given)
        except ValueError:  # a text that JSON can't represent
            output = self._member.validate_python(given, by_alias=True, by_name=True)
        else:
            output = self._member.validate_json(text, by_alias=True, by_name=True)
        return output if self.values(output) == values else self.stand_in(values)

    def stand_in(self, values: Mapping[str, Any]) -> Any:
        """Return a value with these values that is not validated."""
        return values[_BARE] if self.bare else SimpleNamespace(**values)

    @cached_property
    def _member(self) -> TypeAdapter[Any]:
        return checker(self._owner, self.kind)


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, RootModel)


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not (isinstance(value, str | bytes) or is_mapping(value))
