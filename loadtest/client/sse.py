"""Server-sent events out of bytes as they come, wherever reads happen to cut them. Sans-IO.

Of an event only its data is kept. Comments, ids and names are dropped: no server of this kind means anything by them.
"""

MOST_BYTES = 16 << 20
"""Of one event. A server that sends more without an end is broken, and would fill our memory."""


class SseError(ValueError):
    """No stream of events."""


class Events:
    """Bytes in, data of whole events out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that is complete with this. Raises SseError."""
        self._rest += data
        if len(self._rest) + sum(map(len, self._data)) > MOST_BYTES:
            raise SseError(f"an event of more than {MOST_BYTES} bytes")
        found: list[bytes] = []
        lines = self._rest.splitlines(keepends=True)  # of bytes: at \n, \r and \r\n only
        # What has no end yet waits; so does \r at the very end, which may be the first half of \r\n.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            self._take(line.rstrip(b"\r\n"), found)
        return found

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if line.startswith(b"data:"):
            value = line[len(b"data:") :]
            self._data.append(value[1:] if value.startswith(b" ") else value)
        elif not line and self._data:
            found.append(b"\n".join(self._data))
            self._data = []
