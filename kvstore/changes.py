"""Which names came and went since somebody last asked; gained and lost again in between is nothing to tell."""

from kvstore.digest import Digest, NamesDigest
from kvstore.names import BlockName


class NameChanges:
    """Of one tier."""

    def __init__(self) -> None:
        self._gained: dict[BlockName, None] = {}
        self._lost: dict[BlockName, None] = {}
        self._held = NamesDigest()

    def gain(self, name: BlockName) -> None:
        self._held.gain(name)
        if name in self._lost:
            del self._lost[name]
        else:
            self._gained[name] = None

    def lose(self, name: BlockName) -> None:
        self._held.lose(name)
        if name in self._gained:
            del self._gained[name]
        else:
            self._lost[name] = None

    def tell(self) -> tuple[tuple[BlockName, ...], tuple[BlockName, ...]]:
        """(gained, lost), told once."""
        told = tuple(self._gained), tuple(self._lost)
        self._gained.clear()
        self._lost.clear()
        return told

    def absorb(self, others: "NameChanges") -> None:
        """All that came to a tier before it was this one's, which holds nothing; few steps, however many names."""
        assert not self._held.names, "another tier's names are taken over while there are none"
        assert not others._lost, "what came and went is not told"
        for name in self._lost.keys() & others._gained.keys():
            del self._lost[name], others._gained[name]
        self._gained, self._held = others._gained, others._held

    @property
    def digest(self) -> Digest:
        """Of the names held now, told or not."""
        return self._held.tell()

    def check(self) -> None:
        assert not self._gained.keys() & self._lost.keys(), "a name was both gained and lost"
