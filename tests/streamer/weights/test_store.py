"""What a name means on this machine."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from streamer.errors import ConfigError, ModelNotFoundError
from streamer.extras import pip_install
from streamer.weights.names import PUBLISHED_MODELS
from streamer.weights.store import default_store, locate, resolve


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def snapshot(hub: Path, repo: str, revision: str) -> Path:
    return hub / f"models--{repo.replace('/', '--')}" / "snapshots" / revision


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """The Hugging Face cache under the default cache home."""
    return tmp_path / "cache" / "huggingface" / "hub"


def test_an_account_without_a_home_needs_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a number without an entry in a container."""

    def unknown(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="set XDG_CACHE_HOME"):
        default_store()


def test_packages_are_the_last_resort(tmp_path: Path) -> None:
    """tiny.en and base are found in the installed packages, with their hashes, without importing them."""
    for name, n_files in (("tiny.en", 1), ("base", 2)):
        source = resolve(name, tmp_path)
        packaged = PUBLISHED_MODELS[name].packaged

        assert packaged is not None
        assert (source.name, source.format, len(source.weights)) == (name, "ctranslate2", n_files)
        assert source.sha256 == packaged.sha256


def test_paths_hide_the_store_which_hides_caches_and_packages(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local path hides the store, the store hides the Hugging Face cache, and that hides packages."""
    monkeypatch.chdir(put(tmp_path / "work"))
    in_hub = put(snapshot(hub, "Systran/faster-whisper-tiny.en", "abc"), "model.bin")
    assert resolve("tiny.en").path == in_hub

    in_store = put(default_store() / "tiny.en", "model.safetensors")
    assert resolve("tiny.en").path == in_store

    put(tmp_path / "work" / "tiny.en", "model.bin")
    assert resolve("tiny.en").path == Path("tiny.en")


@pytest.mark.parametrize("name", ["x" * 300, f"./{'x' * 300}", f"~/{'x' * 300}/base.pt", "~nobody-of-this-name/a.pt"])
def test_a_place_that_cannot_be_looked_at_holds_no_model(name: str) -> None:
    """Whatever the system says of it, as of a folder of another account: it is told like a name that is not known."""
    with pytest.raises(ModelNotFoundError):
        resolve(name)


def test_folder_of_the_same_name_without_weights_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `base` in the working directory does not hide the model."""
    put(tmp_path / "base", "readme")
    monkeypatch.chdir(tmp_path)

    assert resolve("base").sha256 is not None


def test_the_store_given_is_searched_instead_of_the_default(tmp_path: Path) -> None:
    """The store given is searched instead of the default; only the published file has a known hash."""
    put(tmp_path / "large-v3-turbo", "large-v3-turbo.pt")
    put(tmp_path / "small", "model.safetensors")

    turbo = resolve("turbo", tmp_path)

    assert turbo.path == tmp_path / "large-v3-turbo" / "large-v3-turbo.pt"
    assert turbo.name == "large-v3-turbo"
    assert turbo.sha256 == PUBLISHED_MODELS["large-v3-turbo"].openai_sha256
    assert resolve("small", tmp_path).sha256 is None


def test_own_models_in_the_store(tmp_path: Path) -> None:
    """A folder put there by hand is a model of that name."""
    put(tmp_path / "my-dialect", "model.bin")

    assert resolve("my-dialect", tmp_path).name == "my-dialect"


def test_hub_snapshot_of_main_comes_first(hub: Path) -> None:
    """Of several snapshots the one that `main` names, unless it has no weights."""
    old = put(snapshot(hub, "openai/whisper-small", "old"), "model.safetensors")
    put(snapshot(hub, "openai/whisper-small", "new"), "model.safetensors")
    (put(old.parent.parent / "refs") / "main").write_text("old\n")
    assert resolve("small").path == old

    (old / "model.safetensors").unlink()
    assert resolve("small").path.name == "new"


def test_a_damaged_cache_is_searched_as_far_as_it_goes(hub: Path) -> None:
    """A link to nothing, and a name of `main` that is none."""
    whole = put(snapshot(hub, "openai/whisper-small", "whole"), "model.safetensors")
    whole.with_name("lost").symlink_to(hub / "nowhere")
    (put(whole.parent.parent / "refs") / "main").write_bytes(b"\xff\0")

    assert resolve("small").path == whole


def test_hub_names_the_hash_of_large_files(hub: Path) -> None:
    """Weights that are a link to a blob are checked by the blob's name."""
    folder = put(snapshot(hub, "openai/whisper-small", "abc"))
    blobs = put(folder.parent.parent / "blobs", "e" * 64)
    (folder / "model.safetensors").symlink_to(blobs / ("e" * 64))

    assert resolve("small").sha256 == "e" * 64


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_hub_cache_moves_with_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The variables that huggingface_hub obeys."""
    hub = tmp_path / "elsewhere" / ("hub" if variable == "HF_HOME" else "")
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    folder = put(snapshot(hub, "distil-whisper/distil-large-v3", "abc"), "model.safetensors")

    assert resolve("distil-large-v3").path == folder


def test_repository_in_the_hub_cache(hub: Path) -> None:
    """Models of others, already downloaded, by the name of their repository."""
    folder = put(snapshot(hub, "someone/whisper-dialect", "abc"), "model.safetensors")

    assert resolve("someone/whisper-dialect").path == folder


@pytest.mark.parametrize("name", ["model.bin", ""])
def test_a_path_is_a_file_or_its_folder(tmp_path: Path, name: str) -> None:
    """A file or its folder."""
    put(tmp_path / "mine", "model.bin")

    source = resolve(str(tmp_path / "mine" / name))

    assert source.weights == (tmp_path / "mine" / "model.bin",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", "model small is not on this machine: `streamer models pull small`$"),
        ("turbo", "model large-v3-turbo is not on this machine"),
        ("smal", "no model is called smal: did you mean small?"),
        ("zzzzzz", "no model is called zzzzzz: `streamer models list`"),
        ("./nothing", "model ./nothing is not on this machine: expected a path that this account can read, or a repos"),
        ("~/nothing-here", "model ~/nothing-here is not on this machine: expected a path"),
        ("openai/whisper-small", "model openai/whisper-small is not on this machine: `streamer models pull small`$"),
        (".", r"^\. holds no weights: expected model.bin, model.safetensors, or one .pt file"),
    ],
)
def test_weights_that_are_not_there_come_with_a_remedy(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what to do."""
    monkeypatch.chdir(tmp_path)
    assert locate(name) is None
    with pytest.raises(ModelNotFoundError, match=message):
        resolve(name)


def test_remedy_names_the_package() -> None:
    """Where a package carries the weights, the message says so."""
    assert f"`{pip_install('tiny-en')}`" in PUBLISHED_MODELS["tiny.en"].remedy
