"""``moonpool up`` as a user has it: it says how to use it, that works, and Ctrl-C leaves nothing."""

import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.e2e.cluster import Cluster, eventually

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


def _lives(process: psutil.Process) -> bool:
    """A zombie waits for nobody but its parent."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
