"""What every HTTP exchange gets, whatever its route: an id, a look at its caller, bounds on its body, a last resort, a
count.

A plain ASGI layer: it adds nothing to a stream but two headers, and hands ``receive``
through, so that a client's leaving is seen by whoever serves it.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import ApiError, our_bug
from services.gateway.http.body import Body, Held
from services.gateway.http.callers import Callers
from services.gateway.journal import CLIENT_LEFT
from services.gateway.lag import Lag
from services.gateway.metrics import Metrics

FORMS_OF_ID = re.compile(r"[\x21-\x7e]{1,128}")
"""An id that a client may give its request: it goes into headers and logs as it is."""

NO_HANDLER = "none"
"""As vLLM's metrics have it."""

log = logging.getLogger(__name__)


class Envelope:
    """Around an app. ``request.state`` has request_id, and arrived in the event loop's time: when it may have come, as
    far as this process was late to see it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        callers: Callers,
        max_body_bytes: Callable[[], int],
        body_timeout_s: float,
        lag: Lag,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._callers = callers
        self._max_body_bytes, self._body_timeout_s = max_body_bytes, body_timeout_s
        self._lag = lag
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
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

        body = Body(scope, receive, self._held, max_bytes=self._max_body_bytes(), within_s=self._body_timeout_s)
        try:
            refusal = self._callers.refusal(headers)
            if refusal is not None:
                raise refusal
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            log.debug("the client of request %s left while it sent its body", request_id)
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
            body.close()
            handler = getattr(scope.get("route"), "path", NO_HANDLER)
            status = status or CLIENT_LEFT  # nothing was answered, as there was no client
            if handler == NO_HANDLER:
                self._metrics.refused(status)
            seconds = asyncio.get_running_loop().time() - scope["state"]["arrived"]
            self._metrics.exchanged(handler, scope["method"], f"{status // 100}xx", seconds)


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, status_code=error.status, headers=dict(error.headers))
