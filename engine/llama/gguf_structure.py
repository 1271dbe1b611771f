"""Walk through the head of a GGUF file and refuse one whose lengths lead beyond its end.

The ``gguf`` package trusts every length: one flipped byte can keep it counting for hours (0.19.0).
Source: ``docs/gguf.md`` of ggml, versions 2 and 3.
"""

import mmap
from pathlib import Path

from engine.port import EngineError

VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type: integers, floats and booleans."""

MAX_DEPTH = 4
"""Of arrays in arrays."""


def check_structure(path: Path) -> None:
    """Raises EngineError unless magic, version and all lengths of metadata and tensors' names make sense."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).file()
    except OSError as error:
        raise EngineError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:  # an empty file can't be mapped
        raise EngineError(f"{path} can't be read as a GGUF file: {error}") from error


class _Walk:
    """A place in the file that only goes forward."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at, self._end = data, 0, len(data)

    def file(self) -> None:
        if self._data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self._skip(4)
        version = self._number(4)
        if version & 0xFFFF == 0:
            raise ValueError("it is for machines of the other byte order")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, and {' and '.join(map(str, VERSIONS))} are known")
        tensors, fields = self._number(8), self._number(8)
        for _ in range(fields):
            self._string()
            self._value(self._number(4))
        for _ in range(tensors):
            self._string()
            self._skip(8 * self._number(4) + 12)  # sizes, type, place

    def _value(self, kind: int, depth: int = 0) -> None:
        if kind == STRING:
            self._string()
        elif kind == ARRAY and depth < MAX_DEPTH:
            inner, count = self._number(4), self._number(8)
            if inner in SIZES:
                self._skip(SIZES[inner] * count)
                return
            for _ in range(count):
                self._value(inner, depth + 1)
        elif kind in SIZES:
            self._skip(SIZES[kind])
        else:
            raise ValueError(f"it has a value of the unknown kind {kind}")

    def _string(self) -> None:
        self._skip(self._number(8))

    def _number(self, size: int) -> int:
        self._skip(size)
        return int.from_bytes(self._data[self._at - size : self._at], "little")

    def _skip(self, size: int) -> None:
        """Every count is followed by bytes of its own, so a count that is too large ends here as well."""
        self._at += size
        if self._at > self._end:
            raise ValueError("it is cut off, or its lengths are wrong")
