"""Quantities with units, as people write them in a cluster file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from flexpie.core.heartbeat import LONGEST_PATIENCE_SECONDS, SHORTEST_PATIENCE_SECONDS
from flexpie.master.serving import LONGEST_WAIT_SECONDS

NO_LINK = "none"
"""Bandwidth of a link that does not exist."""


_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([^\s0-9.].*?)?\s*")

_BITS_PER_SECOND = {
    "bit/s": Fraction(1),
    "kbit/s": Fraction(10**3),
    "Mbit/s": Fraction(10**6),
    "Gbit/s": Fraction(10**9),
}
_SECONDS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
}
_BYTES = {
    unit: Fraction(base**power)
    for base, units in ((1000, ("B", "kB", "MB", "GB", "TB")), (1024, ("B", "KiB", "MiB", "GiB", "TiB")))
    for power, unit in enumerate(units)
}


def bandwidth(text: str) -> float:
    """Bytes per second from text such as ``1 Gbit/s``; raises ValueError that says what is expected."""
    expected = "a bandwidth such as '1 Gbit/s' or '500 Mbit/s'"
    return float(_parse(text, _BITS_PER_SECOND, expected, positive=True) / 8)


def bandwidth_or_none(text: str) -> float:
    """Like `bandwidth`, but 0 for the text ``none``, of a link that does not exist."""
    if text.strip() == NO_LINK:
        return 0.0
    try:
        return bandwidth(text)
    except ValueError as error:
        raise ValueError(f"{error}, or '{NO_LINK}' where there is no link") from None


def memory(text: str) -> int:
    """Bytes from text such as ``2 GiB`` or ``512 MB``; raises ValueError that says what is expected."""
    return int(_parse(text, _BYTES, "a size such as '2 GiB' or '512 MB'", positive=True))


def latency(text: str) -> float:
    """Seconds from text such as ``50 us`` or ``0.2 ms``; raises ValueError that says what is expected."""
    return float(_parse(text, _SECONDS, "a time such as '50 us' or '0.2 ms'", positive=False))


def patience(text: str) -> float:
    """Seconds that a device may say nothing, from text such as ``1 s``; ValueError says what is expected."""
    expected = "a time of 100 ms to 60 s, such as '1 s'"
    seconds = float(_parse(text, _SECONDS, expected, positive=True))
    if not SHORTEST_PATIENCE_SECONDS <= seconds <= LONGEST_PATIENCE_SECONDS:
        raise ValueError(expected)
    return seconds


def batch_wait(text: str) -> float:
    """Seconds that a request waits for others, from text such as ``5 ms``; ValueError says what is expected."""
    expected = f"a time of at most {LONGEST_WAIT_SECONDS:g} s, such as '5 ms'"
    seconds = float(_parse(text, _SECONDS, expected, positive=False))
    if seconds > LONGEST_WAIT_SECONDS:
        raise ValueError(expected)
    return seconds


def _parse(text: str, units: Mapping[str, Fraction], expected: str, *, positive: bool) -> Fraction:
    match = _QUANTITY.fullmatch(text)
    # No guess for a near miss of a unit: Mb, MB and MiB differ by up to a factor of eight.
    if match is None or match[2] not in units:
        raise ValueError(f"{expected} (units: {', '.join(units)})")
    number = Fraction(match[1])
    if positive and number == 0:
        raise ValueError(f"{expected}, above zero")
    return number * units[match[2]]
