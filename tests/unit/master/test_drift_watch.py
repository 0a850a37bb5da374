"""Samples are put together from what all ends tell, and what they say is told once in a while."""

from __future__ import annotations

import pytest

from flexpie.core.cluster import MASTER_NAME
from flexpie.core.program import MASTER, DeviceProgram
from flexpie.master.deployment import Deployment
from flexpie.master.drift import Drift
from flexpie.master.drift_watch import ASSESS_SECONDS, LATENCIES, SAMPLE_SECONDS, DriftWatch, Expectation
from flexpie.master.sampling import MOST_OPEN, SampleBook
from flexpie.wire.v1 import peer_pb2

DEPLOYMENT = Deployment("d-1", "cat", ("a", "b"), (0, 1), DeviceProgram(MASTER, (), ()), ())


def _part(run: int, compute: float = 0.0, sent: tuple[tuple[int, int, int, float], ...] = (),
          received: tuple[tuple[int, int, float], ...] = ()) -> peer_pb2.RequestSample:  # fmt: skip
    part = peer_pb2.RequestSample(deployment_id="d-1", request_id=run, compute_seconds=compute)
    for exchange, other, nbytes, at in sent:
        part.sent.add(exchange=exchange, other=other, nbytes=nbytes, at=at)
    for exchange, other, at in received:
        part.received.add(exchange=exchange, other=other, at=at)
    return part


def test_a_sample_is_complete_when_all_have_told() -> None:
    book = SampleBook()
    book.begin("d-1", 3, ("a", "b"), {"a", "b"})
    assert book.tell("a", _part(3, 0.5, sent=((1, 1, 100, 10.0), (1, MASTER, 50, 10.5)))) is None
    assert book.tell("a", _part(3, 0.7)) is None, "told twice"
    assert book.tell("b", _part(3, 0.25, received=((1, 0, 7.0),))) is None
    sample = book.tell(MASTER_NAME, _part(3, received=((1, 0, 30.0),)))
    assert sample is not None
    assert sample.compute_seconds == {"a": 0.5, "b": 0.25}
    to_b, to_master = sample.messages
    # The two messages of a's exchange share its port.
    assert (to_b.source, to_b.destination, to_b.seconds) == ("a", "b", -3.0)
    assert (to_b.source_bytes, to_b.destination_bytes) == (150, 100)
    assert (to_master.source, to_master.destination, to_master.seconds) == ("a", MASTER_NAME, 19.5)
    assert book.tell("b", _part(3)) is None


def test_samples_that_are_never_complete_are_forgotten() -> None:
    book = SampleBook()
    for run in range(MOST_OPEN + 1):
        book.begin("d-1", run, ("a",), {"a"})
        book.tell(MASTER_NAME, _part(run))
    assert book.tell("a", _part(0)) is None
    assert book.tell("a", _part(1)) is not None


class Scene:
    """A watch with a clock, and what it told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = False
        self.drifts: list[Drift] = []
        self.factors: list[float | None] = []
        self.slow: list[tuple[float, float]] = []
        self.alone: list[tuple[float, float]] = []
        self.watch = DriftWatch(self, lambda: self.now, lambda: self.busy)
        self.runs = 0

    def drifted(self, deployment: str, drift: Drift, factor: float | None) -> None:
        self.drifts.append(drift)
        self.factors.append(factor)

    def too_slow(self, deployment: str, seconds: float, alone_seconds: float) -> None:
        self.slow.append((seconds, alone_seconds))

    def slower_alone(self, deployment: str, seconds: float, divided_seconds: float) -> None:
        self.alone.append((seconds, divided_seconds))

    def request(self, compute: float = 0.02, seconds: float = 0.1, *, alone: bool = True) -> None:
        """A sampled request that both devices and the master tell of."""
        self.runs += 1
        self.watch.begin(DEPLOYMENT, self.runs)
        self.watch.tell("a", _part(self.runs, compute))
        self.watch.tell("b", _part(self.runs, 0.02))
        self.watch.finished(_part(self.runs), seconds, alone=alone)


def test_not_every_request_is_sampled() -> None:
    scene = Scene()
    assert scene.watch.wants_sample()
    assert not scene.watch.wants_sample()
    scene.now += SAMPLE_SECONDS
    scene.busy = True
    assert not scene.watch.wants_sample(), "workers build, which makes requests longer"
    scene.busy = False
    assert scene.watch.wants_sample()


def test_drift_is_told_and_told_again_after_a_while() -> None:
    scene = Scene()
    for _ in range(30):
        scene.request()
    assert scene.drifts == []
    for _ in range(20):
        scene.request(compute=0.1)
    (drift,) = scene.drifts
    assert set(drift.slowdowns) == {"a"}
    told = []
    for _ in range(8):
        scene.now += ASSESS_SECONDS
        scene.request(compute=0.1)
        told.append(len(scene.drifts))
    assert told == [2, 2, 3, 3, 3, 3, 4, 4], "more seldom each time"
    for _ in range(20):
        scene.now += SAMPLE_SECONDS
        scene.request(compute=0.5)
    assert len(scene.drifts) == 5, "but at once when it is much more"
    scene.watch.forget("d-1")
    scene.now += 100 * ASSESS_SECONDS
    scene.request(compute=0.5)
    assert len(scene.drifts) == 5


def test_a_plan_that_takes_longer_than_one_device_would_is_told() -> None:
    scene = Scene()
    # Devices take twice as long as predicted, so one alone would take 2 × 30 ms.
    scene.watch.expect("d-1", Expectation({"a": 0.01, "b": 0.01}, alone_seconds=0.03))
    for _ in range(40):
        scene.request(seconds=0.07)
    assert scene.slow == [], "a little longer is no reason"
    for _ in range(LATENCIES):
        scene.request(seconds=0.2, alone=False)
    assert scene.slow == [], "requests that wait for one another say nothing"
    for _ in range(LATENCIES):
        scene.request(seconds=0.08)
    assert scene.slow
    assert scene.slow[0][1] < scene.slow[0][0] <= 0.08


def test_one_device_has_nothing_to_fall_back_to() -> None:
    scene = Scene()
    scene.watch.expect("d-1", Expectation({"a": 0.01}, alone_seconds=None))
    for _ in range(60):
        scene.request(seconds=9.0)
    assert scene.slow == []


def test_what_comes_after_the_end_of_a_deployment_is_dropped() -> None:
    scene = Scene()
    scene.watch.begin(DEPLOYMENT, 1)
    scene.watch.forget("d-1")
    scene.watch.finished(_part(1), 0.1, alone=True)
    for device in "ab":
        scene.watch.tell(device, _part(1))
    assert not scene.watch._watched


def test_one_device_that_is_slower_than_dividing_was_is_told() -> None:
    scene = Scene()
    scene.watch.expect("d-1", Expectation({"a": 0.02, "b": 0.02}, None, divided_seconds=0.08))
    for _ in range(LATENCIES - 1):
        scene.request(seconds=0.1)
    assert scene.alone == []
    scene.request(seconds=0.1)
    scene.request(seconds=0.1)
    assert scene.alone == [(0.1, 0.08)]
    assert scene.slow == []


def test_one_device_that_is_faster_than_dividing_was_is_kept() -> None:
    scene = Scene()
    scene.watch.expect("d-1", Expectation({"a": 0.02, "b": 0.02}, None, divided_seconds=0.12))
    for _ in range(2 * LATENCIES):
        scene.request(seconds=0.1)
    assert scene.alone == scene.slow == []


def test_drift_is_told_with_what_it_does_to_requests() -> None:
    scene = Scene()
    for _ in range(2 * LATENCIES):
        scene.request(seconds=0.1)
    for _ in range(2 * LATENCIES):
        scene.request(compute=0.1, seconds=0.25)
    assert scene.factors == [pytest.approx(2.5)]
    crowded = Scene()
    for index in range(6 * LATENCIES):
        crowded.request(compute=0.1 if index > 4 * LATENCIES else 0.02, alone=index < 2 * LATENCIES)
    assert crowded.factors == [None], "what the first ones took says nothing of now"


def test_a_processor_that_rested_before_the_first_requests_has_not_become_slow() -> None:
    """It was to compute 20 ms, as the other one does, and did it in 9 for a while."""
    for predicted, drifts in ((0.02, 0), (0.009, 1)):
        scene = Scene()
        scene.watch.expect("d-1", Expectation({"a": predicted, "b": 0.02}, None))
        for _ in range(2 * LATENCIES):
            scene.request(compute=0.009)
        for _ in range(2 * LATENCIES):
            scene.request(compute=0.02)
        assert len(scene.drifts) == drifts


def test_a_calibrated_device_alone_is_not_believed_to_be_faster_than_predicted() -> None:
    """Devices that rest between messages take half of what was predicted, which says nothing of one that does not."""
    for calibrated in (True, False):
        scene = Scene()
        scene.watch.expect("d-1", Expectation({"a": 0.04, "b": 0.04}, 0.08, calibrated=calibrated))
        for _ in range(3 * LATENCIES):
            scene.request(seconds=0.07)
        assert bool(scene.slow) is not calibrated


def test_the_same_plan_for_the_same_cluster_is_compared_with_its_first_requests_again() -> None:
    for basis, drifts in ((("plan", "cluster"), 1), (("plan", "other cluster"), 0), (None, 0)):
        scene = Scene()
        scene.watch.expect("d-1", Expectation({}, None, basis=basis and ("plan", "cluster")))
        for _ in range(2 * LATENCIES):
            scene.request(seconds=0.1)
        scene.watch.forget("d-1")
        scene.watch.expect("d-1", Expectation({}, None, basis=basis))
        for _ in range(2 * LATENCIES):
            scene.request(compute=0.1, seconds=0.2)
        assert len(scene.drifts) == drifts
        assert scene.factors == drifts * [pytest.approx(2.0)]
