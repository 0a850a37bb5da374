"""What clients are told about devices and models, as messages."""

from __future__ import annotations

from flexpie import __version__
from flexpie.master.events import SegmentSummary
from flexpie.master.master import Master
from flexpie.master.records import DeviceRecord, ModelRecord
from flexpie.wire.codec import tensor_to_proto
from flexpie.wire.v1 import master_pb2


def model_to_proto(master: Master, record: ModelRecord) -> master_pb2.ModelInfo:
    """A model and how it is served."""
    state, reason = master.state.describe(record)
    deployment = record.serving or record.building
    message = master_pb2.ModelInfo(
        name=record.entry.name,
        state=state.value,
        reason=reason,
        inputs=map(tensor_to_proto, record.inputs),
        outputs=map(tensor_to_proto, record.outputs),
    )
    if deployment is not None:
        message.deployment_id = deployment.id
        message.pushed_bytes = deployment.pushed_bytes
        if deployment.plan is not None:
            plan = deployment.plan
            message.segments.extend(map(_segment_to_proto, plan.segments))
            message.predicted_seconds = plan.predicted_seconds
            message.single_device_seconds = plan.single_device_seconds
            message.devices.extend(plan.participants)
    return message


def _segment_to_proto(segment: SegmentSummary) -> master_pb2.SegmentInfo:
    return master_pb2.SegmentInfo(
        layers=segment.layers,
        scheme=segment.scheme,
        shares=segment.shares,
        compute_seconds=segment.compute_seconds,
        exchange_seconds=segment.exchange_seconds,
        exchange_bytes=segment.exchange_bytes,
    )


def models_to_proto(master: Master) -> list[master_pb2.ModelInfo]:
    """Every model that is to be served."""
    records = master.state.models.values()
    return [model_to_proto(master, record) for record in records if record.wanted]


def progress_to_proto(master: Master, record: ModelRecord) -> master_pb2.LoadProgress:
    """How far a model has come."""
    if record.serving is not None:
        model = model_to_proto(master, record)
        count = len(model.devices)
        return master_pb2.LoadProgress(
            stage="build", done=count, total=count, unit="devices", model=model, finished=True
        )
    if record.building is None:
        return master_pb2.LoadProgress(stage="import")
    building = record.building
    return master_pb2.LoadProgress(stage=building.stage, done=building.done, total=building.total, unit=building.unit)


def status_to_proto(master: Master, uptime_seconds: float) -> master_pb2.MasterStatusReply:
    """The whole system at a glance."""
    addresses = {name: link.device.address for name, link in master.links.items()}
    return master_pb2.MasterStatusReply(
        version=__version__,
        uptime_seconds=uptime_seconds,
        devices=[_device_to_proto(record, addresses[name]) for name, record in master.state.members.records.items()],
        models=models_to_proto(master),
        requests_in_flight=len(master.state.requests),
        requests_done=master.state.requests_done,
        requests_failed=master.state.requests_failed,
        scattered_bytes=master.data.scattered_bytes,
        gathered_bytes=master.data.gathered_bytes,
    )


def _device_to_proto(record: DeviceRecord, address: str) -> master_pb2.DeviceInfo:
    return master_pb2.DeviceInfo(
        name=record.name,
        address=address,
        state=record.state.value,
        reason=record.reason,
        worker_id=record.worker_id,
        version=record.version,
    )
