"""A block on its way from the device to the slot that was granted for it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kvstore.names import BlockName
from kvstore.vocabulary import SlotRef
from scheduler.batch import Copy
from services.worker.model import Lowering
from services.worker.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Claim:
    """A device block that is being copied to the slot it was granted."""

    reservation: Reservation
    name: BlockName
    block: int
    ref: SlotRef

    @property
    def lowering(self) -> Lowering:
        return Lowering(Copy(self.ref.slot, self.block), self.reservation.session.epoch)


def seal(written: Iterable[tuple[Claim, int | None]]) -> None:
    """These claims were written, with these checksums; None was not, and is given back with its reservation."""
    by_reservation: dict[int, tuple[Reservation, list[tuple[BlockName, int]]]] = {}
    for claim, checksum in written:
        if checksum is not None:
            _, done = by_reservation.setdefault(id(claim.reservation), (claim.reservation, []))
            done.append((claim.name, checksum))
    for reservation, done in by_reservation.values():
        reservation.seal(done)


class Copying:
    """Claims whose slots are in use from the moment this is made until it is left; ``done`` is told the blocks then."""

    def __init__(self, claims: Sequence[Claim], *, done: Callable[[Sequence[int]], None]) -> None:
        self.claims = claims
        self._uses = ExitStack()
        self._uses.callback(done, [claim.block for claim in claims])
        for reservation in {id(claim.reservation): claim.reservation for claim in claims}.values():
            self._uses.enter_context(reservation.used())

    def __enter__(self) -> "Copying":
        return self

    def __exit__(self, *exception: object) -> None:
        self._uses.close()
