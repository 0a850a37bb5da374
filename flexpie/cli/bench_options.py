"""What can be chosen of a benchmark on the command line, and the presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

MODELS = ("resnet18", "mobilenet_v1", "bert_base", "resnet101")


@dataclass(frozen=True)
class Preset:
    """What is measured unless options say otherwise."""

    models: tuple[str, ...] = MODELS
    devices: tuple[int, ...] = (2, 3, 4)
    kinds: tuple[str, ...] = ("equal", "unequal")
    bandwidths: tuple[float, ...] = (1e9, 5e8, 5e9)
    topologies: tuple[str, ...] = ("mesh", "ring", "star")
    launches: int = 5
    launch_seconds: float = 2.0


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(("resnet18", "mobilenet_v1"), (4,), ("equal",), (1e9,), ("mesh",), 3, 1.0),
    "figures": Preset(devices=(4,), bandwidths=(1e9, 5e8), topologies=("mesh",)),
    "full": Preset(),
}
"""``quick`` takes minutes, ``full`` many hours."""


class Listed(click.ParamType):  # type: ignore[type-arg]
    """Names or numbers with commas between."""

    def __init__(self, choices: Sequence[str] | None = None, name: str = "NAME[,NAME...]") -> None:
        self.name = name
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in str(value).split(",")))
        for part in found:
            if not part or (self._choices is not None and part not in self._choices):
                choices = ", ".join(self._choices or ())
                self.fail(f"{part!r} is none of {choices}", param, ctx)
        return found


class Counts(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers with commas between."""

    name = "N[,N...]"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        found = tuple(dict.fromkeys(str(value).split(",")))
        if not all(part.strip().isdecimal() and self._least <= int(part) <= self._most for part in found):
            self.fail(f"{value!r} is not made of numbers from {self._least} to {self._most}", param, ctx)
        return tuple(map(int, found))
