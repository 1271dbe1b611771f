"""What a block is, where it is, how it moves.

Re-exported here is what is pure; the shared-memory file (``kvstore.arena``) and checksums
(``kvstore.checksum``) are imported by the processes that touch bytes.
"""

from kvstore.catalog import Catalog
from kvstore.device import DeviceBlocks
from kvstore.layout import PROTOCOL, Identity, KvLayout
from kvstore.names import BlockName, block_names, child_name, root_name
from kvstore.vocabulary import IdentityMismatch, SessionId, SlotRef

__all__ = [
    "PROTOCOL",
    "BlockName",
    "Catalog",
    "DeviceBlocks",
    "Identity",
    "IdentityMismatch",
    "KvLayout",
    "SessionId",
    "SlotRef",
    "block_names",
    "child_name",
    "root_name",
]
