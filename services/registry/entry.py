"""What a process announces of itself, and the keys that it is found under.

Anybody who reaches the registry can write there, so what is read is checked before it is
believed; and even then it only says where to call. Whoever answers there must still prove itself.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum

LONGEST = 4096
"""Bytes of a value; ours have about a hundred."""

_ID = re.compile(r"[\w.-]{1,128}")
_ADDRESS = re.compile(r"unix:/[^\0\s]{1,200}|[\w.-]{1,253}:\d{1,5}|\[[0-9a-fA-F:.]{2,45}\]:\d{1,5}")


class EntryError(ValueError):
    """What was read is no entry; the message is a sentence."""


class Kind(StrEnum):
    """Who is looked for. Workers are not: conductors know them from their reports."""

    CONDUCTOR = "conductor"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Entry:
    """One process: where to call it (a gRPC target), on which host it runs, and which life of it this is."""

    kind: Kind
    id: str
    address: str
    host: str
    incarnation: int

    def reachable_from(self, host: str) -> bool:
        """A Unix socket is of no use to another host."""
        return self.host == host or not self.address.startswith("unix:")


def key(deployment: str, kind: Kind, id: str) -> str:
    """Where one process is announced; the key lives as long as it is renewed."""
    return f"{roll(deployment, kind)}:{id}"


def roll(deployment: str, kind: Kind) -> str:
    """The set of all ids that were announced, so that nobody searches a Redis that others use too."""
    return f"moonpool:{deployment}:{kind.value}"


def encode(entry: Entry) -> str:
    return json.dumps({"address": entry.address, "host": entry.host, "incarnation": entry.incarnation})


def decode(kind: Kind, id: str, data: bytes) -> Entry:
    """Raises EntryError."""
    if len(data) > LONGEST:
        raise EntryError(f"{len(data)} bytes are no entry")
    if not _ID.fullmatch(id):
        raise EntryError("its id has other characters than letters, digits, dots and dashes")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise EntryError("it is not JSON") from error
    match document:
        case {"address": str(address), "host": str(host), "incarnation": int(incarnation)}:
            if not _ADDRESS.fullmatch(address):
                raise EntryError("its address is neither unix:/path nor host:port")
            return Entry(kind, id, address, host, incarnation)
        case _:
            raise EntryError("it lacks an address, a host or an incarnation")
