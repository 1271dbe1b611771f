"""Addresses: ``unix:/path`` or ``host:port`` as one listens at them, and as others call them. Pure."""

from ipaddress import ip_address

from services.runtime.process import Refusal


def host_of(address: str) -> str:
    """The host in ``host:port`` or ``[::1]:port``."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def is_local(address: str) -> bool:
    """Whether only this machine can call it. Names other than localhost may mean anything, so they don't count."""
    if address.startswith("unix:"):
        return True
    host = host_of(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def advertised(listen: str, advertise: str | None) -> str:
    """How others call who listens there. Raises Refusal where that can't be told from where it listens.

    advertise: the host's name or address for others, without a port.
    """
    if listen.startswith("unix:"):
        return listen
    host, port = host_of(listen), listen.rpartition(":")[2]
    if advertise is not None:
        return f"[{advertise}]:{port}" if ":" in advertise else f"{advertise}:{port}"
    if not host or _is_wildcard(host):
        raise Refusal(f"others can't call {listen}: give the name or address of this host as --advertise")
    return listen


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
