"""Engines are made from settings; the toy needs no torch, and a bad profile is a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.port import EngineError
from scheduler.vocabulary import Profile
from services.worker.engines import make_engine, toy_profile
from services.worker.settings import WorkerSettings
from tests.field.models import write_directory


def test_a_toy_is_as_large_as_it_is_told() -> None:
    settings = WorkerSettings(engine="toy", block_tokens=8, max_model_len=100, kv_cache_bytes=64 << 10, toy_seed=3)
    engine, name = make_engine(settings)
    assert (engine.layout.block_tokens, engine.max_model_len, name) == (8, 100, "toy")
    assert engine.blocks_total == (64 << 10) // engine.layout.block_bytes
    default, _ = make_engine(WorkerSettings(engine="toy", block_tokens=8, max_model_len=100))
    assert default.blocks_total == 4 * 13
    assert default.weights != engine.weights


def test_a_toys_profile_is_read_from_json() -> None:
    profile = toy_profile('{"prefill_s": [0, 0.002, 0], "step_s": [0.02, 0, 0]}')
    assert profile == Profile((0.0, 0.002, 0.0), (0.02, 0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("text", ["{", "[]", '{"prefill_s": [1]}', '{"other": 1}', '{"step_s": [-1, 0, 0]}', "3"])
def test_a_profile_that_is_none_is_refused_by_its_flags_name(text: str) -> None:
    with pytest.raises(EngineError, match="--toy-profile"):
        toy_profile(text)


def test_what_is_loaded_is_told_before_anything_slow_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch alone takes seconds to import, so here it can't be."""
    monkeypatch.setitem(sys.modules, "engine.llama.engine", None)
    write_directory(tmp_path, shards=2)
    weights = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    with caplog.at_level("INFO"), pytest.raises(ModuleNotFoundError):
        make_engine(WorkerSettings(engine="torch", model=str(tmp_path)))
    (told,) = caplog.records
    assert told.getMessage() == "loading the model"
    assert vars(told)["fields"] == {"model": tmp_path.name, "path": tmp_path.resolve(), "weights_bytes": weights}


def test_a_toy_worker_needs_no_torch() -> None:
    code = (
        "import sys; from services.worker.main import serve_worker; from services.worker.engines import make_engine;"
        "from services.worker.settings import WorkerSettings; make_engine(WorkerSettings(engine='toy'));"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
