"""Messages that come after the end of their request leave nothing behind for ever."""

from flexpie.wire.framing import run_number
from flexpie.worker.events import FrameArrived, RequestKey
from flexpie.worker.samples import MOST_KEPT, Samples
from flexpie.worker.tracing import MOST_WAITING, Tracer


def _late(number: int) -> FrameArrived:
    key = RequestKey("d-1", run_number(number, sampled=True))
    return FrameArrived(key=key, exchange=0, source=1, payload=memoryview(b""), deadline=0.0, origin=0, at=0.0)


def test_samples_of_late_messages_are_bounded() -> None:
    samples = Samples()
    for number in range(3 * MOST_KEPT):
        samples.arrived(_late(number))
    assert len(samples._open) == MOST_KEPT


def test_traces_of_late_messages_are_bounded() -> None:
    tracer = Tracer()
    with tracer.listening("d-1"):
        for number in range(3 * MOST_WAITING):
            tracer.frame_arrived(_late(number))
        assert len(tracer._traces) == MOST_WAITING
