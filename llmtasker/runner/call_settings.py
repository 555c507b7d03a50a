"""CallSettings: the settings of one call or one run that override the task's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, cast

from llmtasker.compiler.chosen_examples import ChosenExamples
from llmtasker.compiler.columns import Columns
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.llm.argument_places import OF_RUNS, OF_TASKS
from llmtasker.llm.llm import LLM
from llmtasker.llm.options import LLMOptions
from llmtasker.values.argument_checks import by_name
from llmtasker.values.json_values import is_mapping


def places_beside_calls() -> dict[str, str]:
    """Return where each argument of an LLM, a run or a task belongs, for the error of a function without it."""
    of_llms = {name: f'it belongs in llm=LLM("…", {name}=…)' for name in ("model", *LLMOptions.__annotations__)}
    return {**OF_RUNS, **of_llms, **OF_TASKS}


@by_name(places_beside_calls)
@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """The settings of one call; as the settings of a run, they apply to all its rows.

    Args:
        variables: values of the task's own variables. The name of an output field, or "classes" if only one field
            has labels, sets its labels: a list, or a mapping from label to meaning, replaces the task's.
        examples: replace the task's; in the same form.
        llm: replaces the task's; an LLM, or what `LLM.of` accepts. Settings that are reused keep it, with its
            connections and limits.
        tags: data that the item has as `item.tags`; it is never sent.
        sample: which of several answers to the same request to get, from 0; each is asked for and cached separately.

    Raises:
        ConfigurationError: an argument has the wrong type.

    >>> CallSettings(variables={"customer": "gold"}, tags={"id": 17}).tags["id"]
    17
    """

    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    examples: Iterable[Any] | Mapping[Any, Any] | ChosenExamples | None = None
    llm: Any = None
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sample: int = 0

    def __post_init__(self) -> None:
        for name in ("variables", "tags"):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise ConfigurationError(f"{name} is a mapping from names to values, not {_shown(given)}.")
            object.__setattr__(self, name, dict(cast("Mapping[str, Any]", given)))
        examples: object = cast("object", self.examples)  # at run time it may be anything
        if isinstance(examples, str) or not (examples is None or isinstance(examples, Iterable | ChosenExamples)):
            raise ConfigurationError(f"examples is a list or a mapping, not {_shown(examples)}.")
        if not (examples is None or is_mapping(examples) or isinstance(examples, ChosenExamples)):
            object.__setattr__(self, "examples", tuple(cast("Iterable[object]", examples)))
        if type(self.sample) is not int or self.sample < 0:
            raise ConfigurationError(f"sample is a whole number from 0, not {_shown(self.sample)}.")
        if self.llm is not None:
            object.__setattr__(self, "llm", LLM.of(self.llm))


NO_SETTINGS = CallSettings()


class InputOptions(TypedDict, total=False):
    """The keyword arguments of a run that concern its rows; `Task.run` describes them."""

    columns: Mapping[str, str] | None
    row_variables: Mapping[str, str] | None
    settings: CallSettings | None


def columns_of(columns: object, row_variables: object) -> Columns | None:
    """Return the columns that a run names; None: it does not name any.

    Raises:
        ConfigurationError: an argument is not a mapping from names to names of columns.
    """
    named: list[dict[str, str]] = []
    for argument, given in (("columns", columns), ("row_variables", row_variables)):
        found: Any = {} if given is None else given
        if not (is_mapping(found) and all(isinstance(name, str) for pair in found.items() for name in pair)):
            what = "an input field" if argument == "columns" else "a variable"
            raise ConfigurationError(
                f"{argument} is a mapping from {what} to the name of its column, which is a text, such as "
                f"{argument}={{'text': 'message'}} or {{'text': '0'}}, not {_shown(given)}."
            )
        named.append(dict(found))
    fields, variables = named
    return Columns(fields=fields, variables=variables) if fields or variables else None


def settings_of(given: object) -> CallSettings:
    """Return the settings that were given for a call; None: there are none.

    Raises:
        ConfigurationError: it is something else, such as the value of an input field of this name.
    """
    if given is None:
        return NO_SETTINGS
    if isinstance(given, CallSettings):
        return given
    raise ConfigurationError(
        f"settings is a CallSettings, not {_shown(given)}. Pass an input field called 'settings' in a mapping: "
        "task({'settings': …})."
    )


def _shown(given: object) -> str:
    return snippet(repr(given), 60)
