"""Make the engine that the settings ask for; torch is imported only if it is that.

Raises EngineError or ModelError, whose messages are for the operator.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from engine.port import Engine, EngineError
from engine.toy import OWN_PROFILE, ToyEngine, toy_layout
from scheduler.vocabulary import Profile
from services.models.resolve import resolve_model
from services.runtime.logs import fields
from services.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

TOY = "toy"
TOY_MODEL_LEN = 8192
TOY_SEQUENCES = 4
"""How many of the longest sequences a toy has room for, where nothing is said about it."""


def make_engine(settings: WorkerSettings) -> tuple[Engine, str]:
    """The engine, and the name by which its model is served."""
    if settings.engine == TOY:
        return _toy(settings), settings.served_model_name or TOY
    return _torch(settings)


def _log_stage(what: str, done: float | None) -> None:
    """Once for each, when it begins."""
    if not done:
        log.info(what)


def _toy(settings: WorkerSettings) -> Engine:
    profile = None if settings.toy_profile is None else toy_profile(settings.toy_profile)
    max_model_len = settings.max_model_len or TOY_MODEL_LEN
    block_bytes = toy_layout(settings.block_tokens).block_bytes
    blocks = TOY_SEQUENCES * -(-max_model_len // settings.block_tokens)
    if settings.kv_cache_bytes is not None:
        blocks = settings.kv_cache_bytes // block_bytes
    return ToyEngine(
        blocks,
        block_tokens=settings.block_tokens,
        max_model_len=max_model_len,
        seed=settings.toy_seed,
        profile=profile or OWN_PROFILE,
        sleep=None if profile is None else time.sleep,
        clock=time.monotonic,
    )


def toy_profile(text: str) -> Profile:
    """A profile from JSON such as {"prefill_s": [0, 0.002, 0], "step_s": [0.02, 0, 0], "transfer_s": [0, 0]}."""
    try:
        document = json.loads(text)
        if not isinstance(document, Mapping) or document.keys() - {"prefill_s", "step_s", "transfer_s"}:
            raise ValueError("it has other keys")
        prefill, step, transfer = (
            tuple(map(float, document.get(key, [0.0] * size)))
            for key, size in (("prefill_s", 3), ("step_s", 3), ("transfer_s", 2))
        )
        (p0, p1, p2), (s0, s1, s2), (t0, t1) = prefill, step, transfer
    except (ValueError, TypeError) as error:
        raise EngineError(f"--toy-profile is no profile of prefill_s, step_s and transfer_s: {error}") from error
    if min(*prefill, *step, *transfer) < 0:
        raise EngineError("--toy-profile has a cost below 0")
    return Profile((p0, p1, p2), (s0, s1, s2), (t0, t1))


def _torch(settings: WorkerSettings) -> tuple[Engine, str]:
    files = resolve_model(settings.model, settings.data_dir, on_progress=_log_stage)
    weights = sum(path.stat().st_size for path in files.directory.glob("*.safetensors"))
    log.info("loading the model", extra=fields(model=files.served_name, path=files.directory, weights_bytes=weights))

    from engine.llama import LlamaEngine  # seconds of torch: only after it is said what takes so long

    engine = LlamaEngine.load(
        Path(files.directory),
        dtype=settings.dtype,
        device=settings.device,
        threads=settings.threads,
        block_tokens=settings.block_tokens,
        kv_cache_bytes=settings.kv_cache_bytes,
        max_model_len=settings.max_model_len,
    )
    return engine, settings.served_model_name or files.served_name
