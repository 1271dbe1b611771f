"""A live cluster beside a simulated one: the same arrivals, and nearly the same times to first tokens.

Toy engines take as long as a profile says, ten times longer than the machine that it stands for, so that what Python
and the kernel need besides weighs little, and eight prefill and eight decode workers fit two cores.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

import httpx
import psutil
import pytest

from engine.toy import toy_layout
from loadtest.request import Request, Span
from loadtest.simulator.machine import Machine
from loadtest.simulator.record import Record
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Spec
from loadtest.workload import poisson, shared_prefixes
from loadtest.workload.lengths import Lengths, always
from loadtest.workload.prefixes import Mix
from scheduler.conductor import Conductor
from scheduler.costs import LINK_BYTES_PER_S, SSD_BYTES_PER_S
from scheduler.vocabulary import Profile
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.slow

REQUESTS, RATE_PER_S, OUTPUT_TOKENS, WORKERS, HOSTS, SEATS = 320, 4.5, 12, 8, 2, 32
BLOCK_TOKENS, CONTEXT, DEVICE_BLOCKS, CHUNK = 64, 8192, 2048, 2048
DILATION = 10.0
PREFILL_S, STEP_S = (0.004, 1.8e-4, 2e-9), (0.016, 4e-4, 2e-8)
"""Of the machine that the toys stand for: 5,500 tokens of prefill a second, steps of 16 ms."""

DRAM_BYTES = 64 << 20

WITHIN = 0.15
"""What is asked of the mean TTFT."""

LAG_S, BUSY = 0.05, 0.7
"""A sender this late (the mean), or a machine this busy, says that something else was measured."""


def dilated(seconds: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = seconds
    return (DILATION * first, DILATION * second, DILATION * third)


PROFILE = Profile(dilated(PREFILL_S), dilated(STEP_S), (0.0, 0.0))


def workload() -> list[Request]:
    """Sixty documents and questions about them: at first everything is computed, later a good part is found.

    Eight workers that need 1.3 s for a prompt are busy for seven tenths of the time, so that many have to queue.
    """
    mix = Mix(
        prefixes=60,
        prefix=Lengths(500, 640, most=2400),
        question=Lengths(450, 560, most=2400),
        answer=always(OUTPUT_TOKENS),
    )
    return shared_prefixes(poisson(RATE_PER_S, Random(11)), REQUESTS, mix, chance=Random(12))


def simulated(requests: list[Request]) -> list[Record]:
    layout = toy_layout(BLOCK_TOKENS)
    machine = Machine(
        name="toy",
        profile=PROFILE,
        kv_bytes=layout.block_bytes // BLOCK_TOKENS,
        max_model_len=CONTEXT,
        device_tokens=DEVICE_BLOCKS * BLOCK_TOKENS,
        dram_bytes=DRAM_BYTES,
        ssd_bytes_per_s=SSD_BYTES_PER_S,
        link_bytes_per_s=LINK_BYTES_PER_S,
        link_latency_s=0.001,
    )
    spec = Spec(
        machine,
        prefill=WORKERS,
        decode=WORKERS,
        hosts=HOSTS,
        block_tokens=BLOCK_TOKENS,
        max_num_seqs=SEATS,
        prefill_seats=SEATS,
        max_num_batched_tokens=CHUNK,
        max_waiting=256,
        max_new_tokens=OUTPUT_TOKENS,
    )
    world = Simulation(spec, Conductor(), chance=Random(1))
    records = world.run(requests)
    world.check()
    return records


@dataclass(frozen=True, slots=True)
class Served:
    """By the live cluster; lag_s: how much later than planned it was sent."""

    ttft_s: float
    lag_s: float
    tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Live:
    served: list[Served]
    busy: float
    """Share of all cores, of everything that ran on the machine meanwhile."""

    @property
    def conclusive(self) -> bool:
        return fmean(each.lag_s for each in self.served) < LAG_S and self.busy < BUSY


def ids(spans: tuple[Span, ...]) -> list[int]:
    """Bytes as tokens: a function of each span's content, as different as the content is."""
    text = [hashlib.shake_128(str(span.content).encode()).digest(span.tokens) for span in spans]
    return list(b"".join(text))


async def serve(url: str, requests: list[Request]) -> list[Served]:
    began_s = time.monotonic() + 0.5
    bodies = [
        json.dumps(
            {
                "model": "toy",
                "prompt": ids(request.prompt),
                "max_tokens": request.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        for request in requests
    ]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=limits) as http:

        async def one(request: Request, body: str) -> Served:
            planned_s = began_s + request.at_s
            await asyncio.sleep(max(0.0, planned_s - time.monotonic()))
            sent_s = time.monotonic()
            first_s = usage = None
            headers = {"content-type": "application/json"}
            async with http.stream("POST", "/v1/completions", content=body, headers=headers) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        event = json.loads(line.removeprefix("data: "))
                        assert "error" not in event, event
                        if first_s is None and event["choices"]:
                            first_s = time.monotonic()
                        usage = event.get("usage") or usage
            assert first_s is not None
            assert usage is not None
            details = usage.get("prompt_tokens_details") or {}
            cached = int(details.get("cached_tokens") or 0)
            return Served(first_s - sent_s, sent_s - planned_s, usage["completion_tokens"], cached)

        return await asyncio.gather(*(one(*each) for each in zip(requests, bodies, strict=True)))


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return iter((tmp_path / "first", tmp_path / "second"))


def live(directory: Path, requests: list[Request]) -> Live:
    """A cluster of its own, since a second run on the same one would find everything cached."""
    profile = json.dumps({"prefill_s": PROFILE.prefill_s, "step_s": PROFILE.step_s, "transfer_s": PROFILE.transfer_s})
    size = DEVICE_BLOCKS * toy_layout(BLOCK_TOKENS).block_bytes
    flags = ["--prefill", WORKERS, "--decode", WORKERS, "--hosts", HOSTS, "--dram", DRAM_BYTES, "--ssd", 0]
    flags += ["--kv-cache-bytes", size, "--max-model-len", CONTEXT, "--max-num-seqs", SEATS]
    flags += ["--max-num-batched-tokens", CHUNK]
    cluster = Cluster(directory, *map(str, flags), settings={"MOONPOOL_TOY_PROFILE": profile})
    try:
        cluster.ready(within_s=240.0)  # twenty processes
        psutil.cpu_percent()
        served = asyncio.run(serve(cluster.url, requests))
        return Live(served, psutil.cpu_percent() / 100.0)
    finally:
        cluster.stop()


@pytest.mark.timeout(600)
def test_the_simulator_foretells_the_mean_ttft_of_a_live_cluster(directories: Iterator[Path]) -> None:
    requests = workload()
    records = simulated(requests)
    expected_s = fmean(record.ttft_s for record in records if record.ttft_s is not None)
    assert all(record.ended_s is not None for record in records)
    told = []
    for directory in directories:
        found = live(directory, requests)
        assert all(each.tokens == OUTPUT_TOKENS for each in found.served)
        measured_s = fmean(each.ttft_s for each in found.served)
        lag_s = fmean(each.lag_s for each in found.served)
        told.append(
            f"mean TTFT {measured_s:.3f} s live, {expected_s:.3f} s simulated ({measured_s / expected_s - 1.0:+.1%}); "
            f"cached tokens {sum(each.cached_tokens for each in found.served)} live, "
            f"{sum(record.cached_tokens for record in records)} simulated; sent {lag_s * 1e3:.0f} ms late on average, "
            f"cores {found.busy:.0%} busy"
        )
        print(told[-1])
        if abs(measured_s / expected_s - 1.0) <= WITHIN:
            return
        if found.conclusive:
            break
    else:
        pytest.skip(f"not conclusive, the machine was too busy, twice: {'; '.join(told)}")
    pytest.fail("; ".join(told))
