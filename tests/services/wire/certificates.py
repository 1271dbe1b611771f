"""Certificates of an authority that exists for one test."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from services.wire.tls import Tls


class Authority:
    """Issues certificates as files in ``directory``."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._made = trustme.CA()
        self._directory = directory
        self.ca = directory / f"{name}.pem"
        self._made.cert_pem.write_to_path(str(self.ca))

    def files(self, name: str, *hosts: str, expired: bool = False) -> tuple[Path, Path]:
        """Certificate and key of whoever is called by ``hosts``."""
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        since = datetime.now(UTC) - timedelta(days=2) if expired else None
        issued = self._made.issue_cert(*(hosts or ("127.0.0.1",)), not_before=since, not_after=until)
        cert, key = self._directory / f"{name}.cert.pem", self._directory / f"{name}.key.pem"
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key

    def lasting(self, name: str, since: datetime, until: datetime) -> tuple[Path, Path]:
        """Certificate and key that are good from then to then."""
        issued = self._made.issue_cert("127.0.0.1", not_before=since, not_after=until)
        cert, key = self._directory / f"{name}.cert.pem", self._directory / f"{name}.key.pem"
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key

    def tls(self, name: str, *hosts: str, expired: bool = False, believes: "Authority | None" = None) -> Tls:
        """A process of ours; ``believes``: it trusts certificates of this authority, where not of its own."""
        cert, key = self.files(name, *hosts, expired=expired)
        return Tls(cert, key, (believes or self).ca)
