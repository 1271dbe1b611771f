"""Two ways to tell whether a cached block is among the older half; they must agree."""

from random import Random

import pytest

from kvstore.device import PINNED, DeviceBlocks
from kvstore.names import BlockName


def _name(number: int) -> BlockName:
    return BlockName(number.to_bytes(16, "little"))


def _used(seed: int) -> DeviceBlocks:
    """A device on which some blocks are unused, some cached and some pinned."""
    chance, device, count = Random(seed), DeviceBlocks(64), 0
    taken: list[list[int]] = []
    for _ in range(60):
        blocks = device.take(chance.randint(1, 5))
        if blocks is None:
            device.unpin(taken.pop(chance.randrange(len(taken))))
            continue
        for block in blocks:
            if chance.random() < 0.8:
                count += 1
                device.name(block, _name(count))
        taken.append(blocks)
        if chance.random() < 0.7:
            device.unpin(taken.pop(chance.randrange(len(taken))))
    device.check()
    return device


@pytest.mark.parametrize("seed", range(12))
def test_a_single_block_may_go_exactly_when_it_is_unused_or_as_old_as_the_older_half(seed: int) -> None:
    device = _used(seed)
    old = device._old()
    for used_at in device._used_at.tolist():
        assert device._may_go(used_at) == (used_at != PINNED and used_at <= old)


def test_on_a_device_without_cached_blocks_only_unused_ones_may_go() -> None:
    device = DeviceBlocks(4)
    device.take(2)
    assert [device._may_go(used_at) for used_at in device._used_at.tolist()] == [False, False, True, True]
