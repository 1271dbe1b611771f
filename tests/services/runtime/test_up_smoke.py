"""``moonpool up`` as a user has it: it says how to use it, that works, and Ctrl-C leaves nothing."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.cluster import READY_S, Cluster, eventually

pytestmark = pytest.mark.slow
FLAGS = ("--dram", "16MiB")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_what_it_says_works_and_the_end_leaves_nothing(tmp_path: Path, ending: signal.Signals) -> None:
    cluster = Cluster(tmp_path, *FLAGS)
    try:
        cluster.ready()
        line = next(line for line in cluster.output().splitlines() if line.startswith("curl "))
        answer = json.loads(subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=60).stdout)
        assert answer["choices"][0]["message"]["role"] == "assistant"
        children = cluster.children()
        assert len(children) == 5
        cluster.process.send_signal(ending)
        assert cluster.process.wait(20) == 0
        assert psutil.wait_procs(children, timeout=0.1)[1] == []
        assert cluster.leftovers() == []
        assert list(cluster.temp_dir.glob("moonpool-*")) == []
    finally:
        cluster.stop()


def test_the_death_of_the_supervisor_ends_everybody_and_the_next_one_clears_up(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *FLAGS)
    try:
        cluster.ready()
        children = cluster.children()
        cluster.process.kill()
        cluster.process.wait(5)
        eventually("everybody has ended", lambda: not any(map(_lives, children)), 5.0)
        assert cluster.leftovers() != []
    finally:
        cluster.stop()
    again = Cluster(tmp_path, *FLAGS, port=cluster.port)
    try:
        again.ready()
    finally:
        assert again.stop() == 0
    assert again.leftovers() == []


def test_a_second_up_on_the_same_port_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    first = Cluster(tmp_path / "first", *FLAGS)
    try:
        first.ready()
        second = Cluster(tmp_path / "second", *FLAGS, port=first.port)
        assert second.process.wait(20) == 1
        second.stop()
        assert f"port {first.port} on 127.0.0.1 is in use" in second.output()
        assert first.healthy()
    finally:
        assert first.stop() == 0


@pytest.mark.parametrize("reads", [True, False], ids=["the reader leaves", "the reader never reads"])
def test_a_deployment_goes_on_whatever_becomes_of_its_output(tmp_path: Path, reads: bool) -> None:
    """As with `moonpool up 2>&1 | grep -m1 ready`, and a pager that is not turned."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # full with the first lines
    cluster = Cluster(tmp_path, *FLAGS, output=writer)
    os.close(writer)
    try:
        if reads:
            assert b"INFO" in os.read(reader, 4096)
            os.close(reader)
        eventually("it serves", cluster.healthy, READY_S)
        before = cluster.pids()
        cluster.kill("decode-0")
        eventually("the worker is back", lambda: _replaced(cluster, before, "decode-0"), READY_S)
        ask = {"model": "toy", "prompt": "hello", "max_tokens": 2}
        assert cluster.http.post("/v1/completions", json=ask).status_code == 200
    finally:
        assert cluster.stop() == 0
        if not reads:
            os.close(reader)
    assert cluster.leftovers() == []


def test_a_terminal_that_closes_ends_a_deployment_that_leaves_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *FLAGS)
    try:
        cluster.ready()
        children = cluster.children()
        for _ in range(2):  # the shell's, and the kernel's
            cluster.process.send_signal(signal.SIGHUP)
        assert cluster.process.wait(20) == 0
        assert psutil.wait_procs(children, timeout=0.1)[1] == []
        assert cluster.leftovers() == []
    finally:
        cluster.stop()


def test_a_deployment_that_serves_outlives_a_store_that_finds_no_room_for_its_arena(tmp_path: Path) -> None:
    """Its directory is away for longer than a refusal needs to be believed; then it is there again."""
    cluster = Cluster(tmp_path, *FLAGS)
    try:
        cluster.ready()
        away = tmp_path / "away"
        cluster.arena_dir.rename(away)
        cluster.kill("store-0")
        missed = "store-0 does not come back: the deployment goes on without it"
        eventually("it is missed", lambda: missed in cluster.output(), READY_S)
        eventually("it was refused four times", lambda: cluster.output().count("store-0 ended") > 4, READY_S)
        ask = {"model": "toy", "prompt": "hello", "max_tokens": 2}
        assert cluster.http.post("/v1/completions", json=ask).status_code == 200
        assert [each["id"] for each in cluster.status()["gone"]] == ["store-0"]
        away.rename(cluster.arena_dir)
        eventually("it is back", lambda: "store-0 is back" in cluster.output(), READY_S)
        eventually("nothing is gone", lambda: not cluster.status()["gone"], READY_S)
    finally:
        assert cluster.stop() == 0
    assert cluster.leftovers() == []


def test_a_run_directory_that_is_removed_is_made_again_with_all_that_is_called_there(tmp_path: Path) -> None:
    """Then every process is replaced, one by one, and finds the others."""
    cluster = Cluster(tmp_path, *FLAGS)
    try:
        cluster.ready()
        (run_dir,) = cluster.temp_dir.glob("moonpool-*")
        sockets = {path.name for path in run_dir.glob("*.sock")}
        shutil.rmtree(run_dir)
        eventually("sockets are there again", lambda: {path.name for path in run_dir.glob("*.sock")} == sockets, 20.0)
        for name in ("decode-0", "prefill-0", "store-0", "conductor-0", "gateway-0"):
            before = cluster.pids()
            cluster.kill(name)
            eventually(f"{name} is back", partial(_serves_with_another, cluster, before, name), READY_S)
        ask = {"model": "toy", "prompt": "hello", "max_tokens": 2}
        assert cluster.http.post("/v1/completions", json=ask).status_code == 200
    finally:
        assert cluster.stop() == 0
    assert cluster.leftovers() == []


def _serves_with_another(cluster: Cluster, before: dict[str, int], name: str) -> bool:
    with suppress(httpx.HTTPError):
        pids = cluster.pids()
        return pids.keys() == before.keys() and pids[name] != before[name] and cluster.healthy()
    return False


def _replaced(cluster: Cluster, before: dict[str, int], name: str) -> bool:
    return cluster.pids().get(name, before[name]) != before[name]


def _lives(process: psutil.Process) -> bool:
    """A zombie waits for nobody but its parent."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
