"""A toy engine that computes only when it is let, so that a test can act in the middle of a step."""

import threading
import time
from collections.abc import Sequence

from engine.port import OnLayer, StepResult
from engine.toy import ToyEngine
from scheduler.batch import Batch, Copy

LONGEST_S = 10.0


class Gate:
    """Open at first. While it is closed every step waits before it computes."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._tickets = threading.Semaphore(0)
        self.steps_waiting = 0

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def let_one_through(self) -> None:
        """Whoever waits, or the next to come."""
        self._tickets.release()

    def pass_through(self) -> None:
        self.steps_waiting += 1
        until_s = time.monotonic() + LONGEST_S
        while not self._open.wait(0.002) and not self._tickets.acquire(blocking=False):
            assert time.monotonic() < until_s, "nobody opened the gate"
        self.steps_waiting -= 1


class GatedToy(ToyEngine):
    """``gate`` stands before every step, the others before copies outside of steps: to the arena, and from it."""

    def __init__(self, *args: int, **more: int) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.gate = Gate()
        self.copies_gate = Gate()
        self.lifts_gate = Gate()
        self.fails = False
        self.jobs: list[str] = []
        """"step" or "lift", in the order in which they ran."""
        self.batches: list[Batch] = []
        self.lowered = 0
        self.lifted: list[int] = []
        """Blocks of each job so far."""

    def run(self, batch: Batch, on_layer: OnLayer | None = None) -> StepResult:
        self.gate.pass_through()
        if self.fails:
            raise RuntimeError("the device is on fire")
        self.jobs.append("step")
        self.batches.append(batch)
        return super().run(batch, on_layer)

    def lower(self, copies: Sequence[Copy]) -> tuple[int, ...]:
        self.copies_gate.pass_through()
        self.lowered += len(copies)
        return super().lower(copies)

    def lift(self, copies: Sequence[Copy]) -> None:
        self.lifts_gate.pass_through()
        self.jobs.append("lift")
        self.lifted.append(len(copies))
        super().lift(copies)
