"""Open channels and serve, with the same options everywhere.

Targets are gRPC's: ``unix:/path/to/name.sock`` or ``host:port``. TLS, where there is
any, goes over TCP only; nobody listens beyond this machine without.
"""

from collections.abc import Callable

import grpc

from services.wire.served import Served
from services.wire.tls import Tls, refuse_exposed

MESSAGE_BYTES = 64 << 20
"""A report with a snapshot of names is the largest message: 16 B a name, so 4 million blocks."""

COMMON = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),  # a peer whose host vanished is noticed, idle or not
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # what counts of the two in gRPC 1.85; a minute by default
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CLIENT = (
    (
        "grpc.initial_reconnect_backoff_ms",
        50,
    ),  # peers on one host come back within a second; don't wait longer than they
    ("grpc.min_reconnect_backoff_ms", 1_000),  # this one is the time a connection attempt may take
    ("grpc.enable_http_proxy", 0),  # gRPC 1.85 sends even calls to 127.0.0.1 through the http_proxy of the environment
    ("grpc.enable_retries", 0),  # who may repeat what is the caller's decision
    ("grpc.use_local_subchannel_pool", 1),  # two clients in one process don't share a back-off
)
SERVER = (
    ("grpc.so_reuseport", 0),  # a second process at the same address must fail, not share it
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

RECONNECT_S = 0.5
"""Between attempts to reach a peer that is away, at most; there may be a thousand such channels."""

SOON_S = 0.1
"""The same for conductors, of whom there are few: a report's interval, so that one that restarts soon knows all."""


def open_channel(target: str, tls: Tls | None = None, *, reconnect_s: float = RECONNECT_S) -> grpc.aio.Channel:
    """A channel that connects when first used, and again whenever its peer comes back; the caller closes it."""
    options = [*COMMON, *CLIENT, ("grpc.max_reconnect_backoff_ms", round(reconnect_s * 1000))]
    if tls is None or target.startswith("unix:"):
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, tls.channel_credentials(), options=options)


async def serve(
    target: str, add: Callable[[grpc.aio.Server], None], tls: Tls | None = None, *, insecure_network: bool = False
) -> Served:
    """A started server at ``target``, with the services that ``add`` registers; the caller stops it.

    Raises CannotListen where the address is taken or not ours, Refusal where strangers could call it.
    """
    refuse_exposed(target, tls, insecure_network=insecure_network)

    def make() -> grpc.aio.Server:
        server = grpc.aio.server(options=[*COMMON, *SERVER])
        add(server)
        return server

    def bind(server: grpc.aio.Server) -> None:
        if tls is None or target.startswith("unix:"):
            server.add_insecure_port(target)
        else:
            server.add_secure_port(target, tls.server_credentials())

    served = Served(target, make, bind)
    await served.start()
    return served
