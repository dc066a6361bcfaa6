"""TLS: the configured certificate and key as an SSL context that can reload renewed files while it serves."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

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
        ConfigError: They cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._certificate, self._key = config.tls_certificate, config.tls_key
        self.context: ssl.SSLContext | None = None
        self.expires_at = math.nan
        """Unix time at which what new clients see expires, seconds; NaN without TLS, or where no client accepts it."""
        if self._certificate or self._key:
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
        _check_pem("server.tls_certificate", self._certificate, "CERTIFICATE")
        _check_pem("server.tls_key", self._key, "PRIVATE KEY")
        try:
            context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as error:
            raise ConfigError(f"{self._certificate} and {self._key} {_mismatch(error)}") from None
        return context


def _check_pem(name: str, path: str, what: str) -> None:
    """
    Check that a file is in PEM and whole, and its key not encrypted: OpenSSL would ask a terminal for the passphrase.

    Args:
        name: Of the setting.
        path: Its value.
        what: Label of what must be in the file.

    Raises:
        UnreadableFileError: The file cannot be read.
        ConfigError: It holds something else.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"cannot read {name} = {path}: {reason_of(error)}") from None
    if re.search(rb"-----END [A-Z0-9 ]*%b-----" % what.encode(), data) is None:
        whole = f"-----BEGIN {what}----- to -----END {what}-----"
        raise ConfigError(f"{name} = {path}: expected a PEM file with all lines from {whole}")
    if what == "PRIVATE KEY" and b"ENCRYPTED" in data:
        plain = f"openssl pkey -in {path} -out FILE"
        raise ConfigError(f"{name} = {path} is encrypted: expected a key without a passphrase, as of `{plain}`")


def _mismatch(error: ssl.SSLError) -> str:
    """What is wrong with a certificate and a key that are both in PEM, in words."""
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return "do not belong together: expected a certificate first, and the key that it was made for"
    return f"cannot be used: {error.reason or 'one of them is damaged'}"


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
