"""The embedded model behind real processes: it knows its capital cities, and the cache outlives every worker."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from services.runtime.paths import default_data_dir
from tests.e2e.cluster import Cluster, eventually, prompt_words, running

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("real")
    flags = ("--inline-max-tokens", "0", "--ssd", "0")  # what is cached is not to come from an earlier test
    with running(directory, *flags, engine="torch", data_dir=default_data_dir()) as ready:
        yield ready


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_capital_of_france_is_paris_through_two_processes(cluster: Cluster, streamed: bool) -> None:
    before = cluster.status()["handoffs"]
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        model = client.models.list().data[0].id
        ask = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 40}
        if streamed:
            chunks = client.chat.completions.create(**ask, stream=True)  # type: ignore[call-overload]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            text = client.chat.completions.create(**ask).choices[0].message.content  # type: ignore[call-overload]
    assert "Paris" in text
    assert cluster.status()["handoffs"] == before + 1


def test_a_long_prompt_is_found_again_even_after_every_worker_was_killed(cluster: Cluster) -> None:
    ask = {"model": cluster.status()["model"], "prompt": long_prompt(cluster), "max_tokens": 8, "temperature": 0}
    first, second = (complete(cluster, ask) for _ in range(2))
    assert first["usage"]["prompt_tokens"] == 1500
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 1400

    old = cluster.pids()
    workers = [name for name in old if name.startswith(("prefill", "decode"))]
    for name in workers:
        os.kill(old[name], signal.SIGKILL)

    def replaced() -> bool:
        try:
            new = cluster.pids()
            return cluster.healthy() and all(new.get(name, old[name]) != old[name] for name in workers)
        except httpx.HTTPError:
            return False

    eventually("every worker is replaced", replaced, 30.0)
    third = complete(cluster, ask)
    assert third["usage"]["prompt_tokens_details"]["cached_tokens"] >= 1400
    # The same tiles of 64 from the same bytes: the text is the one that was computed from nothing.
    assert second["choices"][0]["text"] == third["choices"][0]["text"]
    cluster.comes_to_rest()


def test_chats_between_two_hosts_fetch_what_was_decoded_and_no_fetch_comes_up_short(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The next turn is prefilled on one host, and what the other one has decoded of the last turn is fetched."""
    flags = ("--hosts", "2", "--inline-max-tokens", "0", "--threads", "1", "--ssd", "0", "--log-level", "debug")
    with running(tmp_path_factory.mktemp("chats"), *flags, engine="torch", data_dir=default_data_dir()) as cluster:
        ask = {"model": cluster.status()["model"], "temperature": 0, "ignore_eos": True, "return_token_ids": True}
        for chat in range(2):
            text: list[int] = []
            for turn in range(3):
                said = {"prompt": f"{chat}, {turn}: {prompt_words(40)}"}
                text += cluster.http.post("/tokenize", json=said).json()["tokens"]
                answer = complete(cluster, {**ask, "prompt": text, "max_tokens": 150})
                text += answer["choices"][0]["token_ids"]
        found = {each["id"]: each["hits"] for each in cluster.status()["stores"]}
        assert found["store-0"]["peer"] >= 4, "two blocks of each turn were decoded on the other host"
        for words in ("broke off", "has less than was believed"):
            assert words not in cluster.output(), cluster.output()[-3000:]


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_in_float32_a_handoff_changes_no_token(float32: tuple[Cluster, Cluster], length: int) -> None:
    handed_over, inline = float32
    tokens = handed_over.http.post("/tokenize", json={"prompt": prompt_words(400)}).json()["tokens"][:length]
    answers = []
    for cluster in (handed_over, inline):
        ask = {"model": cluster.status()["model"], "prompt": tokens, "max_tokens": 32, "temperature": 0}
        answers.append(complete(cluster, ask)["choices"][0]["text"])
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    """Two clusters of the same model: one hands every prompt over, one has a single decode worker that does it all."""
    flags = ["--dtype", "float32", "--threads", "1", "--max-model-len", "1024", "--ssd", "0"]
    names = ("over", "inline")
    over, inline = (tmp_path_factory.mktemp(name) for name in names)
    with (
        running(over, *flags, "--inline-max-tokens", "0", engine="torch", data_dir=default_data_dir()) as first,
        running(inline, *flags, "--prefill", "0", engine="torch", data_dir=default_data_dir()) as second,
    ):
        yield first, second


def complete(cluster: Cluster, ask: dict[str, object]) -> Any:
    answer = cluster.http.post("/v1/completions", json=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()


def long_prompt(cluster: Cluster) -> list[int]:
    tokens = cluster.http.post("/tokenize", json={"prompt": prompt_words(1500)}).json()["tokens"][:1500]
    assert len(tokens) == 1500
    return list(tokens)
