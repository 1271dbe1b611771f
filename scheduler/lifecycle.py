"""The life of a request as its gateway tells it, retries included.

    placing -> prefilling -> handing over -> decoding -> finished
       ^  \\___________ inline ___________/      |
       +-------- a worker refused or died ------+        cancelled and failed from everywhere

A table and nothing else: who acts on it, and how long anything takes, is the gateway's business.
"""

from dataclasses import dataclass
from enum import StrEnum

from scheduler.vocabulary import Outcome


class Phase(StrEnum):
    """Where a request is."""

    PLACING = "placing"
    """The conductor is asked, or will be asked again after a rejection."""
    PREFILLING = "prefilling"
    """A prefill worker was called and has given no token yet."""
    HANDING_OVER = "handing over"
    """The first token is there; the prefill worker still holds the KV, the decode worker was called."""
    DECODING = "decoding"
    """The decode worker has all it needs, or prefills inline."""
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Event(StrEnum):
    """What happens to a request."""

    REJECTED = "rejected"
    """By the conductor, with patience left to ask again."""
    PLACED = "placed"
    """With a prefill worker."""
    PLACED_INLINE = "placed inline"
    FIRST_TOKEN = "first token"
    """From the prefill worker."""
    CONFIRMED = "confirmed"
    """The decode worker has leased what it lifts, or knows what it must compute."""
    TOKENS = "tokens"
    """From the decode worker."""
    LOST = "lost"
    """A worker refused, failed or died; the tokens given out so far are kept."""
    ENDED = "ended"
    """By a stop id, a limit, or since whoever listens had enough."""
    CLIENT_LEFT = "client left"
    GAVE_UP = "gave up"
    """Nobody can take it in the time that it has."""


NEXT: dict[tuple[Phase, Event], Phase] = {
    (Phase.PLACING, Event.REJECTED): Phase.PLACING,
    (Phase.PLACING, Event.PLACED): Phase.PREFILLING,
    (Phase.PLACING, Event.PLACED_INLINE): Phase.DECODING,
    (Phase.PLACING, Event.ENDED): Phase.FINISHED,  # its worker died between the last token and saying so
    (Phase.PLACING, Event.CLIENT_LEFT): Phase.CANCELLED,
    (Phase.PLACING, Event.GAVE_UP): Phase.FAILED,
    (Phase.PREFILLING, Event.FIRST_TOKEN): Phase.HANDING_OVER,
    (Phase.PREFILLING, Event.LOST): Phase.PLACING,
    (Phase.PREFILLING, Event.ENDED): Phase.FINISHED,  # the first token was also the last
    (Phase.PREFILLING, Event.CLIENT_LEFT): Phase.CANCELLED,
    (Phase.PREFILLING, Event.GAVE_UP): Phase.FAILED,
    (Phase.HANDING_OVER, Event.CONFIRMED): Phase.DECODING,
    (Phase.HANDING_OVER, Event.LOST): Phase.PLACING,
    (Phase.HANDING_OVER, Event.ENDED): Phase.FINISHED,
    (Phase.HANDING_OVER, Event.CLIENT_LEFT): Phase.CANCELLED,
    (Phase.HANDING_OVER, Event.GAVE_UP): Phase.FAILED,
    (Phase.DECODING, Event.CONFIRMED): Phase.DECODING,  # inline, a confirmation says only that it was admitted
    (Phase.DECODING, Event.TOKENS): Phase.DECODING,
    (Phase.DECODING, Event.LOST): Phase.PLACING,
    (Phase.DECODING, Event.ENDED): Phase.FINISHED,
    (Phase.DECODING, Event.CLIENT_LEFT): Phase.CANCELLED,
    (Phase.DECODING, Event.GAVE_UP): Phase.FAILED,
}
"""Whatever is not here is a bug and raises KeyError before anything has changed."""

_LAST = {Phase.FINISHED: Outcome.FINISHED, Phase.CANCELLED: Outcome.CANCELLED, Phase.FAILED: Outcome.FAILED}


@dataclass(slots=True)
class Life:
    """One request's way through the table."""

    phase: Phase = Phase.PLACING

    def happened(self, event: Event) -> Outcome | None:
        """What every conductor is to be told of its placement, if anything.

        Raises KeyError, and changes nothing, where the table has no such step.
        """
        before = self.phase
        self.phase = NEXT[before, event]
        if event is Event.LOST:
            return Outcome.FAILED  # the placement has failed; the request lives on with another
        if before is Phase.HANDING_OVER and event is Event.CONFIRMED:
            return Outcome.HANDED_OVER
        return _LAST.get(self.phase)

    @property
    def ended(self) -> bool:
        return self.phase in _LAST
