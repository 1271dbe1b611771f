"""A real Prometheus that scrapes a cluster of this machine, as the deployed one does: its jobs, rules and labels."""

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

from tests.e2e.cluster import Cluster, free_port

installed = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")

DEPLOYED = Path(__file__).parents[2] / "deploy/prometheus"
JOBS = {"conductor": "conductor", "store": "store", "prefill": "worker", "decode": "worker"}
"""By how names of processes begin."""

SCRAPE = "500ms"
RATE = "10s"
"""What Grafana would make of ``$__rate_interval`` for such scrapes, and more."""


@contextmanager
def prometheus(directory: Path, targets: dict[str, list[str]]) -> Iterator[httpx.Client]:
    """By the deployed configuration, but for where things are, by job, and how often they are asked."""
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
    config["rule_files"] = [str(DEPLOYED / file) for file in config["rule_files"]]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    assert {job["job_name"] for job in config["scrape_configs"]} == set(targets)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    command = ["prometheus", *flags, f"--web.listen-address={address}", "--log.level=warn"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=10.0, trust_env=False) as http:
            yield http
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20.0)


def answer(http: httpx.Client, path: str, **parameters: str) -> Any:
    """What it answers; None while it starts. An expression that it does not understand fails the test."""
    try:
        given = http.get(path, params=parameters)
    except httpx.ConnectError:
        return None
    assert given.status_code in (200, 503), f"{parameters}: {given.text}"
    return given.json()["data"] if given.status_code == 200 else None


def values(http: httpx.Client, query: str, *, at: float | None = None) -> list[float]:
    """Of each series, but for what is not a number: 0 / 0 is no figure."""
    found = answer(http, "/query", query=query, **({} if at is None else {"time": str(at)}))
    numbers = [float(sample["value"][1]) for sample in found["result"]] if found else []
    return [number for number in numbers if number == number]


def targets_of(cluster: Cluster) -> dict[str, list[str]]:
    """Where each process serves its metrics, by job, as their logs say."""
    jobs = {"gateway": [f"127.0.0.1:{cluster.port}"]}
    for name, port in re.findall(r"INFO (\S+) metrics host=127\.0\.0\.1 port=(\d+)", cluster.output()):
        jobs.setdefault(JOBS[name.rpartition("-")[0]], []).append(f"127.0.0.1:{port}")
    return jobs
