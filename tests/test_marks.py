"""Reasoning and control marks: one front end for plain texts and JSON."""

from __future__ import annotations

import pytest

from llmtasker.errors import InvalidOutputError, OutputError, TruncatedError
from llmtasker.parser.marks import without_marks

FINAL = "<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>"
MARKED = [
    "<think>easy</think>{}",
    "  <Reasoning>\neasy\n</Reasoning>\n{}",
    "[THINK]easy[/THINK]{}",
    "◁think▷easy◁/think▷{}",
    "<seed:think>easy</seed:think>{}",
    "<|channel>thought\neasy<channel|>{}",
    "<|START_THINKING|>easy<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",
    "<|begin_of_thought|>easy<|end_of_thought|><|begin_of_solution|>{}<|end_of_solution|>",
    "<think>easy</think><answer>{}</answer>",
    "the opening tag is absent</think>{}",
    f"{ANALYSIS}easy<|end|><|start|>assistant{FINAL}{{}}<|return|>",
    f"{FINAL}{{}}",
    f"<|start|>assistant{FINAL}{{}}<|end|>",
    "analysisThe user greets.assistantfinal{}",
    "{}<|im_end|>",
    "{}<|eot_id|>\n",
    "{}</s>",
    "{}[/INST]",
    "{}<end_of_turn>",
    "{}<｜end▁of▁sentence｜>",
    "<|im_start|>assistant\n{}<|im_end|>",
    "<start_of_turn>model\n{}<end_of_turn>",
    "<|assistant|>{}<|endoftext|>",
    "{}<|im_end|>\n<|im_start|>user\nAnd now?",
    "<think>easy</think><|begin_of_box|>{}<|end_of_box|>",
    "<longcat_think>easy</longcat_think>{}",
    "<inner_thoughts>easy</inner_thoughts>{}",
    "<|inner_prefix|>easy<|inner_suffix|>{}<|assistant_end|>",
    "<unused94>thought\neasy<unused95>{}",
    "<|im_start|>assistant<|im_sep|>{}<|im_end|>",
    "<|start_of_role|>assistant<|end_of_role|>{}<|end_of_text|>",
    "<|header_start|>assistant<|header_end|>\n\n{}<|eot|>",
    "<|turn>model\n{}<turn|>",
    "<｜Assistant｜>{}<｜end▁of▁sentence｜>",
    "[|assistant|]{}[|endofturn|]",
    "[gMASK]<sop><|assistant|>\n{}<|user|>",
    "{}<|observation|>",
    "{}\n<|user|>\nAnd now?<|assistant|>Well",
    "{}<|im_start|>user\nAnd now?",
    "{} [INST] And now? [/INST]",
    "<seed:bos>{}<seed:eos>",
]


@pytest.mark.parametrize("text", MARKED)
@pytest.mark.parametrize("answer", ["Good evening", '{"greeting": "evening"}'])
def test_the_answer_without_its_marks(text: str, answer: str) -> None:
    front = without_marks(text.replace("{}", answer))
    assert front.text.strip() == answer
    assert front.repairs
    assert ("easy" in (front.reasoning or "")) == ("easy" in text)


@pytest.mark.parametrize(
    "text",
    [
        "<think>it never ends",
        "[THINK]it never ends",
        "<think></think><think>still",
        f"{ANALYSIS}it never ends",
        f"{ANALYSIS}so<|end|><|start|>assistant",
    ],
)
def test_reasoning_that_never_ends_is_a_cut_answer(text: str) -> None:
    with pytest.raises(TruncatedError):
        without_marks(text)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<|mystery|>Hello", "<|mystery|>"),
        ("Hello<|mystery|>", "<|mystery|>"),
        ("<｜mystery｜>Hello", "<｜mystery｜>"),
        ("[PLAN]say hello[/PLAN]Hello", "[PLAN]"),
        ("Hello\n[CHECKED]yes[/CHECKED]", "[/CHECKED]"),
        ("<pondering>hm</pondering>Hello", "<pondering>"),
        ("<my_thoughts>hm</my_thoughts>Hello", "<my_thoughts>"),
        ("Hello</deep_thinking>", "</deep_thinking>"),
        ("<|mystery|>{}", "<|mystery|>"),
        ("[|mystery|]Hello", "[|mystery|]"),
        ("Hello<unused12>", "<unused12>"),
    ],
)
def test_an_unknown_mark_at_an_end_is_an_error_unless_the_input_has_it(text: str, mark: str) -> None:
    with pytest.raises(InvalidOutputError) as caught:
        without_marks(text)
    assert mark in str(caught.value)
    assert without_marks(text, lambda: f"Translate {mark}").text == text


@pytest.mark.parametrize(
    "text",
    [
        "[NAME] says hello",
        "[PLAN] Hello",
        "<b>Hello</b>",
        "Hello <|mystery|> there",
        "a < b",
        "analysis of a text",
        "[1]",
    ],
)
def test_what_is_not_a_mark_stays(text: str) -> None:
    assert without_marks(text) == (text, None, ())


@pytest.mark.parametrize("mark", ["<|im_end|>", "</s>", "<|channel|>"])
def test_a_known_mark_of_the_input_is_text(mark: str) -> None:
    assert without_marks(f"the mark {mark}", lambda: f"What is {mark}?").text == f"the mark {mark}"


def test_a_reasoning_tag_of_the_input_is_undecided() -> None:
    with pytest.raises(InvalidOutputError, match="also occurs in the input"):
        without_marks("<think>is a tag</think>", lambda: "Explain <think>")


def test_several_final_channels_are_an_error_unless_they_are_equal() -> None:
    assert without_marks(f"{FINAL}one<|end|>{FINAL}one<|return|>").text == "one"
    with pytest.raises(OutputError, match="several"):
        without_marks(f"{FINAL}one<|end|>{FINAL}two<|return|>")
