"""What one HTTP request wants, worked out in full: sequences to generate, and how to tell them.

The rules that chat and text completions share are here: which limits and sampling a
body means, what a prompt may be, and which seeds several choices get.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import uuid4

from kvstore.layout import Identity
from kvstore.names import block_names, root_name
from scheduler.vocabulary import Limits, RequestId, Sampling
from services.gateway.bounds import shown
from services.gateway.errors import ApiError, bad_request, too_long, too_many_tokens
from services.gateway.generation import Generation
from services.gateway.schemas import MOST_CHOICES, GenerationBody
from services.gateway.scribe import Wording
from services.gateway.text import Text
from services.gateway.text_threads import Pieces
from services.gateway.wishes import Wishes

NumberT = TypeVar("NumberT", int, float)

SEEDS = 1 << 64
ANY_SEED = -1
"""A random one, as in vLLM and llama.cpp."""
GREEDY_BELOW = 1e-5
"""Dividing logits by less than this overflows; nobody can tell the result from greedy."""

COUNTED_CHARACTERS = 8
"""Of a longer text, for each token of the context, tokens are counted piece by piece; English has 4 or 5."""

LEAST_COUNTED = 1 << 16
"""Characters that are tokenized without counting: 20 ms."""

MOST_REPEATED = 1 << 18
"""Tokens of prompts in an answer that repeats them for every choice: about 2 MB of JSON, 20 ms."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the cluster serves now. longest: tokens of prompt and output together."""

    identity: Identity
    longest: int


@dataclass(frozen=True, slots=True)
class Telling:
    """How the answer is to be told. echo: the prompt's text comes first."""

    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    echo: bool
    wording: Wording


@dataclass(frozen=True, slots=True)
class Order:
    """choices: one generation each, all choices of the first prompt first. n: choices for each prompt.

    prompts: the texts to echo, one for each prompt; empty unless asked for.
    """

    id: str
    choices: tuple[Generation, ...]
    n: int
    telling: Telling
    prompts: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counts once, however many choices it has."""
        return sum(len(choice.prompt) for choice in self.choices[:: self.n])


def order(
    prefix: str,
    body: GenerationBody,
    prompts: Sequence[Sequence[int]],
    text: Text,
    deployment: Deployment,
    *,
    max_tokens: tuple[int | None, str],
    prompt_param: str,
    wishes: Wishes,
    echo: bool = False,
) -> Order:
    """Every generation that ``body`` means for these prompts; raises ApiError.

    max_tokens: the wanted number (None: the model's default, else what is left of the context), and the name it was
    given under.
    """
    n = body.n or 1
    check_choices(len(prompts), n, prompt_param)
    if echo or body.return_token_ids:
        _check_repeated(sum(map(len, prompts)), n, deployment.longest, "echo" if echo else "return_token_ids")
    identity = deployment.identity
    root = root_name(identity.fingerprint, cache_salt=body.cache_salt or "")
    sampling = _sampling(body, text)
    request = f"{prefix}-{uuid4().hex}"
    choices: list[Generation] = []
    for prompt in prompts:
        limits = _limits(body, text, deployment.longest, prompt, max_tokens, prompt_param)
        names = tuple(block_names(root, prompt, identity.block_tokens))
        for number in range(n):
            choices.append(
                Generation(
                    request=RequestId(f"{request}-{len(choices)}" if len(prompts) * n > 1 else request),
                    fingerprint=identity.fingerprint,
                    root=root,
                    block_tokens=identity.block_tokens,
                    prompt=prompt,
                    names=names,
                    sampling=replace(sampling, seed=derived_seed(sampling.seed, number)),
                    limits=limits,
                    wishes=wishes,
                )
            )
    telling = _telling(body, text, echo)
    skip = telling.wording.skip_special_tokens
    texts = tuple(text.echo(prompt, skip_special_tokens=skip) for prompt in prompts) if echo else ()
    return Order(request, tuple(choices), n, telling, texts)


def derived_seed(seed: int, number: int) -> int:
    """The seed of choice ``number``: the first has the request's own, as if it were alone."""
    if number == 0:
        return seed
    digest = hashlib.sha256(seed.to_bytes(8, "little") + number.to_bytes(4, "little")).digest()
    return int.from_bytes(digest[:8], "little")


def check_ids(tokens: Sequence[int], text: Text, param: str) -> ApiError | None:
    """Whether all are ids of this model."""
    if tokens and (min(tokens) < 0 or max(tokens) >= text.vocab_size):
        wrong = next(token for token in tokens if not 0 <= token < text.vocab_size)
        return bad_request(
            f"`{param}` has token id {shown(wrong)}, and this model's are 0 to {text.vocab_size - 1}.", param
        )
    return None


def check_choices(prompts: int, n: int, param: str) -> None:
    if prompts * n > MOST_CHOICES:
        raise bad_request(f"{prompts} prompts with n={n} make more than {MOST_CHOICES} choices.", param)


def _check_repeated(prompt_tokens: int, n: int, longest: int, param: str) -> None:
    """An answer has the prompt once for each of its choices; a single one of any prompt is always possible."""
    if prompt_tokens * n > max(MOST_REPEATED, longest):
        told = f"would repeat {prompt_tokens} tokens of prompts {n} times, more than {MOST_REPEATED} in all"
        raise bad_request(f"`{param}` {told}.", param)


def tokens_of(characters: str, text: Text, longest: int, param: str, *, add_special_tokens: bool) -> Pieces[list[int]]:
    """The ids of a prompt. Raises ApiError for one that is too long, before all of it was tokenized."""
    check_length(characters, text, longest, param)
    piece = max(LEAST_COUNTED, COUNTED_CHARACTERS * longest)
    counted = 0
    for start in range(0, len(characters) if len(characters) > piece else 0, piece):
        counted += len(text.encode(characters[start : start + piece], add_special_tokens=False))
        if counted > 2 * longest:  # a cut costs a few tokens more than the whole has there, never as many again
            raise too_long(param, longest=longest, prompt_tokens=longest + 1, at_least=True)
        yield
    return text.encode(characters, add_special_tokens=add_special_tokens)


def check_length(characters: str, text: Text, longest: int, param: str) -> None:
    """Raises ApiError for a text that is too long by far, before anything is done with it."""
    if text.certainly_longer_than(longest, characters):
        raise too_long(param, longest=longest, prompt_tokens=longest + 1, at_least=True)


def _sampling(body: GenerationBody, text: Text) -> Sampling:
    """The request's own values, the model's where it has none; a random seed, so that the stream can be resumed."""
    defaults = text.defaults
    temperature = _either(body.temperature, defaults.temperature)
    return Sampling(
        temperature=0.0 if temperature < GREEDY_BELOW else temperature,
        top_k=max(0, _either(body.top_k, defaults.top_k)),
        top_p=_either(body.top_p, defaults.top_p),
        min_p=_either(body.min_p, defaults.min_p),
        seed=secrets.randbits(64) if body.seed in (None, ANY_SEED) else body.seed % SEEDS,
        repetition_penalty=_either(body.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=_either(body.presence_penalty, defaults.presence_penalty),
        frequency_penalty=_either(body.frequency_penalty, defaults.frequency_penalty),
    )


def _either(given: NumberT | None, default: NumberT) -> NumberT:
    return default if given is None else given


def _limits(
    body: GenerationBody,
    text: Text,
    longest: int,
    prompt: Sequence[int],
    max_tokens: tuple[int | None, str],
    prompt_param: str,
) -> Limits:
    if not prompt:
        raise bad_request(f"`{prompt_param}` makes no tokens at all.", prompt_param)
    wrong = check_ids(prompt, text, prompt_param)  # tokens may be added beyond what the model was trained with
    if wrong is not None:
        raise wrong
    room = longest - len(prompt)
    if room < 1:
        raise too_long(prompt_param, longest=longest, prompt_tokens=len(prompt))
    wanted, param = max_tokens
    if wanted is not None and wanted > room:
        raise too_many_tokens(param, longest=longest, prompt_tokens=len(prompt), wanted=wanted)
    most = wanted if wanted is not None else min(room, text.defaults.max_new_tokens or room)
    min_tokens = body.min_tokens or 0
    if min_tokens > most:
        raise bad_request(f"`min_tokens` is {min_tokens}, more than the {most} tokens there may be.", "min_tokens")
    stop_ids = frozenset(body.stop_token_ids or ())
    wrong = check_ids(sorted(stop_ids), text, "stop_token_ids")
    if wrong is not None:
        raise wrong
    return Limits(most, min_tokens, stop_ids if body.ignore_eos else stop_ids | text.end_ids)


def _telling(body: GenerationBody, text: Text, echo: bool) -> Telling:
    options = body.stream_options
    if options is not None and not body.stream:
        raise bad_request("`stream_options` is only allowed together with `stream`.", "stream_options")
    return Telling(
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
        return_token_ids=bool(body.return_token_ids),
        echo=echo,
        wording=Wording(
            stops=tuple(body.stop or ()),
            include_stop=bool(body.include_stop_str_in_output),
            skip_special_tokens=body.skip_special_tokens is not False,
            eos_id=None if body.ignore_eos else text.eos_id,
        ),
    )
