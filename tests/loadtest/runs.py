"""Made-up runs: what a harness would have written, drawn by seed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from random import Random

from loadtest.metrics import Facts, Slo, summary
from loadtest.record import Chunk, Outcome, PoolSample, Record, to_line

WHEN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SLOS = (Slo("ttft", 1.0), Slo("tpot", 0.05))


def offered(number: int, *, rate: float = 8.0, seed: int = 0, tokens: int = 24) -> Iterator[Record]:
    """The higher the rate, the later first tokens come, and the more is refused."""
    chance = Random(seed)
    at_s = 0.0
    for place in range(number):
        at_s += chance.expovariate(rate)
        yield one(chance, place, at_s, load=rate / 10.0, tokens=tokens)


def one(chance: Random, place: int, at_s: float, *, load: float, tokens: int) -> Record:
    asked = (place, at_s, at_s + chance.random() * 1e-3, 64 * chance.randint(1, 32), tokens)
    drawn = chance.random()
    if drawn < 0.15 * load:
        detail = "The time to first token would be 2.1 s, and 1 s was promised."
        return Record(*asked, Outcome.REFUSED, at_s + 0.01, cause="slo_unattainable", detail=detail, status=429)
    if drawn > 0.98:
        detail = "<script>alert('&')</script>"
        return Record(*asked, Outcome.FAILED, at_s + 0.2, cause="connection reset", detail=detail)
    ttft_s = 0.05 + chance.lognormvariate(-2.0 + load, 0.7)
    gaps = [chance.lognormvariate(-4.0, 0.3) for _ in range(chance.randint(1, tokens) - 1)]
    times = list(accumulate(gaps, initial=ttft_s))
    outcome = Outcome.CANCELLED if drawn > 0.96 else Outcome.FINISHED
    return Record(
        *asked,
        outcome,
        asked[2] + times[-1],
        tuple(Chunk(time, 1) for time in times),
        finish_reason="length",
        prompt_tokens=asked[3],
        completion_tokens=len(times),
        cached_tokens=64 * chance.randint(0, asked[3] // 64),
        predicted_ttft_s=ttft_s * chance.lognormvariate(0.0, 0.3),
        prefill=f"prefill-{chance.randrange(2)}",
        decode=f"decode-{chance.randrange(2)}",
    )


def pool_samples(span_s: float, *, seed: int = 0) -> Iterator[PoolSample]:
    chance = Random(seed)
    for step in range(int(2 * span_s) + 1):
        yield PoolSample(step / 2, "prefill", 2, chance.randint(0, 4), chance.randint(0, 9), 0.2, 400)
        yield PoolSample(step / 2, "decode", 2, chance.randint(4, 16), 0, 0.1 + 0.5 * chance.random())


def write(
    directory: Path, records: list[Record], *, rate: float, pools: bool = True, slos: tuple[Slo, ...] = SLOS
) -> Path:
    """A run's directory, as a harness leaves it."""
    directory.mkdir(parents=True)
    (directory / "records.jsonl").write_text("".join(to_line(record) + "\n" for record in records))
    if pools:
        samples = pool_samples(max(record.ended_s for record in records))
        (directory / "pools.jsonl").write_text("".join(to_line(sample) + "\n" for sample in samples))
    settings = {"workload": "random", "seed": 1, "url": "http://127.0.0.1:8000"}
    harness = {"warnings": ["The harness was late: p99 lag 30 ms."]} if rate > 10 else {}
    facts = Facts(WHEN, model_id="toy", request_rate=rate, slos=slos, settings=settings, harness=harness)
    (directory / "summary.json").write_text(json.dumps(summary(records, facts)))
    return directory
