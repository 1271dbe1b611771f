"""What ``moonpool bench engine --fit`` writes is a machine that the simulator takes, with the measured costs."""

import json
from pathlib import Path

import pytest

import moonpool
from loadtest import profiles
from scheduler import estimate
from scheduler.vocabulary import Profile

pytest.importorskip("torch")

from engine.bench import BASELINE, Facts, Row
from services.bench.engine_fit import fitted

MACHINE = {"cpu": "a CPU", "cores": 2, "memory_bytes": 8 << 30}
KNOWN = Profile((0.002, 3e-4, 1e-7), (0.006, 0.001, 1e-6), (0.0, 1e-10))
FACTS = Facts(30, 576, 134_000_000, 3, 64, 2, 8192, 20_000)


def rows() -> list[Row]:
    """Of a machine whose costs are known."""
    prefills = [
        Row(f"prefill_{tokens}", tokens / estimate.prefill_s(KNOWN, tokens), "tokens/s", None, None, 1)
        for tokens in (128, 512, 1024, 2048)
    ]
    steps = [
        Row(f"decode_{count}x{context}", 1e3 * estimate.step_s(KNOWN, count, count * context), "ms", None, None, 1)
        for count, context in ((1, 64), (1, 1024), (8, 600), (16, 600))
    ]
    slower = Row(f"{BASELINE}prefill_512", 1.0, "tokens/s", None, None, 1)  # no cost of this engine
    return [Row("memory_copy", 10.0, "GB/s", None, None, 1), *prefills, *steps, slower]


def written(folder: Path) -> Path:
    path = folder / "ours.json"
    facts = fitted("ours", FACTS, rows(), command="moonpool bench engine", commit=None, machine=MACHINE)
    path.write_text(json.dumps(facts))
    return path


def test_the_simulator_gets_the_costs_that_were_measured(tmp_path: Path) -> None:
    machine = profiles.load(str(written(tmp_path)))

    assert machine.profile.prefill_s == pytest.approx(KNOWN.prefill_s, rel=1e-3)
    assert machine.profile.step_s == pytest.approx(KNOWN.step_s, rel=1e-3)
    assert machine.profile.transfer_s == pytest.approx(KNOWN.transfer_s)
    assert (machine.device_tokens, machine.dram_bytes) == (20_000, 2 << 30)


def test_it_says_where_each_fact_is_from(tmp_path: Path) -> None:
    facts = json.loads(written(tmp_path).read_text())

    told = " ".join(facts["derivation"])
    assert "a CPU, 2 cores" in told
    assert "moonpool bench engine" in told
    for key in (
        "dram_bytes",
        "ssd_bytes_per_s",
        "link_bytes_per_s",
        "link_latency_s",
        "copy_bytes_per_s",
        "memory_bytes",
    ):
        assert key in told


def test_simulate_takes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--profile", str(written(tmp_path)), "--requests", "5", "--length", "0.05", "--json"]

    assert moonpool.main(["simulate", "--prefill", "1", "--decode", "1", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["completed"] == 5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON: "),
        ("[]", "it holds no object"),
        ('{"name": "x", "model": {}}', "'node' is missing"),
        ('{"name": "x", "model": 3, "node": {}}', "is no profile: "),
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)

    with pytest.raises(SystemExit, match="2"):
        moonpool.main(["simulate", "--profile", str(path)])
    assert why in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        moonpool.main(["plan", "--ttft-slo", "1", "--tbt-slo", "1", "--profile", "/nowhere/x.json"])
    assert "/nowhere/x.json can't be read (No such file or directory)" in capsys.readouterr().err
