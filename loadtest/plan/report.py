"""A plan in words: a table of the frontier, a line for each cluster that was tried, commands to try the smallest."""

import shlex
from argparse import Namespace
from dataclasses import asdict

from rich.table import Table

from loadtest.plan.goal import Goal, Verdict
from loadtest.plan.plan import Plan
from loadtest.plan.trials import Trials


def document(goal: Goal, trials: Trials, found: Plan) -> dict[str, object]:
    """Of ``--json``."""
    return {
        "goal": asdict(goal),
        "frontier": [asdict(each) for each in found.frontier],
        "smallest": None if found.smallest is None else asdict(found.smallest),
        "simulations": trials.simulations,
        "seed": trials.seed,
    }


def table(found: Plan) -> Table:
    """The frontier; the smallest has a star."""
    shown = Table()
    for column in ("", "P", "D", "nodes", "DRAM each", "goodput", "mean TTFT, s", "p99 TBT, s", "hit rate"):
        shown.add_column(column, justify="right")
    for each in found.frontier:
        shown.add_row(
            "*" if each is found.smallest else "",
            str(each.prefill),
            str(each.decode),
            str(each.nodes),
            _size(each.dram_bytes),
            f"{each.goodput:.4f}",
            _seconds(each.mean_ttft_s),
            _seconds(each.p99_tbt_s),
            f"{each.hit_rate:.3f}",
        )
    return shown


def tried(found: Verdict, *, kept: bool) -> str:
    where = f"{found.prefill}P+{found.decode}D, {_size(found.dram_bytes)} each"
    if kept:
        return f"tried {where}: kept, {100 * found.goodput:.1f} %"
    return f"tried {where}: not kept{', given up' if found.given_up else ''}, {missed(found)}"


def nothing_found(goal: Goal, best: Verdict, nodes: int) -> str:
    """best: the one of so many nodes that came closest."""
    share = f"{'less than ' if best.given_up else ''}{100 * best.goodput:.1f} %"
    return (
        f"no cluster of up to {nodes} nodes keeps {goal}. The best that was tried, {best.prefill}P+{best.decode}D, "
        f"keeps {share}: {missed(best)}"
    )


def missed(found: Verdict) -> str:
    """Which promise, by how many of those that were over, and by how much."""
    parts = []
    if found.late and found.p99_ttft_s is not None:
        parts.append(f"{100 * found.late:.1f} % miss the TTFT (p99 {found.p99_ttft_s:.3g} s)")
    if found.slow and found.p99_tbt_s is not None:
        parts.append(f"{100 * found.slow:.1f} % miss the TBT (p99 {found.p99_tbt_s:.3g} s)")
    return ", ".join(parts)


def simulate(asked: Namespace, found: Verdict) -> str:
    """The command that shows one cluster of the table."""
    words = ["moonpool", "simulate"]
    told = {
        "--trace": asked.trace,
        "--trace-time-unit": asked.trace_time_unit,
        "--trace-block-tokens": asked.trace_block_tokens,
        "--requests": asked.requests,
    }
    for flag, value in told.items():
        words += [] if value is None else [flag, str(value)]
    words += ["--profile", asked.profile, "--prefill", str(found.prefill), "--decode", str(found.decode)]
    words += ["--dram", str(found.dram_bytes), "--block-tokens", str(asked.block_tokens)]
    words += ["--ttft-slo", f"{asked.ttft_slo:g}", "--tbt-slo", f"{asked.tbt_slo:g}"]
    words += ["--speed", f"{asked.speed:g}", "--seed", str(asked.seed)]
    return shlex.join(words)


def serve(found: Verdict) -> str:
    """The command that would serve it, were all its hosts one."""
    return f"moonpool up --prefill {found.prefill} --decode {found.decode} --dram {found.dram_bytes}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.3g} GB"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
