"""Scorer: items on gold rows → scores and their report; only judges are asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from llmtasker.errors import ItemError
from llmtasker.evaluation.evaluation_report import Report
from llmtasker.evaluation.figures import Judged, ReportRow, SampledAnswer
from llmtasker.evaluation.gold_rows import GoldRow
from llmtasker.evaluation.judge import Judge
from llmtasker.evaluation.measured_task import MeasuredTask
from llmtasker.evaluation.metrics import FieldKind, Metric, field_score, kind_of, labels_of_type, other_measures
from llmtasker.evaluation.shortlist import shortlist_check
from llmtasker.evaluation.user_metrics import applied, metric_error
from llmtasker.item import Item
from llmtasker.runner.task_run import RunOptions
from llmtasker.signature.signature_schema import fields_of, labels_of, signature_hash


@dataclass(slots=True)
class ScoredItem:
    """An item on its gold row, with the answer by field as JSON (None: it failed), scores and cost."""

    row: GoldRow
    item: Item[Any]
    answer: dict[str, Any] | None
    scores: dict[str, float]
    cost: float | None


class Scorer:
    """Scores items by the types of the fields that the gold rows have, and by metrics."""

    def __init__(self, measured: MeasuredTask, metrics: Mapping[str, Metric], rows: Sequence[GoldRow]) -> None:
        self._measured, self._metrics = measured, metrics
        self._judges = {name: metric for name, metric in metrics.items() if isinstance(metric, Judge)}
        for judge in self._judges.values():
            judge.check_inputs(measured.signature)
        self._plain = {name: metric for name, metric in metrics.items() if name not in self._judges}
        fields = {name: measured.signature.output_fields[name].annotation for name in rows[0].gold}
        self._kinds: dict[str, FieldKind] = {name: kind_of(annotation) for name, annotation in fields.items()}
        self._labels = {name: len(labels_of_type(annotation)) for name, annotation in fields.items()}
        self._in_shortlist = shortlist_check(measured.task)
        self._broken = dict[str, int]()
        self._errors = dict[str, str]()
        self._judged = dict[str, Judged]()

    def scored(self, rows: Sequence[GoldRow], items: Iterable[Item[Any]]) -> list[ScoredItem]:
        """Return the items of gold rows, in the same order, with the scores that need no judge."""
        return [self._scored(row, item) for row, item in zip(rows, items, strict=True)]

    def _scored(self, row: GoldRow, item: Item[Any]) -> ScoredItem:
        measured, answer, scores = self._measured, None, dict[str, float]()
        if item.ok:
            if self._plain:
                scores, failed = applied(self._plain, row.record, item)
                for name, why in failed.items():
                    self._count_broken(name, why)
            answer = dict(measured.answer(item))
            for name, kind in self._kinds.items():
                scores[name] = field_score(kind, row.gold[name], answer[name])
                found = other_measures(kind, row.gold[name], answer[name], self._labels[name])
                scores |= {f"{name}: {what}": value for what, value in found.items()}
        if self._in_shortlist is not None:
            scores |= self._in_shortlist(row)
        return ScoredItem(row, item, answer, scores, measured.cost(item))

    def _count_broken(self, name: str, why: str) -> None:
        self._broken[name] = self._broken.get(name, 0) + 1
        self._errors.setdefault(name, why)

    async def judge(self, scored: Sequence[ScoredItem], **options: Unpack[RunOptions]) -> None:
        """Add the scores of the judges."""
        answered = [one for one in scored if one.item.ok]
        for name, judge in self._judges.items():
            found, items = await judge.scores([(one.row.record, one.item) for one in answered], **options)
            for one, score in zip(answered, found, strict=True):
                if isinstance(score, Exception):
                    # The message of an ItemError repeats what the judge wrote about the row.
                    known = not isinstance(score, ItemError)
                    why = metric_error(score, one.row.record, one.item) if known else type(score).__name__
                    self._count_broken(name, why)
                else:
                    one.scores[name] = score
            self._judged[name] = self._judged.get(name, Judged()).plus(items)

    def report(
        self,
        rounds: Sequence[Sequence[ScoredItem]],
        *,
        without_gold: int = 0,
        clustered: bool = False,
        seed: int = 0,
        source: str = "",
    ) -> Report:
        """Return the report of one or several rounds of answers to the same rows."""
        more = [
            tuple(SampledAnswer(answer=one.answer, scores=one.scores) for one in others)
            for others in zip(*rounds[1:], strict=True)
        ] or [()] * len(rounds[0])
        signature = self._measured.signature
        return Report(
            signature=signature.__name__,
            signature_hash=signature_hash(fields_of(signature), labels_of(signature)),
            kinds=self._kinds,
            metrics=tuple(self._metrics),
            rows=tuple(_report_row(one, others) for one, others in zip(rounds[0], more, strict=True)),
            without_gold=without_gold,
            broken=self._broken,
            errors=self._errors,
            judged=self._judged,
            clustered=clustered,
            seed=seed,
        )


def _report_row(scored: ScoredItem, samples: tuple[SampledAnswer, ...]) -> ReportRow:
    row, item, answer = scored.row, scored.item, scored.answer
    usage = item.answer_usage if item.cached else item.usage
    return ReportRow(
        key=row.key,
        given=row.given,
        gold=row.gold,
        answer=None if answer is None else {name: answer[name] for name in row.gold},
        error=None if item.error is None else (item.error.code, item.error.message),
        scores=scored.scores,
        raw=item.raw,
        repairs=item.repairs,
        cached=item.cached,
        attempts=item.attempts,
        tokens=usage.total,
        cost=scored.cost,
        latency=None if item.cached else item.latency,
        slices=row.slices,
        cluster=None if row.cluster is None else str(row.cluster),
        samples=samples,
    )
