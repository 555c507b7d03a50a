"""validation_json: a value in the form in which Pydantic reads it, not in the form in which it writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, cast

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from llmtasker.values.set_order import in_order_of_text

NameOf = Callable[[str, FieldInfo], str]


def validation_json(value: Any, name_of: NameOf) -> Any:
    """Return a value as JSON values, as the JSON schema of its type describes them.

    The result has no computed fields, serialization aliases or custom serializations, and secrets are
    shown; `name_of` returns the name of a model's field.

    Raises:
        pydantic_core.PydanticSerializationError: it has no such form.
    """
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, Enum):
        return validation_json(value.value, name_of)
    if isinstance(value, SecretStr | SecretBytes):
        return to_jsonable_python(value.get_secret_value())
    if isinstance(value, BaseModel):
        if type(value).__pydantic_root_model__:  # RootModel itself takes time to load
            return validation_json(getattr(value, "root"), name_of)  # noqa: B009 - of a RootModel only
        fields = {name_of(name, info): getattr(value, name) for name, info in type(value).model_fields.items()}
        return _object({**fields, **(value.model_extra or {})}, name_of)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known: Mapping[str, FieldInfo] = getattr(value, "__pydantic_fields__", {})
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return _object(
            {name_of(name, known[name]) if name in known else name: getattr(value, name) for name in names}, name_of
        )
    if isinstance(value, Mapping):
        return _object(cast("Mapping[object, Any]", value), name_of)
    if isinstance(value, set | frozenset):
        return [validation_json(part, name_of) for part in in_order_of_text(cast("Iterable[object]", value))]
    if isinstance(value, list | tuple):
        return [validation_json(part, name_of) for part in cast("Iterable[object]", value)]
    return to_jsonable_python(value)


def _object(value: Mapping[Any, Any], name_of: NameOf) -> dict[str, Any]:
    return {
        name if isinstance(name, str) else next(iter(to_jsonable_python({name: None}))): validation_json(part, name_of)
        for name, part in value.items()
    }


def holds_secret(value: Any) -> bool:
    """Return whether there is a secret in a value, at any depth."""
    if value is None or isinstance(value, str | int | float | Enum):
        return False
    if isinstance(value, SecretStr | SecretBytes):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_secret, cast("Mapping[object, object]", value).values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(holds_secret, cast("Iterable[object]", value)))
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return any(map(holds_secret, getattr(value, "__dict__", {}).values()))
    return False
