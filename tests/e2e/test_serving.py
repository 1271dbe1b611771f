"""A toy cluster of real processes, used as a client uses it; every prompt is handed over."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.e2e.cluster import SLOW_TOY, Cluster, prompt_words, running

HELD_ON = 400
"""Tokens of a stream that is left in its middle."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("serving")
    with running(directory, "--inline-max-tokens", "0", "--dev-endpoints", settings=SLOW_TOY) as ready:
        yield ready
    assert ready.process.returncode == 0
    assert ready.leftovers() == []


@pytest.fixture
def client(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def model(cluster: Cluster) -> str:
    return str(cluster.status()["model"])


def test_the_openai_client_gets_one_answer_streamed_and_whole(cluster: Cluster, client: openai.OpenAI) -> None:
    ask = {"model": model(cluster), "prompt": prompt_words(30), "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**ask)  # type: ignore[call-overload]
    streamed = client.completions.create(**ask, stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == whole.choices[0].text
    assert whole.usage.completion_tokens == 20
    assert whole.choices[0].finish_reason == "length"
    cluster.comes_to_rest()


def test_a_prompt_goes_through_two_processes_and_says_so(cluster: Cluster) -> None:
    before = cluster.status()["handoffs"]
    answer = cluster.http.post(
        "/v1/chat/completions",
        json={"model": model(cluster), "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-moonpool-prefill"] == "prefill-0"
    assert answer.headers["x-moonpool-decode"] == "decode-0"
    assert cluster.status()["handoffs"] == before + 1
    pids = cluster.pids()
    assert pids["prefill-0"] != pids["decode-0"]


def test_cached_tokens_count_reuse_and_never_the_handoff(cluster: Cluster) -> None:
    cluster.http.post("/reset_prefix_cache").raise_for_status()
    ask = {"model": model(cluster), "prompt": prompt_words(60), "max_tokens": 4, "temperature": 0}
    first, second = (cluster.http.post("/v1/completions", json=ask).json() for _ in range(2))
    prompt_tokens = first["usage"]["prompt_tokens"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == (prompt_tokens - 1) // 64 * 64
    assert first["choices"][0]["text"] == second["choices"][0]["text"]


@pytest.mark.parametrize("when", ["in prefill", "in its middle"])
def test_a_client_that_leaves_frees_everything_within_a_second(cluster: Cluster, when: str) -> None:
    ask = {"model": model(cluster), "prompt": prompt_words(200), "max_tokens": HELD_ON, "stream": True}
    if when == "in prefill":
        ask["prompt"] = "another start " + prompt_words(200)
        with pytest.raises(httpx.ReadTimeout):
            cluster.http.post("/v1/completions", json=ask, timeout=0.5)
    else:
        with cluster.http.stream("POST", "/v1/completions", json=ask) as answer:
            lines = (line for line in answer.iter_lines() if line)
            for _ in range(3):
                next(lines)
    cluster.comes_to_rest(within_s=1.5)  # a second, and the interval of two reports


def test_a_client_that_leaves_a_whole_answer_frees_everything(cluster: Cluster) -> None:
    ask = {"model": model(cluster), "prompt": prompt_words(5), "max_tokens": HELD_ON}
    with pytest.raises(httpx.ReadTimeout):
        cluster.http.post("/v1/completions", json=ask, timeout=0.5)
    cluster.comes_to_rest(within_s=1.5)


@pytest.mark.parametrize(
    ("body", "status", "parameter"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 10**9}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": "warm"}, 400, "temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "no-such-model"}, 404, "model"),
        ({"messages": [{"role": "user", "content": "x" * 200_000}]}, 400, "messages"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(
    cluster: Cluster, body: bytes | dict[str, object], status: int, parameter: str | None
) -> None:
    if isinstance(body, dict):
        body = json.dumps({"model": model(cluster)} | body).encode()
    answer = cluster.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == status, answer.text
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in answer.text
    assert parameter is None or error["param"].split(".")[0].split("[")[0] == parameter
    cluster.comes_to_rest()
