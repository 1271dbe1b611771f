"""What a conductor can be told."""

from pydantic import Field

from services.runtime.settings import CalledSettings


class ConductorSettings(CalledSettings):
    """Hold beliefs about the cluster and answer where each request prefills and decodes."""

    id: str = Field(default="conductor-0", pattern=r"^[\w.-]+$")
    """This process's name in logs and status pages."""

    listen: str = "127.0.0.1:7100"
    """The gRPC target to serve at: unix:/path/to/name.sock or host:port."""

    inline_max_tokens: int | None = Field(default=None, ge=0)
    """Decode workers prefill up to this many uncached tokens themselves; 0: always hand over; unset: by cost."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Serve Prometheus metrics over HTTP at this port of the loopback interface; 0: any free one; unset: none."""
