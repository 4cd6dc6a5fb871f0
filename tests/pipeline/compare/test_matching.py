"""Which operator of one model is which of another, and what must hold of any two models."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlia.difference import Match
from mlia.pipeline.compare.match import Matched, longest_common, match_operators
from mlia.report import OperatorSummary, TensorSummary


def model(*operators: tuple[str, str, int]) -> list[OperatorSummary]:
    """Operators of a kind, a name and a size, in their order."""
    return [
        OperatorSummary(0, place, kind, name, (), (), (TensorSummary(name, (1, size), "int8"),))
        for place, (kind, name, size) in enumerate(operators)
    ]


MODELS = st.lists(st.tuples(st.sampled_from("CDA"), st.sampled_from(["", "a", "b", "c", "d"]), st.integers(1, 2))).map(
    lambda drawn: model(*drawn)
)


def told(found: tuple[Matched, ...]) -> list[tuple[str, str, str]]:
    return [
        (each.match, each.before.name if each.before else "", each.after.name if each.after else "") for each in found
    ]


@given(MODELS, MODELS)
def test_every_operator_is_there_exactly_once(before: list[OperatorSummary], after: list[OperatorSummary]) -> None:
    found = match_operators(before, after)
    assert sorted(each.before.index for each in found if each.before) == list(range(len(before)))
    assert [each.after.index for each in found if each.after] == list(range(len(after)))
    for each in found:
        assert (each.before is None) == (each.match == Match.ADDED)
        assert (each.after is None) == (each.match == Match.REMOVED)


@given(MODELS)
def test_a_model_is_itself(operators: list[OperatorSummary]) -> None:
    found = match_operators(operators, operators)
    assert all(each.before is each.after for each in found)
    assert {each.match for each in found} <= {Match.SAME}


@given(MODELS, MODELS)
def test_changing_the_sides_changes_only_them(before: list[OperatorSummary], after: list[OperatorSummary]) -> None:
    names = {Match.ADDED: Match.REMOVED, Match.REMOVED: Match.ADDED}
    there = {(each.match, _place(each.before), _place(each.after)) for each in match_operators(before, after)}
    back = match_operators(after, before)
    assert there == {(names.get(each.match, each.match), _place(each.after), _place(each.before)) for each in back}


def _place(operator: OperatorSummary | None) -> int | None:
    return operator.index if operator else None


@given(MODELS, MODELS)
def test_a_match_is_what_it_says(before: list[OperatorSummary], after: list[OperatorSummary]) -> None:
    for each in match_operators(before, after):
        if each.before is None or each.after is None:
            continue
        looks = [(one.kind, one.outputs[0].shape) for one in (each.before, each.after)]
        assert (looks[0] == looks[1]) == (each.match in (Match.SAME, Match.RENAMED))
        assert (each.before.name == each.after.name) == (each.match != Match.RENAMED)


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_the_longest_common_subsequence_is_one(left: list[int], right: list[int]) -> None:
    pairs = longest_common(left, right)
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(pairs))
    table = Counter[tuple[int, int]]()
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            table[i, j] = table[i - 1, j - 1] + 1 if one == other else max(table[i - 1, j], table[i, j - 1])
    assert len(pairs) == max(table.values(), default=0)


def test_an_operator_that_is_inserted_does_not_shift_the_others() -> None:
    before = model(("CONV_2D", "1", 8), ("CONV_2D", "2", 4), ("SOFTMAX", "3", 4))
    after = model(("CONV_2D", "x", 8), ("RESHAPE", "y", 8), ("CONV_2D", "z", 4), ("SOFTMAX", "3", 4))
    assert told(match_operators(before, after)) == [
        ("renamed", "1", "x"),
        ("added", "", "y"),
        ("renamed", "2", "z"),
        ("same", "3", "3"),
    ]


def test_a_name_that_is_left_is_a_change_and_the_rest_came_or_went() -> None:
    before = model(("CONV_2D", "stem", 8), ("RELU", "act", 8), ("MEAN", "mean", 1))
    after = model(("CONV_2D", "stem", 16), ("AVERAGE_POOL_2D", "mean", 1), ("TANH", "new", 8))
    assert told(match_operators(before, after)) == [
        ("changed", "stem", "stem"),
        ("removed", "act", ""),
        ("changed", "mean", "mean"),
        ("added", "", "new"),
    ]


def test_thousands_of_renamed_operators_take_a_moment() -> None:
    kinds = ("CONV_2D", "ADD", "RELU")
    before = model(*((kinds[i % 3], f"a{i}", i % 7) for i in range(4000)))
    after = model(*((kinds[i * 5 % 3], f"b{i}", i % 5) for i in range(4000)))
    assert len(match_operators(before, after)) >= 4000
