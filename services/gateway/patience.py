"""When a story goes on in the face of failure, and when its client is told. Pure: facts and times go in.

Two limits. A worker that took the request and then failed may have failed because of
it, so that happens ``attempts`` times at most. Nobody being there is nobody's fault, so that
is waited out: briefly for a new request, which can be told to come back, longer for a stream
that has begun, which would be lost. Tokens that come settle all troubles before them.
"""

from dataclasses import dataclass

from scheduler.vocabulary import Rejection, RejectionCode, WorkerId
from services.gateway.errors import ApiError, bad_request, busy, sentence, unavailable
from services.wire.errors import DeadlinePassed, PeerBusy, PeerDiffers, PeerError, PeerRefused

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
"""Between placements that found nobody; a worker's restart takes about a second, and asking costs 0.2 ms."""

LONGEST_BATCH_PAUSE_S = 5.0
"""Between placements of a batch request, which asks again when it was told to, or sooner: 500 of them ask 100 times
a second."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How much a story puts up with.

    attempts: placements whose worker took the request and failed, or was full. waiting_s: for somebody
    to be there; resuming_s: the same for a stream that has begun; batch_s: a batch request for room as well, 0 for
    no longer than others. first_token_s and whole_s: how long
    it may take to the first token and to the end, everything included.
    """

    attempts: int = 4
    waiting_s: float = 2.0
    resuming_s: float = 15.0
    batch_s: float = 0.0
    first_token_s: float = 120.0
    whole_s: float = 3600.0


class Troubles:
    """What went wrong with one story since its last token. excluded: whom it should not be placed at again."""

    def __init__(self, patience: Patience, *, batch: bool = False) -> None:
        self._patience = patience
        self._waits_for_room = batch and patience.batch_s > 0
        self.excluded: frozenset[WorkerId] = frozenset()
        self.over()

    def over(self) -> None:
        """Tokens came."""
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._taken = 0
        self._full: str | None = None
        self._last: str | None = None

    def last_s(self, *, now: float) -> float:
        """For how long they have lasted, 0 where there are none."""
        return 0.0 if self._since is None else now - self._since

    def rejected(self, rejection: Rejection, *, begun: bool, now: float) -> float:
        """Nobody can take it: how long to wait before asking again; raises ApiError if that is no use.

        Who failed before may be back by then, which the conductor knows better: nobody stays excluded.
        """
        self._since = now if self._since is None else self._since
        if now - self._since >= self._most_s(rejection, begun):
            raise self._no(rejection, begun)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._waits_for_room and not begun:
            pause_s = min(max(pause_s, rejection.retry_after_s), LONGEST_BATCH_PAUSE_S)
        self.excluded = frozenset()
        return pause_s

    def _most_s(self, rejection: Rejection, begun: bool) -> float:
        """How long troubles may last when this is what is heard: who is new is told at once that there is no room."""
        if begun:
            return self._patience.resuming_s
        somebody = self._full is not None or rejection.code is not RejectionCode.UNAVAILABLE
        most_s = 0.0 if somebody else self._patience.waiting_s
        return max(most_s, self._patience.batch_s) if self._waits_for_room else most_s

    def _no(self, rejection: Rejection, begun: bool) -> ApiError:
        if not begun and rejection.code is RejectionCode.UNATTAINABLE:
            after_s, code = rejection.retry_after_s, rejection.code.value
            return busy(sentence(rejection.reason), retry_after_s=after_s, code=code, futile=rejection.futile)
        if not begun and (self._full is not None or rejection.code is RejectionCode.OVERLOADED):
            return busy(sentence(self._full or rejection.reason), retry_after_s=rejection.retry_after_s)
        last = "" if self._last is None else f"; the last to fail was {self._last}"
        return unavailable(sentence(f"{rejection.reason.rstrip('.')}{last}"), retry_after_s=rejection.retry_after_s)

    def failed(self, worker: WorkerId, trouble: PeerError, *, taken: bool, begun: bool, late: bool, now: float) -> None:
        """A worker failed or refused; raises ApiError (TimeoutError) unless another may do better.

        late: the story's own time is up. A worker can say that a deadline has passed before it has.
        """
        self._last = f"{worker}: {trouble}"
        match trouble:
            case DeadlinePassed() if late:
                raise TimeoutError from trouble
            case PeerRefused() if not isinstance(trouble, PeerDiffers):
                raise bad_request(sentence(str(trouble))) from trouble
            case PeerBusy():
                self._full = str(trouble)
                self._taken += 1
            case _:
                self._taken += taken
        self._since = now if self._since is None else self._since
        self.excluded |= {worker}
        if self._taken >= self._patience.attempts:
            if self._full is not None and not begun:
                raise busy(sentence(self._full), retry_after_s=1.0) from trouble
            raise unavailable(sentence(f"the request failed {self._taken} times, the last on {worker}: {trouble}"))
