"""How many bytes of blocks may be under way at a time, with one peer and with all of them."""

from collections import Counter
from collections.abc import Callable


class Allowance:
    """Bytes, one way. Whoever could not have any may wait to be told when some were given back."""

    def __init__(self, *, per_peer: int, in_all: int) -> None:
        self.per_peer, self._in_all = per_peer, in_all
        self._used: Counter[str] = Counter()
        self._waiting: dict[object, Callable[[], None]] = {}

    @property
    def used(self) -> int:
        return self._used.total()

    def room(self, peer: str) -> int:
        """Bytes that could be taken now."""
        return max(0, min(self.per_peer - self._used[peer], self._in_all - self.used))

    def take(self, peer: str, count: int) -> None:
        self._used[peer] += count

    def give(self, peer: str, count: int) -> None:
        """No more than was taken."""
        self._used[peer] -= count
        assert self._used[peer] >= 0, f"{peer} gave back more than it took"
        if not self._used[peer]:
            del self._used[peer]
        waiting, self._waiting = self._waiting, {}
        for told in waiting.values():
            told()

    def wait(self, who: object, told: Callable[[], None]) -> None:
        """Be told once, when something was given back."""
        self._waiting[who] = told

    def leave(self, who: object) -> None:
        """Wait no more; fine if one does not."""
        self._waiting.pop(who, None)
