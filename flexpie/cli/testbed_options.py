"""How the shares and bandwidths of emulated devices are written on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_CPU = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)")
_BANDWIDTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)bit(?:/s)?", re.IGNORECASE)
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


class CpuShares(click.ParamType):  # type: ignore[type-arg]
    """Cores: ``20%``, ``0.2``, ``1.5``; or one for each device, ``20%,20%,10%``."""

    name = "SHARE[,SHARE...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        shares = []
        for text in str(value).split(","):
            match = _CPU.fullmatch(text.strip())
            if match is None:
                self.fail(f"{text!r} is no share of a core; write it like 20% or 0.2", param, ctx)
            shares.append(float(match[1]) / (100 if match[2] else 1))
        return shares


class Bandwidths(click.ParamType):  # type: ignore[type-arg]
    """Bits per second: ``1gbit``, ``500 Mbit/s``; or one for each device, ``1gbit,1gbit,100mbit``."""

    name = "RATE[,RATE...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        rates = []
        for text in str(value).split(","):
            match = _BANDWIDTH.fullmatch(text.strip())
            if match is None:
                self.fail(f"{text!r} is no bandwidth; write it like 1gbit or 500mbit", param, ctx)
            rates.append(float(match[1]) * _FACTORS[match[2].lower()])
        return rates


def bandwidth_text(bits_per_second: float) -> str:
    """``1 Gbit/s``."""
    for unit, factor in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if bits_per_second >= factor:
            return f"{bits_per_second / factor:g} {unit}"
    return f"{bits_per_second / 1e3:g} kbit/s"
