"""A hot prefix gets a second holder, though nobody was placed where it goes: the store is told so in an answer."""

import time
from pathlib import Path

from engine.toy import ToyEngine
from kvstore.names import BlockName, block_names
from scheduler.conductor import Conductor
from scheduler.vocabulary import Ask, Outcome, Placement, Profile, RequestId, StoreId
from services.conductor.server import ConductorService
from services.wire import placement_codec
from services.wire.channel import open_channel, serve
from services.wire.pb import conductor_pb2_grpc
from tests.services.rig import BLOCK_TOKENS, BLOCKS, rig, root

PROMPT = [number % 200 for number in range(10 * BLOCK_TOKENS)]
NAMES = tuple(block_names(root(), PROMPT, BLOCK_TOKENS))
COSTS = Profile(prefill_s=(0.5, 0.0, 0.0), step_s=(0.001, 0.0, 0.0))
"""Of every prefill, cached or not: 50 asks within seconds are more than one worker's work."""

TIMES = 10.0
"""By how much the conductor's clock is faster: what must last for two seconds is over in a fifth of one."""


async def test_a_store_fetches_what_it_is_told_to(tmp_path: Path) -> None:
    conductor = Conductor(report_ttl_s=1000.0)
    service = ConductorService(conductor, name="conductor-0", clock=lambda: TIMES * time.monotonic())
    async with rig(tmp_path) as it:
        server = await serve(
            it.target("conductor-0"), lambda to: conductor_pb2_grpc.add_ConductorServicer_to_server(service, to)
        )
        stores = [await it.store(f"store-{number}", conductors=["conductor-0"]) for number in range(2)]
        for number in range(2):
            engine = ToyEngine(BLOCKS, block_tokens=BLOCK_TOKENS, max_model_len=1024, profile=COSTS, sleep=time.sleep)
            store = f"store-{number}"
            await it.worker(f"worker-{number}", store=store, conductors=["conductor-0"], engine=engine)
        near, far = (set[BlockName](), set[BlockName]())

        def held() -> bool:
            near.update(stores[0].node.catalog.held_names())
            far.update(stores[1].node.catalog.held_names())
            return set(NAMES) <= near

        client = await it.client(it.runs[2])  # type: ignore[arg-type]
        await client.decode([*PROMPT, 1], max_tokens=1)
        await it.until("the prefix is held", held)
        await it.until("and told of", lambda: len(NAMES) in conductor._beliefs.prefixes.lengths(NAMES).values())
        assert not far & set(NAMES)
        async with open_channel(it.target("conductor-0")) as channel:
            stub = conductor_pb2_grpc.ConductorStub(channel)
            for number in range(60):
                ask = Ask(RequestId(f"{number}"), NAMES, len(PROMPT) + 5, 10)
                answer = placement_codec.answer_from_wire(await stub.Place(placement_codec.ask_to_wire(ask)))
                assert isinstance(answer, Placement)
                await stub.ReportOutcome(placement_codec.outcome_to_wire(ask.request, Outcome.CANCELLED))

        def copied() -> bool:
            conductor.tick(now=TIMES * time.monotonic())
            return conductor.snapshot().copies_done == 1

        await it.until("it is copied", copied)
        assert set(NAMES) <= set(stores[1].node.catalog.held_names())
        assert conductor.snapshot().copies_ordered == 1
        assert [conductor.copies(StoreId(f"store-{number}")) for number in range(2)] == [(), ()]
        await it.comes_to_rest()
        await server.stop(0)
