"""Any one process dies while streams run: it comes back, nothing stays held, no stream hangs or ends as if complete."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.cluster import SLOW_TOY, Cluster, eventually, running
from tests.e2e.streams import Ending, stream

pytestmark = pytest.mark.chaos

STREAMS = 8


def all_streams(cluster: Cluster, pool: ThreadPoolExecutor) -> tuple[list[Future[Ending]], threading.Semaphore]:
    started = threading.Semaphore(0)
    model = str(cluster.status()["model"])
    return [pool.submit(stream, cluster.url, model, number, started) for number in range(STREAMS)], started


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("deaths"), "--inline-max-tokens", "0", settings=SLOW_TOY) as ready:
        yield ready


@pytest.fixture(scope="module")
def expected(cluster: Cluster) -> list[str]:
    """What each stream says when nothing dies."""
    with ThreadPoolExecutor(STREAMS) as pool:
        futures, _ = all_streams(cluster, pool)
        endings = [future.result(90) for future in futures]
    assert all(ending.complete for ending in endings)
    return [ending.text for ending in endings]


@pytest.mark.parametrize("phase", ["decoding", "prefilling"])
@pytest.mark.parametrize("name", ["prefill-0", "decode-0", "store-0", "conductor-0", "gateway-0"])
def test_sigkill_of_one_process(cluster: Cluster, expected: list[str], name: str, phase: str) -> None:
    cluster.comes_to_rest()
    with ThreadPoolExecutor(STREAMS) as pool:
        futures, started = all_streams(cluster, pool)
        begun = STREAMS if phase == "decoding" else 1  # prefills run one after the other, ~0.5 s each
        for _ in range(begun):
            assert started.acquire(timeout=60)
        old = cluster.kill(name)
        eventually("the dead process is replaced", lambda: recovered(cluster, name, old), 15.0)
        endings = [future.result(90) for future in futures]

    for ending, text in zip(endings, expected, strict=True):
        if ending.complete:
            assert ending.text == text
        else:
            assert ending.error
            assert text.startswith(ending.text)
    if name not in ("decode-0", "gateway-0"):
        assert all(ending.complete for ending in endings), endings
    cluster.comes_to_rest()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that is quick to call a silent process hung."""
    with running(tmp_path_factory.mktemp("hangs"), "--hang-s", "3", settings=SLOW_TOY) as ready:
        yield ready


@pytest.mark.parametrize("name", ["decode-0", "prefill-0", "store-0"])
def test_a_process_that_is_stopped_is_replaced_and_requests_go_on(watched: Cluster, name: str) -> None:
    """SIGSTOP: it lives, holds its locks and its sockets, and does nothing."""
    watched.comes_to_rest()
    model = str(watched.status()["model"])
    old = watched.pids()[name]
    os.kill(old, signal.SIGSTOP)
    eventually("the stopped process is replaced", lambda: recovered(watched, name, old), 30.0)
    assert not psutil.pid_exists(old)
    ending = stream(watched.url, model, 1, threading.Semaphore(0))
    assert ending.complete, ending
    watched.comes_to_rest(15.0)


@pytest.mark.parametrize("name", ["store-0", "store-1"])
def test_requests_go_on_while_a_store_hangs(tmp_path: Path, name: str) -> None:
    """Nothing replaces it here, so an answer that comes has not waited for that. Its tokens are computed anew."""
    flags = ("--hosts", "2", "--hang-s", "0", "--inline-max-tokens", "0")
    with running(tmp_path, *flags, settings=SLOW_TOY) as cluster:
        model = str(cluster.status()["model"])
        before = stream(cluster.url, model, 1, threading.Semaphore(0))
        pid = cluster.pids()[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            during = [stream(cluster.url, model, number, threading.Semaphore(0)) for number in (1, 2)]
            took_s = time.monotonic() - began
        finally:
            os.kill(pid, signal.SIGCONT)
        print(f"{name}: {took_s:.1f} s for two requests")
        assert all(ending.complete for ending in (before, *during)), during
        assert during[0].text == before.text
        cluster.comes_to_rest(30.0)


def recovered(cluster: Cluster, name: str, old: int) -> bool:
    try:
        return cluster.healthy() and cluster.pids().get(name, old) != old
    except httpx.HTTPError:
        return False


def test_sigkill_of_the_supervisor_leaves_no_process_and_the_next_up_clears_what_it_left(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        children = first.children()
        assert len(children) >= 5
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        _gone, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, alive
    assert list(first.arena_dir.iterdir()), "SIGKILL leaves the arena to the next up"
    with running(tmp_path) as second:
        assert sorted(path.suffix for path in second.arena_dir.iterdir()) == ["", ".sock"]
    assert second.leftovers() == []
