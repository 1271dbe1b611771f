"""Whether any conductor is reached, and when to say so. Pure: it is told what happened, and when.

A gateway without a conductor refuses every request, and each refusal goes to a client; so the operator is told, once
when it lasts, and once when it is over.
"""

from dataclasses import dataclass

AWAY_S = 2.0
"""All processes of a deployment start at once, and a conductor that is killed is back within a second."""


@dataclass(slots=True)
class Reach:
    since: float | None = None
    """When it was first missed."""
    said: bool = False

    def missed(self, *, now: float) -> bool:
        """None has answered; whether that is to be said now."""
        if self.since is None:
            self.since = now
        if self.said or now - self.since < AWAY_S:
            return False
        self.said = True
        return True

    def answered(self, *, now: float) -> float | None:
        """One has. For how many seconds none had, where that had been said."""
        since, said = self.since, self.said
        self.since, self.said = None, False
        return now - since if said and since is not None else None
