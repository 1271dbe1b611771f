"""Facts about many things as columns: one numpy row for each, so that a placement weighs a thousand at once.

Whoever is known keeps its row. The last row is nobody's: index -1 reads it, so that "no store" needs no
special case.
"""

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Key = TypeVar("Key", bound=Hashable)

NOBODY = -1
"""The row of whoever is not known."""


class Table(Generic[Key]):
    """Rows of one numpy structure. empty: what an unused row holds, and nobody's."""

    def __init__(self, dtype: np.dtype[np.void], empty: tuple[object, ...]) -> None:
        self._empty = np.array([empty], dtype=dtype)
        self._free: list[int] = []
        self._at: dict[Key, int] = {}
        self._ranks: NDArray[np.int64] | None = None
        self.rows: NDArray[np.void] = np.repeat(self._empty, 9)
        """To be written to at ``row(key)``. Replaced when it grows."""
        self.keys: list[Key | None] = []
        """By row."""

    def row(self, key: Key | None) -> int:
        """Where this one's facts are; NOBODY where it is unknown."""
        return NOBODY if key is None else self._at.get(key, NOBODY)

    def add(self, key: Key) -> int:
        """Its row, a new one if it has none."""
        row = self._at.get(key)
        if row is not None:
            return row
        if self._free:
            row = self._free.pop()
        else:
            row = len(self.keys)
            self.keys.append(None)
            if row == len(self.rows) - 1:
                self.rows = np.concatenate([self.rows, np.repeat(self._empty, len(self.rows))])
        self.keys[row], self._at[key], self._ranks = key, row, None
        return row

    def remove(self, key: Key) -> int:
        """The row that it had, which may be another's from now on; NOBODY where it had none."""
        row = self._at.pop(key, NOBODY)
        if row != NOBODY:
            self.keys[row], self.rows[row] = None, self._empty[0]
            self._free.append(row)
            self._ranks = None
        return row

    def column(self, name: str) -> NDArray[Any]:
        """A copy of one column, nobody's last: a view into rows is read eight times more slowly."""
        return self.rows[name][: len(self.keys) + 1].copy()  # the first row that was never used is as good as the last

    def ranks(self) -> NDArray[np.int64]:
        """Each row's place among the sorted keys: decides ties, so that the order of reports does not."""
        if self._ranks is None:
            self._ranks = np.zeros(len(self.keys) + 1, dtype=np.int64)
            self._ranks[[self._at[key] for key in sorted(self._at)]] = np.arange(len(self._at))  # type: ignore[type-var]
        return self._ranks

    def __len__(self) -> int:
        return len(self._at)
