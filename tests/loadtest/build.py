"""What the tests of this part build with."""

import os
from functools import cache
from pathlib import Path
from random import Random

import pytest

from loadtest.simulator.machine import Machine
from loadtest.simulator.simulation import Simulation
from loadtest.simulator.spec import Spec
from loadtest.traces import Row, parse
from scheduler.conductor import Conductor
from scheduler.vocabulary import Profile

TRACES = Path(os.environ.get("MOONPOOL_TRACES") or Path(__file__).parents[2].parent / "shared" / "traces")
"""Where the published traces lie; they are no part of the project."""


def chance(seed: int = 1) -> Random:
    return Random(seed)


@cache
def published(name: str = "conversation_trace.jsonl") -> list[Row]:
    """A published trace; the test is skipped where there is no copy."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"no {name}: set MOONPOOL_TRACES to a folder that has it")
    with path.open(encoding="utf-8") as lines:
        return parse(lines, source=name).rows


def machine(**changes: object) -> Machine:
    """A small host: 1 ms a step, 10,000 tokens of prefill a second, 200 blocks of 64 tokens on the device."""
    facts: dict[str, object] = {
        "name": "test",
        "profile": Profile(prefill_s=(1e-3, 1e-4, 1e-9), step_s=(1e-3, 1e-5, 1e-8), transfer_s=(1e-5, 1e-10)),
        "kv_bytes": 1000,
        "max_model_len": 8192,
        "device_tokens": 200 * 64,
        "dram_bytes": 400 * 64 * 1024,
        "ssd_bytes_per_s": 1e9,
        "link_bytes_per_s": 1e9,
        "link_latency_s": 1e-4,
    }
    return Machine(**{**facts, **changes})  # type: ignore[arg-type]


def spec(**changes: object) -> Spec:
    """Two prefill workers, two decode workers."""
    facts: dict[str, object] = {"machine": machine(), "prefill": 2, "decode": 2, "block_tokens": 64}
    return Spec(**{**facts, **changes})  # type: ignore[arg-type]


def simulation(spec: Spec, *, seed: int = 0, keep_times: bool = False, **conducted: object) -> Simulation:
    link = spec.machine.link_bytes_per_s
    conductor = Conductor(link_bytes_per_s=link, **conducted)  # type: ignore[arg-type]
    return Simulation(spec, conductor, chance=Random(seed), keep_times=keep_times)
