"""A store that is away, dies or comes back costs time, never a token, a slot or a worker."""

import asyncio
from pathlib import Path

import pytest

from kvstore.vocabulary import SessionId
from services.worker import loader
from tests.services.gated import GatedToy
from tests.services.rig import BLOCK_TOKENS, hand_over, read_story, rig
from tests.services.worker.prompts import prompt


async def test_without_a_store_a_worker_serves_alone(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        nobody = await it.client(await it.worker("worker-0"))
        silent = await it.client(await it.worker("worker-1", store="no-such-store"))
        first, second = await nobody.decode(prompt(40)), await silent.decode(prompt(40))
        assert first.tokens == second.tokens
        assert (await silent.decode(prompt(40))).cached_tokens == 32
        await it.comes_to_rest()


async def test_a_store_that_restarts_is_found_again_with_a_new_arena(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        prefill_run = await it.worker("prefill-0", store="store-0")
        decode_run = await it.worker("decode-0", store="store-0")
        prefill, decode = await it.client(prefill_run), await it.client(decode_run)
        one = await hand_over(prefill, decode, prompt(40))
        await store.stop()
        without = await hand_over(prefill, decode, prompt(40, salt=1))
        assert without.missing_blocks == 5
        again = await it.store()
        for run in (prefill_run, decode_run):
            link = run.worker.link
            assert link is not None
            await it.until("the session is back", lambda link=link: link.session is not None)  # type: ignore[misc]
        two = await hand_over(prefill, decode, prompt(40))
        assert two.tokens == one.tokens
        assert two.missing_blocks == 0
        assert again.node.incarnation != store.node.incarnation
        await it.comes_to_rest()


async def test_a_store_that_ends_between_two_lifts_makes_decode_compute_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LIFT_BYTES", 1)  # a block in each job
    async with rig(tmp_path) as it:
        store = await it.store()
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        alone = await (await it.client(await it.worker("alone"))).decode(prompt(40))
        prefill = await it.client(await it.worker("prefill-0", store="store-0"))
        decode_run = await it.worker("decode-0", store="store-0", engine=engine)
        decode = await it.client(decode_run)
        engine.gate.close()
        other = decode.decode_call(prompt(9, salt=3), request="other")
        await it.until("a step runs", lambda: engine.gate.steps_waiting == 1)
        source = prefill.prefill_call(prompt(40))
        first = await prefill.first(source)
        target = decode.decode_call(prompt(40), output=[first.token], handed_over=True)
        confirmed = await target.read()
        assert confirmed.confirmed.missing_blocks == 0
        await store.stop()  # its leases are gone, and so is its arena after the lift that is queued already
        link = decode_run.worker.link
        assert link is not None
        await it.until("the session has ended", lambda: link.session is None)
        engine.gate.open()
        story = await read_story(target)
        assert (first.token, *story.tokens) == alone.tokens
        assert engine.lifted == [1]
        await read_story(other)
        source.cancel()
        await it.comes_to_rest()


async def test_a_prefill_worker_that_dies_in_its_handoff_leaves_nothing_behind(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        alone = await (await it.client(await it.worker("alone"))).decode(prompt(40))
        prefill_run = await it.worker("prefill-0", store="store-0", engine=engine)
        prefill = await it.client(prefill_run)
        decode = await it.client(await it.worker("decode-0", store="store-0"))
        engine.gate.close()
        prefill.prefill_call(prompt(40))
        await it.until("its step has begun", lambda: engine.gate.steps_waiting > 0)
        target = decode.decode_call(prompt(40), output=[alone.tokens[0]], handed_over=True)
        await it.until("decode waits for it", lambda: store.node.catalog.snapshot().waiting == 1)
        prefill_run.task.cancel()
        engine.gate.open()
        story = await read_story(target)
        assert (alone.tokens[0], *story.tokens) == alone.tokens
        await asyncio.wait([prefill_run.task])
        await it.comes_to_rest()


async def test_a_worker_that_restarts_finds_its_cache_in_the_store(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        old = await it.worker("worker-0", store="store-0")
        one = await (await it.client(old)).decode(prompt(40))
        await it.until("it is published", lambda: store.node.catalog.snapshot().sealed == 6)
        await old.stop()
        await it.comes_to_rest()
        new = await it.client(await it.worker("worker-0", store="store-0"))
        two = await new.decode(prompt(40))
        assert two.tokens == one.tokens
        assert two.cached_tokens == 32
        await it.comes_to_rest()


async def test_a_session_that_breaks_while_its_worker_lives_is_set_aside_until_it_says_hello_again(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as it:
        store = await it.store()
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        run = await it.worker("worker-0", store="store-0", engine=engine)
        client = await it.client(run)
        engine.gate.close()
        call = client.prefill_call(prompt(40))
        await it.until("its step has begun", lambda: engine.gate.steps_waiting > 0)
        link = run.worker.link
        assert link is not None
        session = link.session
        assert session is not None
        session.end()  # as when the connection breaks
        await it.until("it is set aside", lambda: store.node.catalog.snapshot().set_aside == ("worker-0",))
        assert store.node.catalog.snapshot().writing == 5, "the worker may still be writing"
        assert SessionId("worker-0/1") in store.node.catalog.set_aside
        engine.gate.open()
        assert (await client.first(call)).token >= 0
        await it.until("it has said hello again", lambda: link.session is not None)
        call.cancel()
        await it.comes_to_rest()
