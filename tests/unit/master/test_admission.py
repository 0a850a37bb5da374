"""Requests are taken within bounds, run in fair turns, and none is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from flexpie.master.admission import Admission, AdmissionLimits, Refusal


def _admission(requests: int = 100, of_a_model: int = 100, running: int = 1, nbytes: int = 1000) -> Admission:
    return Admission(AdmissionLimits(requests, of_a_model, running, nbytes))


def _refused(refusal: Refusal | None) -> str:
    assert refusal is not None
    return refusal.reason


def test_the_clients_of_a_model_take_turns() -> None:
    admission = _admission()
    for ticket, client in enumerate("aaaab"):
        assert admission.arrive(ticket, "cat", client, 1) is None
    admission.arrive(5, "cat", "c", 1)
    order = []
    for now in range(6):
        (ticket,) = admission.start(now)
        order.append(ticket)
        admission.leave(ticket, now + 1)
    assert order == [0, 4, 5, 1, 2, 3]
    assert len(admission) == 0
    assert admission.nbytes == 0


def test_models_do_not_wait_for_one_another() -> None:
    admission = _admission(running=2)
    for ticket in range(4):
        admission.arrive(ticket, "cat", "a", 1)
    admission.arrive(9, "dog", "a", 1)
    assert admission.start(0.0) == [0, 1, 9]
    assert admission.waiting == 2


def test_a_model_gets_no_more_places_than_its_devices_have_room_for() -> None:
    admission = _admission(running=4)
    admission.set_places("cat", 2)
    for ticket in range(6):
        admission.arrive(ticket, "cat", "a", 1)
    assert admission.start(0.0) == [0, 1]
    admission.set_places("cat", 99)
    assert admission.start(0.0) == [2, 3]


def test_a_full_master_says_so() -> None:
    admission = _admission(requests=2)
    admission.arrive(0, "cat", "a", 1)
    admission.arrive(1, "dog", "b", 1)
    assert "2 requests are held" in _refused(admission.arrive(2, "fox", "c", 1))
    assert admission.refused == 1
    admission.leave(0, 1.0)
    assert admission.arrive(3, "fox", "c", 1) is None


def test_one_model_does_not_take_all_places() -> None:
    admission = _admission(of_a_model=1)
    admission.arrive(0, "cat", "a", 1)
    assert "1 requests of cat" in _refused(admission.arrive(1, "cat", "b", 1))
    assert admission.arrive(2, "dog", "b", 1) is None


def test_the_bytes_that_are_held_are_bounded_but_one_request_is_always_taken() -> None:
    admission = _admission(nbytes=10)
    assert admission.arrive(0, "cat", "a", 50) is None
    assert "exceeds the limit of 10" in _refused(admission.arrive(1, "cat", "b", 1))
    admission.leave(0, 0.0)
    assert admission.arrive(2, "cat", "b", 9) is None
    assert admission.arrive(3, "cat", "b", 1) is None


def test_a_client_that_floods_leaves_room_for_others() -> None:
    admission = _admission(requests=90)
    taken = sum(admission.arrive(ticket, "cat", "greedy", 1) is None for ticket in range(90))
    assert taken == 80
    assert "are for others" in _refused(admission.arrive(200, "cat", "greedy", 1))
    assert admission.arrive(201, "cat", "modest", 1) is None
    assert admission.arrive(202, "dog", "modest", 1) is None


@pytest.mark.parametrize("places", [1, 2, 3])
def test_a_client_alone_gets_every_place_of_a_small_queue(places: int) -> None:
    admission = _admission(requests=places)
    assert all(admission.arrive(ticket, "cat", "a", 1) is None for ticket in range(places))


def test_the_pause_grows_with_the_queue_and_with_what_requests_take() -> None:
    def pause(queue: int, seconds: float) -> float:
        admission = _admission(requests=queue, running=4)
        for ticket in range(40):
            admission.arrive(1000 + ticket, "cat", ticket, 0)
            admission.start(0.0)
            if ticket < 39:
                admission.leave(1000 + ticket, seconds)
        for ticket in range(queue - 1):
            admission.arrive(ticket, "cat", ("x", ticket), 1)
        refusal = admission.arrive(queue, "cat", "y", 1)
        assert refusal is not None
        return refusal.retry_seconds

    assert pause(8, 0.1) < pause(80, 0.1) < pause(80, 0.3)


class Traffic(RuleBasedStateMachine):
    """Any traffic at all."""

    tickets: Bundle[int] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.limits = AdmissionLimits(requests=6, requests_of_a_model=4, running=2, nbytes=20)
        self.admission = Admission(self.limits)
        self.held: dict[int, tuple[str, str, int]] = {}
        self.running: set[int] = set()
        self.next, self.now = 0, 0.0

    @rule(target=tickets, model=st.sampled_from("mn"), client=st.sampled_from("abc"), nbytes=st.integers(0, 12))
    def arrive(self, model: str, client: str, nbytes: int) -> int:
        self.next += 1
        refusal = self.admission.arrive(self.next, model, client, nbytes)
        if refusal is None:
            self.held[self.next] = (model, client, nbytes)
        else:
            assert self.held, "an idle master takes everything"
            assert refusal.retry_seconds > 0
        return self.next

    @rule()
    def start(self) -> None:
        started = self.admission.start(self.now)
        assert not self.running & set(started)
        assert self.held.keys() >= set(started)
        self.running |= set(started)
        for model in "mn":
            waits = any(held[0] == model for ticket, held in self.held.items() if ticket not in self.running)
            assert not waits or self._running(model) == self.limits.running, "a place is empty while somebody waits"

    @rule(ticket=consumes(tickets))
    def leave(self, ticket: int) -> None:
        self.now += 1.0
        self.admission.leave(ticket, self.now)
        self.held.pop(ticket, None)
        self.running.discard(ticket)

    def _running(self, model: str) -> int:
        return sum(self.held[ticket][0] == model for ticket in self.running)

    @invariant()
    def within_bounds(self) -> None:
        assert len(self.admission) == len(self.held) <= self.limits.requests
        assert self.admission.waiting == len(self.held) - len(self.running)
        assert self.admission.nbytes == sum(nbytes for *_, nbytes in self.held.values())
        assert self.admission.nbytes <= self.limits.nbytes
        of_models = Counter(model for model, *_ in self.held.values())
        assert all(count <= self.limits.requests_of_a_model for count in of_models.values())
        assert all(self._running(model) <= self.limits.running for model in "mn")

    def teardown(self) -> None:
        """Whatever came before: everybody's turn comes."""
        while self.held:
            self.start()
            ticket = min(self.running)
            self.leave(ticket)
        assert len(self.admission) == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(settings(), stateful_step_count=30)
