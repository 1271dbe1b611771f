"""The routes, and nothing behind them: each reads its body, and leaves the rest to a file of its own."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from scheduler.degraded import degraded
from services.gateway import openapi, schemas
from services.gateway.answer import Answer, MakeOrder
from services.gateway.chat import ChatShape, chat_order, conversation_tokens
from services.gateway.completions import CompletionShape, completion_pieces
from services.gateway.envelope import Envelope, error_response
from services.gateway.errors import ApiError, no_such_model, shortened, unavailable
from services.gateway.front import UNKNOWN_CONTEXT, Front
from services.gateway.health import why_not
from services.gateway.http.callers import Callers
from services.gateway.journal import CLIENT_LEFT, Journal
from services.gateway.order import check_ids, tokens_of
from services.gateway.reading import checked_body, client_of, in_thread, read_document
from services.gateway.schemas import BodyT
from services.gateway.shape import Shape
from services.gateway.status import status
from services.gateway.text_threads import Pieces, one_piece
from services.gateway.wishes import wishes
from services.wire.errors import PeerError, WireError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(front: Front, callers: Callers | None = None) -> FastAPI:
    """The ASGI app of one gateway. callers: None lets every caller in."""
    app = FastAPI(
        title="Moonpool",
        version=version("moonpool"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect is made of the client's Host, and clients don't repeat a POST's body
    )
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]
    app.add_middleware(
        Envelope,
        metrics=front.metrics,
        callers=callers or Callers(local=False),
        max_body_bytes=lambda: front.most_body_bytes,
        body_timeout_s=front.settings.body_timeout_s,
        lag=front.lag,
    )
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(HTTPException, _no_route)
    _add_completions(app, front)
    _add_models(app, front)
    _add_tokens(app, front)
    _add_operations(app, front)
    if front.settings.dev_endpoints:
        _add_development(app, front)
    return app


def _add_completions(app: FastAPI, front: Front) -> None:
    @app.post("/v1/chat/completions", openapi_extra=openapi.takes(schemas.ChatBody), response_class=Response)
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation."""
        with _noted(request, front):
            body = await _checked(request, schemas.ChatBody, front)
            made = partial(chat_order, body, front.text, wishes(body, request.headers))
        return await _answer(request, body, front, lambda deployment: one_piece(partial(made, deployment)), ChatShape)

    @app.post("/v1/completions", openapi_extra=openapi.takes(schemas.CompletionBody), response_class=Response)
    async def completions(request: Request) -> Response:
        """Continue a text."""
        with _noted(request, front):
            body = await _checked(request, schemas.CompletionBody, front)
            made = partial(completion_pieces, body, front.text, wishes(body, request.headers))
        return await _answer(request, body, front, made, CompletionShape)


async def _answer(
    request: Request, body: schemas.GenerationBody, front: Front, made: MakeOrder, shape: type[Shape]
) -> Response:
    size = len(await request.body())
    return Answer(front, request, made, shape, size=size, client=client_of(request, body.user or ""))


def _add_models(app: FastAPI, front: Front) -> None:
    created = int(time.time())

    def card() -> dict[str, Any]:
        return {
            "id": front.settings.model,
            "object": "model",
            "created": created,
            "owned_by": "moonpool",
            "root": front.settings.model,
            "parent": None,
            "max_model_len": front.longest,
            "permission": [],
        }

    @app.get("/v1/models")
    async def models() -> Response:
        """The one model that this deployment serves."""
        return JSONResponse({"object": "list", "data": [card()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """One model."""
        if not name:
            raise HTTPException(404)
        if name != front.settings.model:
            raise no_such_model(name)
        return JSONResponse(card())


def _add_tokens(app: FastAPI, front: Front) -> None:
    text = front.text
    takes = openapi.takes(schemas.TokenizePromptBody, schemas.TokenizeChatBody)

    @app.post("/tokenize", openapi_extra=takes, response_class=Response)
    async def tokenize(request: Request) -> Response:
        """The token ids of a prompt, or of a conversation."""
        longest = front.longest or UNKNOWN_CONTEXT
        read = await read_document(request, front)
        if "messages" in read:
            chat = await checked_body(request, schemas.TokenizeChatBody, read, front)
            ids = one_piece(partial(conversation_tokens, chat, text, longest))
            with_texts = bool(chat.return_token_strs)
        else:
            plain = await checked_body(request, schemas.TokenizePromptBody, read, front)
            special = plain.add_special_tokens is not False
            ids = tokens_of(plain.prompt, text, longest * TOKENIZED_CONTEXTS, "prompt", add_special_tokens=special)
            with_texts = bool(plain.return_token_strs)
        return await in_thread(request, front, _tokenized(ids, front, with_texts=with_texts))

    @app.post("/detokenize", openapi_extra=openapi.takes(schemas.DetokenizeBody), response_class=Response)
    async def detokenize(request: Request) -> Response:
        """The text of token ids."""
        body = await checked_body(request, schemas.DetokenizeBody, await read_document(request, front), front)
        return await in_thread(request, front, one_piece(partial(_detokenized, body, front)))


def _tokenized(ids: Pieces[list[int]], front: Front, *, with_texts: bool) -> Pieces[Response]:
    tokens = yield from ids
    return JSONResponse(
        {
            "count": len(tokens),
            "max_model_len": front.longest,
            "tokens": tokens,
            "token_strs": front.text.token_texts(tokens) if with_texts else None,
        }
    )


def _detokenized(body: schemas.DetokenizeBody, front: Front) -> Response:
    wrong = check_ids(body.tokens, front.text, "tokens")
    if wrong is not None:
        raise wrong
    return JSONResponse({"prompt": front.text.decode(body.tokens)})


TOKENIZED_CONTEXTS = 4
"""POST /tokenize takes longer texts than a request could use, to be told how long they are; but not without end."""


def _add_operations(app: FastAPI, front: Front) -> None:
    heads = partial(app.head, include_in_schema=False)  # some probes ask for no more

    @heads("/health")
    @heads("/ready")
    @app.get("/health")
    @app.get("/ready")
    async def health() -> Response:
        """200 if a request would be served now, and how badly if it would; else 503 that says why."""
        reason = await why_not(front)
        if reason is not None:
            raise unavailable(reason)
        worse = None if front.cluster.known is None else degraded(front.cluster.known.workers)
        return Response() if worse is None else JSONResponse({"degraded": worse})

    @heads("/live")
    @heads("/ping")
    @app.get("/live")
    @app.get("/ping")
    async def live() -> Response:
        """200 while this process runs."""
        return Response()

    @app.get("/version")
    async def release() -> Response:
        """The release of Moonpool."""
        return JSONResponse({"version": app.version})

    @app.get("/load")
    async def load() -> Response:
        """Sequences that are being told."""
        return JSONResponse({"server_load": front.told})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus's text format."""
        return Response(front.metrics.exposition(), media_type=METRICS_TYPE)

    @app.get("/status")
    async def deployment_status() -> Response:
        """Workers, stores, conductors and gateways, as `moonpool status` shows them."""
        return JSONResponse(await status(front))


def _add_development(app: FastAPI, front: Front) -> None:
    @app.post("/reset_prefix_cache")
    async def reset_prefix_cache() -> Response:
        """Forget every cached prefix that nobody uses, on every worker and store."""
        try:
            await front.cluster.reset_caches()
        except (PeerError, WireError) as error:
            raise unavailable(f"Not every cache was reset: {error}.") from error
        return Response()


@contextmanager
def _noted(request: Request, front: Front) -> Iterator[None]:
    """A request for an answer whose body is wrong, or never came whole, has its line and figures too."""
    state = request.state
    journal = Journal(request.url.path, state.request_id, front.metrics, front.ledger, arrived=state.arrived)
    clock = asyncio.get_running_loop().time
    try:
        yield
    except ApiError as error:
        journal.close(clock(), status=error.status, error=error)
        raise
    except ClientDisconnect:
        journal.close(clock(), status=CLIENT_LEFT)
        raise


async def _checked(request: Request, kind: type[BodyT], front: Front) -> BodyT:
    """The request's body, for this model and with nothing in it that is not supported."""
    return await checked_body(request, kind, await read_document(request, front), front)


def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {shortened(request.scope['path'])}"
    match error.status_code:
        case 404:
            told = ApiError(404, f"There is no {asked} here.", code="not_found")
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            told = ApiError(405, f"{asked} is not possible; {allowed} is.", code="method_not_allowed")
        case _:
            told = ApiError(error.status_code, str(error.detail))
    response = error_response(told)
    response.headers.update(error.headers or {})
    return response
