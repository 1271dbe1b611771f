"""What a deployment that starts still waits for, told now and then. Pure: it is told who, and when.

Lines rather than a spinner: the processes that are waited for write to the same terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SOON_S = 1.0
"""Who is ready by then was not waited for."""

AGAIN_S = 5.0


@dataclass(slots=True)
class Waiting:
    """since: when it began."""

    since: float
    told_at: float | None = None
    told: Sequence[str] = ()

    def look(self, names: Sequence[str], *, now: float) -> str | None:
        """A sentence, where there is something to say: for the first time, or somebody is ready, or it lasts."""
        if not names or now < self.since + SOON_S:
            return None
        if self.told_at is not None and list(names) == list(self.told) and now < self.told_at + AGAIN_S:
            return None
        self.told, self.told_at = tuple(names), now
        return f"waiting for {listed(names)}, {now - self.since:.0f} s so far"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
