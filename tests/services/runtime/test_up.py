"""What ``moonpool up`` decides and says before and after anything runs."""

import socket
import tempfile
from pathlib import Path

import pytest

from services.models.resolve import ModelFiles
from services.runtime.flags import load
from services.runtime.up import base_url, deployment, main, welcome
from services.runtime.up_settings import UpSettings
from tests.e2e.cluster import free_port


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def settings(*argv: str) -> UpSettings:
    return load(UpSettings, argv, prog="moonpool up")


def flags(*argv: str) -> dict[str, tuple[str, ...]]:
    """The flags of every child, by its name."""
    made = deployment(settings(*argv), ModelFiles(Path("/models/m"), "m"), Path("/run/x"))
    return {child.name: child.flags for child in made.children()}


def test_everything_serves_the_same_model_by_the_same_name() -> None:
    children = flags("--served-model-name", "mine")
    for name in ("prefill-0", "decode-0", "gateway-0"):
        assert {"--model=/models/m", "--served-model-name=mine"} <= set(children[name])


def test_each_process_listens_where_the_others_look() -> None:
    children = flags()
    assert "--listen=unix:/run/x/conductor-0.sock" in children["conductor-0"]
    for name in ("store-0", "prefill-0", "decode-0", "gateway-0"):
        assert "--conductor=unix:/run/x/conductor-0.sock" in children[name]
    assert "--store=unix:/run/x/store-0.sock" in children["decode-0"]


def test_every_flag_of_up_reaches_a_process_or_is_ups_own() -> None:
    own = {"prefill", "decode", "hosts", "hang_s"}
    sets = flags(
        *("--engine=toy", "--host=::1", "--port=9000", "--dram=1MiB", "--inline-max-tokens=0", "--dtype=float32"),
        *("--served-model-name=s", "--max-model-len=7", "--max-num-seqs=3", "--max-num-batched-tokens=64"),
        *("--kv-cache-bytes=1KiB", "--threads=2", "--dev-endpoints"),
        *("--tls-cert=c.pem", "--tls-key=k.pem", "--tls-ca=a.pem", "--insecure-network"),
        *("--eviction=lfu", "--ssd-admit=twice", "--transfer-listen=127.0.0.1:0"),
        *("--admission=early", "--slo-ttft-s=2", "--slo-tpot-s=0.1", "--elastic"),
        *("--allowed-hosts=a.example", "--allowed-origins=https://a.example"),
    )
    given = {word.removeprefix("--").partition("=")[0].replace("-", "_") for words in sets.values() for word in words}
    assert set(UpSettings.model_fields) - own <= given


def test_the_decode_worker_gets_the_store_its_size_and_the_gateway_its_port() -> None:
    children = flags("--dram=64MiB", "--port=9001", "--threads=2")
    assert "--dram=67108864" in children["store-0"]
    assert "--port=9001" in children["gateway-0"]
    assert "--threads=2" in children["decode-0"]


def test_every_store_gets_an_ssd_file_unless_told_otherwise(tmp_path: Path) -> None:
    sized = flags("--hosts=2", f"--data-dir={tmp_path}")
    for name in ("store-0", "store-1"):
        size = next(word for word in sized[name] if word.startswith("--ssd="))
        assert 0 <= int(size.removeprefix("--ssd=")) <= 8 * 2**30
        assert f"--data-dir={tmp_path}" in sized[name]
    assert "--ssd=0" in flags("--ssd=0")["store-0"]


def test_stores_cannot_share_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine=toy", "--port", str(free_port()), "--hosts=2", "--transfer-listen=127.0.0.1:7"]) == 1
    assert capsys.readouterr().err == "moonpool up: 2 stores can't all listen at 127.0.0.1:7; give port 0\n"


def test_a_port_in_use_is_refused_with_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--engine=toy", "--port", str(port), "--arena-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == f"moonpool up: port {port} on 127.0.0.1 is in use; choose another with --port\n"


def test_an_arena_that_cannot_be_had_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--engine=toy", "--port", str(free_port()), "--arena-dir", str(tmp_path), "--dram=8000TiB", "--hosts=2"]
    assert main(flags) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"moonpool up: the 2 arenas need 16000TiB in {tmp_path}, which has ")
    assert said.endswith(" MiB free: give a smaller --dram, or an --arena-dir with more room\n")


def test_a_missing_arena_directory_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--engine=toy", "--port", str(free_port()), "--arena-dir", str(tmp_path / "none")]) == 1
    assert "none does not exist" in capsys.readouterr().err


def test_the_welcome_has_the_url_and_one_line_of_curl_in_a_shells_words() -> None:
    lines = [line for line in welcome("http://127.0.0.1:8000", "it's").splitlines() if line]
    assert "http://127.0.0.1:8000/v1" in lines[0]
    assert lines[1].startswith("curl http://127.0.0.1:8000/v1/chat/completions ")
    assert """"model": "it'\\''s",""" in lines[1]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("box.example", "http://box.example:80"),
    ],
)
def test_the_url_is_one_that_this_machine_reaches(host: str, url: str) -> None:
    assert base_url(host, 80) == url
