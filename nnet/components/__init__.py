"""The components of a network, one family per file; importing the package registers them all."""

# ruff: noqa: F401
from nnet.components import (
    affine,
    block_affine,
    convolution,
    fixed,
    noise,
    nonlinear,
    pooling,
    splice,
    sum_group,
)
from nnet.components.base import (
    Component,
    UpdatableComponent,
    component_from_config,
    read_component,
)
