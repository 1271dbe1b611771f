"""How much of a push a prefill hides: a worker process with a toy engine, its layers as long and as large as real ones.

layerwise_hidden        share of ``exposed_at_end`` that is gone in ``exposed_by_layer``; its limit is all of it
exposed_by_layer        from the first token of a 4,096-token prefill until all of its blocks are leased at the other
                        store, where they were pushed layer by layer while they were computed
exposed_at_end          the same where the push began only with the first token
.._fast                 the same with a prefill ten times as fast, as of a small GPU
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import grpc

from engine.toy import ToyEngine
from kvstore.layout import Identity
from kvstore.names import BlockName, block_names
from scheduler.vocabulary import Limits, Profile, Sampling
from services.bench.rows import Row
from services.bench.store_session import END_S, START_S, STDERR, StoreProcessFailed
from services.bench.transfer_rows import KIB, Hosts, two_stores
from services.runtime.flags import load
from services.runtime.process import SUPERVISOR_PID, run_process
from services.wire import codec
from services.wire.channel import open_channel
from services.wire.pb import worker_pb2, worker_pb2_grpc
from services.worker.main import serve_worker
from services.worker.settings import WorkerSettings

PROMPT = 4096
BLOCKS = PROMPT // 64

# SmolLM2-135M on two cores, docs/benchmarks/engine.md: 512 tokens in 0.138 s and 2,048 in 0.772 s, so 4,096 in 2.1 s.
PREFILL_S = (0.0, 2.33e-4, 7.0e-8)
SPEEDS = {"": 1, "_fast": 10}


def engine(speed: int) -> ToyEngine:
    """With SmolLM2-135M's layers: 30 of 48 KiB a block."""
    constant, linear, square = (cost / speed for cost in PREFILL_S)
    profile = Profile(prefill_s=(constant, linear, square), step_s=(0.0, 0.0, 0.0), transfer_s=(0.0, 0.0))
    return ToyEngine(
        2 * BLOCKS, layers=30, layer_bytes=48 * KIB, max_model_len=2 * PROMPT, profile=profile, sleep=time.sleep
    )


async def hidden_rows(directory: Path, arena_dir: Path, *, rounds: int, speeds: Sequence[str]) -> list[Row]:
    """speeds: of SPEEDS. Raises StoreProcessFailed."""
    return [row for speed in speeds for row in await _rows(directory, arena_dir, rounds, speed)]


async def _rows(directory: Path, arena_dir: Path, rounds: int, speed: str) -> list[Row]:
    made = engine(SPEEDS[speed])
    identity = Identity("toy", made.weights, made.dtype, made.layout.block_tokens, made.layout.digest)
    by_layer, at_end = [], []
    async with (
        two_stores(directory, arena_dir, made.layout, BLOCKS, identity=identity) as hosts,
        _worker(directory, hosts, SPEEDS[speed]) as stub,
    ):
        for number in range(1 + rounds):
            pushed, late = await _exposed(stub, hosts, early=True), await _exposed(stub, hosts, early=False)
            if number:
                by_layer.append(pushed)
                at_end.append(late)
    hidden = 1.0 - median(by_layer) / median(at_end)
    return [
        Row(f"layerwise_hidden{speed}", hidden, "share", 1.0, hidden),
        Row(f"exposed_by_layer{speed}", median(by_layer) * 1e3, "ms"),
        Row(f"exposed_at_end{speed}", median(at_end) * 1e3, "ms"),
    ]


async def _exposed(stub: "worker_pb2_grpc.WorkerAsyncStub", hosts: Hosts, *, early: bool) -> float:
    """Seconds from the first token until the last block is there. early: pushed from the beginning of the prefill."""
    root, prompt = BlockName(os.urandom(16)), [token % 256 for token in range(PROMPT)]
    names = block_names(root, prompt, PROMPT // BLOCKS)
    target = codec.store_target_to_wire(hosts.there_target)
    call = stub.Prefill(
        worker_pb2.PrefillRequest(
            request="bench",
            root=root,
            prompt=prompt,
            sampling=codec.sampling_to_wire(Sampling()),
            limits=codec.limits_to_wire(Limits(2)),
            push_to=target if early else None,
        )
    )
    async for event in call:
        if event.HasField("first"):
            break
    started = time.perf_counter()
    pushing = None if early else hosts.here.session.push(hosts.there_target, names, last_is_short=False)
    if pushing is not None:
        await pushing.done
    await hosts.arrived(names)
    taken = time.perf_counter() - started
    if pushing is not None:
        hosts.here.session.push_end(pushing)
    call.cancel()
    return taken


@asynccontextmanager
async def _worker(directory: Path, hosts: Hosts, speed: int) -> AsyncIterator["worker_pb2_grpc.WorkerAsyncStub"]:
    """A process of its own, at the store here."""
    target = f"unix:{directory / 'worker.sock'}"
    flags = [f"--listen={target}", f"--store={hosts.here_listens}", f"--run-dir={directory}", "--role=prefill"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(speed), *flags),
        env={**os.environ, SUPERVISOR_PID: str(os.getpid())},
        stdout=STDERR,
    )
    try:
        async with open_channel(target) as channel:
            async with asyncio.timeout(START_S):
                await channel.channel_ready()
            yield worker_pb2_grpc.WorkerStub(channel)
    except (TimeoutError, grpc.aio.AioRpcError) as error:
        raise StoreProcessFailed(f"the worker process can't be measured: {error or 'it does not start'}") from error
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), END_S)


def main(words: Sequence[str]) -> int:
    """The worker's process."""
    speed, *flags = words
    settings = load(WorkerSettings, flags, prog="bench worker")

    async def run(stopping: asyncio.Event) -> None:
        await serve_worker(settings, stopping, make=lambda _: (engine(int(speed)), "toy"))

    return run_process("bench-worker", run, log_level="warning")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
