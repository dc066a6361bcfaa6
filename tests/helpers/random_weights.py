"""Random weights for a network of any shape; no published network is imported, which takes seconds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model import ModelDimensions, published_shapes


def random_tensors(dims: ModelDimensions, seed: int = 0) -> dict[str, Tensor]:
    """Weights under the published names, scaled so that every layer passes its input's size on."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in published_shapes(dims).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith(("ln.weight", "ln_post.weight")):
            values = 1.0 + 0.2 * values
        elif len(shape) > 1 and "embedding" not in name:
            values = values / math.sqrt(math.prod(shape[1:]))
        tensors[name] = values
    return tensors
