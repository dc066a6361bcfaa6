"""TLS: the configured certificate and key as an SSL context that can reload renewed files while it serves."""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from collections.abc import Mapping

from streamer.config import ServerConfig
from streamer.errors import ConfigError, UnreadableFileError, reason_of


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
        if self._certificate:
            context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context = context

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

    def days_left(self) -> float:
        """
        Days until the certificate expires, as a client sees it in a handshake in memory. Needs TLS to be on.

        Raises:
            ConfigError: The certificate has expired or is not valid yet.
        """
        assert self.context is not None
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(self._certificate)
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            shown = _handshake(client, self.context)
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(f"{self._certificate}: {error.verify_message}") from None
        return (ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()) / 86400

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
