"""A `moonpool up` of its own, as a user starts it: a child process, a free port, directories that nobody else has."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

READY_S = 90.0
"""Two workers import torch and warm up on two shared cores; seconds where the machine is quiet."""

DRAM, SSD = "256MiB", "64MiB"
"""Of each store, unless flags say otherwise: by default they would be gigabytes."""

SLOW_TOY = {"MOONPOOL_TOY_PROFILE": '{"prefill_s": [0, 0.002, 0], "step_s": [0.02, 0, 0], "transfer_s": [0, 0]}'}
"""A toy engine that takes its time, 2 ms a prompt token and 20 ms a step, so that there is a middle to stop in."""

T = TypeVar("T")


def eventually(what: str, ask: Callable[[], T | None], within_s: float) -> T:
    """The first true answer of ``ask``; AssertionError naming ``what`` when none came in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        pause.wait(0.03)


def free_port() -> int:
    """Below those that the kernel picks where any will do, as for metrics ports: one would take it meanwhile."""
    while True:
        port = secrets.choice(range(20_000, 32_768))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Cluster:
    """One running `moonpool up`; ``stop`` ends it as Ctrl-C would."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        engine: str = "toy",
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        output: int | None = None,
    ) -> None:
        """output: a descriptor for what it writes; else ``log`` has it."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arena_dir = directory / "arena"
        self.temp_dir = directory / "tmp"
        for made in (self.arena_dir, self.temp_dir):
            made.mkdir(parents=True, exist_ok=True)
        self.log = directory / "up.log"
        command = [sys.executable, "-m", "moonpool", "up", "--engine", engine, "--port", str(self.port)]
        command += ["--data-dir", str(data_dir or directory / "data"), "--arena-dir", str(self.arena_dir)]
        command += ["--dram", DRAM, "--ssd", SSD, *flags]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MOONPOOL_")}
        environment |= {"TMPDIR": str(self.temp_dir), **(settings or {})}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self.http = httpx.Client(base_url=self.url, timeout=60.0)

    def ready(self, within_s: float = READY_S) -> "Cluster":
        def healthy() -> bool:
            assert self.process.poll() is None, f"up ended with {self.process.returncode}:\n{self.output()}"
            return self.healthy() and "curl" in self.output()

        eventually("the cluster is ready", healthy, within_s)
        return self

    def healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/health").status_code == 200
        return False

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        answer = self.http.get("/status")
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def pids(self) -> dict[str, int]:
        """Process id by name: workers, stores, conductors, gateways."""
        status = self.status()
        return {
            each["id"]: each["pid"] for kind in ("workers", "stores", "conductors", "gateways") for each in status[kind]
        }

    def kill(self, name: str) -> int:
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def at_rest(self) -> bool:
        """Nothing runs, nothing is leased or half-written, no device block is held, and every slot is accounted for."""
        status = self.status()
        return all(
            store["leases"] == 0
            and store["slots_writing"] == 0
            and store["slots_free"] + store["slots_writing"] + store["slots_sealed"] == store["slots_total"]
            for store in status["stores"]
        ) and all(
            worker["running"] == 0
            and worker["waiting"] == 0
            and worker["device_blocks_free"] == worker["device_blocks_total"]
            for worker in status["workers"]
        )

    def comes_to_rest(self, within_s: float = 5.0) -> None:
        def resting() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return self.at_rest()
            return False

        try:
            eventually("the cluster is at rest", resting, within_s)
        except AssertionError:
            raise AssertionError(f"not at rest: {self.status()}\n{self.output()[-3000:]}") from None

    def stop(self, within_s: float = 20.0) -> int:
        """Ctrl-C; the exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"up did not end within {within_s} s:\n{self.output()[-3000:]}") from None

    def leftovers(self) -> list[str]:
        """Files in the arena directory, and sockets in the run directory."""
        sockets = [path for path in self.temp_dir.rglob("*") if path.is_socket()]
        return [str(path) for path in [*self.arena_dir.iterdir(), *sockets]]


@contextlib.contextmanager
def running(
    directory: Path,
    *flags: str,
    engine: str = "toy",
    data_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A ready cluster; on leaving it has ended, whatever happened."""
    cluster = Cluster(directory, *flags, engine=engine, data_dir=data_dir, settings=settings)
    try:
        yield cluster.ready()
    finally:
        cluster.stop()


def prompt_words(count: int) -> str:
    """A text whose every word differs."""
    return " ".join(re.sub("0x", "w", hex(number * 7919)) for number in range(count))
