"""What a store can be told."""

from pathlib import Path

from pydantic import Field

from services.runtime.settings import NameList, ProcessSettings, Size


class StoreSettings(ProcessSettings):
    """Own a host's arena of KV blocks: who may write which slot, and who reads it."""

    id: str = Field(default="store-0", pattern=r"^[\w.-]+$")
    """This process's name in logs, reports and status pages."""

    listen: str = "127.0.0.1:7200"
    """The gRPC target to serve at: unix:/path/to/name.sock or host:port."""

    conductor: NameList = ()
    """gRPC targets of the conductors to report to."""

    dram: Size = Field(default=1 << 30, ge=4096)
    """The arena, in shared memory; cut into slots once the first worker has told its layout."""

    arena_dir: Path = Path("/dev/shm")
    """Where the arena is made; memory, if it is to be fast."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Serve Prometheus metrics over HTTP at this port of the loopback interface; 0: any free one; unset: none."""
