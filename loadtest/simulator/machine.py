"""What one host of a simulated cluster can do, derived from facts about its hardware and its model.

A derived profile is arithmetic, never a guess at coefficients (l layers of width d; F FLOP/s and B bytes/s are
peaks times the share of them that is reached; R is one all-reduce, of which a layer has two):

    prefill of [p, n)   2 l R  +  (n - p) l b d^2 / F  +  (n^2 - p^2) l a d / F        flops(n) = l (a n^2 d + b n d^2)
    one decode step     2 l R + weights / B  +  sequences l b d^2 / F  +  kv tokens * bytes of one token's KV / B
    lifting blocks      latency + bytes / (copy rate of all accelerators)

a = 4 and b = 22 after Mooncake (arXiv 2407.00079, section 5). A measured profile is fitted to its measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scheduler.estimate import PrefillSample, StepSample, fit_profile
from scheduler.vocabulary import Profile


@dataclass(frozen=True, slots=True)
class Machine:
    """One host with one worker. device_tokens: whose KV fits on the accelerators beside the weights."""

    name: str
    profile: Profile
    kv_bytes: int
    """Of one token."""
    max_model_len: int
    device_tokens: int
    dram_bytes: int
    ssd_bytes_per_s: float
    link_bytes_per_s: float
    link_latency_s: float


def machine(facts: Mapping[str, Any]) -> Machine:  # Any: JSON
    """From one of the files in ``loadtest/profiles``. Raises KeyError, naming what is missing."""
    model, node = facts["model"], facts["node"]
    kv_bytes = 2 * model["layers"] * model["kv_heads"] * model["head_width"] * model["bytes_per_value"]
    weights_bytes = model["parameters"] * model["bytes_per_value"]
    memory_bytes = node["accelerators"] * node["memory_bytes"] * node["memory_used"]
    return Machine(
        name=facts["name"],
        profile=_measured(facts["measured"]) if "measured" in facts else _derived(model, node, kv_bytes, weights_bytes),
        kv_bytes=kv_bytes,
        max_model_len=model["max_model_len"],
        device_tokens=int((memory_bytes - weights_bytes) / kv_bytes),
        dram_bytes=int(node["dram_bytes"]),
        ssd_bytes_per_s=node["ssd_bytes_per_s"],
        link_bytes_per_s=node["link_bytes_per_s"],
        link_latency_s=node["link_latency_s"],
    )


def _derived(model: Mapping[str, Any], node: Mapping[str, Any], kv_bytes: int, weights_bytes: float) -> Profile:
    layers, width = model["layers"], model["width"]
    flop_per_s = node["accelerators"] * node["flop_per_s"] * node["flop_used"]
    bytes_per_s = node["accelerators"] * node["memory_bytes_per_s"] * node["memory_rate_used"]
    linear_s = layers * model["b"] * width**2 / flop_per_s
    square_s = layers * model["a"] * width / flop_per_s
    reduce_s = 2 * layers * node["reduce_s"]
    return Profile(
        prefill_s=(reduce_s, linear_s, square_s),
        step_s=(reduce_s + weights_bytes / bytes_per_s, linear_s, kv_bytes / bytes_per_s),
        transfer_s=(node["copy_latency_s"], 1.0 / (node["accelerators"] * node["copy_bytes_per_s"])),
    )


def _measured(samples: Mapping[str, Any]) -> Profile:
    fitted = fit_profile(
        [PrefillSample(tokens, 0, seconds) for tokens, seconds in samples["prefill"]],
        [StepSample(sequences, kv_tokens, seconds) for sequences, kv_tokens, seconds in samples["step"]],
    )
    return Profile(fitted.prefill_s, fitted.step_s, (0.0, 1.0 / samples["copy_bytes_per_s"]))
