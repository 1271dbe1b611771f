"""Frames as bytes: a fixed header, a small body, and then perhaps the bytes of slots.

Pure. Header and body are checksummed each; the bytes of slots are not, since each block's own checksum is in the
``Done`` that follows them. Lengths are bounded before anything is read by them, and what no correct store
sends is a BadFrame, which ends the connection.
"""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from kvstore.frames import (
    NAMES,
    Declined,
    Done,
    End,
    Frame,
    GivenUp,
    Grant,
    Granted,
    Hello,
    Kind,
    Lane,
    Offer,
    Release,
    Sealed,
    Slices,
    Want,
    Welcome,
)
from kvstore.layout import Identity, KvLayout
from kvstore.names import NAME_BYTES, BlockName

MAGIC = b"MPkv"
VERSION = 2
HEADER_BYTES = 48
BODY_BYTES = 256 << 10
"""The longest body: that many names and a flag are 250 KiB, that many positions with checksums 188 KiB."""
BULK_BYTES = 1 << 30
"""Bytes of slots behind one frame. Senders keep to a few MiB, but one layer of one block is never cut."""

HEADER_FIELDS = {
    "magic": "4s",
    "version": "B",
    "kind": "B",
    "zero": "H",
    "call": "Q",
    "body bytes": "I",
    "zeros": "I",
    "bulk bytes": "Q",
    "body checksum": "Q",
    "header checksum": "Q",
}
"""In their order, little-endian; the last is over all before it."""

_CHECKSUM = struct.Struct("<Q")
_HEADER = struct.Struct("<" + "".join(HEADER_FIELDS.values()).removesuffix("Q"))
_SENTENCE_BYTES = 1000


class BadFrame(Exception):
    """Bytes that no correct store sends; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is read first: how much follows."""

    kind: Kind
    call: int
    body_bytes: int
    bulk_bytes: int
    body_checksum: int


def encode(frame: Frame) -> bytes:
    """Header and body. ValueError where the frame is longer than a receiver would take."""
    kind, call, body = _encode(frame)
    bulk_bytes = frame.bulk_bytes if isinstance(frame, Slices) else 0
    if len(body) > BODY_BYTES or bulk_bytes > BULK_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes and {bulk_bytes} of slots is too long")
    head = _HEADER.pack(MAGIC, VERSION, kind, 0, call, len(body), 0, bulk_bytes, _checksum(body))
    return head + _CHECKSUM.pack(_checksum(head)) + body


def decode_header(head: bytes) -> Header:
    """head: HEADER_BYTES. Raises BadFrame."""
    magic, version, kind, zero, call, body_bytes, more_zero, bulk_bytes, body_checksum = _HEADER.unpack_from(head)
    if magic != MAGIC:
        raise BadFrame("this is no store's transfer connection")
    if version != VERSION:
        raise BadFrame(f"transfer protocol version {version} instead of {VERSION}")
    if _CHECKSUM.unpack_from(head, _HEADER.size)[0] != _checksum(head[: _HEADER.size]):
        raise BadFrame("the checksum of a frame's header is wrong")
    if zero or more_zero or body_bytes > BODY_BYTES or bulk_bytes > BULK_BYTES:
        raise BadFrame(f"a frame of {body_bytes} bytes and {bulk_bytes} of slots is not one of ours")
    try:
        known = Kind(kind)
    except ValueError:
        raise BadFrame(f"no frame is of kind {kind}") from None
    if bulk_bytes and known is not Kind.SLICES:
        raise BadFrame(f"{known.name} comes without bytes of slots")
    return Header(known, call, body_bytes, bulk_bytes, body_checksum)


def decode_body(header: Header, body: bytes) -> Frame:
    """Raises BadFrame."""
    if _checksum(body) != header.body_checksum:
        raise BadFrame(f"the checksum of a frame's body is wrong ({header.kind.name})")
    try:
        return _DECODE[header.kind](header, body)
    except (ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise BadFrame(f"{header.kind.name} with a body that is not one of its own: {error}") from error


def _encode(frame: Frame) -> tuple[Kind, int, bytes]:
    match frame:
        case Hello():
            return Kind.HELLO, 0, json.dumps(asdict(frame)).encode()
        case Welcome():
            return Kind.WELCOME, 0, json.dumps(asdict(frame)).encode()
        case Declined(reason):
            return Kind.DECLINED, 0, _sentence(reason)
        case Offer(call, names, last_is_short):
            return Kind.OFFER, call, bytes([last_is_short]) + b"".join(names)
        case Granted(call, grants):
            return Kind.GRANTED, call, bytes(grants)
        case Slices(call, positions, first_layer, layers, _, sharing):
            return Kind.SLICES, call, struct.pack("<HHH", first_layer, layers, sharing) + _numbers("I", positions)
        case Done(call, positions, checksums):
            return Kind.DONE, call, _numbers("I", positions) + _numbers("Q", checksums)
        case Sealed(call, positions, sealed):
            return Kind.SEALED, call, _numbers("I", positions) + bytes(sealed)
        case GivenUp(call, positions):
            return Kind.GIVEN_UP, call, _numbers("I", positions)
        case Release(call):
            return Kind.RELEASE, call, b""
        case Want(call, names, deadline_s):
            return Kind.WANT, call, struct.pack("<d", deadline_s) + b"".join(names)
        case End(call, reason):
            return Kind.END, call, _sentence(reason)


def _hello(header: Header, body: bytes) -> Hello:
    said = _object(body, {"lane", "store", "incarnation", "identity", "layout"})
    identity, layout = said["identity"], said["layout"]
    sizes = layout["layer_bytes"]
    _check(isinstance(sizes, list) and all(type(size) is int and size < BULK_BYTES for size in sizes), "layers")
    _check(all(type(value) in (str, int) for value in identity.values()), "an identity")
    _check(type(layout["block_tokens"]) is int and type(layout["axes"]) is str, "a layout")
    hello = Hello(
        Lane(said["lane"]),
        _text(said["store"]),
        _number(said["incarnation"]),
        Identity(**identity),
        KvLayout(**{**layout, "layer_bytes": tuple(sizes)}),
    )
    _check(hello.identity.layout == hello.layout.digest, "a layout that is not its identity's")
    return hello


def _welcome(header: Header, body: bytes) -> Welcome:
    said = _object(body, {"store", "incarnation"})
    return Welcome(_text(said["store"]), _number(said["incarnation"]))


def _offer(header: Header, body: bytes) -> Offer:
    _check(body[:1] in (b"\0", b"\1"), "a flag")
    return Offer(header.call, _names(body[1:]), bool(body[0]))


def _want(header: Header, body: bytes) -> Want:
    (deadline_s,) = struct.unpack_from("<d", body)
    _check(0.0 <= deadline_s < 86_400.0, "a deadline")
    return Want(header.call, _names(body[8:]), deadline_s)


def _granted(header: Header, body: bytes) -> Granted:
    return Granted(header.call, tuple(map(Grant, body)))


def _slices(header: Header, body: bytes) -> Slices:
    first_layer, layers, sharing = struct.unpack_from("<HHH", body)
    _check(sharing > 0, "a count of connections")
    return Slices(header.call, _positions(body[6:]), first_layer, layers, header.bulk_bytes, sharing)


def _done(header: Header, body: bytes) -> Done:
    count, rest = divmod(len(body), 12)
    _check(not rest, "positions")
    return Done(header.call, _positions(body[: 4 * count]), struct.unpack(f"<{count}Q", body[4 * count :]))


def _sealed(header: Header, body: bytes) -> Sealed:
    count, rest = divmod(len(body), 5)
    _check(not rest and set(body[4 * count :]) <= {0, 1}, "results")
    return Sealed(header.call, _positions(body[: 4 * count]), tuple(map(bool, body[4 * count :])))


def _given_up(header: Header, body: bytes) -> GivenUp:
    return GivenUp(header.call, _positions(body))


def _release(header: Header, body: bytes) -> Release:
    _check(not body, "nothing")
    return Release(header.call)


_DECODE: dict[Kind, Callable[[Header, bytes], Frame]] = {
    Kind.HELLO: _hello,
    Kind.WELCOME: _welcome,
    Kind.DECLINED: lambda header, body: Declined(body.decode()),
    Kind.OFFER: _offer,
    Kind.GRANTED: _granted,
    Kind.SLICES: _slices,
    Kind.DONE: _done,
    Kind.SEALED: _sealed,
    Kind.GIVEN_UP: _given_up,
    Kind.RELEASE: _release,
    Kind.WANT: _want,
    Kind.END: lambda header, body: End(header.call, body.decode()),
}


def _names(body: bytes) -> tuple[BlockName, ...]:
    count, rest = divmod(len(body), NAME_BYTES)
    _check(not rest and 0 < count <= NAMES, "names")
    return tuple(BlockName(body[start : start + NAME_BYTES]) for start in range(0, len(body), NAME_BYTES))


def _positions(body: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(body), 4)
    positions: tuple[int, ...] = struct.unpack(f"<{count}I", body) if not rest else ()
    _check(0 < len(positions) == len(set(positions)) <= NAMES, "positions")
    return positions


def _numbers(format: str, numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}{format}", *numbers)


def _object(body: bytes, keys: set[str]) -> dict[str, Any]:  # Any: JSON, whose values are checked one by one
    said = json.loads(body)
    _check(isinstance(said, dict) and said.keys() == keys, "an object")
    return dict(said)


def _text(value: object) -> str:
    _check(isinstance(value, str) and 0 < len(value) <= 200, "a name")
    return str(value)


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("no number")
    return value


def _check(fine: bool, what: str) -> None:
    if not fine:
        raise ValueError(f"not {what} as it should be")


def _sentence(text: str) -> bytes:
    return text.encode()[:_SENTENCE_BYTES].decode(errors="ignore").encode()


def _checksum(data: bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)
