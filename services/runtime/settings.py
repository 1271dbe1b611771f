"""Settings of a process: flags over environment over defaults, described once.

Each process has one frozen subclass of ``ProcessSettings``. The sentence under a
field is its ``--help`` and its row in docs/settings.md; the field ``max_num_seqs``
is the flag ``--max-num-seqs`` and the variable ``MOONPOOL_MAX_NUM_SEQS``
(``flags.py`` reads them). Core objects are given values, never settings.
"""

import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.runtime.size import parse_size

ENV_PREFIX = "MOONPOOL_"


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _split(value: object) -> object:
    """``"a,b"``, ``["a", "b,c"]`` (a repeated flag) or a tuple: always the single items."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        return tuple(item.strip() for text in value for item in str(text).split(",") if item.strip())
    return value


SIZE = BeforeValidator(_size)
Size = Annotated[int, SIZE]
"""Bytes, written as ``512MiB``, ``4GiB`` or a plain number."""

NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several names: separated by commas, or the flag given several times."""


def _host_named(value: object) -> object:
    return value.replace("{hostname}", socket.gethostname()) if isinstance(value, str) else value


HOSTNAME = BeforeValidator(_host_named)

ProcessId = Annotated[str, HOSTNAME]
"""A process's name. ``prefill-{hostname}`` is another one on every host: for replicas that share their settings."""

LogLevel = Literal["debug", "info", "warning", "error"]


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


class CommandSettings(BaseSettings):
    """How every command reads its settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )


class ProcessSettings(CommandSettings):
    """What all processes can be told."""

    tls_cert: Path | None = None
    """This process's certificate (PEM, chain included); it names the host that others call it by."""

    tls_key: Path | None = None
    """The key of that certificate (PEM, not encrypted)."""

    tls_ca: Path | None = None
    """The authority (PEM) that every process of the deployment has its certificate from; others are turned away."""

    insecure_network: bool = False
    """Listen beyond this machine without TLS: where the network itself keeps strangers out."""

    log_level: LogLevel = "info"
    """How much is logged; requests one by one at debug, tokens and prompts never."""

    @model_validator(mode="after")
    def _tls_whole(self) -> Self:
        given = {name: getattr(self, name) is not None for name in ("tls_cert", "tls_key", "tls_ca")}
        if any(given.values()) and not all(given.values()):
            missing = ", ".join(flag_of(name) for name, there in given.items() if not there)
            raise ValueError(f"TLS needs --tls-cert, --tls-key and --tls-ca; missing: {missing}")
        return self


class MemberSettings(ProcessSettings):
    """What processes can be told that find each other, by flags or by a registry."""

    redis_url: str | None = None
    """The Redis by which processes find each other, such as redis://host:6379/0; unset: flags say where others are."""

    deployment: str = Field(default="default", pattern=r"^[\w.-]+$")
    """The name under which they do so; deployments of different names share a Redis and don't meet."""

    host_id: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    """This host's name in the registry: a worker uses the store that has the same one; unset: the host's name."""

    @property
    def host_name(self) -> str:
        """For the registry."""
        return self.host_id or socket.gethostname()


class CalledSettings(MemberSettings):
    """What members can be told that others call over gRPC."""

    advertise: Annotated[str | None, HOSTNAME] = Field(default=None, pattern=r"^[\w.:-]+$")
    """The name or address of this host for others, without a port; unset: the one that is listened at. {hostname} in it
    is this host's name."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Serve Prometheus metrics, and /health for probes, over HTTP at this port; 0: any free one; unset: none."""

    metrics_host: str = "127.0.0.1"
    """Where these are served; beyond this machine with TLS, as everything between processes, or --insecure-network."""
