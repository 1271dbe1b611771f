"""Transfers of a store from its start to its end: the one place that chooses how bytes are moved, which is TCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kvstore.tcp import TcpTransfer, TlsContexts
from kvstore.tcp_sides import join_address, split_address
from services.runtime.process import Refusal
from services.store.node import StoreNode
from services.store.peers import StorePeers
from services.store.peers_metrics import TransferMetrics
from services.store.settings import StoreSettings
from services.wire.tls import Tls


@asynccontextmanager
async def transfers(
    node: StoreNode, metrics: TransferMetrics, settings: StoreSettings, tls: Tls | None
) -> AsyncIterator[StorePeers]:
    """The node has these peers in this block. Raises Refusal where it can't listen, or nobody could reach it."""
    listen, address = settings.transfer_listen, settings.transfer_address
    if address is None and split_address(listen)[0] in ("0.0.0.0", "::"):
        if settings.advertise is None:
            raise Refusal(
                f"--transfer-listen {listen} is every address of this host, and other stores need one that is this "
                "host's: give --advertise HOST, or --transfer-address HOST:0"
            )
        address = join_address(settings.advertise, 0)
    peers = StorePeers(
        node,
        metrics,
        per_peer=settings.transfer_bytes_in_flight,
        in_all=settings.transfer_bytes_in_flight_total,
    )
    contexts = None if tls is None else TlsContexts(tls.ssl_client(), tls.ssl_server())
    try:
        transfer = TcpTransfer(node.arena.view, peers, listen, tls=contexts)
    except OSError as error:
        raise Refusal(f"can't listen at --transfer-listen {listen}: {error.strerror or error}") from error
    peers.use(transfer)
    try:
        node.transfer_address = _reached_at(address, transfer.address)
        yield peers
    finally:
        await peers.close()


def _reached_at(given: str | None, listens: str) -> str:
    if given is None:
        return listens
    host, port = split_address(given)
    return join_address(host, port or split_address(listens)[1])
