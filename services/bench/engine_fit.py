"""The machine that ``moonpool bench engine`` has measured, as a file that the simulator takes: ``--fit FILE``.

Facts and measurements only, with a sentence on where each is from; whoever reads it fits the costs
(scheduler.estimate.fit_profile). What an engine's benchmark cannot know, the SSD and the links, is as conductors
assume it where nothing else is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from scheduler.costs import LINK_BYTES_PER_S, LINK_S, SSD_BYTES_PER_S

if TYPE_CHECKING:
    from engine.bench import Facts, Row

DRAM_BYTES = 4 << 30
"""As `moonpool up` gives a store at most."""


def fitted(
    name: str, facts: "Facts", rows: Sequence["Row"], *, command: str, commit: str | None, machine: Mapping[str, object]
) -> dict[str, object]:
    """rows: of one number of threads."""
    model = asdict(facts)
    kv_tokens = model.pop("kv_tokens")
    kv_bytes = 2 * facts.layers * facts.kv_heads * facts.head_width * facts.bytes_per_value
    where = f"{machine['cpu']}, {machine['cores']} cores, commit {commit or 'unknown'}"
    return {
        "name": name,
        "derivation": [
            f"model: {name}, its configuration; parameters without norms and biases.",
            f"measured: medians of `{command}` on {where}; prefill: tokens, seconds; step: sequences, KV tokens, "
            "seconds. The simulator fits them by scheduler.estimate.fit_profile.",
            "copy_bytes_per_s: the row memory_copy of the same run.",
            f"memory_bytes: weights, and the {kv_tokens} tokens of KV that the engine took by itself.",
            "dram_bytes: a quarter of the machine's memory, 4 GiB at most, as `moonpool up` gives a store.",
            "ssd_bytes_per_s, link_bytes_per_s, link_latency_s: not measured, but as conductors assume.",
        ],
        "model": model,
        "node": {
            "accelerators": 1,
            "memory_bytes": facts.parameters * facts.bytes_per_value + kv_tokens * kv_bytes,
            "memory_used": 1.0,
            "dram_bytes": min(DRAM_BYTES, int(str(machine["memory_bytes"])) // 4),
            "ssd_bytes_per_s": SSD_BYTES_PER_S,
            "link_bytes_per_s": LINK_BYTES_PER_S,
            "link_latency_s": LINK_S,
        },
        "measured": _measured(rows),
    }


def _measured(rows: Sequence["Row"]) -> dict[str, object]:
    """Read from the rows' names: prefill_TOKENS in tokens per second, decode_SEQUENCESxCONTEXT in milliseconds."""
    prefill, step, copy = [], [], 0.0
    for row in rows:
        kind, _, size = row.name.partition("_")
        if kind == "prefill":
            prefill.append((int(size), int(size) / row.value))
        elif kind == "decode":
            sequences, context = map(int, size.split("x"))
            step.append((sequences, sequences * context, row.value / 1e3))
        elif row.name == "memory_copy":
            copy = row.value * 1e9
    return {"prefill": prefill, "step": step, "copy_bytes_per_s": copy}
