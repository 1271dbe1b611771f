"""A gateway's status document as tables for people. Pure; tolerates fields that are missing or new."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]
"""What GET /status answers with; see docs/gateway.md."""

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def tables(document: Document) -> RenderableType:
    """How the deployment is, then workers, stores with their tiers and owners, and who else there is."""
    stores: list[Row] = document.get("stores", [])
    owners: list[Row] = [
        {**owner, "store": store.get("id", "")} for store in stores for owner in store.get("owners", [])
    ]
    return Group(
        Text(_headline(document)),
        _table("workers", document.get("workers", []), WORKER_COLUMNS),
        _table("stores", stores, STORE_COLUMNS),
        _table("tiers", stores, TIER_COLUMNS),
        *(
            Text(f"{store.get('id', '')} is without its SSD: {reason}")
            for store in stores
            if (reason := _ssd_off(store))
        ),
        *([_table("who holds what", owners, OWNER_COLUMNS)] if owners else []),
        _table("others", [*document.get("conductors", []), *document.get("gateways", [])], OTHER_COLUMNS),
    )


def _headline(document: Document) -> str:
    fingerprint = str(document.get("fingerprint") or "none yet")
    model, handoffs = document.get("model") or "no model yet", document.get("handoffs", 0)
    lines = [f"{model}  {_state(document)}  fingerprint {fingerprint[:16]}  handoffs {handoffs}"]
    lines += [str(document[why]) for why in ("not_serving", "degraded") if document.get(why)]
    gone: list[Row] = document.get("gone", [])
    if gone:
        lines.append("gone: " + ", ".join(f"{each.get('id')} ({each.get('for_s', 0):.0f} s)" for each in gone))
    lines += [
        f"{_gateway(document)} can't use {each.get('id')} ({each.get('for_s', 0):.0f} s): {each.get('because')}"
        for each in document.get("unusable", [])
    ]
    placements: Mapping[str, int] = document.get("placements") or {}
    lines += [f"placements: {count} {why}" for why, count in sorted(placements.items())]
    if document.get("refused"):
        lines.append(f"refused as too late: {document['refused']}")
    if document.get("role_changes"):
        lines.append(f"changes of role: {document['role_changes']}")
    return "\n".join([*lines, *_predicted(document)])


def _gateway(document: Document) -> str:
    """Which one has made this document."""
    gateways: list[Row] = document.get("gateways", [])
    return str(gateways[0].get("id", "the gateway")) if gateways else "the gateway"


def _state(document: Document) -> str:
    if document.get("not_serving"):
        return "not serving"
    return "degraded" if document.get("degraded") else "serving"


def _predicted(document: Document) -> Iterator[str]:
    """A line for TTFT and one for TPOT, once something was measured."""
    predictions: Mapping[str, Row] = document.get("predictions") or {}
    for of, known in predictions.items():
        if known.get("ratio") is not None and known.get("error") is not None:
            yield (
                f"{of.upper()}: {known['ratio']:.2f} times what was predicted, off by {known['error']:.0%}"
                f" (last {known.get('count', 0)})"
            )


def _plain(key: str) -> Column:
    return key, lambda row: str(row.get(key, ""))


def _of(label: str, part: str, whole: str) -> Column:
    return label, lambda row: f"{row.get(part, '')} / {row.get(whole, '')}"


def _slots(row: Row) -> str:
    """A store cuts its arena when it knows how large a block is, from its first worker."""
    return f"{row.get('slots_free', '')} / {row['slots_total']}" if row.get("slots_total") else "no worker yet"


def _ssd(row: Row) -> str:
    ssd = row.get("ssd")
    if not ssd:
        return "no SSD"
    if ssd.get("state") == "on":
        return f"{ssd.get('slots_held', '')} / {ssd.get('slots_total', '')}"
    return str(ssd.get("state", ""))


def _ssd_off(row: Row) -> str:
    """Why, in a line of its own: a column is too narrow for a sentence with a path in it."""
    return str((row.get("ssd") or {}).get("reason", ""))


def _rate(tier: str) -> Column:
    def show(row: Row) -> str:
        rate = row.get("hit_rates", {}).get(tier)
        return "" if rate is None else f"{rate:.1%}"

    return f"{tier} hits", show


WORKER_COLUMNS = (
    _plain("id"),
    ("role", lambda row: str(row.get("role", "")) + (", draining" if row.get("draining") else "")),
    _plain("pid"),
    _plain("store"),
    _plain("running"),
    _plain("waiting"),
    _of("device blocks free", "device_blocks_free", "device_blocks_total"),
)
STORE_COLUMNS = (
    _plain("id"),
    _plain("pid"),
    ("slots free", _slots),
    ("writing", lambda row: str(row.get("slots_writing", ""))),
    ("sealed", lambda row: str(row.get("slots_sealed", ""))),
    _plain("leases"),
)
TIER_COLUMNS = (
    _plain("id"),
    ("ssd blocks", _ssd),
    ("ssd pending", lambda row: str(row.get("ssd_pending", ""))),
    ("looked up", lambda row: str(row.get("hits", {}).get("asked", ""))),
    _rate("dram"),
    _rate("ssd"),
    _rate("peer"),
)
OWNER_COLUMNS = (
    _plain("owner"),
    _plain("store"),
    _plain("leases"),
    _plain("writing"),
    ("connection", lambda row: "broken" if row.get("set_aside") else ""),
)
OTHER_COLUMNS = (_plain("id"), _plain("pid"))


def _table(title: str, rows: list[Row], columns: tuple[Column, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for place, (label, _) in enumerate(columns):
        table.add_column(label, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in rows:
        table.add_row(*(show(row) for _, show in columns))
    return table
