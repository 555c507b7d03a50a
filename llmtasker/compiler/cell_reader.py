"""CellReader: a number, boolean, date, time or duration in a table, read as an answer with the same text is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pydantic import PydanticUserError

from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.coerce import CoercionError, coerce
from llmtasker.values.plain_moment import MOMENTS


@dataclass(frozen=True, slots=True)
class CellReader:
    """Reads the cells of one field."""

    name: str
    schema: AnswerSchema

    @classmethod
    def of(cls, name: str, type_: Any) -> Self | None:
        """Return the reader of a field; None: people write its type in one way only."""
        try:
            schema = AnswerSchema.of(type_)
        except PydanticUserError:
            return None  # a type without a JSON schema, which only code can answer
        format_ = schema.resolve(schema.schema).get("format")
        return cls(name, schema) if schema.kind in {"number", "integer", "boolean"} or format_ in MOMENTS else None

    @property
    def is_moment(self) -> bool:
        """Whether the field is a date, time or duration."""
        return self.schema.kind == "string"

    def read(self, cell: Any) -> Any:
        """Return the value of a cell, which may still not fit the field.

        Raises:
            ValueError: the cell has two readings, or would be read as something else.
        """
        try:
            return coerce(cell, self.schema)[0]
        except CoercionError as error:
            raise ValueError(str(error).replace("answer", self.name, 1)) from None
