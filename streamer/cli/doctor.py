"""
`streamer doctor`: checks this machine and prints a remedy for everything that is missing.

Each check looks at one thing and changes nothing. `fail`: the daemon cannot run under the given configuration; `warn`:
a feature or speed is lost.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from streamer import weights
from streamer.access.exposure import check_exposure, is_loopback
from streamer.access.keys import Keys, find_key_file
from streamer.access.open_files import needed_files
from streamer.access.tls import Certificate
from streamer.build.options import MEGABYTE
from streamer.cli.capacity import Machine, by_size, measured
from streamer.config import Config, LimitsConfig, RecordingConfig, ServerConfig
from streamer.errors import CaptureError, ConfigError, ModelNotFoundError, StreamerError
from streamer.extras import EXTRAS, pip_install
from streamer.host import cpu, portaudio
from streamer.host.clock import is_synchronised
from streamer.host.open_files import allow_all_files
from streamer.host.sockets import listen, socket_path
from streamer.scheduling.recording import bytes_in

State = Literal["ok", "warn", "fail"]

MIN_DAYS = 14
"""Days before a certificate expires from which it is reported: automatic renewal comes earlier."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    state: State
    found: str
    remedy: str = ""
    """A line for each."""

    def __str__(self) -> str:
        remedies = [f"\n{'':18}-> {line}" for line in self.remedy.splitlines()]
        return f"{self.state:5} {self.name:12}{self.found}{''.join(remedies)}"


def examine(config: Config) -> list[Check]:
    """Run every check for this configuration."""
    return [
        check_python(sys.version_info[:2]),
        Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        check_cpu(cpu.cpuinfo()),
        check_gpu(config.model.device, [_gpu(index) for index in range(torch.cuda.device_count())]),
        check_weights(config.model.name),
        *([check_weights(config.revise.model, "second pass")] if config.revise.model else []),
        check_streams(config.model.name, lambda: measured(config)),
        check_microphone(config.capture.device, portaudio.devices),
        check_port(config.server.host, config.server.port),
        *([check_port(config.wyoming.host, config.wyoming.port, "wyoming")] if config.wyoming.port else []),
        check_keys(config.server, os.environ),
        check_tls(config.server),
        check_clock(is_synchronised()),
        check_priority(os.nice(0)),
        check_descriptors(config.limits, allow_all_files()),
        check_recordings(config.recording),
        check_store(weights.default_store()),
        check_extras(),
    ]


def check_python(version: tuple[int, int]) -> Check:
    """The version of Python, of which 3.11 is the oldest that works."""
    found = f"{version[0]}.{version[1]} on {platform.machine()}"
    if version < (3, 11):
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def check_cpu(text: str) -> Check:
    """Whether the CPU multiplies bfloat16, from the text of /proc/cpuinfo (empty where there is no such file)."""
    found = f"{os.cpu_count()} CPUs"
    if not text:
        return Check("cpu", "ok", f"{found}, features unknown on this system")
    fast = cpu.bfloat16_features(text)
    if not fast:
        return Check("cpu", "warn", f"{found}, no bfloat16", "fewer streams: the network runs in float32")
    return Check("cpu", "ok", f"{found}, {', '.join(fast)}")


def check_gpu(device: str, gpus: list[str]) -> Check:
    """The GPUs that torch sees; a missing one is a failure only if `model.device` is cuda."""
    if gpus:
        return Check("gpu", "ok", ", ".join(gpus))
    if device == "cuda":
        remedy = "install the NVIDIA driver and a CUDA build of torch, or set model.device to auto"
        return Check("gpu", "fail", "none, and model.device is cuda", remedy)
    return Check("gpu", "ok", "none; the CPU is used")


def _gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def check_weights(name: str, of: str = "weights") -> Check:
    """
    Whether the weights of a model are on this machine.

    Args:
        name: Of the model.
        of: Name of the check.
    """
    try:
        source = weights.resolve(name)
    except ModelNotFoundError as error:
        return Check(of, "fail", f"{name} not found", str(error))
    return Check(of, "ok", f"{source.name}: {source.format}, {source.size_bytes / 1e6:.0f} MB, {source.path}")


def check_streams(name: str, measure: Callable[[], Machine]) -> Check:
    """
    About how many live streams this machine carries, with the configured model and with others.

    Args:
        name: Of the configured model.
        measure: Finds what it costs here, or raises a `StreamerError`.
    """
    try:
        machine = measure()
    except StreamerError as error:
        return Check("streams", "warn", f"not measured: {name} does not run", str(error))
    n = machine.n_streams(machine.dims)
    others = ", ".join(f"{size} {count}" for size, count in by_size(machine).items())
    estimated = f"by its speed and their sizes, about: {others}"
    if n < 1:
        return Check("streams", "warn", f"{name} is too slow for one live stream here", f"a smaller model; {estimated}")
    return Check("streams", "ok", f"{name} carries about {n} at once, as measured", estimated)


def check_microphone(name: str, list_devices: Callable[[], list[portaudio.InputDevice]]) -> Check:
    """
    Whether PortAudio is installed, and which input device would be captured. A server needs neither.

    Args:
        name: Number of a device or part of its name; empty for the default device.
        list_devices: Lists the input devices, or raises `CaptureError`.
    """
    try:
        available = list_devices()
        device = portaudio.find_device(name, available)
    except CaptureError as error:
        return Check("microphone", "warn", "not available; the server runs without", str(error))
    others = [f'{other.index} "{other.name}"' for other in available if other != device]
    listed = f"; others: {', '.join(others)}" if others else ""
    return Check("microphone", "ok", f'{device.index} "{device.name}", {device.rate} hertz{listed}')


def check_port(host: str, port: int, of: str = "port") -> Check:
    """
    Whether the server can listen on a port.

    Args:
        host: Address.
        port: Number.
        of: Name of the check.
    """
    try:
        listen(host, port, "--port" if of == "port" else f"{of}.port =").close()
    except StreamerError as error:
        found, _, remedy = str(error).partition("; ")
        return Check(of, "fail", found, remedy)
    return Check(of, "ok", f"{socket_path(host) or f'{port} on {host}'} is free")


def check_keys(config: ServerConfig, environment: Mapping[str, str]) -> Check:
    """The key file: whether it can be used, who can read it, and whether the address needs one."""
    try:
        file = find_key_file(config.keys_file, environment)
        keys = Keys(file)
        check_exposure([config.host], config, keys)
    except ConfigError as error:
        return Check("keys", "fail", "the daemon would not start", str(error))
    if file is None:
        if is_loopback(config.host):
            return Check("keys", "ok", "none; only this machine can connect")
        return Check("keys", "warn", f"none, and {config.host} is open to the network", "set server.keys_file")
    if file.stat().st_mode & 0o077:
        return Check("keys", "warn", f"others can read {file}", f"chmod 600 {file}")
    return Check("keys", "ok", f"{file}")


def check_tls(config: ServerConfig) -> Check:
    """Whether the TLS certificate can be used, and for how many days it is valid."""
    try:
        certificate = Certificate(config)
        if certificate.context is None:
            remedy = (
                "" if is_loopback(config.host) else "pages elsewhere get no microphone without: set both, or a proxy"
            )
            return Check("tls", "ok", "none: plain HTTP", remedy)
        days = certificate.days_left()
    except ConfigError as error:
        return Check("tls", "fail", "the certificate cannot be used", str(error))
    found = f"{config.tls_certificate}, valid for {days:.0f} days"
    if days < MIN_DAYS:
        return Check("tls", "warn", found, "renew it, then: systemctl restart streamer")
    if Path(config.tls_key).stat().st_mode & 0o007:
        return Check("tls", "warn", f"{found}; others can read {config.tls_key}", f"chmod o= {config.tls_key}")
    return Check("tls", "ok", found)


def check_clock(is_synchronised: bool | None) -> Check:
    """Whether the clock is kept right, as far as the system knows (None: it does not tell)."""
    if is_synchronised is None:
        return Check("clock", "ok", "the system does not tell whether it is kept right")
    if not is_synchronised:
        remedy = "timedatectl set-ntp true; certificates and tokens are valid by it"
        return Check("clock", "warn", "nothing keeps it right, as far as the system knows", remedy)
    return Check("clock", "ok", "kept right")


def check_priority(nice: int) -> Check:
    """Whether a program started here yields to every other one: then captions come late on a busy machine."""
    if nice > 0:
        remedy = "start it without nice (Nice= of a unit): captions come late where anything else computes"
        return Check("priority", "warn", f"niceness {nice}", remedy)
    return Check("priority", "ok", f"niceness {nice}")


def check_recordings(config: RecordingConfig) -> Check:
    """Whether sessions can be recorded: the folder, or the one in which it would be created, and room on its disk."""
    if not config.folder:
        return Check("recordings", "ok", "none are made")
    folder = Path(config.folder)
    existing = _existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "set recording.folder to a folder that can be written: sessions go on without recordings"
        return Check("recordings", "warn", f"cannot write to {existing}", remedy)
    room_mb = (shutil.disk_usage(existing).free + bytes_in(folder)) // MEGABYTE
    if room_mb < config.max_folder_mb:
        found = f"{folder} may take {config.max_folder_mb} MB, its disk has {room_mb} for it"
        return Check("recordings", "warn", found, "a smaller recording.max_folder_mb, or a larger disk")
    return Check("recordings", "ok", f"{folder}, up to {config.max_folder_mb} MB")


def check_descriptors(limits: LimitsConfig, limit: int) -> Check:
    """Whether the system allows as many open files as the limits need; with fewer there are fewer connections."""
    needed = needed_files(limits)
    if limit < needed:
        remedy = "ulimit -n 65536 (LimitNOFILE= of a unit), or smaller limits.max_connections and limits.max_viewers"
        return Check("open files", "warn", f"{limit} allowed, the limits need {needed}", remedy)
    return Check("open files", "ok", f"{limit} allowed")


def check_store(store: Path) -> Check:
    """Whether models can be downloaded: the store, or the folder in which it would be created, can be written."""
    existing = _existing(store)
    if not os.access(existing, os.W_OK):
        remedy = "set XDG_CACHE_HOME to a folder that can be written, or use models that are here"
        return Check("model store", "warn", f"cannot write to {existing}", remedy)
    return Check("model store", "ok", f"{store}")


def _existing(folder: Path) -> Path:
    """A folder, or of those above it the first one that there is."""
    return next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))


def _is_installed(requirement: str) -> bool:
    name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_extras(is_installed: Callable[[str], bool] = _is_installed) -> Check:
    """
    Which optional parts are installed.

    Args:
        is_installed: Whether a requirement, as `av>=14`, is met by any version on this machine.
    """
    missing = [extra for extra, packages in EXTRAS.items() if not all(map(is_installed, packages))]
    installed = ", ".join(extra for extra in EXTRAS if extra not in missing) or "none"
    remedies = (f"if needed, {extra}: {pip_install(extra)}" for extra in missing)
    return Check("extras", "ok", f"installed: {installed}", "\n".join(remedies))
