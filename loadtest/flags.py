"""The flags of ``moonpool loadtest``: what is offered, to whom, what counts as good; and from them a run's settings."""

import json
import os
from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.arguments import TRACE_HELP, Parser, above_0, add_trace_format, number, positive, trace_file
from loadtest.metrics import SloError, slo
from loadtest.offered import check_own_times
from loadtest.settings import ENDPOINTS, WORKLOADS, Endpoint, Offer, RunSettings, Simulated
from loadtest.workload.ramps import Ramp, Strategy

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "OPENAI_API_KEY"


def add_all(parser: Parser) -> None:
    """Everything that ``settings`` reads."""
    add_target(parser)
    add_offer(parser)
    add_arrivals(parser)
    add_judgement(parser)


def parse(parser: Parser, argv: Sequence[str]) -> Namespace:
    """Flags that are none of ours are the simulated cluster's, where there is one: ``moonpool simulate`` has them."""
    asked, others = parser.parse_known_args(list(argv))
    if others and not asked.simulate:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    asked.cluster = tuple(others)
    return asked


def add_target(parser: Parser) -> None:
    group = parser.add_argument_group("who is asked")
    add = group.add_argument
    url = os.environ.get("MOONPOOL_URL") or DEFAULT_URL
    add("--url", default=url, help=f"an OpenAI-compatible server's base URL; or MOONPOOL_URL [{DEFAULT_URL}]")
    add("--simulate", action="store_true", help="instead: a simulated cluster, of the flags of moonpool simulate")
    add("--endpoint", choices=tuple(ENDPOINTS), default="completions", help="completions sends prompts as token ids")
    add("--model", metavar="NAME", help="which of the server's [the first it lists]")
    add("--api-key", metavar="KEY", help=f"sent as a bearer token; better as {KEY_VARIABLE}")
    add("--header", action="append", default=[], type=_header, metavar="NAME:VALUE", help="sent with each request")
    add("--tokenizer", type=Path, metavar="PATH", help="a tokenizer.json or its folder [the server's /tokenize]")
    add("--timeout", type=above_0, default=600.0, metavar="S", help="for a whole answer [600]")
    add("--ignore-eos", action=BooleanOptionalAction, default=True, help="answers of exactly the asked length [yes]")
    add("--temperature", type=_not_below_0, default=0.0, metavar="X", help="[0]")
    add("--token-counts", action="store_true", help="have each chunk say how many tokens there are so far")
    add("--slo-ttft-ms", type=above_0, metavar="MS", help="promise to ask a Moonpool for, as the header x-slo-ttft-ms")
    add("--slo-tpot-ms", type=above_0, metavar="MS", help="likewise, as x-slo-tpot-ms")
    add("--extra-body", type=_object, default="{}", metavar="JSON", help="an object whose fields each body gets")
    add("--block-size", type=number, metavar="N", help="tokens in the server's blocks [as a Moonpool says]")
    add("--reset-cache", action="store_true", help="empty the server's caches first (a Moonpool with --dev-endpoints)")


def add_offer(parser: Parser) -> None:
    group = parser.add_argument_group("what is asked")
    add = group.add_argument
    add("--workload", choices=WORKLOADS, default="random", help="[random]")
    add("--num-prompts", type=positive, metavar="N", help="requests [1000; with --duration or a trace: all that fit]")
    add(
        "--input-len",
        type=positive,
        default=1024,
        metavar="N",
        help="tokens of a prompt, or of what is new in it; but for random, the median of drawn lengths [1024]",
    )
    add(
        "--output-len",
        type=positive,
        default=128,
        metavar="N",
        help="tokens of an answer; but for random, the median of drawn lengths [128]",
    )
    add(
        "--random-range-ratio",
        type=_not_below_0,
        default=0.0,
        metavar="X",
        help="random: lengths uniform within 1 - X and 1 + X times those [0]",
    )
    add(
        "--prefix-len",
        type=positive,
        default=512,
        metavar="N",
        help="tokens that chats, branches or prompts share [512]",
    )
    add("--prefixes", type=positive, default=20, metavar="N", help="shared-prefix: so many different ones [20]")
    add("--skew", type=_not_below_0, default=1.0, metavar="X", help="shared-prefix: asked for by place ** -X [1]")
    add("--turns", type=positive, default=5, metavar="N", help="of a chat in the mean, of each branch of a swarm [5]")
    add("--branches", type=positive, default=8, metavar="N", help="of a swarm [8]")
    add("--think", type=_not_below_0, default=1.0, metavar="S", help="between turns, in the mean [1]")
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help=f"trace: {TRACE_HELP} [the published or built-in one]",
    )
    add_trace_format(group)
    add("--speed", type=above_0, default=1.0, metavar="X", help="trace: replayed X times as fast [1]")
    add("--length-scale", type=above_0, default=1.0, metavar="X", help="trace: prompts and answers X times as long [1]")
    add("--longest", type=positive, metavar="N", help="leave out what is more tokens than this, prompt and answer")
    add("--cancel-share", type=_share, default=0.0, metavar="X", help="of requests that are left midway [0]")
    add("--num-warmups", type=number, default=0, metavar="N", help="requests before the run that don't count [0]")
    add("--seed", type=number, default=0, metavar="N", help="of all that is drawn: same seed, same requests [0]")


def add_arrivals(parser: Parser) -> None:
    group = parser.add_argument_group("when")
    add = group.add_argument
    add(
        "--request-rate",
        type=_or_inf,
        default=inf,
        metavar="R",
        help="a second; of chats or swarms, those that begin [inf: all at once]",
    )
    add(
        "--burstiness",
        type=_or_inf,
        default=1.0,
        metavar="X",
        help="shape of the gamma of gaps; 1 Poisson, less bursts, inf all alike [1]",
    )
    add("--ramp-up-strategy", choices=tuple(Strategy), help="a rate that changes from start to end")
    add("--ramp-up-start-rps", type=above_0, metavar="R", help="the rate at the first request")
    add("--ramp-up-end-rps", type=above_0, metavar="R", help="the rate at the last")
    add("--max-concurrency", type=positive, metavar="N", help="never more than N at a time: a closed loop")
    add("--duration", type=above_0, metavar="S", help="send for so long, then wait for what is open")


def add_judgement(parser: Parser) -> None:
    group = parser.add_argument_group("what counts")
    bounds = ", ".join(slo.MEASURES)
    group.add_argument(
        "--goodput", nargs="+", default=[], metavar="NAME:MS", help=f"bounds of a good request: {bounds}"
    )
    group.add_argument("--label", metavar="WORD", help="for plots")


def settings(parser: Parser, asked: Namespace) -> RunSettings:
    """Of what ``parse`` found; a mistake ends the process with a sentence."""
    try:
        slos = slo.parse(asked.goodput)
        target = Simulated(asked.cluster) if asked.simulate else _endpoint(asked)
        return RunSettings(_offer(asked), target, slos, asked.label)
    except (SloError, ValueError) as error:
        parser.error(str(error))


def _offer(asked: Namespace) -> Offer:
    _check_trace(asked)
    offer = Offer(
        workload=asked.workload,
        requests=asked.num_prompts,
        duration_s=asked.duration,
        rate_per_s=asked.request_rate,
        burstiness=asked.burstiness,
        ramp=_ramp(asked),
        max_concurrency=asked.max_concurrency,
        input_len=asked.input_len,
        output_len=asked.output_len,
        range_ratio=asked.random_range_ratio,
        prefix_len=asked.prefix_len,
        prefixes=asked.prefixes,
        skew=asked.skew,
        turns=asked.turns,
        branches=asked.branches,
        think_s=asked.think,
        trace=trace_file(asked, tokenizer=asked.tokenizer),
        speed=asked.speed,
        length_scale=asked.length_scale,
        longest=asked.longest,
        cancel_share=asked.cancel_share,
        warmups=asked.num_warmups,
        seed=asked.seed,
    )
    if offer.workload == "trace" and offer.trace.path is None:  # the one that comes with us has times
        check_own_times(offer)
    return offer


def _check_trace(asked: Namespace) -> None:
    if asked.workload != "trace":
        told = {
            "--trace": asked.trace,
            "--trace-time-unit": asked.trace_time_unit,
            "--trace-block-tokens": asked.trace_block_tokens,
        }
        if given := [name for name, value in told.items() if value is not None]:
            raise ValueError(f"{given[0]} needs --workload trace")


def _ramp(asked: Namespace) -> Ramp | None:
    given = (asked.ramp_up_strategy, asked.ramp_up_start_rps, asked.ramp_up_end_rps)
    if all(each is None for each in given):
        return None
    if any(each is None for each in given):
        raise ValueError("a ramp needs --ramp-up-strategy, --ramp-up-start-rps and --ramp-up-end-rps")
    if asked.request_rate != inf:
        raise ValueError("a ramp is instead of --request-rate")
    return Ramp(Strategy(asked.ramp_up_strategy), asked.ramp_up_start_rps, asked.ramp_up_end_rps)


def _endpoint(asked: Namespace) -> Endpoint:
    return Endpoint(
        url=_base(asked.url),
        endpoint=asked.endpoint,
        model=asked.model,
        key=asked.api_key or os.environ.get(KEY_VARIABLE),
        tokenizer=asked.tokenizer,
        timeout_s=asked.timeout,
        ignore_eos=asked.ignore_eos,
        temperature=asked.temperature,
        token_counts=asked.token_counts,
        slo_ttft_ms=asked.slo_ttft_ms,
        slo_tpot_ms=asked.slo_tpot_ms,
        headers=tuple(asked.header),
        extra_body=asked.extra_body,
        block_tokens=asked.block_size,
        reset_cache=asked.reset_cache,
    )


def _base(text: str) -> str:
    """Raises ValueError where no server can be there."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or too large
        sound = False
    if not sound:
        raise ValueError(f"--url {text} is no server's address; like http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1")


def _or_inf(text: str) -> float:
    return inf if text == "inf" else above_0(text)


def _share(text: str) -> float:
    if (found := _not_below_0(text)) > 1.0:
        raise ArgumentTypeError(f"{text!r} is no share, from 0 to 1")
    return found


def _not_below_0(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found < inf:
        raise ArgumentTypeError(f"{text!r} is no number from 0 on")
    return found


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon) or "\n" in text or "\r" in text:
        raise ArgumentTypeError(f"{text!r} is no NAME:VALUE")
    return name.strip(), value.strip()


def _object(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentTypeError(f"{text!r} is no JSON object")
    return text
