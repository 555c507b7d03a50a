"""The confidence of a label: votes, stated, the probability of a token; on the Item, in the cache, in files."""

from __future__ import annotations

import json
import math
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

from llmtasker import LLM, Budget, Classification, InputField, OutputField, Signature, Task
from llmtasker.confidence.calibration import Calibration
from llmtasker.confidence.code_question import CODES, code_shares
from llmtasker.confidence.confident_policy import asked_by
from llmtasker.confidence.form_question import label_shares
from llmtasker.confidence.source import Confidence
from llmtasker.errors import AbstainedError, ConfigurationError, InvalidOutputError, ItemError
from llmtasker.evaluation import nearest
from llmtasker.item import Item
from llmtasker.testing import FakeTransport, FaultyServer
from llmtasker.wire.completion import Completion
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

LABELS = {"billing": "money", "delivery": "parcels", "other": ""}


class Triage(Signature):
    """Route a customer message."""

    message: str = InputField()
    quote: str = OutputField()
    team: Literal["billing", "delivery", "other"] = OutputField(labels=LABELS)


def llm(answers: Any, **options: Any) -> LLM:
    return LLM("fake", transport=FakeTransport(answers), **options)


def tokens(**probabilities: float) -> Completion:
    top = tuple((token, math.log(value)) for token, value in probabilities.items())
    return Completion(text=next(iter(probabilities)), finish_reason="length", top_logprobs=top)


# ── votes ──


def test_votes_are_the_shares_of_the_answers() -> None:
    answers = [{"label": label} for label in ("delivery", "billing", "billing", "billing", "other")]
    task = Classification(llm=llm(answers), labels=LABELS, confidence="votes")
    item = task("Why again?")
    assert item.output == "billing"
    assert item.confidence == pytest.approx({"billing": 0.6, "delivery": 0.2, "other": 0.2})
    assert list(item.confidence or ()) == ["billing", "delivery", "other"], "the surest first"
    assert item.confidence_source == "votes"
    assert item.attempts == 5


def test_each_vote_is_cached_apart_and_asked_once(tmp_path: Path) -> None:
    count = iter(range(100))
    fake = FakeTransport(lambda request: {"label": ["billing", "delivery"][next(count) % 2]})
    task = Classification(llm=LLM("fake", transport=fake, cache=tmp_path), labels=LABELS, confidence="votes")
    first = task.run(["a", "b", "a"], concurrency=1)
    assert fake.calls == 10, "two distinct rows, five answers each"
    again = task.run(["a", "b"])
    assert fake.calls == 10
    assert [item.confidence for item in again] == [item.confidence for item in first[:2]]
    assert first[0].confidence == pytest.approx({"billing": 0.6, "delivery": 0.4, "other": 0.0})
    assert [item.cached for item in again] == [True, True]
    more = task.with_(confidence=Confidence(source="votes", samples=7)).run(["a"])
    assert fake.calls == 12, "the five that are known, and two more"
    assert more[0].attempts == 2


def test_the_first_vote_is_the_answer_of_the_task_without_confidence(tmp_path: Path) -> None:
    fake = FakeTransport({"label": "other"})
    task = Classification(llm=LLM("fake", transport=fake, cache=tmp_path), labels=LABELS)
    task("a")
    task.with_(confidence="votes")("a")
    assert fake.calls == 5


def test_a_vote_that_fails_is_a_vote_for_no_label() -> None:
    answers = [{"label": "billing"}, ItemError("no"), {"label": "billing"}, ItemError("no"), {"label": "other"}]
    item = Classification(llm=llm(answers), labels=LABELS, confidence="votes")("x")
    assert item.confidence == pytest.approx({"billing": 0.4, "other": 0.2, "delivery": 0.0})


def test_where_all_votes_fail_the_row_fails() -> None:
    item = Classification(llm=llm(ItemError("no")), labels=LABELS, confidence="votes")("x")
    assert (item.error, item.confidence) == (ItemError("no"), None)


def test_votes_count_several_labels_one_by_one() -> None:
    answers = [{"labels": labels} for labels in (["a"], ["a", "b"], ["a", "b"], ["b"])]
    task = Classification(
        llm=llm(answers), labels=["a", "b", "c"], multi_label=True, confidence=Confidence(source="votes", samples=4)
    )
    item = task("x")
    assert item.output == ["a", "b"]
    assert item.confidence == {"a": 0.75, "b": 0.75, "c": 0.0}


def test_the_whole_record_is_that_of_the_label_with_most_votes() -> None:
    answers = [{"quote": quote, "team": team} for quote, team in (("p", "other"), ("q", "billing"), ("r", "billing"))]
    task = Task(Triage, llm=llm(answers), confidence=Confidence(source="votes", samples=3))
    item = task("x")
    assert (item.output and item.output.quote, item.confidence and item.confidence["other"]) == (
        "q",
        pytest.approx(1 / 3),
    )


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 1}])
def test_votes_that_would_all_be_the_same_are_refused(options: dict[str, Any]) -> None:
    task = Classification(llm=llm({"label": "other"}, **options), labels=LABELS, confidence="votes")
    with pytest.raises(ConfigurationError, match="all answers are the same"):
        task("x")


def test_a_budget_holds_for_votes() -> None:
    task = Classification(llm=llm({"label": "other"}), labels=LABELS, confidence="votes")
    budget = Budget(calls=7)
    items = task.run(["a", "b"], concurrency=1, budget=budget)
    assert budget.spent["calls"] == 7
    assert items[0].confidence == {"other": 1.0, "billing": 0.0, "delivery": 0.0}
    assert items[1].confidence == pytest.approx({"other": 0.4, "billing": 0.0, "delivery": 0.0})


# ── stated ──


def test_stated_probabilities_come_from_one_call_and_add_up() -> None:
    fake = FakeTransport({"billing": 0.6, "delivery": 0.6, "other": 0.0})
    task = Classification(llm=LLM("fake", transport=fake), labels=LABELS, examples={"a": "other"}, confidence="stated")
    item = task("Why again?")
    assert (item.output, item.confidence_source, fake.calls) == ("billing", "stated", 1)
    assert item.confidence == {"billing": 0.5, "delivery": 0.5, "other": 0.0}
    body = json.dumps(fake.requests[0].body)
    assert "Why again?" in body
    assert list(fake.requests[0].body["tools"][0]["function"]["parameters"]["properties"]) == list(LABELS)
    assert "assistant" not in [message["role"] for message in fake.requests[0].messages], "examples as text"
    assert "a\\n" in body


def test_stated_probabilities_that_are_all_zero_are_asked_again() -> None:
    fake = FakeTransport([dict.fromkeys(LABELS, 0.0), {"billing": 0.1, "delivery": 0.7, "other": 0.2}])
    item = Classification(llm=LLM("fake", transport=fake), labels=LABELS, confidence="stated")("x")
    assert (item.output, fake.calls) == ("delivery", 2)


def test_a_task_with_more_outputs_is_asked_for_these_too() -> None:
    fake = FakeTransport([{"quote": "q", "team": "billing"}, {"billing": 0.2, "delivery": 0.8, "other": 0}])
    item = Task(Triage, llm=LLM("fake", transport=fake), confidence="stated")("x")
    assert item.output == Triage(message="x", quote="q", team="billing")
    assert item.confidence == {"delivery": 0.8, "billing": 0.2, "other": 0.0}, "the second thought may differ"
    assert item.attempts == 2


# ── logprobs ──


def test_the_probability_of_a_label_is_that_of_its_code() -> None:
    fake = FakeTransport(tokens(B=0.5, A=0.3, The=0.15, b=0.05))
    task = Classification(
        llm=LLM("fake", transport=fake, max_tokens=300), labels=LABELS, examples={"e": "other"}, confidence="logprobs"
    )
    item = task("Why again?")
    assert (item.output, item.raw, item.confidence_source) == ("delivery", "B", "logprobs")
    assert item.confidence == pytest.approx({"delivery": 0.625, "billing": 0.375, "other": 0.0}, abs=1e-6)
    body = fake.requests[0].body
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
    assert "tools" not in body
    system = body["messages"][0]["content"]
    assert "A: billing\nB: delivery\nC: other" in system
    assert system.count("parcels") == 1, "what labels mean is said once"
    assert body["messages"][2] == {"role": "assistant", "content": "C"}
    assert fake.requests[0].content.count(b"max_tokens") == 1


@pytest.mark.parametrize("seed", range(20))
def test_known_distributions_of_tokens_are_reproduced(seed: int) -> None:
    random = Random(seed)
    labels = [f"label {number}" for number in range(random.randint(2, 20))]
    weights = [random.random() ** 3 for _ in range(len(labels) + 3)]
    probabilities = dict(zip([*CODES[: len(labels)], "x", "y", "z"], (w / sum(weights) for w in weights), strict=True))
    top = sorted(probabilities.items(), key=lambda pair: -pair[1])[:20]
    task = Classification(llm=llm(tokens(**dict(top))), labels=labels, confidence="logprobs")
    known = {label: probabilities[code] for label, code in zip(labels, CODES, strict=False)}
    if len(top) == len(probabilities):
        total = sum(known.values())
        assert task("x").confidence == pytest.approx({label: p / total for label, p in known.items()}, abs=1e-6)
    assert sum((task("x").confidence or {}).values()) == pytest.approx(1)


def test_labels_that_are_not_returned_share_what_is_left_over() -> None:
    shares = code_shares([("A", math.log(0.5)), ("B", math.log(0.3))], ["A", "B", "C", "D"])
    assert shares == pytest.approx({"A": 0.5, "B": 0.3, "C": 0.1, "D": 0.1})
    shares = code_shares([("The", math.log(0.5)), ("A", math.log(0.2)), ("B", math.log(0.01))], ["A", "B", "C"])
    assert shares == pytest.approx({"A": 0.2 / 0.22, "B": 0.01 / 0.22, "C": 0.01 / 0.22}), "never more than the least"
    assert code_shares([("The", -0.1)], ["A", "B"]) is None


def test_an_endpoint_without_logprobs_is_named_as_the_reason() -> None:
    fake = FakeTransport("A")
    item = Classification(llm=LLM("fake", transport=fake), labels=LABELS, confidence="logprobs")("x")
    assert isinstance(item.error, InvalidOutputError)
    assert "returns no token probabilities" in item.error.message
    assert fake.calls == 1, "to ask again would not help"


def test_first_tokens_that_are_not_codes_are_named() -> None:
    item = Classification(llm=llm(tokens(The=0.9, It=0.1)), labels=LABELS, confidence="logprobs")("x")
    assert "'The', 'It'" in str(item.error)


def test_reasoning_comes_from_the_ordinary_call_and_not_before_the_code() -> None:
    fake = FakeTransport(
        lambda r: tokens(A=0.9, B=0.1) if r.body.get("logprobs") else {"reasoning": "so", "label": "other"}
    )
    task = Classification(llm=LLM("fake", transport=fake), labels=LABELS, reasoning=True, confidence="logprobs")
    item = task("x")
    assert (item.output, item.reasoning) == ("other", "so")
    assert item.confidence == pytest.approx({"billing": 0.9, "delivery": 0.1, "other": 0.0}, abs=1e-6)


def test_numbers_members_and_no_label_are_labels_too() -> None:
    class Team(Enum):
        BILLING = "billing"
        OTHER = "other"

    answers = tokens(C=0.6, A=0.4)
    assert Classification(llm=llm(answers), labels=[1, 2, 3], confidence="logprobs")("x").output == 3
    assert Classification(llm=llm(tokens(B=1.0)), labels=Team, confidence="logprobs")("x").output is Team.OTHER
    item = Classification(llm=llm(answers), labels=["a", "b"], allow_none=True, confidence="logprobs")("x")
    assert (item.ok, item.output, item.confidence and item.confidence[""]) == (True, None, pytest.approx(0.6))


def test_labels_of_a_row_have_their_own_codes() -> None:
    fake = FakeTransport(lambda request: tokens(A=0.8, B=0.2))
    task = Classification(llm=LLM("fake", transport=fake), labels=LABELS, confidence="logprobs")
    rows = [{"text": "x", "set": ["p", "q"]}, {"text": "y", "set": ["r", "s"]}]
    items = task.run(rows, row_variables={"label": "set"})
    assert [item.confidence for item in items] == [
        pytest.approx({"p": 0.8, "q": 0.2}),
        pytest.approx({"r": 0.8, "s": 0.2}),
    ]


@pytest.mark.parametrize("source", ["logprobs", "stated"])
def test_examples_that_are_chosen_for_a_row_are_shown(source: Any) -> None:
    fake = FakeTransport(lambda request: tokens(A=0.8, B=0.2) if source == "logprobs" else dict.fromkeys(LABELS, 0.5))
    pool = {"my card was stolen": "billing", "the parcel is late": "delivery"}
    task = Classification(llm=LLM("fake", transport=fake), labels=LABELS, examples=nearest(pool, 1), confidence=source)
    task.run(["a late parcel", "a stolen card"], concurrency=1)
    bodies = [json.dumps(request.body["messages"]) for request in fake.requests]
    assert ["parcel is late" in body for body in bodies] == [True, False]
    assert ["card was stolen" in body for body in bodies] == [False, True]


def test_logprobs_come_over_http_and_from_the_cache(tmp_path: Path) -> None:
    top = [{"token": "B", "logprob": math.log(0.75)}, {"token": " A", "logprob": math.log(0.25)}]
    choice = {
        "message": {"role": "assistant", "content": "B"},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": "B", "logprob": top[0]["logprob"], "top_logprobs": top}]},
    }
    with FaultyServer(
        lambda call: {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    ) as server:
        model = LLM("m", base_url=server.base_url, cache=tmp_path)
        task = Classification(llm=model, labels=LABELS, confidence="logprobs")
        for cached in (False, True):
            item = task("x")
            assert item.confidence == pytest.approx({"delivery": 0.75, "billing": 0.25, "other": 0.0}, abs=1e-6)
            assert item.cached == cached


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "B", "logprobs": {"tokens": ["B"], "top_logprobs": [{"A": -2.0, "B": -1.0}]}},
        {"text": "B", "completion_probabilities": [{"token": "B", "top_logprobs": [
            {"token": "B", "logprob": -1.0}, {"token": "A", "logprob": -2}]}]},
    ],
)  # fmt: skip
def test_other_dialects_of_logprobs_are_read(choice: dict[str, Any]) -> None:
    found = read_completion(json.dumps({"choices": [choice]}))
    assert found.top_logprobs == (("B", -1.0), ("A", -2.0))
    assert Completion.from_json(found.to_json()) == found


BROKEN = [{"token": 3, "logprob": -1}, {"token": "A", "logprob": float("nan")}, {"token": "A"}, 4]


@pytest.mark.parametrize(
    "logprobs", [None, [], 7, {"content": None}, {"content": [None]}, {"content": [{"top_logprobs": BROKEN}]}]
)
def test_broken_logprobs_are_none(logprobs: Any) -> None:
    body = json.dumps({"choices": [{"message": {"content": "B"}, "logprobs": logprobs}]})
    assert read_completion(body).top_logprobs == ()


# ── label scores ──


def test_label_scores_continue_a_form() -> None:
    fake = FakeTransport(Completion(text=" chat", top_logprobs=((" del", math.log(0.6)), (" bill", math.log(0.3)))))
    model = LLM("fake", transport=fake, temperature=0, max_tokens=300)
    task = Classification(llm=model, labels=LABELS, examples={"a bill": "billing"}, confidence="label_scores")
    item = task("Where is it?")
    assert (item.output, item.confidence_source) == ("delivery", "label_scores")
    assert item.confidence == pytest.approx({"delivery": 0.6, "billing": 0.3, "other": 0.1}, abs=1e-6)
    (request,) = fake.requests
    assert request.body == {
        "model": "fake",
        "prompt": "Text: a bill\nLabel: billing\n\nText: Where is it?\nLabel:",
        "max_tokens": 1,
        "logprobs": 24,
        "post_sampling_probs": True,
        "samplers": ["temperature"],
        "temperature": 1.0,
        "logit_bias": [[" billing", 50.0], [" delivery", 50.0], [" other", 50.0]],
    }
    assert json.loads(request.content) == request.body


def test_the_longest_token_of_a_label_counts_and_a_common_one_is_shared() -> None:
    written = {"card arrival": " card arrival", "card lost": " card lost", "sports": " sports", "none": " none"}
    top = [(" card", 0.5), (" sports", 0.2), (" s", 0.1), (" c", 0.1), (" none", 0.05)]
    shares = label_shares([(token, math.log(share)) for token, share in top], written)
    assert shares == pytest.approx(
        {label: share / 0.75 for label, share in zip(written, (0.25, 0.25, 0.2, 0.05), strict=True)}
    )
    assert label_shares([(" x", -1.0)], written) is None


def test_label_scores_go_to_the_completions_of_a_server() -> None:
    paths = list[str]()

    def answer(body: Any) -> dict[str, Any]:
        paths.append(body["prompt"])
        top = [{"token": " other", "prob": 0.6}, {"token": " billing", "prob": 0.3}, {"token": " x", "prob": 0.1}]
        logprobs = {"content": [{"token": " other", "prob": 0.5, "top_probs": top}]}
        return {"choices": [{"text": " other", "finish_reason": "length", "logprobs": logprobs}]}

    with FaultyServer(answer) as server:
        task = Classification(
            llm=LLM("m", base_url=server.base_url, cache=False), labels=LABELS, confidence="label_scores"
        )
        for item in (task("x"), *task.run(["x"])):
            assert item.confidence == pytest.approx({"other": 2 / 3, "billing": 1 / 3, "delivery": 0.0}, abs=1e-6)
    assert paths == ["Text: x\nLabel:"] * 2


def test_label_scores_and_prompts_have_keys_of_their_own() -> None:
    task = Classification(llm=llm("x"), labels=LABELS, confidence="label_scores")
    keys = {row.key for text in ("a", "b") for row in task._policy().rows(text)}
    other = task.with_(labels=["a", "b"])
    assert len(keys | {row.key for row in other._policy().rows("a")}) == 3


# ── abstaining ──


def calibration(task: Classification, **changes: Any) -> Calibration:
    asked = asked_by(task.program, task.llm, Confidence(source="logprobs"))
    return Calibration(temperature=1.0, floor=0.0, asked=asked, rows=100, **changes)


def test_an_answer_below_the_threshold_is_an_error_that_holds_it() -> None:
    model = llm(lambda request: tokens(A=0.9, B=0.1) if "easy" in str(request.body) else tokens(A=0.6, B=0.4))
    task = Classification(llm=model, labels=LABELS, confidence="logprobs")
    sure = task.with_(confidence=Confidence(source="logprobs", calibration=calibration(task, threshold=0.8)))
    easy, hard = sure.run(["easy", "hard"])
    assert (easy.output, easy.confidence_source) == ("billing", "logprobs, calibrated")
    assert isinstance(hard.error, AbstainedError)
    assert (hard.output, hard.error.guess, hard.raw) == (None, "billing", "A")
    assert hard.confidence == pytest.approx({"billing": 0.6, "delivery": 0.4, "other": 0.0}, abs=1e-6)
    again: Item[Any] = Item.from_json(hard.to_json())
    assert (again.error, again.confidence, again.confidence_source) == (
        hard.error,
        hard.confidence,
        "logprobs, calibrated",
    )


def test_a_calibration_holds_for_its_llm_and_prompt_only() -> None:
    task = Classification(llm=llm(tokens(A=0.9, B=0.1)), labels=LABELS, confidence="logprobs")
    sure = task.with_(confidence=Confidence(source="logprobs", calibration=calibration(task)))
    assert sure("x").ok
    for other in (
        sure.with_(examples={"a": "other"}),
        sure.with_(instructions="Other {classes}"),
        sure.with_(llm=LLM("another", transport=FakeTransport(tokens(A=0.9, B=0.1)))),
    ):
        with pytest.raises(ConfigurationError, match="calibrated with another"):
            other("x")
        assert other.with_(confidence="logprobs")("x").ok


def test_a_calibrated_task_is_saved_and_loaded(tmp_path: Path) -> None:
    task = Classification(llm=llm(tokens(A=0.6, B=0.4)), labels=LABELS, confidence="logprobs")
    fitted = calibration(task, threshold=0.8, max_risk=0.05, bound=0.04, points=((0.5, 0.6, True),))
    task.with_(confidence=Confidence(source="logprobs", calibration=fitted)).save(tmp_path / "sure.json")
    loaded = Classification.load(tmp_path / "sure.json", llm=task.llm)
    assert loaded.plan.confidence_settings == Confidence(
        source="logprobs", calibration=Calibration.from_dict(vars(fitted))
    )
    assert isinstance(loaded("x").error, AbstainedError)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("temperature", "a"), ("floor", -1), ("rows", None)])
def test_a_forged_calibration_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    task = Classification(llm=llm("x"), labels=LABELS, confidence="logprobs")
    task.with_(confidence=Confidence(source="logprobs", calibration=calibration(task))).save(tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    document["settings"]["confidence"]["calibration"][name] = value
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="calibration"):
        Classification.load(tmp_path / "t.json", llm=task.llm)


# ── set-up ──


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(llm="offline", labels=["a", "b"], confidence="vote"), "confidence is one of"),
        (lambda: Classification(llm="offline", labels=["a", "b"], confidence=3), "a source or a Confidence"),
        (lambda: Confidence(source="votes", samples=1), "at least 2"),
        (lambda: Classification(llm="offline", labels=["a", "b"], group_size=5, confidence="votes"), "group_size"),
        (lambda: Classification(llm="offline", labels=["a"], multi_label=True, confidence="stated"), "several labels"),
        (
            lambda: Classification(llm="offline", labels=["a"], open_set=True, confidence="stated"),
            "not among its labels",
        ),
        (
            lambda: Task(Triage, llm="offline", confidence=Confidence(source="votes", field="tem")),
            "no output field 'tem'",
        ),
        (lambda: Task(Numbers, llm="offline", confidence="votes"), "no output field has labels"),
    ],
)
def test_wrong_set_ups_are_refused_early(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


class Numbers(Signature):
    """Count."""

    text: str = InputField()
    one: int = OutputField()
    two: int = OutputField()


def test_too_many_labels_have_no_code() -> None:
    labels = [f"label {number}" for number in range(60)]
    with pytest.raises(ConfigurationError, match="52 labels at most"):
        Classification(llm="offline", labels=labels, confidence="logprobs")("x")


def test_an_estimate_counts_all_calls() -> None:
    task = Classification(llm=llm({"label": "other"}), labels=LABELS, confidence="votes")
    assert task.estimate(["a", "b", "b"]).calls == 10
    more = Task(Triage, llm=llm("x"), confidence="stated")
    assert more.estimate(["a", "b"]).calls == 4


def test_a_batch_has_no_confidence(tmp_path: Path) -> None:
    task = Classification(llm=llm("x", cache=tmp_path), labels=LABELS, confidence="votes")
    with pytest.raises(ConfigurationError, match="has no confidence"):
        task.submit(["a"])


def test_the_question_is_not_confused_with_the_task_in_flight() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Any:
        seen.append(request)
        return tokens(A=0.9, B=0.1) if request.body.get("logprobs") else {"quote": "q", "team": "other"}

    items = Task(Triage, llm=llm(answer), confidence="logprobs").run(["same"] * 6, concurrency=6)
    assert len({item.output.quote for item in items if item.output}) == 1
    assert len({request.key for request in seen}) == 2
