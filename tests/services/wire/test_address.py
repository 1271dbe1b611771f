"""What others call a process by, that listens somewhere."""

import pytest

from services.runtime.process import Refusal
from services.wire.address import advertised


@pytest.mark.parametrize(
    ("listen", "advertise", "address"),
    [
        ("unix:/run/x.sock", None, "unix:/run/x.sock"),
        ("unix:/run/x.sock", "host-a", "unix:/run/x.sock"),
        ("10.0.0.1:7200", None, "10.0.0.1:7200"),
        ("0.0.0.0:7200", "host-a.example", "host-a.example:7200"),
        ("[::]:7200", "fd00::1", "[fd00::1]:7200"),
        ("10.0.0.1:7200", "host-a", "host-a:7200"),
    ],
)
def test_others_call_the_host_by_its_advertised_name(listen: str, advertise: str | None, address: str) -> None:
    assert advertised(listen, advertise) == address


@pytest.mark.parametrize("listen", ["0.0.0.0:7200", "[::]:7200", ":7200"])
def test_everywhere_is_no_address_that_others_can_call(listen: str) -> None:
    with pytest.raises(Refusal, match="give the name or address of this host as --advertise"):
        advertised(listen, None)
