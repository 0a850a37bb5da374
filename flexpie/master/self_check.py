"""Proof in deployment: now and then an answer is compared with that of one device that has the whole model.

A device whose onnxruntime or processor computes other results than the others is found this way. The comparison runs
beside the requests; the client has its answer by then.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from flexpie.core.boundary import Boundary
from flexpie.core.errors import FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.master.deployment import Deployment
from flexpie.master.events import DeviceName, Event, ModelName, PlanDistrusted
from flexpie.wire.agreement import compare
from flexpie.wire.tensors import Array

Arrays = Mapping[str, Array]
AskDevice = Callable[[DeviceName, ModelName, int, Arrays], Awaitable[Arrays]]
"""Answers a request to a profile of a model on one device alone."""

_FLOATS = frozenset((ElementType.FLOAT16, ElementType.FLOAT32, ElementType.FLOAT64))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a deployment made of a request."""

    deployment: Deployment
    profile: int
    inputs: Arrays
    outputs: Arrays


class NotComparableError(Exception):
    """Answers of this model cannot be compared."""


class SelfCheck:
    """Compares one answer in `every` of each model, one at a time; 0 is none."""

    def __init__(
        self, every: int, ask: AskDevice, devices: Callable[[], Sequence[DeviceName]], tell: Callable[[Event], object]
    ) -> None:
        """`devices` are those that can be used now; `tell` takes `PlanDistrusted` to the state."""
        self.checked = 0
        self.failed = 0
        self._every = every
        self._ask = ask
        self._devices = devices
        self._tell = tell
        self._answers: Counter[ModelName] = Counter()
        self._not_comparable: set[ModelName] = set()
        self._busy = False

    def is_due(self, deployment: Deployment) -> bool:
        """Count an answer; whether it is to be checked."""
        model = deployment.model
        if not self._every or len(deployment.participants) < 2 or model in self._not_comparable:
            return False
        self._answers[model] += 1
        return not self._busy and self._answers[model] % self._every == 0

    async def check(self, answer: Answer) -> None:
        """Compare an answer, and raise an alarm if it is another than that of a device alone."""
        self._busy = True
        try:
            await self._check(answer)
        except NotComparableError as error:
            self._not_comparable.add(answer.deployment.model)
            _log.info("answers are not checked model=%s: %s", answer.deployment.model, error)
        except FlexPieError as error:
            _log.warning("answer not checked model=%s: %s", answer.deployment.model, error)
        finally:
            self._busy = False

    def forget(self, model: ModelName) -> None:
        """A model is gone."""
        self._answers.pop(model, None)
        self._not_comparable.discard(model)

    async def _check(self, answer: Answer) -> None:
        if any(spec.dtype is ElementType.BFLOAT16 for spec in answer.deployment.outputs):
            raise NotComparableError("its outputs are bfloat16, of which too little is left to tell a difference")
        named = _comparable(answer.deployment)
        devices = list(self._devices())
        first = devices[self.checked % len(devices)] if devices else None
        if first is None:
            return
        model, profile = answer.deployment.model, answer.profile
        alone = {first: await self._ask(first, model, profile, answer.inputs)}
        self.checked += 1
        expected = {name: alone[first][name] for name in named}
        comparison = compare(expected, answer.outputs, answer.deployment.boundary)
        if comparison.equal:
            return
        for device in devices:
            if device != first:
                try:
                    alone[device] = await self._ask(device, model, profile, answer.inputs)
                except FlexPieError as error:
                    _log.info("device not asked device=%s model=%s: %s", device, model, error)
        trusted = majority(alone)
        reason = f"an answer differed by {comparison.max_abs_error:.3g} from that of {first} alone; " + (
            described(alone, trusted)
        )
        _log.error("SELF-CHECK FAILED model=%s deployment=%s: %s", model, answer.deployment.id, reason)
        self.failed += 1
        self._tell(PlanDistrusted(answer.deployment.id, reason, frozenset(trusted)))


def _comparable(deployment: Deployment) -> list[str]:
    """The outputs that must be those of one device alone. With float16 boundaries a whole number may be another one,
    where the value that it was made from was near the middle of two."""
    if deployment.boundary is Boundary.FLOAT32:
        return [spec.name for spec in deployment.outputs]
    names = [spec.name for spec in deployment.outputs if spec.dtype in _FLOATS]
    if not names:
        raise NotComparableError("it has float16 boundaries and no output of floats, which would tell a difference")
    return names


def majority(answers: Mapping[DeviceName, Arrays]) -> tuple[DeviceName, ...]:
    """The largest group of devices whose answers agree; of several such groups the one that comes first."""
    groups: list[list[DeviceName]] = []
    for device, answer in answers.items():
        for group in groups:
            if compare(answers[group[0]], answer).equal:
                group.append(device)
                break
        else:
            groups.append([device])
    largest = max(map(len, groups), default=0)
    return tuple(next((group for group in groups if len(group) == largest), []))


def described(answers: Mapping[DeviceName, Arrays], trusted: Sequence[DeviceName]) -> str:
    """Who computes other results than the others."""
    others = [device for device in answers if device not in trusted]
    if not others:
        return "each device alone computes the same, so what they exchange is wrong"
    if len(trusted) > len(others):
        return f"{', '.join(others)} alone computes other results than {', '.join(trusted)}"
    return f"{', '.join(trusted)} and {', '.join(others)} compute different results, and nothing tells which are right"
