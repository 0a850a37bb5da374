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
    broadcast = draw(st.lists(st.integers(1, 3), max_size=2)) if draw(st.booleans()) else None
    lengths = {letter: draw(st.integers(1, 5)) for letter in letters}
    count = draw(st.integers(1, 3))
    terms = ["".join(draw(st.permutations(draw(st.lists(st.sampled_from(letters), unique=True, max_size=4)))))
             for _ in range(count)]  # fmt: skip
    used = sorted(set("".join(terms)))
    output = "".join(draw(st.permutations(draw(st.lists(st.sampled_from(used), unique=True))))) if used else ""
    shapes = [[lengths[letter] if draw(st.integers(0, 5)) else 1 for letter in term] for term in terms]
    if broadcast is not None:
        output = f"...{output}"
        for index, shape in enumerate(shapes):
            at = draw(st.integers(0, len(shape)))
            terms[index] = f"{terms[index][:at]}...{terms[index][at:]}"
            # Of one rank everywhere: onnxruntime refuses others, and before 1.24 it crashed on them.
            shape[at:at] = [length if draw(st.integers(0, 3)) else 1 for length in broadcast]
    equation = ",".join(terms) + (f"->{output}" if draw(st.integers(0, 3)) else "")
    if draw(st.booleans()):
        equation = equation.replace(",", ", ").replace("->", " -> ")
    arrays = [values(shape, index) for index, shape in enumerate(shapes)]
    return Case("Einsum", tuple(arrays), {"equation": equation}, 12)


@given(case=products(), seed=SEEDS)
def test_part_of_product_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


@pytest.mark.parametrize(("equation", "shapes"), [
    ("ii->i", ((4, 4),)),
    ("...i,iji->...j", ((2, 4), (4, 5, 4))),
])  # fmt: skip
def test_diagonals_are_whole(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    arrays = tuple(values(shape, index) for index, shape in enumerate(shapes))
    check(Case("Einsum", arrays, {"equation": equation}, 12), divided=False)


def test_equations() -> None:
    assert parse("bhid, bhjd -> bhij", (4, 4)) == Equation(("bhid", "bhjd"), "bhij")
    assert parse("ij,jk", (2, 2)) == Equation(("ij", "jk"), "ik")
    assert parse(",->", (0, 0)) == Equation(("", ""), "")
    assert parse("...ij,...jk->...ik", (4, 3)) == Equation(("10ij", "0jk"), "10ik")
    assert parse("...i,i...", (1, 2)) == Equation(("i", "i0"), "0")
    for wrong, ranks in (("ij->ij->i", (2,)), ("i.j", (2,)), ("ij->k", (2,)), ("ij->ii", (2,)), ("ij,j2->i", (2, 2)),
                         ("ij,jk", (2,)), ("ij", (3,)), ("...ij", (1,)), ("...i...", (3,))):  # fmt: skip
        assert parse(wrong, ranks) is None, wrong


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
