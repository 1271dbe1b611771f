"""Checksums that are taken while a block comes are those of the bytes that lie in its slot."""

import random

import pytest
import xxhash

from kvstore import arriving
from kvstore.arriving import Arriving, parcels

LAYERS = 5
SIZE = 40


def took(arrivals: Arriving, position: int, layers: range, data: bytes) -> None:
    digest = arrivals.expect(position, layers)
    if digest is not None:
        digest.update(data)


def test_layers_in_their_order_give_the_checksum_of_the_block() -> None:
    arrivals, block = Arriving(), random.Random(1).randbytes(LAYERS * SIZE)
    for layers in (range(2), range(2, 3), range(3, 5)):
        took(arrivals, 7, layers, block[layers.start * SIZE : layers.stop * SIZE])
    assert arrivals.checksum(7, LAYERS) == xxhash.xxh3_64_intdigest(block)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([range(1, 5)], id="the first is missing"),
        pytest.param([range(4)], id="the last is missing"),
        pytest.param([range(2), range(3, 5)], id="one is missing"),
        pytest.param([range(2, 5), range(2)], id="another order"),
        pytest.param([range(5), range(1)], id="the first comes again"),
        pytest.param([range(3), range(2, 5)], id="one comes twice"),
        pytest.param([range(5), range(4, 5)], id="the last comes again"),
        pytest.param([range(1), range(1), range(1, 5)], id="it goes on after one came twice"),
    ],
)
def test_layers_in_any_other_order_are_left_to_be_hashed_where_they_lie(order: list[range]) -> None:
    arrivals = Arriving()
    for layers in order:
        took(arrivals, 0, layers, b"x" * SIZE * len(layers))
    assert arrivals.checksum(0, LAYERS) is None


def test_a_block_that_is_over_is_forgotten() -> None:
    arrivals = Arriving()
    took(arrivals, 0, range(LAYERS), b"")
    assert arrivals.checksum(0, LAYERS) is not None
    assert arrivals.checksum(0, LAYERS) is None


@pytest.mark.parametrize("sizes", [[1], [10], [11], [3, 3, 3, 3], [25, 1, 9], [5, 5, 5, 5, 20]])
def test_parcels_are_the_same_bytes_in_their_order_none_too_large(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(arriving, "PARCEL_BYTES", 10)
    views = [memoryview(bytes([index]) * size) for index, size in enumerate(sizes)]
    made = parcels([(None, view) for view in views])
    assert b"".join(view for parcel in made for _, view in parcel) == b"".join(views)
    assert [sum(len(view) for _, view in parcel) for parcel in made] == [10] * (sum(sizes) // 10) + (
        [sum(sizes) % 10] if sum(sizes) % 10 else []
    )
