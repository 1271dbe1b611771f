"""A toy engine that computes only when it is let, so that a test can act in the middle of a step."""

import threading
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
        self.steps_waiting = 0

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.steps_waiting += 1
        assert self._open.wait(LONGEST_S), "nobody opened the gate"
        self.steps_waiting -= 1


class GatedToy(ToyEngine):
    """``gate`` stands before every step, ``copies_gate`` before copies to the arena outside of steps."""

    def __init__(self, *args: int, **more: int) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.gate = Gate()
        self.copies_gate = Gate()
        self.fails = False
        self.batches: list[Batch] = []
        self.lowered = 0

    def run(self, batch: Batch, on_layer: OnLayer | None = None) -> StepResult:
        self.gate.pass_through()
        if self.fails:
            raise RuntimeError("the device is on fire")
        self.batches.append(batch)
        return super().run(batch, on_layer)

    def lower(self, copies: Sequence[Copy], layer: int | None = None) -> None:
        if layer is None:
            self.copies_gate.pass_through()
            self.lowered += len(copies)
        super().lower(copies, layer)
