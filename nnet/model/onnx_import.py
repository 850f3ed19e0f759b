"""Feed-forward networks of ONNX files, such as PyTorch exports, as networks of nnet2.

The graph must be a chain of matrices with offsets and of nonlinearities. Where it ends without a
softmax, as networks do that are trained with PyTorch's CrossEntropyLoss, one is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnet.components import Component, component_from_config
from nnet.errors import NgtrainError
from nnet.model.network import Network

NONLINEAR = {
    "Relu": "RectifiedLinearComponent",
    "Sigmoid": "SigmoidComponent",
    "Tanh": "TanhComponent",
    "Softplus": "SoftHingeComponent",
    "Softmax": "SoftmaxComponent",
    "LogSoftmax": "SoftmaxComponent",  # the output of a network of nnet2 is the posterior
}
WITHOUT_EFFECT = ("Identity", "Dropout", "Flatten")  # on rows, and when not training
SUPPORTED = ", ".join(["Gemm", "MatMul", "Add", *NONLINEAR, *WITHOUT_EFFECT])


@dataclass
class Affine:
    """A matrix, float (output_dim, input_dim), and an offset, float (output_dim,)."""

    weights: np.ndarray
    bias: np.ndarray


def import_network(
    graph: Any, left_context: int, right_context: int, learning_rate: float
) -> Network:
    """Make a network of the graph of an ONNX model.

    Args:
        left_context, right_context: frames beside each one that its input has, spliced.
        learning_rate: of the layers, for training that goes on.

    Raises:
        NgtrainError: it is no chain of supported operators, which names the node.
    """
    layers = read_layers(graph)
    dim = next((layer.weights.shape[1] for layer in layers if isinstance(layer, Affine)), 0)
    frames = left_context + 1 + right_context
    if not dim or dim % frames:
        raise NgtrainError(f"an input of {frames} frames has not {dim} dimensions")
    if layers[-1] != "SoftmaxComponent":
        layers.append("SoftmaxComponent")
    rng = np.random.default_rng(0)  # of which nothing is drawn
    components = []
    if frames > 1:
        context = ":".join(map(str, range(-left_context, right_context + 1)))
        line = f"SpliceComponent input-dim={dim // frames} context={context}"
        components.append(component_from_config(line, rng))
    for layer in layers:
        if isinstance(layer, Affine):
            components.append(component_of(layer, learning_rate, rng))
            dim = len(layer.bias)
        else:
            components.append(component_from_config(f"{layer} dim={dim}", rng))
    return Network(components)


def component_of(layer: Affine, learning_rate: float, rng: np.random.Generator) -> Component:
    """Make the component of a layer, which the online natural gradient can train on."""
    output_dim, input_dim = layer.weights.shape
    component = component_from_config(
        f"AffineComponentPreconditionedOnline input-dim={input_dim} output-dim={output_dim} "
        f"learning-rate={learning_rate} param-stddev=0 bias-stddev=0 rank-in=20 update-period=4",
        rng,
    )
    component.linear_params[:] = layer.weights
    component.bias_params[:] = layer.bias
    return component


def read_layers(graph: Any) -> list[Affine | str]:
    """Read the layers of a graph: matrices, and types of components without parameters."""
    from onnx.helper import get_attribute_value
    from onnx.numpy_helper import to_array

    constants = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    [x] = [value.name for value in graph.input if value.name not in constants][:1] or [""]
    layers: list[Affine | str] = []
    for n, node in enumerate(graph.node):
        names = [name for name in node.input if name]
        given = [constants[name] for name in names if name in constants]
        options = {option.name: get_attribute_value(option) for option in node.attribute}
        try:
            if node.op_type == "Constant":
                constants[node.output[0]] = to_array(options["value"])
            elif node.op_type == "Transpose" and len(given) == len(names):
                constants[node.output[0]] = given[0].T
            elif [name for name in names if name not in constants] != [x]:
                raise NgtrainError(f"it takes {' and '.join(names)}, where a chain has {x}")
            else:
                add_layer(layers, node.op_type, names[0] == x, given, options)
                x = node.output[0]
        except (NgtrainError, KeyError, ValueError) as error:
            raise NgtrainError(f"node {n} ({node.op_type} {node.name}): {error}") from None
    return layers


def add_layer(
    layers: list[Affine | str],
    operator: str,
    is_first: bool,
    given: list[np.ndarray],
    options: dict[str, Any],
) -> None:
    """Add what a node computes; `is_first` if what comes from the layers stands before constants.

    Raises:
        NgtrainError: no component does.
    """
    match operator, given:
        case "Gemm", [weights, *offset] if is_first and not options.get("transA"):
            weights = weights if options.get("transB") else weights.T
            bias = options.get("beta", 1.0) * offset[0] if offset else 0.0
            layers.append(affine(options.get("alpha", 1.0) * weights, bias))
        case "MatMul", [weights] if is_first and weights.ndim == 2:
            layers.append(affine(weights.T, 0.0))
        case "Add", [offset] if layers and isinstance(layers[-1], Affine):
            layers[-1] = affine(layers[-1].weights, layers[-1].bias + offset)
        case (("Softmax" | "LogSoftmax"), _) if options.get("axis", -1) not in (-1, 1):
            raise NgtrainError("it is not over the last axis")
        case _ if operator in NONLINEAR:
            layers.append(NONLINEAR[operator])
        case _ if operator not in WITHOUT_EFFECT:
            raise NgtrainError(f"not like this; supported are chains of {SUPPORTED}")


def affine(weights: np.ndarray, bias: np.ndarray | float) -> Affine:
    """Make a layer whose offset has the shape of its output.  Raises ValueError."""
    offset = np.broadcast_to(np.squeeze(bias), len(weights))
    return Affine(weights.astype(np.float32), offset.astype(np.float32))
