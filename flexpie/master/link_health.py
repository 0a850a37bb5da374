"""Which links between connected devices do not work, as the devices at their ends say."""

from __future__ import annotations

from collections.abc import Iterable

from flexpie.master.events import DeviceName, LinkName

FIRST_CHECK_SECONDS = 1.0
LONGEST_CHECK_SECONDS = 30.0
"""From one check of a missing link to the next: twice as long each time that it failed again, so that a link that
comes and goes does not have everything planned anew all the time."""


class LinkHealth:
    """What devices report of their peers, and which links count as missing.

    A report alone may mean that the peer is gone; it counts once the peer answers the master. A missing link stays
    missing until a check finds it working.
    """

    def __init__(self) -> None:
        self._reported: dict[DeviceName, frozenset[DeviceName]] = {}
        self._missing: set[LinkName] = set()
        self._failures: dict[LinkName, int] = {}

    @property
    def missing(self) -> frozenset[LinkName]:
        """Links that plans must not use, by source and destination."""
        return frozenset(self._missing)

    def report(self, source: DeviceName, unreachable: frozenset[DeviceName]) -> frozenset[DeviceName]:
        """A device says which peers it does not reach; returns those that it did not name before."""
        before = self._reported.get(source, frozenset())
        self._reported[source] = unreachable
        return unreachable - before

    def confirm(self, destination: DeviceName, connected: Iterable[DeviceName]) -> list[LinkName]:
        """A device that others do not reach answers the master; returns the links that are missing since now."""
        if destination not in connected:
            return []
        found = [(source, destination) for source in connected if destination in self._reported.get(source, ())]
        news = [link for link in found if link not in self._missing]
        for link in news:
            self._missing.add(link)
            self._failures[link] = self._failures.get(link, 0) + 1
        return news

    def check_after_seconds(self, link: LinkName) -> float:
        """When to look next whether a missing link works again."""
        return min(FIRST_CHECK_SECONDS * 2.0 ** (self._failures.get(link, 1) - 1), LONGEST_CHECK_SECONDS)

    def restore(self, link: LinkName) -> None:
        """A missing link works again."""
        self._missing.discard(link)

    def forget(self, device: DeviceName) -> None:
        """A device is lost; what was known of its links is out of date."""
        self._reported.pop(device, None)
        self._missing = {link for link in self._missing if device not in link}
