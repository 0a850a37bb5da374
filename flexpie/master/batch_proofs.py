"""Proves that the first axis of a model is a batch axis, before its requests are gathered along it.

That all inputs and outputs grow along one axis does not tell: a model may as well mix what lies along it, as a softmax
over it does. So a batch of random inputs is run, and each of them on its own: the answers must be the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.master.deployment import Deployment
from flexpie.master.events import ModelName
from flexpie.master.instructions import StartDeployment
from flexpie.master.serving import origin
from flexpie.wire.agreement import compare
from flexpie.wire.random_inputs import random_inputs
from flexpie.wire.tensors import Array

if TYPE_CHECKING:
    from flexpie.compiler import ImportedModel

_REMEDY = "Serve the model without batching."


class BatchProofs:
    """Which profiles were seen to be batches of others."""

    def __init__(
        self,
        ask: Callable[[Deployment, Mapping[str, Array]], Awaitable[Mapping[str, Array]]],
        server: Callable[[ModelName, int], Deployment | None],
    ) -> None:
        """`ask` runs a request on a deployment; `server` is the one that serves a profile."""
        self._ask = ask
        self._server = server
        self._proved: set[tuple[ModelName, int]] = set()

    def forget(self, model: ModelName) -> None:
        """A model is gone."""
        self._proved = {item for item in self._proved if item[0] != model}

    async def prove(self, start: StartDeployment, models: Sequence[ImportedModel], deployment: Deployment) -> None:
        """Compare a batch on a deployment with its requests one by one on the one that serves these.

        Raises ``UNSUPPORTED_MODEL`` with the output that differs, or why outputs cannot be compared, and what ends a
        run. Nothing is done for profiles that are no batches, and those that were proved before.
        """
        entry, key = start.entry, (start.entry.name, start.profile)
        found = origin(entry.profiles, start.profile, entry.serving.max_batch)
        if found is None or key in self._proved or start.standby:
            return
        single, size = found
        _check_comparable(models[start.profile], deployment)
        serving = self._server(entry.name, single)
        if serving is None:
            raise FlexPieError(
                ErrorCode.DEVICE_UNREACHABLE, f"{entry.name} was lost while a batch of its requests was checked."
            )
        inputs = {name: _bits(array) for name, array in random_inputs(models[start.profile].graph).items()}
        boundary = deployment.boundary
        batch = await self._ask(deployment, inputs)
        for row in range(size):
            alone = await self._ask(serving, {name: array[row : row + 1] for name, array in inputs.items()})
            for name, expected in alone.items():
                difference = compare({name: expected}, {name: batch[name][row : row + 1]}, boundary)
                if not difference.equal:
                    raise FlexPieError(
                        ErrorCode.UNSUPPORTED_MODEL,
                        f"Requests to {entry.name} cannot be gathered: its output {name} for a batch of {size} differs "
                        f"by {difference.max_abs_error:.3g} from that for each request on its own.",
                        _REMEDY,
                    )
        self._proved.add(key)


def _check_comparable(model: ImportedModel, deployment: Deployment) -> None:
    name = model.graph.name
    drawing = next((operator.op_type for operator in model.graph.operators() if operator.draws), None)
    if drawing is not None:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"Requests to {name} cannot be gathered: {drawing} draws random numbers, so that nothing tells whether the "
            "answers of a batch are right.",
            _REMEDY,
        )
    for spec in deployment.outputs:
        if spec.dtype is ElementType.BFLOAT16:
            raise FlexPieError(
                ErrorCode.UNSUPPORTED_MODEL,
                f"Requests to {name} cannot be gathered: its output {spec.name} is bfloat16, of which too little is "
                "left to tell whether the answers of a batch are right.",
                _REMEDY,
            )


def _bits(array: Array) -> Array:
    """As requests carry it: bfloat16 as the bits of uint16."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
