"""Downloads published weights into the store: resumable, checked, visible only when complete."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model import PUBLISHED_DIMENSIONS
from streamer.errors import CheckpointError, ModelNotFoundError, reason_of
from streamer.weights.load import sha256_of
from streamer.weights.names import PublishedModel, find_published, nearest_name
from streamer.weights.source import ModelSource
from streamer.weights.store import default_store, resolve

__all__ = ["Endpoints", "RemoteFile", "download", "pull", "remote_files"]

TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 18
HUB_FILES = ("config.json", "generation_config.json", "tokenizer.json", "vocab.json", "model.safetensors")
VOCABULARIES = {
    "gpt2.tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "multilingual.tiktoken": "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126",
}
"""SHA-256 of the vocabularies in OpenAI's package."""

OnProgress = Callable[[str, int, int], None]
"""Called with the file name, the bytes received, and the total number of bytes (0 if unknown)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Servers to download from."""

    openai: str = "https://openaipublic.azureedge.net/main/whisper/models"
    vocabularies: str = "https://raw.githubusercontent.com/openai/whisper/v20250625/whisper/assets"
    hub: str = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file to download."""

    url: str
    name: str
    sha256: str | None
    """None for small files, for which the server gives none."""


def pull(
    name: str, on_progress: OnProgress, store: Path | None = None, endpoints: Endpoints | None = None
) -> ModelSource:
    """
    Download a published model into the store; complete files are not downloaded again.

    Call it again after an interruption: the download continues where it stopped.

    Args:
        name: Published name or alias.
        on_progress: Called for every block.
        store: Folder of models; `default_store()` if None.
        endpoints: Servers; those of the publishers if None.

    Raises:
        ModelNotFoundError: No published model has this name.
        CheckpointError: The download failed, or the file is not the published one.
    """
    model = find_published(name)
    if model is None:
        nearest = nearest_name(name)
        hint = f"did you mean {nearest}?" if nearest else "`streamer models list` shows the known names"
        raise ModelNotFoundError(f"no published model is called {name}: {hint}")
    store = store or default_store()
    for file in remote_files(model, endpoints or Endpoints()):
        download(file, store / model.name, on_progress)
    return resolve(model.name, store)


def remote_files(model: PublishedModel, endpoints: Endpoints) -> list[RemoteFile]:
    """Files of a model, the weights last: a folder with weights is complete."""
    if model.openai_sha256 is None:
        return _hub_files(model.hub_repos[0], endpoints.hub)
    multilingual = PUBLISHED_DIMENSIONS[model.name].is_multilingual
    vocabulary = "multilingual.tiktoken" if multilingual else "gpt2.tiktoken"
    weights = f"{model.name}.pt"
    return [
        RemoteFile(url=f"{endpoints.vocabularies}/{vocabulary}", name=vocabulary, sha256=VOCABULARIES[vocabulary]),
        RemoteFile(
            url=f"{endpoints.openai}/{model.openai_sha256}/{weights}",
            name=weights,
            sha256=model.openai_sha256,
        ),
    ]


class _LargeFile(msgspec.Struct, frozen=True):
    oid: str


class _HubFile(msgspec.Struct, frozen=True):
    path: str
    lfs: _LargeFile | None = None


def _hub_files(repo: str, hub: str) -> list[RemoteFile]:
    """Files of a repository; the hub lists the SHA-256 of large files under `lfs.oid`."""
    url = f"{hub}/api/models/{repo}/tree/main"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            listed = {file.path: file for file in msgspec.json.decode(response.read(), type=list[_HubFile])}
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:  # msgspec's own among them
        raise CheckpointError(f"cannot list {url}: {_reason_of(error)}; try again") from error
    if HUB_FILES[-1] not in listed:
        raise CheckpointError(f"{hub}/{repo} has no {HUB_FILES[-1]}")
    return [
        RemoteFile(url=f"{hub}/{repo}/resolve/main/{name}", name=name, sha256=lfs.oid if lfs else None)
        for name, lfs in ((name, listed[name].lfs) for name in HUB_FILES if name in listed)
    ]


def download(file: RemoteFile, folder: Path, on_progress: OnProgress) -> Path:
    """
    Download one file; it gets its final name when it is complete and its hash is right.

    Args:
        file: What to download.
        folder: Where to put it; created if missing.
        on_progress: Called for every block.

    Returns:
        Path of the complete file.

    Raises:
        CheckpointError: The folder cannot be written, the connection failed (the received part is kept), or the hash is
            wrong (it is removed).
    """
    target = folder / file.name
    if target.is_file():
        return target
    partial = folder / f"{file.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot make {folder}: {reason_of(error)}; name another folder with --store") from error
    try:
        _fetch(file, partial, on_progress)
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"cannot download {file.url}: {_reason_of(error)}; a new attempt continues from here"
        ) from error
    if file.sha256 is not None and (found := sha256_of(partial)) != file.sha256:
        partial.unlink()
        raise CheckpointError(f"{file.url} sent something else: SHA-256 {found}, expected {file.sha256}")
    os.replace(partial, target)
    return target


def _reason_of(error: Exception) -> str:
    """What went wrong, without urllib's brackets."""
    return str(error).removeprefix("<urlopen error ").removesuffix(">")


def _fetch(file: RemoteFile, partial: Path, on_progress: OnProgress) -> None:
    # without a hash nothing shows that both parts are of one file
    start = partial.stat().st_size if file.sha256 and partial.exists() else 0
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to fetch; the hash decides
        raise
    with (
        response,
        partial.open("ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as output,
    ):
        done = output.tell()
        total = done + int(response.headers.get("Content-Length", -done))
        while block := response.read(BLOCK_BYTES):
            output.write(block)
            done += len(block)
            on_progress(file.name, done, total)
    if done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")
