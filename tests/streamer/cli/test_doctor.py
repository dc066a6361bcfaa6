"""Tests of streamer.cli.doctor."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from model import PUBLISHED_DIMENSIONS
from streamer.cli import doctor
from streamer.cli.capacity import Machine
from streamer.config import (
    Config,
    LimitsConfig,
    ModelConfig,
    RecordingConfig,
    ReviseConfig,
    ServerConfig,
    WyomingConfig,
)
from streamer.errors import EngineError, PortAudioMissingError
from streamer.host.portaudio import InputDevice
from streamer.scheduling.load import LoadLimits, StepCosts


def test_every_thing_is_examined_once() -> None:
    """The examination of this machine has one result per thing, and the weights are found."""
    checks = doctor.examine(Config(server=ServerConfig(port=0)))
    assert [check.name for check in checks] == [
        *("python", "torch", "cpu", "gpu", "weights", "streams", "microphone", "port"),
        *("keys", "tls", "clock", "priority", "open files", "recordings", "model store", "extras"),
    ]
    assert {check.name for check in checks if check.state == "fail"} == set()


def test_a_result_is_shown_with_its_remedy() -> None:
    """State, thing, finding, and the remedy on a line of its own."""
    check = doctor.Check("gpu", "fail", "none", "install one")
    assert str(check) == "fail  gpu         none\n                  -> install one"
    assert str(doctor.Check("gpu", "ok", "A100")) == "ok    gpu         A100"


def test_old_python_fails() -> None:
    """Python 3.10 is refused, 3.11 is not."""
    assert doctor.check_python((3, 10)).state == "fail"
    assert doctor.check_python((3, 11)).state == "ok"


@pytest.mark.parametrize(
    ("cpuinfo", "state", "found"),
    [
        ("flags : fpu avx512_bf16 amx_bf16", "ok", "amx_bf16, avx512_bf16"),
        ("Features : fp asimd bf16", "ok", "bf16"),
        ("flags : fpu avx2", "warn", "no bfloat16"),
        ("", "ok", "features unknown"),
    ],
)
def test_bfloat16_is_told_from_cpu_flags(cpuinfo: str, state: str, found: str) -> None:
    """x86 and ARM name it differently; without it there is a warning, without flags no claim."""
    check = doctor.check_cpu(cpuinfo)
    assert check.state == state
    assert found in check.found


@pytest.mark.parametrize(
    ("device", "gpus", "state"),
    [("cuda", [], "fail"), ("auto", [], "ok"), ("cpu", [], "ok"), ("cuda", ["H100"], "ok")],
)
def test_a_gpu_is_needed_only_if_configured(device: str, gpus: list[str], state: str) -> None:
    """Without a GPU only `cuda` fails."""
    assert doctor.check_gpu(device, gpus).state == state


COSTS = StepCosts(0.02, 0.03)
"""Of tiny.en on a machine with two workers, seconds."""


def machine(costs: StepCosts = COSTS) -> Machine:
    """A machine on which tiny.en costs so much."""
    limits = LoadLimits(min_interval_s=0.3, max_interval_s=1.0)
    return Machine(PUBLISHED_DIMENSIONS["tiny.en"], costs, max_batch=8, n_workers=2, limits=limits)


def test_streams_are_told_of_the_measured_model_and_of_the_others() -> None:
    """Larger models have fewer, in steps of their sizes."""
    check = doctor.check_streams("tiny.en", machine)

    assert (check.state, check.found) == ("ok", "tiny.en carries about 20 at once, as measured")
    assert check.remedy.startswith("by its speed and their sizes, about: tiny 20, base 6, small 1, medium 0, large")


def test_a_machine_that_is_too_slow_is_told() -> None:
    """One stream would be late; a model that does not run is told with its reason."""

    def broken() -> Machine:
        raise EngineError("the device does not work")

    assert doctor.check_streams("tiny.en", lambda: machine(StepCosts(1.0, 0.5))).state == "warn"
    assert doctor.check_streams("tiny.en", broken).remedy == "the device does not work"


def test_missing_weights_fail_with_the_remedy_of_the_store() -> None:
    """A model that is known but not here says how to get it."""
    check = doctor.check_weights("large-v2")
    assert check.state == "fail"
    assert "large-v2" in check.remedy


def test_a_missing_portaudio_is_a_warning() -> None:
    """A server runs without a microphone."""

    def missing() -> list[InputDevice]:
        raise PortAudioMissingError("the PortAudio library is not installed: apt-get install libportaudio2")

    check = doctor.check_microphone("", missing)
    assert check.state == "warn"
    assert "apt-get install libportaudio2" in check.remedy


def test_the_chosen_microphone_and_the_others_are_named() -> None:
    """The device that would be used comes first."""
    available = [
        InputDevice(index=1, name="Built-in", rate=48000, is_default=True),
        InputDevice(index=2, name="USB", rate=44100, is_default=False),
    ]
    assert doctor.check_microphone("usb", lambda: available).found == '2 "USB", 44100 hertz; others: 1 "Built-in"'
    assert doctor.check_microphone("", lambda: available[:1]).found == '1 "Built-in", 48000 hertz'


def test_a_taken_port_fails() -> None:
    """A port somebody listens on is named; any free one is fine."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check = doctor.check_port("127.0.0.1", taken.getsockname()[1])
    assert check.state == "fail"
    assert "in use: address already in use" in check.found
    assert check.remedy.startswith("stop the program that has it, or choose another port, as --port ")
    assert doctor.check_port("127.0.0.1", 0).state == "ok"


def test_an_address_of_another_machine_fails() -> None:
    """A host this machine does not have cannot be listened on."""
    assert doctor.check_port("192.0.2.1", 0).state == "fail"


def test_the_store_need_not_exist(tmp_path: Path) -> None:
    """A store that can be created is as good as one that is there."""
    assert doctor.check_store(tmp_path / "cache" / "models").state == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_store_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """Models that are here still work."""
    tmp_path.chmod(0o500)
    assert doctor.check_store(tmp_path / "models").state == "warn"


def test_the_configuration_decides_what_is_needed() -> None:
    """A model that is not here fails the examination, and so does a port of another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = Config(
            model=ModelConfig(name="no-such-model"),
            revise=ReviseConfig(model="no-such-model-either"),
            server=ServerConfig(port=0),
            wyoming=WyomingConfig(port=taken.getsockname()[1]),
        )
        failed = [check for check in doctor.examine(config) if check.state == "fail"]
    assert [check.name for check in failed] == ["weights", "second pass", "wyoming"]
    assert failed[-1].remedy.startswith("stop the program that has it, or choose another port, as wyoming.port = ")


def test_each_fault_of_the_key_file_has_its_remedy(tmp_path: Path) -> None:
    """An open network without keys, a file that others can read, a file without keys."""
    keys = tmp_path / "keys"
    keys.write_text("kitchen 0123456789abcdef\n")
    keys.chmod(0o600)
    wide = ServerConfig(host="0.0.0.0", keys_file=str(keys))

    assert doctor.check_keys(ServerConfig(), {}).state == "ok"
    assert doctor.check_keys(wide, {}).state == "ok"
    keys.chmod(0o644)
    assert doctor.check_keys(wide, {}).remedy == f"chmod 600 {keys}"
    assert "server.keys_file" in doctor.check_keys(ServerConfig(host="0.0.0.0"), {}).remedy
    assert doctor.check_keys(ServerConfig(host="0.0.0.0", allow_without_keys=True), {}).state == "warn"
    keys.write_text("kitchen\n")
    assert doctor.check_keys(wide, {}).state == "fail"


def test_a_clock_that_nothing_keeps_right_is_a_warning() -> None:
    """A system that does not tell is none."""
    states = [doctor.check_clock(is_synchronised).state for is_synchronised in (True, False, None)]
    assert states == ["ok", "warn", "ok"]


def test_a_daemon_that_yields_to_all_others_is_a_warning() -> None:
    """A niceness above 0 alone."""
    assert [doctor.check_priority(nice).state for nice in (-5, 0, 10)] == ["ok", "ok", "warn"]


def test_recordings_need_a_folder_and_room(tmp_path: Path) -> None:
    """The folder need not exist; where there is a file, nothing can be recorded."""
    (tmp_path / "file").write_text("no folder")
    folder, file = str(tmp_path / "new" / "recordings"), str(tmp_path / "file")
    assert doctor.check_recordings(RecordingConfig()).found == "none are made"
    assert doctor.check_recordings(RecordingConfig(folder=folder, max_folder_mb=1)).state == "ok"
    assert doctor.check_recordings(RecordingConfig(folder=f"{file}/new")).found == f"cannot write to {file}"
    full = doctor.check_recordings(RecordingConfig(folder=folder, max_folder_mb=100_000_000))
    assert (full.state, full.found.startswith(f"{folder} may take 100000000 MB, its disk has ")) == ("warn", True)


def test_too_few_open_files_are_a_warning() -> None:
    """Before connections are refused for want of descriptors."""
    assert doctor.check_descriptors(LimitsConfig(), 65536).state == "ok"
    assert "ulimit -n" in doctor.check_descriptors(LimitsConfig(), 1024).remedy


def test_missing_extras_are_told_with_their_packages() -> None:
    """One command for each extra, which works without the product on a package index."""
    check = doctor.check_extras(lambda requirement: not requirement.startswith(("av", "jiwer")))

    assert check.found == "installed: tiny-en, base, hub, ray, otel"
    assert str(check).splitlines()[1:] == [
        f"{'':18}-> if needed, codecs: {sys.executable} -m pip install 'av>=14'",
        f"{'':18}-> if needed, eval: {sys.executable} -m pip install 'jiwer>=4.0' 'whisper-normalizer>=0.1'",
    ]
    assert doctor.check_extras(lambda _: True).remedy == ""


def test_extras_are_found_by_their_distributions() -> None:
    """Those of the tests are here."""
    assert "eval" in doctor.check_extras().found
