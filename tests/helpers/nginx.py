"""Debian's nginx with the site of docs/operations.md, as it stands there but for ports, names of files and the path."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.helpers.daemon_process import ROOT
from tests.helpers.ports import reserved_port

PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="needs nginx: apt-get install nginx-light")


def site_of(page: str) -> str:
    """The site that a page of docs/ shows."""
    [site] = re.findall(r"^```nginx\n(.*?)^```$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(site)


SITE = site_of("operations.md")
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ }}
http {{
    include /etc/nginx/mime.types;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@asynccontextmanager
async def nginx(folder: Path, upstream: str, authority: trustme.CA, *, keeps_path: bool = False) -> AsyncIterator[int]:
    """
    Run nginx in front of a daemon; yields its port, where the daemon is under `/captions/`.

    Args:
        folder: Gets its files.
        upstream: `127.0.0.1:PORT`, or `unix:/path:` of the daemon.
        authority: Issues its certificate.
        keeps_path: Leave the path in requests.
    """
    issued = authority.issue_cert("127.0.0.1", "localhost", "captions.example")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    replaced = {
        "listen 443 ssl;": "listen 127.0.0.1:PORT ssl;",
        "    listen [::]:443 ssl;\n": "",
        "/etc/ssl/captions.example.pem": str(folder / "cert.pem"),
        "/etc/ssl/captions.example.key": str(folder / "key.pem"),
        "http://127.0.0.1:8000/;": f"http://{upstream.rstrip(':')};" if keeps_path else f"http://{upstream}/;",
    }
    async with serving(folder, with_replaced(SITE, replaced)) as port:
        yield port


@asynccontextmanager
async def balancer(folder: Path, ports: Sequence[int]) -> AsyncIterator[int]:
    """
    Run nginx in front of two daemons, as docs/scaling.md shows; yields its port.

    Args:
        folder: Gets its files.
        ports: Of the daemons, on this machine.
    """
    first, second = ports
    replaced = {
        "10.0.0.1:8000": f"127.0.0.1:{first}",
        "10.0.0.2:8000": f"127.0.0.1:{second}",
        "listen 80;": "listen 127.0.0.1:PORT;",
    }
    async with serving(folder, with_replaced(site_of("scaling.md"), replaced)) as port:
        yield port


def with_replaced(site: str, replaced: Mapping[str, str]) -> str:
    """A site with what differs here; each text stands in it once."""
    for written, here in replaced.items():
        assert site.count(written) == 1, written
        site = site.replace(written, here)
    return site


@asynccontextmanager
async def serving(folder: Path, site: str) -> AsyncIterator[int]:
    """Run nginx with a site that listens on `PORT`; yields which one that is."""
    with reserved_port() as port:
        (folder / "site.conf").write_text(site.replace("PORT", str(port)))
        async with _running(folder, port):
            yield port


@asynccontextmanager
async def _running(folder: Path, port: int) -> AsyncIterator[None]:
    assert PROGRAM is not None
    (folder / "main.conf").write_text(MAIN.format(folder=folder, user="user root;" if os.getuid() == 0 else ""))
    command = (PROGRAM, "-p", str(folder), "-c", str(folder / "main.conf"), "-e", str(folder / "error.log"))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        await _listening(process, port)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Connect until that works: a process that starts has nothing else to tell it by."""
    async with asyncio.timeout(120):
        while True:
            if process.returncode is not None:
                raise AssertionError((await process.communicate())[1].decode())
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
