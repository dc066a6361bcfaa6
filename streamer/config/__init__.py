"""The configuration: one frozen section per component, read from a file, the environment and the command line."""

from streamer.config.keys import KEYS, expectation
from streamer.config.loading import load, no_problem
from streamer.config.sections import (
    UNIX_PEERS,
    CaptureConfig,
    Config,
    EnginesConfig,
    LimitsConfig,
    LogConfig,
    ModelConfig,
    RecordingConfig,
    ReviseConfig,
    SchedulerConfig,
    ServerConfig,
    WyomingConfig,
)
from streamer.config.toml import to_toml, toml_value

__all__ = [
    "KEYS",
    "UNIX_PEERS",
    "CaptureConfig",
    "Config",
    "EnginesConfig",
    "LimitsConfig",
    "LogConfig",
    "ModelConfig",
    "RecordingConfig",
    "ReviseConfig",
    "SchedulerConfig",
    "ServerConfig",
    "WyomingConfig",
    "expectation",
    "load",
    "no_problem",
    "to_toml",
    "toml_value",
]
