"""TLS: the configured certificate and key as an SSL context that can reload renewed files while it serves."""

from __future__ import annotations

import contextlib
import functools
import math
import ssl
import time
from collections.abc import Mapping

from streamer.config import ServerConfig
from streamer.errors import ConfigError, UnreadableFileError, reason_of

AT_ANY_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the module `ssl` has no name for: an expired certificate is shown too."""


class Certificate:
    """
    The certificate of the server; `context` is None where TLS is off.

    Args:
        config: `tls_certificate` and `tls_key` name the files; both empty: TLS is off.

    Raises:
        UnreadableFileError: They cannot be read.
        ConfigError: Only one of the two files is named, or they cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._certificate, self._key = config.tls_certificate, config.tls_key
        if bool(self._certificate) != bool(self._key):
            raise ConfigError("server.tls_certificate and server.tls_key belong together: set both or none")
        self.context: ssl.SSLContext | None = None
        self.expires_at = math.nan
        """Unix time at which what new clients see expires, seconds; NaN without TLS, or where no client accepts it."""
        if self._certificate:
            context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context, self.expires_at = context, self._expiry(context)

    def reload(self) -> None:
        """
        Load the files again; they are used for new connections. Does nothing where TLS is off.

        Raises:
            ConfigError: The files cannot be used; the old certificate stays in use.
        """
        if self.context is not None:
            # into a context of its own: the one that serves would keep the old pair beside one with another kind of key
            renewed = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self.context.sni_callback = functools.partial(_show, renewed)
            self.expires_at = self._expiry(renewed)

    def days_left(self) -> float:
        """
        Days until the certificate expires, as a client sees it in a handshake in memory. Needs TLS to be on.

        Raises:
            ConfigError: The certificate has expired or is not valid yet.
        """
        assert self.context is not None
        try:
            return (self._valid_until(self.context) - time.time()) / 86400
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(f"{self._certificate}: {error.verify_message}") from None

    def _expiry(self, server: ssl.SSLContext) -> float:
        """As `expires_at`, of what a context shows: read once, since it is asked for at each scrape."""
        try:
            return self._valid_until(server, AT_ANY_TIME)
        except OSError:  # no client accepts it, or the file has just been taken away
            return math.nan

    def _valid_until(self, server: ssl.SSLContext, flags: int = 0) -> float:
        """Unix time up to which a client accepts the certificate of a context, seconds; SSLError: it never does."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(self._certificate)
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | flags
        return ssl.cert_time_to_seconds(str(_handshake(client, server)["notAfter"]))

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as error:  # a subclass of OSError, so it comes first
            raise ConfigError(
                f"{self._certificate} and {self._key} are not a PEM certificate chain and its key: {error.reason}"
            ) from None
        except OSError as error:
            raise UnreadableFileError(f"cannot read {self._certificate} or {self._key}: {reason_of(error)}") from None
        return context


def _show(renewed: ssl.SSLContext, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
    """Show the certificate of another context in this handshake, whether the client names a host or not."""
    connection.context = renewed


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> Mapping[str, object]:
    """Handshake between two contexts without a socket; return the certificate that the client sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    while True:
        try:
            near.do_handshake()
        except ssl.SSLWantReadError:
            with contextlib.suppress(ssl.SSLWantReadError):
                far.do_handshake()
        else:
            return near.getpeercert() or {}
