"""State machines as the tables that ``docs/scheduling.md`` shows."""

from collections.abc import Mapping
from enum import StrEnum


def as_markdown(following: Mapping[tuple[StrEnum, StrEnum], StrEnum]) -> str:
    """A row per phase, a column per event, each in order of first appearance; phases that nothing follows last."""
    phases = list(dict.fromkeys([*(phase for phase, _ in following), *following.values()]))
    events = list(dict.fromkeys(event for _, event in following))
    rows = [["phase", *events], ["---"] * (len(events) + 1)]
    rows += [[f"**{phase}**", *(following.get((phase, event), "") for event in events)] for phase in phases]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
