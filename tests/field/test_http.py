"""What clients and strangers send over HTTP, and what is right.

Sources: RFC 9110 and 9112 for status codes and framing; curl 8, Go's net/http, Java's HttpClient (JDK 11 to 21, which
offers h2c with every plain request), aiohttp 3 and requests 2 for what clients really send; Ollama 0.5's lists for
hosts and origins; llhttp 9 (in httptools 0.9) for what is no HTTP.
"""

import gzip
import json
import zlib

import pytest
from starlette.datastructures import Headers

from services.gateway.http.callers import Callers
from services.gateway.text import Text
from tests.field.raw_http import BODY, Reply, asked, chunked, head, post, wire
from tests.services.gateway.conftest import Gateway, running
from tests.services.gateway.fakes.cluster import FakeCluster

ZIPPED = gzip.compress(BODY)
RAW_DEFLATE = zlib.compress(BODY, wbits=-15)
H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
HALVES = gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])

ANSWERED = {
    "a length": post(),
    "chunks": chunked([BODY]),
    "chunks of one byte": chunked([bytes([byte]) for byte in BODY]),
    "chunks with a trailer": chunked([BODY], trailer=b"X-Checksum: abc\r\n"),
    "chunks with an extension": chunked([BODY]).replace(b"\r\n{", b";name=value\r\n{", 1),
    "Java's offer of h2c": post(BODY, *H2C),
    "curl's offer of h2c, in chunks": chunked([BODY[:5], BODY[5:]], *H2C),
    "an absolute target, as for a proxy": post().replace(b"POST /", b"POST http://localhost:8000/", 1),
    "an expectation": post(BODY, "Expect: 100-continue"),
    "gzip": post(ZIPPED, "Content-Encoding: gzip"),
    "gzip by its old name": post(ZIPPED, "Content-Encoding: X-GZIP"),
    "gzip in chunks of one byte": chunked([bytes([byte]) for byte in ZIPPED], "Content-Encoding: gzip"),
    "gzip of two members, as bgzip writes": post(HALVES, "Content-Encoding: gzip"),
    "gzip, padded": post(ZIPPED + b"\0" * 512, "Content-Encoding: gzip"),
    "deflate with zlib's header": post(zlib.compress(BODY), "Content-Encoding: deflate"),
    "raw deflate": post(RAW_DEFLATE, "Content-Encoding: deflate"),
    "raw deflate in chunks of one byte": chunked([bytes([b]) for b in RAW_DEFLATE], "Content-Encoding: deflate"),
    "identity": post(BODY, "Content-Encoding: identity"),
    "identity, then gzip": post(ZIPPED, "Content-Encoding: identity, gzip"),
    "an empty Content-Encoding": post(BODY, "Content-Encoding: "),
    "a byte order mark": post(b"\xef\xbb\xbf" + BODY),
    "a byte order mark, compressed": post(gzip.compress(b"\xef\xbb\xbf" + BODY), "Content-Encoding: gzip"),
}


async def test_a_body_is_read_however_it_comes(gateway: Gateway) -> None:
    wrong = {}
    for name, request in ANSWERED.items():
        connection = await wire(gateway.url)
        for turn in ("alone", "after it on the same connection"):
            connection.send(request)
            reply = await connection.reply()
            if reply.status != 200 or json.loads(reply.body)["usage"]["prompt_tokens"] != 5:
                wrong[name, turn] = reply
        connection.leave()
    assert wrong == {}


BOMB = gzip.compress(b" " * (1 << 20))
MODEL = {"prompt": "x"}
LONG = "m" * 50_000

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "brotli": (post(BODY, "Content-Encoding: br"), 415, "`br` is not read here; gzip and deflate are."),
    "zstandard": (post(BODY, "Content-Encoding: zstd"), 415, "`zstd`"),
    "gzip twice": (post(gzip.compress(ZIPPED), "Content-Encoding: gzip, gzip"), 415, "2 times (`gzip, gzip`)"),
    "gzip twice, in two headers": (
        post(gzip.compress(ZIPPED), "Content-Encoding: gzip", "Content-Encoding: gzip"),
        415,
        "2 times",
    ),
    "a long name of an encoding": (post(BODY, "Content-Encoding: " + "z" * 5000), 415, "which has 5000 characters"),
    "gzip as a transfer encoding": (
        chunked([ZIPPED]).replace(b": chunked", b": gzip, chunked"),
        415,
        "only chunked is read",
    ),
    "gzip that is none": (post(BODY, "Content-Encoding: gzip"), 400, "not valid gzip: incorrect header check."),
    "gzip without its end": (post(ZIPPED[:-9], "Content-Encoding: gzip"), 400, "not valid gzip: it ends too early."),
    "gzip of which the head alone came": (post(ZIPPED[:5], "Content-Encoding: gzip"), 400, "it ends too early."),
    "gzip with a wrong checksum": (
        post(ZIPPED[:-8] + b"\0" * 8, "Content-Encoding: gzip"),
        400,
        "not valid gzip: incorrect data check.",
    ),
    "gzip and something after it": (post(ZIPPED + b"more", "Content-Encoding: gzip"), 400, "not valid gzip"),
    "deflate and something after it": (
        post(zlib.compress(BODY) + b"more", "Content-Encoding: deflate"),
        400,
        "not valid deflate: bytes follow its end.",
    ),
    "deflate that is none": (post(b"\xff" * 40, "Content-Encoding: deflate"), 400, "not valid deflate"),
    "deflate of one byte": (post(b"x", "Content-Encoding: deflate"), 400, "not valid deflate: it ends too early."),
    "an empty body, compressed": (post(b"", "Content-Encoding: gzip"), 400, "The body is empty"),
    "a bomb": (post(BOMB * 3, "Content-Encoding: gzip"), 413, "longer than 65536 bytes when it is decoded."),
    "a bomb of zlib's": (post(zlib.compress(b" " * 70_000), "Content-Encoding: deflate"), 413, "when it is decoded."),
    "a body that is too long": (post(b" " * 70_000), 413, "The body is longer than 65536 bytes."),
    "chunks that are too long": (chunked([b" " * 9_000] * 8), 413, "The body is longer than 65536 bytes."),
    "UTF-16 with its mark": (post(BODY.decode().encode("utf-16")), 400, "The body is UTF-16; JSON is sent as UTF-8."),
    "UTF-16 without, little endian": (post(BODY.decode().encode("utf-16-le")), 400, "The body is UTF-16;"),
    "UTF-16 without, big endian": (post(BODY.decode().encode("utf-16-be")), 400, "The body is UTF-16;"),
    "UTF-32": (post(BODY.decode().encode("utf-32")), 400, "The body is UTF-32;"),
    "UTF-32 without its mark": (post(BODY.decode().encode("utf-32-be")), 400, "The body is UTF-32;"),
    "Latin-1": (post('{"prompt": "é"}'.encode("latin-1")), 400, "not valid JSON"),
    "a mark and nothing after it": (post(b"\xef\xbb\xbf"), 400, "The body is empty"),
    "two lengths": (post(BODY, "Content-Length: 3"), 400, "This is no HTTP/1.1 request"),
    "a length and chunks": (post(BODY, "Transfer-Encoding: chunked"), 400, "This is no HTTP/1.1 request"),
    "a negative length": (head("POST /v1/completions", "Content-Length: -5"), 400, "This is no HTTP/1.1 request"),
    "a length that is no number": (head("POST /x", "Content-Length: ten"), 400, "This is no HTTP/1.1 request"),
    "a length of 23 digits": (head("POST /x", "Content-Length: 9" + "9" * 22), 400, "This is no HTTP/1.1 request"),
    "a length that is too long, asked for": (
        head("POST /v1/completions", "Expect: 100-continue", "Content-Length: 9999999999"),
        413,
        "longer than 65536",
    ),
    "a chunk size that is none": (head("POST /v1/completions", "Transfer-Encoding: chunked") + b"zz\r\n", 400, "chunk"),
    "chunks of framing": (
        head("POST /v1/completions", "Transfer-Encoding: chunked") + b"5;" + b"x" * 400_000,
        400,
        "mostly framing",
    ),
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 40, 400, "This is no HTTP/1.1 request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "This is no HTTP/1.1 request"),
    "a method in small letters": (head("get /live"), 400, "This is no HTTP/1.1 request"),
    "a method without an end": (b"A" * 70_000, 400, "This is no HTTP/1.1 request"),
    "a tunnel": (head("CONNECT example.com:443"), 400, "CONNECT is for proxies"),
    "bytes in a path": (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "This is no HTTP/1.1 request"),
    "a long path": (head("GET /" + "p" * 9_000), 414, "longer than 8192 bytes."),
    "a path of 70,000 bytes": (head("GET /" + "p" * 70_000), 414, "longer than 8192 bytes."),
    "a long query": (head("GET /live?" + "q" * 9_000), 414, "longer than 8192 bytes."),
    "a long header": (head("GET /live", "X: " + "h" * 70_000), 431, "longer than 65536 bytes."),
    "a header without an end": (b"GET /live HTTP/1.1\r\nX: " + b"h" * 400_000, 431, "longer than 65536 bytes."),
    "a header's name without an end": (b"GET /live HTTP/1.1\r\n" + b"h" * 400_000, 431, "longer than 65536 bytes."),
    "many headers": (head("GET /live", *[f"X-{each}: 1" for each in range(300)]), 431, "more than 256 headers."),
    "headers that are long together": (head("GET /live", *["X: " + "h" * 900] * 80), 431, "longer than 65536 bytes."),
    "a final slash": (
        head("POST /v1/completions/", "Content-Length: 2") + b"{}",
        404,
        "no POST /v1/completions/ here.",
    ),
    "a final slash after models": (head("GET /v1/models/"), 404, "There is no GET /v1/models/ here."),
    "a long path that is not there": (head("GET /" + "p" * 8_000), 404, "ppp... here."),
    "a path with an escape": (head("GET /%1b%5b31m%0a%c2%9b%e2%80%ae"), 404, r"GET /\x1b[31m\n\x9b\u202e here."),
    "a long model": (post(json.dumps({**MODEL, "model": LONG}).encode()), 404, "which has 50000 characters"),
    "a model with an escape": (post(json.dumps({**MODEL, "model": "a\x1b]0;b"}).encode()), 404, r"`a\x1b]0;b`"),
    "a long model's card": (head("GET /v1/models/" + LONG[:8_000]), 404, "which has 8000 characters"),
    "a long name of a field": (post(json.dumps({**MODEL, "slo": {LONG: 1}}).encode()), 400, "slo.mmm"),
    "a preflight": (head("OPTIONS /v1/completions", "Origin: http://localhost:3000"), 405, "POST is."),
    "two hosts": (head("GET /live", "Host: other"), 400, "more than one Host."),
}
MOST_BYTES = 700
"""Of an answer that is an error, whatever the request was."""


async def test_what_can_t_be_read_is_refused_in_openai_s_shape(cluster: FakeCluster, text: Text) -> None:
    wrong: dict[tuple[str, ...], Reply] = {}
    async with running(cluster, text, max_body_bytes=65536) as gateway:
        for name, (request, status, words) in REFUSED.items():
            reply = await asked(gateway.url, request)
            error = reply.error
            if (reply.status, error["type"]) != (status, "invalid_request_error") or words not in error["message"]:
                wrong[name,] = reply
            if len(reply.body) > MOST_BYTES:
                wrong[name, "length"] = reply
        assert (await gateway.http.get("/live")).status_code == 200
    assert wrong == {}


HOSTS = [
    ("localhost", True),
    ("localhost:8000", True),
    ("localhost:", True),
    ("LOCALHOST.:8000", True),
    ("app.localhost", True),
    ("127.0.0.1:8000", True),
    ("127.8.8.8", True),
    ("[::1]:8000", True),
    ("192.168.1.7:8000", True),
    ("host.docker.internal:8000", True),
    ("laptop.local", True),
    ("", True),
    ("evil.example", False),
    ("evil.example:8000", False),
    ("localhost.evil.example", False),
    ("127.0.0.1.evil.example", False),
    ("localhost@evil.example", False),
    ("evil.example/localhost", False),
    ("gateway", False),
]


async def test_on_a_loopback_address_only_names_that_can_t_be_pointed_here_are_answered_to(
    cluster: FakeCluster, text: Text
) -> None:
    """As in Ollama's allowedHostsMiddleware."""
    requests = {host: head("GET /live", host=host) for host, _ in HOSTS}
    assert await told(cluster, text, requests, Callers(local=False)) == {host: 200 for host, _ in HOSTS}
    here = await told(cluster, text, requests, Callers(local=True))
    assert here == {host: 200 if allowed else "host_not_allowed" for host, allowed in HOSTS}


ORIGINS = [
    ("http://localhost:3000", True),
    ("https://localhost", True),
    ("http://127.0.0.1:5173", True),
    ("http://[::1]:5173", True),
    ("http://tauri.localhost", True),
    ("tauri://localhost", True),
    ("app://obsidian.md", True),
    ("vscode-webview://0abc", True),
    ("null", False),
    ("http://evil.example", False),
    ("https://localhost.evil.example", False),
    ("http://evil.example:80@localhost", False),
    ("http://203.0.113.5", False),
    ("chrome-extension://abcdef", False),
    ("", False),
]


async def test_on_a_loopback_address_only_pages_of_this_machine_may_spend_its_compute(
    cluster: FakeCluster, text: Text
) -> None:
    """A page sends a POST of text/plain without asking first. Ollama's default list."""
    requests = {origin: post(BODY, "Content-Type: text/plain", f"Origin: {origin}") for origin, _ in ORIGINS}
    assert await told(cluster, text, requests, Callers(local=False)) == {origin: 200 for origin, _ in ORIGINS}
    here = await told(cluster, text, requests, Callers(local=True))
    assert here == {origin: 200 if allowed else "origin_not_allowed" for origin, allowed in ORIGINS}


@pytest.mark.parametrize(
    ("patterns", "origin", "allowed"),
    [
        (["https://chat.example.com"], "https://chat.example.com", True),
        (["https://chat.example.com"], "https://Chat.Example.com", True),
        (["https://chat.example.com"], "http://chat.example.com", False),
        (["https://chat.example.com"], "https://chat.example.com.evil.example", False),
        (["https://chat.example.com"], "http://localhost:3000", False),
        (["https://*.example.com", "chrome-extension://*"], "https://a.example.com", True),
        (["https://*.example.com", "chrome-extension://*"], "chrome-extension://abcdef", True),
        (["https://chat.example.com"], "http://gateway:8000", True),
        (["*"], "null", True),
    ],
)
async def test_beyond_it_pages_are_those_that_were_named_and_its_own(
    patterns: list[str], origin: str, allowed: bool
) -> None:
    callers = Callers(local=False, origins=patterns)
    headers = Headers({"host": "gateway:8000", "origin": origin})
    assert (callers.refusal(headers) is None) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("api.example.com", True), ("a.internal.example", True), ("evil.example", False), ("10.0.0.7", True)],
)
def test_names_that_were_named_are_answered_to_and_others_are_not(host: str, allowed: bool) -> None:
    for local in (True, False):
        callers = Callers(local=local, hosts=["api.example.com", "*.internal.example"])
        assert (callers.refusal(Headers({"host": host})) is None) is allowed


async def told(
    cluster: FakeCluster, text: Text, requests: dict[str, bytes], callers: Callers
) -> dict[str, int | str | None]:
    """200, or the code of the refusal."""
    found: dict[str, int | str | None] = {}
    async with running(cluster, text, callers=callers) as gateway:
        for name, request in requests.items():
            reply = await asked(gateway.url, request)
            found[name] = reply.status if reply.status == 200 else reply.error["code"]
    return found
