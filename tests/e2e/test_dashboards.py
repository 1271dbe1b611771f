"""Every panel has something to show of a cluster that works, and no alert is broken: asked of a real Prometheus."""

import json
from pathlib import Path

import httpx
import pytest

from deploy.grafana import DASHBOARDS, overview
from tests.e2e.cluster import Cluster, eventually, prompt_words
from tests.e2e.prometheus import RATE, answer, installed, prometheus, targets_of, values

pytestmark = [pytest.mark.slow, installed]


def test_every_panel_shows_something_of_a_cluster_that_works_and_every_alert_can_be_told(tmp_path: Path) -> None:
    flags = ("--hosts", "2", "--decode", "2", "--inline-max-tokens", "0")
    cluster = Cluster(tmp_path, *flags, settings={"MOONPOOL_METRICS_PORT": "0"})
    try:
        jobs = targets_of(cluster.ready())
        assert {job: len(targets) for job, targets in jobs.items()} == {
            "gateway": 1,
            "conductor": 1,
            "store": 2,
            "worker": 3,
        }
        with prometheus(tmp_path, jobs) as http:
            assert not shows_nothing(cluster, http)
            kept = next(each for each in overview.DASHBOARD.panels if each.title == "Promises kept").queries[0].expr
            assert values(http, kept.replace("$__rate_interval", RATE)) == [1], "all were, and none was ever missed"
            groups = answer(http, "/rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
            excited = {rule["name"] for rule in rules if rule["state"] != "inactive"}
            assert excited <= {"MoonpoolPredictionsOff"}, "the toy engine's work is too short to be predicted well"
    finally:
        cluster.stop()


def shows_nothing(cluster: Cluster, http: httpx.Client) -> list[str]:
    """The panels that are still empty in the end, of those that may not be: asked while requests come."""
    empty = {
        (dashboard.title, panel.title, query.expr)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
        if not panel.rare
    }
    assert len(empty) > 80
    count = 0

    def asked() -> bool:
        nonlocal count
        count += 1
        wish = {"slo": {"ttft_ms": 60_000}} if count % 2 else {}
        prompt = f"{count // 2} of them: {prompt_words(100)}"
        ask = {"model": "toy", "prompt": prompt, "max_tokens": 8, **wish}
        assert cluster.http.post("/v1/completions", content=json.dumps(ask)).status_code == 200
        for it in list(empty):
            if values(http, it[2].replace("$__rate_interval", RATE)):
                empty.discard(it)
        return not empty

    try:
        eventually("every panel shows something", asked, 60.0)
    except AssertionError as error:
        raise AssertionError(f"nothing to show: {sorted(empty)}") from error
    return sorted(map(str, empty))
