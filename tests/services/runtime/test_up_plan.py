"""Which processes make a deployment, and with which flags."""

from pathlib import Path

import pytest

from services.runtime.up_plan import DRAIN_S, Child, Deployment, Stage, flags

KNOWN = {
    "conductor": frozenset({"id", "listen", "inline_max_tokens", "log_level"}),
    "store": frozenset({"id", "listen", "conductor", "dram"}),
    "worker": frozenset({"id", "role", "listen", "store", "conductor", "model", "threads", "dtype", "run_dir"}),
    "gateway": frozenset({"host", "port", "conductor", "model", "dev_endpoints"}),
}


def children(*, prefill: int = 1, decode: int = 1, hosts: int = 1, **values: object) -> dict[str, Child]:
    common = {"model": "/m", "dtype": "auto", "dram": 1024, "port": 8000, "inline_max_tokens": None, **values}
    deployment = Deployment(
        prefill=prefill, decode=decode, hosts=hosts, threads=3, run_dir=Path("/run/x"), known=KNOWN, values=common
    )
    return {child.name: child for child in deployment.children()}


def test_one_of_each_is_the_smallest_deployment_in_the_order_of_being_asked() -> None:
    assert list(children()) == ["conductor-0", "store-0", "prefill-0", "decode-0", "gateway-0"]


def test_more_workers_are_numbered_by_role() -> None:
    names = list(children(prefill=0, decode=3))
    assert names == ["conductor-0", "store-0", "decode-0", "decode-1", "decode-2", "gateway-0"]


@pytest.mark.parametrize(
    ("counts", "homes"),
    [
        ({"hosts": 1, "prefill": 2, "decode": 2}, {"prefill-1": 0, "decode-1": 0}),
        ({"hosts": 2}, {"prefill-0": 0, "decode-0": 1}),
        ({"hosts": 3, "prefill": 3, "decode": 2}, {"prefill-0": 0, "prefill-1": 1, "prefill-2": 0, "decode-1": 2}),
        ({"hosts": 4, "prefill": 1, "decode": 3}, {"prefill-0": 0, "decode-0": 2, "decode-1": 3, "decode-2": 2}),
        ({"hosts": 2, "prefill": 0, "decode": 2}, {"decode-0": 0, "decode-1": 1}),
    ],
    ids=str,
)
def test_with_several_hosts_every_hand_over_is_between_two_of_them(
    counts: dict[str, int], homes: dict[str, int]
) -> None:
    made = children(**counts)
    assert [name for name in made if name.startswith("store")] == [f"store-{n}" for n in range(counts["hosts"])]
    for worker, host in homes.items():
        assert f"--store=unix:/run/x/store-{host}.sock" in made[worker].flags, worker


def test_a_child_is_given_what_it_knows_and_nothing_else() -> None:
    assert children()["store-0"].flags == (
        "--dram=1024",
        "--id=store-0",
        "--listen=unix:/run/x/store-0.sock",
        "--conductor=unix:/run/x/conductor-0.sock",
    )


def test_a_worker_knows_its_role_its_store_and_its_threads() -> None:
    worker = children()["decode-0"]
    assert {"--role=decode", "--store=unix:/run/x/store-0.sock", "--threads=3", "--run-dir=/run/x"} <= set(worker.flags)
    assert worker.variables == {"OMP_NUM_THREADS": "3"}


def test_what_was_not_set_is_left_to_the_child_and_zero_is_set() -> None:
    assert not any("inline" in flag for flag in children()["conductor-0"].flags)
    assert "--inline-max-tokens=0" in children(inline_max_tokens=0)["conductor-0"].flags


def test_values_become_flags_that_the_settings_read_back() -> None:
    assert flags({"dev_endpoints": True, "other_thing": False, "a": None, "b": ("x", "y"), "c": "it's"}) == [
        "--dev-endpoints",
        "--no-other-thing",
        "--b=x",
        "--b=y",
        "--c=it's",
    ]


def test_what_is_no_setting_is_a_bug() -> None:
    with pytest.raises(TypeError):
        flags({"a": object()})


def test_whoever_asks_drains_before_whoever_answers_and_all_within_twenty_seconds() -> None:
    assert list(Stage) == [Stage.GATEWAY, Stage.WORKER, Stage.STORE, Stage.CONDUCTOR]
    assert sum(DRAIN_S.values()) < 20
