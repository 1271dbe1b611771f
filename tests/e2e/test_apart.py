"""Every process started by itself, as on several machines: they find each other by Redis and speak TLS."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.cluster import READY_S, eventually, free_port, prompt_words
from tests.services.registry.server import redis_server
from tests.services.wire.certificates import Authority

pytestmark = pytest.mark.slow


class Apart:
    """Processes with the same variables, each of some host; all are told to end on leaving."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self._directory = directory
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("MOONPOOL_")}
        self._environment |= variables
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)

    def start(self, name: str, command: str, *flags: str, host: str) -> None:
        words = [sys.executable, "-m", "moonpool", command, "--id", name, "--host-id", host, *flags]
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(words, stdout=log, stderr=log, env=self._environment)

    def kill(self, name: str) -> None:
        """SIGKILL; it may be started again."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> dict[str, int]:
        """The exit status of each, in the order of their starting; whoever asks ends before whoever answers."""
        self.http.close()
        statuses = {}
        for name, process in reversed(self._processes.items()):
            process.send_signal(signal.SIGTERM)
            try:
                statuses[name] = process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                statuses[name] = process.wait()
        return statuses

    def status(self) -> dict[str, Any]:
        answer = self.http.get("/status")
        return answer.json() if answer.status_code == 200 else {}

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self._directory.glob("*.log")))


@contextlib.contextmanager
def apart(directory: Path, variables: dict[str, str]) -> Iterator[Apart]:
    made = Apart(directory, variables)
    try:
        yield made
    finally:
        statuses = made.stop()
    assert set(statuses.values()) == {0}, f"{statuses}\n{made.logs()}"


def test_two_hosts_of_separate_processes_find_each_other_and_hand_over(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.files("everybody", "127.0.0.1")
    with redis_server() as redis:
        variables = {
            "MOONPOOL_REDIS_URL": redis.url,
            "MOONPOOL_TLS_CERT": str(cert),
            "MOONPOOL_TLS_KEY": str(key),
            "MOONPOOL_TLS_CA": str(authority.ca),
            "MOONPOOL_ENGINE": "toy",
            "MOONPOOL_INLINE_MAX_TOKENS": "0",
            "MOONPOOL_ARENA_DIR": str(tmp_path),
            "MOONPOOL_RUN_DIR": str(tmp_path),
            "MOONPOOL_DRAM": "64MiB",
            "MOONPOOL_ADVERTISE": "127.0.0.1",
        }
        with apart(tmp_path, variables) as it:
            it.start("conductor-a", "conductor", "--listen", f"0.0.0.0:{free_port()}", host="a")
            for host, role in (("a", "prefill"), ("b", "decode")):
                listen = ("--listen", f"unix:{tmp_path}/{host}.sock", "--transfer-listen", "0.0.0.0:0")
                it.start(f"store-{host}", "store", *listen, host=host)
                it.start(f"worker-{host}", "worker", "--role", role, "--listen", f"0.0.0.0:{free_port()}", host=host)
            it.start("gateway", "gateway", "--port", str(it.port), host="c")

            def joined() -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    homes = {worker["id"]: worker["store"] for worker in it.status().get("workers", [])}
                    return homes == {"worker-a": "store-a", "worker-b": "store-b"}
                return False

            try:
                eventually("everybody has found everybody", joined, READY_S)
            except AssertionError:
                raise AssertionError(it.logs()) from None
            ask = {"model": "toy", "prompt": prompt_words(60), "max_tokens": 8, "temperature": 0}
            first, second = (it.http.post("/v1/completions", json=ask) for _ in range(2))
            assert first.status_code == 200, first.text
            assert first.json()["choices"] == second.json()["choices"]
            assert (first.headers["x-moonpool-prefill"], first.headers["x-moonpool-decode"]) == ("worker-a", "worker-b")
            assert "a peer has connected" in (tmp_path / "store-b.log").read_text(), "blocks came over TLS"

            stranger = httpx.get(f"http://127.0.0.1:{it.port}/status").json()["workers"][0]["address"]
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"http://{stranger}/", timeout=5.0)

            redis.kill()  # from here on they do without
            assert it.http.post("/v1/completions", json=ask).json()["choices"] == first.json()["choices"]
