"""Until when certificates are good, and that their own process says so."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.runtime.process import Refusal
from services.wire.certificates import Expiry, Validity, refuse_untimely, validity
from tests.services.wire.certificates import Authority

SINCE, UNTIL = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
PEM = Path("/etc/moonpool/cert.pem")
CERT = Validity("--tls-cert", PEM, SINCE, UNTIL)
SECOND = timedelta(seconds=1)
TROUBLES = [
    (SINCE - SECOND, "not valid before 2026-06-01 00:00:00 UTC, and this machine's clock says 2026-05-31 23:59:59 UTC"),
    (SINCE, None),
    (UNTIL - SECOND, None),
    (UNTIL, "--tls-cert /etc/moonpool/cert.pem has expired at 2026-12-01 00:00:00 UTC"),
]


@pytest.mark.parametrize(("now", "says"), TROUBLES)
def test_a_certificate_out_of_its_time_is_refused_with_a_sentence(now: datetime, says: str | None) -> None:
    if says is None:
        refuse_untimely([CERT], now)
        return
    with pytest.raises(Refusal) as refused:
        refuse_untimely([CERT], now)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("lasts", "before_its_end", "soon"),
    [
        (timedelta(days=365), timedelta(days=7, seconds=1), False),
        (timedelta(days=365), timedelta(days=7), True),
        (timedelta(hours=24), timedelta(hours=2.5), False),
        (timedelta(hours=24), timedelta(hours=2.4), True),
    ],
)
def test_its_end_is_near_within_a_week_or_a_tenth_of_its_time(
    lasts: timedelta, before_its_end: timedelta, soon: bool
) -> None:
    cert = Validity("--tls-cert", PEM, UNTIL - lasts, UNTIL)
    assert (cert.ends_soon(UNTIL - before_its_end) is not None) is soon


def test_a_process_that_runs_says_it_once_before_the_end_and_once_at_it(caplog: pytest.LogCaptureFixture) -> None:
    now = UNTIL - timedelta(days=30)
    expiry = Expiry([CERT], clock=lambda: now)
    said = []
    while now < UNTIL + timedelta(days=2):
        caplog.clear()
        expiry.look()
        said += [(now, record.levelname, record.message) for record in caplog.records]
        now += timedelta(hours=1)
    assert [(moment, level) for moment, level, _ in said] == [(UNTIL - timedelta(days=7), "WARNING"), (UNTIL, "ERROR")]
    assert "expires at 2026-12-01 00:00:00 UTC" in said[0][2]
    assert "has expired at 2026-12-01 00:00:00 UTC" in said[1][2]


def test_a_chain_is_good_while_all_of_it_is_and_authorities_while_one_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    now = datetime.now(UTC).replace(microsecond=0)
    short, _ = authority.lasting("short", now - timedelta(days=2), now + timedelta(days=1))
    long, _ = authority.lasting("long", now - timedelta(days=1), now + timedelta(days=9))
    both = tmp_path / "both.pem"
    both.write_bytes(short.read_bytes() + long.read_bytes())
    chain = validity("--tls-cert", both)
    assert (chain.since, chain.until) == (now - timedelta(days=1), now + timedelta(days=1))
    either = validity("--tls-ca", both, any_of=True)
    assert (either.since, either.until) == (now - timedelta(days=2), now + timedelta(days=9))


@pytest.mark.parametrize("command", ["conductor", "store", "worker", "gateway", "up"])
@pytest.mark.slow
def test_every_process_that_is_given_one_says_so_itself(command: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.files("late", expired=True)
    flags = [f"--tls-cert={cert}", f"--tls-key={key}", f"--tls-ca={authority.ca}"]
    if command == "gateway":
        flags += ["--engine=toy", "--port=0", "--conductor=127.0.0.1:1"]
    elif command == "up":
        flags += ["--engine=toy", f"--arena-dir={tmp_path}"]
    else:
        flags += [f"--listen=unix:{tmp_path}/s"]
    flags += ["--engine=toy"] if command == "worker" else []
    flags += ["--dram=1MiB", f"--arena-dir={tmp_path}"] if command == "store" else []
    environment = {**os.environ, "MOONPOOL_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "moonpool", command, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (1 if command == "up" else 78), done.stderr
    assert f"--tls-cert {cert} has expired at " in done.stderr
    assert "Traceback" not in done.stderr
