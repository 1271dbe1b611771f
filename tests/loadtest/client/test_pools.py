"""A status page becomes one sample for each role."""

from loadtest.client.pools import samples
from loadtest.record import PoolSample


def worker(role: str, running: int, waiting: int, free: int, total: int = 10) -> dict[str, object]:
    return {
        "role": role, "running": running, "waiting": waiting, "device_blocks_free": free, "device_blocks_total": total,
        "prefill_tokens_queued": 7 * waiting,
    }  # fmt: skip


def test_workers_of_a_role_are_taken_together() -> None:
    status = {"workers": [worker("prefill", 1, 2, 5), worker("decode", 3, 0, 10), worker("prefill", 2, 2, 10)]}

    assert samples(status, at_s=1.5) == [
        PoolSample(1.5, "prefill", 2, 3, 4, kv_used=0.25, queued_tokens=28),
        PoolSample(1.5, "decode", 1, 3, 0, kv_used=0.0, queued_tokens=0),
    ]


def test_without_blocks_their_use_is_unknown() -> None:
    assert samples({"workers": [worker("mixed", 0, 0, 0, 0)]}, at_s=0.0) == [
        PoolSample(0.0, "mixed", 1, 0, 0, queued_tokens=0)
    ]
