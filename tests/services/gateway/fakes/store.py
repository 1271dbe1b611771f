"""A store that holds nothing."""
# ruff: noqa: N802 - methods are named after their RPCs

from typing import Any

from scheduler.vocabulary import StoreId, StoreReport
from services.wire.pb import common_pb2, store_pb2, store_pb2_grpc
from tests.services.gateway.fakes.deployment import IDENTITY, Context


class FakeStore(store_pb2_grpc.StoreServicer):
    """Holds nothing. resets: how often it was told to forget it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.resets = 0
        self.tiers: dict[str, Any] = {}  # what its report says of them

    async def Enter(self, request: common_pb2.Empty, context: Context) -> store_pb2.Door:
        raise AssertionError("gateways hold no sessions with stores")

    async def ResetCache(self, request: common_pb2.Empty, context: Context) -> common_pb2.Empty:
        self.resets += 1
        return common_pb2.Empty()

    def report(self) -> StoreReport:
        return StoreReport(
            store=StoreId("store-0"),
            incarnation=1,
            sequence=1,
            address=self.address,
            pid=4712,
            identity=IDENTITY,
            slots_total=10,
            slots_free=7,
            slots_writing=1,
            slots_sealed=2,
            leases=1,
            snapshot=False,
            **self.tiers,
        )
