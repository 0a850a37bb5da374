"""What messages take is told whatever the clocks of their ends say, where they can be compared at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.master.transit import Message, transits

CLOCKS = st.floats(-1e6, 1e6)


def _message(source: str, destination: str, seconds: float, nbytes: int = 10) -> Message:
    return Message(source, destination, nbytes, 2 * nbytes, seconds)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_clocks_do_not_matter(first: float, second: float, third: float) -> None:
    clocks = {"": first, "a": second, "b": third}

    def sent(source: str, destination: str, seconds: float) -> Message:
        return _message(source, destination, seconds + clocks[destination] - clocks[source])

    found = transits([
        sent("", "a", 0.02), sent("a", "", 0.02), sent("a", "b", 0.01), sent("b", "a", 0.01), sent("", "b", 0.03)
    ])  # fmt: skip
    there_and_back = found[frozenset(("", "a"))]
    assert there_and_back.seconds == pytest.approx(0.04, abs=1e-6)
    assert there_and_back.way == ()
    one_way = found[frozenset(("", "b"))]
    assert one_way.seconds == pytest.approx(0.03, abs=1e-6)
    assert one_way.way == (frozenset(("", "a")), frozenset("ab"))


def test_bytes_are_those_of_each_port() -> None:
    found = transits([_message("a", "b", 1.0, 10), _message("a", "b", 3.0, 30), _message("b", "a", 0.5, 100)])
    transit = found[frozenset("ab")]
    assert transit.seconds == 2.5
    assert transit.nbytes == {"a": 20 + 200, "b": 40 + 100}
    alone = transits([_message("a", "b", 1.0), _message("a", "c", 1.0), _message("c", "a", 1.0),
                      _message("b", "c", 1.0), _message("c", "b", 1.0)])  # fmt: skip
    assert alone[frozenset("ab")].nbytes == {"a": 10, "b": 20}


def test_ends_that_nothing_connects_in_both_directions_tell_nothing() -> None:
    assert transits([_message("a", "b", 1.0), _message("c", "a", 1.0), _message("b", "c", 1.0)]) == {}


def test_the_same_way_is_taken_whatever_the_order() -> None:
    messages = [_message(*pair, 1.0) for pair in itertools.permutations("abcd", 2) if pair != ("d", "a")]
    ways = {transits(order)[frozenset("ad")].way for order in (messages, messages[::-1])}
    assert ways == {(frozenset("ab"), frozenset("bd"))}
