"""Shapes of models: what one is, those with a name, and reading one from a `config.json`.

Knows nothing about weights, devices or torch.
"""

from smartprof.models.model_shape import ModelShape, RopeScaling
from smartprof.models.named_shapes import NAMED_SHAPES, named_shape
from smartprof.models.shape_config import DEFAULT_ROPE_THETA, LLAMA, shape_from_config

__all__ = [
    "DEFAULT_ROPE_THETA",
    "LLAMA",
    "NAMED_SHAPES",
    "ModelShape",
    "RopeScaling",
    "named_shape",
    "shape_from_config",
]
