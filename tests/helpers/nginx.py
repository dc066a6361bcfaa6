"""Debian's nginx with the site of docs/operations.md, as it stands there but for ports, names of files and the path."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.helpers.daemon_process import ROOT, free_port

PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="needs nginx: apt-get install nginx-light")
[SITE] = re.findall(
    r"^```nginx\n(.*?)^```$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)
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
    assert PROGRAM is not None
    port = free_port()
    issued = authority.issue_cert("127.0.0.1", "localhost", "captions.example")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    replaced = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "    listen [::]:443 ssl;\n": "",
        "/etc/ssl/captions.example.pem": str(folder / "cert.pem"),
        "/etc/ssl/captions.example.key": str(folder / "key.pem"),
        "http://127.0.0.1:8000/;": f"http://{upstream.rstrip(':')};" if keeps_path else f"http://{upstream}/;",
    }
    site = SITE
    for written, here in replaced.items():
        assert site.count(written) == 1, written
        site = site.replace(written, here)
    (folder / "site.conf").write_text(site)
    (folder / "main.conf").write_text(MAIN.format(folder=folder, user="user root;" if os.getuid() == 0 else ""))
    command = (PROGRAM, "-p", str(folder), "-c", str(folder / "main.conf"), "-e", str(folder / "error.log"))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        await _listening(process, port)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Connect until that works: a process that starts has nothing else to tell it by."""
    async with asyncio.timeout(20):
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
