"""What clients are told about devices and models, as messages."""

from __future__ import annotations

import asyncio
import threading

from flexpie import __version__
from flexpie.master.interface import merged
from flexpie.master.master import Master
from flexpie.master.readiness import describe_profile
from flexpie.master.records import DeviceRecord, ModelRecord, ProfileRecord
from flexpie.master.summaries import summary_to_proto
from flexpie.wire.codec import tensor_to_proto
from flexpie.wire.v1 import holdings_pb2, master_pb2


def model_to_proto(master: Master, record: ModelRecord) -> master_pb2.ModelInfo:
    """A model and how it is served."""
    state, reason = master.state.describe(record)
    profiles = [_profile_to_proto(master, record, profile) for profile in record.profiles]
    first = profiles[0]
    message = master_pb2.ModelInfo(
        name=record.entry.name,
        state=state.value,
        reason=reason,
        deployment_id=first.deployment_id,
        segments=first.segments,
        predicted_seconds=first.predicted_seconds,
        single_device_seconds=first.single_device_seconds,
        devices=dict.fromkeys(device for profile in profiles for device in profile.devices),
        pushed_bytes=sum(profile.pushed_bytes for profile in profiles),
        profiles=profiles if len(profiles) > 1 else (),
        remark=first.remark,
        requests_per_second=first.requests_per_second,
        single_device_lacks_memory=first.single_device_lacks_memory,
        objective=record.entry.objective,
        boundary=first.boundary,
    )
    for profile in profiles:
        for device, nbytes in profile.resident_bytes.items():
            message.resident_bytes[device] += nbytes
    if record.interfaces:
        interface = merged(record.interfaces)
        message.inputs.extend(map(tensor_to_proto, interface.inputs))
        message.outputs.extend(map(tensor_to_proto, interface.outputs))
    return message


def _profile_to_proto(master: Master, record: ModelRecord, profile: ProfileRecord) -> master_pb2.ProfileInfo:
    state, reason = describe_profile(profile, master.state.members, master.state.links)
    message = master_pb2.ProfileInfo(state=state.value, reason=reason)
    if record.interfaces:
        interface = record.interfaces[profile.index]
        message.inputs.extend(map(tensor_to_proto, interface.inputs))
        message.outputs.extend(map(tensor_to_proto, interface.outputs))
    deployment = profile.serving or profile.building
    if deployment is not None:
        message.deployment_id = deployment.id
        message.pushed_bytes = deployment.pushed_bytes
        for device, nbytes in deployment.resident_bytes.items():
            message.resident_bytes[device] = nbytes
        if deployment.plan is not None:
            message.MergeFrom(summary_to_proto(deployment.plan))
    return message


def models_to_proto(master: Master) -> list[master_pb2.ModelInfo]:
    """Every model that is to be served."""
    records = master.state.models.values()
    return [model_to_proto(master, record) for record in records if record.wanted]


def progress_to_proto(master: Master, record: ModelRecord) -> master_pb2.LoadProgress:
    """How far a model has come."""
    progress = master_pb2.LoadProgress(stage="import", profiles=len(record.profiles))
    if record.ready:
        model = model_to_proto(master, record)
        count = len((model.profiles[-1] if model.profiles else model).devices)
        progress.MergeFrom(
            master_pb2.LoadProgress(stage="build", done=count, total=count, unit="devices", model=model, finished=True)
        )
        progress.profile = len(record.profiles) - 1
    for profile in record.profiles:
        if profile.building is not None:
            building = profile.building
            progress.stage, progress.unit = building.stage, building.unit
            progress.done, progress.total, progress.profile = building.done, building.total, profile.index
    return progress


def status_to_proto(master: Master, uptime_seconds: float) -> master_pb2.MasterStatusReply:
    """The whole system at a glance."""
    admission = master.turnstile.admission
    addresses = {name: link.device.address for name, link in master.links.items()}
    return master_pb2.MasterStatusReply(
        version=__version__,
        uptime_seconds=uptime_seconds,
        devices=[
            _device_to_proto(record, addresses[name], master.certificate_ends.get(name, 0))
            for name, record in master.state.members.records.items()
        ],
        models=models_to_proto(master),
        requests_in_flight=sum(master.state.counts.values()),
        requests_done=master.state.requests_done,
        requests_failed=master.state.requests_failed,
        scattered_bytes=master.data.scattered_bytes,
        gathered_bytes=master.data.gathered_bytes,
        requests_refused=admission.refused,
        batches=master.batch_counts.batches,
        batched_requests=master.batch_counts.requests,
        answers_checked=master.checks.checked,
        answers_wrong=master.checks.failed,
        certificate_expires_at=master.certificate_end,
        holdings=holdings_pb2.Holdings(
            requests=len(admission),
            waiting=admission.waiting,
            request_bytes=admission.nbytes,
            tensors=sum(request.messages for request in master.data.requests.values()),
            uploads=master.archive.models.uploads,
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
        ),
    )


def _device_to_proto(record: DeviceRecord, address: str, certificate_end: int) -> master_pb2.DeviceInfo:
    return master_pb2.DeviceInfo(
        name=record.name,
        address=address,
        state=record.state.value,
        reason=record.reason,
        worker_id=record.worker_id,
        version=record.version,
        certificate_expires_at=certificate_end,
    )
