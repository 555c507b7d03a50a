"""PartitionTask: a task as a function of a part of a table, for engines that distribute parts to workers.

ray.py                          its worker calls `arrow` with each block
frame.mapInPandas(answer, …)    Spark calls it with an iterator of frames
frame.map_partitions(answer)    Dask calls it with a frame
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, Unpack, get_args, get_origin
from uuid import uuid4

from llmtasker.errors import CallError, ConfigurationError, snippet
from llmtasker.files.cells import utf8_texts
from llmtasker.item import Item
from llmtasker.llm.llm import LLM
from llmtasker.result_table import ResultTable
from llmtasker.runner.call_settings import InputOptions, columns_of, settings_of
from llmtasker.runner.inputs import check_rows
from llmtasker.runner.policy import Fresh
from llmtasker.runner.task_run import RunSettings, rows_at_once
from llmtasker.signature.signature import Signature
from llmtasker.signature.signature_schema import differences, fields_of, labels_of
from llmtasker.task import Task
from llmtasker.values.argument_checks import check_names


class PartitionOptions(InputOptions, total=False):
    """The keyword arguments of `run` that make sense in workers of other machines; see `Task.run`."""

    concurrency: int | None
    fresh: Fresh


class ColumnType(NamedTuple):
    """A type of column, with its name in each engine."""

    spark: str
    pandas: str
    arrow: str


TEXT = ColumnType("string", "object", "string")
TYPES = {
    str: TEXT,
    bool: ColumnType("boolean", "boolean", "bool_"),
    int: ColumnType("long", "Int64", "int64"),
    float: ColumnType("double", "Float64", "float64"),
}
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class PartitionTask:
    """A task as a function from a part of a table to the same part with the columns of the answers.

    A DataFrame of pandas gives a DataFrame; an iterator of them gives an iterator (Spark). The columns, their types and
    the index stay; after them come one column for each output field and "error". Every part has columns of the same
    types: texts, booleans, integers, floats; other values become JSON texts. A PartitionTask can be pickled: the key of
    the LLM comes from the environment of the worker; without one, its rows fail with an error that names it.

    Args:
        task: the task.
        options: `concurrency`, `fresh`, `columns`, `row_variables` and `settings`, as for `Task.run`.

    Raises:
        ConfigurationError: an option is wrong, or the extra `[data]` is missing; on a worker: a part lacks a column, or
            has a different signature.

    >>> import pandas
    >>> from llmtasker import Classification
    >>> answer = PartitionTask(Classification(llm="offline", labels={"cat": "meows", "dog": "barks"}))
    >>> answer(pandas.DataFrame({"text": ["it barks"]}))
           text label error
    0  it barks   dog  None
    """

    def __init__(self, task: Task[Any], **options: Unpack[PartitionOptions]) -> None:
        if find_spec("narwhals") is None:  # otherwise each row would have this error
            raise ConfigurationError('a task on partitions needs narwhals: pip install "llmtasker[data]"')
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"workers are sent a task, not {snippet(repr(task), 60)}. Send them a function that runs a pipeline: "
                "def answer(part): return sort.run(part).to_pandas()."
            )
        check_names("a task on partitions", options, tuple(PartitionOptions.__annotations__))
        self.settings = RunSettings.of_run(options)
        self.task = task
        self._options = options
        self._name = uuid4().hex
        self._columns = columns_of(self.settings.columns, self.settings.row_variables)
        signature = task.signature
        self._sent = (fields_of(signature), labels_of(signature), signature.instructions)

    @property
    def llm(self) -> LLM:
        """The LLM of the task."""
        llm = settings_of(self.settings.settings).llm
        return llm if llm is not None else self.task.llm

    @property
    def concurrency(self) -> int:
        """How many rows are processed at once."""
        return rows_at_once(self.settings.concurrency, [self.llm])

    @property
    def types(self) -> dict[str, ColumnType]:
        """The type of column of each output field."""
        fields = self.task.program.signature.output_fields
        return {name: column_type(info.annotation) for name, info in fields.items()}

    def check(self, columns: Iterable[str]) -> None:
        """Check that a table with these columns can be answered.

        Raises:
            ConfigurationError: it lacks a column.
        """
        names = list(columns)
        if len(names) > 1 or self._columns is not None or self.task.signature.bare_input is None:
            check_rows([dict.fromkeys(names)], self.task.signature, self._columns)

    def spark_schema(self, schema: Any) -> Any:
        """Return the Spark schema of a frame with its answers, for `mapInPandas`.

        Raises:
            ConfigurationError: it lacks a column.
        """
        self.check(schema.names)
        longer = copy.deepcopy(schema)
        for name, kind in self._added(schema.names).items():
            longer.add(name, kind.spark)
        return longer

    def __call__(self, part: Any) -> Any:
        """Return a part with its answers; of an iterator of parts, an iterator."""
        return map(self._frame, part) if hasattr(part, "__next__") else self._frame(part)

    def _frame(self, frame: Any) -> Any:
        pandas = import_module("pandas")
        names = [str(name) for name in frame.columns]
        self.check(names)
        columns = {
            name: pandas.Series(cells, index=frame.index, dtype=kind.pandas)
            for name, (kind, cells) in self._answers(frame, len(frame), names).items()
        }
        return pandas.concat([frame, pandas.DataFrame(columns, index=frame.index)], axis=1)

    def arrow(self, table: Any, *, without: Container[str] = ()) -> Any:
        """Return a table of pyarrow with its answers; `without`: columns that are not inputs."""
        pyarrow = import_module("pyarrow")
        rows = table.select([name for name in table.column_names if name not in without])
        self.check(rows.column_names)
        for name, (kind, cells) in self._answers(rows, len(table), table.column_names).items():
            table = table.append_column(name, pyarrow.array(cells, getattr(pyarrow, kind.arrow)()))
        return table

    def _added(self, taken: Iterable[str]) -> dict[str, ColumnType]:
        """Return the columns to add to a table with the `taken` ones; the error is the last."""
        types = self.types
        names, error = ResultTable([], list(types)).answer_names(set(taken))
        return {**{column: types[name] for name, column in names.items()}, error: TEXT}

    def _answers(self, rows: Any, count: int, taken: Sequence[str]) -> dict[str, tuple[ColumnType, list[Any]]]:
        """Return type and cells of each added column."""
        added = self._added(taken)
        table = ResultTable(self._items(rows, count), list(self.types))
        answers = [_in_range(row, added) for row in table.answers(set(taken))]
        columns = {name: [row[name] for row in answers] for name in added}
        return {
            name: (added[name], utf8_texts(cells) if added[name] is TEXT else cells) for name, cells in columns.items()
        }

    def _items(self, rows: Any, count: int) -> list[Item[Any]]:
        if not count:
            return []
        try:
            return list(self.task.run(rows, progress=False, **self._options))
        except ConfigurationError as error:
            # Such as a worker without the key: its rows have the error, and the others are answered.
            return [Item(input=None, error=CallError(str(error))) for _ in range(count)]

    def __dask_tokenize__(self) -> str:
        """Return the name of this object in the graphs of Dask: two objects are never the same work."""
        return self._name

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.task, self._options, self._sent)


def _arrived(task: Task[Any], options: PartitionOptions, sent: tuple[Any, Any, str]) -> PartitionTask:
    """Return the task on a worker, which may have another version of the module of its signature."""
    if found := _differences(sent, task.signature):
        raise ConfigurationError(
            f"{task.signature.__name__} is a different class on this worker than on the sender: "
            f"{'; '.join(found[:3])}. Install the same version of its module on all machines."
        )
    return PartitionTask(task, **options)


def _differences(sent: tuple[Any, Any, str], signature: type[Signature]) -> list[str]:
    fields, labels, instructions = sent
    found = differences(fields, labels, signature)
    return found if instructions == signature.instructions else [*found, "its instructions differ"]


def _in_range(row: dict[str, Any], added: Mapping[str, ColumnType]) -> dict[str, Any]:
    """Return the cells of a row, or an error if an integer does not fit into a column of 64 bits."""
    for name, value in row.items():
        if added[name] is TYPES[int] and value is not None and not _SMALLEST <= value <= _LARGEST:
            *_, error = row
            return {
                **dict.fromkeys(row),
                error: f"{name} is an integer of more than 64 bits, which does not fit into a column",
            }
    return row


def column_type(annotation: Any) -> ColumnType:
    """Return the type of column for values of a type; values of several types, or of none of `TYPES`, are texts.

    >>> column_type(Literal[1, 2] | None).spark, column_type(list[str]).spark
    ('long', 'string')
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return column_type(parts[0])
    if origin in (Union, UnionType):
        kinds = {column_type(part) for part in parts if part is not NoneType}
    elif origin is Literal:
        kinds = {column_type(type(value)) for value in parts}
    elif members := getattr(annotation, "__members__", None):  # an Enum
        kinds = {column_type(type(member.value)) for member in members.values()}
    else:
        return TYPES.get(annotation, TEXT)
    return kinds.pop() if len(kinds) == 1 else TEXT
