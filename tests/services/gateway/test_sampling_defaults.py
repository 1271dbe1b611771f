"""What a model's generation_config.json means for a request that does not say how to sample."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from services.gateway.sampling_defaults import SamplingDefaults, SamplingDefaultsError, sampling_defaults

NEUTRAL = SamplingDefaults()

READ: list[tuple[str, dict[str, Any], SamplingDefaults]] = [
    ("nothing", {}, NEUTRAL),
    ("null is not set", {"temperature": None, "top_k": None, "top_p": None, "min_p": None}, NEUTRAL),
    ("null beside a value", {"do_sample": True, "temperature": 0.7, "top_k": None}, SamplingDefaults(temperature=0.7)),
    ("whatever do_sample says", {"do_sample": False, "temperature": 0.6, "top_k": 20}, SamplingDefaults(0.6, 20)),
    ("without do_sample", {"top_p": 0.9}, SamplingDefaults(top_p=0.9)),
    ("min_p", {"min_p": 0.05}, SamplingDefaults(min_p=0.05)),
    ("penalties", {"repetition_penalty": 1.05, "presence_penalty": 1.5, "frequency_penalty": -0.5},
     SamplingDefaults(repetition_penalty=1.05, presence_penalty=1.5, frequency_penalty=-0.5)),
    ("a limit", {"max_new_tokens": 512}, SamplingDefaults(max_new_tokens=512)),
    ("whole numbers as floats", {"top_k": 40.0}, SamplingDefaults(top_k=40)),
    ("top_k off", {"top_k": -1}, SamplingDefaults(top_k=-1)),
    ("what is none of sampling", {"eos_token_id": [1, 2], "num_beams": 1, "transformers_version": "5.24.0"}, NEUTRAL),
]  # fmt: skip
"""As vLLM 0.32.0's get_diff_sampling_param gives them (vllm/config/model.py)."""


@pytest.mark.parametrize(("generation", "defaults"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_fields_count_one_by_one_and_null_is_not_set(generation: dict[str, Any], defaults: SamplingDefaults) -> None:
    assert sampling_defaults(generation) == defaults


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", "hot", '"hot"'),
        ("temperature", -1, "-1"),
        ("temperature", True, "true"),
        ("top_k", 1.5, "1.5"),
        ("top_p", 0, "0"),
        ("min_p", 2, "2"),
        ("repetition_penalty", 0, "0"),
        ("presence_penalty", [1], "[1]"),
        ("max_new_tokens", 0, "0"),
    ],
)
def test_a_value_that_no_request_may_have_is_refused_by_name(field: str, value: object, said: str) -> None:
    with pytest.raises(SamplingDefaultsError) as refused:
        sampling_defaults({field: value})
    assert str(refused.value).startswith(f"{field} must be ")
    assert str(refused.value).endswith(f", not {said}")


def test_transformers_writes_what_is_read_here(tmp_path: Path) -> None:
    values = {"temperature": 0.6, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1}
    transformers.GenerationConfig(do_sample=True, **values).save_pretrained(tmp_path)
    document = json.loads((tmp_path / "generation_config.json").read_text())
    assert sampling_defaults(document) == SamplingDefaults(0.6, 20, min_p=0.1, repetition_penalty=1.1)
