"""
`streamer doctor`: what this machine has, what it lacks, and the remedy.

Each check looks at one thing and changes nothing. `fail` is what the daemon cannot run without under the
given configuration; `warn` is what costs a feature or speed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from streamer import capture, machine, weights
from streamer.config import Config
from streamer.errors import CaptureError, ModelNotFoundError

State = Literal["ok", "warn", "fail"]

EXTRAS = {"codecs": "av", "hub": "huggingface_hub", "eval": "jiwer", "ray": "ray"}
"""Optional parts and the module each brings."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of looking at one thing."""

    name: str
    state: State
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':18}-> {self.remedy}" if self.remedy else ""
        return f"{self.state:5} {self.name:12}{self.found}{remedy}"


def examine(config: Config) -> list[Check]:
    """Every check, for this configuration."""
    return [
        check_python(sys.version_info[:2]),
        Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        check_cpu(machine.cpuinfo()),
        check_gpu(config.model.device, [_gpu(index) for index in range(torch.cuda.device_count())]),
        check_weights(config.model.name),
        check_microphone(config.capture.device, capture.devices),
        check_port(config.server.host, config.server.port),
        check_store(weights.default_store()),
        check_extras(),
    ]


def check_python(version: tuple[int, int]) -> Check:
    """3.11 or newer."""
    found = f"{version[0]}.{version[1]} on {platform.machine()}"
    if version < (3, 11):
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def check_cpu(text: str) -> Check:
    """Whether the CPU computes bfloat16, from the text of /proc/cpuinfo (empty where there is none)."""
    found = f"{os.cpu_count()} CPUs"
    if not text:
        return Check("cpu", "ok", f"{found}, features unknown on this system")
    fast = machine.bfloat16_features(text)
    if not fast:
        return Check("cpu", "warn", f"{found}, no bfloat16", "fewer streams: the network runs in float32")
    return Check("cpu", "ok", f"{found}, {', '.join(fast)}")


def check_gpu(device: str, gpus: list[str]) -> Check:
    """The GPUs that torch sees; needed only if the configuration says so."""
    if gpus:
        return Check("gpu", "ok", ", ".join(gpus))
    if device == "cuda":
        remedy = "install the NVIDIA driver and a CUDA build of torch, or set model.device to auto"
        return Check("gpu", "fail", "none, and model.device is cuda", remedy)
    return Check("gpu", "ok", "none; the CPU is used")


def _gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def check_weights(name: str) -> Check:
    """Whether the weights are on this machine."""
    try:
        source = weights.resolve(name)
    except ModelNotFoundError as error:
        return Check("weights", "fail", f"{name} not found", str(error))
    return Check("weights", "ok", f"{source.name}: {source.format}, {source.size_bytes / 1e6:.0f} MB, {source.path}")


def check_microphone(name: str, list_devices: Callable[[], list[capture.InputDevice]]) -> Check:
    """PortAudio, and the input device that would be used; a server needs neither."""
    try:
        available = list_devices()
        device = capture.find_device(name, available)
    except CaptureError as error:
        return Check("microphone", "warn", "not available; the server runs without", str(error))
    others = [f'{other.index} "{other.name}"' for other in available if other != device]
    listed = f"; others: {', '.join(others)}" if others else ""
    return Check("microphone", "ok", f'{device.index} "{device.name}", {device.rate} hertz{listed}')


def check_port(host: str, port: int) -> Check:
    """Whether the server could listen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "stop the program that holds it (is the daemon running?), or choose another with --port"
        return Check("port", "fail", f"{port} on {host}: {reason}", remedy)
    return Check("port", "ok", f"{port} on {host} is free")


def check_store(store: Path) -> Check:
    """Whether models can be downloaded to the store, or to where it would be created."""
    existing = next(folder for folder in (store, *store.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        remedy = "set XDG_CACHE_HOME to a folder that can be written, or use models that are here"
        return Check("model store", "warn", f"cannot write to {existing}", remedy)
    return Check("model store", "ok", f"{store}")


def check_extras() -> Check:
    """Which optional parts are installed."""
    missing = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    installed = ", ".join(extra for extra in EXTRAS if extra not in missing) or "none"
    remedy = f"if needed: pip install 'whisper-streamer[{','.join(missing)}]'" if missing else ""
    return Check("extras", "ok", f"installed: {installed}", remedy)
