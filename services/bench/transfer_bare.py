"""What a machine can do at all: bytes from one process's memory to another's over TCP, checksums verified.

One socket, one thread on each side, blocking calls over as many bytes as one likes, out of and into
buffers as large as an arena: as fast as it gets without a store on either side.
"""

import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from kvstore.arena import Arena
from kvstore.layout import KvLayout
from kvstore.tcp import TlsContexts

PORTION_BYTES = 8 << 20
"""Sent, received and verified as one, while it is in the cache; a store's own choice too."""

COUNT = struct.Struct("<II")  # blocks, and the slot that the first one goes to


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM, as a store is given them."""

    cert: Path
    key: Path
    ca: Path

    def contexts(self) -> TlsContexts:
        made = []
        for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
            context = ssl.SSLContext(protocol)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(self.cert, self.key)
            context.load_verify_locations(self.ca)
            made.append(context)
        return TlsContexts(*made)

    @property
    def flags(self) -> list[str]:
        return [f"--tls-cert={self.cert}", f"--tls-key={self.key}", f"--tls-ca={self.ca}"]


class BareCopy:
    """The sending side, in this process. Its arena holds whatever it holds."""

    def __init__(self, connected: socket.socket, arena: Arena, layout: KvLayout) -> None:
        self._socket, self._arena, self._layout = connected, arena, layout
        self._place = 0

    def send(self, slots: Sequence[int], checksums: Sequence[int]) -> None:
        """Returns once the other process has verified all of it; into other memory each time. Blocking."""
        total = self._arena.size_bytes // self._layout.slot_bytes
        if self._place + len(slots) > total:
            self._place = 0
        self._socket.sendall(COUNT.pack(len(slots), self._place))
        self._place += len(slots)
        size, stride = self._layout.block_bytes, self._layout.slot_bytes
        step = max(1, PORTION_BYTES // size)
        for first in range(0, len(slots), step):
            chosen = slots[first : first + step]
            head = struct.pack(f"<{len(chosen)}Q", *checksums[first : first + step])
            _send(self._socket, [memoryview(head), *[self._arena.view[at * stride :][:size] for at in chosen]])
        assert self._socket.recv(1) == b"\1", "the bare copy has arrived whole"


@contextmanager
def bare_copy(arena: Arena, target: Arena, layout: KvLayout, tls: TlsFiles | None) -> Iterator[BareCopy]:
    """A process of its own that receives into ``target``, which it maps anew."""
    files = [] if tls is None else [str(path) for path in (tls.cert, tls.key, tls.ca)]
    words = [str(target.path), str(layout.block_bytes), *files]
    with subprocess.Popen([sys.executable, "-m", __name__, *words], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None, "it says where it listens"
        with socket.create_connection(("127.0.0.1", int(child.stdout.readline()))) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = None if tls is None else tls.contexts().client
            with plain if context is None else context.wrap_socket(plain, server_hostname="127.0.0.1") as connected:
                yield BareCopy(connected, arena, layout)


def main(words: Sequence[str]) -> None:
    """The other process, until its sender leaves."""
    path, size, *files = words
    layout = KvLayout(1, (int(size),), "bytes")
    arena = Arena.open(Path(path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        plain, _ = listener.accept()
    context = TlsFiles(*map(Path, files)).contexts().server if files else None
    with plain if context is None else context.wrap_socket(plain, server_side=True) as connected:
        while head := _read(connected, COUNT.size):
            count, place = COUNT.unpack(head)
            connected.sendall(bytes([_receive(connected, arena.view, layout, count, place)]))
    arena.close()


def _receive(connected: socket.socket, arena: memoryview, layout: KvLayout, count: int, place: int) -> bool:
    """Whether every block was what its checksum says."""
    size, stride = layout.block_bytes, layout.slot_bytes
    step = max(1, PORTION_BYTES // size)
    intact = True
    for first in range(0, count, step):
        slots = range(place + first, place + min(count, first + step))
        head = bytearray(8 * len(slots))
        views = [arena[slot * stride :][:size] for slot in slots]
        _fill(connected, [memoryview(head), *views])
        found = [xxhash.xxh3_64_intdigest(view) for view in views]
        intact &= found == list(struct.unpack(f"<{len(slots)}Q", head))
    return intact


def _send(connected: socket.socket, views: list[memoryview]) -> None:
    if isinstance(connected, ssl.SSLSocket):
        for view in views:
            connected.sendall(view)
        return
    while views:
        views = _rest(views, connected.sendmsg(views))


def _fill(connected: socket.socket, views: list[memoryview]) -> None:
    if isinstance(connected, ssl.SSLSocket):
        for view in views:
            at = 0
            while at < len(view):
                at += (got := connected.recv_into(view[at:]))
                assert got, "the sender stays until all is sent"
        return
    while views:
        got = connected.recvmsg_into(views, 0, socket.MSG_WAITALL)[0]
        assert got, "the sender stays until all is sent"
        views = _rest(views, got)


def _read(connected: socket.socket, count: int) -> bytes:
    """Empty where the sender has left."""
    data = b""
    while len(data) < count and (more := connected.recv(count - len(data))):
        data += more
    return data


def _rest(views: list[memoryview], count: int) -> list[memoryview]:
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


if __name__ == "__main__":
    main(sys.argv[1:])
