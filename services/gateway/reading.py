"""Read requests' bodies beside the event loop: large ones in a text thread, while the client is there."""

from functools import partial
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from services.gateway.connection import ClientGone, while_connected
from services.gateway.document import Document, document
from services.gateway.front import Front
from services.gateway.http.body import json_bytes
from services.gateway.schemas import BodyT, checked
from services.gateway.text_threads import Pieces, one_piece
from services.gateway.unsupported import check_supported, unknown
from services.gateway.wishes import tenant

READ_AT_ONCE = 1 << 14
"""Bytes of a body that is read on the event loop: 2 ms for the most that it can hold."""

ResultT = TypeVar("ResultT")


def client_of(request: Request, user: str = "") -> str:
    """Whose request it is: the tenant, else the address it comes from."""
    host = request.client.host if request.client is not None else ""
    return tenant(request.headers.get("authorization", ""), user) or host


async def read_document(request: Request, front: Front) -> Document:
    """The body's JSON; raises ApiError, and ClientDisconnect."""
    raw = await json_bytes(request)
    work = partial(document, raw, context=front.longest or 0)
    return work() if len(raw) <= READ_AT_ONCE else await in_thread(request, front, one_piece(work))


async def checked_body(request: Request, kind: type[BodyT], read: Document, front: Front) -> BodyT:
    """What was read, checked field by field, for this model and with nothing in it that is not supported.

    Raises ApiError, and ClientDisconnect.
    """
    work = partial(_checked, kind, read, front)
    small = len(await request.body()) <= READ_AT_ONCE
    body, names = work() if small else await in_thread(request, front, one_piece(work))
    front.unknown_fields.met(names, request.url.path)
    return body


def _checked(kind: type[BodyT], read: Document, front: Front) -> tuple[BodyT, list[str]]:
    """The body, and what of it is unknown."""
    body = checked(kind, read)
    front.check_model(body.model)
    check_supported(body)
    return body, unknown(body, front.text.template_variables)


async def in_thread(request: Request, front: Front, pieces: Pieces[ResultT]) -> ResultT:
    """Text work for one request; raises ApiError, and ClientDisconnect."""
    running = front.in_thread(pieces, size=len(await request.body()), client=client_of(request))
    try:
        return await while_connected(request.receive, running, name=f"read {request.state.request_id}")
    except ClientGone:
        raise ClientDisconnect from None
