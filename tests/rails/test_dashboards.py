"""No panel and no alert asks for a metric or a label that no process has, and Prometheus understands every one."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana import DASHBOARDS, __main__
from deploy.grafana.panel import PAGE_COLUMNS, to_json
from services.runtime.metric_rows import metrics
from tests.rails.promql import Named, named

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to everything."""

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")


def known() -> dict[str, set[str]]:
    """Every series that a process has, with its labels, whichever process it is."""
    found: dict[str, set[str]] = {"up": set()}
    for rows in metrics().values():
        for row in rows:
            suffixes = ("_bucket", "_sum", "_count") if row.kind == "histogram" else ("",)
            for suffix in suffixes:
                labels = {*row.labels, "le"} if suffix == "_bucket" else set(row.labels)
                found.setdefault(row.name + suffix, set()).update(labels)
    return found


def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.title}, {panel.title}", query.expr
    for rule in rules():
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expr"), [pytest.param(*it, id=it[0]) for it in expressions()])
def test_every_expression_names_metrics_and_labels_that_exist(where: str, expr: str) -> None:
    series, it = known(), named(expr)
    assert it.metrics
    assert it.metrics <= set(series), where
    assert {(name, label) for name, label in it.selected if label not in series[name] | SCRAPED} == set(), where
    carried = SCRAPED.union(*(series[name] for name in it.metrics))
    assert it.grouped <= carried, where


def test_a_name_or_label_that_does_not_exist_would_be_found() -> None:
    it = named('sum by (role, tier) (rate(moonpool_x_total{way!="in", y=~"a|b"}[5m])) / on (z) up > 0 or vector(0)')
    assert it == Named(
        frozenset({"moonpool_x_total", "up"}),
        frozenset({("moonpool_x_total", "way"), ("moonpool_x_total", "y")}),
        it.grouped,
    )
    assert {"tier", "z"} <= it.grouped


def test_legends_name_labels_that_their_series_have() -> None:
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                labels = {word.partition("}}")[0] for word in query.legend.split("{{")[1:]}
                assert labels <= named(query.expr).grouped, (panel.title, query.legend)


def test_generated_dashboards_are_fresh() -> None:
    assert __main__.main(["--check"]) == 0, "run make docs"


def test_every_panel_says_what_to_do_and_none_overlaps_another() -> None:
    uids = [dashboard.uid for dashboard in DASHBOARDS]
    assert len(set(uids)) == len(uids)
    for dashboard in DASHBOARDS:
        titles = [panel.title for panel in dashboard.panels]
        assert len(set(titles)) == len(titles)
        assert all(len(panel.help.split()) >= 3 for panel in dashboard.panels if panel.red is not None)
        cells: set[tuple[int, int]] = set()
        for panel in to_json(dashboard)["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= PAGE_COLUMNS
            taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not taken & cells, panel["title"]
            cells |= taken


def test_every_alert_says_what_happened_and_what_to_look_at() -> None:
    for rule in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warn")


@promtool
@pytest.mark.slow
def test_prometheus_understands_its_configuration_and_the_alerts_do_what_their_tests_say() -> None:
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, (_, expr) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
