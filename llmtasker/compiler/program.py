"""compile_program: signature + prompt + examples + mode → Program. No I/O."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from llmtasker.compiler.answer_model import (
    as_turn,
    labels_of,
    prepare,
    reask_messages,
)
from llmtasker.compiler.chosen_examples import Selection
from llmtasker.compiler.columns import Columns
from llmtasker.compiler.examples import shown_text
from llmtasker.compiler.label_set import (
    LabelSet,
    fits_labels,
    label_set,
    labelled_field,
    with_labels,
)
from llmtasker.compiler.prepared import Prepared
from llmtasker.compiler.program_source import ProgramSource, shown_model
from llmtasker.compiler.prompt import Prompt, PromptLayout, variable_text
from llmtasker.errors import (
    ConfigurationError,
    InputError,
    OutputError,
    snippet,
)
from llmtasker.signature.fields import label_descriptions
from llmtasker.signature.signature import Inputs, S
from llmtasker.values.broken_row import BrokenRow
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import FIRST_MODE, AskMode, Head, Mode, Request, Settings
from llmtasker.wire.wording import WORDINGS, Language

MAX_VARIANTS = 256
"""The number of sets of variables and labels whose programs are kept, so that rows which share them are compiled
once."""


if TYPE_CHECKING:
    from llmtasker.compiler.answer_parser import Answer, AnswerParser
    from llmtasker.compiler.label_picker import Shortlist


class Program(Generic[S]):
    """A compiled task. It is immutable and has no I/O; what does not depend on the input is computed once.

    One head per mode is kept: with "auto", an endpoint without function calls is asked in another mode.
    """

    def __init__(self, source: ProgramSource[S]) -> None:
        source.check()
        signature = source.signature
        self.source = source
        self.signature = signature
        examples = source.read_examples()
        self.layout = source.layout(examples)
        self.picker = source.picker(examples)
        self.label_picker = source.label_picker(examples)
        self.asked: AskMode = source.mode
        self.first_mode: Mode = FIRST_MODE[source.mode]
        shortened = None if self.label_picker is None else self.label_picker.name
        self.wording = WORDINGS[source.language]
        self.model = shown_model(source, self.layout, shortened)
        self._asking: dict[Mode, Prepared] = {}
        self.columns: Columns | None = None
        self._heads: dict[Mode, Head] = {}
        self._variants: OrderedDict[Any, Program[S]] = OrderedDict()
        self._lock = threading.RLock()
        self.ready = False
        """Whether requests can be rendered and answers read at once; see `warm_up`."""

    @cached_property
    def _labels(self) -> dict[str, list[str]]:
        return labels_of(self.signature.output_model)

    @cached_property
    def parser(self) -> AnswerParser[S]:
        """The parser of answers; its modules are loaded at the first use."""
        from llmtasker.compiler.answer_parser import AnswerParser

        return AnswerParser(
            self.signature,
            self.model.__name__,
            self.first_mode,
            reasoning=self.source.reasoning,
            whole_text=self.asked == "plain",
            any_form=self.asked == "auto",
        )

    def warm_up(self) -> None:
        """Load what the first request and the first answer need, which can take a second."""
        self.head(self.first_mode)
        _ = self.parser
        for picker in (self.picker, self.label_picker):
            if picker is not None:
                picker.warm_up()
        self.ready = True

    def head(self, mode: Mode) -> Head:
        """Return what all requests in a mode share."""
        head = self._heads.get(mode)
        if head is None:
            with self._lock:
                head = self._heads.setdefault(mode, self._prepare(mode))
        return head

    def _prepare(self, mode: Mode) -> Head:
        if self.asked == "plain":
            return Head({}, self.layout.head("", lambda answer: {"role": "assistant", "content": answer}))
        prepared = self._asking.get(mode)
        if prepared is None:
            prepared = self._asking[mode] = prepare(self.model, mode, self.wording, keep=self.source.keep)
        return Head(prepared.fields, self.layout.head(prepared.note, lambda answer: as_turn(mode, answer)))

    def with_settings(
        self,
        variables: Mapping[str, object],
        examples: Sequence[Any] | None = None,
        selection: Selection | None = None,
    ) -> Program[S]:
        """Return the program with other values of variables, other labels or other examples; see `CallSettings`.

        Raises:
            ConfigurationError: there is no such variable or output field, or an example does not fit.
        """
        program = self
        if examples is not None:
            source = replace(self.source, examples=tuple(examples), selection=selection)
            read = source.read_examples()
            program = self._reworded(source, source.layout(read))
            program.picker = source.picker(read)
            program.label_picker = source.label_picker(read)
        return program.variant(variables) if variables else program

    def variant(self, variables: Mapping[str, object]) -> Program[S]:
        """Return the program with these values of variables, or labels, compiled once for each distinct set.

        Raises:
            ConfigurationError: there is no such variable or output field, or a value can't be shown.
        """
        known = self._labels
        own, sets = dict[str, str](), dict[str, LabelSet]()
        for name, value in variables.items():
            output = None if name in self.source.prompt.variables else labelled_field(self.signature, name, known)
            if output is None:
                own[name] = variable_text(name, value)
            else:
                sets[output] = label_set(value, label_descriptions(self.signature.output_fields[output]))
        key = (tuple(own.items()), tuple((name, tuple(map(_with_type, labels))) for name, labels in sets.items()))
        with self._lock:
            program = self._variants.pop(key, None) or self._compiled(own, sets)
            self._variants[key] = program
            if len(self._variants) > MAX_VARIANTS:
                self._variants.popitem(last=False)
        return program

    def _compiled(self, variables: Mapping[str, object], sets: Mapping[str, LabelSet]) -> Program[S]:
        source = replace(self.source, prompt=self.source.prompt.with_variables(variables))
        if sets:
            signature = with_labels(self.signature, sets)
            fitting = [example for example in source.examples if fits_labels(example, sets)]
            # Labels of a row may be private, and there may be many sets of them.
            return Program(replace(source, signature=signature, examples=fitting, keep=False))
        known = self._labels
        return self._reworded(source, source.write(self.layout.examples, known))

    def _reworded(self, source: ProgramSource[S], layout: PromptLayout) -> Program[S]:
        """Return the program with the same schema and other words."""
        program = copy.copy(self)
        own: dict[str, Any] = {
            "source": source,
            "layout": layout,
            "_heads": {},
            "_variants": OrderedDict(),
            "_lock": threading.RLock(),
            "ready": False,
        }
        vars(program).update(own)
        return program

    def bind(self, columns: Columns) -> Program[S]:
        """Return the program whose inputs are rows with these columns.

        Raises:
            ConfigurationError: there is no such input field, variable or output field.
        """
        known = self._labels
        for name in columns.fields:
            if name not in self.signature.input_fields:
                raise ConfigurationError(
                    f"columns: there is no input field {name!r}; choose {', '.join(self.signature.input_fields)}."
                )
        for name in columns.variables:
            if name not in self.source.prompt.variables and labelled_field(self.signature, name, known) is None:
                self.source.prompt.with_variables({name: ""})
        program = copy.copy(self)
        program.columns = columns
        return program

    def validate(self, given: object) -> Inputs:
        """Return the validated input; see `Signature.validate_input`.

        Raises:
            InputError: the input does not fit, a column is missing, or the row of a file could not be read completely.
        """
        if isinstance(given, BrokenRow):
            raise InputError(given.error.message, **given.error.details)
        if self.columns is None:
            return self.for_input(self.signature.validate_input(given))
        inputs = self.signature.validate_input(self.columns.inputs(given))
        values = self.columns.values(given)
        if not values:
            return self.for_input(inputs)
        try:
            variant = self.variant(values)
        except ConfigurationError as error:  # the names were checked before: a value of this row is at fault
            raise InputError(f"the row does not fit: {error}") from None
        inputs = variant.for_input(inputs)
        return inputs if inputs.variant is not None else inputs._replace(variant=variant)

    def for_input(self, inputs: Inputs) -> Inputs:
        """Return the input with the program that shows the examples and labels chosen for it, if there is a choice.

        Raises:
            InputError: the signature could not show the input, or the user's embedding function fails.
        """
        if self.picker is None and self.label_picker is None:
            return inputs
        _ = self.parser  # made once, for all inputs
        try:
            return inputs._replace(variant=self._chosen(inputs))
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - format_input is the user's, and the values may be anything
            raise InputError(f"the input could not be shown: {type(error).__name__}: {snippet(error)}") from None

    def _chosen(self, inputs: Inputs) -> Program[S]:
        shown = shown_text(self.signature, inputs.values)
        layout = self.layout
        if self.picker is not None:
            examples = self.picker.choose(shown)
            if layout.examples_role == "system":
                layout = self.source.write(examples, self._labels)
            else:
                layout = replace(layout, examples=tuple(examples))
        # Without chosen examples, all inputs share their heads.
        program = copy.copy(self) if self.picker is None else self._reworded(self.source, layout)
        if self.label_picker is not None:
            program.layout = replace(layout, offer=self.label_picker.offer(shown))
        return program

    def render(self, inputs: Inputs, settings: Settings, mode: Mode | None = None) -> Request:
        """Return the request for one input.

        Raises:
            InputError: the signature could not show the input.
        """
        program = inputs.variant or self
        head = program.head(mode or self.first_mode)
        try:
            tail = program.layout.tail(inputs.values)
        except InputError:
            raise
        except UnicodeDecodeError:
            raise InputError(
                "the input has bytes that are not UTF-8 text; only texts are sent, so turn a file or an image into text"
            ) from None
        except Exception as error:  # noqa: BLE001 - format_input is the user's, and the values may be anything
            raise InputError(f"the input could not be shown: {type(error).__name__}: {snippet(error)}") from None
        return Request(head, tail, settings)

    def parse(self, completion: Completion, inputs: Inputs) -> Answer[S]:
        """Return the answer in a completion, repaired where that is safe.

        Raises:
            OutputError: it was refused, filtered or cut, or it does not fit the signature.
        """
        if inputs.variant is not None:
            answer: Answer[S] = inputs.variant.parse(completion, inputs._replace(variant=None))
            return answer
        return self.parser.parse(completion, inputs)

    def reask(
        self, request: Request, completion: Completion, error: OutputError, mode: Mode, inputs: Inputs | None = None
    ) -> Request:
        """Return the request that shows the LLM its last answer and why it does not fit.

        `request` is the first one: earlier failures leave the conversation. If not all labels were shown with the
        `inputs`, it shows the others.
        """
        reason = error.message
        program: Program[Any] = (inputs.variant if inputs is not None else None) or self
        if inputs is not None and program.label_picker is not None:
            reason = f"{reason}\n\n{program.label_picker.others(shown_text(self.signature, inputs.values))}"
        messages = reask_messages("text" if self.asked == "plain" else mode, completion, reason)
        return Request(request.head, [*request.tail, *messages], request.settings)


def compile_program(
    signature: type[S],
    prompt: Prompt | None = None,
    examples: Iterable[S | Mapping[str, Any]] = (),
    mode: AskMode = "auto",
    *,
    reasoning: bool = False,
    language: Language = "en",
    selection: Selection | None = None,
    shortlist: Shortlist | None = None,
) -> Program[S]:
    """Return the program of a signature: schema, prompt, examples and key prefix are prepared here, once.

    An example is a record, or a mapping of all its fields (with "reasoning", where that is asked for). With a
    `selection`, those of an input are chosen from them; with a `shortlist`, the labels that are shown with it.

    Raises:
        ConfigurationError: an example does not fit, a variable is unknown, or the mode does not suit the signature.
    """
    source = ProgramSource(
        signature=signature,
        prompt=prompt or Prompt(),
        examples=tuple(examples),
        mode=mode,
        reasoning=reasoning,
        language=language,
        selection=selection,
        shortlist=shortlist,
    )
    return Program(source)


def _with_type(label: tuple[object, str]) -> tuple[type, object, str]:
    return type(label[0]), *label  # 1 and True are equal, but not the same label
