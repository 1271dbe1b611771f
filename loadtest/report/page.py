"""The page: tables and plots of runs in one HTML file that asks nobody for anything, and says so to the browser."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from loadtest.report import words
from loadtest.report.latency import latencies
from loadtest.report.plot import Plot, svg
from loadtest.report.predicted import predicted
from loadtest.report.rates import goodput
from loadtest.report.run import Run
from loadtest.report.sheet import style_sheet
from loadtest.report.timeline import timeline
from loadtest.report.waterfall import waterfall

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MANY = 3
"""Of more runs than this, each one's own part is folded."""


def plots(runs: Sequence[Run], *, sweep: dict[str, Any] | None = None) -> tuple[list[Plot], list[list[Plot]]]:
    """Those of all runs together, and those of each. Called while ``drawing``."""
    together = [*goodput(runs, sweep=sweep), *latencies(runs)]
    each = []
    for place, run in enumerate(runs, start=1):
        found = (
            timeline(run, name=f"timeline-{place}"),
            waterfall(run, name=f"slowest-{place}"),
            predicted(run, name=f"predicted-{place}"),
        )
        each.append([plot for plot in found if plot is not None])
    return together, each


def page(
    title: str,
    runs: Sequence[Run],
    together: Sequence[Plot],
    each: Sequence[Sequence[Plot]],
    *,
    comparison: dict[str, Any] | None = None,
) -> str:
    """together, each: as ``plots`` makes them; comparison: what one found (JSON). Called while ``drawing``."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head><body>",
        f"<header><h1>{escape(title)}</h1>{_introduction(runs)}</header><main>",
        _compared(comparison or {}),
        "<section><h2>Summary</h2>",
        _table(("", *(run.name for run in runs)), words.counts(runs), caption="Counts and rates"),
        "</section>",
        '<section><h2>All runs</h2><p class="note">Shares are of requests that were offered, so that a curve which '
        "ends below 1 tells of refusals or failures. Times are the client’s.</p>",
        '<div class="pair">',
        *(_figure(plot) for plot in together),
        "</div></section>",
        *(_of_one(run, drawn, folded=len(runs) > MANY) for run, drawn in zip(runs, each, strict=True)),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _introduction(runs: Sequence[Run]) -> str:
    dates = sorted(str(run.summary["date"]) for run in runs if run.summary.get("date"))
    asked = [words.asked_of(run) for run in runs]
    facts = [
        f"{len(runs)} runs" if len(runs) > 1 else "",
        *dict.fromkeys(fact for each in asked for fact in each),
        " to ".join(dict.fromkeys(words.date(each) for each in dates[:: max(1, len(dates) - 1)])),
    ]
    told = " · ".join(escape(fact) for fact in facts if fact)
    broken = [run.name for run in runs if run.summary.get("interrupted")]
    warned = f"<p><strong>Interrupted, so not whole: {escape(', '.join(broken))}.</strong></p>" if broken else ""
    return f'<p class="note">{told}</p>{warned}'


def _compared(found: dict[str, Any]) -> str:  # Any: JSON
    if not found.get("measures"):
        return ""
    columns = ("", "a", "b", "b : a", "interval", "b is")
    table = _table(columns, map(words.measure, found["measures"]), caption="Comparison")
    told = _table(("told", "a", "b"), words.differences(found), caption="What differs", prose=True)
    return f"<section><h2>a against b</h2><p>{escape(found['sentence'])}</p>{told}{table}</section>"


def _of_one(run: Run, drawn: Sequence[Plot], *, folded: bool) -> str:
    inside = [_warnings(run)]
    rows = list(words.latencies(run))
    if rows:
        inside.append(_table(("milliseconds", *words.SHOWN), rows, caption="Latencies of finished requests"))
    inside += (_figure(plot, single=True) if plot.name.startswith("predicted") else _wide(plot) for plot in drawn)
    inside.append(_causes(run))
    rows = list(words.settings(run))
    if rows:
        inside.append(f"<h3>Settings</h3>{_table(('', ''), rows, caption='Settings', prose=True)}")
    opened = "" if folded else " open"
    return f"<details{opened}><summary><h2>{escape(run.name)}</h2></summary>{''.join(inside)}</details>"


def _warnings(run: Run) -> str:
    if not run.summary:
        return "<p><strong>There is no summary: the run did not end as it should have.</strong></p>"
    warned = (run.summary.get("harness") or {}).get("warnings") or []
    return "".join(f"<p><strong>{escape(str(warning))}</strong></p>" for warning in warned)


def _causes(run: Run) -> str:
    if not run.causes:
        return '<h3>Refusals and failures</h3><p class="note">None.</p>'
    rows = ((cause.outcome.value, cause.cause, f"{cause.number:,}", cause.example or "–") for cause in run.causes)
    columns = ("", "cause", "requests", "what one of them was told")
    return f"<h3>Refusals and failures</h3>{_table(columns, rows, caption='By cause', prose=True)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, prose: bool = False) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    kind = ' class="text"' if prose else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _wide(plot: Plot) -> str:
    return (
        f'<figure>{_caption(plot)}<div class="scroll wide" tabindex="0" role="region" '
        f'aria-label="{escape(plot.title)}">{svg(plot)}</div></figure>'
    )


def _figure(plot: Plot, *, single: bool = False) -> str:
    kind = ' class="single"' if single else ""
    return f"<figure{kind}>{_caption(plot)}{svg(plot)}</figure>"


def _caption(plot: Plot) -> str:
    words = f'<span id="{plot.name}-words">{escape(plot.words)}</span>'
    return f"<figcaption><strong>{escape(plot.title)}</strong>{words}</figcaption>"
