"""What a question and its answer between two processes cost at all: bytes over a Unix socket pair, both sides blocking.

    python -m services.bench.bare_trips DESCRIPTOR ASK_BYTES ANSWER_BYTES

answers until the other side closes. No event loop, no message, no decision: what is left is the kernel waking two.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

END_S = 10.0


class BareTrips:
    """``seconds`` is one round trip, measured now."""

    def __init__(self, line: socket.socket, ask_bytes: int, answer_bytes: int) -> None:
        self._line = line
        self._ask = bytes(ask_bytes)
        self._answer_bytes = answer_bytes

    def seconds(self) -> float:
        started = time.perf_counter()
        self._line.sendall(self._ask)
        assert _received(self._line, self._answer_bytes), "the other process has ended"
        return time.perf_counter() - started


@contextmanager
def bare_trips(ask_bytes: int, answer_bytes: int) -> Iterator[BareTrips]:
    """With a process that answers, which ends with this block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        command = (
            sys.executable,
            "-m",
            "services.bench.bare_trips",
            *map(str, (theirs.fileno(), ask_bytes, answer_bytes)),
        )
        with subprocess.Popen(command, pass_fds=(theirs.fileno(),)) as process:
            theirs.close()
            try:
                trips = BareTrips(ours, ask_bytes, answer_bytes)
                trips.seconds()  # it has started
                yield trips
            finally:
                ours.close()
                process.wait(END_S)


def _received(line: socket.socket, size: int) -> bool:
    """False where the line ends first."""
    while size:
        data = line.recv(size)
        if not data:
            return False
        size -= len(data)
    return True


def _answer(line: socket.socket, ask_bytes: int, answer_bytes: int) -> None:
    answer = bytes(answer_bytes)
    while _received(line, ask_bytes):
        line.sendall(answer)


if __name__ == "__main__":
    descriptor, *sizes = map(int, sys.argv[1:])
    with socket.socket(fileno=descriptor) as own:
        _answer(own, *sizes)
