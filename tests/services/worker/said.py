"""A session with a store that a test plays, and what was said in it."""

from typing import Any

from kvstore.vocabulary import SlotRef
from scheduler.vocabulary import StoreId
from services.wire.pb.store_pb2 import FromStore, SlotRefs, ToStore
from services.wire.store_codec import refs_from_wire
from services.worker.store_session import StoreSession


class Said:
    """A session, and what was said in it so far."""

    def __init__(self, answer_s: float = 5.0) -> None:
        self._said: list[ToStore] = []
        self.keeps_up = True
        """Whether the store reads what is said to it."""
        self.session = StoreSession(StoreId("store-0"), 1, self._say, answer_s=answer_s)

    def messages(self) -> list[ToStore]:
        """Since last asked."""
        said, self._said = self._said, []
        return said

    def all(self) -> list[tuple[str, list[SlotRef]]]:
        """(kind, slots) of each message since last asked."""
        said: list[tuple[str, list[SlotRef]]] = []
        for message in self.messages():
            kind = message.WhichOneof("kind")
            assert kind is not None
            said.append((kind, refs_from_wire(getattr(getattr(message, kind), "slots", SlotRefs()))))
        return said

    def _say(self, message: ToStore) -> bool:
        self._said.append(message)
        return self.keeps_up

    def answer(self, call: int, **kind: Any) -> None:
        self.session.answered(FromStore(call=call, **kind))
