"""How a model's requests are run: so many at once, and gathered in batches. Pure.

A batch needs a profile of its own: the shapes of one request with their first axis longer. Such profiles stand beside
those that were given, and are planned, deployed and replaced like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import TensorSpec
from flexpie.master.interface import Interface

MOST_BATCH = 256
LONGEST_WAIT_SECONDS = 10.0
BATCHES_IN_FLIGHT = 2
"""Where nothing else is said: one on its way while the devices compute the other. Few, so that batches fill. Of devices
that take turns each has one at least."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Serving:
    """What the operator chooses for a model."""

    in_flight: int = 0
    """Runs at once; 0 leaves it to the master, which goes by the room on the devices."""
    max_batch: int = 1
    """Requests of one run at most; 1 is no batching."""
    batch_wait_seconds: float = 0.005
    """How long a request waits for others at most, once a run is free."""

    @property
    def batches(self) -> bool:
        """Whether requests are gathered."""
        return self.max_batch > 1

    def runs(self, most: int, turns: int = 1) -> int:
        """How many runs there are at once, of at most so many, where so many devices take turns."""
        return min(self.in_flight or (max(BATCHES_IN_FLIGHT, turns) if self.batches else most), most)

    def places(self, most: int, room: int | None, turns: int = 1) -> int:
        """How many requests are past their turn at once: `most` at most, and no more than devices have `room` for."""
        wanted = min(self.runs(most, turns) * self.max_batch, most)
        return wanted if room is None else max(1, min(wanted, room))


def sizes_up_to(most: int) -> list[int]:
    """Sizes of batches: powers of two."""
    return [2**power for power in range(1, most.bit_length()) if 2**power <= most]


def with_batches(profiles: Sequence[Shapes], max_batch: int) -> tuple[Shapes, ...]:
    """The profiles, and behind them those of their batches.

    Raises ValueError that says what is expected, where there is no profile of a single request.
    """
    single = [profile for profile in profiles if _is_single(profile)]
    if max_batch > 1 and not single:
        raise ValueError("for batching, shapes of every input that begin with 1, the length of the batch axis")
    found = list(profiles)
    for size in sizes_up_to(max_batch):
        found += [batch for profile in single if (batch := _scaled(profile, size)) not in found]
    return tuple(found)


def batch_profiles(profiles: Sequence[Shapes], profile: int, max_batch: int) -> dict[int, int]:
    """Size of a batch → index of its profile, smallest first; just 1 for a profile whose requests are not gathered."""
    found = {1: profile}
    if _is_single(profiles[profile]):
        for size in sizes_up_to(max_batch):
            if (batch := _scaled(profiles[profile], size)) in profiles:
                found[size] = profiles.index(batch)
    return found


def origin(profiles: Sequence[Shapes], profile: int, max_batch: int) -> tuple[int, int] | None:
    """The profile of single requests that a profile is a batch of, and its size; None for any other."""
    for index in range(len(profiles)):
        for size, batch in batch_profiles(profiles, index, max_batch).items():
            if size > 1 and batch == profile:
                return index, size
    return None


def check_axes(name: str, single: Interface, batch: Interface, size: int) -> None:
    """Raise ``INVALID_SHAPE`` unless every input and output of a batch has that many times the first axis of one
    request's, and is the same otherwise."""
    pairs = [("input", *both) for both in zip(single.inputs, batch.inputs, strict=True)]
    pairs += [("output", *both) for both in zip(single.outputs, batch.outputs, strict=True)]
    for role, one, many in pairs:
        if not _is_batch_of(one, many, size):
            raise FlexPieError(
                ErrorCode.INVALID_SHAPE,
                f"Requests to {name} cannot be gathered: the {role} {one.name} is {_shape(one)} for one request and "
                f"{_shape(many)} for {size}; its first axis would have to be 1 and {size}.",
                "Serve the model without batching, or export it with an open first axis in all inputs and outputs.",
            )


def _is_batch_of(one: TensorSpec, many: TensorSpec, size: int) -> bool:
    """An opaque length is -1, and so never 1."""
    return one.shape[:1] == (1,) and replace(one, shape=(size, *one.shape[1:])).shape == many.shape


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.shape))}]"


def _is_single(profile: Shapes) -> bool:
    return bool(profile) and all(tuple(shape[:1]) == (1,) for shape in profile.values())


def _scaled(profile: Shapes, size: int) -> dict[str, tuple[int, ...]]:
    return {name: (size, *shape[1:]) for name, shape in profile.items()}
