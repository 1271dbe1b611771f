"""What a process says of itself over HTTP: its metrics, whether it lives, and to whom."""

import asyncio
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import trustme
from prometheus_client import CollectorRegistry, Counter

from services.runtime import probe
from services.runtime.heartbeat import BEAT_S, Pulse
from services.runtime.metrics_port import SILENT_S, metrics_port
from services.runtime.process import Refusal
from services.runtime.settings import CalledSettings
from services.wire.tls import Tls
from tests.loadtest import virtual


class Silent(Pulse):
    """One that has not beaten for so long."""

    def __init__(self, silent_s: float) -> None:
        super().__init__()
        self._silent_s = silent_s

    @property
    def silent_s(self) -> float:
        return self._silent_s


@contextmanager
def serving(*, silent_s: float = 0.0, tls: Tls | None = None, **settings: object) -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("moonpool_things", "Things that were counted", registry=registry).inc(3)
    Counter("vllm:things", "Things that others count, too", registry=registry).inc()
    given = CalledSettings.model_validate({"metrics_port": 0, **settings})
    with metrics_port(given, registry, pulse=Silent(silent_s), tls=tls) as port:
        assert port is not None
        yield port


def get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_served_as_prometheus_reads_them() -> None:
    with serving() as port:
        assert "moonpool_things_total 3.0" in get(f"http://127.0.0.1:{port}/metrics")[1]
        assert get(f"http://127.0.0.1:{port}/elsewhere") == (404, "there are /metrics and /health\n")


def test_names_of_vllm_keep_their_colon_whatever_format_is_liked_best() -> None:
    """Prometheus 2 asks for OpenMetrics, in which the library would write an underscore."""
    likes = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
    with serving() as port:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=likes)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert "\nvllm:things_total 1.0" in answer.read().decode()


def test_a_process_that_beats_is_healthy_and_one_that_is_silent_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(silent_s=SILENT_S) as port:
        assert probe.main([f"http://127.0.0.1:{port}/health"]) == 0
    with serving(silent_s=SILENT_S + 1) as port:
        assert probe.main([f"http://127.0.0.1:{port}/health"]) == 1
        assert "503 no sign of life for 11 s" in capsys.readouterr().out
    assert probe.main([f"http://127.0.0.1:{port}/health"]) == 1, "nobody listens any more"


def test_a_loop_that_runs_beats_without_a_supervisor_unless_what_else_must_get_on_hangs() -> None:
    async def beats() -> tuple[float, float]:
        pulse = Pulse(asyncio.get_running_loop().time)
        beating = asyncio.create_task(pulse.run())
        await asyncio.sleep(60.0)
        alive_s = pulse.silent_s
        pulse.vital = lambda: False
        await asyncio.sleep(60.0)
        beating.cancel()
        return alive_s, pulse.silent_s

    alive_s, hung_s = virtual.run(beats())
    assert alive_s <= BEAT_S
    assert hung_s >= 60.0 - BEAT_S


def test_beyond_this_machine_it_is_served_only_where_the_network_keeps_strangers_out() -> None:
    with pytest.raises(Refusal, match=r"listening at 0\.0\.0\.0:0 opens this process"), serving(metrics_host="0.0.0.0"):
        pass
    with serving(metrics_host="0.0.0.0", insecure_network=True) as port:
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refusal, match=r"can't be had at 127\.0\.0\.1"), serving(metrics_port=port):
            pass


def test_with_certificates_only_who_shows_one_is_answered_and_who_says_nothing_holds_up_nobody(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    tls = Tls(cert, key, ca)
    with serving(tls=tls) as port, socket.create_connection(("127.0.0.1", port)):
        url = f"https://127.0.0.1:{port}/metrics"
        assert "moonpool_things_total" in get(url, tls.ssl_client())[1]
        stranger = ssl.create_default_context(cafile=str(ca))
        with pytest.raises((URLError, ssl.SSLError, ConnectionError)):
            get(url, stranger)


def test_a_client_that_drips_its_request_is_given_up_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.runtime.metrics_port.REQUEST_S", 0.2)
    with serving() as port, socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.settimeout(0.02)
        ended = False
        while not ended:  # each byte comes well within the time that a single one may take
            try:
                slow.send(b"X")
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200


def test_clients_that_say_nothing_hold_no_more_threads_than_there_are_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runtime.metrics_port.MOST_AT_ONCE", 2)
    with serving() as port, ExitStack() as clients:
        silent = [clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(8)]
        for each in silent[2:]:
            assert each.recv(1) == b""
        for each in silent[:2]:
            each.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert each.makefile("rb").read().endswith(b"alive\n")
