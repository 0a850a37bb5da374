"""What is told of plans, as messages: to clients, and to the next run of the master."""

from __future__ import annotations

from flexpie.core.boundary import Boundary
from flexpie.master.events import PlanSummary, SegmentSummary
from flexpie.wire.v1 import master_pb2


def summary_to_proto(summary: PlanSummary) -> master_pb2.ProfileInfo:
    """The part of a profile's description that its plan decides."""
    return master_pb2.ProfileInfo(
        segments=map(_segment_to_proto, summary.segments),
        predicted_seconds=summary.predicted_seconds,
        single_device_seconds=summary.single_device_seconds,
        devices=summary.participants,
        requests_per_second=summary.requests_per_second,
        single_device_lacks_memory=not summary.single_device_fits,
        remark=summary.remark,
        boundary=summary.boundary.value,
    )


def summary_from_proto(message: master_pb2.ProfileInfo) -> PlanSummary:
    """The inverse of `summary_to_proto`."""
    return PlanSummary(
        participants=tuple(message.devices),
        segments=tuple(map(_segment_from_proto, message.segments)),
        predicted_seconds=message.predicted_seconds,
        single_device_seconds=message.single_device_seconds,
        remark=message.remark,
        requests_per_second=message.requests_per_second,
        single_device_fits=not message.single_device_lacks_memory,
        boundary=Boundary(message.boundary or Boundary.FLOAT32.value),
    )


def _segment_to_proto(segment: SegmentSummary) -> master_pb2.SegmentInfo:
    return master_pb2.SegmentInfo(
        layers=segment.layers,
        scheme=segment.scheme,
        shares=segment.shares,
        compute_seconds=segment.compute_seconds,
        exchange_seconds=segment.exchange_seconds,
        exchange_bytes=segment.exchange_bytes,
    )


def _segment_from_proto(message: master_pb2.SegmentInfo) -> SegmentSummary:
    return SegmentSummary(
        tuple(message.layers),
        message.scheme,
        tuple(message.shares),
        message.compute_seconds,
        message.exchange_seconds,
        message.exchange_bytes,
    )
