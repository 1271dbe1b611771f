"""The checksums of blocks that come in slices, taken of each slice while it is in the cache.

A block whose layers come in their order need not be read back from memory once it is whole. A slice out of its order,
or one that comes twice, makes what was taken worthless: such a block is hashed where it lies, so a checksum is always
that of the bytes in the slot.
"""

from collections.abc import Sequence

import xxhash

PARCEL_BYTES = 1 << 20
"""Received at a time, and hashed before the next: what fits into a core's own cache, and few enough
calls that the interpreter is seldom waited for."""

Digest = xxhash.xxh3_64


class Arriving:
    """The blocks of one call, by position."""

    def __init__(self) -> None:
        self._taken: dict[int, tuple[Digest, int] | None] = {}  # with the layer to come next; None: out of order

    def expect(self, position: int, layers: range) -> Digest | None:
        """These layers of a block come now, whole; what is to take them in. None: they are not to be hashed yet."""
        known = self._taken.get(position, (Digest(), 0) if layers.start == 0 else None)
        if known is None or known[1] != layers.start:
            self._taken[position] = None
            return None
        self._taken[position] = (known[0], layers.stop)
        return known[0]

    def checksum(self, position: int, layers: int) -> int | None:
        """Of a block that is whole, all of its layers; it is forgotten. None: to be had from the slot only."""
        taken = self._taken.pop(position, None)
        return taken[0].intdigest() if taken is not None and taken[1] == layers else None


def parcels(slices: Sequence[tuple[Digest | None, memoryview]]) -> list[list[tuple[Digest | None, memoryview]]]:
    """The same bytes in the same order, cut and gathered into parcels."""
    made: list[list[tuple[Digest | None, memoryview]]] = [[]]
    room = PARCEL_BYTES
    for digest, view in slices:
        at = 0
        while at < len(view):
            if not room:
                made.append([])
                room = PARCEL_BYTES
            piece = view[at : at + room]
            made[-1].append((digest, piece))
            at += len(piece)
            room -= len(piece)
    return made
