"""Whatever the path, the text is the same; whatever goes wrong, nothing is left. Seeded, over real gRPC."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scheduler.vocabulary import Sampling
from tests.services.rig import BLOCK_TOKENS, Rig, Store, WorkerRun, hand_over, rig, toy
from tests.services.worker.oracle import Asked, alone
from tests.services.worker.prompts import prompt

AT_ONCE = 6


@dataclass(frozen=True)
class Case:
    """One request, and the way that it goes."""

    number: int
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    path: str
    cut: int


def cases(chance: random.Random, count: int) -> list[Case]:
    """Prompts that share beginnings, of lengths at, just under and just over multiples of the block."""
    made = []
    for number in range(count):
        length = chance.choice([1, 2, chance.randrange(1, 12) * BLOCK_TOKENS + chance.choice([-1, 0, 1]), 100])
        tokens = [*prompt(length, salt=chance.randrange(4))]
        if chance.random() < 0.3:
            tokens[-1] = chance.randrange(500)
        sampling = chance.choice([Sampling(), Sampling(temperature=0.9, seed=number % 3)])
        path = chance.choice(["alone", "handoff", "handoff", "handoff", "resumed", "left in prefill", "left in decode"])
        max_tokens = chance.randrange(1, 40)
        made.append(Case(number, tuple(tokens), max_tokens, sampling, path, chance.randrange(1, max_tokens + 1)))
    return made


def expected(case: Case) -> tuple[int, ...]:
    return alone(Asked(case.prompt, case.max_tokens, case.sampling))


class Cluster:
    """Two prefill and two decode workers, too small for what is asked of them at once."""

    def __init__(self, it: Rig) -> None:
        self.it = it
        self.runs: list[WorkerRun] = []

    async def start(self) -> "Cluster":
        await self.start_store()
        clients = []
        for name in ("prefill-0", "prefill-1", "decode-0", "decode-1"):
            run = await self.it.worker(name, store="store-0", engine=toy(blocks=48), max_num_seqs=4)
            self.runs.append(run)
            clients.append(await self.it.client(run))
        self.prefills, self.decodes = clients[:2], clients[2:]
        return self

    async def start_store(self) -> None:
        self.store: Store = await self.it.store(dram=200 * toy().layout.slot_bytes)

    async def told(self, case: Case) -> tuple[int, ...]:
        """The tokens of one case, on its path; of a request that leaves, those of the oracle."""
        prefill, decode = self.prefills[case.number % 2], self.decodes[case.number // 2 % 2]
        request = f"r{case.number}"
        match case.path:
            case "alone":
                story = await decode.decode(
                    case.prompt, request=request, max_tokens=case.max_tokens, sampling=case.sampling
                )
                return story.tokens
            case "resumed":
                whole = expected(case)
                output = whole[: case.cut - 1]
                if len(output) == len(whole):
                    return whole
                rest = await decode.decode(
                    case.prompt, request=request, output=output, max_tokens=case.max_tokens, sampling=case.sampling
                )
                return (*output, *rest.tokens)
            case "left in prefill":
                call = prefill.prefill_call(case.prompt, request=request)
                await asyncio.sleep(0.001 * (case.number % 5))
                call.cancel()
                return expected(case)
            case "left in decode":
                call = decode.decode_call(case.prompt, request=request, max_tokens=200, min_tokens=200)
                for _ in range(case.cut % 5):
                    await call.read()
                call.cancel()
                return expected(case)
            case _:
                story = await hand_over(
                    prefill, decode, case.prompt, request=request, max_tokens=case.max_tokens, sampling=case.sampling
                )
                return story.tokens

    async def check(self, all_cases: Sequence[Case], *, at_once: int = AT_ONCE) -> None:
        free = asyncio.Semaphore(at_once)

        async def one(case: Case) -> None:
            async with free:
                assert await self.told(case) == expected(case), case

        await self.it.together(one(case) for case in all_cases)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_path_the_text_is_the_same(tmp_path: Path, seed: int) -> None:
    async with rig(tmp_path) as it:
        cluster = await Cluster(it).start()
        await cluster.check(cases(random.Random(seed), 80))
        await it.comes_to_rest()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 30))
async def test_whatever_goes_wrong_the_text_is_the_same(tmp_path: Path, seed: int) -> None:
    """Sessions break and the store restarts, at any moment."""
    chance = random.Random(seed)
    async with rig(tmp_path) as it:
        cluster = await Cluster(it).start()

        over = asyncio.Event()

        async def trouble() -> None:
            while not over.is_set():
                await asyncio.sleep(chance.uniform(0.02, 0.2))
                if chance.random() < 0.25:
                    await cluster.store.stop()
                    await cluster.start_store()
                elif (link := chance.choice(cluster.runs).worker.link) is not None and link.session is not None:
                    link.session.end()

        troubled = asyncio.create_task(trouble())
        try:
            await cluster.check(cases(chance, 150))
        finally:
            over.set()
            await troubled  # not cancelled: it may be restarting the store
        await it.comes_to_rest()
