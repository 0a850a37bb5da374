"""Rule of Einsum, against onnxruntime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from flexpie.core.rules.einsum import Equation, parse
from tests.unit.core.rule_checks import Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)


@st.composite
def products(draw: st.DrawFn) -> Case:
    letters = draw(st.permutations("abcdE"))
    lengths = {letter: draw(st.integers(1, 5)) for letter in letters}
    count = draw(st.integers(1, 3))
    terms = ["".join(draw(st.permutations(draw(st.lists(st.sampled_from(letters), unique=True, max_size=4)))))
             for _ in range(count)]  # fmt: skip
    used = sorted(set("".join(terms)))
    output = "".join(draw(st.permutations(draw(st.lists(st.sampled_from(used), unique=True))))) if used else ""
    equation = ",".join(terms) + (f"->{output}" if draw(st.integers(0, 3)) else "")
    if draw(st.booleans()):
        equation = equation.replace(",", ", ").replace("->", " -> ")
    arrays = [values([lengths[letter] for letter in term], index) for index, term in enumerate(terms)]
    return Case("Einsum", tuple(arrays), {"equation": equation}, 12)


@given(case=products(), seed=SEEDS)
def test_part_of_product_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


@pytest.mark.parametrize(("equation", "shapes"), [
    ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
    ("ii->i", ((4, 4),)),
    ("ij,jk->ik", ((3, 1), (4, 5))),
])  # fmt: skip
def test_what_is_no_plain_product_is_whole(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    arrays = tuple(values(shape, index) for index, shape in enumerate(shapes))
    check(Case("Einsum", arrays, {"equation": equation}, 12), divided=False)


def test_equations() -> None:
    assert parse("bhid, bhjd -> bhij") == Equation(("bhid", "bhjd"), "bhij")
    assert parse("ij,jk") == Equation(("ij", "jk"), "ik")
    assert parse(",->") == Equation(("", ""), "")
    for wrong in ("", "ij->ij->i", "i.j", "ij->k", "ij->ii", "ij,j2->i"):
        assert parse(wrong) == (Equation(("",), "") if not wrong else None)


def test_heads_and_queries_are_divided_and_keys_are_not() -> None:
    arrays = (values((1, 4, 6, 8)), values((1, 4, 7, 8), 1))
    case = Case("Einsum", arrays, {"equation": "bhid,bhjd->bhij"}, 12)
    bound = bound_case(case, run(case))
    part = (Region.of((0, 1), (1, 2), (2, 5), (0, 7)),)
    rule = rule_for(bound.operator)
    assert rule.produces(bound, part) == part
    assert rule.needs(bound, part) == (
        Region.of((0, 1), (1, 2), (2, 5), (0, 8)),
        Region.of((0, 1), (1, 2), (0, 7), (0, 8)),
    )
    assert rule.flops(bound, part) == 2 * 8 * 3 * 7
