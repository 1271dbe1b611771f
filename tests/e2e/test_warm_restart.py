"""What is on the SSD outlives everybody: kill all processes, start again, and a prompt seen before is found."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.models.embedded import EMBEDDED_MODEL
from services.models.resolve import resolve_model
from services.runtime.paths import default_data_dir
from tests.e2e.cluster import SLOW_TOY, Cluster, eventually, prompt_words

TOKENS = 1500
CACHED = 1400


@pytest.mark.model
@pytest.mark.timeout(400)
def test_the_embedded_model_finds_a_prompt_on_the_ssd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The data directory is the test's own, so that no SSD file of anybody else is found; the model is the user's.
    model = resolve_model(EMBEDDED_MODEL, default_data_dir()).directory
    cold_s, warm_s = found_again(tmp_path, "--model", str(model), "--ssd", "256MiB", engine="torch")
    with capsys.disabled():
        times = f"cold {cold_s:.3f} s, from the SSD after a restart {warm_s:.3f} s"
        print(f"\nfirst token of a prompt of {TOKENS} tokens: {times}, {cold_s / warm_s:.1f} times shorter")


@pytest.mark.slow
def test_two_hosts_find_a_prompt_on_the_ssd(tmp_path: Path) -> None:
    found_again(tmp_path, "--hosts", "2", "--inline-max-tokens", "0", engine="toy")


def found_again(directory: Path, *flags: str, engine: str) -> tuple[float, float]:
    """Seconds until the first token of the same prompt: cold, and from the SSD of a deployment that was killed."""
    with started(directory, *flags, engine=engine) as cluster:
        prompt = tokens(cluster)
        first_token(cluster, prompt[::-1])  # whatever comes first is slower
        cold = first_token(cluster, prompt)
        assert cold.cached_tokens == 0
        eventually("all is on the SSD", lambda: written(cluster), 15.0)
        kill_everybody(cluster)
    with started(directory, *flags, engine=engine, port=cluster.port) as again:
        first_token(again, prompt[::-1])
        warm = first_token(again, prompt)
        assert warm.cached_tokens >= CACHED
        assert warm.text == cold.text
        hits = [store["hits"] for store in again.status()["stores"]]
        assert sum(each["ssd"] for each in hits) >= 2 * (CACHED // 64), hits
        again.comes_to_rest()
    return cold.ttft_s, warm.ttft_s


class First:
    """A streamed answer: when its first token came, all its text, and what was reused."""

    def __init__(self, ttft_s: float, text: str, cached_tokens: int) -> None:
        self.ttft_s, self.text, self.cached_tokens = ttft_s, text, cached_tokens


def first_token(cluster: Cluster, prompt: Sequence[int]) -> First:
    ask = {"model": cluster.status()["model"], "prompt": prompt, "max_tokens": 8, "temperature": 0, "stream": True}
    ask["stream_options"] = {"include_usage": True}
    begin, came, text, usage = time.perf_counter(), 0.0, "", None
    with cluster.http.stream("POST", "/v1/completions", json=ask) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["text"]
                came = came or (time.perf_counter() if text else 0.0)
    assert usage is not None
    return First(came - begin, text, usage["prompt_tokens_details"]["cached_tokens"])


def tokens(cluster: Cluster) -> list[int]:
    made: list[int] = cluster.http.post("/tokenize", json={"prompt": prompt_words(TOKENS)}).json()["tokens"][:TOKENS]
    assert len(made) == TOKENS
    return made


def written(cluster: Cluster) -> bool:
    """Every store has on its SSD all that it is to have there."""
    stores: list[dict[str, Any]] = cluster.status()["stores"]
    ready = all(store["ssd"]["state"] == "on" and store["ssd_pending"] == 0 for store in stores)
    return ready and max(store["ssd"]["slots_held"] for store in stores) >= 2 * (TOKENS // 64)


def kill_everybody(cluster: Cluster) -> None:
    """At once, and the supervisor first: nobody has a moment to put anything in order."""
    children = cluster.children()
    for process in [psutil.Process(cluster.process.pid), *children]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.process.wait()
    assert psutil.wait_procs(children, timeout=5)[1] == []


@contextlib.contextmanager
def started(directory: Path, *flags: str, engine: str, port: int | None = None) -> Iterator[Cluster]:
    settings = SLOW_TOY if engine == "toy" else None
    cluster = Cluster(directory, *flags, engine=engine, settings=settings, port=port)
    try:
        yield cluster.ready()
    finally:
        cluster.stop()
