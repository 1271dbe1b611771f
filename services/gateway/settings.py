"""What a gateway can be told."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from services.models.embedded import EMBEDDED_MODEL
from services.runtime.paths import default_data_dir
from services.runtime.settings import MemberSettings, NameList, ProcessId, Size


class GatewaySettings(MemberSettings):
    """Serve OpenAI's HTTP endpoints: text in, text out, each request told to conductor and workers."""

    id: ProcessId = "gateway-0"
    """This process's name in logs and status pages; {hostname} in it: this host's."""

    host: str = "127.0.0.1"
    """Where HTTP is listened to."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port of HTTP; 0: any free one, named in the log."""

    conductor: NameList = ()
    """gRPC targets of the conductors, asked in this order: the first that answers decides; unset: by the registry."""

    model: str = EMBEDDED_MODEL
    """Whose tokenizer and chat template: a directory, a .gguf file, a Hugging Face name, or the embedded model."""

    engine: Literal["torch", "toy"] = "torch"
    """What the workers compute with; toy brings a tokenizer of bytes, and the model is not looked at."""

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where models are kept."""

    served_model_name: str | None = None
    """The name that clients use; unset: the model's own."""

    max_model_len: int | None = Field(default=None, ge=1)
    """The longest sequence in tokens, prompt and output; unset: the shortest that a decode worker reports."""

    max_concurrent_requests: int = Field(default=512, ge=1)
    """Sequences told at the same time (n choices are n sequences); more are answered with 429."""

    max_body_bytes: Size | None = Field(default=None, ge=1024)
    """The longest request body; a longer one is answered with 413. Unset: 4 MiB and 64 bytes a token of context."""

    header_timeout_s: float = Field(default=10.0, gt=0)
    """A connection that has sent no whole request head after this time is closed; with 408 where it has begun one."""

    body_timeout_s: float = Field(default=30.0, gt=0)
    """A body that is not complete after this time, and a second more for each KiB of it that has come, is 408."""

    keep_alive_s: float = Field(default=620.0, gt=0)
    """How long a connection may be idle between requests; longer than proxies keep theirs (llm-d 90 s, load balancers
    of clouds 600 s), else they send requests into a connection that is being closed."""

    max_connections: int | None = Field(default=None, ge=1)
    """The most connections at a time; one more replaces the longest idle, or is told 503. Unset: 16,384. Of the limit
    of open files 512, or a quarter if that is less, are kept for other uses."""

    allowed_hosts: NameList = ()
    """Further names by which clients may call (the Host header); * stands for any text. Addresses and names of this
    machine may always be called. Unset: on a loopback address no others, elsewhere any."""

    allowed_origins: NameList = ()
    """Further pages that may call (the Origin header), such as https://chat.example.com; * stands for any text. Unset:
    on a loopback address only pages of this machine may, elsewhere any."""

    text_threads: int = Field(default=2, ge=1)
    """Threads that render chat templates and tokenize."""

    first_token_timeout_s: float = Field(default=120.0, gt=0)
    """A request without its first token after this time is given up with 503."""

    request_timeout_s: float = Field(default=3600.0, gt=0)
    """The longest that a request may take in all; workers are told how much of it is left."""

    attempts: int = Field(default=4, ge=1)
    """How often one sequence is placed when workers refuse it or fail, before the client is told."""

    patience_s: float = Field(default=2.0, ge=0)
    """How long a new request waits for a conductor or a worker to appear, before it is answered with 503."""

    resume_patience_s: float = Field(default=15.0, ge=0)
    """How long a stream that has begun waits for a worker that can continue it, before it ends with an error."""

    batch_patience_s: float = Field(default=0.0, ge=0)
    """How long a batch request waits for room before 429; beyond 120 s it is never late. 0: refused at once."""

    drain_s: float = Field(default=5.0, ge=0)
    """How long running requests may go on once the process is told to stop; then they end with an error."""

    dev_endpoints: bool = False
    """Also serve endpoints for development, such as POST /reset_prefix_cache."""

    @model_validator(mode="after")
    def _knows_conductors(self) -> Self:
        if not self.conductor and self.redis_url is None:
            raise ValueError("--conductor (or MOONPOOL_CONDUCTOR) is required, or --redis-url to find conductors by")
        return self
