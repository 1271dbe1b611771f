"""What this machine can spare: cores to compute on, memory for an arena."""

import os
from pathlib import Path

GIB = 2**30


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use at once: its affinity, bounded by a container's quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
        cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no quota
        pass
    return max(1, cores)


def spare_dram(arena_dir: Path, *, stores: int = 1) -> int:
    """Bytes for each arena that nobody sized: a quarter of what is free shared out, 4 GiB at most, in whole MiB."""
    return max(1, min(4 * GIB, free_bytes(arena_dir) // 4 // stores) >> 20) << 20


def spare_ssd(directory: Path, *, stores: int = 1) -> int:
    """Bytes for each SSD file that nobody sized: a quarter of what is free shared out, 8 GiB at most; 0: no room.

    Files that are there already count as free, and the size is rounded down to three binary digits; so
    from one start to the next it stays the same, though other files come and go.
    """
    held = sum(path.stat().st_blocks * 512 for path in directory.glob("*") if path.is_file())
    share = min(8 * GIB, (free_bytes(directory) + held) // 4 // stores)
    coarse = max(20, share.bit_length() - 3)
    return share >> coarse << coarse


def free_bytes(directory: Path) -> int:
    """Bytes that this user may still write there; or where the directory will be made."""
    while not directory.exists():
        directory = directory.parent
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
