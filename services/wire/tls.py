"""Mutual TLS between the processes of a deployment, and who may listen without it.

One certificate, key and authority (PEM) serve gRPC and the transfers between stores alike. Both sides
of a connection show a certificate of the authority, and the one that is called must also have
the name or address that it was called by. Unix sockets need none of it: file permissions guard them.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import grpc

from services.runtime.process import Refusal
from services.runtime.settings import ProcessSettings
from services.wire.address import is_local
from services.wire.certificates import Expiry, Validity, refuse_untimely, validity


class Tls:
    """This process's certificate and key, and the authority whose certificates it believes; files are read once.

    Raises Refusal where one can't be read, or certificate and key do not belong together.
    """

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self._cert, self._key, self._ca = cert, key, ca
        self._pem = {path: _read(path) for path in (cert, key, ca)}
        self.ssl_client()
        self.ssl_server()

    def validities(self) -> tuple[Validity, Validity]:
        """Until when they are good: the certificate's and the authority's."""
        return validity("--tls-cert", self._cert), validity("--tls-ca", self._ca, any_of=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For whoever calls over gRPC."""
        return grpc.ssl_channel_credentials(self._pem[self._ca], self._pem[self._key], self._pem[self._cert])

    def server_credentials(self) -> grpc.ServerCredentials:
        """For whoever is called over gRPC: a caller without a certificate is turned away."""
        chain = [(self._pem[self._key], self._pem[self._cert])]
        return grpc.ssl_server_credentials(chain, root_certificates=self._pem[self._ca], require_client_auth=True)

    def ssl_client(self) -> ssl.SSLContext:
        """For a plain socket that connects; ``wrap_socket`` needs ``server_hostname``, which is checked."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def ssl_server(self) -> ssl.SSLContext:
        """For a plain socket that accepts. In TLS 1.3 a client learns only when it reads that it was turned away."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # both sides are ours
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self._ca)
        except (ssl.SSLError, OSError) as error:
            raise Refusal(f"--tls-ca {self._ca} has no certificate in PEM: {_reason(error)}") from error
        try:
            context.load_cert_chain(self._cert, self._key, password=b"")  # an encrypted key fails, and does not ask
        except (ssl.SSLError, OSError, ValueError) as error:
            sentence = f"--tls-cert {self._cert} and --tls-key {self._key} are not a certificate and its plain key"
            raise Refusal(f"{sentence}: {_reason(error)}") from error
        return context


def tls_of(settings: ProcessSettings) -> Tls | None:
    """What the settings say, for a process that says so before it runs out. To be called in its event loop.

    Raises Refusal, where certificates are out of their time, too.
    """
    tls = checked_tls(settings)
    if tls is not None:
        Expiry(tls.validities()).watch(asyncio.get_running_loop())
    return tls


def checked_tls(settings: ProcessSettings) -> Tls | None:
    """What the settings say. Raises Refusal, where certificates are out of their time, too."""
    if settings.tls_cert is None or settings.tls_key is None or settings.tls_ca is None:
        return None  # that it is all or none is checked by the settings
    tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_ca)
    refuse_untimely(tls.validities(), datetime.now(UTC))
    return tls


def refuse_exposed(listen: str, tls: Tls | None, *, insecure_network: bool) -> None:
    """Raise Refusal where strangers could call ``listen`` (a target, or HOST:PORT) and nothing would check them."""
    if tls is None and not insecure_network and not is_local(listen):
        raise Refusal(
            f"listening at {listen} opens this process to everyone on that network: give --tls-cert, --tls-key and "
            "--tls-ca, or --insecure-network if the network itself keeps strangers out"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(f"{path}, given for TLS, can't be read: {error.strerror}") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
