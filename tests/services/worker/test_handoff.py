"""A request that moves from a prefill worker to a decode worker gives what one worker alone would give."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scheduler.vocabulary import Sampling
from services.wire.errors import PeerRefused
from tests.services.gated import GatedToy
from tests.services.rig import BLOCK_TOKENS, Rig, Store, WorkerRun, hand_over, read_story, rig, toy
from tests.services.worker.prompts import prompt

LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 40, 100)


async def test_handed_over_streams_are_equal_to_streams_of_one_worker_alone(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        alone = await it.client(await it.worker("alone"))
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        for length in LENGTHS:
            expected = await alone.decode(prompt(length, salt=length))
            story = await hand_over(prefill, decode, prompt(length, salt=length))
            assert story.tokens == expected.tokens, length
            assert story.missing_blocks == 0, length
            assert story.cached_tokens == 0, length
        await it.comes_to_rest()


async def test_a_second_handoff_reuses_the_prefix_and_counts_it_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        one = await hand_over(prefill, decode, prompt(50))
        two = await hand_over(prefill, decode, prompt(50))
        assert two.tokens == one.tokens
        assert (one.cached_tokens, two.cached_tokens) == (0, 48)
        await it.comes_to_rest()


async def test_without_reuse_a_store_hands_over_and_forgets(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store(ssd=1 << 20, reuse=False)
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        answers = []
        for name in ("prefill-0", "prefill-1"):
            prefill = await it.client(await it.worker(name, store="store-0"))
            answers.append(await hand_over(prefill, decode, prompt(50)))
            assert (answers[-1].cached_tokens, answers[-1].missing_blocks) == (0, 0)
        again = await hand_over(prefill, decode, prompt(50))
        assert again.cached_tokens == 48, "its own device is not the store's"
        assert again.tokens == answers[0].tokens == answers[1].tokens
        await published(it, store, blocks=0)
        await it.comes_to_rest()


async def test_a_prefix_is_found_in_the_arena_by_a_worker_that_never_computed_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        first = await it.client(await it.worker("worker-0", store="store-0"))
        one = await first.decode(prompt(60), max_tokens=20)
        await published(it, store, blocks=79 // BLOCK_TOKENS)
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        second = await it.client(await it.worker("worker-1", store="store-0", engine=engine))
        two = await second.decode(prompt(60), max_tokens=20)
        assert two.tokens == one.tokens
        assert two.cached_tokens == 56
        assert engine.lifted == [7]
        assert engine.batches[0].slices[0].start == 56
        await it.comes_to_rest()


async def test_what_a_stream_generated_is_found_by_its_next_turn(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        first = await it.client(await it.worker("worker-0", store="store-0"))
        one = await first.decode(prompt(20), max_tokens=30, min_tokens=30)
        await published(it, store, blocks=49 // BLOCK_TOKENS)
        second = await it.client(await it.worker("worker-1", store="store-0"))
        turn = [*prompt(20), *one.tokens, 7, 8, 9]
        alone = await it.client(await it.worker("alone"))
        two = await second.decode(turn)
        assert two.cached_tokens == 48
        assert two.tokens == (await alone.decode(turn)).tokens
        await it.comes_to_rest()


SAMPLINGS = {
    "greedy": Sampling(),
    "seeded": Sampling(temperature=1.0, seed=7, top_k=5),
    "penalized": Sampling(repetition_penalty=1.3, presence_penalty=0.7, frequency_penalty=0.9),
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
async def test_a_stream_resumed_through_a_handoff_goes_on_as_it_would_have(tmp_path: Path, sampling: Sampling) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        limits: dict[str, Any] = {"max_tokens": 40, "min_tokens": 40}
        alone = await it.client(await it.worker("alone"))
        whole = await alone.decode(prompt(30), **limits, sampling=sampling)
        for cut in (1, 9, 33):
            output = whole.tokens[:cut]
            source = prefill.prefill_call(prompt(30), output=output, **limits, sampling=sampling)
            first = await prefill.first(source)
            given = (*output, first.token)
            target = decode.decode_call(prompt(30), output=given, handed_over=True, **limits, sampling=sampling)
            story = await read_story(target)
            assert (*given, *story.tokens) == whole.tokens, cut
            source.cancel()
        await it.comes_to_rest()


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
async def test_a_stream_resumed_with_its_output_goes_on_as_it_would_have(tmp_path: Path, sampling: Sampling) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        first = await it.client(await it.worker("worker-0", store="store-0"))
        second = await it.client(await it.worker("worker-1", store="store-0"))
        whole = await first.decode(prompt(30), max_tokens=40, min_tokens=40, sampling=sampling)
        for cut in (1, 2, 9, 10, 33):
            output = whole.tokens[:cut]
            rest = await second.decode(prompt(30), output=output, max_tokens=40, min_tokens=40, sampling=sampling)
            assert (*output, *rest.tokens) == whole.tokens, cut
        await it.comes_to_rest()


async def test_decode_waits_for_blocks_that_are_still_being_written(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store, engine, prefill_run, decode_run = await gated_pair(it)
        prefill, decode = await it.client(prefill_run), await it.client(decode_run)
        alone = await (await it.client(await it.worker("alone"))).decode(prompt(40))
        engine.gate.close()
        source = prefill.prefill_call(prompt(40))
        await it.until("the prefill's step has begun", lambda: engine.gate.steps_waiting > 0)
        target = decode.decode_call(prompt(40), output=[alone.tokens[0]], handed_over=True)
        await it.until("the decode worker waits", lambda: store.node.catalog.snapshot().waiting == 1)
        engine.gate.open()
        story = await read_story(target)
        assert (alone.tokens[0], *story.tokens) == alone.tokens
        assert story.missing_blocks == 0
        source.cancel()
        await it.comes_to_rest()


async def test_decode_may_be_called_when_the_last_step_begins_and_lifts_before_it_has_a_token(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        slow, engine = GatedToy(64, block_tokens=BLOCK_TOKENS), GatedToy(64, block_tokens=BLOCK_TOKENS)
        prefill_run = await it.worker(
            "prefill-0", store="store-0", engine=slow, max_num_seqs=1, max_num_batched_tokens=24
        )
        prefill = await it.client(prefill_run)
        decode = await it.client(await it.worker("decode-0", store="store-0", engine=engine))
        alone = await (await it.client(await it.worker("alone"))).decode(prompt(40))
        slow.gate.close()
        source = prefill.prefill_call(prompt(40))
        said = asyncio.create_task(source.read())
        await it.until("the first step has begun", lambda: slow.gate.steps_waiting > 0)
        slow.gate.let_one_through()
        assert (await said).WhichOneof("kind") == "last_step"
        assert len(slow.batches) < 2, "it is said before that step, not after it"
        token: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        target = decode.decode_call(prompt(40), handed_over=True, first=token)
        await it.until("the first blocks are lifted", lambda: sum(engine.lifted) == 3)
        slow.gate.open()
        first = await prefill.first(source)
        await it.until("all are lifted", lambda: sum(engine.lifted) == 5)
        assert (await target.read()).confirmed.missing_blocks == 0
        assert engine.batches == [], "it has nothing to compute with"
        token.set_result(first.token)
        story = await read_story(target)
        assert (first.token, *story.tokens) == alone.tokens
        source.cancel()
        await it.comes_to_rest()


async def test_a_handoff_whose_first_token_never_comes_holds_nothing_once_its_caller_is_gone(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        run = await it.worker("decode-0", store="store-0")
        decode = await it.client(run)
        source = prefill.prefill_call(prompt(40))
        await prefill.first(source)
        token: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        target = decode.decode_call(prompt(40), handed_over=True, first=token)
        assert (await target.read()).confirmed.missing_blocks == 0
        assert run.worker.device.pinned > 0
        target.cancel()
        await it.until("it has let go", run.at_rest)
        token.cancel()
        source.cancel()
        await it.comes_to_rest()


@pytest.mark.parametrize(("first", "sentence"), [(None, "too early"), (100_000, "the first token has token id 100000")])
async def test_a_handoff_without_a_token_of_the_vocabulary_is_refused(
    tmp_path: Path, first: int | None, sentence: str
) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        output = [] if first is None else [first]
        with pytest.raises(PeerRefused, match=sentence):
            await decode.decode(prompt(40), output=output, handed_over=True)
        await it.comes_to_rest()


async def test_blocks_that_the_device_has_and_the_store_has_not_are_handed_over_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        one = await hand_over(prefill, decode, prompt(50))
        await it.comes_to_rest()
        store.node.catalog.reset()
        fresh = await it.client(await it.worker("decode-1", store="store-0"))
        two = await hand_over(prefill, fresh, prompt(50))
        assert two.tokens == one.tokens
        assert two.missing_blocks == 0
        assert two.cached_tokens == 48
        await it.comes_to_rest()


async def test_what_was_never_handed_over_is_computed(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        prefill = await it.client(await it.worker("prefill-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        story = await hand_over(prefill, decode, prompt(50))
        assert story.missing_blocks == 7
        assert story.tokens == (await decode.decode(prompt(50))).tokens
        await it.comes_to_rest()


async def test_an_arena_too_small_for_a_handoff_costs_time_and_no_token(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store(dram=3 * toy().layout.slot_bytes)
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        alone = await it.client(await it.worker("alone"))
        story = await hand_over(prefill, decode, prompt(50))
        assert story.missing_blocks == 4
        assert story.tokens == (await alone.decode(prompt(50))).tokens
        await it.comes_to_rest()
        assert store.node.catalog.snapshot().total == 3


@pytest.mark.parametrize("verify", [True, False])
async def test_a_damaged_block_is_computed_anew_if_lifts_are_verified_and_changes_the_text_if_not(
    tmp_path: Path, verify: bool
) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode = await it.client(await it.worker("decode-0", store="store-0", verify_lifts=verify))
        alone = await (await it.client(await it.worker("alone"))).decode(prompt(40))
        call = prefill.prefill_call(prompt(40))
        first = await prefill.first(call)
        damage(store)
        story = await decode.decode(prompt(40), output=[first.token], handed_over=True)
        assert ((first.token, *story.tokens) == alone.tokens) is verify
        call.cancel()
        await it.comes_to_rest()


async def test_many_handoffs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        alone = await it.client(await it.worker("alone"))
        prefill = await it.client(await it.worker("prefill-0", store="store-0", max_num_seqs=4))
        decode = await it.client(await it.worker("decode-0", store="store-0", max_num_seqs=4, engine=toy(blocks=40)))
        prompts = [[*prompt(24, salt=number % 3), *prompt(number, salt=number)] for number in range(1, 20)]
        expected = [(await alone.decode(each)).tokens for each in prompts]
        stories = await it.together(
            hand_over(prefill, decode, each, request=f"r{number}") for number, each in enumerate(prompts)
        )
        assert [story.tokens for story in stories] == expected
        await it.comes_to_rest()


async def gated_pair(it: Rig) -> tuple[Store, GatedToy, WorkerRun, WorkerRun]:
    """A store, and two workers of which the first computes only when it is let."""
    engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
    store = await it.store()
    prefill = await it.worker("prefill-0", store="store-0", engine=engine)
    return store, engine, prefill, await it.worker("decode-0", store="store-0")


async def published(it: Rig, store: Store, *, blocks: int) -> None:
    await it.until("all blocks are in the store", lambda: store.node.catalog.snapshot().sealed == blocks)


def damage(store: Store) -> None:
    """One bit of the first slot that holds anything."""
    view = store.node.arena.view
    place = next(index for index in range(len(view)) if view[index])
    view[place] ^= 1
