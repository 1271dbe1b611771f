"""Frames: what is said is what is heard, and nothing but what a correct store says is ever heard."""

import json
import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kvstore import frames
from kvstore.framing import BODY_BYTES, BULK_BYTES, HEADER_BYTES, VERSION, BadFrame, decode_body, decode_header, encode
from kvstore.layout import Identity, KvLayout
from kvstore.names import NAME_BYTES, BlockName
from tests.kvstore.builders import IDENTITY, LAYOUT

calls = st.integers(1, 2**64 - 1)
block_names = st.lists(st.binary(min_size=16, max_size=16).map(BlockName), min_size=1, max_size=20).map(tuple)
numbers = st.integers(0, 2**64 - 1)
sentences = st.text(max_size=200)
words = st.text(min_size=1, max_size=30)


@st.composite
def positions(draw: st.DrawFn) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20, unique=True)))


@st.composite
def hellos(draw: st.DrawFn) -> frames.Hello:
    sizes = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
    layout = KvLayout(draw(st.integers(1, 512)), tuple(sizes), draw(words))
    identity = Identity(draw(words), draw(words), draw(words), layout.block_tokens, layout.digest, draw(numbers))
    return frames.Hello(draw(st.sampled_from(frames.Lane)), draw(words), draw(numbers), identity, layout)


@st.composite
def answers(draw: st.DrawFn) -> frames.Done | frames.Sealed:
    which = draw(positions())
    if draw(st.booleans()):
        return frames.Done(draw(calls), which, tuple(draw(numbers) for _ in which))
    return frames.Sealed(draw(calls), which, tuple(draw(st.booleans()) for _ in which))


any_frame: st.SearchStrategy[frames.Frame] = st.one_of(
    hellos(),
    st.builds(frames.Welcome, words, numbers),
    st.builds(frames.Declined, sentences),
    st.builds(frames.Offer, calls, block_names, st.booleans()),
    st.builds(frames.Granted, calls, st.lists(st.sampled_from(frames.Grant), max_size=20).map(tuple)),
    st.builds(
        frames.Slices,
        calls,
        positions(),
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.integers(0, BULK_BYTES),
        st.integers(1, frames.SHARING),
    ),
    answers(),
    st.builds(frames.GivenUp, calls, positions()),
    st.builds(frames.Release, calls),
    st.builds(frames.Want, calls, block_names, st.floats(0, 86_399)),
    st.builds(frames.End, calls, sentences),
)


def heard(data: bytes) -> frames.Frame:
    header = decode_header(data[:HEADER_BYTES])
    assert len(data) == HEADER_BYTES + header.body_bytes
    return decode_body(header, data[HEADER_BYTES:])


@given(any_frame)
def test_what_is_said_is_what_is_heard(frame: frames.Frame) -> None:
    assert heard(encode(frame)) == frame


@given(any_frame, st.data())
def test_a_flipped_bit_anywhere_is_noticed(frame: frames.Frame, data: st.DataObject) -> None:
    said = bytearray(encode(frame))
    bit = data.draw(st.integers(0, 8 * len(said) - 1))
    said[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadFrame):
        heard(bytes(said))


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_noise_is_no_frame(noise: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_header(noise)


@given(st.sampled_from(frames.Kind), st.binary(max_size=300))
def test_a_body_with_the_right_checksum_and_anything_in_it_is_a_frame_or_bad(kind: frames.Kind, body: bytes) -> None:
    """Whoever can reach the port can compute a checksum."""
    try:
        frame = heard(frame_of(kind, body))
    except BadFrame:
        return
    assert heard(encode(frame)) == frame


@pytest.mark.parametrize(
    "said",
    [
        b"[]",
        b"{}",
        b"7",
        b'{"store": 7, "incarnation": 1}',
        b'{"store": "", "incarnation": 1}',
        b'{"store": "s", "incarnation": true}',
        b'{"store": "s", "incarnation": 1, "more": 1}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_welcome_that_is_something_else_is_bad(said: bytes) -> None:
    with pytest.raises(BadFrame):
        heard(frame_of(frames.Kind.WELCOME, said))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("lane",), 3),
        (("identity",), []),
        (("identity", "protocol"), None),
        (("identity", "layout"), "another"),
        (("layout", "layer_bytes"), [1 << 40]),
        (("layout", "layer_bytes"), []),
        (("layout", "layer_bytes"), "3000"),
        (("layout", "block_tokens"), 0),
    ],
)
def test_a_hello_with_one_thing_wrong_is_bad(place: tuple[str, ...], value: object) -> None:
    right = encode(frames.Hello(frames.Lane.PUSH, "store-0", 7, IDENTITY, LAYOUT))
    said = json.loads(right[HEADER_BYTES:])
    inner = said
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(BadFrame):
        heard(frame_of(frames.Kind.HELLO, json.dumps(said).encode()))


def test_lengths_are_bounded_before_anything_is_read_by_them() -> None:
    for body_bytes, bulk_bytes in ((BODY_BYTES + 1, 0), (8, BULK_BYTES + 1)):
        with pytest.raises(BadFrame, match="is not one of ours"):
            decode_header(header_of(frames.Kind.SLICES, body_bytes, bulk_bytes))
    with pytest.raises(BadFrame, match="without bytes of slots"):
        decode_header(header_of(frames.Kind.DONE, 12, 1))


def test_the_longest_call_fits_into_a_frame() -> None:
    names = tuple(BlockName(number.to_bytes(NAME_BYTES, "big")) for number in range(frames.NAMES))
    longest: list[frames.Frame] = [
        frames.Offer(1, names, True),
        frames.Want(1, names, 1.0),
        frames.Done(1, tuple(range(frames.NAMES)), tuple(range(frames.NAMES))),
        frames.Granted(1, (frames.Grant.HELD,) * frames.NAMES),
    ]
    for frame in longest:
        assert heard(encode(frame)) == frame
    with pytest.raises(BadFrame):
        heard(encode(frames.Want(1, (*names, names[0]), 1.0)))


def test_another_version_is_told_as_such() -> None:
    said = bytearray(encode(frames.Release(1)))
    said[4] = 9
    with pytest.raises(BadFrame, match="version 9 instead of 2"):
        decode_header(bytes(said[:HEADER_BYTES]))


def header_of(kind: frames.Kind, body_bytes: int, bulk_bytes: int = 0, body: bytes = b"") -> bytes:
    head = struct.pack(
        "<4sBBHQIIQQ", b"MPkv", VERSION, kind, 0, 1, body_bytes, 0, bulk_bytes, xxhash.xxh3_64_intdigest(body)
    )
    return head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head))


def frame_of(kind: frames.Kind, body: bytes) -> bytes:
    return header_of(kind, len(body), body=body) + body
