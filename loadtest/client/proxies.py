"""Proxies that the environment names: a load test never goes through one, and says so."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def unused_proxy(url: str) -> str | None:
    """A sentence where other programs would ask ``url`` through a proxy of the environment; its address may hold a
    password and is not repeated. ``services.runtime.http`` has the same for commands that may not import this one."""
    parts = urlsplit(url)
    named = getproxies()
    scheme = parts.scheme if parts.scheme in named else "all"
    if scheme not in named or proxy_bypass(parts.hostname or ""):
        return None
    return f"{scheme}_proxy names a proxy, which is not used: {url} is asked directly"
