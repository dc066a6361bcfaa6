"""Downloads, from a server on the loopback that knows Range."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamer.errors import CheckpointError, ModelNotFoundError
from streamer.weights.download import VOCABULARIES, Endpoints, RemoteFile, download, pull, remote_files
from streamer.weights.load import sha256_of
from streamer.weights.names import PUBLISHED_MODELS
from tests.streamer.weights.test_vocabulary import ASSETS

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FileServer(ThreadingHTTPServer):
    """Serves `files`; cuts each answer after `cut_after` bytes; obeys Range unless told not to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut_after: int | None = None
        self.knows_range = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        if data is None:
            self.send_error(404)
            return
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.knows_range else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.cut_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A running server."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(server: FileServer) -> RemoteFile:
    """One file of a megabyte."""
    server.files["/model.pt"] = CONTENT
    return RemoteFile(url=f"{server.url}/model.pt", name="model.pt", sha256=SHA256)


def ignore(*_: object) -> None:
    pass


def test_file_arrives_with_progress(file: RemoteFile, tmp_path: Path) -> None:
    """The file has its content and its name, and the progress ends at the total."""
    progress: list[tuple[str, int, int]] = []

    path = download(file, tmp_path / "new", lambda *step: progress.append(step))

    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert progress[-1] == ("model.pt", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in progress] == sorted(done for _, done, _ in progress)


def test_finished_file_is_not_fetched_again(file: RemoteFile, server: FileServer, tmp_path: Path) -> None:
    """A file that has its name is complete."""
    download(file, tmp_path, ignore)
    download(file, tmp_path, ignore)

    assert len(server.ranges) == 1


def test_broken_download_continues(file: RemoteFile, server: FileServer, tmp_path: Path) -> None:
    """After a lost connection only the rest is fetched."""
    server.cut_after = 300_000
    with pytest.raises(CheckpointError, match=rf"connection ended after 300000 of {len(CONTENT)} bytes"):
        download(file, tmp_path, ignore)
    assert not (tmp_path / "model.pt").exists()

    server.cut_after = None
    progress: list[int] = []
    path = download(file, tmp_path, lambda _, done, total: progress.extend((done, total)))

    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert progress[0] > 300_000
    assert set(progress[1::2]) == {len(CONTENT)}


def test_server_without_ranges_starts_again(file: RemoteFile, server: FileServer, tmp_path: Path) -> None:
    """An answer from the beginning replaces what was there."""
    (tmp_path / "model.pt.partial").write_bytes(CONTENT[:1000])
    server.knows_range = False

    assert download(file, tmp_path, ignore).read_bytes() == CONTENT


def test_complete_partial_is_only_checked(file: RemoteFile, tmp_path: Path) -> None:
    """Interrupted between the last byte and the check: nothing is left to fetch."""
    (tmp_path / "model.pt.partial").write_bytes(CONTENT)

    assert download(file, tmp_path, ignore).read_bytes() == CONTENT


def test_wrong_content_is_removed(file: RemoteFile, server: FileServer, tmp_path: Path) -> None:
    """A wrong hash leaves nothing behind, so that the next attempt starts afresh."""
    server.files["/model.pt"] = CONTENT[::-1]

    with pytest.raises(CheckpointError, match=rf"sent something else: SHA-256 \w+, expected {SHA256}"):
        download(file, tmp_path, ignore)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [("/missing", "HTTP Error 404"), (":1/closed", r"cannot download .*closed: \[Errno 111\] .*refused; a new")],
)
def test_failed_connection_is_our_error(server: FileServer, tmp_path: Path, url: str, message: str) -> None:
    """Neither an HTTP status nor a closed port shows as a raw exception."""
    base = server.url if url.startswith("/") else "http://127.0.0.1"

    with pytest.raises(CheckpointError, match=message):
        download(RemoteFile(url=base + url, name="x", sha256=None), tmp_path, ignore)


def test_openai_models_are_weights_and_a_vocabulary() -> None:
    """Both with a hash, the weights last."""
    for name, vocabulary in (("tiny.en", "gpt2.tiktoken"), ("large-v3", "multilingual.tiktoken")):
        model = PUBLISHED_MODELS[name]

        files = remote_files(model, Endpoints())

        assert [file.name for file in files] == [vocabulary, f"{name}.pt"]
        assert files[0].sha256 == sha256_of(ASSETS / vocabulary) == VOCABULARIES[vocabulary]
        assert files[1].sha256 == model.openai_sha256
        assert f"/{model.openai_sha256}/{name}.pt" in files[1].url


def serve_hub(server: FileServer, sha256: str) -> None:
    repo = "distil-whisper/distil-small.en"
    listing = [
        {"type": "file", "path": "README.md", "size": 3, "oid": "1"},
        {
            "type": "file",
            "path": "model.safetensors",
            "size": 3,
            "oid": "3",
            "lfs": {"oid": sha256, "size": 3},
        },
        {"type": "file", "path": "config.json", "size": 2, "oid": "2"},
        {"type": "directory", "path": "onnx", "size": 0, "oid": "4"},
    ]
    server.files[f"/api/models/{repo}/tree/main"] = json.dumps(listing).encode()
    server.files[f"/{repo}/resolve/main/config.json"] = b"{}"
    server.files[f"/{repo}/resolve/main/model.safetensors"] = CONTENT


def test_models_of_the_hub(server: FileServer, tmp_path: Path) -> None:
    """The files that are needed, with the hash that the hub lists, end up in a folder that resolves."""
    serve_hub(server, SHA256)

    source = pull("distil-small.en", ignore, tmp_path, Endpoints(hub=server.url))

    assert source.path == tmp_path / "distil-small.en"
    assert sorted(path.name for path in source.path.iterdir()) == ["config.json", "model.safetensors"]


def test_hub_weights_are_checked(server: FileServer, tmp_path: Path) -> None:
    """Weights whose hash is not the listed one do not stay."""
    serve_hub(server, "0" * 64)

    with pytest.raises(CheckpointError, match="sent something else"):
        pull("distil-small.en", ignore, tmp_path, Endpoints(hub=server.url))

    assert not (tmp_path / "distil-small.en" / "model.safetensors").exists()


@pytest.mark.parametrize(("listing", "message"), [(b"<html>", "cannot list"), (b"[]", "has no model.safetensors")])
def test_strange_listings_are_refused(server: FileServer, tmp_path: Path, listing: bytes, message: str) -> None:
    """A hub that answers something else."""
    server.files["/api/models/distil-whisper/distil-small.en/tree/main"] = listing

    with pytest.raises(CheckpointError, match=message):
        pull("distil-small.en", ignore, tmp_path, Endpoints(hub=server.url))


def test_unknown_names_are_not_pulled(tmp_path: Path) -> None:
    """Only published names are downloaded."""
    with pytest.raises(ModelNotFoundError, match="no published model is called tinny: did you mean tiny"):
        pull("tinny", ignore, tmp_path)
