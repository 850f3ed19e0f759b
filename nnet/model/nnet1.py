"""Networks of Kaldi's nnet1, read as networks of nnet2.

    <Nnet> component ... </Nnet>
    component = <Marker> outputs inputs data <!EndOfComponent>

Source: Kaldi's nnet/nnet-component.cc, nnet/nnet-affine-transform.h, nnet/nnet-various.h and
nnet2bin/nnet1-to-raw-nnet.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnet.components import Component
from nnet.components.affine import AffineComponent, AffineComponentPreconditionedOnline
from nnet.components.base import single
from nnet.components.fixed import FixedBiasComponent, FixedScaleComponent
from nnet.components.nonlinear import SigmoidComponent, SoftmaxComponent
from nnet.components.splice import SpliceComponent
from nnet.errors import NgtrainError
from nnet.io.tokens import Reader
from nnet.model.network import Network

LEARNING_RATE = single(1e-5)
ONLINE = {"rank_in": 20, "rank_out": 80, "update_period": 4}


def read_nnet1(reader: Reader, online: bool = False) -> Network:
    """Read a network of nnet1.

    Args:
        online: train affine components by the online natural gradient, not by plain descent.

    Raises:
        NgtrainError: it is malformed, or has a component without a counterpart here; the file is
            named.
    """
    components: list[Component] = []
    if reader.peek_token() == "<Nnet>":
        reader.token()
    while reader.peek_token() not in ("", "</Nnet>"):  # older files simply end
        components.append(_read_component(reader, online))
    try:
        return Network(components)
    except NgtrainError as error:
        raise reader.fail(str(error)) from None


def _read_component(reader: Reader, online: bool) -> Component:
    marker = reader.token()
    read_data = _DATA.get(marker.lower())
    if read_data is None:
        raise reader.fail(f"{marker} is not converted; what is: {', '.join(_DATA)}")
    output_dim, input_dim = reader.integer(), reader.integer()
    cls, values = read_data(reader, input_dim)
    if online and cls is AffineComponent:
        cls, values = AffineComponentPreconditionedOnline, values | ONLINE
    try:
        component = cls(**values)
    except NgtrainError as error:
        raise reader.fail(str(error)) from None
    if (component.input_dim, component.output_dim) != (input_dim, output_dim):
        raise reader.fail(
            f"{marker} of {input_dim} inputs and {output_dim} outputs has data for "
            f"{component.input_dim} and {component.output_dim}"
        )
    if reader.peek_token() == "<!EndOfComponent>":
        reader.token()
    return component


Content = tuple[type[Component], dict[str, Any]]
"""What a component of nnet1 becomes: a type, and the values of its fields."""


def _skip_rates(reader: Reader) -> None:
    """Read past what only the training of nnet1 uses."""
    while reader.peek_token() in ("<LearnRateCoef>", "<BiasLearnRateCoef>", "<MaxNorm>"):
        reader.token()
        reader.real()


def _read_affine(reader: Reader, input_dim: int) -> Content:
    _skip_rates(reader)
    return AffineComponent, {
        "learning_rate": LEARNING_RATE,
        "linear_params": reader.matrix(np.float32),
        "bias_params": reader.vector(np.float32),
    }


def _read_shift(reader: Reader, input_dim: int) -> Content:
    _skip_rates(reader)
    return FixedBiasComponent, {"bias": reader.vector(np.float32)}


def _read_scales(reader: Reader, input_dim: int) -> Content:
    _skip_rates(reader)
    return FixedScaleComponent, {"scales": reader.vector(np.float32)}


def _read_splice(reader: Reader, input_dim: int) -> Content:
    context = tuple(reader.integers().tolist())
    return SpliceComponent, {"input_dim": input_dim, "context": context}


_DATA: dict[str, Callable[[Reader, int], Content]] = {
    "<affinetransform>": _read_affine,
    "<softmax>": lambda reader, dim: (SoftmaxComponent, {"dim": dim}),
    "<sigmoid>": lambda reader, dim: (SigmoidComponent, {"dim": dim}),
    "<splice>": _read_splice,
    "<addshift>": _read_shift,
    "<rescale>": _read_scales,
}
"""What reads the data of a component, by its marker, in which capitals do not count."""
