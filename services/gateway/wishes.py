"""How soon a request wants its answer, what it gives way to, and on whose account: what the conductor is asked besides.

Headers win over the body, field by field, as a proxy can set them. Who asks is known by a
digest only: it is the same at every gateway, and neither a key nor a name leaves this file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from scheduler.vocabulary import Priority
from services.gateway.bounds import shown
from services.gateway.errors import bad_request
from services.gateway.schemas import SLO_MS, GenerationBody, Slo

TTFT_HEADER = "x-slo-ttft-ms"
TPOT_HEADER = "x-slo-tpot-ms"

TENANT_DIGITS = 16
"""Hexadecimal ones: among a million tenants, two share a digest with a chance of 1 in 40 million."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """ttft_slo_s, tpot_slo_s: None for what the deployment promises. tenant: a digest, or empty."""

    ttft_slo_s: float | None = None
    tpot_slo_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""


def wishes(body: GenerationBody, headers: Mapping[str, str]) -> Wishes:
    """headers: by their names in lower case. Raises ApiError, naming the header that is wrong."""
    slo = body.slo or Slo()
    return Wishes(
        ttft_slo_s=_seconds(headers, TTFT_HEADER, slo.ttft_ms),
        tpot_slo_s=_seconds(headers, TPOT_HEADER, slo.tpot_ms),
        priority=body.priority or Priority.INTERACTIVE,
        tenant=tenant(headers.get("authorization", ""), body.user or ""),
    )


def tenant(authorization: str, user: str) -> str:
    """By the key where there is one: who may name any user has one share all the same."""
    key = authorization.rpartition(" ")[2]
    if key:
        return _digest("key", key)
    return _digest("user", user) if user else ""


def _digest(kind: str, secret: str) -> str:
    return sha256(f"{kind} {secret}".encode()).hexdigest()[:TENANT_DIGITS]


def _seconds(headers: Mapping[str, str], name: str, otherwise_ms: float | None) -> float | None:
    given = headers.get(name)
    if given is None:
        return None if otherwise_ms is None else otherwise_ms / 1000.0
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = math.nan
    if not SLO_MS.holds(milliseconds):
        raise bad_request(f"`{name}` must be {SLO_MS.words}, in milliseconds, not {shown(given)}.", name)
    return milliseconds / 1000.0
