"""Panels, rows and dashboards, and the JSON that Grafana reads them from. Pure.

Everything that is not about one panel is decided here once: the data source is a variable, rates are over
``$__rate_interval``, pages refresh every five seconds, as Prometheus scrapes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 41
"""Grafana 12's; older ones read it too, newer ones bring it up to date themselves."""

PAGE_COLUMNS = 24
RATE = "$__rate_interval"
_SOURCE = {"type": "prometheus", "uid": "$datasource"}


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and what its series are called: ``{{label}}`` is a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or with ``stat`` the last values in large.

    help: what it shows, and what to do when it is red. unit: Grafana's name of it. yellow, red: from where on, or with
    ``low_is_bad`` down to where. stacked: parts of a whole. rare: of what need not happen, so that it may be empty.
    """

    title: str
    help: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    yellow: float | None = None
    red: float | None = None
    low_is_bad: bool = False
    stacked: bool = False
    stat: bool = False
    rare: bool = False
    words: tuple[tuple[int, str], ...] = ()
    """What a value is called, where it is no quantity."""

    @property
    def height(self) -> int:
        return 4 if self.stat else 8


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    help: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    return (Query(expr, legend or "__auto"),)


def quantiles(
    histogram: str, by: str = "", of: Sequence[float] = (0.5, 0.9, 0.99), what: str = ""
) -> tuple[Query, ...]:
    """Percentiles of a histogram, over all processes that have it or for each value of a label."""
    labels = f"le, {by}" if by else "le"
    buckets, _, braces = histogram.partition("{")
    selector = f"{buckets}_bucket" + (f"{{{braces}" if braces else "")
    words = " ".join(filter(None, [what, f"{{{{{by}}}}}" if by else ""]))
    return tuple(
        Query(
            f"histogram_quantile({each}, sum by ({labels}) (rate({selector}[{RATE}])))",
            f"{words} p{each * 100:g}".strip(),
        )
        for each in of
    )


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana provisions it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": ["moonpool"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["moonpool"], "title": "Moonpool", "asDropdown": False}],
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_laid_out(dashboard.rows)),
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Panels side by side until a line is full; each row begins a new line."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": _at(0, y)}
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > PAGE_COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield {"id": number, **_panel(panel), "gridPos": _at(x, y, panel.width, panel.height)}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _at(x: int, y: int, width: int = PAGE_COLUMNS, height: int = 1) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": not panel.stat,
                "instant": panel.stat,
            }
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT if panel.stat else _GRAPH,
    }


_STAT: Mapping[str, Any] = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "background",
    "graphMode": "none",
    "textMode": "auto",
}
_GRAPH: Mapping[str, Any] = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    if panel.unit in ("percentunit", "ops", "reqps", "short", "Bps", "bytes", "s"):
        defaults["min"] = 0
    if panel.unit == "percentunit":
        defaults["max"] = 1
    if panel.rare:
        defaults["noValue"] = "none so far"
    if panel.words:
        words = {str(value): {"text": text} for value, text in panel.words}
        defaults["mappings"] = [{"type": "value", "options": words}]
    if not panel.stat:
        defaults["custom"] = {
            "fillOpacity": 25 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
            "thresholdsStyle": {"mode": "off" if panel.red is None else "dashed"},
        }
    return defaults


def _steps(panel: Panel) -> list[dict[str, Any]]:
    """The first has no value: it holds below all others."""
    limits = [(panel.yellow, "yellow"), (panel.red, "red")]
    if panel.low_is_bad:
        colors = ["red", "yellow", "green"] if panel.yellow is not None else ["red", "green"]
        values = [None, *(value for value, _ in reversed(limits) if value is not None)]
        return [{"color": color, "value": value} for color, value in zip(colors, values, strict=True)]
    given = [{"color": color, "value": value} for value, color in limits if value is not None]
    return [{"color": "green", "value": None}, *given]
