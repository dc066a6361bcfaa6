"""Wheel and source distribution: complete, the same either way, and enough to caption speech outside the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from streamer import __version__
from tests.helpers.checkout import clone, environment_without_project
from tests.helpers.daemon_process import Client, daemon_process, environment, word_errors
from tests.helpers.recordings import Recording


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command that succeeds; what it says."""
    env = environment(**variables)
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=300, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, into: Path, kind: str) -> Path:
    """One distribution of a source tree, by the setuptools that is installed."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", into, source, cwd=source)
    (built,) = into.iterdir()
    return built


def wheel_files(wheel: Path) -> dict[str, bytes]:
    """The content of a wheel, but for the list of its own hashes."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean source tree, so that nothing built before gets into a distribution."""
    return clone(tmp_path_factory.mktemp("source") / "streamer")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tree."""
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    archive = build(source, tmp_path_factory.mktemp("sdist"), "sdist")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment into which the wheel was installed, outside the repository."""
    folder = tmp_path_factory.mktemp("bare")
    python = environment_without_project(folder / "env")
    # --ignore-installed: the project of this repository counts as installed by the metadata beside the dependencies
    install = ("install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    return python


def test_wheel_holds_licence_pages_and_clips(wheel: Path, source: Path) -> None:
    """Whatever of the packages is no Python file is easily forgotten."""
    found = wheel_files(wheel)

    assert f"whisper_streamer-{__version__}.dist-info/licenses/LICENSE" in found
    for folder in ("streamer/server/pages", "streamer/evaluation/clips"):
        for file in (source / folder).iterdir():
            assert found[f"{folder}/{file.name}"] == file.read_bytes()
    assert {"streamer/py.typed", "model/py.typed"} <= found.keys()
    assert {name.partition("/")[0].partition("-")[0] for name in found} == {"model", "streamer", "whisper_streamer"}


def test_source_distribution_gives_the_same_wheel(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    """File for file: a distributor builds what the project publishes."""
    assert wheel_files(build(unpacked, tmp_path, "wheel")) == wheel_files(wheel)


def test_container_is_built_from_all_that_the_package_needs(source: Path, wheel: Path, tmp_path: Path) -> None:
    """What the Dockerfile copies into its first stage gives the same wheel."""
    first_stage = (source / "configs/docker/Dockerfile").read_text().split("\nFROM ")[1]
    image = tmp_path / "image"
    image.mkdir()
    for names in re.findall(r"^COPY (.+) \S+$", first_stage, re.MULTILINE):
        for name in names.split():
            copy = shutil.copytree if (source / name).is_dir() else shutil.copy
            copy(source / name, image / name)
    built = build(image, tmp_path / "wheel", "wheel")

    assert wheel_files(built) == wheel_files(wheel)


def test_source_distribution_holds_what_the_repository_does(source: Path, unpacked: Path) -> None:
    """Documents, configurations, units and tests too, so that the documents' commands work in it."""
    tracked = set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=source).splitlines())
    missing = {name for name in tracked if not (unpacked / name).exists()}

    assert missing <= {".gitignore", ".dockerignore"}


def test_installed_program_finds_everything_from_a_foreign_folder(python: Path, tmp_path: Path) -> None:
    """It is the installed code that runs, and `doctor` misses nothing."""
    program = python.parent / "streamer"
    where = run(python, "-c", "import streamer; print(streamer.__file__)", cwd=tmp_path)

    assert Path(where.strip()).is_relative_to(python.parent.parent)
    assert run(program, "--version", cwd=tmp_path).split()[-1] == __version__
    assert "fail " not in run(program, "doctor", cwd=tmp_path, STREAMER_SERVER_PORT="0")


async def test_installed_daemon_captions_speech(python: Path, tmp_path: Path, recordings: dict[str, Recording]) -> None:
    """A real caption over WebSocket, from the wheel alone."""
    recording = recordings["dev-jfk"]
    async with (
        daemon_process(tmp_path, (python.parent / "streamer", "serve"), cwd=tmp_path) as daemon,
        daemon.connect() as socket,
    ):
        client = Client(socket)
        await client.start()
        await client.send(recording.samples)
        await client.say({"type": "end"})
        await client.until("bye")

        assert "<title>" in (await daemon.get("/")).text
    assert client.broken == []
    assert client.of("caption")
    assert word_errors(recording.text, client.text) < 0.1
