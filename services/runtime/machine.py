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


def spare_dram(arena_dir: Path) -> int:
    """Bytes for an arena that nobody sized: a quarter of what is free there, 4 GiB at most, in whole MiB."""
    status = os.statvfs(arena_dir)
    quarter = status.f_bavail * status.f_frsize // 4
    return max(1, min(4 * GIB, quarter) >> 20) << 20
