"""Resolves a model name to weights on this machine: path, store, Hugging Face cache, installed packages."""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from streamer.errors import ConfigError, ModelNotFoundError
from streamer.weights.names import PUBLISHED_MODELS, PackagedWeights, PublishedModel, find_published, nearest_name
from streamer.weights.source import ModelSource, source_at

__all__ = ["default_store", "locate", "resolve"]


def default_store() -> Path:
    """
    Default folder of models, with one folder per name.

    Raises:
        ConfigError: There is no cache folder.
    """
    return _cache_home() / "whisper-streamer" / "models"


def resolve(name: str, store: Path | None = None) -> ModelSource:
    """
    Find the weights that a name means. Never downloads.

    Args:
        name: Published name or alias, path of a file or folder, name of a folder in the store, or a Hugging Face
            repository in the local cache.
        store: Folder of models; `default_store()` if None.

    Raises:
        ModelNotFoundError: There are no such weights on this machine; the message names the remedy.
    """
    source = locate(name, store)
    if source is not None:
        return source
    model = find_published(name)
    if model is not None:
        raise ModelNotFoundError(f"model {model.name} is not on this machine: {model.remedy}")
    if os.path.exists(os.path.expanduser(name)):
        expected = "model.bin, model.safetensors, or one .pt file, that this account can read"
        raise ModelNotFoundError(f"{name} holds no weights: expected {expected}")
    if _is_path(name):
        remedy = next((model.remedy for model in PUBLISHED_MODELS.values() if name in model.hub_repos), None)
        expected = "a path that this account can read, or a repository in the cache of Hugging Face"
        raise ModelNotFoundError(f"model {name} is not on this machine: {remedy or f'expected {expected}'}")
    nearest = nearest_name(name)
    hint = f"did you mean {nearest}?" if nearest else "`streamer models list` shows the known names"
    raise ModelNotFoundError(f"no model is called {name}: {hint}")


def locate(name: str, store: Path | None = None) -> ModelSource | None:
    """`resolve`, but None if there are no such weights."""
    path = Path(os.path.expanduser(name))
    at_path = source_at(path, path.stem if os.path.isfile(path) else path.name)
    if at_path is not None:
        return at_path
    if _is_path(name):
        return _in_hub_cache(name, name)
    model = find_published(name)
    store = store or default_store()
    if model is None:
        return source_at(store / name, name)
    return (
        _in_store(store / model.name, model)
        or next(filter(None, (_in_hub_cache(repo, model.name) for repo in model.hub_repos)), None)
        or (_in_packages(model.packaged, model.name) if model.packaged else None)
    )


def _in_store(folder: Path, model: PublishedModel) -> ModelSource | None:
    pulled = os.path.isfile(folder / f"{model.name}.pt")
    return source_at(folder, model.name, model.openai_sha256 if pulled else None)


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith((".", "~"))


def _cache_home() -> Path:
    """The user's cache folder. Raises ConfigError where neither the variable nor the account names one."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # an account that has no entry, as in some containers
        raise ConfigError("this account has no home folder: set XDG_CACHE_HOME to a folder for models") from None


def _hub_cache() -> Path:
    """Cache folder of huggingface_hub, according to its environment variables."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder)
    return Path(os.environ.get("HF_HOME") or _cache_home() / "huggingface") / "hub"


def _in_hub_cache(repo: str, name: str) -> ModelSource | None:
    """Weights of the snapshot of `main`, otherwise of the newest snapshot that has weights."""
    folder = _hub_cache() / f"models--{repo.replace('/', '--')}"
    if not os.path.isdir(folder):
        return None
    snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.lstat().st_mtime, reverse=True)
    with contextlib.suppress(OSError):  # there is no such file, or this account may not read it
        main = (folder / "refs" / "main").read_text(encoding="utf-8", errors="replace")
        snapshots.insert(0, folder / "snapshots" / main.strip())
    for snapshot in snapshots:
        source = source_at(snapshot, name)
        if source is not None:
            return source_at(snapshot, name, _blob_sha256(source))
    return None


def _blob_sha256(source: ModelSource) -> str | None:
    """Hash of a large file of the cache, which is a link to a file named by its hash; None for other files."""
    blob = source.weights[0].resolve()
    is_hash = blob.parent.name == "blobs" and len(blob.name) == 64
    return blob.name if is_hash and len(source.weights) == 1 else None


def _in_packages(packaged: PackagedWeights, name: str) -> ModelSource | None:
    """Weights in installed packages, found through their metadata; the packages are never imported."""
    try:
        files = tuple(Path(str(distribution(dist).locate_file(path))) for dist, path in packaged.files)
    except PackageNotFoundError:
        return None
    if not all(path.is_file() for path in files):
        return None
    return ModelSource(name=name, format="ctranslate2", weights=files, sha256=packaged.sha256)
