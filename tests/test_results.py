"""What came of many inputs."""

import pytest

from llmtasker import InputError, Item, RateLimitError, Results, Usage

OK = Item(input="a", output="x", usage=Usage(input=5, output=1), cost=0.5, attempts=1)
MENDED = Item(input="b", output="y", usage=Usage(input=7), cost=0.25, attempts=2, repairs=("case",))
CACHED = Item(input="c", output="z", cached=True)
LIMITED = Item(input="d", error=RateLimitError("too many"), attempts=3, cost=0.0)
WRONG = Item(input=None, error=InputError("no text"))
ALL = Results([OK, MENDED, CACHED, LIMITED, WRONG])


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_results_are_a_sequence():
    assert len(ALL) == 5
    assert ALL[0] is OK
    assert ALL[-1] is WRONG
    assert list(ALL[1:3]) == [MENDED, CACHED]
    assert isinstance(ALL[1:3], Results)
    assert OK in ALL
    assert ALL.index(CACHED) == 2
    assert list(reversed(ALL))[0] is WRONG
    with pytest.raises(IndexError):
        ALL[5]


def test_results_are_equal_where_their_items_are():
    assert Results([OK]) == Results(iter([OK]))
    assert Results([OK]) != Results([MENDED])
    assert Results() != []
    with pytest.raises(TypeError, match="unhashable"):
        hash(ALL)


def test_results_are_summed_up():
    assert ALL.outputs == ["x", "y", "z", None, None]
    assert [error.code for error in ALL.errors] == ["rate_limit", "input"]
    assert ALL.counts == {"ok": 3, "rate_limit": 1, "input": 1, "cached": 1, "repaired": 1}
    assert ALL.usage == Usage(input=12, output=1)
    assert ALL.attempts == 6


@pytest.mark.parametrize(
    ("items", "cost"),
    [
        ([], 0.0),
        ([OK, MENDED], 0.75),
        ([OK, CACHED, WRONG], 0.5),
        ([CACHED], 0.0),
        ([OK, Item(input="e", output="x", attempts=1)], None),
        ([OK, Item(input="e", error=RateLimitError("no"), attempts=1)], None),
    ],
)
def test_the_cost_is_unknown_where_that_of_a_call_is(items, cost):
    assert Results(items).cost == cost


def test_results_show_their_beginning():
    assert repr(Results()) == "Results(0 items)"
    assert repr(Results([OK, WRONG])) == (
        "Results(2 items: 1 ok, 1 input)\n  0: Item(input='a', output=x)\n  1: Item(input=None, error=input: no text)"
    )
    long = repr(Results([OK] * 12))
    assert long.count("\n") == 11
    assert long.endswith("  … 2 more")


def test_a_notebook_shows_a_table_and_no_tags_from_the_data():
    page = Results([Item(input="<b>", output="&"), LIMITED])._repr_html_()
    assert page.startswith("<p>Results(2 items: 1 ok, 1 rate_limit)</p><table>")
    assert "<td>0</td><td>&lt;b&gt;</td><td>&amp;</td>" in page
    assert "<td>1</td><td>d</td><td>too many</td>" in page
    assert "<b>" not in page
    assert Results()._repr_html_().startswith("<p>Results(0 items)</p>")


def test_nothing_that_is_in_the_data_keeps_results_from_being_shown():
    results = Results([Item(input=Rude(), output=Rude())])
    assert "input=a Rude, output=a Rude" in repr(results)
    assert "<td>a Rude</td><td>a Rude</td>" in results._repr_html_()
    assert repr(Results([Item(input="x" * 10**6, output="y" * 10**6)])).count("x") < 100
