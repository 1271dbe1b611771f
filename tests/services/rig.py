"""A store, workers and a conductor in one process, over real gRPC on Unix sockets, with toy engines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from engine.port import Engine
from engine.toy import ToyEngine
from kvstore.names import BlockName, root_name
from scheduler.vocabulary import NOTHING_LIFTED, Lifted, Limits, Role, Sampling, StoreId, StoreTarget
from services.conductor.main import serve_conductor
from services.conductor.settings import ConductorSettings
from services.store.main import serve_store
from services.store.node import StoreNode
from services.store.settings import StoreSettings
from services.wire import cluster_codec, codec
from services.wire.channel import open_channel
from services.wire.errors import rpc_errors
from services.wire.pb import conductor_pb2_grpc, worker_pb2, worker_pb2_grpc
from services.wire.pb.common_pb2 import Empty
from services.worker.main import serve_worker
from services.worker.settings import WorkerSettings
from services.worker.worker import Worker

BLOCK_TOKENS = 8
BLOCKS = 256
PATIENCE_S = 10.0
GREEDY = Sampling()

T = TypeVar("T")


def toy(seed: int = 0, blocks: int = BLOCKS) -> Engine:
    return ToyEngine(blocks, block_tokens=BLOCK_TOKENS, max_model_len=1024, seed=seed)


@dataclass
class Running:
    """A process's stand-in: a task of this one. ``stop`` ends it as SIGTERM would."""

    stopping: asyncio.Event
    task: "asyncio.Task[None]"

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.task, PATIENCE_S)

    async def stop_if_running(self) -> None:
        if not self.task.done():
            await self.stop()


@dataclass
class Store(Running):
    node: StoreNode

    @property
    def target(self) -> StoreTarget:
        """Where other stores push to it and fetch from it."""
        return StoreTarget(StoreId(self.node.name), self.node.transfer_address)

    def at_rest(self) -> bool:
        counts = self.node.catalog.snapshot()
        whole = counts.free + counts.writing + counts.sealed == counts.total
        return whole and counts.leases == 0 and counts.writing == 0


@dataclass
class WorkerRun(Running):
    worker: Worker
    target: str

    def at_rest(self) -> bool:
        device = self.worker.device
        device.check()
        return not self.worker.loop.requests and device.pinned == 0 and device.free == device.total


@dataclass
class Rig:
    """Everything that runs; leaving its block stops it and finds nothing left but SSD files, in ``data``."""

    directory: Path
    stack: AsyncExitStack
    runs: list[Running] = field(default_factory=list)

    def target(self, name: str) -> str:
        return f"unix:{self.directory / name}.sock"

    async def store(
        self,
        name: str = "store-0",
        *,
        dram: int = 1 << 20,
        ssd: int = 0,
        reuse: bool = True,
        conductors: Sequence[str] = (),
    ) -> Store:
        """ssd: bytes of an SSD file that outlives this store, and the rig."""
        (self.directory / "arena").mkdir(exist_ok=True)
        settings = StoreSettings(
            id=name,
            listen=self.target(name),
            dram=dram,
            arena_dir=self.directory / "arena",
            ssd=ssd,
            reuse=reuse,
            data_dir=self.directory / "data",
            conductor=tuple(map(self.target, conductors)),
        )
        ready: asyncio.Future[StoreNode] = asyncio.get_running_loop().create_future()
        stopping = asyncio.Event()
        task = asyncio.create_task(serve_store(settings, stopping, ready.set_result), name=name)
        store = Store(stopping, task, await first(ready, task))
        self.runs.append(store)
        return store

    async def worker(
        self,
        name: str = "worker-0",
        *,
        role: Role = Role.MIXED,
        store: str | None = None,
        conductors: Sequence[str] = (),
        engine: Engine | None = None,
        warm_within_s: float = PATIENCE_S,
        **settings: Any,
    ) -> WorkerRun:
        given = WorkerSettings(
            id=name,
            role=role,
            listen=self.target(name),
            store=None if store is None else self.target(store),
            conductor=tuple(map(self.target, conductors)),
            engine="toy",
            run_dir=self.directory,
            **{"drain_s": 0.2, "verify_lifts": True, **settings},
        )
        made = engine or toy()
        ready: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        stopping = asyncio.Event()
        work = serve_worker(given, stopping, make=lambda _: (made, "toy"), on_ready=ready.set_result)
        task = asyncio.create_task(work, name=name)
        worker = WorkerRun(stopping, task, await first(ready, task, warm_within_s), given.listen)
        self.runs.append(worker)
        return worker

    async def conductor(self, name: str = "conductor-0", inline_max_tokens: int | None = None) -> Running:
        stopping = asyncio.Event()
        settings = ConductorSettings(id=name, listen=self.target(name), inline_max_tokens=inline_max_tokens)
        run = Running(stopping, asyncio.create_task(serve_conductor(settings, stopping), name=name))
        self.runs.append(run)
        return run

    async def client(self, worker: WorkerRun) -> "Client":
        channel = await self.stack.enter_async_context(open_channel(worker.target))
        return Client(worker_pb2_grpc.WorkerStub(channel))

    async def cluster(self, conductor: str = "conductor-0") -> cluster_codec.Cluster:
        async with open_channel(self.target(conductor)) as channel:
            stub: conductor_pb2_grpc.ConductorAsyncStub = conductor_pb2_grpc.ConductorStub(channel)
            with rpc_errors():
                return cluster_codec.cluster_from_wire(await stub.Describe(Empty(), timeout=5, wait_for_ready=True))

    async def until(self, what: str, true: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Returns once ``true()``; AssertionError naming ``what`` when that takes too long."""
        try:
            async with asyncio.timeout(within_s):
                while not true():  # noqa: ASYNC110 - what is watched has no event to wait for
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"not within {within_s} s: {what}") from None

    async def together(self, work: Iterable[Awaitable[T]]) -> list[T]:
        return list(await asyncio.gather(*work))

    async def comes_to_rest(self) -> None:
        """Nothing is leased, half-written or pinned anywhere, soon: a second on a machine that has time."""
        for run in self.runs:
            if isinstance(run, Store | WorkerRun) and not run.task.done():
                await self.until(f"{run.task.get_name()} is at rest", run.at_rest)
                if isinstance(run, Store):
                    run.node.catalog.check()


async def first(ready: "asyncio.Future[T]", task: "asyncio.Task[None]", within_s: float = PATIENCE_S) -> T:
    """What ``ready`` becomes, or what the task raised before."""
    both: list[asyncio.Future[Any]] = [ready, task]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=within_s)
    if not ready.done():
        assert task.done(), f"{task.get_name()} is not ready within {within_s} s"
        await task
        raise AssertionError(f"{task.get_name()} ended before it was ready")
    return ready.result()


@asynccontextmanager
async def rig(directory: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        made = Rig(directory, stack)
        try:
            yield made
        finally:
            async with AsyncExitStack() as stops:  # every one, also if another's stop fails
                for run in made.runs:
                    stops.push_async_callback(run.stop_if_running)
    assert leftovers(directory) == []


def leftovers(directory: Path) -> list[str]:
    kept = directory / "data"
    return [path.name for path in directory.rglob("*") if not path.is_dir() and kept not in path.parents]


def root(engine_seed: int = 0) -> BlockName:
    return root_name(f"toy {engine_seed}".encode())


@dataclass(frozen=True)
class Story:
    """What a stream gave: its tokens and its end."""

    tokens: tuple[int, ...]
    reason: str
    cached_tokens: int
    missing_blocks: int | None = None
    lifted: Lifted = NOTHING_LIFTED
    """Of its cached tokens, what came from the store."""


class Client:
    """Calls one worker as a gateway does."""

    def __init__(self, stub: Any) -> None:  # Any: the stub's class exists for type checkers only
        self.stub: worker_pb2_grpc.WorkerAsyncStub = stub

    def prefill_call(
        self,
        prompt: Sequence[int],
        *,
        request: str = "r",
        max_tokens: int = 16,
        sampling: Sampling | None = None,
        push_to: StoreTarget | None = None,
        source: StoreTarget | None = None,
        source_tokens: int | None = None,
        output: Sequence[int] = (),
        **more: Any,
    ) -> Any:
        """source_tokens: how many of the prompt's tokens the source is believed to hold; None: all."""
        return self.stub.Prefill(
            worker_pb2.PrefillRequest(
                request=request,
                root=root(),
                prompt=prompt,
                output=output,
                sampling=codec.sampling_to_wire(sampling or GREEDY),
                limits=codec.limits_to_wire(Limits(max_tokens, **more)),
                push_to=codec.store_target_to_wire(push_to),
                source=codec.store_target_to_wire(source),
                urgency=_expecting(prompt, source, source_tokens),
            )
        )

    def decode_call(
        self,
        prompt: Sequence[int],
        *,
        request: str = "r",
        output: Sequence[int] = (),
        max_tokens: int = 16,
        handed_over: bool = False,
        sampling: Sampling | None = None,
        source: StoreTarget | None = None,
        source_tokens: int | None = None,
        first: "asyncio.Future[int] | None" = None,
        **more: Any,
    ) -> Any:
        """first: of a handoff, where it is not the last of ``output``. source_tokens: as for ``prefill_call``."""
        before, token = (output[:-1], output[-1]) if handed_over and output and first is None else (output, None)
        request_ = worker_pb2.DecodeRequest(
            request=request,
            root=root(),
            prompt=prompt,
            output=before,
            sampling=codec.sampling_to_wire(sampling or GREEDY),
            limits=codec.limits_to_wire(Limits(max_tokens, **more)),
            handed_over=handed_over,
            source=codec.store_target_to_wire(source),
            urgency=_expecting(prompt, source, source_tokens),
        )

        async def calls() -> AsyncIterator[worker_pb2.DecodeCall]:
            yield worker_pb2.DecodeCall(request=request_)
            known = token if first is None else await first
            if known is not None:
                yield worker_pb2.DecodeCall(first_token=known)

        return self.stub.Decode(calls())

    async def first(self, call: Any) -> worker_pb2.FirstToken:
        with rpc_errors():
            event = await call.read()
            if event.WhichOneof("kind") == "last_step":
                event = await call.read()
        assert event.WhichOneof("kind") == "first"
        answer: worker_pb2.FirstToken = event.first
        return answer

    async def decode(self, prompt: Sequence[int], **more: Any) -> Story:
        return await read_story(self.decode_call(prompt, **more))


def _expecting(prompt: Sequence[int], source: StoreTarget | None, tokens: int | None) -> worker_pb2.Urgency:
    """As a placement with this source tells it."""
    expected = 0 if source is None else len(prompt) if tokens is None else tokens
    return worker_pb2.Urgency(cached_tokens=expected)


async def read_story(call: Any) -> Story:
    """All events of a Decode call, to its proper end."""
    tokens: list[int] = []
    missing: int | None = None
    with rpc_errors():
        while (event := await call.read()) is not grpc.aio.EOF:
            match event.WhichOneof("kind"):
                case "confirmed":
                    missing = event.confirmed.missing_blocks
                case "tokens":
                    tokens += event.tokens.ids
                case "finished":
                    ended = event.finished
                    lifted = codec.lifted_from_wire(ended.lifted)
                    return Story(tuple(tokens), ended.reason, ended.cached_tokens, missing, lifted)
    raise AssertionError("the stream ended without its last event")


async def hand_over(
    prefill: Client,
    decode: Client,
    prompt: Sequence[int],
    *,
    request: str = "r",
    max_tokens: int = 16,
    sampling: Sampling | None = None,
    push_to: StoreTarget | None = None,
    prefill_source: StoreTarget | None = None,
    prefill_source_tokens: int | None = None,
    decode_source: StoreTarget | None = None,
    **more: Any,
) -> Story:
    """The gateway's story: prefill, then decode with the prefill's call open until it is confirmed."""
    call = prefill.prefill_call(
        prompt,
        request=request,
        max_tokens=max_tokens,
        sampling=sampling,
        push_to=push_to,
        source=prefill_source,
        source_tokens=prefill_source_tokens,
        **more,
    )
    try:
        first_token = await prefill.first(call)
        lifted = codec.lifted_from_wire(first_token.lifted)
        if first_token.finished:
            return Story((first_token.token,), first_token.finish_reason, first_token.cached_tokens, None, lifted)
        stream = decode.decode_call(
            prompt,
            request=request,
            output=[first_token.token],
            max_tokens=max_tokens,
            handed_over=True,
            sampling=sampling,
            source=decode_source,
            **more,
        )
        rest = await read_story(stream)
        tokens = (first_token.token, *rest.tokens)
        return Story(tokens, rest.reason, first_token.cached_tokens, rest.missing_blocks, lifted)
    finally:
        call.cancel()
