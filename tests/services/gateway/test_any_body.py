"""Whatever a body says, it becomes an order that the cluster can serve or an error that the client can read."""

import json
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvstore.layout import Identity
from services.gateway.chat import chat_order
from services.gateway.errors import ApiError
from services.gateway.order import Deployment, Order
from services.gateway.schemas import ChatBody, CompletionBody
from services.gateway.text import toy_text
from services.gateway.unsupported import REFUSED, refused
from services.gateway.wishes import wishes
from tests.services.gateway.bodies import completion_order, parse

TEXT = toy_text()
LONGEST = 64
DEPLOYMENT = Deployment(Identity("toy", "0123", "float32", 16, "abcd"), LONGEST)

NUMBERS = st.one_of(
    st.integers(-3, 80), st.integers(), st.floats(), st.sampled_from([0, 1, 1.0, 0.5, 1 << 31, 1 << 63, 1 << 64])
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
ROLES = st.sampled_from(["user", "system", "assistant", "developer", "tool"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=12) | ANYTHING}), min_size=1, max_size=3
)
PROMPTS = st.one_of(
    st.text(max_size=80),
    st.lists(st.integers(-1, 520), max_size=70),
    st.lists(st.text(max_size=5), max_size=3),
    ANYTHING,
)
FIELDS = sorted(
    (ChatBody.model_fields.keys() | CompletionBody.model_fields.keys() | REFUSED.keys()) - {"messages", "prompt"}
)
SLOS = st.dictionaries(st.sampled_from(["ttft_ms", "tpot_ms", "x"]), NUMBERS)
OTHERS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=4),
    st.fixed_dictionaries(
        {}, optional={"max_tokens": NUMBERS, "min_tokens": NUMBERS, "n": NUMBERS, "seed": NUMBERS, "stop": SCALARS}
    ),
    st.fixed_dictionaries({}, optional={"slo": SLOS, "priority": NUMBERS}),
)


def served(kind: type[Any], make_order: Any, body: dict[str, Any]) -> Order | ApiError:
    try:
        parsed = parse(kind, json.dumps(body).encode("utf-8", "surrogatepass"))
        error = refused(parsed.model_extra or {})
        if error is not None:
            raise error
        order: Order = make_order(parsed, TEXT, wishes(parsed, {}), DEPLOYMENT)
    except ApiError as told:
        return told
    return order


def check(order: Order | ApiError) -> None:
    if isinstance(order, ApiError):
        assert order.status == 400
        assert order.message
        assert json.dumps(order.body)
        return
    for choice in order.choices:
        assert 1 <= len(choice.prompt) < LONGEST
        assert 1 <= choice.limits.max_tokens <= LONGEST - len(choice.prompt)
        assert 0 <= choice.limits.min_tokens <= choice.limits.max_tokens
        assert len(choice.names) == len(choice.prompt) // 16
        assert 0 <= choice.sampling.seed < 1 << 64
        assert choice.sampling.temperature >= 0
        assert 0 < choice.sampling.top_p <= 1
        assert all(0 <= token < TEXT.vocab_size for token in [*choice.prompt, *choice.limits.stop_ids])
        slos = choice.wishes.ttft_slo_s, choice.wishes.tpot_slo_s
        assert all(slo is None or 0 < slo < inf for slo in slos)


@given(MESSAGES, OTHERS)
def test_any_conversation(messages: list[dict[str, Any]], others: dict[str, Any]) -> None:
    check(served(ChatBody, chat_order, {"messages": messages, **others}))


@given(PROMPTS, OTHERS)
def test_any_prompt(prompt: object, others: dict[str, Any]) -> None:
    check(served(CompletionBody, completion_order, {"prompt": prompt, **others}))


@given(ANYTHING)
def test_anything_at_all(body: Any) -> None:
    for kind, make_order in ((ChatBody, chat_order), (CompletionBody, completion_order)):
        check(served(kind, make_order, body))
