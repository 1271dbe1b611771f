"""Which names came and went since somebody last asked; gained and lost again in between is nothing to tell."""

from kvstore.names import BlockName


class NameChanges:
    """Of one tier."""

    def __init__(self) -> None:
        self._gained: dict[BlockName, None] = {}
        self._lost: dict[BlockName, None] = {}

    def gain(self, name: BlockName) -> None:
        if name in self._lost:
            del self._lost[name]
        else:
            self._gained[name] = None

    def lose(self, name: BlockName) -> None:
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

    def check(self) -> None:
        assert not self._gained.keys() & self._lost.keys(), "a name was both gained and lost"
