"""A client that leaves, in whatever phase, frees everything on every process within a second."""

from pathlib import Path
from typing import Any

import pytest

from tests.services.gated import GatedToy
from tests.services.rig import BLOCK_TOKENS, Client, Rig, Store, WorkerRun, hand_over, rig
from tests.services.worker.prompts import prompt


class Pair:
    """A store, a prefill worker whose steps a test can hold, and a decode worker likewise."""

    def __init__(self, it: Rig) -> None:
        self.it = it
        self.source_engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        self.target_engine = GatedToy(64, block_tokens=BLOCK_TOKENS)

    async def start(self, **settings: Any) -> "Pair":
        self.store: Store = await self.it.store()
        self.source_run: WorkerRun = await self.it.worker(
            "prefill-0", store="store-0", engine=self.source_engine, **settings
        )
        self.target_run: WorkerRun = await self.it.worker(
            "decode-0", store="store-0", engine=self.target_engine, **settings
        )
        self.source: Client = await self.it.client(self.source_run)
        self.target: Client = await self.it.client(self.target_run)
        return self

    async def in_a_step(self, engine: GatedToy) -> None:
        await self.it.until("a step has begun", lambda: engine.gate.steps_waiting > 0)

    async def still_serves(self) -> None:
        """The same prompt and another one, afterwards."""
        for salt in (0, 1):
            story = await hand_over(self.source, self.target, prompt(40, salt))
            assert story.missing_blocks == 0
        await self.it.comes_to_rest()


async def test_in_prefill_while_a_step_runs(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        pair.source_engine.gate.close()
        call = pair.source.prefill_call(prompt(40))
        await pair.in_a_step(pair.source_engine)
        assert pair.store.node.catalog.snapshot().writing == 5
        call.cancel()
        pair.source_engine.gate.open()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_in_prefill_while_it_is_queued(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start(max_num_seqs=1)
        pair.source_engine.gate.close()
        first = pair.source.prefill_call(prompt(40), request="first")
        await pair.in_a_step(pair.source_engine)
        second = pair.source.prefill_call(prompt(40, salt=1), request="second")
        await it.until("both are there", lambda: pair.source_run.worker.batcher.snapshot().waiting == 1)
        second.cancel()
        await it.until("the queued one has left", lambda: pair.source_run.worker.batcher.snapshot().waiting == 0)
        first.cancel()
        pair.source_engine.gate.open()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_after_the_first_token_before_anybody_takes_the_handoff(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        call = pair.source.prefill_call(prompt(40))
        await pair.source.first(call)
        # The seals are on their way to the store by now, and travel beside the token.
        await it.until("its blocks are held", lambda: pair.store.node.catalog.snapshot().leases == 5)
        assert pair.source_run.worker.device.pinned == 0
        call.cancel()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_in_decode_while_it_waits_for_the_handoffs_blocks(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        pair.source_engine.gate.close()
        source = pair.source.prefill_call(prompt(40))
        await pair.in_a_step(pair.source_engine)
        target = pair.target.decode_call(prompt(40), output=[1], handed_over=True)
        await it.until("decode waits", lambda: pair.store.node.catalog.snapshot().waiting == 1)
        target.cancel()
        await it.until("decode has let go", lambda: pair.target_run.at_rest())
        pair.source_engine.gate.open()  # what is sealed now is leased to a request that has left, and given back
        await pair.source.first(source)
        source.cancel()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_in_decode_while_the_lift_runs(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        source = pair.source.prefill_call(prompt(40))
        first = await pair.source.first(source)
        await it.until("all is sealed, so that it is lifted at once", lambda: pair.store.node.catalog.slots.sealed == 5)
        lifts, device = pair.target_engine.lifts_gate, pair.target_run.worker.device
        lifts.close()
        target = pair.target.decode_call(prompt(40), output=[first.token], handed_over=True)
        await it.until("the lift has begun", lambda: lifts.steps_waiting > 0)
        target.cancel()
        source.cancel()
        await it.until("the call has ended", lambda: not pair.target_run.worker.loop.requests)
        assert device.pinned == 5, "nobody may have the blocks that are being written"
        await it.until("the handoff is over", lambda: not pair.source_run.worker.loop.requests)
        assert pair.store.node.catalog.snapshot().leases == 5, "nobody may have the slots that are being read"
        lifts.open()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        call = pair.target.decode_call(prompt(40), max_tokens=5000, min_tokens=5000)
        for _ in range(20):
            await call.read()
        call.cancel()
        await it.comes_to_rest()
        await pair.still_serves()


async def test_while_blocks_are_copied_to_the_store(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start()
        await hand_over(pair.source, pair.target, prompt(40))
        await it.comes_to_rest()
        pair.store.node.catalog.reset()
        pair.source_engine.copies_gate.close()
        call = pair.source.prefill_call(prompt(40))
        copies = pair.source_engine.copies_gate
        await it.until("what the device has is copied", lambda: copies.steps_waiting > 0)
        call.cancel()
        copies.open()
        await it.comes_to_rest()
        await pair.still_serves()


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_is_idempotent_and_many_leave_at_once(tmp_path: Path, times: int) -> None:
    async with rig(tmp_path) as it:
        pair = await Pair(it).start(max_num_seqs=4)
        pair.source_engine.gate.close()
        calls = [pair.source.prefill_call(prompt(30, salt), request=f"r{salt}") for salt in range(12)]
        await pair.in_a_step(pair.source_engine)
        await it.until("all are there", lambda: len(pair.source_run.worker.loop.requests) == 12)
        for _ in range(times):
            for call in calls:
                call.cancel()
        pair.source_engine.gate.open()
        await it.comes_to_rest()
        await pair.still_serves()
