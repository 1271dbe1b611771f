"""Several stores on one machine, as if on several hosts: every hand-over crosses a socket, and nothing else changes."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.cluster import SLOW_TOY, Cluster, eventually, prompt_words, running
from tests.e2e.streams import Ending, stream

pytestmark = pytest.mark.slow

PROMPTS = [1, 5, 20, 60, 200]
"""Words, up to 1,456 tokens: short blocks alone, whole ones, and both."""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    """The same with three hosts, one of which only lends its store, and with one; started side by side."""
    flags = ("--inline-max-tokens", "0", "--log-level", "debug")
    with contextlib.ExitStack() as stack:
        many = Cluster(tmp_path_factory.mktemp("many"), "--hosts", "3", *flags)
        stack.callback(many.stop)
        one = Cluster(tmp_path_factory.mktemp("one"), *flags)
        stack.callback(one.stop)
        yield many.ready(), one.ready()


def complete(cluster: Cluster, prompt: str) -> Any:
    ask = {"model": "toy", "prompt": prompt, "max_tokens": 20, "temperature": 0}
    answer = cluster.http.post("/v1/completions", json=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()


def handoffs_missing(cluster: Cluster) -> list[int]:
    """For each request that was handed over: the blocks that did not come, and were computed anew."""
    return [int(count) for count in re.findall(r" missing_blocks=(\d+)", cluster.output())]


def stores(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {store["id"]: store for store in cluster.status()["stores"]}


def test_the_text_is_the_same_as_on_one_host_and_no_block_is_lost_on_the_way(clusters: tuple[Cluster, Cluster]) -> None:
    many, one = clusters
    homes = {worker["id"]: worker["store"] for worker in many.status()["workers"]}
    assert homes == {"prefill-0": "store-0", "decode-0": "store-2"}
    for words in PROMPTS:
        prompt = f"{words} of them: {prompt_words(words)}"
        for _ in range(2):  # the second time the prefix is cached at both ends
            assert complete(many, prompt)["choices"] == complete(one, prompt)["choices"]
    eventually("all is in the log", lambda: len(handoffs_missing(many)) == 2 * len(PROMPTS), 5.0)
    assert handoffs_missing(many) == [0] * 2 * len(PROMPTS)
    assert stores(many)["store-2"]["slots_sealed"] >= 1456 // 64, "its own worker was never asked for a prefill"
    for cluster in clusters:
        cluster.comes_to_rest()


def test_a_store_that_nobody_works_at_is_seen(clusters: tuple[Cluster, Cluster]) -> None:
    lent = stores(clusters[0])["store-1"]
    assert (lent["slots_total"], lent["owners"]) == (0, [])  # nobody has told it how large a block is


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ("--hosts", "2", "--inline-max-tokens", "0")
    with running(tmp_path_factory.mktemp("slow"), *flags, settings=SLOW_TOY) as ready:
        yield ready


@pytest.fixture(scope="module")
def expected(slow: Cluster) -> list[Ending]:
    """What each stream says when nothing dies."""
    return streams(slow, kill=None)


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["store-0", "store-1"])
def test_when_a_store_dies_every_stream_goes_on(slow: Cluster, expected: list[Ending], name: str) -> None:
    assert all(ending.complete for ending in expected), expected
    slow.comes_to_rest()
    old = slow.pids()[name]
    assert streams(slow, kill=name) == expected
    eventually("the store is back", lambda: slow.pids().get(name, old) != old, 20.0)
    slow.comes_to_rest()
    assert streams(slow, kill=None) == expected
    slow.comes_to_rest()


def streams(cluster: Cluster, *, kill: str | None) -> list[Ending]:
    """Six at a time, some of them in their prefill and some in their decode when a process is killed."""
    started = threading.Semaphore(0)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(stream, cluster.url, "toy", number, started) for number in range(6)]
        if kill is not None:
            for _ in range(2):  # prefills run one after the other, about 0.6 s each
                assert started.acquire(timeout=60)
            os.kill(cluster.pids()[kill], signal.SIGKILL)
        return [future.result(90) for future in futures]
