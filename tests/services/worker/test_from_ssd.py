"""One answer from the SSD, too: after a restart what is intact there is served, and what is damaged is computed."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvstore.layout import PAGE_BYTES
from kvstore.ssd_format import FIRST_SLOT, decode_slot_header
from scheduler.vocabulary import Lifted
from tests.services.rig import BLOCK_TOKENS, Rig, Store, Story, WorkerRun, hand_over, rig, toy
from tests.services.worker.oracle import Asked, alone, asked

STRIDE = PAGE_BYTES + toy().layout.slot_bytes
SSD = FIRST_SLOT + 300 * STRIDE


class Host:
    """A store with an SSD that is started again and again, and two workers that outlive it."""

    def __init__(self, it: Rig) -> None:
        self.it = it
        self.runs: list[WorkerRun] = []

    async def start(self) -> "Host":
        self.store = await self.it.store(ssd=SSD)
        for name in ("worker-0", "worker-1"):
            self.runs.append(await self.it.worker(name, store="store-0", verify_lifts=False))
        self.clients = [await self.it.client(run) for run in self.runs]
        return self

    async def cached(self, all_asked: Sequence[Asked]) -> None:
        """Their blocks are on the SSD, and nowhere else: the store is stopped."""
        for each in all_asked:
            await self.clients[0].decode(each.prompt, max_tokens=1)
        blocks = sum(len(each.prompt) // BLOCK_TOKENS for each in all_asked)
        await self.it.until("all is published", lambda: self.store.node.catalog.snapshot().sealed == blocks)
        await self.it.until("all is written behind", lambda: on_disk(self.store) == blocks)
        await self.store.stop()
        for run in self.runs:
            run.worker.device.forget()

    async def started(self) -> None:
        self.store = await self.it.store(ssd=SSD)
        for run in self.runs:
            link = run.worker.link
            assert link is not None
            await self.it.until("the session is back", lambda link=link: link.session is not None)  # type: ignore[misc]

    async def told(self, each: Asked, *, handed_over: bool) -> Story:
        """By a worker that found it, or by another that it was handed to."""
        if handed_over:
            first, second = self.clients
            return await hand_over(first, second, each.prompt, max_tokens=each.max_tokens, sampling=each.sampling)
        return await self.clients[0].decode(each.prompt, max_tokens=each.max_tokens, sampling=each.sampling)


async def test_a_prefix_is_served_from_the_ssd_after_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        host, all_asked = await Host(it).start(), [asked(random.Random(f"ssd {number}")) for number in range(20)]
        await host.cached(all_asked)
        await host.started()
        for number, each in enumerate(all_asked):
            story = await host.told(each, handed_over=number % 2 == 0)
            assert story.tokens == alone(each), number
            assert story.cached_tokens == (len(each.prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS, number
            assert story.lifted == Lifted(disk=story.cached_tokens), number
            assert not story.missing_blocks, number
        hits = host.store.node.catalog.snapshot().hits
        assert hits.ssd == sum((len(each.prompt) - 1) // BLOCK_TOKENS for each in all_asked)
        await it.comes_to_rest()


@pytest.mark.parametrize("searched", [False, True], ids=["index kept", "headers searched"])
@pytest.mark.parametrize("part", ["header", "payload"])
async def test_what_is_damaged_on_the_ssd_is_computed_and_counted(tmp_path: Path, part: str, searched: bool) -> None:
    async with rig(tmp_path) as it:
        chance = random.Random(f"{part} {searched}")
        host, all_asked = await Host(it).start(), [asked(chance) for _ in range(16)]
        await host.cached(all_asked)
        damaged = damage(tmp_path / "data" / "ssd" / "store-0.kv", part, chance)
        if searched:
            (tmp_path / "data" / "ssd" / "store-0.index").unlink()
        await host.started()
        computed = 0
        for number, each in enumerate(all_asked):
            story = await host.told(each, handed_over=number % 2 == 0)
            assert story.tokens == alone(each), number
            computed += story.cached_tokens < (len(each.prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS
        assert computed >= 5
        tier, disk = host.store.node.ssd, host.store.node.catalog.snapshot().disk
        assert tier is not None
        assert tier.scan is not None
        assert disk is not None
        assert 1 <= tier.scan.torn + disk.dropped_torn <= damaged
        if part == "header" and searched:
            assert tier.scan.torn == damaged
        await it.comes_to_rest()


def on_disk(store: Store) -> int:
    disk = store.node.catalog.snapshot().disk
    return 0 if disk is None or disk.pending else disk.held


def damage(path: Path, part: str, chance: random.Random) -> int:
    """One bit in a fifth of the slots that hold anything; how many these are."""
    damaged = 0
    with path.open("r+b") as file:
        for start in range(FIRST_SLOT, SSD, STRIDE):
            file.seek(start)
            if decode_slot_header(file.read(PAGE_BYTES)) is None or chance.random() > 0.2:
                continue
            first, size = (0, PAGE_BYTES) if part == "header" else (PAGE_BYTES, toy().layout.block_bytes)
            place = start + first + chance.randrange(size)
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
            damaged += 1
    return damaged
