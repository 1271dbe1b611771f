"""Every panel has something to show of a cluster that works, and no alert is broken: asked of a real Prometheus."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.grafana import DASHBOARDS
from tests.e2e.cluster import Cluster, eventually, free_port, prompt_words

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed"),
]

ROOT = Path(__file__).parents[2]
PROCESSES = {"conductor": "conductor", "store": "store", "prefill": "worker", "decode": "worker"}
"""Jobs, by how names begin."""

RATE = "10s"
"""What Grafana would make of ``$__rate_interval`` for scrapes every half second, and more."""


@contextmanager
def prometheus(directory: Path, jobs: dict[str, list[str]]) -> Iterator[httpx.Client]:
    """One that scrapes these, with the rules that are deployed."""
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(ROOT / "deploy/prometheus/rules.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    command = ["prometheus", *flags, f"--web.listen-address={address}", "--log.level=warn"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=10.0) as http:
            yield http
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20.0)


def answer(http: httpx.Client, path: str, **parameters: str) -> Any:
    try:
        given = http.get(path, params=parameters)
    except httpx.ConnectError:
        return None  # it is starting
    assert given.status_code in (200, 503), given.text
    return given.json()["data"] if given.status_code == 200 else None


def serving(cluster: Cluster) -> dict[str, list[str]]:
    """Where each process serves its metrics, by job, as their logs say."""
    jobs = {"gateway": [f"127.0.0.1:{cluster.port}"]}
    for name, port in re.findall(r"INFO (\S+) metrics host=127\.0\.0\.1 port=(\d+)", cluster.output()):
        jobs.setdefault(PROCESSES[name.rpartition("-")[0]], []).append(f"127.0.0.1:{port}")
    return jobs


def test_every_panel_shows_something_of_a_cluster_that_works_and_every_alert_can_be_told(tmp_path: Path) -> None:
    flags = ("--hosts", "2", "--decode", "2", "--inline-max-tokens", "0")
    cluster = Cluster(tmp_path, *flags, settings={"MOONPOOL_METRICS_PORT": "0"})
    try:
        jobs = serving(cluster.ready())
        assert {job: len(targets) for job, targets in jobs.items()} == {
            "gateway": 1,
            "conductor": 1,
            "store": 2,
            "worker": 3,
        }
        with prometheus(tmp_path, jobs) as http:
            assert not shows_nothing(cluster, http)
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
            found = answer(http, "/query", query=it[2].replace("$__rate_interval", RATE))
            values = [float(sample["value"][1]) for sample in found["result"]] if found else []
            if any(value == value for value in values):  # 0 / 0 is a number to nobody
                empty.discard(it)
        return not empty

    try:
        eventually("every panel shows something", asked, 60.0)
    except AssertionError as error:
        raise AssertionError(f"nothing to show: {sorted(empty)}") from error
    return sorted(map(str, empty))
