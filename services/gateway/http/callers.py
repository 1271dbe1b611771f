"""Which pages and names may call: so that no page in a browser spends a laptop's compute unasked.

A page of any site can send a plain POST to 127.0.0.1 (its ``Origin`` says which page), and one whose name is pointed
at 127.0.0.1 after it was loaded ("DNS rebinding") can read the answers too (its name is the ``Host``). So where the
gateway listens for this machine alone, both must be of this machine, as in Ollama. Elsewhere neither is looked at
unless it is said what is allowed: there names and pages are the proxy's and the keys' business.
"""

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.datastructures import Headers

from services.gateway.errors import ApiError, bad_request, quoted

LOCAL_ENDINGS = (".localhost", ".local", ".internal")
"""No public name ends like these: RFC 6761, RFC 6762, and ICANN's reservation of 2024."""

APPLICATIONS = ("app", "file", "tauri", "vscode-file", "vscode-webview")
"""Schemes of programs' own windows, which no web page can have; Ollama's list."""

_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:@/\[\]\s]*)(?::\d{0,5})?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#\s]*)")


class Callers:
    """local: the gateway listens at a loopback address. hosts, origins: patterns, in which ``*`` is any text; of none
    given, what the module says."""

    def __init__(self, *, local: bool, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self._local = local
        self._hosts = _patterns(hosts)
        self._origins = _patterns(origins)
        self._own_name = socket.gethostname().lower()

    def refusal(self, headers: Headers) -> ApiError | None:
        """None where the request may come in."""
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            return bad_request("The request has more than one Host.", code="bad_request")
        if hosts and (self._local or self._hosts is not None) and not self._host_allowed(hosts[0]):
            known = "names of this machine" if self._hosts is None else "names of --allowed-hosts"
            message = (
                f"This gateway answers to {known} only, and not to {quoted(hosts[0])}; --allowed-hosts adds others."
            )
            return ApiError(403, message, code="host_not_allowed")
        for origin in headers.getlist("origin"):
            if (self._local or self._origins is not None) and not self._origin_allowed(origin, hosts):
                message = f"Pages of {quoted(origin)} may not call this gateway; --allowed-origins adds them."
                return ApiError(403, message, code="origin_not_allowed")
        return None

    def _host_allowed(self, given: str) -> bool:
        name = _name(given)
        if name is None:
            return False
        return self._moves_not(name) or (self._hosts is not None and self._hosts.fullmatch(name) is not None)

    def _origin_allowed(self, given: str, hosts: Sequence[str]) -> bool:
        origin = given.strip().lower()
        if self._origins is not None and self._origins.fullmatch(origin) is not None:
            return True
        parts = _ORIGIN.fullmatch(origin)
        if parts is None:  # "null": a frame or a file, of any site
            return False
        scheme, authority = parts.groups()
        if scheme in APPLICATIONS or [authority] == [host.strip().lower() for host in hosts]:
            return True  # a page that this very address gave out, whose Host was allowed
        name = _name(authority)
        return self._local and name is not None and self._is_here(name)

    def _moves_not(self, name: str) -> bool:
        """No name that a stranger can point anywhere; an address is none either."""
        return name == "" or self._is_here(name) or name.endswith(LOCAL_ENDINGS) or _address(name) is not None

    def _is_here(self, name: str) -> bool:
        """It can mean this machine only."""
        if name in ("localhost", self._own_name) or name.endswith(".localhost"):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or address.is_unspecified)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name.partition("%")[0])
    except ValueError:
        return None


def _name(authority: str) -> str | None:
    """Without its port, brackets and final dot; None where it is no host and port."""
    parts = _HOST.fullmatch(authority.strip().lower())
    return None if parts is None else parts[1].strip("[]").removesuffix(".")


def _patterns(given: Sequence[str]) -> re.Pattern[str] | None:
    if not given:
        return None
    return re.compile("|".join(re.escape(each.lower()).replace(r"\*", ".*") for each in given))
