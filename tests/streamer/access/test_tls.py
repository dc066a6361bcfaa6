"""Tests of streamer/access/tls.py, with real handshakes."""

from __future__ import annotations

import math
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trustme
from websockets.asyncio.client import connect

from streamer.access.tls import Certificate
from streamer.cli import doctor
from streamer.config import ServerConfig
from streamer.errors import ConfigError, UnreadableFileError
from tests.helpers.http_daemon import CONFIG, receive, serving


def issue(authority: trustme.CA, folder: Path, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> ServerConfig:
    """A new certificate for this machine, and the configuration that names it."""
    issued = authority.issue_cert("127.0.0.1", key_type=key_type)
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    return ServerConfig(port=0, tls_certificate=str(folder / "cert.pem"), tls_key=str(folder / "key.pem"))


def trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    """A client that trusts these alone."""
    context = ssl.create_default_context()
    for authority in authorities:
        authority.configure_trust(context)
    return context


@pytest.mark.parametrize("key_type", trustme.KeyType)
async def test_a_renewed_certificate_is_shown_to_new_clients(tmp_path: Path, key_type: trustme.KeyType) -> None:
    """Whatever kind of key it has, and it alone; open connections go on."""
    old, new = trustme.CA(), trustme.CA()
    certificate = Certificate(issue(old, tmp_path))
    config = msgspec.structs.replace(CONFIG, server=ServerConfig(port=0))
    async with serving(config, tls=certificate.context) as daemon:
        url = f"wss://127.0.0.1:{daemon.port}/v1/captions"
        async with connect(url, ssl=trusting(old), proxy=None) as first:
            assert (await receive(first))["type"] == "hello"
            issue(new, tmp_path, key_type)
            certificate.reload()
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connect(url, ssl=trusting(old), proxy=None):
                    pass
            async with connect(url, ssl=trusting(new), proxy=None) as second:
                assert (await receive(second))["type"] == "hello"
            await first.send('{"type":"start"}')
            assert (await receive(first))["type"] == "started"
        assert daemon.http.url.startswith("https://127.0.0.1:")


def test_old_versions_are_not_spoken(tmp_path: Path) -> None:
    """TLS 1.2 and newer."""
    context = Certificate(issue(trustme.CA(), tmp_path)).context

    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_bad_renewal_leaves_the_old_pair_in_force(tmp_path: Path) -> None:
    """And is told; a file that is not there is told as such, with its setting."""
    config = issue(trustme.CA(), tmp_path)
    certificate = Certificate(config)
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"server\.tls_key = .*key\.pem: expected a PEM file with all lines from"):
        certificate.reload()
    assert certificate.days_left() > 0
    (tmp_path / "key.pem").unlink()
    with pytest.raises(UnreadableFileError, match=r"cannot read server\.tls_key = .*key\.pem: no such file"):
        Certificate(config)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cert.pem", "", r"^server\.tls_certificate = .*cert\.pem: expected a PEM file"),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB", r"to -----END CERTIFICATE-----$"),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "cannot be used: "),
        ("key.pem", "\0\1\2", r"^server\.tls_key = .*key\.pem: expected a PEM file"),
        ("key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
         r"is encrypted: expected a key without a passphrase, as of `openssl pkey -in .*key\.pem"),
        ("key.pem", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMIIB\n-----END EC PRIVATE KEY-----\n",
         "is encrypted"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Which one, and what is expected in it; nobody is asked for a passphrase."""
    config = issue(trustme.CA(), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        Certificate(config)


@pytest.mark.parametrize("key_type", trustme.KeyType)
def test_the_key_of_another_certificate_is_told(tmp_path: Path, key_type: trustme.KeyType) -> None:
    """Of the same kind or of another."""
    config = issue(trustme.CA(), tmp_path)
    other = trustme.CA().issue_cert("127.0.0.1", key_type=key_type)
    (tmp_path / "key.pem").write_bytes(other.private_key_pem.bytes())
    with pytest.raises(ConfigError, match=r"cert\.pem and .*key\.pem do not belong together"):
        Certificate(config)


def test_plain_http_is_the_default() -> None:
    """No files, no TLS; a reload has nothing to do."""
    certificate = Certificate(ServerConfig())
    certificate.reload()

    assert certificate.context is None


def test_a_private_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    """A group may, as that of a web server's keys."""
    config = issue(trustme.CA(), tmp_path)
    for mode, state in ((0o640, "ok"), (0o644, "warn")):
        (tmp_path / "key.pem").chmod(mode)
        assert doctor.check_tls(config).state == state


def test_the_expiry_is_that_of_what_new_clients_see(tmp_path: Path) -> None:
    """Also once it has expired; a file that was renewed counts when it was read. Without TLS there is none."""
    authority, now = trustme.CA(), datetime.now(tz=UTC).replace(microsecond=0)
    expired = authority.issue_cert("box.example", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in expired.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(expired.private_key_pem.bytes())
    certificate = Certificate(
        ServerConfig(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    )
    assert certificate.expires_at == (now - timedelta(days=1)).timestamp()

    issue(authority, tmp_path)
    assert certificate.expires_at < now.timestamp()
    certificate.reload()
    assert certificate.expires_at > now.timestamp()

    assert math.isnan(Certificate(ServerConfig()).expires_at)


def test_the_days_left_are_those_of_a_client(tmp_path: Path) -> None:
    """An expired certificate is an error."""
    authority = trustme.CA()
    for days in (10, -1):
        expires = datetime.now(tz=UTC) + timedelta(days=days)
        issued = authority.issue_cert("box.example", not_after=expires)
        (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
        config = ServerConfig(tls_certificate=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
        if days > 0:
            assert 9.9 < Certificate(config).days_left() < 10.1
            assert doctor.check_tls(config).state == "warn"
        else:
            with pytest.raises(ConfigError, match="expired"):
                Certificate(config).days_left()
            assert doctor.check_tls(config).state == "fail"
