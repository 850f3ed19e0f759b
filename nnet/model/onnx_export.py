"""Networks as ONNX graphs, for onnxruntime and what builds on it.

The graph takes the features of one utterance, float32 (T, D), and pads them as Kaldi does, with
copies of the first and the last frame; its output has a row for each of the T frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnet.components.affine import AffineFunction, LinearFunction
from nnet.components.base import Component
from nnet.components.block_affine import BlockAffineComponent
from nnet.components.convolution import Convolutional1dComponent
from nnet.components.fixed import (
    DctComponent,
    FixedAffineComponent,
    FixedBiasComponent,
    FixedScaleComponent,
    PermuteComponent,
    ScaleComponent,
)
from nnet.components.noise import NoiseComponent
from nnet.components.nonlinear import (
    NORM_FLOOR,
    PROBABILITY_FLOOR,
    ElementwiseComponent,
    LogSoftmaxComponent,
    NormalizeComponent,
    PnormComponent,
    PowerComponent,
    SoftmaxComponent,
)
from nnet.components.pooling import MaximumComponent
from nnet.components.splice import ContextComponent, SpliceComponent, SpliceMaxComponent
from nnet.components.sum_group import SumGroupComponent
from nnet.errors import NgtrainError
from nnet.io.tokens import read_object
from nnet.model.network import Network

log = logging.getLogger("ngtrain")

INPUT, OUTPUT = "features", "output"
OPSET, IR_VERSION = 13, 8
"""Versions that onnxruntime has read since 2021."""

_TO_THE_END = np.iinfo(np.int64).max
_ELEMENTWISE = {
    "SigmoidComponent": "Sigmoid",
    "TanhComponent": "Tanh",
    "RectifiedLinearComponent": "Relu",
    "SoftHingeComponent": "Softplus",
}


class OnnxGraph:
    """An ONNX graph in the making; nodes are added behind one another.

    Attributes:
        nodes, constants: what onnx.helper makes of them.
    """

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Add a constant array, and return its name."""
        name = f"constant{len(self.constants)}"
        array = np.ascontiguousarray(value, dtype)
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = f"x{len(self.nodes)}"
        node = self._onnx.helper.make_node(operator, list(inputs), [name], name, **attributes)
        self.nodes.append(node)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, self.integers(*shape))

    def slice(self, x: str, first: int, end: int, axis: int) -> str:
        return self.add("Slice", x, *map(self.integers, (first, end, axis)))

    def pad(self, x: str, left: int, right: int) -> str:
        """Add copies of the first and of the last row."""
        return self.add("Pad", x, self.integers(left, 0, right, 0), mode="edge")

    def finish(self, x: str, input_dim: int, output_dim: int, metadata: dict[str, str]) -> Any:
        """Return the whole model, checked, whose output is `x`."""
        helper, real = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self.nodes.append(helper.make_node("Identity", [x], [OUTPUT]))
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(INPUT, real, ["T", input_dim])],
            [helper.make_tensor_value_info(OUTPUT, real, ["T", output_dim])],
            self.constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="ngtrain")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, metadata)
        self._onnx.checker.check_model(model)
        return model


def export(
    network: Network,
    priors: np.ndarray | None,
    output: str,
    transform: Sequence[Component] = (),
    pdf_of: Sequence[int] = (),
) -> Any:
    """Make an ONNX model of a network.

    Args:
        priors: of the classes, for log-likelihoods.
        output: "posteriors", "log-posteriors" or "log-likelihoods", which are log-posteriors minus
            the logarithms of the priors.
        transform: components that make the input of the network, such as a splicing and a matrix.
        pdf_of: the column of each transition-id, from 1 on, which decoders ask for: a property of
            the model.

    Raises:
        NgtrainError: a component that ONNX graphs are not made of here, or no priors.
    """
    if output == "log-likelihoods" and (priors is None or len(priors) != network.output_dim):
        raise NgtrainError("the priors in the model are not set up (nnet-adjust-priors)")
    graph, x = OnnxGraph(), INPUT
    before = Network(list(transform)) if transform else None
    for part in filter(None, (before, network)):
        x = graph.pad(x, part.left_context, part.right_context)
        for component in part.components:
            x = add_component(graph, component, x)
    if output != "posteriors":
        x = graph.add("Log", graph.add("Max", x, graph.constant(np.float32(PROBABILITY_FLOOR))))
    if output == "log-likelihoods":
        x = graph.add("Sub", x, graph.constant(np.log(priors)))
    first = before or network
    contexts = [part.left_context + part.right_context for part in (before, network) if part]
    metadata = {"output": output, "context": str(sum(contexts)), "model_type": "nnet2"}
    if len(pdf_of):
        metadata["pdf_of_transition_id"] = " ".join(map(str, pdf_of))
    return graph.finish(x, first.input_dim, network.output_dim, metadata)


def add_component(graph: OnnxGraph, component: Component, x: str) -> str:
    """Add what a component computes of `x`, and return the name of the result."""
    match component:
        case NoiseComponent():
            log.warning("%s is left out: its output is random", component.type)
            return x
        case AffineFunction():
            weights = graph.constant(component.linear_params)
            return graph.add("Gemm", x, weights, graph.constant(component.bias_params), transB=1)
        case LinearFunction():
            return graph.add("MatMul", x, graph.constant(component.linear_params.T))
        case BlockAffineComponent():
            return _add_blocks(graph, component, x)
        case Convolutional1dComponent():
            return _add_convolution(graph, component, x)
        case FixedScaleComponent():
            return graph.add("Mul", x, graph.constant(component.scales))
        case FixedBiasComponent():
            return graph.add("Add", x, graph.constant(component.bias))
        case ScaleComponent():
            return graph.add("Mul", x, graph.constant(component.factor))
        case PermuteComponent():
            places = graph.constant(np.argsort(component.reorder), np.int64)
            return graph.add("Gather", x, places, axis=1)
        case DctComponent():
            return _add_cosine_transform(graph, component, x)
        case ElementwiseComponent() if component.type in _ELEMENTWISE:
            return graph.add(_ELEMENTWISE[component.type], x)
        case PowerComponent():
            return graph.add("Pow", graph.add("Abs", x), graph.constant(component.power))
        case NormalizeComponent():
            power = graph.add("ReduceMean", graph.add("Mul", x, x), axes=[1])
            floored = graph.add("Max", power, graph.constant(NORM_FLOOR))
            return graph.add("Div", x, graph.add("Sqrt", floored))
        case SoftmaxComponent():
            floor = graph.constant(PROBABILITY_FLOOR)
            return graph.add("Max", graph.add("Softmax", x, axis=1), floor)
        case LogSoftmaxComponent():
            floor = graph.constant(np.log(PROBABILITY_FLOOR))
            return graph.add("Max", graph.add("LogSoftmax", x, axis=1), floor)
        case PnormComponent():
            return _add_pnorm(graph, component, x)
        case MaximumComponent():
            pools = graph.reshape(x, -1, component.pool_size, component.pool_stride)
            maxima = graph.add("ReduceMax", pools, axes=[1], keepdims=0)
            return graph.reshape(maxima, -1, component.output_dim)
        case SumGroupComponent():
            return _add_group_sums(graph, component.sizes, x)
        case SpliceComponent():
            return _add_splice(graph, component, x)
        case SpliceMaxComponent():
            return graph.add("Max", *_frames_in_context(graph, component, x))
    raise NgtrainError(f"component {component.index}: {component.type} has no form in ONNX")


def _frames_in_context(graph: OnnxGraph, component: ContextComponent, x: str) -> list[str]:
    """Cut out the rows of `x` at each offset of the context."""
    first, last = component.context[0], component.context[-1]
    return [graph.slice(x, c - first, (c - last) or _TO_THE_END, axis=0) for c in component.context]


def _add_splice(graph: OnnxGraph, component: SpliceComponent, x: str) -> str:
    repeated = graph.slice(x, 0, component.spliced_dim, axis=1)
    parts = _frames_in_context(graph, component, repeated)
    if component.const_component_dim:
        constant = graph.slice(x, component.spliced_dim, component.input_dim, axis=1)
        parts.append(_frames_in_context(graph, component, constant)[0])
    return graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _add_pnorm(graph: OnnxGraph, component: PnormComponent, x: str) -> str:
    groups = graph.reshape(x, -1, component.output_dim, component.group_size)
    p = float(component.p)
    options = {"axes": [2], "keepdims": 0}
    if p in (1.0, 2.0):
        return graph.add(f"ReduceL{p:g}", groups, **options)
    magnitudes = graph.add("Abs", groups)
    if p == np.inf:
        return graph.add("ReduceMax", magnitudes, **options)
    powers = graph.add("Pow", magnitudes, graph.constant(p)) if p else graph.add("Sign", magnitudes)
    total = graph.add("ReduceSum", powers, graph.integers(2), keepdims=0)
    return graph.add("Pow", total, graph.constant(1 / p)) if p else total


def _add_blocks(graph: OnnxGraph, component: BlockAffineComponent, x: str) -> str:
    num_blocks, _, input_dim = component.block_shape
    blocks = graph.add("Transpose", graph.reshape(x, -1, num_blocks, input_dim), perm=[1, 0, 2])
    weights = component.linear_params.reshape(component.block_shape).swapaxes(1, 2)
    products = graph.add("MatMul", blocks, graph.constant(weights))
    rows = graph.add("Transpose", products, perm=[1, 0, 2])
    outputs = graph.reshape(rows, -1, component.output_dim)
    return graph.add("Add", outputs, graph.constant(component.bias_params))


def _add_convolution(graph: OnnxGraph, component: Convolutional1dComponent, x: str) -> str:
    columns = graph.constant(component.columns_of_patches(), np.int64)
    patches = graph.reshape(graph.add("Gather", x, columns, axis=1), -1, component.filter_dim)
    weights, bias = map(graph.constant, component.parameters)
    filtered = graph.add("Gemm", patches, weights, bias, transB=1)
    return graph.reshape(filtered, -1, component.output_dim)


def _add_cosine_transform(graph: OnnxGraph, component: DctComponent, x: str) -> str:
    matrix = component.matrix(np.empty(0, np.float32)).T
    if component.reorder:
        apart = graph.reshape(x, -1, component.dct_dim, component.num_parts)
        x = graph.add("Transpose", apart, perm=[0, 2, 1])
    parts = graph.reshape(x, -1, component.num_parts, component.dct_dim)
    result = graph.add("MatMul", parts, graph.constant(matrix))
    if component.reorder:
        result = graph.add("Transpose", result, perm=[0, 2, 1])
    return graph.reshape(result, -1, component.output_dim)


def _add_group_sums(graph: OnnxGraph, sizes: Sequence[int], x: str) -> str:
    """Sums over groups, which are filled up with zeros to the same size."""
    size, total = max(sizes), sum(sizes)
    ends = np.cumsum(sizes)
    places = (ends - sizes)[:, None] + np.arange(size)
    places = np.where(places < ends[:, None], places, total)  # column `total` is zero
    padded = graph.add("Pad", x, graph.integers(0, 0, 0, 1))
    taken = graph.add("Gather", padded, graph.constant(places.ravel(), np.int64), axis=1)
    groups = graph.reshape(taken, -1, len(sizes), size)
    return graph.add("ReduceSum", groups, graph.integers(2), keepdims=0)


def spliced_transform(matrix_file: str, left: int, right: int, output_dim: int) -> list[Component]:
    """Make the components of splice-feats and transform-feats.

    Args:
        matrix_file: float (output_dim, n), or (output_dim, n + 1), the last column being added.
        left, right: frames that are spliced.

    Raises:
        NgtrainError: the matrix does not fit the network or the splicing.
    """
    matrix = read_object(matrix_file, lambda reader: reader.matrix(np.float32))
    num_rows, num_columns = matrix.shape
    count = left + 1 + right
    if num_rows != output_dim or num_columns % count > 1:
        raise NgtrainError(
            f"{matrix_file}: {num_rows} rows and {num_columns} columns, which makes no "
            f"{output_dim} inputs of a network from {count} frames spliced (--left-context, "
            "--right-context)"
        )
    has_offset = num_columns % count == 1
    weights = matrix[:, :-1] if has_offset else matrix
    offset = matrix[:, -1] if has_offset else np.zeros(num_rows, np.float32)
    splice = SpliceComponent(
        input_dim=num_columns // count, context=range(-left, right + 1), const_component_dim=0
    )
    affine = FixedAffineComponent(
        linear_params=np.ascontiguousarray(weights), bias_params=offset.copy()
    )
    return [splice, affine]
