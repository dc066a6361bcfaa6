"""Tests of streamer/build/engines.py."""

from __future__ import annotations

import pytest
import torch

from streamer.build.engines import second_model
from streamer.config import Config, ReviseConfig
from streamer.errors import ConfigError


def test_a_second_model_reads_the_frames_of_the_first() -> None:
    """It is loaded where it is another model and has as many bands."""
    cpu = torch.device("cpu")
    config = Config(revise=ReviseConfig(model="base"))
    [(facts, network)] = second_model(config, 80, torch.float32, cpu)
    assert (facts.name, facts.n_mels, network.dims.n_mels) == ("base", 80, 80)
    assert second_model(Config(), 80, torch.float32, cpu) == []
    with pytest.raises(ConfigError, match=r'revise\.model = "base" has 80 mel bands: expected 128, as tiny\.en'):
        second_model(config, 128, torch.float32, cpu)
