"""The confidence of answers: a number for each label, from one of four sources, calibrated on labelled rows.

source            Confidence: the settings
label_field       the output field with the labels
code_question     "logprobs": the labels as codes of one token, whose probabilities are read
form_question     "label_scores": llama.cpp continues a form, and the label's first token is scored
stated_question   "stated": the LLM fills in a probability for each label
confident_policy  from one input to an Item with its confidence; "votes" asks several times
calibration       the fit to labelled rows and the threshold that keeps a promised risk; its figures and page
"""

from __future__ import annotations

from llmtasker.confidence.calibration import Calibration
from llmtasker.confidence.source import Confidence

__all__ = ["Calibration", "Confidence"]
