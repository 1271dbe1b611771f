"""SIGKILL of one of two conductors under load: no request is lost, and the restarted one is asked again."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster import READY_S, SLOW_TOY, eventually
from tests.e2e.streams import stream
from tests.e2e.test_apart import Apart, apart

pytestmark = pytest.mark.chaos

STREAMS = 8


def start(it: Apart, directory: Path) -> None:
    it.start("conductor-a", "conductor", "--listen", f"unix:{directory}/conductor-a.sock", host="a")


def test_a_conductor_that_is_killed_costs_no_request(tmp_path: Path) -> None:
    variables = {
        "MOONPOOL_CONDUCTOR": f"unix:{tmp_path}/conductor-a.sock,unix:{tmp_path}/conductor-b.sock",
        "MOONPOOL_STORE": f"unix:{tmp_path}/store.sock",
        "MOONPOOL_ENGINE": "toy",
        "MOONPOOL_INLINE_MAX_TOKENS": "0",
        "MOONPOOL_ARENA_DIR": str(tmp_path),
        "MOONPOOL_RUN_DIR": str(tmp_path),
        "MOONPOOL_DRAM": "64MiB",
        **SLOW_TOY,
    }
    with apart(tmp_path, variables) as it:
        start(it, tmp_path)
        it.start("conductor-b", "conductor", "--listen", f"unix:{tmp_path}/conductor-b.sock", host="a")
        it.start("store", "store", "--listen", f"unix:{tmp_path}/store.sock", host="a")
        for role in ("prefill", "decode"):
            it.start(role, "worker", "--role", role, "--listen", f"unix:{tmp_path}/{role}.sock", host="a")
        it.start("gateway", "gateway", "--port", str(it.port), host="a")

        def told_by(*conductors: str) -> bool:
            with contextlib.suppress(httpx.HTTPError):
                status = it.status()
                asked = [each["id"] for each in status.get("conductors", [])]
                return asked == list(conductors) and len(status["workers"]) == 2
            return False

        try:
            eventually("both know both workers", lambda: told_by("conductor-a", "conductor-b"), READY_S)
        except AssertionError:
            raise AssertionError(it.logs()) from None
        url, started = f"http://127.0.0.1:{it.port}", threading.Semaphore(0)
        with ThreadPoolExecutor(STREAMS) as pool:
            futures = [pool.submit(stream, url, "toy", number, started) for number in range(STREAMS)]
            assert started.acquire(timeout=60)  # one decodes, one prefills, and others are still to be placed
            it.kill("conductor-a")
            later = [pool.submit(stream, url, "toy", number, started) for number in range(STREAMS)]
            endings = [future.result(120) for future in [*futures, *later]]
        assert all(ending.complete for ending in endings), endings
        assert [ending.text for ending in endings[:STREAMS]] == [ending.text for ending in endings[STREAMS:]]

        start(it, tmp_path)
        eventually("the one that restarted is asked first", lambda: told_by("conductor-a", "conductor-b"), READY_S)
        answer = it.http.post("/v1/completions", json={"model": "toy", "prompt": "stream 0", "max_tokens": 2})
        assert answer.status_code == 200
