"""One answer across two hosts with the embedded model: pushed, fetched, from the SSD, lost or changed on the way.

In float32 every path's greedy tokens are those of transformers, teacher-forced; of two logits that lie within
1e-3 either may be taken.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.llama import LlamaEngine
from tests.engine.llama.driving import NEAR_TIE
from tests.engine.llama.embedded import LENGTHS, Reference, model_directory, prompts, shortfalls
from tests.services.meddler import Way
from tests.services.rig import Store
from tests.services.worker.hosts import two_hosts
from tests.services.worker.oracle import Asked

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

SIZE = 64
TOKENS = 12
DRAM = 384 << 20
FORTH = 9
"""Blocks after which something happens to the rest."""


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def engine() -> LlamaEngine:
    return LlamaEngine.load(
        model_directory(), device="cpu", dtype="float32", kv_cache_bytes=256 << 20, max_model_len=2048
    )


def of_length(*lengths: int) -> list[Asked]:
    texts = dict(zip(LENGTHS, prompts(), strict=True))
    return [Asked(texts[length], TOKENS) for length in lengths]


async def test_every_path_between_two_hosts_gives_the_models_answer(tmp_path: Path) -> None:
    reference = Reference()
    engines = engine(), engine()
    block_bytes = engines[0].layout.block_bytes

    def check(asked: Asked, tokens: tuple[int, ...]) -> None:
        assert len(tokens) == TOKENS
        assert float(shortfalls(reference.logits(asked.prompt, tokens), tokens).max()) < NEAR_TIE

    async with two_hosts(tmp_path, dram=DRAM, ssd=DRAM, engines=engines) as hosts:
        near, far = hosts.near, hosts.far
        for each in of_length(100, 320, 705):
            story = await hosts.pushed(each)
            check(each, story.tokens)
            assert story.missing_blocks == 0
        assert far.moved("taken") == 2 + 5 + 12
        assert far.moved("fetched") == 0

        (each,) = of_length(449)
        story = await hosts.fetched(each)
        check(each, story.tokens)
        assert story.missing_blocks == 0
        assert far.moved("fetched") == 8

        (each,) = of_length(1023)
        await hosts.cached_near(each)
        near.line.cut(Way.COMING, FORTH * block_bytes)  # half from a peer, and half computed: the peer has died
        story = await hosts.looked_up(each)
        check(each, story.tokens)
        assert 0 < story.cached_tokens <= FORTH * SIZE
        near.line.heal()

        (each,) = of_length(383)
        far.line.flip(Way.GOING, 2 * block_bytes)  # changed in flight
        check(each, (await hosts.pushed(each)).tokens)
        assert far.count("blocks_refused") >= 1
        far.line.heal()

        await hosts.it.until("all is on the SSD", lambda: pending(near.store) == 0, 60.0)
        await near.restart(hosts.it)
        await near.connected(hosts.it)
        near.run.worker.device.forget()
        (each,) = of_length(705)
        story = await near.client.decode(each.prompt, max_tokens=TOKENS)
        check(each, story.tokens)
        assert story.cached_tokens == 704
        assert near.store.node.catalog.snapshot().hits.ssd == 11


def pending(store: Store) -> int:
    disk = store.node.catalog.snapshot().disk
    assert disk is not None
    return disk.pending
