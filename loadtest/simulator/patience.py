"""What a simulated client does that is refused: it waits as it was told, and tries again, so many times in all."""

from dataclasses import dataclass
from math import ceil

from loadtest.simulator.record import Record


@dataclass(frozen=True, slots=True)
class Patience:
    """tries: in all. whole_seconds: it reads Retry-After, which is rounded up; else retry-after-ms, as openai does.
    lag_s: how much later than it was told it comes, on its way back and forth."""

    tries: int = 1
    whole_seconds: bool = False
    lag_s: float = 0.0

    def again_s(self, record: Record) -> float | None:
        """In how many seconds it tries again; None: it has what it wanted, or gives up."""
        if record.retry_after_s is None or len(record.told_s) + 1 >= self.tries:
            return None
        told_s = max(1, ceil(record.retry_after_s)) if self.whole_seconds else record.retry_after_s
        return told_s + self.lag_s


ONCE = Patience()
