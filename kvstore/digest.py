"""What a set of names comes to: enough to tell whether two processes know of the same names.

Each name is a part of a hash, so the exclusive or of all of them tells sets apart whatever their order, and follows
every change in one step. It guards against drift, not against somebody who means to deceive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvstore.names import NAME_BYTES, BlockName

FEW = 32
"""Up to so many names are taken one by one, 0.1 us each; more are joined and reduced, 0.02 us each and 5 us at once."""


@dataclass(frozen=True, slots=True)
class Digest:
    """How many names, and the exclusive or of their first eight bytes."""

    names: int = 0
    bits: int = 0


class NamesDigest:
    """Follows a set of names. Told each name once when it comes, and once when it goes."""

    __slots__ = ("_bits", "names")

    def __init__(self) -> None:
        self.names = 0
        self._bits = 0

    def gain(self, name: BlockName) -> None:
        self.names += 1
        self._bits ^= int.from_bytes(name, "little")  # whole names: cutting each costs as much again

    def lose(self, name: BlockName) -> None:
        self.names -= 1
        self._bits ^= int.from_bytes(name, "little")

    def gained(self, names: Sequence[BlockName]) -> None:
        """All of them are new."""
        self.names += len(names)
        self._bits ^= _mixed(names)

    def lost(self, names: Sequence[BlockName]) -> None:
        """All of them were there."""
        self.names -= len(names)
        self._bits ^= _mixed(names)

    def tell(self) -> Digest:
        return Digest(self.names, self._bits & (1 << 64) - 1)


def digest_of(names: Sequence[BlockName]) -> Digest:
    """Of different names, counted anew."""
    digest = NamesDigest()
    digest.gained(names)
    return digest.tell()


def _mixed(names: Sequence[BlockName]) -> int:
    if len(names) <= FEW:
        bits = 0
        for name in names:
            bits ^= int.from_bytes(name, "little")
        return bits
    columns = np.frombuffer(b"".join(names), "<u8").reshape(-1, NAME_BYTES // 8)
    low, high = np.bitwise_xor.reduce(columns, axis=0).tolist()
    return int(low | high << 64)
