"""All of them together, each at a socket of its own."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc

from scheduler.vocabulary import Role
from services.wire.channel import serve
from services.wire.pb import conductor_pb2_grpc, store_pb2_grpc, worker_pb2_grpc
from services.wire.served import Served
from tests.services.gateway.fakes.conductor import FakeConductor
from tests.services.gateway.fakes.store import FakeStore
from tests.services.gateway.fakes.worker import FakeWorker


class FakeCluster:
    """One conductor, one store, a prefill worker and two decode workers, each at a socket of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.conductor = FakeConductor()
        self.conductor_target = self._target("conductor-0")
        self.store = FakeStore(self._target("store-0"))
        self.prefill = FakeWorker("prefill-0", self._target("prefill-0"), Role.PREFILL)
        self.decode = FakeWorker("decode-0", self._target("decode-0"), Role.DECODE)
        self.other = FakeWorker("decode-1", self._target("decode-1"), Role.DECODE)
        self.conductor.workers = [self.prefill, self.decode]
        self.conductor.stores = [self.store]

    @property
    def workers(self) -> list[FakeWorker]:
        return [self.prefill, self.decode, self.other]

    async def at_rest(self) -> None:
        async with asyncio.timeout(5):
            for worker in self.workers:
                await worker.at_rest()

    async def start(self, stack: AsyncExitStack) -> None:
        await self.serve(
            stack, self.conductor_target, conductor_pb2_grpc.add_ConductorServicer_to_server, self.conductor
        )
        await self.serve(stack, self.store.address, store_pb2_grpc.add_StoreServicer_to_server, self.store)
        for worker in self.workers:
            add = worker_pb2_grpc.add_WorkerServicer_to_server
            worker.server = await self.serve(stack, worker.address, add, worker)

    async def serve(
        self, stack: AsyncExitStack, target: str, add: Callable[[Any, grpc.aio.Server], None], servicer: object
    ) -> Served:
        server = await serve(target, lambda server: add(servicer, server))
        stack.push_async_callback(server.stop, None)
        return server

    def _target(self, name: str) -> str:
        return f"unix:{self._directory / name}.sock"
