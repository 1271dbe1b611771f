"""From a body to what it means, in one go: what the gateway does in pieces, beside its event loop."""

from services.gateway.completions import completion_pieces
from services.gateway.document import document
from services.gateway.order import Deployment, Order
from services.gateway.schemas import BodyT, CompletionBody, checked
from services.gateway.text import Text
from services.gateway.text_threads import at_once
from services.gateway.wishes import Wishes


def parse(kind: type[BodyT], raw: bytes) -> BodyT:
    """A checked body; raises ApiError naming the first field that is wrong."""
    return checked(kind, document(raw))


def completion_order(body: CompletionBody, text: Text, wishes: Wishes, deployment: Deployment) -> Order:
    """Raises ApiError."""
    return at_once(completion_pieces(body, text, wishes, deployment))
