"""What a worker won't do, it refuses at once with a status and a sentence, and nothing is left of it."""

import asyncio
from pathlib import Path

import grpc
import pytest

from services.runtime.process import Refusal
from services.wire.errors import PeerBusy, PeerFailed, PeerRefused, PeerUnavailable, rpc_errors
from services.wire.pb import common_pb2, worker_pb2
from tests.services.gated import GatedToy
from tests.services.rig import BLOCK_TOKENS, PATIENCE_S, Rig, read_story, rig, root, toy
from tests.services.worker.prompts import prompt


async def test_one_request_too_many_is_told_that_the_queue_is_full(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        run = await it.worker(engine=engine, max_num_seqs=1, max_waiting=1)
        client = await it.client(run)
        engine.gate.close()
        running = client.decode_call(prompt(10), request="running")
        await it.until("one runs", lambda: engine.gate.steps_waiting == 1)
        queued = client.decode_call(prompt(10, 1), request="queued")
        await it.until("one waits", lambda: run.worker.batcher.snapshot().waiting == 1)
        with pytest.raises(PeerBusy, match=r"full \(2 requests under way\)"):
            await client.decode(prompt(10, 2))
        engine.gate.open()
        assert len((await read_story(running)).tokens) == len((await read_story(queued)).tokens) == 16
        await it.comes_to_rest()


async def test_a_prompt_longer_than_the_context_can_never_run(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        client = await it.client(await it.worker(engine=toy(blocks=8)))
        with pytest.raises(PeerRefused, match="KV cache holds 64 tokens"):
            await client.decode(prompt(64))
        with pytest.raises(PeerRefused, match="1030 tokens leave no room"):
            await client.decode(prompt(1030))
        with pytest.raises(PeerRefused, match="prompt is empty"):
            await client.decode([])
        with pytest.raises(PeerRefused, match="nothing is left to generate"):
            await client.decode(prompt(5), output=[1, 2], max_tokens=2)
        assert len((await client.decode(prompt(63))).tokens) == 1
        await it.comes_to_rest()


async def test_malformed_requests_are_refused_by_name(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        client = await it.client(await it.worker())
        limits = common_pb2.Limits(max_tokens=4)
        sampling = common_pb2.Sampling(top_p=1)
        good = worker_pb2.DecodeRequest(request="r", root=root(), prompt=[1], sampling=sampling, limits=limits)
        cases: list[tuple[dict[str, object], str]] = [
            ({"request": ""}, "id"),
            ({"root": b"short"}, "16 bytes"),
            ({"prompt": [512]}, "token id 512"),
            ({"output": [600]}, "the output has token id 600"),
            ({"limits": common_pb2.Limits()}, "max_tokens"),
            ({"limits": common_pb2.Limits(max_tokens=1, stop_ids=[9999])}, "stop ids"),
            ({"sampling": common_pb2.Sampling(top_p=1, temperature=-1)}, "temperature"),
        ]
        for change, sentence in cases:
            fields = {field.name: value for field, value in good.ListFields()}
            bad = worker_pb2.DecodeRequest(**{**fields, **change})
            with pytest.raises(PeerRefused, match=sentence), rpc_errors():
                async for _ in client.stub.Decode(iter([worker_pb2.DecodeCall(request=bad)])):
                    pass
        await it.comes_to_rest()


async def test_one_request_may_come_twice_and_is_served_twice(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        client = await it.client(await it.worker())
        stories = await it.together(client.decode(prompt(20), request="twin") for _ in range(2))
        assert stories[0].tokens == stories[1].tokens
        await it.comes_to_rest()


@pytest.mark.parametrize(("block_tokens", "seed", "sentence"), [(8, 1, "model weights"), (16, 0, "block size")])
async def test_a_worker_of_another_model_is_refused_by_the_store_with_what_differs(
    tmp_path: Path, block_tokens: int, seed: int, sentence: str
) -> None:
    async with rig(tmp_path) as it:
        await it.store()
        await it.worker("worker-0", store="store-0")
        with pytest.raises(BaseExceptionGroup) as caught:
            await it.worker("worker-1", store="store-0", engine=GatedToy(64, seed=seed, block_tokens=block_tokens))
        refusal = str(only(caught.value))
        assert "the store at" in refusal
        assert sentence in refusal


async def test_a_worker_of_another_model_is_refused_by_the_conductor_with_what_differs(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.conductor()
        await it.worker("worker-0", conductors=["conductor-0"])
        await known(it, workers=1)
        stranger = await it.worker("worker-1", conductors=["conductor-0"], engine=toy(seed=1))
        with pytest.raises(BaseExceptionGroup) as caught:
            await asyncio.wait_for(stranger.task, PATIENCE_S)
        assert "model weights" in str(only(caught.value))


async def test_an_ending_worker_takes_nothing_new_and_finishes_what_runs(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        await it.conductor()
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        run = await it.worker(engine=engine, conductors=["conductor-0"], drain_s=5.0)
        client = await it.client(run)
        await known(it, workers=1)
        engine.gate.close()
        call = client.decode_call(prompt(10))
        await it.until("it runs", lambda: engine.gate.steps_waiting == 1)
        run.stopping.set()
        with pytest.raises(PeerUnavailable, match="ending"):
            await client.decode(prompt(10))
        while not (await it.cluster()).workers[0].draining:
            pass
        engine.gate.open()
        assert len((await read_story(call)).tokens) == 16
        await asyncio.wait_for(run.task, PATIENCE_S)


async def test_a_stream_that_outlasts_the_drain_ends_as_unavailable(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        run = await it.worker(drain_s=0.1, engine=GatedToy(64, block_tokens=BLOCK_TOKENS))
        client = await it.client(run)
        call = client.decode_call(prompt(10), max_tokens=100_000, min_tokens=100_000)
        await call.read()
        run.stopping.set()
        with pytest.raises(PeerUnavailable):
            await read_story(call)
        await asyncio.wait_for(run.task, PATIENCE_S)


async def test_an_engine_that_fails_ends_its_streams_as_failed_and_its_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as it:
        engine = GatedToy(64, block_tokens=BLOCK_TOKENS)
        run = await it.worker(engine=engine)
        client = await it.client(run)
        call = client.decode_call(prompt(10), max_tokens=1000, min_tokens=1000)
        await call.read()
        engine.fails = True
        with pytest.raises(PeerFailed, match="engine has failed") as caught:
            await read_story(call)
        assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
        assert caught.value.__cause__.code() is grpc.StatusCode.INTERNAL
        with pytest.raises(BaseExceptionGroup, match="unhandled"):
            await asyncio.wait_for(run.task, PATIENCE_S)
        assert "on fire" in caplog.text


def only(group: BaseException) -> BaseException:
    """The one exception within a tree of groups."""
    while isinstance(group, BaseExceptionGroup):
        assert len(group.exceptions) == 1, group.exceptions
        group = group.exceptions[0]
    assert isinstance(group, Refusal)
    return group


async def known(it: Rig, *, workers: int) -> None:
    while len((await it.cluster()).workers) < workers:
        pass
