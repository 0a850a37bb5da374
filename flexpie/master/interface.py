"""What a model takes and yields, profile by profile, and which profile a request is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.wire.tensors import Array

OPEN = -1
"""Stands for a length that differs between profiles, as in the Open Inference Protocol."""


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a model under one of its profiles, in their order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the inputs."""
        return tuple(spec.shape for spec in self.inputs)


def merged(interfaces: Sequence[Interface]) -> Interface:
    """What holds for every profile; a length that differs is `OPEN`."""
    return Interface(
        tuple(map(_merge, zip(*(interface.inputs for interface in interfaces), strict=True))),
        tuple(map(_merge, zip(*(interface.outputs for interface in interfaces), strict=True))),
    )


def _merge(specs: tuple[TensorSpec, ...]) -> TensorSpec:
    first = specs[0]
    if any(len(spec.shape) != len(first.shape) for spec in specs):
        return replace(first, shape=(OPEN,) * len(first.shape))
    lengths = zip(*(spec.shape for spec in specs), strict=True)
    return replace(first, shape=tuple(axis[0] if len(set(axis)) == 1 else OPEN for axis in lengths))


def choose_profile(model: str, profiles: Sequence[Interface], given: Mapping[str, tuple[Array, ElementType]]) -> int:
    """Index of the profile that a request's arrays fit.

    Raises ``INVALID_INPUT``, with what is expected, for other arrays than the model's inputs, and for shapes that no
    profile has.
    """
    inputs = profiles[0].inputs  # names and types are the same in every profile
    expected = _expected(profiles)
    names = [spec.name for spec in inputs]
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given]
    if unknown or missing:
        found = [f"unknown input {name!r}" for name in unknown] + [f"missing input {name!r}" for name in missing]
        raise FlexPieError(ErrorCode.INVALID_INPUT, f"Wrong inputs for {model}: {', '.join(found)}. {expected}")
    wrong = [spec for spec in inputs if not any(_fits(profile, spec.name, given) for profile in profiles)]
    for index, profile in enumerate(profiles):
        if all(_fits(profile, spec.name, given) for spec in inputs):
            return index
    # Every input may fit some profile, but no profile all of them.
    got = "; ".join(_described(_spec_of(spec.name, given)) for spec in wrong or inputs)
    raise FlexPieError(ErrorCode.INVALID_INPUT, f"Wrong input for {model}: got {got}. {expected}")


def _fits(profile: Interface, name: str, given: Mapping[str, tuple[Array, ElementType]]) -> bool:
    spec = next(spec for spec in profile.inputs if spec.name == name)
    array, dtype = given[name]
    return dtype is spec.dtype and array.shape == spec.shape


def _spec_of(name: str, given: Mapping[str, tuple[Array, ElementType]]) -> TensorSpec:
    array, dtype = given[name]
    return TensorSpec(name, array.shape, dtype)


def _expected(profiles: Sequence[Interface]) -> str:
    listed = ["; ".join(map(_described, profile.inputs)) or "no inputs" for profile in profiles]
    if len(listed) == 1:
        return f"Expected: {listed[0]}."
    return "Expected one of its profiles: " + ", or ".join(f"({text})" for text in listed) + "."


def _described(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype.value}[{', '.join(map(str, spec.shape))}]"
