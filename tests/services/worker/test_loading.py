"""What the store has of a prefix comes to the device between the steps, block by block, and at nobody's cost."""

from pathlib import Path

import pytest

from scheduler.vocabulary import Lifted
from services.worker import loader
from tests.services.gated import GatedToy
from tests.services.rig import BLOCK_TOKENS, Rig, Store, WorkerRun, hand_over, read_story, rig
from tests.services.worker.prompts import prompt


async def decoder(it: Rig) -> tuple[Store, GatedToy, WorkerRun]:
    """A store that has the 5 blocks of ``prompt(41)``, and a worker that has not."""
    store = await it.store()
    other = await it.client(await it.worker("other", store="store-0"))
    await other.decode(prompt(41), max_tokens=1)
    await it.until("all blocks are in the store", lambda: store.node.catalog.snapshot().sealed == 5)
    engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
    return store, engine, await it.worker("worker-0", store="store-0", engine=engine)


async def test_a_prefix_that_is_found_while_a_step_runs_takes_part_in_the_next_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        _, engine, run = await decoder(it)
        client = await it.client(run)
        running = client.decode_call(prompt(9, salt=3), request="running", max_tokens=400, min_tokens=400)
        await running.read()
        engine.gate.close()
        await it.until("a step has begun", lambda: engine.gate.steps_waiting > 0)
        steps = len(engine.batches)
        late = client.decode_call(prompt(40), request="late", output=[1], handed_over=True)
        assert (await late.read()).confirmed.missing_blocks == 0
        engine.gate.open()
        await read_story(late)
        assert len(engine.batches[steps].slices) == 1
        assert len(engine.batches[steps + 1].slices) == 2
        assert engine.lifted == [5]
        running.cancel()
        await it.comes_to_rest()


async def test_others_decode_between_the_parts_of_a_long_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LIFT_BYTES", 1)  # a block in each job
    async with rig(tmp_path) as it:
        _, engine, run = await decoder(it)
        client = await it.client(run)
        running = client.decode_call(prompt(9, salt=3), request="running", max_tokens=400, min_tokens=400)
        await running.read()
        story = await client.decode(prompt(41), request="late")
        assert (story.cached_tokens, story.lifted) == (40, Lifted(host=40))
        assert engine.lifted == [1] * 5
        assert "lift lift lift" not in " ".join(engine.jobs), "one that was waited for, and one queued meanwhile"
        running.cancel()
        await it.comes_to_rest()


async def test_leases_are_given_back_as_soon_as_their_blocks_are_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LIFT_BYTES", 1)
    async with rig(tmp_path) as it:
        store, engine, run = await decoder(it)
        client = await it.client(run)
        engine.lifts_gate.close()
        call = client.decode_call(prompt(41))
        await it.until("a lift has begun", lambda: engine.lifts_gate.steps_waiting > 0)
        assert store.node.catalog.snapshot().leases == 5
        engine.gate.close()
        engine.lifts_gate.open()
        await it.until("the first step has begun", lambda: engine.gate.steps_waiting > 0)
        await it.until("no lease is left", lambda: store.node.catalog.snapshot().leases == 0)
        engine.gate.open()
        await read_story(call)
        await it.comes_to_rest()


async def test_blocks_of_a_handoff_are_lifted_while_later_ones_are_computed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        slow, engine = GatedToy(64, block_tokens=BLOCK_TOKENS), GatedToy(64, block_tokens=BLOCK_TOKENS)
        prefill = await it.client(
            await it.worker("prefill-0", store="store-0", engine=slow, max_num_seqs=1, max_num_batched_tokens=1)
        )
        decode = await it.client(await it.worker("decode-0", store="store-0", engine=engine))
        slow.gate.close()
        source = prefill.prefill_call(prompt(40))
        await it.until("the first step has begun", lambda: slow.gate.steps_waiting > 0)
        target = decode.decode_call(prompt(40), output=[1], handed_over=True)
        slow.gate.let_one_through()
        await it.until("a block is lifted", lambda: engine.lifted != [])
        assert engine.batches == []
        assert len(slow.batches) < 5
        slow.gate.open()
        story = await read_story(target)
        assert story.missing_blocks == 0
        assert sum(engine.lifted) == 5
        source.cancel()
        await it.comes_to_rest()


async def test_the_text_is_the_same_in_portions_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for blocks in (1, 2, 3, 100):
        monkeypatch.setattr(loader, "LIFT_BYTES", blocks * GatedToy(1, block_tokens=BLOCK_TOKENS).layout.block_bytes)
        directory = tmp_path / str(blocks)
        directory.mkdir()
        async with rig(directory) as it:
            await it.store()
            prefill = await it.client(await it.worker("prefill-0", store="store-0"))
            decode = await it.client(await it.worker("decode-0", store="store-0"))
            story = await hand_over(prefill, decode, prompt(61))
            assert story.missing_blocks == 0
            texts.append(story.tokens)
            await it.comes_to_rest()
    assert len(set(texts)) == 1


async def test_what_lifting_took_corrects_the_profile_that_is_reported(tmp_path: Path) -> None:
    """The toy says that a copy costs a nanosecond a byte; what it takes here is something else."""
    async with rig(tmp_path) as it:
        _, _, run = await decoder(it)
        before = run.worker.reports.compose(1, True).profile
        answer = await (await it.client(run)).decode(prompt(41), max_tokens=2)
        assert answer.cached_tokens == 40
        await it.until(
            "it is reported", lambda: run.worker.reports.compose(2, True).profile.transfer_s != before.transfer_s
        )
        assert run.worker.reports.compose(3, True).profile is run.worker.batcher.profile
