"""Examples chosen for each input: which ones, their order and place, and that they are the same in every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import programs
import pytest

from llmtasker import LLM, CallSettings, Classification, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.evaluation import balanced, diverse, fixed, nearest, random_
from llmtasker.testing import FakeTransport

POOL = [
    ("my card was stolen yesterday", "card"),
    ("the card was stolen on a train", "card"),
    ("someone has stolen my card", "card"),
    ("where is my parcel", "parcel"),
    ("the parcel came broken", "parcel"),
    ("I was charged twice", "bill"),
    ("the bill has a wrong amount", "bill"),
]
LABELS = ["card", "parcel", "bill"]
INPUT = "was my card stolen?"


class Ticket(Signature):
    """Name the team."""

    text: str = InputField()
    team: Literal["card", "parcel", "bill"] = OutputField()


class Summary(Signature):
    """Sum up."""

    text: str = InputField()
    summary: str = OutputField()


def shown(task: Task[Any], text: str = INPUT, **options: Any) -> list[str]:
    """The inputs of the examples in the prompt, in order."""
    turns = task.preview(text, **options).messages[1:-1]
    return [message["content"] for message in turns[::2]]


def classify(examples: Any, **options: Any) -> Classification:
    return Classification(
        llm=LLM(transport=FakeTransport({"label": "card"})), labels=LABELS, examples=examples, **options
    )


def test_nearest_first() -> None:
    assert shown(classify(nearest(POOL, 3))) == [text for text, _ in POOL[:3]]


def test_balanced_shows_each_label_before_a_second_example_of_one() -> None:
    texts = shown(classify(balanced(POOL, 5)))
    labels = dict(POOL)
    assert [labels[text] for text in texts][:1] == ["card"]
    assert {labels[text] for text in texts[:3]} == set(LABELS)
    assert len({labels[text] for text in texts[3:]}) == 2


def test_diverse_examples_are_unlike_each_other() -> None:
    copies = [(f"my card was stolen yesterday{mark}", "card") for mark in ("", "!", "?", " .")]
    pool = [*copies, ("the card was lost", "card"), ("where is my parcel", "parcel")]
    near, wide = (shown(classify(kind(pool, 3))) for kind in (nearest, diverse))
    assert near == [text for text, _ in copies[:3]]
    assert wide[0] == near[0]
    assert not {text for text, _ in copies} & {*wide[1:]}


def test_fixed_are_the_same_for_all_inputs() -> None:
    task = classify(fixed(POOL, 2))
    assert shown(task) == shown(task, "anything") == [text for text, _ in POOL[:2]]


def test_random_ones_differ_by_input_and_seed_but_not_by_run() -> None:
    task, again, other = (classify(random_(POOL, 3, seed=seed)) for seed in (0, 0, 1))
    inputs = [f"text {number}" for number in range(9)]
    draws = [shown(task, text) for text in inputs]
    assert draws == [shown(again, text) for text in inputs]
    assert draws != [shown(other, text) for text in inputs]
    assert len(set(map(tuple, draws))) > 3


def test_another_process_chooses_the_same() -> None:
    code = "import test_chosen_examples as t; print(t.keys())"
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parent), "HOME": "/nonexistent"}
    run = programs.run("-c", code, env=env, check=True)
    assert run.stdout.strip() == keys()


def keys() -> str:
    """The cache keys of an input with each kind of choice."""
    kinds: list[Callable[[Any, int], Any]] = [random_, nearest, diverse, balanced]
    return " ".join(classify(kind(POOL, 3)).preview(INPUT).request.key for kind in kinds)


def test_an_example_is_not_shown_for_its_own_input() -> None:
    for kind in (random_, nearest, diverse, balanced):
        task = classify(kind(POOL, len(POOL)))
        for text, _ in POOL:
            assert text not in shown(task, text)
            assert len(shown(task, text)) == len(POOL) - 1


def test_what_all_inputs_share_comes_first() -> None:
    task = classify(nearest(POOL, 2))
    one, other = (task.preview(text).messages for text in (INPUT, "the parcel is broken"))
    assert one[0] == other[0]
    assert one[0]["role"] == "system"
    assert one[1:-1] != other[1:-1]


def test_the_key_is_that_of_the_prompt() -> None:
    chosen = classify(nearest(POOL, 2)).preview(INPUT)
    given = classify(POOL[:2]).preview(INPUT)
    assert chosen.messages == given.messages
    assert chosen.request.key == given.request.key


@pytest.mark.parametrize("role", ["turns", "system", "user"])
def test_each_role_shows_what_given_examples_would(role: Any) -> None:
    chosen = classify(nearest(POOL, 2), examples_role=role).preview(INPUT)
    assert chosen.body == classify(POOL[:2], examples_role=role).preview(INPUT).body


def test_examples_stand_where_the_instructions_put_them() -> None:
    words = "Sort.\n{classes}\n{examples}"
    task = classify(nearest(POOL, 1), instructions=words)
    assert task.preview(INPUT).messages == classify([POOL[0]], instructions=words).preview(INPUT).messages


def test_a_task_with_a_signature_takes_records_and_mappings() -> None:
    records = [Ticket(text=text, team=label) for text, label in POOL]  # type: ignore[arg-type]
    mappings = [record.model_dump() for record in records]
    tasks = [Task(Ticket, llm="offline", examples=balanced(pool, 3)) for pool in (records, mappings)]
    assert tasks[0].preview(INPUT).request.key == tasks[1].preview(INPUT).request.key


def test_a_run_chooses_for_each_row() -> None:
    task = Classification(llm=LLM("offline", cache=False), labels=LABELS, examples=nearest(POOL, 2))
    items = task.run(["the parcel was broken", "my card was stolen", "charged twice again"])
    assert [item.output for item in items] == ["parcel", "card", "bill"]


def test_an_embedding_function_can_be_given() -> None:
    words = sorted({word for text, _ in POOL for word in text.split()})
    asked = list[list[str]]()

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return [[float(word in text.split()) for word in words] for text in texts]

    for kind in (nearest, diverse, balanced):
        task = classify(kind(POOL, 2, embed=embed))
        assert shown(task, "where is the parcel")[0] in {"where is my parcel", "the parcel came broken"}
    assert asked[0] == [text for text, _ in POOL]
    assert asked[1] == ["where is the parcel"]


@pytest.mark.parametrize("result", [[], [[1.0], [2.0, 3.0]], [[float("nan")]] * 7, None, ["a"] * 7])
def test_an_embedding_function_that_fails_is_a_mistake_in_the_set_up(result: Any) -> None:
    with pytest.raises(ConfigurationError, match="embed"):
        classify(nearest(POOL, 2, embed=lambda texts: result)).run([INPUT], progress=False)


def test_an_embedding_function_that_fails_for_a_row_is_the_error_of_that_row() -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        if texts == ["bad"]:
            raise ValueError("no vector")
        return [[1.0, float(len(text))] for text in texts]

    items = classify(nearest(POOL, 2, embed=embed)).run([INPUT, "bad"], progress=False)
    assert items[0].ok
    assert items[1].error is not None
    assert "no vector" in items[1].error.message


def test_a_call_can_choose_others() -> None:
    settings = CallSettings(examples=nearest(POOL, 1))
    assert shown(classify(fixed(POOL, 5)), settings=settings) == [POOL[0][0]]
    assert shown(classify(nearest(POOL, 1)), settings=CallSettings(examples=POOL[:2])) == [text for text, _ in POOL[:2]]


def test_the_labels_of_a_row_leave_out_examples_with_others() -> None:
    settings = CallSettings(variables={"label": ["parcel", "bill"]})
    assert set(shown(classify(balanced(POOL, 7)), settings=settings)) == {
        text for text, label in POOL if label != "card"
    }


@pytest.mark.parametrize("kind", [fixed, random_, nearest, diverse, balanced])
def test_a_saved_task_chooses_the_same(kind: Any, tmp_path: Path) -> None:
    task = classify(kind(POOL, 3))
    task.save(tmp_path / "task.json")
    again = Classification.load(tmp_path / "task.json", llm=task.llm)
    assert again.preview(INPUT).request.key == task.preview(INPUT).request.key
    assert not task.diff(again)


def test_an_embedding_function_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="embed"):
        classify(nearest(POOL, 2, embed=lambda texts: [[1.0]] * len(texts))).save(tmp_path / "task.json")


def test_a_forged_selection_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    classify(nearest(POOL, 3)).save(path)
    for forged in ('"nearest"', '"count": 3'):
        bad = path.with_name("bad.json")
        bad.write_text(path.read_text().replace(forged, forged.replace("nearest", "eval").replace("3", "-3")))
        with pytest.raises(ConfigurationError):
            Classification.load(bad, llm="offline")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nearest([], 3), "empty"),
        (lambda: nearest("text", 3), "list"),
        (lambda: nearest(POOL, 0), "at least 1"),
        (lambda: nearest(POOL, 3, embed=3), "function"),  # type: ignore[arg-type]
        (lambda: classify(nearest([("text", "tiger")], 3)), "tiger"),
        (lambda: classify(nearest(POOL, 3), group_size=4), "group_size"),
        (lambda: Task(Summary, llm="offline", examples=balanced([Summary(text="a", summary="b")], 1)), "labels"),
    ],
)
def test_mistakes_are_named_before_any_call(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
