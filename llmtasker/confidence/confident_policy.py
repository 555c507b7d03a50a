"""ConfidentPolicy: from one input to an Item with the confidence of its label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from llmtasker.compiler.program import MAX_VARIANTS, Program
from llmtasker.compiler.prompt import PromptLayout
from llmtasker.confidence.calibration_figures import sure_of_all
from llmtasker.confidence.code_question import CodeQuestion
from llmtasker.confidence.form_question import FormQuestion
from llmtasker.confidence.label_field import LabelField, label_field
from llmtasker.confidence.source import Confidence
from llmtasker.confidence.stated_question import StatedQuestion
from llmtasker.errors import AbstainedError, ConfigurationError, ItemError, OutputError
from llmtasker.item import Item, jsonable, together
from llmtasker.llm.llm import LLM
from llmtasker.runner.policy import Policy
from llmtasker.runner.row import Row
from llmtasker.runner.steps import Steps
from llmtasker.signature.signature import S, Signature
from llmtasker.wire.completion import Completion, ToolCall

T = TypeVar("T")

Question = CodeQuestion | FormQuestion | StatedQuestion

_QUESTIONS: Mapping[str, type[CodeQuestion] | type[FormQuestion] | type[StatedQuestion]] = {
    "logprobs": CodeQuestion,
    "label_scores": FormQuestion,
    "stated": StatedQuestion,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """Return the question about the label field of a program; None: the program itself is asked several times.

    `whole` is whether the label is the task's only output, so that the question replaces the task's own.
    """

    field: LabelField
    program: Question | None
    layout: PromptLayout
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentPolicy(Policy[S, T]):
    """A policy whose items have a confidence; below a calibrated threshold, the item is an error.

    All calls go through separate policies, so cache, limits, budget and retries work as for any other call.
    """

    confidence: Confidence
    checked: list[bool] = field(default_factory=list[bool])
    questions: dict[type[Signature], _Asking] = field(default_factory=dict[type[Signature], _Asking])

    def ask(self, given: object) -> Steps[Item[T]]:
        """Yield the steps to the item of one input; errors of the endpoint or the input are not raised."""
        row = self.prepare(given)
        if isinstance(row, Item):
            return row
        self._check()
        question = self._question(row.inputs.variant or self.program)
        if question.program is None:
            item, shares = yield from self._voted(row, question.field)
        else:
            item, shares = yield from self._asked(row, question, question.program)
        if item.error is not None:
            return cast("Item[T]", item)
        return self._judged(item, shares, question.field)

    def rows(self, given: object) -> list[Row]:
        """Return the rows to ask for one input; see `Policy.rows`."""
        row = self.prepare(given)
        if isinstance(row, Item):
            return []
        question = self._question(row.inputs.variant or self.program)
        if question.program is None:
            return [row.sample(number) for number in range(self.confidence.samples)]
        return [*([] if question.whole else [row]), self._row_of(row, question.program)]

    def _check(self) -> None:
        if self.checked:
            return
        settings, fitted = self.llm.settings.body, self.confidence.calibration
        if self.confidence.source == "votes" and (settings.get("temperature") == 0 or "seed" in settings):
            raise ConfigurationError(
                'confidence="votes": all answers are the same with temperature=0 or a seed. Leave them out: '
                "answers are cached, so a run can still be repeated."
            )
        if fitted is not None and fitted.asked != asked_by(self.program, self.llm, self.confidence):
            raise ConfigurationError(
                "the confidence of this task was calibrated with another LLM, prompt or settings, so its promise is "
                "not valid: calibrate it again, or set confidence= without a calibration."
            )
        self.checked.append(True)

    def _question(self, program: Program[Any]) -> _Asking:
        """Return the question of a program, made once for a signature; rows may have their own words."""
        found = self.questions.get(program.signature)
        if found is None:
            labels = label_field(program.signature, self.confidence.field, self.confidence.source)
            kind = _QUESTIONS.get(self.confidence.source)
            found = _Asking(
                field=labels,
                program=None if kind is None else kind(program, labels),
                layout=program.layout,
                whole=is_whole(program, self.confidence),
            )
            if len(self.questions) >= MAX_VARIANTS:
                self.questions.pop(next(iter(self.questions)), None)
            self.questions[program.signature] = found
        if found.program is None or found.layout is program.layout:
            return found
        return replace(found, program=found.program.worded(program.layout))

    def _policy_of(self, program: Program[Any]) -> Policy[Any, Any]:
        return Policy(
            program=program,
            llm=self.llm,
            present=_unchanged,
            attempts=1 if isinstance(program, CodeQuestion | FormQuestion) else self.attempts,
            fresh=self.fresh,
            budget=self.budget,
            tags=self.tags,
            breaker=self.breaker,
            clock=self.clock,
            random=self.random,
        )

    def _row_of(self, row: Row, program: Program[Any]) -> Row:
        request = program.render(row.inputs, self.llm.settings)
        return Row(given=row.given, inputs=row.inputs, request=request, key=request.key).sample(self.sample)

    def _voted(self, row: Row, labels: LabelField) -> Steps[tuple[Item[Any], dict[str, float]]]:
        """Return an item with the answer that most samples give, and each label's share of the samples."""
        policy, items = self._policy_of(self.program), list[Item[Any]]()
        for number in range(self.confidence.samples):
            items.append((yield from policy.ask_row(row.sample(number))))
        answers = [(item, labels.texts(getattr(item.output, labels.name))) for item in items if item.ok]
        if not answers:
            return together(items[0], items), {}
        # A failed sample does not vote for any label.
        shares = dict.fromkeys(labels.values, 0.0) if labels.closed else dict[str, float]()
        for _, texts in answers:
            for text in dict.fromkeys(texts):
                shares[text] = shares.get(text, 0.0) + 1 / len(items)
        alike = [frozenset(texts) for _, texts in answers]
        most = max(alike, key=alike.count)
        return together(answers[alike.index(most)][0], items), shares

    def _asked(self, row: Row, question: _Asking, program: Program[Any]) -> Steps[tuple[Item[Any], dict[str, float]]]:
        """Return an item with the answer, and the share that the question found for each label."""
        items = list[Item[Any]]()
        if not question.whole:
            items.append((yield from self._policy_of(self.program).ask_row(row)))
            if items[0].error is not None:
                return items[0], {}
        try:
            asking = self._row_of(row, program)
        except ItemError as error:
            return Item(input=row.given, error=error, tags=self.tags), {}
        item: Item[Any] = yield from self._policy_of(program).ask_row(asking)
        items.append(item)
        if item.error is not None:
            return together(item, items), {}
        shares: dict[str, float] = item.output or {}
        if not question.whole:
            return together(items[0], items), shares
        fitted = self._fitted(shares)
        try:
            record = self._record(row, question.field, max(fitted, key=fitted.__getitem__))
        except OutputError as error:
            return replace(item, output=None, error=error), {}
        return replace(item, output=record), shares

    def _record(self, row: Row, labels: LabelField, label: str) -> Signature:
        """Return the record of a label, validated as if the LLM had written it."""
        text = json.dumps({labels.wire: labels.values[label]})
        called = self.program.first_mode == "tools"
        calls = (ToolCall(name=self.program.model.__name__, arguments=text),) if called else ()
        written = Completion(text=None if called else text, tool_calls=calls, finish_reason="stop")
        record: Signature = self.program.parse(written, row.inputs).record
        return record

    def _fitted(self, shares: Mapping[str, float]) -> dict[str, float]:
        calibration = self.confidence.calibration
        return dict(shares) if calibration is None or not shares else calibration.apply(shares)

    def _judged(self, item: Item[Any], shares: Mapping[str, float], labels: LabelField) -> Item[T]:
        found = self._fitted(shares)
        record = cast("S", item.output)
        calibration = self.confidence.calibration
        if calibration is not None and calibration.thresholds:
            chosen = calibration.chosen(found)
            changed = _with_labels(record, labels, chosen)
            if changed is None:
                return self._refused(item, record, sure_of_all(frozenset(chosen), found), found)
            record = changed
        ordered = dict(sorted(found.items(), key=lambda pair: -pair[1]))
        output = self.present(record)
        done: Item[T] = replace(item, output=output, confidence=ordered, confidence_source=self.confidence.name)
        if calibration is None or calibration.threshold is None:
            return done
        sure = labels.sure(getattr(record, labels.name), found)
        if sure >= calibration.threshold:
            return done
        error = AbstainedError(
            f"the answer is not sure enough: its confidence is {sure:.3f}, and the threshold is "
            f"{calibration.threshold:.3f}",
            guess=jsonable(record.outputs() if isinstance(output, Signature) else output),
            confidence=sure,
        )
        return replace(done, output=None, error=error)

    def _refused(self, item: Item[Any], record: Any, sure: float, found: dict[str, float]) -> Item[T]:
        """Return the item without the voted record, because the promised risk is that of the refused labels."""
        output = self.present(record)
        error = AbstainedError(
            "the labels that the calibration chooses do not fit the signature",
            guess=jsonable(record.outputs() if isinstance(output, Signature) else output),
            confidence=sure,
        )
        return replace(item, output=None, error=error, confidence=found, confidence_source=self.confidence.name)


def is_whole(program: Program[Any], confidence: Confidence) -> bool:
    """Return whether the question for the confidence replaces the task's own: a label is its only output."""
    alone = len(program.signature.output_fields) == 1 and not program.source.reasoning
    return alone and confidence.source != "votes"


def asked_by(program: Program[Any], llm: LLM, confidence: Confidence) -> str:
    """Return a hash of what a calibration depends on: source, LLM and prompt, with the pool of chosen examples."""
    _, started = program.head(program.first_mode).start(llm.settings)
    pool = "" if program.picker is None else f"{program.source.selection} {program.source.examples}"
    asked = f"{confidence.source} {confidence.field} {confidence.samples} {started.hexdigest()} {pool}"
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def confident(policy: Policy[S, T], confidence: Confidence) -> Policy[S, T]:
    """Return a policy that also asks for the confidence, and otherwise works like the given one."""
    own: dict[str, Any] = {one.name: getattr(policy, one.name) for one in fields(policy) if one.init}
    return ConfidentPolicy(**own, confidence=confidence)


def _unchanged(record: Any) -> Any:
    return record


def _with_labels(record: S, labels: LabelField, chosen: Sequence[str]) -> S | None:
    """Return a record with other labels; None if the signature does not accept them."""
    values = [labels.values[label] for label in chosen]
    try:
        return type(record).model_validate({**record.inputs(), **record.outputs(), labels.name: values})
    except Exception:  # noqa: BLE001 - a validator of the signature may raise anything
        return None
