"""Whether models can be asked, and if not, why not."""

from __future__ import annotations

from flexpie.core.errors import ErrorCode
from flexpie.master import refusals
from flexpie.master.link_health import LinkHealth
from flexpie.master.membership import Membership
from flexpie.master.records import ModelRecord, ModelState, ProfileRecord, Situation
from flexpie.wire.framing import Failure

PERMANENT = frozenset(
    {ErrorCode.INVALID_MODEL, ErrorCode.UNSUPPORTED_MODEL, ErrorCode.INVALID_SHAPE, ErrorCode.INVALID_ARGUMENT}
)
"""Failures that no other set of devices would change."""

_WORST_FIRST = (ModelState.UNLOADED, ModelState.FAILED, ModelState.WAITING, ModelState.LOADING, ModelState.READY)


def wants_deployment(profile: ProfileRecord, members: Membership, links: LinkHealth) -> bool:
    """Whether a deployment of a profile is to be started, as soon as that is possible."""
    if not profile.model.wanted or profile.retrying or profile.building:
        return False
    failure = profile.failure
    if failure and (failure.code in PERMANENT or profile.failed_on == _situation(members, links)):
        return False
    serving, (devices, missing) = profile.serving, _situation(members, links)
    if serving is None or profile.replan or serving.outdated:
        return True
    return not devices <= set(serving.devices) or not serving.missing <= missing


def _situation(members: Membership, links: LinkHealth) -> Situation:
    devices = frozenset(members.connected)
    return devices, frozenset(link for link in links.missing if devices.issuperset(link))


def is_replanned(profile: ProfileRecord, members: Membership, links: LinkHealth) -> bool:
    """Whether a profile that worked is about to work again."""
    if not profile.was_ready or not profile.model.wanted:
        return False
    if not members.connected:
        return profile.resumable is not None and not members.settled
    return profile.building is not None or profile.retrying or wants_deployment(profile, members, links)


def describe_model(model: ModelRecord, members: Membership, links: LinkHealth) -> tuple[ModelState, str]:
    """A model's state, which is that of its profile that is furthest from being ready, and why it is not ready."""
    found = [(profile, *describe_profile(profile, members, links)) for profile in model.profiles]
    # Of several that are being loaded, the one under way.
    worst = min(found, key=lambda item: (_WORST_FIRST.index(item[1]), item[0].building is None))
    profile, state, reason = worst
    if len(found) > 1 and state is ModelState.LOADING:
        reason = f"{model.entry.describe(profile.index)}: {reason}"
    return state, reason


def describe_profile(profile: ProfileRecord, members: Membership, links: LinkHealth) -> tuple[ModelState, str]:
    """A profile's state, and why it is not ready."""
    if not profile.model.wanted:
        return ModelState.UNLOADED, "unloaded"
    if profile.serving:
        return ModelState.READY, ""
    if profile.building:
        return ModelState.LOADING, f"stage {profile.building.stage}"
    if profile.retrying and profile.failure:
        return ModelState.LOADING, f"trying again: {profile.failure.message}"
    if profile.failure and not wants_deployment(profile, members, links):
        return ModelState.FAILED, str(profile.failure.error)
    if not members.settled:
        return ModelState.LOADING, "devices are connecting"
    if not members.connected:
        return ModelState.WAITING, "no device is connected"
    return ModelState.LOADING, "another model is being deployed"


def failure_of(model: ModelRecord, members: Membership, links: LinkHealth) -> Failure | None:
    """Why a model has failed, for good as far as can be seen."""
    for profile in model.profiles:
        if describe_profile(profile, members, links)[0] is ModelState.FAILED:
            return profile.failure
    return None


def not_ready(profile: ProfileRecord, members: Membership, links: LinkHealth) -> Failure:
    """Why a profile cannot be asked now."""
    state, reason = describe_profile(profile, members, links)
    return refusals.not_ready(profile.name, state.value, reason, soon=state is ModelState.LOADING)
