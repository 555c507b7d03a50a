"""Confidence: the settings by which a task determines how sure its labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from llmtasker.confidence.calibration import Calibration
from llmtasker.confidence.label_field import label_field
from llmtasker.errors import ConfigurationError, snippet
from llmtasker.signature.signature import Signature
from llmtasker.values.argument_checks import by_name, check_choice, check_count
from llmtasker.values.json_values import is_mapping

ConfidenceSource = Literal["votes", "stated", "logprobs", "label_scores"]


@by_name()
@dataclass(frozen=True, kw_only=True)
class Confidence:
    """How a task determines how sure its labels are; `confidence="votes"` is short for `Confidence(source="votes")`.

    Args:
        source: "votes": the LLM is asked `samples` times, and the share of each label counts. "stated": it is asked
            for the probability of each label. "logprobs": it is asked for the code of a label, without reasoning
            first, and the probabilities of that token count. "label_scores": llama.cpp continues a form that ends
            before the label, and the probability of each label's first token counts.
        field: the output field with the labels; None: the only one that has some.
        samples: how many answers "votes" asks for; each is cached separately.
        calibration: the result of `calibrate`; without it, the numbers are not probabilities.

    Raises:
        ConfigurationError: there is no such source, or a number is out of range.

    >>> Confidence(source="votes", samples=10).samples
    10
    """

    source: ConfidenceSource
    field: str | None = None
    samples: int = 5
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_choice("confidence", self.source, get_args(ConfidenceSource))
        check_count("samples", self.samples, "the answers to ask for")
        if self.source == "votes" and self.samples < 2:
            raise ConfigurationError("samples: a single answer has no votes to compare; ask for at least 2.")

    @classmethod
    def of(cls, given: object) -> Confidence | None:
        """Return the confidence that a name, a Confidence or its JSON form means; None: none.

        Raises:
            ConfigurationError: it is something else.
        """
        if given is None or isinstance(given, Confidence):
            return given
        if isinstance(given, str):
            return cls(source=cast("ConfidenceSource", given))
        if not is_mapping(given):
            raise ConfigurationError(f"confidence is a source or a Confidence, not {snippet(repr(given), 60)}.")
        parts: dict[str, Any] = dict(given)
        if is_mapping(fitted := parts.get("calibration")):
            parts["calibration"] = Calibration.from_dict(cast("Mapping[str, Any]", fitted))
        return cls(**parts)

    def of_answers(self, signature: type[Signature]) -> Callable[[Mapping[str, Any], Mapping[str, float]], float]:
        """Return a function that computes the confidence of an answer (by field, as JSON) from that of each label.

        For several labels, it is the confidence that these are right and the others are not.

        Raises:
            ConfigurationError: the signature has no such field, or more than one, or its labels are not known.

        >>> from llmtasker import Classification
        >>> task = Classification(llm="offline", labels=["cat", "dog"], multi_label=True)
        >>> sure = Confidence(source="votes").of_answers(task.signature)
        >>> sure({"labels": ["cat", "dog"]}, {"cat": 1.0, "dog": 0.4})
        0.4
        """
        labels = label_field(signature, self.field, self.source)
        return lambda answer, found: labels.sure(answer.get(labels.name), found)

    def to_dict(self) -> dict[str, Any]:
        """Return the confidence as JSON values, which `of` reads."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def name(self) -> str:
        """The source as Items name it."""
        return self.source if self.calibration is None else f"{self.source}, calibrated"
