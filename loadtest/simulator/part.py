"""One worker's part in a request: whom to tell of it, and what it has here."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.simulator.handoff import Handoff
from loadtest.simulator.store import Store
from scheduler.progress import FirstToken
from scheduler.sequence import Running
from scheduler.vocabulary import RequestId, StoreTarget


@dataclass(slots=True, eq=False)
class Part:
    """Made by who asks the worker, and the worker's from then on.

    token: what it samples, always. source: where its store fetches what it lacks. push_to: the decode worker's
    store, for a hand-over between hosts. taken: all that could be leased is, and what is missing will be computed.
    first: its first token. ended: its last one. lost: the worker died. wanted: after so many of its tokens whoever
    asked has enough; None: stays to the end.
    """

    running: Running
    token: int
    taken: Callable[[], None]
    first: Callable[[FirstToken], None]
    ended: Callable[[], None]
    lost: Callable[[], None]
    source: StoreTarget | None = None
    push_to: Store | None = None
    wanted: int | None = None
    enough: Callable[[], None] = lambda: None
    steps: list[list[int]] = field(default_factory=list)
    """Runs [from, to) of this worker's steps that gave it a token each."""
    handoff: Handoff | None = None
    left: bool = False

    @property
    def request(self) -> RequestId:
        return self.running.request

    @property
    def tokens(self) -> int:
        return sum(end - start for start, end in self.steps)

    def got(self, step: int, tokens: int) -> None:
        if self.steps and self.steps[-1][1] == step:
            self.steps[-1][1] += tokens
        else:
            self.steps.append([step, step + tokens])
