"""What was last heard of others. Pure: it is told what the registry says now, and the time.

A registry that was emptied or restarted knows nobody for a moment, though everybody lives. So
whoever is missing is believed in for a while longer, in which every live process announces
itself again. What has changed counts at once.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from services.registry.entry import Entry, Kind

Place = tuple[Kind, str]
T = TypeVar("T")


class Known:
    """Entries by kind and id. patience_s: how long one may be missing from the registry's answers."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._entries: dict[Place, Entry] = {}
        self._missing_since: dict[Place, float] = {}

    def heard(self, entries: Iterable[Entry], *, now: float) -> bool:
        """All that the registry has at this time; whether anything is known differently now."""
        before = self._entries
        present = {(entry.kind, entry.id): entry for entry in entries}
        missing = {place: self._missing_since.get(place, now) for place in before if place not in present}
        kept = {place: since for place, since in missing.items() if now - since < self._patience_s}
        self._missing_since = kept
        self._entries = {**_only(before, kept), **present}
        return self._entries != before

    def entries(self, kind: Kind) -> tuple[Entry, ...]:
        """In the order of their ids, which is the same for everybody who asks."""
        return tuple(self._entries[place] for place in sorted(self._entries) if place[0] is kind)


def _only(entries: Mapping[Place, Entry], places: Iterable[Place]) -> dict[Place, Entry]:
    return {place: entries[place] for place in places}
