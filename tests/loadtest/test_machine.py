"""Machines: facts in, costs out."""

import pytest

from loadtest import profiles
from loadtest.simulator.machine import machine
from scheduler import estimate
from scheduler.vocabulary import Profile


def test_every_machine_of_the_issue_is_there() -> None:
    assert profiles.names() == ["a800x8-llama2-70b", "a800x8-llama3-70b", "cpu-smollm2", "h200x8-llama3-70b"]


def test_an_unknown_machine_is_named_beside_the_known_ones() -> None:
    with pytest.raises(profiles.ProfileError, match="no profile 'b200'; there are a800x8"):
        profiles.load("b200")


def test_a_prefill_costs_the_papers_flops_at_half_the_peak() -> None:
    a800 = profiles.load("a800x8-llama3-70b")
    tokens, layers, width = 8192, 80, 8192
    flops = layers * (4 * tokens**2 * width + 22 * tokens * width**2)  # arXiv 2407.00079, section 5

    seconds = estimate.prefill_s(a800.profile, tokens)

    assert seconds - 2 * layers * 30e-6 == pytest.approx(flops / (0.5 * 8 * 312e12))


def test_a_decode_step_reads_weights_and_kv_once() -> None:
    a800 = profiles.load("a800x8-llama3-70b")
    rate = 0.7 * 8 * 2e12

    alone, longer = (estimate.step_s(a800.profile, 1, tokens) for tokens in (0, 100_000))

    assert longer - alone == pytest.approx(100_000 * 327_680 / rate)
    assert alone > 70.6e9 * 2 / rate


def test_a_tokens_kv_is_320_kib_as_the_paper_has_it() -> None:
    assert profiles.load("a800x8-llama3-70b").kv_bytes == 320 * 1024


def test_three_million_tokens_fit_a_nodes_dram() -> None:
    a800 = profiles.load("a800x8-llama3-70b")

    assert a800.dram_bytes // a800.kv_bytes == 3_000_000


def test_what_the_weights_leave_of_nine_tenths_of_the_accelerators_memory_is_for_kv() -> None:
    left_bytes = 0.9 * 8 * 80e9 - 70.6e9 * 2

    assert profiles.load("a800x8-llama3-70b").device_tokens == int(left_bytes / (320 * 1024))


def test_a_measured_machine_explains_its_measurements() -> None:
    smollm2 = profiles.load("cpu-smollm2").profile

    assert estimate.prefill_s(smollm2, 512) == pytest.approx(0.5749, rel=0.1)
    assert estimate.step_s(smollm2, 8, 4800) == pytest.approx(0.0257, rel=0.1)


@pytest.mark.parametrize("name", profiles.names())
def test_no_machine_works_for_nothing(name: str) -> None:
    profile: Profile = profiles.load(name).profile

    assert min(*profile.prefill_s[1:], *profile.step_s, profile.transfer_s[1]) > 0.0


def test_a_fact_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="model"):
        machine({})
