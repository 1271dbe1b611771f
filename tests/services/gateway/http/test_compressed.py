"""Decoding in pieces: whatever the pieces are, the whole is what was compressed; and never more than there is room."""

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.errors import ApiError
from services.gateway.http import compressed
from services.gateway.http.compressed import MOST_MEMBERS, decoder

ENOUGH = 1 << 24


async def decoded(coding: str, pieces: list[bytes], room: int = ENOUGH) -> bytes:
    found, stream = b"", decoder([coding])
    assert stream is not None
    for piece in pieces:
        found += await stream.decode(piece, room - len(found))
        if len(found) > room:
            return found
    stream.end()
    return found


def encoded(coding: str, members: list[bytes]) -> bytes:
    match coding:
        case "gzip":
            return b"".join(map(gzip.compress, members))
        case "zlib":
            return zlib.compress(b"".join(members))
        case _:
            return zlib.compress(b"".join(members), wbits=-15)


@settings(max_examples=60, deadline=None)
@given(
    coding=st.sampled_from(["gzip", "zlib", "raw"]),
    members=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    step=st.sampled_from([1, 7, 1 << 18]),
)
async def test_pieces_give_the_whole(coding: str, members: list[bytes], cuts: list[int], step: int) -> None:
    whole = encoded(coding, members)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[begin:end] for begin, end in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, "STEP_BYTES", step)
        assert await decoded("gzip" if coding == "gzip" else "deflate", pieces) == b"".join(members)


@pytest.mark.parametrize("coding", ["gzip", "zlib", "raw"])
async def test_a_bomb_is_decoded_to_one_byte_more_than_there_is_room_for(coding: str) -> None:
    bomb = encoded(coding, [b"\0" * (1 << 26)])
    assert await decoded("gzip" if coding == "gzip" else "deflate", [bomb], 1 << 20) == b"\0" * ((1 << 20) + 1)


async def test_what_fills_the_room_exactly_is_decoded() -> None:
    whole = b"ab" * (1 << 19)
    assert await decoded("gzip", [gzip.compress(whole)], len(whole)) == whole


async def test_members_without_end_are_refused() -> None:
    empty = gzip.compress(b"")
    assert await decoded("gzip", [empty * MOST_MEMBERS]) == b""
    with pytest.raises(ApiError, match="bytes follow its end"):
        await decoded("gzip", [empty * (MOST_MEMBERS + 1)])
