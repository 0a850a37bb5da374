"""The text form of works."""

from __future__ import annotations

import pytest

from flexpie.planner.cost import Work, placed
from flexpie.traces.works import configuration_of, work_from_text, work_text

CONV = Work("Conv", 100, 200, 50, 20, ((1, 3, 8, 8), (4, 3, 3, 3)), ((1, 4, 8, 8),), (3, 3), (1, 1), 1, False)
RELU = Work("Relu", 10, 50, 50, 0, ((1, 4, 8, 8), None), ((1, 4, 8, 8),), linked=True, dtype="int8", cut=(False, True))


def test_a_work_is_read_as_it_was_written() -> None:
    assert work_from_text(work_text((CONV, RELU))) == (CONV, RELU)


def test_where_a_layer_stands_is_not_in_the_text() -> None:
    assert work_text(placed((CONV, RELU), enters=True, leaves=True)) == work_text((CONV, RELU))


@pytest.mark.parametrize("text", ["3", "[3]", '[["Conv",1]]', "nonsense", "[" * 5000 + "]" * 5000])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        work_from_text(text)


def test_place_and_work_make_the_configuration() -> None:
    texts = [work_text((CONV,)), work_text((CONV, RELU))]
    assert len({configuration_of(place, text) for place in ("layer", "enter") for text in texts}) == 4
    assert configuration_of("layer", texts[0]) == configuration_of("layer", work_text((CONV,)))
