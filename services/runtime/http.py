"""One GET, for a supervisor that waits for its gateway and for commands that ask one. Standard library only."""

import http.client
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

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
