"""One GET, for a supervisor that waits for its gateway and for commands that ask one. Standard library only."""

import http.client
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener, getproxies, proxy_bypass

_opener = build_opener(ProxyHandler({}))  # a deployment is near; a proxy for the Internet does not know it


def get(url: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Status and body, whatever the status. Raises OSError where nothing answers as HTTP in time."""
    try:
        with _opener.open(url, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url} does not speak HTTP: {error!r}") from error


def unused_proxy(url: str) -> str | None:
    """A sentence where other programs would ask ``url`` through a proxy of the environment; ``get`` never does.

    The proxy's address may hold a password and is not repeated. ``loadtest.client.proxies`` has the same: a load test
    imports nothing of the services.
    """
    parts = urlsplit(url)
    named = getproxies()
    scheme = parts.scheme if parts.scheme in named else "all"
    if scheme not in named or proxy_bypass(parts.hostname or ""):
        return None
    return f"{scheme}_proxy names a proxy, which is not used: {url} is asked directly"
