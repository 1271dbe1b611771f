"""What every HTTP exchange gets, whatever its route: an id, a limit on its body, a last resort, a count.

A plain ASGI layer: it adds nothing to a stream but two headers, and hands ``receive``
through, so that a client's leaving is seen by whoever serves it.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import ApiError, our_bug
from services.gateway.lag import Lag
from services.gateway.metrics import Metrics

FORMS_OF_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""An id that a client may give its request: it goes into headers and logs as it is."""

SWALLOWED = 8
"""A body this many times too long is read to its end all the same, as most clients read no answer before that."""

log = logging.getLogger(__name__)


class Envelope:
    """Around an app. ``request.state`` has request_id, and arrived in the event loop's time: when it may have come, as
    far as this process was late to see it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, max_body_bytes: Callable[[], int], lag: Lag) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._lag = lag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if FORMS_OF_ID.fullmatch(given) else uuid4().hex
        now = asyncio.get_running_loop().time()
        scope.setdefault("state", {}).update(request_id=request_id, arrived=now - self._lag.seconds(now=now))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, self._limited(scope, receive), send_with_id)
        except ApiError as error:
            if status:
                raise
            await error_response(error)(scope, receive, send_with_id)
        except Exception as error:
            log.exception("request %s failed", request_id)
            if status:
                raise  # what was begun cannot be made good; the server breaks the connection off
            del error
            await error_response(our_bug(request_id))(scope, receive, send_with_id)
        finally:
            handler = getattr(scope.get("route"), "path", "none")
            seconds = asyncio.get_running_loop().time() - scope["state"]["arrived"]
            self._metrics.exchanged(handler, scope["method"], f"{status // 100}xx" if status else "none", seconds)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """``receive``, but a body that is too long raises ApiError, once it has been swallowed."""
        limit, length = self._max_body_bytes(), 0
        announced = Headers(scope=scope).get("content-length", "")
        too_long = announced.isdigit() and int(announced) > limit

        async def limited() -> Message:
            nonlocal length, too_long
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                length += len(message.get("body", b""))
                too_long = too_long or length > limit
                if not too_long:
                    return message
                if length > SWALLOWED * limit or not message.get("more_body", False):
                    raise _body_too_long(limit)

        return limited


def _body_too_long(limit: int) -> ApiError:
    return ApiError(413, f"The body is longer than {limit} bytes.", code="request_too_large")


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))
