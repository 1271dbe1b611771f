"""Which way imports go, and what stays out of which process."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = {"arena", "bench", "conversations", "sealing", "ssd", "ssd_scan"}
SHELL |= {"tcp", "tcp_calls", "tcp_lane", "tcp_pace", "tcp_sides", "tcp_wire"}
"""What touches the world, and the benchmark with its workload; all else in kvstore decides: it is in the contract."""


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_import_contracts_are_kept() -> None:
    assert "0 broken" in run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")


def test_the_purity_contract_names_every_pure_module() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    pure = next(contract["source_modules"] for contract in contracts if "core decides" in contract["name"])
    modules = {f"kvstore.{path.stem}" for path in (ROOT / "kvstore").glob("[a-z]*.py") if path.stem not in SHELL}
    assert modules | {"scheduler"} == set(pure)


def test_nothing_imports_the_command() -> None:
    for package in ("kvstore", "scheduler", "engine", "services"):
        for path in (ROOT / package).rglob("*.py"):
            lines = path.read_text(encoding="utf-8").splitlines()
            assert not [line for line in lines if line.split()[:2] in (["import", "moonpool"], ["from", "moonpool"])], (
                path
            )


@pytest.mark.parametrize(
    "imported",
    [
        "kvstore, scheduler, engine, engine.toy",
        "services.conductor.main, services.store.main, services.gateway.main",
        "services.runtime.up, services.status.main, services.models.main",
        "services.worker.main",
    ],
)
def test_who_runs_no_model_loads_no_torch(imported: str) -> None:
    """torch costs seconds and hundreds of megabytes; a worker loads it once it knows that its engine needs it."""
    run(sys.executable, "-c", f"import sys, {imported}; sys.exit('torch' in sys.modules)")


def test_help_answers_without_loading_what_it_describes() -> None:
    code = (
        "import sys, moonpool; moonpool.main(['--help']); sys.exit('pydantic' in sys.modules or 'grpc' in sys.modules)"
    )
    assert "moonpool COMMAND" in run(sys.executable, "-c", code)
