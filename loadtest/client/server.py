"""What is asked of a server before a run: its model, its blocks, how it tokenizes, what its chat template adds."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from loadtest.client.bodies import Bodies, Chats, Completions
from loadtest.client.http import cause
from loadtest.client.vocabulary import LocalTokenizer, Tokenizes, VocabularyError, pieces, vocabulary
from loadtest.settings import ENDPOINTS, Endpoint

TIMEOUT_S = 60.0
NOT_READY = 503
TRIED = (3, 40)
"""Tokens of the two messages by which the chat template is measured."""

Document = dict[str, Any]  # JSON


class ServerError(Exception):
    """There is no run with this server; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """status_page: it has a Moonpool's ``/status``."""

    model: str
    max_model_len: int | None = None
    block_tokens: int | None = None
    status_page: bool = False


async def look(http: aiohttp.ClientSession, endpoint: Endpoint) -> Server:
    """Raises ServerError."""
    models = await _ask(http, endpoint, "GET", "/v1/models")
    await _ready(http, endpoint)
    listed = [each for each in models.get("data", ()) if isinstance(each, dict) and each.get("id")]
    named = [each for each in listed if each["id"] == endpoint.model] if endpoint.model else listed
    if not named:
        served = ", ".join(str(each["id"]) for each in listed) or "no model"
        raise ServerError(
            f"{endpoint.url} serves {served}, not {endpoint.model}"
            if endpoint.model
            else f"{endpoint.url} serves no model"
        )
    status = await status_of(http, endpoint)
    longest = named[0].get("max_model_len")
    return Server(
        str(named[0]["id"]),
        int(longest) if isinstance(longest, int) else None,
        endpoint.block_tokens or (status or {}).get("block_tokens"),
        status is not None,
    )


async def _ready(http: aiohttp.ClientSession, endpoint: Endpoint) -> None:
    """Raises ServerError where it says that it isn't. Who has no ``/health`` says nothing."""
    url = endpoint.url + "/health"
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as response:
            if response.status == NOT_READY:
                raise ServerError(f"{endpoint.url} is not ready: {(await response.text(errors='replace'))[:200]}")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ServerError(f"no answer from {url}: {cause(error)[1]}") from error


async def status_of(http: aiohttp.ClientSession, endpoint: Endpoint) -> Document | None:
    """A Moonpool's account of itself; None: it isn't one, or nobody could tell."""
    try:
        found = await _ask(http, endpoint, "GET", "/status")
    except ServerError:
        return None
    return found if isinstance(found.get("workers"), list) else None


async def forget(http: aiohttp.ClientSession, endpoint: Endpoint) -> None:
    """Empty its caches, so that a run finds what the one before found. Raises ServerError."""
    try:
        await _ask(http, endpoint, "POST", "/reset_prefix_cache")
    except ServerError as error:
        raise ServerError(f"its caches can't be reset (a Moonpool needs --dev-endpoints for that): {error}") from error


async def bodies(http: aiohttp.ClientSession, endpoint: Endpoint, server: Server, *, seed: int, ids: bool) -> Bodies:
    """ids: have the server tell the ids that it answers with. Raises ServerError."""
    local = endpoint.tokenizer is not None
    try:
        tokenizer: Tokenizes = (
            LocalTokenizer(endpoint.tokenizer) if endpoint.tokenizer else _Remote(http, endpoint, server.model)
        )
        if endpoint.endpoint == "completions":
            return Completions(endpoint, server.model, await vocabulary(tokenizer), seed=seed, ids=ids)
        texts = await pieces(tokenizer)
    except VocabularyError as error:
        raise ServerError(str(error)) from error
    except ServerError as error:
        remedy = "" if local else "; without its /tokenize, prompts need --tokenizer PATH"
        raise ServerError(f"{error}{remedy}") from error
    added = [await _added(http, endpoint, server.model, texts, tokens) for tokens in TRIED]
    if len(set(added)) > 1:
        raise ServerError(
            f"the chat template adds {added[0]} tokens to one message and {added[1]} to another, so texts of known "
            "length can't be made; use --endpoint completions, whose prompts are token ids"
        )
    return Chats(endpoint, server.model, texts, added[0], seed=seed)


async def _added(http: aiohttp.ClientSession, endpoint: Endpoint, model: str, texts: list[str], tokens: int) -> int:
    """By having it answer, since any server counts what it read."""
    content = "".join(texts[(-1 - place) % len(texts)] for place in range(tokens))
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_completion_tokens": 1}
    answer = await _ask(http, endpoint, "POST", ENDPOINTS["chat"], body)
    counted = (answer.get("usage") or {}).get("prompt_tokens")
    if not isinstance(counted, int):
        raise ServerError(
            f"{endpoint.url} does not tell how many tokens a prompt had, so none of known length can be made"
        )
    return counted - tokens


class _Remote:
    """The server's ``/tokenize``."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: Endpoint, model: str) -> None:
        self._http, self._endpoint, self._model = http, endpoint, model

    async def ids(self, text: str) -> list[int]:
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        found = (await _ask(self._http, self._endpoint, "POST", "/tokenize", body)).get("tokens")
        if not isinstance(found, list) or not all(type(each) is int for each in found):
            raise ServerError(f"{self._endpoint.url}/tokenize does not answer with tokens")
        return found


async def _ask(
    http: aiohttp.ClientSession, endpoint: Endpoint, method: str, path: str, body: Document | None = None
) -> Document:
    """An object, empty where nothing was answered. Raises ServerError."""
    url = endpoint.url.rstrip("/") + path
    data = None if body is None else json.dumps(body).encode()
    try:
        async with http.request(method, url, data=data, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as response:
            text = await response.text(errors="replace")
            status = response.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise ServerError(f"no answer from {url}: {cause(error)[1]}") from error
    if status != 200:
        raise ServerError(f"{url} answers with HTTP {status}: {text[:200]}")
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise ServerError(f"{url} does not answer with JSON") from error
    if not isinstance(found, dict):
        raise ServerError(f"{url} answers with {type(found).__name__}, not with an object")
    return found
